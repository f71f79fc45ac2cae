package parley

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"parley.dev/go/parleyv1"
)

// ResumeTurn gives a turn that is [TurnWaiting] what it waits for, and returns what becomes of it: the answer, or with
// [FinishReasonActionRequired] the PendingCalls that it still waits for, or waits for again. [ResultFor], [ErrorFor],
// [Approve] and [Deny] make the Results. The turn is named by RequestId alone, or by ConversationId and TurnId.
//
// A result counts once, however often it is given, so the call can be repeated safely, and is retried as [Client.Chat]
// is. The context's deadline counts for the rest of the turn; without one, [DefaultChatTimeout].
//
// An error is an [*Error], or the [TokenSource]'s. [ReasonResultAlreadyGiven]: another result was given for a call before.
// [ReasonCallNotPending]: the turn does not wait for a call, or no longer. Nothing of the request is stored then.
func (c *Client) ResumeTurn(ctx context.Context, request *ResumeTurnRequest) (*Answer, error) {
	request, err := resumable(request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(ctx, c.chatTimeout)
	defer cancel()
	response, err := callSafely(ctx, c, c.stub.ResumeTurn, request, request.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &Answer{ChatResponse: response.GetChat(), RequestID: request.GetRequestId()}, nil
}

// StreamResumeTurn works like [Client.ResumeTurn], and iterates over the turn while the agent goes on with it, as
// [Client.Stream] does: from the turn's beginning, what was said before it waited included. GetCompleted comes last.
func (c *Client) StreamResumeTurn(ctx context.Context, request *ResumeTurnRequest) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		request, err := resumable(request)
		if err != nil {
			yield(Event{}, err)
			return
		}
		ctx, cancel := withTimeout(ctx, c.chatTimeout)
		defer cancel()
		requestID := request.GetRequestId()
		tries := newTries(streamed)
		turn := &resumedStream{
			stub: c.stub, tries: tries, request: &parleyv1.StreamResumeTurnRequest{Resume: request},
		}
		for resumed, err := range follow(ctx, c, turn, tries, requestID) {
			if !yield(Event{StreamChatResponse: resumed.GetEvent(), RequestID: requestID}, err) {
				return
			}
		}
	}
}

// ResultFor gives a call of [PendingResult] what its tool returned: text or JSON, at most 65,536 bytes.
func ResultFor(call *PendingCall, result string) *CallResult {
	return &CallResult{CallKey: call.GetCallKey(), Outcome: &parleyv1.CallResult_Result{Result: result}}
}

// ErrorFor gives a call of [PendingResult] how its tool failed, as text for the model: 1 to 65,536 bytes.
func ErrorFor(call *PendingCall, text string) *CallResult {
	return &CallResult{CallKey: call.GetCallKey(), Outcome: &parleyv1.CallResult_Error{Error: text}}
}

// Approve lets the server run a call of [PendingApproval], once, with the arguments that the call has here.
func Approve(call *PendingCall) *CallResult {
	approval := &parleyv1.Approval{Arguments: call.GetArguments()}
	return &CallResult{CallKey: call.GetCallKey(), Outcome: &parleyv1.CallResult_Approval{Approval: approval}}
}

// Deny keeps the server from running a call of [PendingApproval]. The model is told the reason, which may be empty.
func Deny(call *PendingCall, reason string) *CallResult {
	denial := &parleyv1.Denial{Reason: reason}
	return &CallResult{CallKey: call.GetCallKey(), Outcome: &parleyv1.CallResult_Denial{Denial: denial}}
}

// resumable returns a copy of a request that can be sent: its caller may change its own meanwhile.
func resumable(request *ResumeTurnRequest) (*ResumeTurnRequest, error) {
	copied := &ResumeTurnRequest{}
	proto.Merge(copied, request)
	texts := []text{}
	for n, result := range copied.GetResults() {
		name := fmt.Sprintf("results[%d].", n)
		texts = append(texts,
			text{name + "result", result.GetResult()},
			text{name + "error", result.GetError()},
			text{name + "approval.arguments", result.GetApproval().GetArguments()},
			text{name + "denial.reason", result.GetDenial().GetReason()})
	}
	return copied, utf8Error(copied.GetRequestId(), texts...)
}

// resumedStream is one turn that was resumed, as it comes.
type resumedStream struct {
	stub    parleyv1.ConversationServiceClient
	tries   *tries
	request *parleyv1.StreamResumeTurnRequest
	over    bool
}

func (s *resumedStream) call(
	ctx context.Context,
) (grpc.ServerStreamingClient[parleyv1.StreamResumeTurnResponse], error) {
	return s.stub.StreamResumeTurn(ctx, s.request)
}

func (s *resumedStream) longestCall() time.Duration { return 0 }

func (s *resumedStream) takes(resumed *parleyv1.StreamResumeTurnResponse) bool {
	event := resumed.GetEvent() // nil: of a kind that a newer server has
	if event != nil && event.Index != nil {
		s.request.AfterAttempt = event.Attempt
		s.request.AfterIndex = new(event.GetIndex())
		s.tries.cameFurther()
	}
	s.over = event.GetCompleted() != nil
	return true
}

func (s *resumedStream) isOver() bool { return s.over }

package parley

import (
	"context"
	"iter"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"parley.dev/go/parleyv1"
)

// Stream makes one turn and iterates over its answer while the agent writes it.
//
// Events: GetStarted (first in every call, and so again after a loss), GetChunk (text), GetToolCall (with
// its result), and last GetCompleted, the answer as [Client.Chat] returns it. It replaces what was
// collected before: the last pieces may arrive only there.
//
// The client restarts a lost stream by itself, with the same request id and after the last piece received, on
// any worker: up to 5 failed tries, 8 once pieces have arrived, within the context's deadline, or
// [DefaultChatTimeout] if it has none. If an event's Attempt is higher than before, the agent started over, and
// what was collected until then is void; with OnDisconnectContinue a lost connection alone never causes that.
//
// An error comes last; what arrived before it is not an answer. Leaving the loop cancels the call, and the
// request's OnDisconnect decides what happens to the turn. Ranging twice makes two calls, each with a new
// request id unless the request has one.
func (c *Client) Stream(ctx context.Context, request *ChatRequest) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		request, err := keyed(request)
		if err != nil {
			yield(Event{}, err)
			return
		}
		ctx, cancel := withTimeout(ctx, c.chatTimeout)
		defer cancel()
		requestID := request.GetRequestId()
		tries := newTries(streamed)
		turn := &turnStream{
			stub: c.stub, tries: tries, request: &parleyv1.StreamChatRequest{Chat: request},
		}
		for event, err := range follow(ctx, c, turn, tries, requestID) {
			if !yield(Event{StreamChatResponse: event, RequestID: requestID}, err) {
				return
			}
		}
	}
}

// StreamText makes one turn and iterates over its text while the agent writes it, each piece once.
//
// It cannot take text back: if the agent starts over, it ends with [ReasonAttemptLost], and [Client.Chat]
// with the error's RequestID and the same arguments gets the answer. Nor can it show what a turn waits for: it ends with
// [ReasonActionRequired] then. Otherwise it works like [Client.Stream].
func (c *Client) StreamText(ctx context.Context, request *ChatRequest) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		text := textOnly{}
		for event, err := range c.Stream(ctx, request) {
			piece := ""
			if err == nil {
				piece, err = text.addedBy(event)
			}
			switch {
			case err != nil:
				yield("", err)
				return
			case piece != "" && !yield(piece, nil):
				return
			case event.GetCompleted().GetFinishReason() == FinishReasonActionRequired:
				yield("", isWaiting(event.RequestID))
				return
			}
		}
	}
}

// turnStream is one turn, as it comes.
type turnStream struct {
	stub    parleyv1.ConversationServiceClient
	tries   *tries
	request *parleyv1.StreamChatRequest
	over    bool
}

func (s *turnStream) call(ctx context.Context) (grpc.ServerStreamingClient[StreamChatResponse], error) {
	return s.stub.StreamChat(ctx, s.request)
}

func (s *turnStream) longestCall() time.Duration { return 0 }

func (s *turnStream) takes(event *StreamChatResponse) bool {
	if event.Index != nil {
		s.request.AfterAttempt = event.Attempt
		s.request.AfterIndex = new(event.GetIndex())
		s.tries.cameFurther()
	}
	s.over = event.GetCompleted() != nil
	return true
}

func (s *turnStream) isOver() bool { return s.over }

// textOnly takes the text out of one turn's events.
type textOnly struct {
	attempt int32
	text    strings.Builder
}

// addedBy returns what an event adds to the text; an error if text that was returned before is void.
func (t *textOnly) addedBy(event Event) (string, error) {
	if answer := event.GetCompleted(); answer != nil {
		rest, isWhole := strings.CutPrefix(answer.GetResponse(), t.text.String())
		if !isWhole {
			return "", isVoid(event.RequestID)
		}
		return rest, nil
	}
	if t.text.Len() > 0 && event.GetAttempt() != t.attempt {
		return "", isVoid(event.RequestID)
	}
	t.attempt = event.GetAttempt()
	t.text.WriteString(event.GetChunk().GetText())
	return event.GetChunk().GetText(), nil
}

func isWaiting(requestID string) error {
	const text = "the turn waits for its caller, and GetTurn tells for what: ResumeTurn lets it go on"
	return ownError(codes.FailedPrecondition, ReasonActionRequired, requestID, text)
}

func isVoid(requestID string) error {
	const text = "the agent started over, and the text so far is void: ask for the answer with Chat"
	return ownError(codes.Aborted, ReasonAttemptLost, requestID, text)
}

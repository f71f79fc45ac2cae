package parley

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"parley.dev/go/parleyv1"
)

// ListAgents returns the agents that a request can name, by name: at least one, and exactly one of them IsDefault.
func (c *Client) ListAgents(ctx context.Context, request *ListAgentsRequest) (*ListAgentsResponse, error) {
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	return call(ctx, c, c.stub.ListAgents, request, "")
}

// ExplainTurn returns what a turn's agent was shown and what it did: the Messages, those that were Omitted and why, a
// digest of its instructions, its ToolCalls and the Attempts. Of a turn without an answer, it is what the next attempt
// would be shown. The turn is named by RequestId alone, or by ConversationId and TurnId.
func (c *Client) ExplainTurn(ctx context.Context, request *ExplainTurnRequest) (*ExplainTurnResponse, error) {
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	return call(ctx, c, c.stub.ExplainTurn, request, request.GetRequestId())
}

// RehearseTurn gives a turn's window and message to an agent again, the turn's own or the request's Agent, and iterates
// over what it answers. Nothing is stored, and no tool is run: a call that the turn itself made, with the same arguments,
// gets the result that it got then, any other one an error.
//
// Events: GetStarted (the first), GetChunk (text), GetToolCall (with its result), and last GetCompleted: the whole answer,
// with its tokens, which are used as those of a turn are.
//
// The client tries up to 5 times, within the context's deadline or [DefaultChatTimeout], as long as no event has come.
// Once one has, a lost rehearsal is not begun again: it would use the tokens again, and answer differently.
//
// An error comes last; what came before it is not an answer. [ReasonNoRehearsal]: the agent might act.
// [ReasonWindowIncomplete]: what the turn's agent was shown cannot be put together. Leaving the loop ends the rehearsal.
func (c *Client) RehearseTurn(
	ctx context.Context, request *RehearseTurnRequest,
) iter.Seq2[*RehearseTurnResponse, error] {
	return func(yield func(*RehearseTurnResponse, error) bool) {
		copied := &RehearseTurnRequest{}
		proto.Merge(copied, request)
		if err := utf8Error("", text{"agent", copied.GetAgent()}); err != nil {
			yield(nil, err)
			return
		}
		ctx, cancel := withTimeout(ctx, c.chatTimeout)
		defer cancel()
		tries := newTries(rehearsed)
		follow(ctx, c, &rehearsalStream{stub: c.stub, tries: tries, request: copied}, tries, "")(yield)
	}
}

// rehearsalStream is one rehearsal, as it comes.
type rehearsalStream struct {
	stub    parleyv1.ConversationServiceClient
	tries   *tries
	request *RehearseTurnRequest
	over    bool
}

func (s *rehearsalStream) call(ctx context.Context) (grpc.ServerStreamingClient[RehearseTurnResponse], error) {
	return s.stub.RehearseTurn(ctx, s.request)
}

func (s *rehearsalStream) longestCall() time.Duration { return 0 }

func (s *rehearsalStream) takes(event *RehearseTurnResponse) bool {
	s.tries.cameFurther()
	s.over = event.GetCompleted() != nil
	return true
}

func (s *rehearsalStream) isOver() bool { return s.over }

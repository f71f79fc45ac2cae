package parley_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

func TestAStartedTurnIsRunWithoutItsCaller(t *testing.T) {
	token := parley.WithToken(tokenOf(uuid.NewString(), nil))
	caller := must(parley.New(fast.address, token))(t)
	started := must(caller.StartTurn(t.Context(), &parley.ChatRequest{Message: "hello"}))(t)
	want(t, nil, caller.Close())

	want(t, false, started.GetReplayed())
	turn := started.GetTurn()
	must(uuid.Parse(turn.GetRequestId()))(t) // the client has made it
	later := aClient(t, fast.address, token)
	request := &parley.ChatRequest{Message: "hello", RequestId: turn.GetRequestId()}
	events := must(gathered(later.Stream(t.Context(), request)))(t)
	want(t, "hello", events[len(events)-1].GetCompleted().GetResponse())

	again := must(later.StartTurn(t.Context(), request))(t)
	want(t, true, again.GetReplayed())
	want(t, turn.GetTurnId(), again.GetTurn().GetTurnId())
	want(t, parley.TurnCompleted, again.GetTurn().GetState())
	answer := must(later.Chat(t.Context(), request))(t)
	want(t, turn.GetTurnId(), answer.GetTurnId())
}

func TestStartedTurnsBeginInOrderAndCanBeCancelledBefore(t *testing.T) {
	t.Parallel()
	client := aClient(t, slow.address)
	first := must(client.StartTurn(t.Context(), &parley.ChatRequest{Message: "first"}))(t).GetTurn()
	start := func(message string) *parley.Turn {
		request := &parley.ChatRequest{Message: message, ConversationId: first.GetConversationId()}
		return must(client.StartTurn(t.Context(), request))(t).GetTurn()
	}
	second, third := start("second"), start("third")
	want(t, parley.TurnQueued, second.GetState())
	want(t, 0, second.GetUserSequence())
	cancelled := must(client.CancelTurn(t.Context(), &parley.CancelTurnRequest{RequestId: second.GetRequestId()}))(t)
	want(t, parley.TurnCancelled, cancelled.GetState())

	request := &parley.ChatRequest{
		Message: "third", ConversationId: first.GetConversationId(), RequestId: third.GetRequestId(),
	}
	must(client.Chat(t.Context(), request))(t)
	said := []string{}
	history := &parley.GetHistoryRequest{ConversationId: first.GetConversationId()}
	for _, message := range must(gathered(client.GetHistory(t.Context(), history)))(t) {
		said = append(said, message.GetContent())
	}
	wantAll(t, []string{"first", "first", "third", "third"}, said)
}

// Fails without a request id: a try whose response is lost could then make a second turn. Fails without the service
// config, too: gRPC then retries nothing.
func TestATurnIsStartedAgainUnderTheSameRequestID(t *testing.T) {
	stored := &parley.StartTurnResponse{Turn: &parley.Turn{TurnId: "t", State: parley.TurnQueued}, Replayed: true}
	server := aScript(t, drained, leaseLost, sends(stored))
	request := &parley.ChatRequest{
		Message: "hello", ConversationId: "c", AllowMissing: true, ExpectedSequence: new(int64(2)), Agent: "quick",
	}
	response := must(aClient(t, server.address).StartTurn(t.Context(), request))(t)

	want(t, true, proto.Equal(stored, response))
	want(t, "", request.GetRequestId()) // the caller's own request stays as it is
	want(t, 3, len(server.asked()))
	request.RequestId = server.asked()[0].(*parleyv1.StartTurnRequest).GetChat().GetRequestId()
	must(uuid.Parse(request.RequestId))(t)
	for _, asked := range server.asked() {
		want(t, true, proto.Equal(&parleyv1.StartTurnRequest{Chat: request}, asked))
	}
	want(t, true, server.safe[0]) // proxies may send it again
	want(t, 10*time.Second, server.timeLeft[0].Round(5*time.Second))
}

// Fails when the client waits for the queue by itself, or when the error seems to be final.
func TestAFullQueueNeedsADecision(t *testing.T) {
	server := aScript(t, step{refuses: &refusal{
		code: codes.ResourceExhausted, reason: parley.ReasonQueueFull, retry: time.Second,
		metadata: map[string]string{"max_queued_turns": "1000"},
	}})
	_, err := aClient(t, server.address).StartTurn(t.Context(), &parley.ChatRequest{Message: "hello", RequestId: "r"})
	failure := wantFailure(t, parley.ReasonQueueFull, err)
	want(t, true, failure.Retryable())
	want(t, time.Second, failure.RetryAfter)
	want(t, "1000", failure.Metadata["max_queued_turns"])
	want(t, "r", failure.RequestID)
	want(t, 1, len(server.asked()))
}

func TestAMessageToStartWithIsUTF8(t *testing.T) {
	request := &parley.ChatRequest{Message: "\xff", RequestId: "r"}
	_, err := aClient(t, "127.0.0.1:1").StartTurn(t.Context(), request)
	failure := wantFailure(t, parley.ReasonInvalidRequest, err)
	want(t, "message", failure.Violations[0].Field)
	want(t, "r", failure.RequestID)
}

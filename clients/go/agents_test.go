package parley_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

func TestATurnIsExplainedAndRehearsedAndNothingIsStored(t *testing.T) {
	t.Parallel()
	client := aClient(t, fast.address)
	agents := must(client.ListAgents(t.Context(), nil))(t).GetAgents()
	want(t, 1, len(agents))
	want(t, true, agents[0].GetIsDefault() && agents[0].GetCanRehearse())

	answer := must(client.Chat(t.Context(), &parley.ChatRequest{Message: "Hello!"}))(t)
	byRequestID := &parley.ExplainTurnRequest{RequestId: answer.RequestID}
	byIDs := &parley.ExplainTurnRequest{ConversationId: answer.GetConversationId(), TurnId: answer.GetTurnId()}
	for _, request := range []*parley.ExplainTurnRequest{byRequestID, byIDs} {
		explained := must(client.ExplainTurn(t.Context(), request))(t)
		want(t, answer.GetTurnId(), explained.GetTurn().GetTurnId())
		want(t, "Hello!", explained.GetMessages()[0].GetPreview())
		want(t, 1, len(explained.GetAttempts()))
	}

	request := &parley.RehearseTurnRequest{RequestId: answer.RequestID, Agent: agents[0].GetName()}
	events := must(gathered(client.RehearseTurn(t.Context(), request)))(t)
	want(t, agents[0].GetName(), events[0].GetStarted().GetAgent())
	want(t, answer.GetResponse(), events[len(events)-1].GetCompleted().GetResponse())
	history := &parley.GetHistoryRequest{ConversationId: answer.GetConversationId()}
	want(t, 2, len(must(gathered(client.GetHistory(t.Context(), history)))(t)))
}

func TestAConversationHasAnAgent(t *testing.T) {
	t.Parallel()
	client := aClient(t, fast.address)
	name := must(client.ListAgents(t.Context(), nil))(t).GetAgents()[0].GetName()
	created := must(client.CreateConversation(t.Context(), &parley.CreateConversationRequest{Agent: name}))(t)
	want(t, name, created.GetConversation().GetAgent())
	id := created.GetConversation().GetConversationId()

	untouched := &parley.UpdateConversationRequest{ConversationId: id, Title: "A title"}
	want(t, name, must(client.UpdateConversation(t.Context(), untouched))(t).GetAgent())
	cleared := &parley.UpdateConversationRequest{ConversationId: id, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"agent"}}}
	want(t, "", must(client.UpdateConversation(t.Context(), cleared))(t).GetAgent())
	set := &parley.UpdateConversationRequest{ConversationId: id, Agent: name}
	want(t, name, must(client.UpdateConversation(t.Context(), set))(t).GetAgent())

	_, err := client.CreateConversation(t.Context(), &parley.CreateConversationRequest{Agent: "nobody"})
	wantFailure(t, parley.ReasonAgentUnknown, err)
	_, err = client.UpdateConversation(t.Context(), &parley.UpdateConversationRequest{ConversationId: id, Agent: "nobody"})
	wantFailure(t, parley.ReasonAgentUnknown, err)
}

// Fails without the service config: a read is not retried then.
func TestWhatIsAskedAboutAgentsIsRetriedWithinTheTimeOfARead(t *testing.T) {
	agents := &parley.ListAgentsResponse{Agents: []*parley.Agent{{Name: "echo", Description: "Repeats.", IsDefault: true}}}
	server := aScript(t, drained, drained, sends(agents))
	want(t, true, proto.Equal(agents, must(aClient(t, server.address).ListAgents(t.Context(), &parley.ListAgentsRequest{}))(t)))
	want(t, 3, len(server.asked()))

	explained := &parley.ExplainTurnResponse{
		Omitted: []*parleyv1.OmittedMessages{{FirstSequence: 1, LastSequence: 2, Reason: parley.OmittedOlder}},
	}
	request := &parley.ExplainTurnRequest{RequestId: "r"}
	explaining := aScript(t, drained, sends(explained))
	want(t, true, proto.Equal(explained, must(aClient(t, explaining.address).ExplainTurn(t.Context(), request))(t)))
	want(t, true, proto.Equal(request, explaining.asked()[1]))
	for _, left := range append(server.timeLeft, explaining.timeLeft...) {
		want(t, true, 5*time.Second < left && left < 11*time.Second)
	}

	_, err := aClient(t, aScript(t, refuses(codes.NotFound, parley.ReasonTurnNotFound)).address).ExplainTurn(t.Context(), request)
	want(t, "r", wantFailure(t, parley.ReasonTurnNotFound, err).RequestID)
}

func TestARehearsalBringsItsEventsInOrder(t *testing.T) {
	events := []proto.Message{rehearsing(), rehearsedText("Hel"), rehearsedCall("look_up"), rehearsedAnswer("Hello")}
	server := aScript(t, sends(events...))
	request := &parley.RehearseTurnRequest{ConversationId: "c", TurnId: "t", Agent: "echo"}
	came := must(gathered(aClient(t, server.address).RehearseTurn(t.Context(), request)))(t)
	want(t, len(events), len(came))
	for n, event := range came {
		want(t, true, proto.Equal(events[n], event))
	}
	want(t, true, proto.Equal(request, server.asked()[0]))
	want(t, true, 110*time.Second < server.timeLeft[0] && server.timeLeft[0] < 121*time.Second)
}

// Fails when the tries go on as those of a turn do: the agent would be asked again.
func TestARehearsalBeginsAgainOnlyBeforeAnythingHasCome(t *testing.T) {
	losses := 0
	hook := parley.WithRetryHook(func(context.Context, *parley.Error) { losses++ })
	agentDown := refuses(codes.Unavailable, parley.ReasonAgentUnavailable)
	server := aScript(t, drained, agentDown, sends(rehearsing(), rehearsedAnswer("Hello")))
	request := &parley.RehearseTurnRequest{RequestId: "r"}
	want(t, 2, len(must(gathered(aClient(t, server.address, hook).RehearseTurn(t.Context(), request)))(t)))
	want(t, 2, losses)

	for reason, lost := range map[parley.Reason]step{
		parley.ReasonWorkerDrained: drained, parley.ReasonOverloaded: full, parley.ReasonAgentUnavailable: agentDown,
	} {
		server := aScript(t, lost.after(rehearsing()), sends(rehearsing(), rehearsedAnswer("Hello")))
		came, err := gathered(aClient(t, server.address, hook).RehearseTurn(t.Context(), request))
		wantFailure(t, reason, err)
		want(t, 1, len(came))
		want(t, 1, len(server.asked()))
	}
	want(t, 2, losses)
}

func TestARehearsalThatEndsWithoutItsLastEventIsLost(t *testing.T) {
	server := aScript(t, sends(rehearsing(), rehearsedText("Hel")))
	came, err := gathered(aClient(t, server.address).RehearseTurn(t.Context(), &parley.RehearseTurnRequest{RequestId: "r"}))
	var failure *parley.Error
	want(t, true, errors.As(err, &failure))
	want(t, codes.Unavailable, failure.Code)
	want(t, 2, len(came))
	want(t, 1, len(server.asked()))
}

// Fails when gRPC repeats the call as well: it is asked more often then.
func TestARehearsalThatNeverBeganIsGivenUp(t *testing.T) {
	for asked, refused := range map[int]step{5: drained, 1: longWait} {
		server := aScript(t, refused)
		_, err := gathered(aClient(t, server.address).RehearseTurn(t.Context(), &parley.RehearseTurnRequest{RequestId: "r"}))
		wantFailure(t, refused.refuses.reason, err)
		want(t, asked, len(server.asked()))
	}
}

func TestARehearsalThatCannotBeSaysWhy(t *testing.T) {
	for reason, name := range map[parley.Reason]string{
		parley.ReasonWindowIncomplete: "turn_id", parley.ReasonNoRehearsal: "agent",
	} {
		server := aScript(t, step{refuses: &refusal{
			code: codes.FailedPrecondition, reason: reason, metadata: map[string]string{name: "the one"},
		}})
		_, err := gathered(aClient(t, server.address).RehearseTurn(t.Context(), &parley.RehearseTurnRequest{RequestId: "r"}))
		failure := wantFailure(t, reason, err)
		want(t, "the one", failure.Metadata[name])
		want(t, false, failure.Retryable())
		want(t, "", failure.RequestID)
		want(t, 1, len(server.asked()))
	}
}

func TestARehearsalEndsAtItsDeadlineAndWithTheLoop(t *testing.T) {
	server := aScript(t, hangs.after(rehearsing()))
	client := aClient(t, server.address, parley.WithChatTimeout(500*time.Millisecond))
	came, err := gathered(client.RehearseTurn(t.Context(), &parley.RehearseTurnRequest{RequestId: "r"}))
	want(t, true, errors.Is(err, context.DeadlineExceeded))
	want(t, 1, len(came))
	want(t, 1, len(server.asked()))

	left := aScript(t, hangs.after(rehearsing()))
	for range aClient(t, left.address).RehearseTurn(t.Context(), &parley.RehearseTurnRequest{RequestId: "r"}) {
		break
	}
	left.wantCallerGone(t)
}

func TestAnAgentsNameIsUTF8(t *testing.T) {
	client := aClient(t, "127.0.0.1:1")
	_, created := client.CreateConversation(t.Context(), &parley.CreateConversationRequest{Agent: "\xff"})
	_, updated := client.UpdateConversation(t.Context(), &parley.UpdateConversationRequest{Agent: "\xff"})
	_, rehearsed := gathered(client.RehearseTurn(t.Context(), &parley.RehearseTurnRequest{Agent: "\xff"}))
	for _, err := range []error{created, updated, rehearsed} {
		want(t, "agent", wantFailure(t, parley.ReasonInvalidRequest, err).Violations[0].Field)
	}
}

func rehearsing() *parley.RehearseTurnResponse {
	started := &parleyv1.RehearsalStarted{Agent: "echo"}
	return &parley.RehearseTurnResponse{Event: &parleyv1.RehearseTurnResponse_Started{Started: started}}
}

func rehearsedText(text string) *parley.RehearseTurnResponse {
	return &parley.RehearseTurnResponse{Event: &parleyv1.RehearseTurnResponse_Chunk{Chunk: &parleyv1.TextChunk{Text: text}}}
}

func rehearsedCall(name string) *parley.RehearseTurnResponse {
	return &parley.RehearseTurnResponse{Event: &parleyv1.RehearseTurnResponse_ToolCall{ToolCall: &parley.ToolCall{Name: name}}}
}

func rehearsedAnswer(text string) *parley.RehearseTurnResponse {
	completed := &parleyv1.RehearsalCompleted{Response: text, Usage: &parley.Usage{InputTokens: 7}, Model: "m"}
	return &parley.RehearseTurnResponse{Event: &parleyv1.RehearseTurnResponse_Completed{Completed: completed}}
}

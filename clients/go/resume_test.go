package parley_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

// weather is a tool that the tests run themselves.
var weather = &parley.Tool{Name: "weather", Description: "Tells the weather at a place."}

func asksForTheWeather() *parley.ChatRequest {
	return &parley.ChatRequest{
		Message: "script\nsay Let me see. \ncall weather:Turin weather:Rome\ntold", Tools: []*parley.Tool{weather},
	}
}

func TestATurnWaitsForItsCallersTools(t *testing.T) {
	t.Parallel()
	client := aClient(t, aToolUser(t))
	waiting := must(client.Chat(t.Context(), asksForTheWeather()))(t)
	want(t, parley.FinishReasonActionRequired, waiting.GetFinishReason())
	want(t, "Let me see. ", waiting.GetResponse())
	want(t, 0, waiting.GetResponseSequence())
	calls := waiting.GetPendingCalls()
	want(t, 2, len(calls))
	want(t, `{"word": "Turin"}`, calls[0].GetArguments())
	want(t, parley.PendingResult, calls[0].GetKind())
	turn := must(client.GetTurn(t.Context(), &parley.GetTurnRequest{RequestId: waiting.RequestID}))(t)
	want(t, parley.TurnWaiting, turn.GetState())
	want(t, true, proto.Equal(calls[1], turn.GetPendingCalls()[1]))

	first := &parley.ResumeTurnRequest{
		ConversationId: waiting.GetConversationId(), TurnId: waiting.GetTurnId(),
		Results: []*parley.CallResult{parley.ResultFor(calls[0], "clear")},
	}
	still := must(client.ResumeTurn(t.Context(), first))(t)
	want(t, 1, len(still.GetPendingCalls()))
	want(t, calls[1].GetCallKey(), still.GetPendingCalls()[0].GetCallKey())

	second := &parley.ResumeTurnRequest{
		RequestId: waiting.RequestID, Results: []*parley.CallResult{parley.ErrorFor(calls[1], "no station")},
	}
	answer := must(client.ResumeTurn(t.Context(), second))(t)
	want(t, waiting.RequestID, answer.RequestID)
	want(t, "Let me see. clear\n{\"error\":\"no station\"}", answer.GetResponse())
	want(t, "no station", answer.GetToolCalls()[1].GetResult())
	want(t, true, answer.GetToolCalls()[1].GetIsError())
	again := must(client.ResumeTurn(t.Context(), second))(t)
	want(t, answer.GetResponse(), again.GetResponse())

	second.Results[0] = parley.ResultFor(calls[1], "rain")
	_, err := client.ResumeTurn(t.Context(), second)
	want(t, calls[1].GetCallKey(), wantFailure(t, parley.ReasonResultAlreadyGiven, err).Metadata["call_key"])
	second.Results[0].CallKey = answer.GetTurnId()
	_, err = client.ResumeTurn(t.Context(), second)
	want(t, false, wantFailure(t, parley.ReasonCallNotPending, err).Retryable())
}

func TestAResumedTurnIsStreamed(t *testing.T) {
	t.Parallel()
	client := aClient(t, aToolUser(t))
	events := must(gathered(client.Stream(t.Context(), asksForTheWeather())))(t)
	waiting := events[len(events)-1].GetCompleted()
	results := []*parley.CallResult{}
	for _, call := range waiting.GetPendingCalls() {
		results = append(results, parley.ResultFor(call, "clear"))
	}
	request := &parley.ResumeTurnRequest{RequestId: events[0].RequestID, Results: results}
	text := ""
	var last parley.Event
	for event, err := range client.StreamResumeTurn(t.Context(), request) {
		want(t, nil, err)
		text += event.GetChunk().GetText()
		last = event
	}
	want(t, "Let me see. clear\nclear", last.GetCompleted().GetResponse())
	want(t, 2, len(last.GetCompleted().GetToolCalls()))
	want(t, true, text != "" && strings.HasPrefix(last.GetCompleted().GetResponse(), text)) // the end may come there alone
	want(t, events[0].RequestID, last.RequestID)
}

func TestAStreamOfTextSaysThatItsTurnWaits(t *testing.T) {
	t.Parallel()
	pieces, err := gathered(aClient(t, aToolUser(t)).StreamText(t.Context(), asksForTheWeather()))
	wantAll(t, []string{"Let me see. "}, pieces)
	failure := wantFailure(t, parley.ReasonActionRequired, err)
	want(t, codes.FailedPrecondition, failure.Code)
	want(t, true, failure.RequestID != "")
	want(t, false, failure.Retryable())
}

func TestAWaitingTurnIsReplaced(t *testing.T) {
	t.Parallel()
	client := aClient(t, aToolUser(t))
	waiting := must(client.Chat(t.Context(), asksForTheWeather()))(t)
	other := &parley.ChatRequest{Message: "Never mind.", ConversationId: waiting.GetConversationId()}
	_, err := client.Chat(t.Context(), other)
	wantFailure(t, parley.ReasonTurnInProgress, err)
	other.OnBusy = parley.OnBusyReplace
	want(t, "Never mind.", must(client.Chat(t.Context(), other))(t).GetResponse())
	turn := must(client.GetTurn(t.Context(), &parley.GetTurnRequest{RequestId: waiting.RequestID}))(t)
	want(t, parley.TurnCancelled, turn.GetState())
}

// Fails without the service config, or when a lost lease is left to the caller.
func TestAResumeIsRetried(t *testing.T) {
	resumed := &parleyv1.ResumeTurnResponse{Chat: anAnswer("clear")}
	server := aScript(t, drained, leaseLost, sends(resumed))
	request := &parley.ResumeTurnRequest{
		ConversationId: "c", TurnId: "t", Results: []*parley.CallResult{parley.Approve(&parley.PendingCall{
			CallKey: "k", Arguments: "{}",
		})},
		OnDisconnect: parley.OnDisconnectContinue,
	}
	answer := must(aClient(t, server.address).ResumeTurn(t.Context(), request))(t)
	want(t, "clear", answer.GetResponse())
	want(t, 3, len(server.asked()))
	want(t, true, server.safe[0]) // proxies may send it again, although it has no request id
	for _, asked := range server.asked() {
		want(t, true, proto.Equal(request, asked))
	}
}

func resumed(event *parley.StreamChatResponse) *parleyv1.StreamResumeTurnResponse {
	return &parleyv1.StreamResumeTurnResponse{Event: event}
}

func TestAResumedStreamAsksAgainBehindTheLastPiece(t *testing.T) {
	t.Parallel()
	server := aScript(t,
		leaseLost.after(resumed(started(2)), resumed(chunk("a", 2, 0)), resumed(chunk("b", 2, 1))),
		sends(resumed(started(2))), // ends well and too early
		full,
		sends(resumed(completed("ab"))),
	)
	request := &parley.ResumeTurnRequest{RequestId: "r", Results: []*parley.CallResult{{CallKey: "k"}}}
	events := must(gathered(aClient(t, server.address).StreamResumeTurn(t.Context(), request)))(t)
	want(t, "ab", events[len(events)-1].GetCompleted().GetResponse())
	want(t, 4, len(server.asked()))
	for n, asked := range server.asked() {
		asked := asked.(*parleyv1.StreamResumeTurnRequest)
		want(t, true, proto.Equal(request, asked.GetResume()))
		want(t, n > 0, asked.AfterIndex != nil && asked.GetAfterIndex() == 1 && asked.GetAfterAttempt() == 2)
	}
}

func TestWhatATurnIsGivenIsUTF8(t *testing.T) {
	client := aClient(t, "127.0.0.1:1")
	request := &parley.ResumeTurnRequest{RequestId: "r", Results: []*parley.CallResult{
		parley.ResultFor(&parley.PendingCall{}, "fine"), parley.Deny(&parley.PendingCall{}, "\xff"),
	}}
	_, err := client.ResumeTurn(t.Context(), request)
	_, streamed := gathered(client.StreamResumeTurn(t.Context(), request))
	_, chatted := client.Chat(t.Context(), &parley.ChatRequest{Tools: []*parley.Tool{{Description: "\xff"}}})
	_, named := client.Chat(t.Context(), &parley.ChatRequest{Message: "hello", Agent: "\xff"})
	want(t, "results[1].denial.reason", wantFailure(t, parley.ReasonInvalidRequest, err).Violations[0].Field)
	want(t, codes.InvalidArgument, wantFailure(t, parley.ReasonInvalidRequest, streamed).Code)
	want(t, "tools[0].description", wantFailure(t, parley.ReasonInvalidRequest, chatted).Violations[0].Field)
	want(t, "agent", wantFailure(t, parley.ReasonInvalidRequest, named).Violations[0].Field)
}

// Fails when an event that is missing, as none of a newer server is known, ends the process.
func TestAResumedStreamTakesAnAnswerWithoutAnEvent(t *testing.T) {
	server := aScript(t, sends(&parleyv1.StreamResumeTurnResponse{}, resumed(completed("a"))))
	request := &parley.ResumeTurnRequest{RequestId: "r", Results: []*parley.CallResult{{CallKey: "k"}}}
	events := must(gathered(aClient(t, server.address).StreamResumeTurn(t.Context(), request)))(t)
	want(t, "a", events[len(events)-1].GetCompleted().GetResponse())
}

package parley_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

// long comes in four pieces.
var long = strings.Repeat("It was a dark and stormy night. ", 20)

func TestStreamBringsPiecesAndTheWhole(t *testing.T) {
	client := aClient(t, fast.address)
	events := must(gathered(client.Stream(t.Context(), &parley.ChatRequest{Message: long})))(t)

	text := ""
	for _, event := range events {
		want(t, events[0].RequestID, event.RequestID)
		text += event.GetChunk().GetText()
	}
	want(t, true, events[0].GetStarted() != nil)
	want(t, long, text)
	answer := must(client.Chat(t.Context(), &parley.ChatRequest{Message: long, RequestId: events[0].RequestID}))(t)
	answer.Replayed = false
	want(t, true, proto.Equal(answer.ChatResponse, events[len(events)-1].GetCompleted()))
}

// Fails when a lost stream ends with its error, and when it asks under another request id.
func TestStreamThatIsCutGoesOnAtTheSameTurn(t *testing.T) {
	t.Parallel()
	wire := aWire(t, slow.address)
	losses := 0
	client := aClient(t, wire.address, parley.WithRetryHook(func(context.Context, *parley.Error) { losses++ }))
	request := &parley.ChatRequest{Message: long, OnDisconnect: parley.OnDisconnectContinue}
	text, cuts := "", 0
	var last parley.Event
	for event, err := range client.Stream(t.Context(), request) {
		if err != nil {
			t.Fatal(err)
		}
		if last = event; event.GetStarted() != nil && cuts < 2 {
			wire.cut()
			cuts++
		}
		text += event.GetChunk().GetText()
	}
	want(t, long, text)
	want(t, long, last.GetCompleted().GetResponse())
	want(t, 2, cuts)
	want(t, true, losses >= cuts)
	want(t, int64(2), last.GetCompleted().GetResponseSequence())
	turn := must(client.GetTurn(t.Context(), &parley.GetTurnRequest{RequestId: last.RequestID}))(t)
	want(t, 1, turn.GetAttempt()) // the agent went on without its caller
}

func TestStreamAsksAgainBehindTheLastPiece(t *testing.T) {
	t.Parallel()
	server := aScript(t,
		leaseLost.after(started(1), chunk("a", 1, 0)),
		drained.after(started(2), chunk("b", 2, 0), chunk("c", 2, 1), started(3)),
		sends(started(3)), // ends well and too early
		sends(completed("whole")),
	)
	request := &parley.ChatRequest{Message: "hello", ConversationId: "c", Agent: "poet"}
	events := must(gathered(aClient(t, server.address).Stream(t.Context(), request)))(t)

	type place struct {
		attempt  int32
		hasIndex bool
		index    int64
	}
	places, text := []place{}, ""
	for _, asked := range server.asked() {
		asked := asked.(*parleyv1.StreamChatRequest)
		places = append(places, place{asked.AfterAttempt, asked.AfterIndex != nil, asked.GetAfterIndex()})
		want(t, true, proto.Equal(asked.Chat, server.asked()[0].(*parleyv1.StreamChatRequest).Chat))
		want(t, "poet", asked.Chat.GetAgent())
	}
	for _, event := range events {
		text += event.GetChunk().GetText()
	}
	wantAll(t, []place{{0, false, 0}, {1, true, 0}, {2, true, 1}, {2, true, 1}}, places)
	want(t, "abc", text)
	want(t, "whole", events[len(events)-1].GetCompleted().GetResponse())
}

func TestStreamIsMorePatientOnceItIsUnderWay(t *testing.T) {
	t.Parallel()
	never := aScript(t, drained)
	_, err := gathered(aClient(t, never.address).Stream(t.Context(), &parley.ChatRequest{Message: "x"}))
	wantFailure(t, parley.ReasonWorkerDrained, err)
	want(t, 5, len(never.asked()))

	begun := aScript(t, drained.after(started(1), chunk("a", 1, 0)), full, full, full, full, full, full, sends(completed("a")))
	must(gathered(aClient(t, begun.address).Stream(t.Context(), &parley.ChatRequest{Message: "x"})))(t)
	want(t, 8, len(begun.asked()))
}

func TestStreamThatIsPushedBackIsLeftToTheCaller(t *testing.T) {
	server := aScript(t, longWait.after(started(1), chunk("a", 1, 0)))
	_, err := gathered(aClient(t, server.address).Stream(t.Context(), &parley.ChatRequest{Message: "x"}))
	want(t, true, wantFailure(t, parley.ReasonAgentUnavailable, err).PushedBack)
	want(t, 1, len(server.asked()))
}

func TestLeavingAStreamLosesTheCaller(t *testing.T) {
	server := aScript(t, hangs.after(started(1)))
	for range aClient(t, server.address).Stream(t.Context(), &parley.ChatRequest{Message: "x"}) {
		break
	}
	server.wantCallerGone(t)
}

func TestStreamEndsWithItsContext(t *testing.T) {
	server := aScript(t, hangs.after(started(1)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ended error
	for _, err := range aClient(t, server.address).Stream(ctx, &parley.ChatRequest{Message: "x"}) {
		cancel()
		ended = err
	}
	want(t, true, errors.Is(ended, context.Canceled))
	want(t, 1, len(server.asked()))
}

func TestStreamTextIsTheWholeTextOnce(t *testing.T) {
	client := aClient(t, fast.address)
	pieces := must(gathered(client.StreamText(t.Context(), &parley.ChatRequest{Message: long})))(t)
	want(t, long, strings.Join(pieces, ""))

	// The last piece comes in the answer only, as when a caller is behind at the end.
	server := aScript(t,
		drained.after(started(1), chunk("a ", 1, 0)), sends(started(1), chunk("b ", 1, 1), completed("a b c")))
	pieces = must(gathered(aClient(t, server.address).StreamText(t.Context(), &parley.ChatRequest{Message: "x"})))(t)
	wantAll(t, []string{"a ", "b ", "c"}, pieces)
}

func TestStreamTextThatBecameVoidIsAnError(t *testing.T) {
	for _, anew := range []*parley.StreamChatResponse{chunk("b", 2, 0), completed("b")} {
		server := aScript(t, drained.after(started(1), chunk("a", 1, 0)), sends(anew))
		request := &parley.ChatRequest{Message: "x", RequestId: "r"}
		_, err := gathered(aClient(t, server.address).StreamText(t.Context(), request))
		failure := wantFailure(t, parley.ReasonAttemptLost, err)
		want(t, "r", failure.RequestID)
		want(t, codes.Aborted, failure.Code)
		want(t, true, failure.Retryable())
	}
}

func TestStreamTextLeftEarlyLosesTheCaller(t *testing.T) {
	server := aScript(t, hangs.after(started(1), chunk("a", 1, 0)))
	for piece, err := range aClient(t, server.address).StreamText(t.Context(), &parley.ChatRequest{Message: "x"}) {
		want(t, nil, err)
		want(t, "a", piece)
		break
	}
	server.wantCallerGone(t)
}

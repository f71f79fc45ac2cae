package parley_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

// Fails when a watch goes on from anything but the last message delivered.
func TestWatchSeesEveryMessageOnceThroughCutsAndARestart(t *testing.T) {
	t.Parallel()
	server := &serverProcess{agent: "echo", folder: t.TempDir(), address: "127.0.0.1:0"}
	want(t, nil, server.start())
	defer func() { server.stop(syscall.SIGTERM) }()
	wire := aWire(t, server.address)
	token := parley.WithToken(tokenOf("ada", nil))
	client := aClient(t, server.address, token)
	conversation := aConversation(t, client, "m0")
	say := func(n int) {
		request := &parley.ChatRequest{Message: fmt.Sprint("m", n), ConversationId: conversation}
		must(client.Chat(t.Context(), request))(t)
	}

	sequences, losses := []int64{}, 0
	watcher := aClient(t, wire.address, token, parley.WithRetryHook(func(context.Context, *parley.Error) { losses++ }))
	for update, err := range watcher.Watch(t.Context(), &parley.WatchConversationRequest{ConversationId: conversation}) {
		if err != nil {
			t.Fatal(err)
		}
		if message := update.GetMessage(); message != nil {
			sequences = append(sequences, message.GetSequence())
		}
		if len(sequences) == 10 {
			break
		}
		if update.GetMessage() == nil || len(sequences)%2 != 0 {
			continue
		}
		switch len(sequences) {
		case 4:
			wire.cut()
		case 6: // killed, and back at the same address with the same data
			server.stop(syscall.SIGKILL)
			want(t, nil, server.start())
			client = aClient(t, server.address, token)
		}
		say(len(sequences) / 2)
	}
	wantAll(t, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, sequences)
	want(t, true, losses >= 2)
}

func TestWatchGoesOnBehindTheLastMessage(t *testing.T) {
	server := aScript(t,
		expired.after(aMessage(5), aMessage(6), progress(6)),
		drained,
		full,
		drained.after(progress(6), aMessage(7)),
		refuses(codes.PermissionDenied, parley.ReasonScopeMissing),
	)
	request := &parley.WatchConversationRequest{ConversationId: "c", AfterSequence: 4, IncludeEvents: true}
	updates, err := gathered(aClient(t, server.address).Watch(t.Context(), request))
	wantFailure(t, parley.ReasonScopeMissing, err)

	from, sequences := []int64{}, []int64{}
	for _, asked := range server.asked() {
		asked := asked.(*parley.WatchConversationRequest)
		from = append(from, asked.GetAfterSequence())
		want(t, true, asked.GetIncludeEvents() && asked.GetConversationId() == "c")
	}
	for _, update := range updates {
		if message := update.GetMessage(); message != nil {
			sequences = append(sequences, message.GetSequence())
		}
	}
	wantAll(t, []int64{4, 6, 6, 6, 7}, from)
	wantAll(t, []int64{5, 6, 7}, sequences)
	want(t, 4, request.GetAfterSequence()) // the caller's own request stays as it is
}

// A new call tells the open turn's state and its pieces from the first one again.
func TestWatchRepeatsNoStateAndNoPiece(t *testing.T) {
	server := aScript(t,
		expired.after(aMessage(1), aTurn(1), anEvent(1, 0), anEvent(1, 1)),
		drained.after(aTurn(1), anEvent(1, 0), anEvent(1, 1), anEvent(1, 2)),
		drained.after(aTurn(2), anEvent(2, 0)),
		refuses(codes.PermissionDenied, parley.ReasonScopeMissing).after(aTurn(2), anEvent(2, 0), anEvent(2, 1)),
	)
	updates, _ := gathered(aClient(t, server.address).Watch(t.Context(), &parley.WatchConversationRequest{}))

	pieces, attempts := []string{}, []int32{}
	for _, update := range updates {
		if event := update.GetEvent(); event != nil {
			pieces = append(pieces, event.GetChunk().GetText())
		}
		if turn := update.GetTurn(); turn != nil {
			attempts = append(attempts, turn.GetAttempt())
		}
	}
	wantAll(t, []string{"1.0", "1.1", "1.2", "2.0", "2.1"}, pieces)
	wantAll(t, []int32{1, 2}, attempts)
}

func TestWatchOfNothingIsAnError(t *testing.T) {
	request := &parley.WatchConversationRequest{ConversationId: "01890000-0000-7000-8000-000000000000"}
	_, err := gathered(aClient(t, fast.address).Watch(t.Context(), request))
	wantFailure(t, parley.ReasonConversationNotFound, err)
}

// Fails when only the next update tells that the server is gone: the call would wait for it for five minutes.
func TestAServerThatVanishesWithoutAWordIsNoticed(t *testing.T) {
	t.Parallel()
	server := aScript(t, hangs.after(aMessage(1)), sends(aDeletion()))
	wire := aWire(t, server.address)
	began, updates := time.Now(), []*parley.WatchConversationResponse{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for update, err := range aClient(t, wire.address).Watch(ctx, &parley.WatchConversationRequest{}) {
		if err != nil {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
		if updates = append(updates, update); len(updates) == 1 {
			wire.fallSilent()
		}
	}
	want(t, 2, len(updates))
	want(t, true, time.Since(began) < 45*time.Second)
}

// Fails when the status that follows the last update is told, or the last update waits for another call.
func TestWatchEndsWithItsConversation(t *testing.T) {
	for _, end := range []step{notFound, drained, sends()} {
		server := aScript(t, end.after(aMessage(1), aDeletion()))
		updates := must(gathered(aClient(t, server.address).Watch(t.Context(), &parley.WatchConversationRequest{})))(t)
		want(t, 2, len(updates))
		want(t, true, updates[1].GetDeleted() != nil)
		want(t, 1, len(server.asked()))
	}
}

// Fails when the status of a call that continues a watch is told instead of what happened to the conversation.
func TestWatchEndsWithAConversationThatIsDeletedBetweenTwoCalls(t *testing.T) {
	server := aScript(t, expired.after(aMessage(1)), drained, notFound)
	updates := must(gathered(aClient(t, server.address).Watch(t.Context(), &parley.WatchConversationRequest{})))(t)
	want(t, 2, len(updates))
	want(t, true, updates[1].GetDeleted() != nil)
	want(t, 3, len(server.asked()))
}

func TestWatchThatNothingHasComeOfTellsOfNoDeletion(t *testing.T) {
	server := aScript(t, drained, notFound)
	updates, err := gathered(aClient(t, server.address).Watch(t.Context(), &parley.WatchConversationRequest{}))
	wantFailure(t, parley.ReasonConversationNotFound, err)
	want(t, 0, len(updates))
}

func TestLeavingAWatchEndsTheCall(t *testing.T) {
	server := aScript(t, hangs.after(aMessage(1)))
	for range aClient(t, server.address).Watch(t.Context(), &parley.WatchConversationRequest{}) {
		break
	}
	server.wantCallerGone(t)
}

func TestWatchEndsWithItsContext(t *testing.T) {
	server := aScript(t, hangs.after(aMessage(1)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ended error
	for _, err := range aClient(t, server.address).Watch(ctx, &parley.WatchConversationRequest{}) {
		cancel()
		ended = err
	}
	want(t, true, errors.Is(ended, context.Canceled))
}

func aMessage(sequence int64) proto.Message {
	message := &parley.Message{Sequence: sequence}
	return &parley.WatchConversationResponse{Update: &parleyv1.WatchConversationResponse_Message{Message: message}}
}

func aDeletion() proto.Message {
	return &parley.WatchConversationResponse{Update: &parleyv1.WatchConversationResponse_Deleted{}}
}

func aTurn(attempt int32) proto.Message {
	turn := &parley.Turn{TurnId: "t", State: parley.TurnRunning, Attempt: attempt}
	return &parley.WatchConversationResponse{Update: &parleyv1.WatchConversationResponse_Turn{Turn: turn}}
}

func anEvent(attempt int32, index int64) proto.Message {
	event := chunk(fmt.Sprintf("%d.%d", attempt, index), attempt, index)
	return &parley.WatchConversationResponse{Update: &parleyv1.WatchConversationResponse_Event{Event: event}}
}

func progress(sequence int64) proto.Message {
	update := &parleyv1.WatchProgress{LastSequence: sequence}
	return &parley.WatchConversationResponse{Update: &parleyv1.WatchConversationResponse_Progress{Progress: update}}
}

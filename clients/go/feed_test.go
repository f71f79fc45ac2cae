package parley_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

// denied ends a feed, which has no end of its own.
var denied = refuses(codes.PermissionDenied, parley.ReasonScopeMissing)

// Fails when a watch goes on from anything but the last turn told.
func TestAFeedTellsEveryTurnOnceThroughCutsAndARestart(t *testing.T) {
	t.Parallel()
	server := &serverProcess{agent: "echo", folder: t.TempDir(), address: "127.0.0.1:0"}
	want(t, nil, server.start())
	defer func() { server.stop(syscall.SIGTERM) }()
	wire := aWire(t, server.address)
	token := parley.WithToken(tokenOf("ada", nil))
	client := aClient(t, server.address, token)
	started := []string{}
	start := func() {
		request := &parley.ChatRequest{Message: "hello", RequestId: fmt.Sprint("r", len(started))}
		started = append(started, request.RequestId)
		must(client.StartTurn(t.Context(), request))(t)
	}

	ended, losses, cursor := []string{}, 0, ""
	watcher := aClient(t, wire.address, token, parley.WithRetryHook(func(context.Context, *parley.Error) { losses++ }))
	start()
	for update, err := range watcher.WatchTurns(t.Context(), &parley.WatchTurnsRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		if update.GetTurn() == nil {
			continue
		}
		want(t, parley.TurnCompleted, update.GetTurn().GetState())
		ended, cursor = append(ended, update.GetTurn().GetRequestId()), update.GetCursor()
		if len(ended) == 5 {
			break
		}
		switch len(ended) {
		case 2:
			wire.cut()
		case 3: // killed, and back at the same address with the same data
			server.stop(syscall.SIGKILL)
			want(t, nil, server.start())
			client = aClient(t, server.address, token)
		}
		start()
	}
	wantAll(t, started, ended)
	want(t, true, losses >= 2)

	start()
	request := &parley.WatchTurnsRequest{AfterCursor: cursor}
	for update, err := range client.WatchTurns(t.Context(), request) { // as after a crash of the caller's own
		want(t, nil, err)
		if turn := update.GetTurn(); turn != nil {
			want(t, started[5], turn.GetRequestId())
			break
		}
	}
}

func TestAFeedOfAllOwnersSaysWhoseATurnIs(t *testing.T) {
	user := uuid.NewString()
	theirs := aClient(t, fast.address, parley.WithToken(tokenOf(user, nil)))
	aConversation(t, theirs, "hello")
	request := &parley.WatchTurnsRequest{AllOwners: true}
	_, err := gathered(theirs.WatchTurns(t.Context(), request))
	want(t, "parley.observe", wantFailure(t, parley.ReasonScopeMissing, err).Metadata["scope"])

	observes := parley.WithToken(tokenOf("observer", map[string]any{"scope": "parley.observe"}))
	for update, err := range aClient(t, fast.address, observes).WatchTurns(t.Context(), request) {
		want(t, nil, err)
		if update.GetUser() == user { // without tenants, the turns of all other tests are told as well
			want(t, parley.TurnCompleted, update.GetTurn().GetState())
			break
		}
	}
}

// Fails when a watch goes on from anything but the last update delivered, progress included, or gives up once it has begun.
func TestAFeedGoesOnBehindItsLastUpdate(t *testing.T) {
	server := aScript(t,
		drained,
		expired.after(aTurnThatEnded("c1"), aFeedProgress("c2")),
		full,
		sends(aTurnThatEnded("c3")), // cut short
		refuses(codes.DeadlineExceeded, "").after(aTurnThatEnded("c4")),
		denied,
	)
	request := &parley.WatchTurnsRequest{AfterCursor: "c0", Labels: []string{"team=support"}, AllOwners: true}
	losses := 0
	client := aClient(t, server.address, parley.WithRetryHook(func(context.Context, *parley.Error) { losses++ }))
	updates, err := gathered(client.WatchTurns(t.Context(), request))
	wantFailure(t, parley.ReasonScopeMissing, err)

	came, from := []string{}, []string{}
	for _, update := range updates {
		came = append(came, update.GetCursor())
	}
	for _, each := range server.asked() {
		asked := each.(*parley.WatchTurnsRequest)
		from = append(from, asked.GetAfterCursor())
		want(t, true, asked.GetAllOwners() && asked.GetLabels()[0] == "team=support")
	}
	wantAll(t, []string{"c1", "c2", "c3", "c4"}, came)
	wantAll(t, []string{"c0", "c0", "c2", "c2", "c3", "c4"}, from)
	want(t, "ada", updates[0].GetUser())
	want(t, 5, losses)
	want(t, "c0", request.GetAfterCursor()) // the caller's own request stays as it is
}

// A feed of new turns alone misses none that ends while it is lost.
func TestAFeedOfNewTurnsGoesOnBehindItsCursor(t *testing.T) {
	server := aScript(t, drained.after(aFeedProgress("c1")), denied)
	_, err := gathered(aClient(t, server.address).WatchTurns(t.Context(), &parley.WatchTurnsRequest{OnlyNew: true}))
	wantFailure(t, parley.ReasonScopeMissing, err)
	want(t, true, server.asked()[0].(*parley.WatchTurnsRequest).GetOnlyNew())
	want(t, "c1", server.asked()[1].(*parley.WatchTurnsRequest).GetAfterCursor())
}

// Fails when gRPC begins a watch again on its own: it knows no cursor, and no hook is told.
func TestGRPCDoesNotRepeatAFeed(t *testing.T) {
	server := aScript(t, drained, denied)
	conn := must(grpc.NewClient(server.address, grpc.WithDefaultServiceConfig(parley.ServiceConfig),
		grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
	defer conn.Close()
	losses := 0
	hook := parley.WithRetryHook(func(context.Context, *parley.Error) { losses++ })
	_, err := gathered(must(parley.NewFromConn(conn, hook))(t).WatchTurns(t.Context(), nil))
	wantFailure(t, parley.ReasonScopeMissing, err)
	want(t, 1, losses)
	want(t, 2, len(server.asked()))
}

// Fails when a watch begins anew by itself: its caller would not know that turns may be missing.
func TestAnExpiredCursorIsTheCallersToKnow(t *testing.T) {
	oldest := time.Date(2026, 11, 28, 4, 5, 6, 789000000, time.UTC)
	gone := step{refuses: &refusal{
		code: codes.FailedPrecondition, reason: parley.ReasonCursorExpired,
		metadata: map[string]string{"oldest_time": "2026-11-28T04:05:06.789000+00:00"},
	}}
	for expected, steps := range map[int][]step{0: {gone}, 1: {drained.after(aTurnThatEnded("c1")), gone}} {
		server := aScript(t, append(steps, denied)...)
		updates, err := gathered(aClient(t, server.address).WatchTurns(t.Context(), nil))
		failure := wantFailure(t, parley.ReasonCursorExpired, err)
		want(t, true, oldest.Equal(failure.OldestTime()))
		want(t, false, failure.Retryable())
		want(t, expected, len(updates))
		want(t, len(steps), len(server.asked()))
	}
	_, err := gathered(aClient(t, aScript(t, denied).address).WatchTurns(t.Context(), nil))
	want(t, true, wantFailure(t, parley.ReasonScopeMissing, err).OldestTime().IsZero())
}

func TestAForgedCursorIsAnError(t *testing.T) {
	request := &parley.WatchTurnsRequest{AfterCursor: "forged"}
	_, err := gathered(aClient(t, fast.address).WatchTurns(t.Context(), request))
	wantFailure(t, parley.ReasonInvalidPageToken, err)
}

func TestLeavingAFeedEndsTheCall(t *testing.T) {
	server := aScript(t, hangs.after(aTurnThatEnded("c1")))
	for range aClient(t, server.address).WatchTurns(t.Context(), nil) {
		break
	}
	server.wantCallerGone(t)
}

func TestAFeedEndsWithItsContext(t *testing.T) {
	server := aScript(t, hangs.after(aTurnThatEnded("c1")))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ended error
	for _, err := range aClient(t, server.address).WatchTurns(ctx, nil) {
		cancel()
		ended = err
	}
	want(t, true, errors.Is(ended, context.Canceled))
}

func aTurnThatEnded(cursor string) proto.Message {
	turn := &parleyv1.WatchTurnsResponse_Turn{Turn: &parley.Turn{TurnId: "t", State: parley.TurnCompleted}}
	return &parley.WatchTurnsResponse{Update: turn, Cursor: cursor, User: "ada"}
}

func aFeedProgress(cursor string) proto.Message {
	update := &parleyv1.WatchTurnsResponse_Progress{Progress: &parleyv1.WatchTurnsProgress{}}
	return &parley.WatchTurnsResponse{Update: update, Cursor: cursor}
}

package parley_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	parley "parley.dev/go"
)

func TestChatStoresMessageAndAnswer(t *testing.T) {
	client := aClient(t, fast.address)
	answer := must(client.Chat(t.Context(), &parley.ChatRequest{Message: "hello"}))(t)

	want(t, "hello", answer.GetResponse())
	want(t, false, answer.GetReplayed())
	stored := must(gathered(client.GetHistory(t.Context(),
		&parley.GetHistoryRequest{ConversationId: answer.GetConversationId()})))(t)
	want(t, 2, len(stored))
	want(t, answer.GetResponse(), stored[1].GetContent())
}

func TestChatMakesARequestIDAndShowsIt(t *testing.T) {
	client := aClient(t, fast.address)
	request := &parley.ChatRequest{Message: "hello"}
	answer := must(client.Chat(t.Context(), request))(t)

	must(uuid.Parse(answer.RequestID))(t)
	want(t, "", request.GetRequestId()) // the caller's own request stays as it is
	turn := must(client.GetTurn(t.Context(), &parley.GetTurnRequest{RequestId: answer.RequestID}))(t)
	want(t, answer.GetTurnId(), turn.GetTurnId())
	want(t, parley.TurnCompleted, turn.GetState())
}

func TestChatWithTheSameRequestIDReplaysItsAnswer(t *testing.T) {
	client := aClient(t, fast.address)
	request := &parley.ChatRequest{Message: "hello", RequestId: "order-7"}
	first := must(client.Chat(t.Context(), request))(t)
	again := must(client.Chat(t.Context(), request))(t)

	want(t, true, again.GetReplayed())
	again.Replayed = false
	want(t, true, proto.Equal(first, again))
}

func TestHistoryGoesOverAllPagesInBothOrders(t *testing.T) {
	client := aClient(t, fast.address)
	conversation := aConversation(t, client, "1", "2", "3")

	for order, expected := range map[string][]int64{"oldest": {1, 2, 3, 4, 5, 6}, "newest": {6, 5, 4, 3, 2, 1}} {
		request := &parley.GetHistoryRequest{ConversationId: conversation, PageSize: 4}
		if order == "newest" {
			request.Order = parley.OrderNewestFirst
		}
		sequences := []int64{}
		for message, err := range client.GetHistory(t.Context(), request) {
			if err != nil {
				t.Fatal(err)
			}
			sequences = append(sequences, message.GetSequence())
		}
		wantAll(t, expected, sequences)
	}
	page := must(client.GetHistoryPage(t.Context(),
		&parley.GetHistoryRequest{ConversationId: conversation, PageSize: 4}))(t)
	want(t, 4, len(page.GetMessages()))
	rest := must(gathered(client.GetHistory(t.Context(),
		&parley.GetHistoryRequest{ConversationId: conversation, PageToken: page.GetNextPageToken()})))(t)
	want(t, 2, len(rest))
}

func TestHistoryLeftEarlyAsksForNoFurtherPage(t *testing.T) {
	page := &parley.GetHistoryResponse{Messages: []*parley.Message{{Sequence: 1}, {Sequence: 2}}, NextPageToken: "more"}
	server := aScript(t, sends(page))
	for range aClient(t, server.address).GetHistory(t.Context(), &parley.GetHistoryRequest{}) {
		break
	}
	want(t, 1, len(server.asked()))
}

func TestConversationsComeTheMostRecentFirst(t *testing.T) {
	client := aClient(t, fast.address)
	older, newer := aConversation(t, client, "1"), aConversation(t, client, "2")

	ids := []string{}
	for conversation, err := range client.ListConversations(t.Context(), &parley.ListConversationsRequest{PageSize: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, conversation.GetConversationId())
	}
	wantAll(t, []string{newer, older}, ids)
}

func TestCancelTurnStopsAnAgentAndKeepsWhatItSaid(t *testing.T) {
	client := aClient(t, slow.address)
	request := &parley.ChatRequest{Message: "hello"}
	var last parley.Event
	for event, err := range client.Stream(t.Context(), request) {
		if err != nil {
			t.Fatal(err)
		}
		if last = event; event.GetStarted() != nil {
			turn := must(client.CancelTurn(t.Context(), &parley.CancelTurnRequest{RequestId: event.RequestID}))(t)
			want(t, parley.TurnCancelled, turn.GetState())
		}
	}
	want(t, "FINISH_REASON_CANCELLED", last.GetCompleted().GetFinishReason().String())
}

func TestABackendActsForItsUsers(t *testing.T) {
	user := "Jürgen / 100% " + uuid.NewString()
	backend := aClient(t, fast.address, parley.WithToken(
		tokenOf("backend", map[string]any{"scope": "parley.read parley.write parley.act"})))
	acting := backend.ActingFor(user)
	conversation := aConversation(t, acting, "hello")

	theirs := aClient(t, fast.address, parley.WithToken(tokenOf(user, nil)))
	for client, expected := range map[*parley.Client]bool{acting: true, theirs: true, backend: false} {
		_, err := gathered(client.GetHistory(t.Context(), &parley.GetHistoryRequest{ConversationId: conversation}))
		want(t, expected, err == nil)
	}
	for update, err := range acting.Watch(t.Context(), &parley.WatchConversationRequest{ConversationId: conversation}) {
		want(t, nil, err)
		want(t, 1, update.GetMessage().GetSequence())
		break
	}
	want(t, nil, acting.Close())
	aConversation(t, backend, "the connection is still open")

	// Nobody is somebody else than the backend.
	_, err := backend.ActingFor("").Chat(t.Context(), &parley.ChatRequest{Message: "x"})
	wantFailure(t, parley.ReasonInvalidRequest, err)
	_, err = theirs.ActingFor("eve").Chat(t.Context(), &parley.ChatRequest{Message: "x"})
	want(t, "parley.act", wantFailure(t, parley.ReasonScopeMissing, err).Metadata["scope"])
}

func TestErrorsTellTheirReason(t *testing.T) {
	client := aClient(t, fast.address)
	conversation := aConversation(t, client, "hello")
	elsewhere := uuid.NewString()
	for _, each := range []struct {
		reason  parley.Reason
		code    codes.Code
		request *parley.ChatRequest
		shows   func(*parley.Error) bool
	}{
		{parley.ReasonInvalidRequest, codes.InvalidArgument, &parley.ChatRequest{},
			func(e *parley.Error) bool { return e.Violations[0].Field == "message" }},
		{parley.ReasonInvalidRequest, codes.InvalidArgument, &parley.ChatRequest{Message: "\xff"},
			func(e *parley.Error) bool { return e.Violations[0].Field == "message" }},
		{parley.ReasonConversationNotFound, codes.NotFound,
			&parley.ChatRequest{Message: "x", ConversationId: elsewhere},
			func(e *parley.Error) bool { return e.Metadata["conversation_id"] == elsewhere }},
		{parley.ReasonSequenceMismatch, codes.Aborted,
			&parley.ChatRequest{Message: "x", ConversationId: conversation, ExpectedSequence: new(int64(7))},
			func(e *parley.Error) bool { return e.LastSequence() == 2 }},
		{parley.ReasonAgentUnknown, codes.InvalidArgument, &parley.ChatRequest{Message: "x", Agent: "poet"},
			func(e *parley.Error) bool { return !e.Retryable() }},
	} {
		each.request.RequestId = uuid.NewString()
		_, err := client.Chat(t.Context(), each.request)
		failure := wantFailure(t, each.reason, err)
		want(t, each.code, failure.Code)
		want(t, each.code, status.Code(err))
		want(t, each.request.GetRequestId(), failure.RequestID)
		if !each.shows(failure) {
			t.Errorf("%s does not show what it should: %+v", each.reason, failure)
		}
	}
}

func TestErrorsAreToldFromEachOther(t *testing.T) {
	_, err := aClient(t, fast.address, parley.WithToken("")).Chat(t.Context(), &parley.ChatRequest{Message: "x"})
	wantFailure(t, parley.ReasonUnauthenticated, err)
	want(t, false, errors.Is(err, parley.ReasonScopeMissing))
	want(t, false, errors.Is(err, context.Canceled))

	reader := tokenOf("reader", map[string]any{"scope": "parley.read"})
	_, err = aClient(t, fast.address, parley.WithToken(reader)).Chat(t.Context(), &parley.ChatRequest{Message: "x"})
	want(t, "parley.write", wantFailure(t, parley.ReasonScopeMissing, err).Metadata["scope"])
	told, ok := status.FromError(err)
	want(t, true, ok)
	want(t, true, len(told.Details()) > 0)
}

func TestABusyConversationIsAnErrorOrWaitedFor(t *testing.T) {
	t.Parallel()
	client := aClient(t, slow.address)
	conversation := uuid.NewString()
	for event, err := range client.Stream(t.Context(),
		&parley.ChatRequest{Message: "first", ConversationId: conversation, AllowMissing: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if begun := event.GetStarted(); begun != nil {
			_, err := client.Chat(t.Context(), &parley.ChatRequest{Message: "second", ConversationId: conversation})
			failure := wantFailure(t, parley.ReasonTurnInProgress, err)
			want(t, begun.GetTurnId(), failure.Metadata["turn_id"])
			want(t, true, failure.RetryAfter > 0 && failure.Retryable())
		}
	}
	answer := must(client.Chat(t.Context(),
		&parley.ChatRequest{Message: "second", ConversationId: conversation, OnBusy: parley.OnBusyWait}))(t)
	want(t, 4, answer.GetResponseSequence())
}

func TestACallEndsAtItsContextsDeadline(t *testing.T) {
	t.Parallel()
	client := aClient(t, slow.address)
	ctx, cancel := context.WithTimeout(t.Context(), slowness*5/6)
	defer cancel()
	_, err := client.Chat(ctx, &parley.ChatRequest{Message: "hello", RequestId: "r"})

	want(t, codes.DeadlineExceeded, status.Code(err))
	want(t, true, errors.Is(err, context.DeadlineExceeded))
	want(t, true, strings.Contains(err.Error(), "request_id=r"))
	answer := must(client.Chat(t.Context(), &parley.ChatRequest{Message: "hello", RequestId: "r"}))(t)
	want(t, "hello", answer.GetResponse())
}

func TestACallEndsWhenItsContextIsCancelled(t *testing.T) {
	server := aScript(t, hangs)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := aClient(t, server.address).Chat(ctx, &parley.ChatRequest{Message: "hello"})
		ended <- err
	}()
	<-server.came
	cancel()
	want(t, true, errors.Is(<-ended, context.Canceled))
	server.wantCallerGone(t)
}

func TestDefaultTimeoutsHoldWithoutADeadline(t *testing.T) {
	server := aScript(t, hangs)
	client := aClient(t, server.address,
		parley.WithChatTimeout(50*time.Millisecond), parley.WithReadTimeout(50*time.Millisecond))
	_, chatted := client.Chat(context.Background(), &parley.ChatRequest{Message: "x"})
	_, streamed := gathered(client.Stream(context.Background(), &parley.ChatRequest{Message: "x"}))
	_, read := client.GetHistoryPage(context.Background(), &parley.GetHistoryRequest{})
	for _, err := range []error{chatted, streamed, read} {
		want(t, true, errors.Is(err, context.DeadlineExceeded))
	}
}

func TestAClientOnAConnectionOfTheCallersOwn(t *testing.T) {
	seen := []string{}
	intercept := func(ctx context.Context, method string, request, response any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		sent, _ := metadata.FromOutgoingContext(ctx)
		seen = append(seen, sent.Get("x-trace")...)
		return invoke(ctx, method, request, response, conn, options...)
	}
	conn := must(grpc.NewClient(fast.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(parley.ServiceConfig), grpc.WithUnaryInterceptor(intercept)))(t)
	defer conn.Close()
	client := must(parley.NewFromConn(conn, parley.WithToken(tokenOf("eve", nil))))(t)

	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-trace", "7")
	must(client.Chat(ctx, &parley.ChatRequest{Message: "hello"}))(t)
	wantAll(t, []string{"7"}, seen)
	want(t, nil, client.Close())
	must(client.Chat(ctx, &parley.ChatRequest{Message: "the connection is still open"}))(t)
}

// aConversation returns the id of one in which these messages were answered.
func aConversation(t *testing.T, client *parley.Client, messages ...string) (id string) {
	t.Helper()
	for _, message := range messages {
		id = must(client.Chat(t.Context(), &parley.ChatRequest{Message: message, ConversationId: id}))(t).GetConversationId()
	}
	return id
}

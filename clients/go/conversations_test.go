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
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

var rome = &parley.Conversation{
	ConversationId: "c", Title: "Rome", Labels: map[string]string{"project": "trip"}, Instructions: "Be brief.", Revision: 2,
}

// Fails without a request id: a try whose response is lost could then make a second conversation.
func TestCreationIsRetriedUnderTheSameRequestID(t *testing.T) {
	created := &parley.CreateConversationResponse{Conversation: rome, Replayed: true}
	server := aScript(t, drained, sends(created))
	request := &parley.CreateConversationRequest{Title: "Rome", Labels: rome.Labels, Instructions: "Be brief."}
	response := must(aClient(t, server.address).CreateConversation(t.Context(), request))(t)

	want(t, true, proto.Equal(created, response))
	want(t, "", request.GetRequestId()) // the caller's own request stays as it is
	want(t, 2, len(server.asked()))
	request.RequestId = server.asked()[0].(*parley.CreateConversationRequest).GetRequestId()
	must(uuid.Parse(request.RequestId))(t)
	for _, asked := range server.asked() {
		want(t, true, proto.Equal(request, asked))
	}
	want(t, true, server.safe[0]) // proxies may send it again
}

func TestCreationKeepsTheCallersIDs(t *testing.T) {
	exists := step{refuses: &refusal{
		code: codes.AlreadyExists, reason: parley.ReasonConversationExists, metadata: map[string]string{"conversation_id": "c"},
	}}
	server := aScript(t, exists)
	request := &parley.CreateConversationRequest{ConversationId: "c", RequestId: "trip-7"}
	_, err := aClient(t, server.address).CreateConversation(t.Context(), request)

	failure := wantFailure(t, parley.ReasonConversationExists, err)
	want(t, codes.AlreadyExists, failure.Code)
	want(t, "c", failure.Metadata["conversation_id"])
	want(t, "trip-7", failure.RequestID)
	want(t, false, failure.Retryable())
	want(t, 1, len(server.asked()))
	want(t, true, proto.Equal(request, server.asked()[0]))
}

func TestAConversationIsReadChangedAndBroughtBack(t *testing.T) {
	read := sends(&parleyv1.GetConversationResponse{Conversation: rome})
	changed := sends(&parleyv1.UpdateConversationResponse{Conversation: rome})
	back := sends(&parleyv1.UndeleteConversationResponse{Conversation: rome})
	server := aScript(t, drained, read, drained, changed, drained, back) // each is tried again
	client := aClient(t, server.address)
	toRead := &parley.GetConversationRequest{ConversationId: "c"}
	toChange := &parley.UpdateConversationRequest{
		ConversationId: "c", UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"title", "labels"}}, Title: "Rome",
		ExpectedRevision: new(int64(1)),
	}
	toBringBack := &parley.UndeleteConversationRequest{ConversationId: "c"}

	want(t, true, proto.Equal(rome, must(client.GetConversation(t.Context(), toRead))(t)))
	want(t, true, proto.Equal(rome, must(client.UpdateConversation(t.Context(), toChange))(t)))
	want(t, true, proto.Equal(rome, must(client.UndeleteConversation(t.Context(), toBringBack))(t)))
	for n, request := range []proto.Message{toRead, toRead, toChange, toChange, toBringBack, toBringBack} {
		want(t, true, proto.Equal(request, server.asked()[n]))
	}
}

func TestAnotherRevisionNeedsADecision(t *testing.T) {
	server := aScript(t, step{refuses: &refusal{
		code: codes.Aborted, reason: parley.ReasonRevisionMismatch, metadata: map[string]string{"revision": "7"},
	}})
	request := &parley.UpdateConversationRequest{ConversationId: "c", Title: "Rome", ExpectedRevision: new(int64(6))}
	conversation, err := aClient(t, server.address).UpdateConversation(t.Context(), request)

	failure := wantFailure(t, parley.ReasonRevisionMismatch, err)
	want(t, 7, failure.Revision())
	want(t, 0, failure.LastSequence())
	want(t, false, failure.Retryable())
	want(t, nil, conversation)
	want(t, 1, len(server.asked()))
}

func TestDeletionTellsUntilWhenTheConversationCanBeBroughtBack(t *testing.T) {
	deleted := &parley.DeleteConversationResponse{PurgeTime: timestamppb.New(time.Unix(1800000000, 0))}
	server := aScript(t, sends(deleted))
	request := &parley.DeleteConversationRequest{ConversationId: "c", AllowMissing: true}
	response := must(aClient(t, server.address).DeleteConversation(t.Context(), request))(t)

	want(t, true, proto.Equal(deleted, response))
	want(t, true, proto.Equal(request, server.asked()[0]))
}

// Fails when gRPC makes the further tries: the last one's NOT_FOUND is then all that is known.
func TestDeletionIsNoErrorOnceATryOfItMayHaveDeleted(t *testing.T) {
	server := aScript(t, drained, drained, notFound)
	losses := 0
	client := aClient(t, server.address, parley.WithRetryHook(func(_ context.Context, err *parley.Error) {
		want(t, true, errors.Is(err, parley.ReasonWorkerDrained))
		losses++
	}))
	response := must(client.DeleteConversation(t.Context(), &parley.DeleteConversationRequest{ConversationId: "c"}))(t)

	want(t, true, proto.Equal(&parley.DeleteConversationResponse{}, response))
	want(t, 3, len(server.asked()))
	want(t, 2, losses)

	// Another call has no try before it.
	_, err := client.DeleteConversation(t.Context(), &parley.DeleteConversationRequest{ConversationId: "c"})
	wantFailure(t, parley.ReasonConversationNotFound, err)
	want(t, 4, len(server.asked()))
}

// The conversation is deleted, and the connection cut before the caller knows.
func TestDeletionWhoseResponseIsLostSucceeds(t *testing.T) {
	server := aScript(t, hangs, notFound)
	wire := aWire(t, server.address)
	go func() {
		<-server.came
		wire.cut()
	}()
	must(aClient(t, wire.address).DeleteConversation(t.Context(), &parley.DeleteConversationRequest{ConversationId: "c"}))(t)
	want(t, 2, len(server.asked()))
}

func TestTriesOfADeletionAreBounded(t *testing.T) {
	for expected, each := range map[int]step{5: drained, 1: longWait} {
		server := aScript(t, each)
		_, err := aClient(t, server.address).DeleteConversation(t.Context(), &parley.DeleteConversationRequest{})
		wantFailure(t, each.refuses.reason, err)
		want(t, expected, len(server.asked()))
	}
}

// Fails when gRPC's tries to reach a server, of which each may take some time, are multiplied by the client's.
func TestADeletionThatReachesNoServerIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	client := aClient(t, "127.0.0.1:1", parley.WithRetryHook(func(context.Context, *parley.Error) {
		t.Error("no server has seen the call")
	}))
	_, err := client.DeleteConversation(t.Context(), &parley.DeleteConversationRequest{})
	want(t, codes.Unavailable, status.Code(err))
}

func TestDeletionIsTriedAgainOnAnyConnection(t *testing.T) {
	server := aScript(t, drained, notFound)
	conn := must(grpc.NewClient(server.address, grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
	defer conn.Close()
	client := must(parley.NewFromConn(conn))(t) // without the service config
	must(client.DeleteConversation(t.Context(), &parley.DeleteConversationRequest{ConversationId: "c"}))(t)
	want(t, 2, len(server.asked()))
}

func TestConversationsAreListedByLabelsAndTimeOnEveryPage(t *testing.T) {
	first := &parley.ListConversationsResponse{Conversations: []*parley.Conversation{rome}, NextPageToken: "more"}
	empty := &parley.ListConversationsResponse{NextPageToken: "still more"}
	last := &parley.ListConversationsResponse{Conversations: []*parley.Conversation{rome}}
	server := aScript(t, sends(first), sends(empty), sends(last))
	request := &parley.ListConversationsRequest{
		Labels: []string{"project=trip", "stage=draft"}, UpdatedAfter: timestamppb.New(time.Unix(1700000000, 0)),
	}
	conversations := must(gathered(aClient(t, server.address).ListConversations(t.Context(), request)))(t)

	want(t, 2, len(conversations))
	want(t, true, proto.Equal(request, server.asked()[0]))
	request.PageToken = "more"
	want(t, true, proto.Equal(request, server.asked()[1]))
	request.PageToken = "still more"
	want(t, true, proto.Equal(request, server.asked()[2]))
}

func TestTextsOfAConversationAreUTF8(t *testing.T) {
	client := aClient(t, "127.0.0.1:1")
	wrong := map[string]string{"a": "\xff", "\xff": "b"}
	_, created := client.CreateConversation(t.Context(),
		&parley.CreateConversationRequest{RequestId: "r", Title: "\xff", Labels: wrong, Instructions: "\xff"})
	_, changed := client.UpdateConversation(t.Context(),
		&parley.UpdateConversationRequest{Title: "\xff", Labels: wrong, Instructions: "\xff"})
	for _, err := range []error{created, changed} {
		fields := []string{}
		for _, violation := range wantFailure(t, parley.ReasonInvalidRequest, err).Violations {
			fields = append(fields, violation.Field)
		}
		wantAll(t, []string{"title", "instructions", "labels"}, fields)
		want(t, false, strings.Contains(err.Error(), "\xff"))
	}
	want(t, "r", wantFailure(t, parley.ReasonInvalidRequest, created).RequestID)
}

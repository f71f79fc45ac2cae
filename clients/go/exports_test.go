package parley_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

// Fails when an export goes on from anything but the last part delivered, or gives up while it comes further.
func TestAnExportBringsEveryPartOnceThroughLosses(t *testing.T) {
	server := aScript(t,
		drained,
		expired.after(aConversationPart("c1"), aMessagePart("c2")),
		full,
		sends(aMessagePart("c3")), // cut short
		drained.after(aConversationPart("c4")),
		sends(aMessagePart("c5"), theEnd()),
	)
	request := &parley.ExportConversationsRequest{Cursor: "c0"}
	losses := 0
	client := aClient(t, server.address, parley.WithRetryHook(func(context.Context, *parley.Error) { losses++ }))
	parts := must(gathered(client.ExportConversations(t.Context(), request)))(t)

	came, from := []string{}, []string{}
	for _, part := range parts {
		came = append(came, part.GetCursor())
	}
	for _, asked := range server.asked() {
		from = append(from, asked.(*parley.ExportConversationsRequest).GetCursor())
	}
	wantAll(t, []string{"c1", "c2", "c3", "c4", "c5", "end"}, came)
	wantAll(t, []string{"c0", "c0", "c2", "c2", "c3", "c4"}, from)
	want(t, true, parts[5].GetDone() != nil)
	want(t, 5, losses)
	want(t, "c0", request.GetCursor()) // the caller's own request stays as it is
}

// Fails when gRPC begins an export again on its own: it knows no cursor, so that parts would come twice.
func TestGRPCDoesNotRepeatAnExport(t *testing.T) {
	server := aScript(t, drained, sends(theEnd()))
	conn := must(grpc.NewClient(server.address, grpc.WithDefaultServiceConfig(parley.ServiceConfig),
		grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
	defer conn.Close()
	losses := 0
	hook := parley.WithRetryHook(func(context.Context, *parley.Error) { losses++ })
	must(gathered(must(parley.NewFromConn(conn, hook))(t).ExportConversations(t.Context(), nil)))(t)
	want(t, 1, losses)
	want(t, 2, len(server.asked()))
}

// The connection breaks while parts come, and the next call has to find what was not delivered.
func TestAnExportGoesOnAfterACutConnection(t *testing.T) {
	server := aScript(t, hangs.after(aConversationPart("c1")), sends(aMessagePart("c2"), theEnd()))
	wire := aWire(t, server.address)
	came := []string{}
	for part, err := range aClient(t, wire.address).ExportConversations(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if came = append(came, part.GetCursor()); len(came) == 1 {
			wire.cut()
		}
	}
	wantAll(t, []string{"c1", "c2", "end"}, came)
	want(t, "c1", server.asked()[1].(*parley.ExportConversationsRequest).GetCursor())
}

// Fails when the status that follows the last part is told, or the last part waits for another call.
func TestAnExportEndsWithItsLastPart(t *testing.T) {
	for _, end := range []step{drained, sends()} {
		server := aScript(t, end.after(theEnd()))
		parts := must(gathered(aClient(t, server.address).ExportConversations(t.Context(), nil)))(t)
		want(t, 1, len(parts))
		want(t, 1, len(server.asked()))
	}
}

func TestAnExportFromAnotherCursorIsAnError(t *testing.T) {
	wrong := refuses(codes.InvalidArgument, parley.ReasonInvalidPageToken)
	for expected, steps := range map[int][]step{0: {wrong}, 1: {drained.after(aConversationPart("c1")), wrong}} {
		parts, err := gathered(aClient(t, aScript(t, steps...).address).ExportConversations(t.Context(), nil))
		wantFailure(t, parley.ReasonInvalidPageToken, err)
		want(t, expected, len(parts))
	}
}

// Tries are counted from one again after each part, and end.
func TestTriesOfAnExportAreBounded(t *testing.T) {
	t.Parallel()
	for expected, steps := range map[int][]step{
		5: {drained},
		8: {drained.after(aConversationPart("c1")), drained},
	} {
		server := aScript(t, steps...)
		_, err := gathered(aClient(t, server.address).ExportConversations(t.Context(), nil))
		wantFailure(t, parley.ReasonWorkerDrained, err)
		want(t, expected, len(server.asked()))
	}
}

func TestLeavingAnExportEndsTheCall(t *testing.T) {
	server := aScript(t, hangs.after(aConversationPart("c1")))
	for range aClient(t, server.address).ExportConversations(t.Context(), nil) {
		break
	}
	server.wantCallerGone(t)
}

func TestAnExportEndsWithItsContext(t *testing.T) {
	server := aScript(t, hangs.after(aConversationPart("c1")))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ended error
	for _, err := range aClient(t, server.address).ExportConversations(ctx, nil) {
		cancel()
		ended = err
	}
	want(t, true, errors.Is(ended, context.Canceled))
}

func aConversationPart(cursor string) proto.Message {
	item := &parleyv1.ExportConversationsResponse_Conversation{Conversation: rome}
	return &parley.ExportConversationsResponse{Item: item, Cursor: cursor, ConversationId: "c"}
}

func aMessagePart(cursor string) proto.Message {
	item := &parleyv1.ExportConversationsResponse_Message{Message: history[0]}
	return &parley.ExportConversationsResponse{Item: item, Cursor: cursor, ConversationId: "c"}
}

func theEnd() proto.Message {
	item := &parleyv1.ExportConversationsResponse_Done{Done: &parleyv1.ExportDone{}}
	return &parley.ExportConversationsResponse{Item: item, Cursor: "end"}
}

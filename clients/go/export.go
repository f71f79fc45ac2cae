package parley

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"parley.dev/go/parleyv1"
)

// ExportConversations iterates over everything that the caller has stored: each conversation, followed by its messages.
//
// Parts: GetConversation (the next one, with its instructions), GetMessage (the next one of that conversation) and
// GetDone (the last part: everything has arrived). Each has a Cursor; a request with it continues behind that part, such
// as after a crash of your own.
//
// Every part arrives once, in order. An export continues behind the last part by itself when it expires, when a worker
// or a connection is lost, and while the server is full: up to 5 failed tries, 8 once parts have arrived, until the
// context ends. An error comes last, in place of GetDone; [ReasonInvalidPageToken]: the request's Cursor is not one of
// the caller's. Leaving the loop ends the export.
func (c *Client) ExportConversations(
	ctx context.Context, request *ExportConversationsRequest,
) iter.Seq2[*ExportConversationsResponse, error] {
	return func(yield func(*ExportConversationsResponse, error) bool) {
		tries := newTries(exported)
		export := &exportStream{stub: c.stub, tries: tries, request: &ExportConversationsRequest{}}
		proto.Merge(export.request, request)
		follow(ctx, c, export, tries, "")(yield)
	}
}

// exportStream is one export, over all calls that it takes.
type exportStream struct {
	stub    parleyv1.ConversationServiceClient
	tries   *tries
	request *ExportConversationsRequest
	over    bool
}

func (s *exportStream) call(ctx context.Context) (grpc.ServerStreamingClient[ExportConversationsResponse], error) {
	return s.stub.ExportConversations(ctx, s.request)
}

// longestCall is that of a watch: the server ends both after the same time.
func (s *exportStream) longestCall() time.Duration { return longestWatchCall }

func (s *exportStream) takes(part *ExportConversationsResponse) bool {
	s.tries.cameFurther()
	s.request.Cursor = part.GetCursor()
	s.over = part.GetDone() != nil
	return true
}

func (s *exportStream) isOver() bool { return s.over }

package parley

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"parley.dev/go/parleyv1"
)

// WatchTurns iterates over every turn of the caller that ends or begins to wait: first those that did behind the request's
// AfterCursor, or since the oldest one that is kept, then new ones, until the context ends. With AllOwners they are those
// of all users of the token's tenant, and the token has to name the scope parley.observe.
//
// Updates: GetTurn (a turn that ended, or is [TurnWaiting]; with AllOwners, User says whose) and GetProgress (all of them
// have been told; also every minute). Each has a Cursor: store it once the update is handled, and a request with it
// continues behind that update, such as after a crash of your own.
//
// Every end comes once, in order; a turn that is run again after it failed has one for each attempt. A watch continues
// behind the last update by itself when it expires, when a worker or a connection is lost, and while the server is full;
// it waits up to 3 seconds between tries, or as long as the server asks.
//
// An error comes last: one that retrying cannot fix, the end of the context, or one that prevents the watch from
// starting. [ReasonCursorExpired]: turns behind the cursor may have been removed; [Error.OldestTime] says since when they
// are kept. [ReasonInvalidPageToken]: AfterCursor is not one of this feed's.
func (c *Client) WatchTurns(ctx context.Context, request *WatchTurnsRequest) iter.Seq2[*WatchTurnsResponse, error] {
	return func(yield func(*WatchTurnsResponse, error) bool) {
		tries := newTries(watched)
		feed := &feedStream{stub: c.stub, tries: tries, request: &WatchTurnsRequest{}}
		proto.Merge(feed.request, request)
		follow(ctx, c, feed, tries, "")(yield)
	}
}

// feedStream is one feed, over all calls that it takes.
type feedStream struct {
	stub    parleyv1.ConversationServiceClient
	tries   *tries
	request *WatchTurnsRequest
}

func (s *feedStream) call(ctx context.Context) (grpc.ServerStreamingClient[WatchTurnsResponse], error) {
	return s.stub.WatchTurns(ctx, s.request)
}

func (s *feedStream) longestCall() time.Duration { return longestWatchCall }

func (s *feedStream) takes(update *WatchTurnsResponse) bool {
	s.tries.cameFurther()
	s.request.AfterCursor = update.GetCursor()
	return true
}

// isOver is false for ever: a feed has no last update.
func (s *feedStream) isOver() bool { return false }

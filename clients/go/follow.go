package parley

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// stream is one stream, over all calls that it takes: it knows how far it has come and what to ask for
// next.
type stream[Event any] interface {
	// call makes the next call, from where the one before was lost.
	call(ctx context.Context) (grpc.ServerStreamingClient[Event], error)
	// longestCall is how long one call may last; 0: as long as the context.
	longestCall() time.Duration
	// takes notes an event, and says whether it is news for the iteration.
	takes(event *Event) bool
	// isOver says whether the last event has come.
	isOver() bool
}

// follow iterates over a stream's events, with every call that it takes.
func follow[Event any](
	ctx context.Context, c *Client, stream stream[Event], tries *tries, requestID string,
) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		for {
			hadEnough, err := followOnce(ctx, c, stream, requestID, yield)
			if hadEnough || stream.isOver() {
				return
			}
			if failure, isOfTheCall := err.(*Error); isOfTheCall { // and does not come from within a TokenSource's
				err = c.again(ctx, tries, failure)
			} else {
				err = c.againWithToken(ctx, tries, err, requestID)
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// followOnce iterates over the events of one call, which is cancelled when it returns: the iteration was
// left, or the call has ended and this changes nothing.
func followOnce[Event any](
	ctx context.Context, c *Client, stream stream[Event], requestID string, yield func(*Event, error) bool,
) (hadEnough bool, err error) {
	callCtx, cancel := atMost(ctx, stream.longestCall())
	defer cancel()
	callCtx, err = c.authorized(callCtx)
	if err != nil {
		return false, err
	}
	callCtx, leave := c.whileOpen(callCtx)
	defer leave()
	call, err := stream.call(callCtx)
	if err != nil {
		return false, c.errorFrom(ctx, err, nil, requestID)
	}
	for {
		event, err := call.Recv()
		switch {
		case errors.Is(err, io.EOF):
			const text = "the stream ended before its last event"
			return false, ownError(codes.Unavailable, "", requestID, text)
		case err != nil:
			return false, c.errorFrom(ctx, err, call.Trailer(), requestID)
		case stream.takes(event) && !yield(event, nil):
			return true, nil
		}
	}
}

// atMost returns a context that ends after so long at the latest; 0: when the one it comes from does.
func atMost(ctx context.Context, longest time.Duration) (context.Context, context.CancelFunc) {
	if longest == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, longest)
}

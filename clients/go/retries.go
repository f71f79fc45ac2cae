package parley

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
)

// gRPC repeats a call that ended UNAVAILABLE before anything had come, as the service config says. The
// rest is here. A turn that another worker took over ends ABORTED: gRPC may not repeat that, since most
// of what is ABORTED needs a decision, but ReasonLeaseLost needs none. A stream is lost in its middle,
// where gRPC cannot help; a proxy resets one whose server it has lost, which gRPC calls INTERNAL. All of it is safe because of the request id: there is one turn for it. What deletes
// a conversation has none, and has to know of its earlier tries, of which gRPC does not tell.
const (
	maxTries = 5
	// Of a turn or an export that has begun to arrive: patience for a server that restarts.
	maxTriesUnderWay = 8
	// Of a watch whose token source fails: about five minutes. The server may be away for longer, but of a source that
	// fails for so long, its owner has to know.
	maxTriesForToken = 100
	defaultPause     = 200 * time.Millisecond
	longestPause     = 3 * time.Second
)

// kind says how patient a call's tries are.
type kind int

const (
	unary     kind = iota
	unaryOnce      // gRPC sends it once
	streamed
	rehearsed // not at all, once it has begun: nothing of it is stored
	exported
	watched // for ever, once it has begun
)

// tries are those of one call, under its context's deadline.
type tries struct {
	kind       kind
	count      int
	isUnderWay bool
	tokenless  int // in how many a token source has failed since something has come
}

func newTries(kind kind) *tries { return &tries{kind: kind, count: 1} }

// cameFurther notes that something new has arrived, and starts counting tries from zero.
func (t *tries) cameFurther() { t.isUnderWay, t.count, t.tokenless = true, 1, 0 }

// waitForToken notes that a token source has failed, and says whether that is taken as a server that is away. Before
// anything has come it is not: the caller learns at once what is wrong with the source.
func (t *tries) waitForToken() bool {
	t.tokenless++
	return t.isUnderWay && t.tokenless < maxTriesForToken
}

// pause says how long to wait before the next try; false: the error stands.
func (t *tries) pause(ctx context.Context, err *Error) (time.Duration, bool) {
	pause := t.wantedPause(err)
	if t.isPushedBack(err) || !t.isWorthIt(err) || ctx.Err() != nil {
		return 0, false
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return 0, false
	}
	t.count++
	return pause, true
}

// wantedPause is no less than the server asks for. It grows with every try in vain, but not for a turn that
// another worker has taken over: that one is there.
func (t *tries) wantedPause(err *Error) time.Duration {
	if t.kind == unary {
		if err.RetryAfter > 0 {
			return err.RetryAfter
		}
		return defaultPause
	}
	doublings := min(t.count-1, 9) // a watch has no end of tries
	backoff := min(longestPause, defaultPause<<doublings)
	spread := 0.8 + 0.4*rand.Float64() // so that not all streams of a lost worker come back at once
	return max(time.Duration(math.Round(float64(backoff)*spread)), err.RetryAfter)
}

// isPushedBack says whether the server asks that nothing be retried. What has no deadline waits as long as it takes.
func (t *tries) isPushedBack(err *Error) bool {
	hasNoEnd := t.kind == watched || t.kind == exported
	return err.PushedBack && !(hasNoEnd && t.isUnderWay)
}

func (t *tries) isWorthIt(err *Error) bool {
	isGone := err.Code == codes.Unavailable
	isReset := err.Code == codes.Internal && err.Reason == "" // Parley's own errors have a reason
	isLost := isGone || isReset || err.Reason == ReasonLeaseLost
	// The worker that drains hands all its streams to the others, all at once.
	isFull := err.Reason == ReasonOverloaded || err.Reason == ReasonTurnLimitReached
	switch {
	case t.kind == unary:
		return err.Reason == ReasonLeaseLost && t.count < maxTries
	case t.kind == unaryOnce:
		return isGone && t.count < maxTries
	case !t.isUnderWay:
		return isLost && t.count < maxTries
	case t.kind == rehearsed:
		return false
	case t.kind == streamed:
		return (isLost || isFull) && t.count < maxTriesUnderWay
	default: // the server ends a call whose caller has rested for too long with DEADLINE_EXCEEDED
		// A reset that always comes at the same place is no loss: a watch tells it, too.
		hasNoEnd := t.kind == watched && !isReset
		return (isLost || isFull || err.Code == codes.DeadlineExceeded) && (hasNoEnd || t.count < maxTriesUnderWay)
	}
}

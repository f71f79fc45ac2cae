package parley

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

var gone = &Error{Code: codes.Unavailable}

func TestTriesOfAStreamWaitLongerEachTimeAndAreCountedAnew(t *testing.T) {
	tries := newTries(streamed)
	for _, most := range []int{maxTries, maxTriesUnderWay} {
		for n := range most - 1 {
			wanted := min(longestPause, defaultPause<<n)
			pause, ok := tries.pause(context.Background(), gone)
			if !ok || pause < wanted*8/10 || pause > wanted*12/10 {
				t.Errorf("expected about %v, observed %v, %v", wanted, pause, ok)
			}
		}
		if _, ok := tries.pause(context.Background(), gone); ok {
			t.Errorf("expected an end after %d tries", most)
		}
		tries.cameFurther()
	}
}

func TestTriesOfAStreamWaitAtLeastAsLongAsTheServerAsks(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tries := newTries(streamed)
	if pause, ok := tries.pause(ctx, &Error{Code: codes.Unavailable, RetryAfter: 2500 * time.Millisecond}); !ok || pause != 2500*time.Millisecond {
		t.Errorf("expected 2.5s, observed %v, %v", pause, ok)
	}
	if _, ok := tries.pause(ctx, &Error{Code: codes.Unavailable, RetryAfter: 10 * time.Second}); ok {
		t.Error("expected no try after the deadline")
	}
}

func TestAFullServerIsWaitedForOnlyOnceSomethingHasCome(t *testing.T) {
	full := &Error{Code: codes.ResourceExhausted, Reason: ReasonOverloaded}
	for _, kind := range []kind{streamed, watched} {
		tries := newTries(kind)
		if _, ok := tries.pause(t.Context(), full); ok {
			t.Error("expected no try before anything has come")
		}
		tries.cameFurther()
		if _, ok := tries.pause(t.Context(), full); !ok {
			t.Error("expected another try once something has come")
		}
	}
}

func TestAWatchThatNeverBeganIsGivenUp(t *testing.T) {
	tries := newTries(watched)
	made := 1
	for ; made < 100; made++ {
		if _, ok := tries.pause(t.Context(), gone); !ok {
			break
		}
	}
	if made != maxTries {
		t.Errorf("expected %d tries, observed %d", maxTries, made)
	}
}

func TestAWatchThatBeganGoesOnForEverAndNotTooOften(t *testing.T) {
	tries := newTries(watched)
	tries.cameFurther()
	late, later := &Error{Code: codes.DeadlineExceeded}, &Error{Code: codes.Unavailable, PushedBack: true}
	for n := range 100 {
		pause, ok := tries.pause(t.Context(), []*Error{gone, late, later}[n%3])
		if !ok || n > 10 && pause < longestPause*8/10 || pause > longestPause*12/10 {
			t.Fatalf("after %d tries: observed %v, %v", n, pause, ok)
		}
	}
}

// A proxy resets a stream whose server it has lost; one that gets no further will not get further.
func TestAResetStreamIsTriedAgainAndAWatchNotForEver(t *testing.T) {
	reset, defect := &Error{Code: codes.Internal}, &Error{Code: codes.Internal, Reason: ReasonInternal}
	for _, kind := range []kind{streamed, exported, watched} {
		tries := newTries(kind)
		tries.cameFurther()
		if _, ok := tries.pause(t.Context(), defect); ok {
			t.Errorf("%v: expected no try after a defect", kind)
		}
		for n := range maxTriesUnderWay {
			if _, ok := tries.pause(t.Context(), reset); ok != (n < maxTriesUnderWay-1) {
				t.Errorf("%v: after %d tries: observed %v", kind, n+1, ok)
			}
		}
	}
	if _, ok := newTries(unary).pause(t.Context(), reset); ok {
		t.Error("expected no other try of a call for a single response")
	}
}

func TestWhatIsOnThisMachine(t *testing.T) {
	for address, expected := range map[string]bool{
		"127.0.0.1:50051": true, "localhost:1": true, "localhost": true, "[::1]:1": true, "127.9.9.9": true,
		"unix:/run/parley.sock": true, "dns:///localhost:1": true, "dns://8.8.8.8/127.0.0.1:1": true,
		"parley.internal:443": false, "10.0.0.1:1": false, "dns:///parley.internal": false,
		"localhost.example:1": false, "dns://127.0.0.1/parley.internal:1": false, "[2001:db8::1]:1": false, "": false,
	} {
		if observed := isOnThisMachine(address); observed != expected {
			t.Errorf("%q: expected %v, observed %v", address, expected, observed)
		}
	}
}

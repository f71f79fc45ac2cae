package parley_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	parley "parley.dev/go"
)

// Fails when a wait goes on, and with it a call that nobody waits for any more: gRPC's own wait is one of them.
func TestClosingAClientEndsItsCalls(t *testing.T) {
	chat := func(client *parley.Client) error {
		_, err := client.Chat(t.Context(), &parley.ChatRequest{Message: "hello", RequestId: "r"})
		return err
	}
	stream := func(client *parley.Client) error {
		_, err := gathered(client.Stream(t.Context(), &parley.ChatRequest{Message: "hello", RequestId: "r"}))
		return err
	}
	erase := func(client *parley.Client) error {
		_, err := client.EraseOwnerAndWait(t.Context(), &parley.EraseOwnerRequest{RequestId: "r"})
		return err
	}
	inAMinute := func(code codes.Code, reason parley.Reason) step {
		return step{refuses: &refusal{code: code, reason: reason, retry: time.Minute}}
	}
	for name, under := range map[string]struct {
		step step
		call func(*parley.Client) error
	}{
		"a chat under way":                   {hangs, chat},
		"a stream under way":                 {hangs, stream},
		"a chat between two tries":           {inAMinute(codes.Aborted, parley.ReasonLeaseLost), chat},
		"a chat between two tries of gRPC's": {inAMinute(codes.Unavailable, parley.ReasonWorkerDrained), chat},
		"a stream between two tries":         {inAMinute(codes.Unavailable, parley.ReasonWorkerDrained), stream},
		"an erasure":                         {sends(&parley.EraseOwnerResponse{State: parley.ErasureRunning}), erase},
	} {
		t.Run(name, func(t *testing.T) {
			server := aScript(t, under.step)
			client := aClient(t, server.address)
			ended := make(chan error, 1)
			go func() { ended <- under.call(client.ActingFor("eve")) }()
			<-server.came
			time.Sleep(100 * time.Millisecond) // it waits for what comes next
			want(t, nil, client.Close())
			select {
			case err := <-ended:
				var failure *parley.Error
				want(t, true, errors.As(err, &failure))
				want(t, codes.Canceled, failure.Code)
				want(t, "the client was closed", failure.Message)
				want(t, "r", failure.RequestID)
				want(t, false, errors.Is(err, context.Canceled)) // that is the end of the caller's own context
			case <-time.After(10 * time.Second):
				t.Fatal("the call goes on")
			}
			want(t, 1, len(server.asked()))
		})
	}
}

func TestACallOfAClosedClientIsNotMade(t *testing.T) {
	server := aScript(t, sends(anAnswer("HELLO")))
	client := aClient(t, server.address)
	want(t, nil, client.Close())
	_, err := client.Chat(t.Context(), &parley.ChatRequest{Message: "hello"})
	var failure *parley.Error
	want(t, true, errors.As(err, &failure))
	want(t, "the client was closed", failure.Message)
	want(t, 0, len(server.asked()))
}

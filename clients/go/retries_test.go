package parley_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/protoadapt"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

// Fails without the service config: gRPC then retries nothing.
func TestChatIsRetriedUnderTheSameRequestID(t *testing.T) {
	server := aScript(t, drained, leaseLost, drained, sends(anAnswer("HELLO")))
	told := atomic.Int32{}
	client := aClient(t, server.address, parley.WithRetryHook(func(_ context.Context, err *parley.Error) {
		want(t, true, errors.Is(err, parley.ReasonLeaseLost))
		told.Add(1)
	}))
	answer := must(client.Chat(t.Context(), &parley.ChatRequest{Message: "hello"}))(t)

	want(t, "HELLO", answer.GetResponse())
	want(t, 4, len(server.asked()))
	want(t, 1, told.Load()) // gRPC's own retries are not told
	for _, request := range server.asked() {
		want(t, answer.RequestID, request.(*parley.ChatRequest).GetRequestId())
	}
}

// Fails with gRPC's own limit of 256 KiB for what it repeats.
func TestARequestOfAnySizeIsRetried(t *testing.T) {
	server := aScript(t, drained, drained, sends(anAnswer("HELLO")))
	long := strings.Repeat("a", 1<<20)
	answer := must(aClient(t, server.address).Chat(t.Context(), &parley.ChatRequest{Message: long}))(t)

	want(t, "HELLO", answer.GetResponse())
	want(t, 3, len(server.asked()))
}

// Fails when every try asks for it: proxies would repeat repeated calls.
func TestFirstTryOfAChatTellsProxiesThatItMayBeSentAgain(t *testing.T) {
	server := aScript(t, leaseLost, sends(anAnswer("HELLO")))
	must(aClient(t, server.address).Chat(t.Context(), &parley.ChatRequest{Message: "hello"}))(t)

	want(t, "[true false]", fmt.Sprint(server.safe))
}

func TestRetriesAreBounded(t *testing.T) {
	for _, each := range []step{drained, leaseLost} {
		server := aScript(t, each)
		_, err := aClient(t, server.address).Chat(t.Context(), &parley.ChatRequest{Message: "hello"})
		failure := wantFailure(t, each.refuses.reason, err)
		want(t, 5, len(server.asked()))
		want(t, "because the test says so", failure.Message)
		want(t, 10*time.Millisecond, failure.RetryAfter)
	}
}

func TestWhatNeedsADecisionIsNotRetried(t *testing.T) {
	busy := refuses(codes.Aborted, parley.ReasonTurnInProgress)
	limited := refuses(codes.ResourceExhausted, parley.ReasonTurnLimitReached)
	for _, each := range []step{busy, full, limited, longWait, refuses(codes.NotFound, parley.ReasonConversationNotFound)} {
		server := aScript(t, each)
		client := aClient(t, server.address)
		_, chatted := client.Chat(t.Context(), &parley.ChatRequest{Message: "hello", RequestId: "r"})
		_, streamed := gathered(client.Stream(t.Context(), &parley.ChatRequest{Message: "hello", RequestId: "r"}))
		for _, err := range []error{chatted, streamed} {
			failure := wantFailure(t, each.refuses.reason, err)
			want(t, "r", failure.RequestID)
			want(t, each.refuses.pushback == "-1", failure.PushedBack)
		}
		want(t, 2, len(server.asked()))
	}
}

func TestARetryThatWouldComeTooLateIsNotMade(t *testing.T) {
	server := aScript(t, step{refuses: &refusal{code: codes.Aborted, reason: parley.ReasonLeaseLost, retry: time.Hour}})
	_, err := aClient(t, server.address).Chat(t.Context(), &parley.ChatRequest{Message: "hello"})
	want(t, time.Hour, wantFailure(t, parley.ReasonLeaseLost, err).RetryAfter)
	want(t, 1, len(server.asked()))
}

func TestAContextThatEndsBetweenTwoTriesEndsTheCall(t *testing.T) {
	server := aScript(t, step{refuses: &refusal{code: codes.Aborted, reason: parley.ReasonLeaseLost, retry: time.Minute}})
	ctx, cancel := context.WithCancel(t.Context())
	client := aClient(t, server.address, parley.WithRetryHook(func(context.Context, *parley.Error) { cancel() }))
	_, err := client.Chat(ctx, &parley.ChatRequest{Message: "hello", RequestId: "r"})

	var failure *parley.Error
	want(t, true, errors.As(err, &failure) && errors.Is(err, context.Canceled))
	want(t, codes.Canceled, failure.Code)
	want(t, "r", failure.RequestID)
}

func TestErrorsOfOthersAreTypedToo(t *testing.T) {
	named := protoadapt.MessageV1Of(&errdetails.RequestInfo{RequestId: "call-9"})
	for _, each := range []struct {
		refusal *refusal
		reason  parley.Reason
		callID  string
	}{
		{&refusal{code: codes.PermissionDenied, reason: "SCOPE_MISSING", domain: "proxy.example"}, "", ""},
		{&refusal{code: codes.Unimplemented}, "", ""},
		{&refusal{code: codes.FailedPrecondition, reason: "NEWER_THAN_THIS"}, "NEWER_THAN_THIS", ""},
		{&refusal{code: codes.Internal, reason: "INTERNAL", more: []protoadapt.MessageV1{named}}, parley.ReasonInternal, "call-9"},
	} {
		server := aScript(t, step{refuses: each.refusal})
		_, err := aClient(t, server.address).Chat(t.Context(), &parley.ChatRequest{Message: "hello"})
		var failure *parley.Error
		want(t, true, errors.As(err, &failure))
		want(t, each.refusal.code, failure.Code)
		want(t, each.reason, failure.Reason)
		want(t, each.callID, failure.CallID)
		want(t, false, failure.Retryable())
	}
}

func TestAnUnreachableServerIsUnavailable(t *testing.T) {
	t.Parallel()
	client := aClient(t, "127.0.0.1:1")
	_, err := client.GetTurn(t.Context(), &parley.GetTurnRequest{RequestId: "r"})
	var failure *parley.Error
	want(t, true, errors.As(err, &failure))
	want(t, codes.Unavailable, failure.Code)
	want(t, true, failure.Retryable())
	want(t, "r", failure.RequestID)
}

// A reason that the contract gains has to be named here too.
func TestEveryReasonOfTheContractHasAName(t *testing.T) {
	source := string(must(os.ReadFile("reasons.go"))(t))
	for _, name := range parleyv1.ErrorReason_name {
		reason := strings.TrimPrefix(name, "ERROR_REASON_")
		want(t, reason != "UNSPECIFIED", strings.Contains(source, fmt.Sprintf("Reason = %q", reason)))
	}
}

// Fails when the end of a context that an interceptor met first, such as one that limits a rate, is an unknown error.
func TestAContextThatEndsInAnInterceptorEndsTheCall(t *testing.T) {
	limited := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
		<-ctx.Done()
		return fmt.Errorf("waiting for the limit: %w", ctx.Err())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	client := aClient(t, "127.0.0.1:1", parley.WithDialOptions(grpc.WithChainUnaryInterceptor(limited)))
	_, err := client.Chat(ctx, &parley.ChatRequest{Message: "hello"})
	var failure *parley.Error
	want(t, true, errors.As(err, &failure) && errors.Is(err, context.DeadlineExceeded))
	want(t, codes.DeadlineExceeded, failure.Code)
}

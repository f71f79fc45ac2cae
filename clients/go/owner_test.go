package parley_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	parley "parley.dev/go"
)

// Fails when the retry begins another erasure.
func TestAnErasureIsRetriedUnderItsRequestIDAndShowsItsReceipt(t *testing.T) {
	receipt := &parley.EraseOwnerResponse{
		State: parley.ErasureRunning, StartTime: timestamppb.New(time.Unix(1800000000, 0)), Conversations: 1, Messages: 2, Turns: 3,
	}
	server := aScript(t, drained, sends(receipt))
	request := &parley.EraseOwnerRequest{RequestId: "erase-7"}
	response := must(aClient(t, server.address).EraseOwner(t.Context(), request))(t)

	want(t, true, proto.Equal(receipt, response))
	want(t, 2, len(server.asked()))
	for _, asked := range server.asked() {
		want(t, true, proto.Equal(request, asked))
	}
	want(t, true, server.safe[0])
}

func TestAnErasureIsWaitedFor(t *testing.T) {
	t.Parallel()
	running := sends(&parley.EraseOwnerResponse{State: parley.ErasureRunning})
	done := &parley.EraseOwnerResponse{State: parley.ErasureDone, EndTime: timestamppb.New(time.Unix(1800000000, 0))}
	server := aScript(t, running, sends(done))
	request := &parley.EraseOwnerRequest{RequestId: "erase-7"}
	response := must(aClient(t, server.address).EraseOwnerAndWait(t.Context(), request))(t)
	want(t, true, proto.Equal(done, response))
	want(t, 2, len(server.asked()))

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := aClient(t, aScript(t, running).address).EraseOwnerAndWait(ctx, request)
	want(t, true, errors.Is(err, context.DeadlineExceeded))
	var failure *parley.Error
	want(t, true, errors.As(err, &failure))
	want(t, "erase-7", failure.RequestID)
}

func TestAnErasureNeedsItsScope(t *testing.T) {
	server := aScript(t, step{refuses: &refusal{
		code: codes.PermissionDenied, reason: parley.ReasonScopeMissing, metadata: map[string]string{"scope": "parley.erase"},
	}})
	_, err := aClient(t, server.address).EraseOwner(t.Context(), &parley.EraseOwnerRequest{RequestId: "erase-7"})
	failure := wantFailure(t, parley.ReasonScopeMissing, err)
	want(t, "parley.erase", failure.Metadata["scope"])
	want(t, "erase-7", failure.RequestID)
}

func TestUsageIsAskedForByDayAgentAndLabel(t *testing.T) {
	used := &parley.GetUsageResponse{Rows: []*parley.UsageRow{{
		Date: "2026-11-28", Agent: "quick", LabelValue: "trip", Usage: &parley.Usage{InputTokens: 5}, Turns: 1, Attempts: 2,
		FailedAttempts: 1,
	}}}
	server := aScript(t, drained, sends(used))
	request := &parley.GetUsageRequest{
		StartDate: "2026-11-01", EndDate: "2026-11-28", ByAgent: true, ByLabel: "project", Labels: []string{"team=support"},
	}
	response := must(aClient(t, server.address).GetUsage(t.Context(), request))(t)
	want(t, true, proto.Equal(used, response))
	want(t, true, proto.Equal(request, server.asked()[1]))
}

// Fails when a stream waits for midnight, or when the error seems to be final.
func TestABudgetThatIsUsedUpNeedsADecision(t *testing.T) {
	exhausted := step{refuses: &refusal{
		code: codes.ResourceExhausted, reason: parley.ReasonBudgetExhausted, retry: 5 * time.Hour, pushback: "-1",
		metadata: map[string]string{"max_tokens_per_day": "100", "used_tokens": "101", "retry_after_s": "18000"},
	}}
	server := aScript(t, exhausted)
	client := aClient(t, server.address)
	_, chatted := client.Chat(t.Context(), &parley.ChatRequest{Message: "Hello!"})
	_, streamed := gathered(client.Stream(t.Context(), &parley.ChatRequest{Message: "Hello!"}))
	for _, err := range []error{chatted, streamed} {
		failure := wantFailure(t, parley.ReasonBudgetExhausted, err)
		want(t, true, failure.Retryable())
		want(t, 5*time.Hour, failure.RetryAfter)
		want(t, "101", failure.Metadata["used_tokens"])
		want(t, false, errors.Is(err, parley.ReasonTurnLimitReached))
	}
	want(t, 2, len(server.asked()))
}

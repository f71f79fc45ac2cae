package parley_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	parley "parley.dev/go"
)

var history = []*parley.Message{
	{Role: parley.RoleUser, Content: "How far is Rome?", CreateTime: timestamppb.New(time.Unix(1700000000, 0))},
	{Role: parley.RoleAssistant, Content: "Far.", ToolCalls: []*parley.ToolCall{
		{Id: "c1", Name: "distance", Arguments: "{}", Result: "1,200 km"},
	}},
}

// Fails without a request id: a try whose response is lost could then add the messages a second time.
func TestMessagesAreAddedAgainUnderTheSameRequestID(t *testing.T) {
	added := &parley.AppendMessagesResponse{ConversationId: "c", FirstSequence: 3, LastSequence: 4, Replayed: true}
	server := aScript(t, drained, sends(added))
	request := &parley.AppendMessagesRequest{
		ConversationId: "c", Messages: history, AllowMissing: true, ExpectedSequence: new(int64(2)), OnBusy: parley.OnBusyWait,
	}
	response := must(aClient(t, server.address).AppendMessages(t.Context(), request))(t)

	want(t, true, proto.Equal(added, response))
	want(t, "", request.GetRequestId()) // the caller's own request stays as it is
	want(t, 2, len(server.asked()))
	request.RequestId = server.asked()[0].(*parley.AppendMessagesRequest).GetRequestId()
	must(uuid.Parse(request.RequestId))(t)
	for _, asked := range server.asked() {
		want(t, true, proto.Equal(request, asked))
	}
	want(t, true, server.safe[0]) // proxies may send it again
}

// Fails without a request id: a try whose response is lost could then make a second copy.
func TestAForkIsRetriedUnderTheSameRequestID(t *testing.T) {
	forked := &parley.ForkConversationResponse{Conversation: rome, Replayed: true}
	server := aScript(t, drained, sends(forked))
	request := &parley.ForkConversationRequest{ConversationId: "c", NewConversationId: "d", UpToSequence: 4}
	response := must(aClient(t, server.address).ForkConversation(t.Context(), request))(t)

	want(t, true, proto.Equal(forked, response))
	want(t, "", request.GetRequestId())
	want(t, 2, len(server.asked()))
	request.RequestId = server.asked()[0].(*parley.ForkConversationRequest).GetRequestId()
	must(uuid.Parse(request.RequestId))(t)
	for _, asked := range server.asked() {
		want(t, true, proto.Equal(request, asked))
	}
	want(t, true, server.safe[0])
}

// What needs a decision is not sent again, and the error shows the caller's own request id.
func TestWhatIsAddedOrForkedCanBeRefused(t *testing.T) {
	for _, each := range []struct {
		code     codes.Code
		reason   parley.Reason
		metadata map[string]string
		observe  func(*parley.Error) int64
	}{
		{codes.Aborted, parley.ReasonTurnInProgress, nil, (*parley.Error).LastSequence},
		{codes.Aborted, parley.ReasonSequenceMismatch, map[string]string{"last_sequence": "0"}, (*parley.Error).LastSequence},
		{codes.FailedPrecondition, parley.ReasonSequenceNotReached,
			map[string]string{"last_sequence": "7"}, (*parley.Error).LastSequence},
		{codes.FailedPrecondition, parley.ReasonNotATurnBoundary,
			map[string]string{"previous_boundary": "7"}, (*parley.Error).PreviousBoundary},
	} {
		server := aScript(t, step{refuses: &refusal{code: each.code, reason: each.reason, metadata: each.metadata}})
		client := aClient(t, server.address)
		_, added := client.AppendMessages(t.Context(), &parley.AppendMessagesRequest{RequestId: "r", Messages: history})
		_, forked := client.ForkConversation(t.Context(), &parley.ForkConversationRequest{RequestId: "r"})
		for _, err := range []error{added, forked} {
			failure := wantFailure(t, each.reason, err)
			want(t, "r", failure.RequestID)
			want(t, each.reason == parley.ReasonTurnInProgress, failure.Retryable())
			expected := int64(0)
			if each.code == codes.FailedPrecondition {
				expected = 7
			}
			want(t, expected, each.observe(failure))
		}
		want(t, 2, len(server.asked()))
	}
}

// What writes much at once, or waits for a turn, has more time than a read.
func TestWhatWritesMuchHasAMinute(t *testing.T) {
	server := aScript(t, notFound)
	client := aClient(t, server.address, parley.WithReadTimeout(time.Second))
	_, added := client.AppendMessages(t.Context(), &parley.AppendMessagesRequest{})
	_, forked := client.ForkConversation(t.Context(), &parley.ForkConversationRequest{})
	_, erased := client.EraseOwner(t.Context(), &parley.EraseOwnerRequest{})
	for n, err := range []error{added, forked, erased} {
		wantFailure(t, parley.ReasonConversationNotFound, err)
		want(t, time.Minute, server.timeLeft[n].Round(5*time.Second))
	}
}

func TestTextsOfMessagesAreUTF8(t *testing.T) {
	wrong := []*parley.Message{
		{Content: "right"},
		{Content: "\xff", ToolCalls: []*parley.ToolCall{{Name: "right"}, {Name: "\xff", Arguments: "\xff", Result: "\xff"}}},
	}
	request := &parley.AppendMessagesRequest{RequestId: "r", Messages: wrong}
	_, err := aClient(t, "127.0.0.1:1").AppendMessages(t.Context(), request)

	failure, fields := wantFailure(t, parley.ReasonInvalidRequest, err), []string{}
	for _, violation := range failure.Violations {
		fields = append(fields, violation.Field)
	}
	expected := []string{"messages[1].content"}
	for _, name := range []string{"name", "arguments", "result"} {
		expected = append(expected, fmt.Sprintf("messages[1].tool_calls[1].%s", name))
	}
	wantAll(t, expected, fields)
	want(t, "r", failure.RequestID)
	want(t, false, strings.Contains(err.Error(), "\xff"))
}

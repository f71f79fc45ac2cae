package main

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

// conversations is a server that knows one conversation, and shows in it how it was asked.
type conversations struct {
	parleyv1.UnimplementedConversationServiceServer
}

func (conversations) CreateConversation(_ context.Context, asked *parleyv1.CreateConversationRequest) (*parleyv1.CreateConversationResponse, error) {
	created := &parley.Conversation{Title: asked.GetTitle(), Labels: asked.GetLabels(), Instructions: asked.GetInstructions()}
	return &parleyv1.CreateConversationResponse{Conversation: created, Replayed: asked.GetRequestId() == "again"}, nil
}

func (conversations) GetConversation(_ context.Context, asked *parleyv1.GetConversationRequest) (*parleyv1.GetConversationResponse, error) {
	return &parleyv1.GetConversationResponse{Conversation: &parley.Conversation{ConversationId: asked.GetConversationId()}}, nil
}

func (conversations) UpdateConversation(_ context.Context, asked *parleyv1.UpdateConversationRequest) (*parleyv1.UpdateConversationResponse, error) {
	changed := &parley.Conversation{Title: asked.GetTitle(), Labels: map[string]string{}, Revision: asked.GetExpectedRevision()}
	for _, name := range asked.GetUpdateMask().GetPaths() {
		changed.Labels[name] = "given"
	}
	return &parleyv1.UpdateConversationResponse{Conversation: changed}, nil
}

func (conversations) DeleteConversation(_ context.Context, asked *parleyv1.DeleteConversationRequest) (*parleyv1.DeleteConversationResponse, error) {
	if !asked.GetAllowMissing() {
		return nil, status.Error(codes.NotFound, "not there")
	}
	return &parleyv1.DeleteConversationResponse{PurgeTime: &timestamppb.Timestamp{Seconds: 1}}, nil
}

func (conversations) UndeleteConversation(_ context.Context, asked *parleyv1.UndeleteConversationRequest) (*parleyv1.UndeleteConversationResponse, error) {
	return &parleyv1.UndeleteConversationResponse{Conversation: &parley.Conversation{ConversationId: asked.GetConversationId()}}, nil
}

func (conversations) ListConversations(_ context.Context, asked *parleyv1.ListConversationsRequest) (*parleyv1.ListConversationsResponse, error) {
	found := &parley.Conversation{UpdateTime: asked.GetUpdatedAfter()}
	if labels := asked.GetLabels(); len(labels) > 0 {
		found.Title = labels[0]
	}
	return &parleyv1.ListConversationsResponse{Conversations: []*parley.Conversation{found}}, nil
}

func (conversations) WatchConversation(_ *parleyv1.WatchConversationRequest, stream grpc.ServerStreamingServer[parleyv1.WatchConversationResponse]) error {
	deleted := &parleyv1.WatchConversationResponse_Deleted{Deleted: &parleyv1.WatchDeleted{}}
	if err := stream.Send(&parleyv1.WatchConversationResponse{Update: deleted}); err != nil {
		return err
	}
	return status.Error(codes.NotFound, "not there")
}

func (conversations) AppendMessages(_ context.Context, asked *parleyv1.AppendMessagesRequest) (*parleyv1.AppendMessagesResponse, error) {
	kinds := asked.GetMessages()[0].GetRole().String() + " " + asked.GetMessages()[0].GetFinishReason().String()
	return &parleyv1.AppendMessagesResponse{ConversationId: kinds, LastSequence: asked.GetExpectedSequence()}, nil
}

func (conversations) ForkConversation(_ context.Context, asked *parleyv1.ForkConversationRequest) (*parleyv1.ForkConversationResponse, error) {
	from := &parleyv1.ForkedFrom{ConversationId: asked.GetConversationId(), LastSequence: asked.GetUpToSequence()}
	return &parleyv1.ForkConversationResponse{Conversation: &parley.Conversation{ForkedFrom: from}}, nil
}

func (conversations) ExportConversations(asked *parleyv1.ExportConversationsRequest, stream grpc.ServerStreamingServer[parleyv1.ExportConversationsResponse]) error {
	conversation := &parleyv1.ExportConversationsResponse_Conversation{Conversation: &parley.Conversation{Title: asked.GetCursor()}}
	message := &parleyv1.ExportConversationsResponse_Message{Message: &parley.Message{Content: "one"}}
	done := &parleyv1.ExportConversationsResponse_Done{Done: &parleyv1.ExportDone{}}
	for _, part := range []*parleyv1.ExportConversationsResponse{
		{Item: conversation, Cursor: "1", ConversationId: "c"},
		{Item: message, Cursor: "2", ConversationId: "c"},
		{Item: done, Cursor: "3"},
	} {
		if err := stream.Send(part); err != nil {
			return err
		}
	}
	return nil
}

func (conversations) EraseOwner(_ context.Context, asked *parleyv1.EraseOwnerRequest) (*parleyv1.EraseOwnerResponse, error) {
	if asked.GetRequestId() == "" {
		return nil, status.Error(codes.InvalidArgument, "no request id")
	}
	return &parleyv1.EraseOwnerResponse{State: parley.ErasureRunning}, nil
}

func (conversations) GetUsage(_ context.Context, asked *parleyv1.GetUsageRequest) (*parleyv1.GetUsageResponse, error) {
	row := &parley.UsageRow{Date: asked.GetStartDate(), LabelValue: asked.GetLabels()[0]}
	return &parleyv1.GetUsageResponse{Rows: []*parley.UsageRow{row}}, nil
}

func (conversations) StartTurn(_ context.Context, asked *parleyv1.StartTurnRequest) (*parleyv1.StartTurnResponse, error) {
	turn := &parley.Turn{RequestId: asked.GetChat().GetRequestId(), Agent: asked.GetChat().GetAgent(), State: parley.TurnQueued}
	return &parleyv1.StartTurnResponse{Turn: turn, Replayed: true}, nil
}

func (conversations) WatchTurns(asked *parleyv1.WatchTurnsRequest, stream grpc.ServerStreamingServer[parleyv1.WatchTurnsResponse]) error {
	turn := &parleyv1.WatchTurnsResponse_Turn{Turn: &parley.Turn{TurnId: asked.GetAfterCursor(), State: parley.TurnFailed}}
	progress := &parleyv1.WatchTurnsResponse_Progress{Progress: &parleyv1.WatchTurnsProgress{}}
	for _, update := range []*parleyv1.WatchTurnsResponse{
		{Update: turn, Cursor: "1", User: asked.GetLabels()[0]},
		{Update: progress, Cursor: "2"},
		{Update: turn, Cursor: "3"},
	} {
		if err := stream.Send(update); err != nil {
			return err
		}
	}
	return status.Error(codes.FailedPrecondition, "too old")
}

func (conversations) ListAgents(context.Context, *parleyv1.ListAgentsRequest) (*parleyv1.ListAgentsResponse, error) {
	return &parleyv1.ListAgentsResponse{Agents: []*parley.Agent{{Name: "quick"}, {Name: "slow", IsDefault: true}}}, nil
}

func (conversations) ExplainTurn(_ context.Context, asked *parleyv1.ExplainTurnRequest) (*parleyv1.ExplainTurnResponse, error) {
	return &parleyv1.ExplainTurnResponse{Turn: &parley.Turn{TurnId: asked.GetTurnId(), ConversationId: asked.GetConversationId()}}, nil
}

func (conversations) RehearseTurn(asked *parleyv1.RehearseTurnRequest, stream grpc.ServerStreamingServer[parleyv1.RehearseTurnResponse]) error {
	started := &parleyv1.RehearseTurnResponse_Started{Started: &parleyv1.RehearsalStarted{Agent: asked.GetAgent()}}
	chunk := &parleyv1.RehearseTurnResponse_Chunk{Chunk: &parleyv1.TextChunk{Text: asked.GetRequestId()}}
	call := &parleyv1.RehearseTurnResponse_ToolCall{ToolCall: &parley.ToolCall{Name: "look_up"}}
	completed := &parleyv1.RehearseTurnResponse_Completed{Completed: &parleyv1.RehearsalCompleted{Response: "whole"}}
	for _, event := range []*parleyv1.RehearseTurnResponse{{Event: started}, {Event: chunk}, {Event: call}, {Event: completed}} {
		if err := stream.Send(event); err != nil {
			return err
		}
	}
	return nil
}

// Fails when an argument does not reach the server, or a result is not the contract's JSON.
func TestCallsAboutConversationsArePlayed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	parleyv1.RegisterConversationServiceServer(server, conversations{})
	go server.Serve(listener)
	defer server.Stop()
	client, err := parley.New(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	labels := map[string]any{"project": "trip"}
	steps := []step{
		{Call: "create_conversation", As: "first",
			With:   map[string]any{"title": "Rome", "labels": labels, "instructions": "Be brief.", "request_id": "again"},
			Expect: map[string]any{"replayed": true, "conversation.title": "Rome", "conversation.labels": labels}},
		{Call: "conversation",
			With:   map[string]any{"conversation_id": "c"},
			Expect: map[string]any{"conversation_id": "c"}},
		{Call: "update_conversation", As: "changed",
			With:   map[string]any{"title": "Oslo", "expected_revision": 4.0},
			Expect: map[string]any{"title": "Oslo", "labels": map[string]any{"title": "given"}, "revision": 4.0}},
		{Call: "update_conversation",
			With:   map[string]any{"labels": map[string]any{}, "instructions": "", "expected_revision": "${changed.revision}"},
			Expect: map[string]any{"labels": map[string]any{"labels": "given", "instructions": "given"}, "revision": 4.0}},
		{Call: "update_conversation",
			With:   map[string]any{"conversation_id": "c"},
			Expect: map[string]any{"labels": map[string]any{"present": false}}},
		{Call: "delete_conversation",
			With:   map[string]any{"conversation_id": "c"},
			Expect: map[string]any{"error.code": "NOT_FOUND"}},
		{Call: "delete_conversation",
			With:   map[string]any{"conversation_id": "c", "allow_missing": true},
			Expect: map[string]any{"purge_time": "1970-01-01T00:00:01Z"}},
		{Call: "undelete_conversation",
			With:   map[string]any{"conversation_id": "c"},
			Expect: map[string]any{"conversation_id": "c"}},
		{Call: "conversations",
			With: map[string]any{"labels": []any{"project=trip"}, "updated_after": "2026-01-02T03:04:05.5Z"},
			Expect: map[string]any{
				"conversations.0.title": "project=trip", "conversations.0.update_time": "2026-01-02T03:04:05.500Z"}},
		{Call: "conversations_page",
			With:   map[string]any{"labels": []any{"project=trip"}},
			Expect: map[string]any{"conversations.0.title": "project=trip"}},
		{Call: "append_messages",
			With: map[string]any{"conversation_id": "c", "expected_sequence": "${changed.revision}",
				"messages": []any{map[string]any{"role": "assistant", "finish_reason": "length", "create_time": "2026-01-02T03:04:05Z"}}},
			Expect: map[string]any{"conversation_id": "ROLE_ASSISTANT FINISH_REASON_LENGTH", "last_sequence": 4.0}},
		{Call: "fork_conversation",
			With:   map[string]any{"conversation_id": "c", "up_to_sequence": 2.0},
			Expect: map[string]any{"conversation.forked_from.conversation_id": "c", "conversation.forked_from.last_sequence": 2.0}},
		{Call: "export",
			With: map[string]any{"cursor": "0"},
			Expect: map[string]any{"conversations.*.title": []any{"0"}, "messages.*.content": []any{"one"},
				"done": map[string]any{"length": 1.0}, "cursors": []any{"1", "2", "3"}, "conversation_ids": []any{"c", "c", ""}}},
		{Call: "erase_owner",
			With:   map[string]any{"request_id": "erase-7"},
			Expect: map[string]any{"state": "ERASURE_STATE_RUNNING"}},
		{Call: "usage",
			With:   map[string]any{"start_date": "2026-11-28", "labels": []any{"a=b"}},
			Expect: map[string]any{"rows.0.date": "2026-11-28", "rows.0.label_value": "a=b"}},
		{Call: "start_turn",
			With:   map[string]any{"message": "m", "request_id": "r", "agent": "quick"},
			Expect: map[string]any{"turn.request_id": "r", "turn.agent": "quick", "turn.state": "TURN_STATE_QUEUED", "replayed": true}},
		{Call: "watch_turns", Until: map[string]int{"progress": 1},
			With: map[string]any{"after_cursor": "0", "labels": []any{"a=b"}},
			Expect: map[string]any{"turns.*.turn_id": []any{"0"}, "cursors": []any{"1"}, "users": []any{"a=b"},
				"progress": []any{"2"}, "error": map[string]any{"present": false}}},
		{Call: "watch_turns", Until: map[string]int{"turns": 3},
			With: map[string]any{"labels": []any{"a=b"}},
			Expect: map[string]any{"cursors": []any{"1", "3"}, "users": []any{"a=b", ""},
				"error.code": "FAILED_PRECONDITION"}},
		{Call: "update_conversation",
			With:   map[string]any{"agent": "", "expected_revision": 4.0},
			Expect: map[string]any{"labels": map[string]any{"agent": "given"}}},
		{Call: "list_agents",
			Expect: map[string]any{"agents.*.name": []any{"quick", "slow"}, "agents.*.is_default": []any{false, true}}},
		{Call: "explain_turn",
			With:   map[string]any{"conversation_id": "c", "turn_id": "t"},
			Expect: map[string]any{"turn.turn_id": "t", "turn.conversation_id": "c"}},
		{Call: "rehearse_turn",
			With: map[string]any{"request_id": "r", "agent": "quick", "timeout_s": 5.0},
			Expect: map[string]any{"started.agent": "quick", "text": "r", "tool_calls.*.name": []any{"look_up"},
				"completed.response": "whole", "events": map[string]any{"length": 4.0}}},
		{Call: "rehearse_turn", Until: map[string]int{"events": 1},
			With:   map[string]any{"request_id": "r"},
			Expect: map[string]any{"text": "r", "tool_calls": []any{}, "completed": map[string]any{"present": false}}},
		{Call: "watch",
			Expect: map[string]any{"deleted": map[string]any{"length": 1.0}, "error": map[string]any{"present": false}}},
		{Call: "watch", Until: map[string]int{"deleted": 1},
			Expect: map[string]any{"deleted": map[string]any{"length": 1.0}}},
	}
	played := play(scenario{Steps: steps}, func(string) (*parley.Client, error) { return client, nil })
	if played != nil {
		t.Error(played)
	}
}

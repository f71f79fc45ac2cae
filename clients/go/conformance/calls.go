package main

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	parley "parley.dev/go"
)

// result is what a call came to, as JSON.
type result map[string]any

// call is one call through the client library.
type call struct {
	client   *parley.Client
	until    map[string]int // how much is to come of a stream before it is left
	hasBegun func()         // told when a stream has begun to arrive
	result   result
}

// make makes the call. An error of Parley's goes into the result; another one is the client's defect.
func (c *call) make(ctx context.Context, name string, arguments map[string]any) error {
	if timeout, ok := arguments["timeout_s"].(float64); ok {
		delete(arguments, "timeout_s")
		limited, cancel := context.WithTimeout(ctx, time.Duration(timeout*float64(time.Second)))
		defer cancel()
		ctx = limited
	}
	err := c.dispatch(ctx, name, arguments)
	var failure *parley.Error
	if errors.As(err, &failure) {
		c.result["error"] = told(failure)
		return nil
	}
	return err
}

func (c *call) dispatch(ctx context.Context, name string, arguments map[string]any) error {
	switch name {
	case "chat":
		answer, err := c.client.Chat(ctx, a(&parley.ChatRequest{}, arguments))
		return c.keep(whole(answer), err)
	case "start_turn":
		started, err := c.client.StartTurn(ctx, a(&parley.ChatRequest{}, arguments))
		return c.keep(started, err)
	case "stream":
		return c.stream(c.client.Stream(ctx, a(&parley.ChatRequest{}, arguments)))
	case "resume_turn":
		answer, err := c.client.ResumeTurn(ctx, a(&parley.ResumeTurnRequest{}, arguments))
		return c.keep(whole(answer), err)
	case "stream_resume_turn":
		return c.stream(c.client.StreamResumeTurn(ctx, a(&parley.ResumeTurnRequest{}, arguments)))
	case "history":
		return all(c.result, "messages", c.client.GetHistory(ctx, a(&parley.GetHistoryRequest{}, arguments)))
	case "history_page":
		page, err := c.client.GetHistoryPage(ctx, a(&parley.GetHistoryRequest{}, arguments))
		return c.keep(page, err)
	case "conversations":
		request := a(&parley.ListConversationsRequest{}, arguments)
		return all(c.result, "conversations", c.client.ListConversations(ctx, request))
	case "conversations_page":
		page, err := c.client.ListConversationsPage(ctx, a(&parley.ListConversationsRequest{}, arguments))
		return c.keep(page, err)
	case "create_conversation":
		created, err := c.client.CreateConversation(ctx, a(&parley.CreateConversationRequest{}, arguments))
		return c.keep(created, err)
	case "conversation":
		conversation, err := c.client.GetConversation(ctx, a(&parley.GetConversationRequest{}, arguments))
		return c.keep(conversation, err)
	case "update_conversation":
		request := a(&parley.UpdateConversationRequest{}, arguments)
		request.UpdateMask = maskOf(arguments)
		conversation, err := c.client.UpdateConversation(ctx, request)
		return c.keep(conversation, err)
	case "delete_conversation":
		deleted, err := c.client.DeleteConversation(ctx, a(&parley.DeleteConversationRequest{}, arguments))
		return c.keep(deleted, err)
	case "undelete_conversation":
		conversation, err := c.client.UndeleteConversation(ctx, a(&parley.UndeleteConversationRequest{}, arguments))
		return c.keep(conversation, err)
	case "append_messages":
		added, err := c.client.AppendMessages(ctx, a(&parley.AppendMessagesRequest{}, arguments))
		return c.keep(added, err)
	case "fork_conversation":
		forked, err := c.client.ForkConversation(ctx, a(&parley.ForkConversationRequest{}, arguments))
		return c.keep(forked, err)
	case "export":
		return c.export(c.client.ExportConversations(ctx, a(&parley.ExportConversationsRequest{}, arguments)))
	case "erase_owner":
		receipt, err := c.client.EraseOwner(ctx, a(&parley.EraseOwnerRequest{}, arguments))
		return c.keep(receipt, err)
	case "usage":
		used, err := c.client.GetUsage(ctx, a(&parley.GetUsageRequest{}, arguments))
		return c.keep(used, err)
	case "turn":
		turn, err := c.client.GetTurn(ctx, a(&parley.GetTurnRequest{}, arguments))
		return c.keep(turn, err)
	case "cancel_turn":
		turn, err := c.client.CancelTurn(ctx, a(&parley.CancelTurnRequest{}, arguments))
		return c.keep(turn, err)
	case "list_agents":
		agents, err := c.client.ListAgents(ctx, a(&parley.ListAgentsRequest{}, arguments))
		return c.keep(agents, err)
	case "explain_turn":
		explained, err := c.client.ExplainTurn(ctx, a(&parley.ExplainTurnRequest{}, arguments))
		return c.keep(explained, err)
	case "rehearse_turn":
		return c.rehearse(c.client.RehearseTurn(ctx, a(&parley.RehearseTurnRequest{}, arguments)))
	case "watch":
		return c.watch(c.client.Watch(ctx, a(&parley.WatchConversationRequest{}, arguments)))
	case "watch_turns":
		return c.watchTurns(c.client.WatchTurns(ctx, a(&parley.WatchTurnsRequest{}, arguments)))
	default:
		return errors.New("there is no such call: " + name)
	}
}

// keep takes a whole response for the result.
func (c *call) keep(response proto.Message, err error) error {
	if err != nil {
		return err
	}
	for name, value := range asJSON(response) {
		c.result[name] = value
	}
	return nil
}

// all takes what an iterator brings for the result.
func all[Item proto.Message](into result, name string, items iter.Seq2[Item, error]) error {
	list := []any{}
	for item, err := range items {
		if err != nil {
			return err
		}
		list = append(list, asJSON(item))
	}
	into[name] = list
	return nil
}

// a fills in a request, as the contract's JSON has it but for the words of enums.
func a[Request proto.Message](request Request, arguments map[string]any) Request {
	spell(arguments)
	text, err := json.Marshal(arguments)
	if err == nil && arguments != nil {
		err = protojson.Unmarshal(text, request)
	}
	if err != nil {
		panic(err) // the schema of the scenarios does not let this be
	}
	return request
}

// spell replaces the words of enums by the contract's, in the messages to be added as well.
func spell(arguments map[string]any) {
	for name, value := range arguments {
		word, isWord := value.(string)
		if isWord && slices.Contains([]string{"on_busy", "on_disconnect", "order", "role", "finish_reason"}, name) {
			arguments[name] = strings.ToUpper(name + "_" + word)
		}
	}
	messages, _ := arguments["messages"].([]any)
	for _, message := range messages {
		spell(message.(map[string]any))
	}
}

// maskOf names the fields that an update is to change: those that a step gives, even if empty; nil: it gives none.
func maskOf(arguments map[string]any) *fieldmaskpb.FieldMask {
	given := []string{}
	for _, name := range []string{"title", "labels", "instructions", "agent"} {
		if _, isGiven := arguments[name]; isGiven {
			given = append(given, name)
		}
	}
	if len(given) == 0 {
		return nil
	}
	return &fieldmaskpb.FieldMask{Paths: given}
}

func asJSON(message proto.Message) (value map[string]any) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err == nil {
		err = json.Unmarshal(text, &value)
	}
	if err != nil {
		panic(err)
	}
	return value
}

func told(failure *parley.Error) map[string]any {
	metadata, violations := map[string]any{}, []any{}
	for name, value := range failure.Metadata {
		metadata[name] = value
	}
	for _, wrong := range failure.Violations {
		violations = append(violations, map[string]any{"field": wrong.Field, "reason": wrong.Reason})
	}
	return map[string]any{
		"code":          code.Code(failure.Code).String(),
		"reason":        string(failure.Reason),
		"message":       failure.Message,
		"metadata":      metadata,
		"violations":    violations,
		"retry_after_s": failure.RetryAfter.Seconds(),
		"request_id":    failure.RequestID,
	}
}

// onceClosing returns a function that closes the channel at its first call.
func onceClosing(channel chan struct{}) func() { return sync.OnceFunc(func() { close(channel) }) }

func whole(answer *parley.Answer) *parley.ChatResponse {
	if answer == nil {
		return nil
	}
	return answer.ChatResponse
}

package main

import (
	"iter"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	parley "parley.dev/go"
)

func (c *call) stream(events iter.Seq2[parley.Event, error]) error {
	text, indexes, attempts := "", []any{}, []any{}
	kept := []any{}
	defer func() {
		c.result["events"], c.result["text"], c.result["indexes"], c.result["attempts"] = kept, text, indexes, attempts
		c.result["started"] = []any{}
		for _, event := range kept {
			if started, ok := event.(map[string]any)["started"]; ok {
				c.result["started"] = append(c.result["started"].([]any), started)
			}
			if completed, ok := event.(map[string]any)["completed"]; ok {
				c.result["completed"] = completed
			}
		}
	}()
	for event, err := range events {
		if err != nil {
			return err
		}
		kept = append(kept, asJSON(event.StreamChatResponse))
		if event.Index == nil {
			continue
		}
		text += event.GetChunk().GetText()
		indexes = append(indexes, float64(event.GetIndex()))
		if attempt := any(float64(event.GetAttempt())); !slices.Contains(attempts, attempt) {
			attempts = append(attempts, attempt)
		}
		c.hasBegun()
		if len(indexes) == c.until["events"] {
			return nil
		}
	}
	return nil
}

// rehearse keeps the events of a rehearsal, and what they tell.
func (c *call) rehearse(events iter.Seq2[*parley.RehearseTurnResponse, error]) error {
	text, calls, kept := "", []any{}, []any{}
	defer func() { c.result["events"], c.result["text"], c.result["tool_calls"] = kept, text, calls }()
	for event, err := range events {
		if err != nil {
			return err
		}
		came := asJSON(event)
		kept = append(kept, came)
		switch {
		case event.GetStarted() != nil:
			c.result["started"] = came["started"]
			continue
		case event.GetCompleted() != nil:
			c.result["completed"] = came["completed"]
			continue
		case event.GetToolCall() != nil:
			calls = append(calls, came["tool_call"])
		}
		text += event.GetChunk().GetText()
		if len(kept)-1 == c.until["events"] { // started does not count
			return nil
		}
	}
	return nil
}

// listed says in which list of a watch's result each kind of update goes.
var listed = map[protoreflect.Name]string{
	"message": "messages", "turn": "turns", "event": "events", "progress": "progress", "deleted": "deleted",
}

func (c *call) watch(updates iter.Seq2[*parley.WatchConversationResponse, error]) error {
	for _, list := range listed {
		c.result[list] = []any{}
	}
	for update, err := range updates {
		if err != nil {
			return err
		}
		for kind, list := range listed {
			if came, ok := asJSON(update)[string(kind)]; ok {
				c.result[list] = append(c.result[list].([]any), came)
			}
		}
		if update.GetProgress() != nil {
			c.hasBegun()
		}
		for list, count := range c.until {
			if len(c.result[list].([]any)) == count {
				return nil
			}
		}
	}
	return nil
}

// watchTurns keeps the turns of a feed, of each its cursor and its user, and the cursors of progress.
func (c *call) watchTurns(updates iter.Seq2[*parley.WatchTurnsResponse, error]) error {
	kept := map[string][]any{"turns": {}, "cursors": {}, "users": {}, "progress": {}}
	defer func() {
		for name, list := range kept {
			c.result[name] = list
		}
	}()
	for update, err := range updates {
		if err != nil {
			return err
		}
		if turn := update.GetTurn(); turn != nil {
			kept["turns"] = append(kept["turns"], asJSON(turn))
			kept["cursors"] = append(kept["cursors"], update.GetCursor())
			kept["users"] = append(kept["users"], update.GetUser())
		} else {
			kept["progress"] = append(kept["progress"], update.GetCursor())
			c.hasBegun()
		}
		for list, count := range c.until {
			if len(kept[list]) == count {
				return nil
			}
		}
	}
	return nil
}

// export keeps the parts of an export by kind, and the places of all of them in their order.
func (c *call) export(parts iter.Seq2[*parley.ExportConversationsResponse, error]) error {
	kept := map[string][]any{"conversations": {}, "messages": {}, "done": {}, "cursors": {}, "conversation_ids": {}}
	defer func() {
		for name, list := range kept {
			c.result[name] = list
		}
	}()
	for part, err := range parts {
		if err != nil {
			return err
		}
		for kind, list := range map[string]string{"conversation": "conversations", "message": "messages", "done": "done"} {
			if came, ok := asJSON(part)[kind]; ok {
				kept[list] = append(kept[list], came)
			}
		}
		kept["cursors"] = append(kept["cursors"], part.GetCursor())
		kept["conversation_ids"] = append(kept["conversation_ids"], part.GetConversationId())
	}
	return nil
}

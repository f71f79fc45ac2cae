package parley

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
)

// AppendMessages adds messages to a conversation without running an agent: all of them, or none. The agent sees them
// in the next turn.
//
// A request without a RequestId gets a new UUID, which an error shows. The messages are added once for one request id,
// however often it is sent: pass one that is stored to repeat the call after a crash of your own. The response then
// has the same sequences, and Replayed set.
//
// An error is an [*Error], or the [TokenSource]'s: [ReasonConversationNotFound] unless AllowMissing is set,
// [ReasonTurnInProgress], [ReasonSequenceMismatch], [ReasonRequestIDReused].
func (c *Client) AppendMessages(
	ctx context.Context, request *AppendMessagesRequest,
) (*AppendMessagesResponse, error) {
	copied := &AppendMessagesRequest{}
	proto.Merge(copied, request)
	if copied.RequestId == "" {
		copied.RequestId = uuid.NewString()
	}
	if err := utf8Error(copied.RequestId, textsOfMessages(copied.GetMessages())...); err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(ctx, DefaultChangeTimeout)
	defer cancel()
	return call(ctx, c, c.stub.AppendMessages, copied, copied.GetRequestId())
}

// ForkConversation creates a conversation with the messages of another one, up to UpToSequence, or up to the end of its
// newest turn that has ended. It has the same title, labels and instructions; from then on both change apart.
//
// A request without a RequestId gets a new UUID, which an error shows. There is one fork for one request id, however
// often it is sent: pass one that is stored, or a NewConversationId, to repeat the call after a crash of your own. The
// response then has the fork as it is by now, and Replayed set.
//
// An error is an [*Error], or the [TokenSource]'s. [ReasonNotATurnBoundary]: UpToSequence is in the midst of a turn, and
// [Error.PreviousBoundary] is where the turn before ended.
func (c *Client) ForkConversation(
	ctx context.Context, request *ForkConversationRequest,
) (*ForkConversationResponse, error) {
	copied := &ForkConversationRequest{}
	proto.Merge(copied, request)
	if copied.RequestId == "" {
		copied.RequestId = uuid.NewString()
	}
	ctx, cancel := withTimeout(ctx, DefaultChangeTimeout)
	defer cancel()
	return call(ctx, c, c.stub.ForkConversation, copied, copied.GetRequestId())
}

// textsOfMessages returns what a caller writes in messages.
func textsOfMessages(messages []*Message) []text {
	texts := []text{}
	for n, message := range messages {
		name := fmt.Sprintf("messages[%d].", n)
		texts = append(texts,
			text{name + "content", message.GetContent()},
			text{name + "turn_id", message.GetTurnId()},
			text{name + "model", message.GetModel()})
		for k, call := range message.GetToolCalls() {
			name := fmt.Sprintf("%stool_calls[%d].", name, k)
			texts = append(texts,
				text{name + "id", call.GetId()},
				text{name + "name", call.GetName()},
				text{name + "arguments", call.GetArguments()},
				text{name + "result", call.GetResult()})
		}
	}
	return texts
}

package parley

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
)

// CreateConversation creates an empty conversation, such as one with labels, instructions, a title or an agent, which answers the
// turns whose requests name none; [Client.Chat] creates conversations as well.
//
// A request without a RequestId gets a new UUID, which an error shows. There is one conversation for one request
// id, however often it is sent: pass one that is stored, or a ConversationId, to repeat the call after a crash of
// your own. The response then has the conversation as it is by now, and Replayed set.
//
// An error is an [*Error], or the [TokenSource]'s: [ReasonConversationExists] if the ConversationId is that of a
// conversation which another call created; [ReasonAgentUnknown] if no agent has the Agent's name.
func (c *Client) CreateConversation(
	ctx context.Context, request *CreateConversationRequest,
) (*CreateConversationResponse, error) {
	copied := &CreateConversationRequest{}
	proto.Merge(copied, request)
	if copied.RequestId == "" {
		copied.RequestId = uuid.NewString()
	}
	texts := textsOf(copied.GetTitle(), copied.GetLabels(), copied.GetInstructions(), copied.GetAgent())
	if err := utf8Error(copied.RequestId, texts...); err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	return call(ctx, c, c.stub.CreateConversation, copied, copied.GetRequestId())
}

// GetConversation returns one conversation, without its messages.
func (c *Client) GetConversation(ctx context.Context, request *GetConversationRequest) (*Conversation, error) {
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	response, err := call(ctx, c, c.stub.GetConversation, request, "")
	return response.GetConversation(), err
}

// UpdateConversation changes a conversation's title, labels, instructions or agent, and returns it as it is then.
//
// It changes those of the four fields that the request's UpdateMask names; one that is named and empty becomes
// empty, and an empty agent is the server's default one. Without a mask it changes those that are not empty. New labels
// replace all that the conversation has. An open turn keeps its agent; its present attempt keeps the instructions
// that it began with.
//
// With an ExpectedRevision, the error is [ReasonRevisionMismatch] if the conversation has been changed since, and
// [Error.Revision] is the revision that it has. The change is made once: when a connection breaks after it, the
// client's next try finds exactly its own change, at the next revision, and returns the conversation. Without an
// ExpectedRevision that try makes the change again.
func (c *Client) UpdateConversation(ctx context.Context, request *UpdateConversationRequest) (*Conversation, error) {
	texts := textsOf(request.GetTitle(), request.GetLabels(), request.GetInstructions(), request.GetAgent())
	if err := utf8Error("", texts...); err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	response, err := call(ctx, c, c.stub.UpdateConversation, request, "")
	return response.GetConversation(), err
}

// DeleteConversation deletes a conversation with everything that was said in it. Until the response's PurgeTime
// [Client.UndeleteConversation] brings it back; if the response has none, nothing does.
//
// The error of a conversation that does not exist is [ReasonConversationNotFound], unless AllowMissing is set. But
// if an earlier try of the same call ended UNAVAILABLE, that try may have deleted it: the call then succeeds, with
// an empty response. Set AllowMissing to repeat the call after a crash of your own.
func (c *Client) DeleteConversation(
	ctx context.Context, request *DeleteConversationRequest,
) (*DeleteConversationResponse, error) {
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	tries := newTries(unaryOnce)
	for mayBeDeleted := false; ; mayBeDeleted = true {
		var reached peer.Peer
		deleteOnce := func(
			ctx context.Context, request *DeleteConversationRequest, options ...grpc.CallOption,
		) (*DeleteConversationResponse, error) {
			return c.stub.DeleteConversation(ctx, request, append(options, sentOnce, grpc.Peer(&reached))...)
		}
		response, err := call(ctx, c, deleteOnce, request, "")
		if mayBeDeleted && errors.Is(err, ReasonConversationNotFound) {
			return &DeleteConversationResponse{}, nil
		}
		var failure *Error
		if !errors.As(err, &failure) || reached.Addr == nil { // gRPC has repeated what no server got
			return response, err
		}
		if err := c.again(ctx, tries, failure); err != nil {
			return nil, err
		}
	}
}

// sentOnce keeps gRPC from repeating a request that has been sent: it does not tell what became of earlier tries.
// It repeats only what it keeps in memory, and this leaves it none.
var sentOnce = grpc.MaxRetryRPCBufferSize(0)

// UndeleteConversation brings a deleted conversation back, and returns it. A turn that was open when it was deleted
// is [TurnFailed] and can be retried. A conversation that is not deleted is returned as it is.
//
// The error is [ReasonConversationNotFound] if it does not exist, or can no longer be brought back.
func (c *Client) UndeleteConversation(
	ctx context.Context, request *UndeleteConversationRequest,
) (*Conversation, error) {
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	response, err := call(ctx, c, c.stub.UndeleteConversation, request, "")
	return response.GetConversation(), err
}

// textsOf returns what a caller writes about a conversation.
func textsOf(title string, labels map[string]string, instructions, agent string) []text {
	texts := []text{{"title", title}, {"instructions", instructions}, {"agent", agent}}
	for key, value := range labels {
		texts = append(texts, text{"labels", key}, text{"labels", value})
	}
	return texts
}

package parley

import (
	"context"
	"iter"

	"google.golang.org/protobuf/proto"
)

// GetHistory iterates over a conversation's messages; pages are fetched as they are needed, each within
// the context's deadline, or [DefaultReadTimeout] if it has none. An error comes last.
func (c *Client) GetHistory(ctx context.Context, request *GetHistoryRequest) iter.Seq2[*Message, error] {
	return pages(request.GetPageToken(), func(token string) ([]*Message, string, error) {
		page := &GetHistoryRequest{}
		proto.Merge(page, request)
		page.PageToken = token
		response, err := c.GetHistoryPage(ctx, page)
		return response.GetMessages(), response.GetNextPageToken(), err
	})
}

// GetHistoryPage returns one page of a conversation's messages.
func (c *Client) GetHistoryPage(ctx context.Context, request *GetHistoryRequest) (*GetHistoryResponse, error) {
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	return call(ctx, c, c.stub.GetHistory, request, "")
}

// ListConversations iterates over the caller's conversations, the most recently active first: all of them, or
// those that have all of the request's Labels, each written "KEY=VALUE", and were active later than its
// UpdatedAfter. One that becomes active meanwhile may be missing; none appears twice. Otherwise as
// [Client.GetHistory].
func (c *Client) ListConversations(
	ctx context.Context, request *ListConversationsRequest,
) iter.Seq2[*Conversation, error] {
	return pages(request.GetPageToken(), func(token string) ([]*Conversation, string, error) {
		page := &ListConversationsRequest{}
		proto.Merge(page, request)
		page.PageToken = token
		response, err := c.ListConversationsPage(ctx, page)
		return response.GetConversations(), response.GetNextPageToken(), err
	})
}

// ListConversationsPage returns one page of the caller's conversations. With Labels, it may have fewer than PageSize,
// even none, and a NextPageToken: only an empty one says that the list has ended.
func (c *Client) ListConversationsPage(
	ctx context.Context, request *ListConversationsRequest,
) (*ListConversationsResponse, error) {
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	return call(ctx, c, c.stub.ListConversations, request, "")
}

// GetTurn returns the state of a turn. The turn is named by RequestId alone, or by ConversationId and TurnId.
func (c *Client) GetTurn(ctx context.Context, request *GetTurnRequest) (*Turn, error) {
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	response, err := call(ctx, c, c.stub.GetTurn, request, request.GetRequestId())
	return response.GetTurn(), err
}

// CancelTurn stops a turn; the text written so far becomes its final answer, which callers that stream the turn
// or wait for it get too. A turn that has ended does not change; one that is still [TurnRunning] has been asked
// to stop and has not ended within 2 seconds.
func (c *Client) CancelTurn(ctx context.Context, request *CancelTurnRequest) (*Turn, error) {
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	response, err := call(ctx, c, c.stub.CancelTurn, request, request.GetRequestId())
	return response.GetTurn(), err
}

// pages iterates over what is on all pages from one on.
func pages[Item any](token string, fetch func(token string) ([]Item, string, error)) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for next := token; ; {
			items, following, err := fetch(next)
			if err != nil {
				var none Item
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if following == "" {
				return
			}
			next = following
		}
	}
}

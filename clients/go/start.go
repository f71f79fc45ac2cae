package parley

import (
	"context"

	"parley.dev/go/parleyv1"
)

// StartTurn stores a turn and returns at once. A worker of the server runs it later, without a caller: no connection has
// to stay open, and no worker has to survive. Turns of one conversation begin in the order in which they were accepted,
// one after the other.
//
// A request without a RequestId gets a new UUID, which the response's Turn and an error show. There is one turn for one
// request id, however often it is sent: pass one that is stored to repeat the call after a crash of your own. The
// response then has the turn as it is by now, and Replayed set; a turn that has failed is queued again, where
// [Client.Chat] would run it again. OnBusy and OnDisconnect are ignored.
//
// The turn is [TurnQueued] until it begins. [Client.GetTurn] says where it stands, [Client.WatchTurns] when it has ended.
// [Client.Stream] and [Client.Chat] with the same request get its answer. [Client.CancelTurn] before it begins leaves no
// message behind. If it is [TurnWaiting], for tools of the request or an approval, [Client.ResumeTurn] lets it go on.
//
// When there is no error, the turn is stored and will be run. An error is an [*Error], or the [TokenSource]'s:
// [ReasonQueueFull] if the caller has as many turns under way as the server allows.
func (c *Client) StartTurn(ctx context.Context, request *ChatRequest) (*StartTurnResponse, error) {
	request, err := keyed(request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	return call(ctx, c, c.stub.StartTurn, &parleyv1.StartTurnRequest{Chat: request}, request.GetRequestId())
}

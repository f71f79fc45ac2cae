package parley

import (
	"context"
	"time"
)

// erasurePause is how long to wait before an erasure is asked for again.
const erasurePause = time.Second

// EraseOwner erases everything that the caller has stored; the token has to name the scope parley.erase. From the moment
// that it returns no call finds any of it.
//
// The receipt's State is [ErasureRunning] while rows are being removed, and [ErasureDone] once all are gone. Call again
// with the same RequestId to see it. There is one erasure for one request id, and another id begins another one, so the
// client makes none: store yours before the first call.
func (c *Client) EraseOwner(ctx context.Context, request *EraseOwnerRequest) (*EraseOwnerResponse, error) {
	ctx, cancel := withTimeout(ctx, DefaultChangeTimeout)
	defer cancel()
	return call(ctx, c, c.stub.EraseOwner, request, request.GetRequestId())
}

// EraseOwnerAndWait works like [Client.EraseOwner], and calls again every second until all rows are gone or the context
// ends. Without a deadline there is no limit for all calls together.
func (c *Client) EraseOwnerAndWait(ctx context.Context, request *EraseOwnerRequest) (*EraseOwnerResponse, error) {
	for {
		receipt, err := c.EraseOwner(ctx, request)
		if err != nil || receipt.GetState() == ErasureDone {
			return receipt, err
		}
		const text = "the context ended while rows were being removed: the erasure goes on"
		if err := c.rest(ctx, erasurePause, request.GetRequestId(), text); err != nil {
			return nil, err
		}
	}
}

// GetUsage returns what the caller's turns used: a row for each day, and, if asked for, for each agent and each value of
// a label. Labels are each written "KEY=VALUE".
func (c *Client) GetUsage(ctx context.Context, request *GetUsageRequest) (*GetUsageResponse, error) {
	ctx, cancel := withTimeout(ctx, c.readTimeout)
	defer cancel()
	return call(ctx, c, c.stub.GetUsage, request, "")
}

package parley

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
)

// Tools are what a caller does for its turns; see [Client.RunWithTools].
type Tools struct {
	// Functions are the tools that this process runs.
	Functions []Function
	// Approve decides whether the server may run a call. It is asked about one call at a time. An error ends
	// RunWithTools, and the turn waits on: for whoever approves it elsewhere, or until the next RunWithTools asks again.
	// Nil: every such call is denied.
	Approve func(ctx context.Context, call *PendingCall) (Decision, error)
	// OnError is told every error of a function, such as to log it: the model is told little of it. It may be called by
	// several goroutines at once. Nil: nobody is told.
	OnError func(call *PendingCall, err error)
}

// Decision says whether the server may run a call; the zero value: it may not.
type Decision struct {
	Approved bool
	// Reason says why not, for the model.
	Reason string
}

const nobodyApproves = "Nobody can approve calls here."

// RunWithTools makes one turn as [Client.Chat] does, runs the tools of this process that the model calls, and returns the
// answer.
//
// The model is told the request's Tools and those of the Functions. While the turn waits, each call of a function is run,
// all that the model has asked for at once at the same time; calls that need an approval are asked about. The turn is
// then resumed, and may wait again. If a function returns an error, so does the call: the model is told the text of a
// [ToolError], and of any other error the type. So it is for a tool that nobody knows. A panic of a function, or of
// Approve, goes on here, once the functions have returned.
//
// With a RequestId that is stored, the same call can be made again after a crash, or at the same time elsewhere: it goes on
// with what is pending. A function whose result was given does not run again; one that was cut short does, under the same
// call key. The tools have to be the same then, or the error is [ReasonRequestIDReused].
//
// The context's deadline counts for everything; functions are given it as well. Without one, each call of the turn has
// [DefaultChatTimeout], and functions have no limit. A turn that was cancelled meanwhile, or waited for too long, is
// answered with what was said so far. One that waits only for what this client does not know, such as a kind of call that
// is newer, is returned as it waits.
func (c *Client) RunWithTools(ctx context.Context, request *ChatRequest, tools Tools) (*Answer, error) {
	request, err := keyed(request)
	if err != nil {
		return nil, err
	}
	functions, err := byName(tools.Functions)
	if err != nil {
		return nil, err
	}
	request.Tools = withTools(request.Tools, tools.Functions)
	run := &toolRun{client: c, request: request, tools: tools, functions: functions, outcomes: map[string]*CallResult{}}
	return run.toTheEnd(ctx)
}

// toolRun is one turn, over all that it waits for.
type toolRun struct {
	client    *Client
	request   *ChatRequest
	tools     Tools
	functions map[string]Function
	outcomes  map[string]*CallResult // what this run has found out, by call key
}

func (r *toolRun) toTheEnd(ctx context.Context) (*Answer, error) {
	answer, err := r.client.Chat(ctx, r.request)
	for overtaken := 0; err == nil && answer.GetFinishReason() == FinishReasonActionRequired; {
		undecided := r.findOut(ctx, answer.GetPendingCalls())
		if ended := ctx.Err(); ended != nil {
			return nil, endedError(ended, answer.RequestID, "the context ended while tools ran: the turn waits on")
		}
		if undecided == nil && !r.hasOutcome(answer) {
			return answer, nil // a newer server's kinds of calls stay pending
		}
		answer, err = r.give(ctx, answer)
		isOvertaken := errors.Is(err, ReasonResultAlreadyGiven) || errors.Is(err, ReasonCallNotPending)
		switch {
		case isOvertaken && overtaken < maxTries: // another one gives results, or has ended the wait
			overtaken++
			answer, err = r.client.Chat(ctx, r.request)
		case err == nil && undecided != nil && answer.GetFinishReason() == FinishReasonActionRequired:
			return nil, undecided
		default:
			overtaken = 0
		}
	}
	return answer, err
}

// hasOutcome says whether this run has found out anything about what the turn waits for.
func (r *toolRun) hasOutcome(answer *Answer) bool {
	return slices.ContainsFunc(answer.GetPendingCalls(), func(call *PendingCall) bool {
		return r.outcomes[call.GetCallKey()] != nil
	})
}

// findOut runs functions and asks for approvals, of calls that this run has not had before. An error is that of Approve.
func (r *toolRun) findOut(ctx context.Context, calls []*PendingCall) (undecided error) {
	outcomes := make([]*CallResult, len(calls))
	panics := make([]string, len(calls))
	running := sync.WaitGroup{}
	defer running.Wait() // also when Approve panics
	for n, call := range calls {
		if r.outcomes[call.GetCallKey()] == nil && call.GetKind() == PendingResult {
			running.Go(func() {
				defer func() {
					if value := recover(); value != nil {
						panics[n] = fmt.Sprintf("the tool %q: %v\n\n%s", call.GetName(), value, debug.Stack())
					}
				}()
				outcomes[n] = r.outcomeOf(ctx, call)
			})
		}
	}
	for n, call := range calls {
		if r.outcomes[call.GetCallKey()] == nil && call.GetKind() == PendingApproval && undecided == nil {
			outcomes[n], undecided = r.decisionOn(ctx, call)
		}
	}
	running.Wait()
	for n, call := range calls {
		if panics[n] != "" {
			panic(panics[n])
		}
		if outcomes[n] != nil {
			r.outcomes[call.GetCallKey()] = outcomes[n]
		}
	}
	return undecided
}

func (r *toolRun) outcomeOf(ctx context.Context, call *PendingCall) *CallResult {
	function, isKnown := r.functions[call.GetName()]
	if !isKnown {
		return ErrorFor(call, fmt.Sprintf("There is no tool %q.", call.GetName()))
	}
	result, err := function.Run(ctx, call)
	if err == nil && unfit(result) != "" {
		err = ToolError(unfit(result))
	}
	if err != nil {
		if r.tools.OnError != nil {
			r.tools.OnError(call, err)
		}
		return ErrorFor(call, toldOf(err))
	}
	return ResultFor(call, result)
}

func (r *toolRun) decisionOn(ctx context.Context, call *PendingCall) (*CallResult, error) {
	if r.tools.Approve == nil {
		return Deny(call, nobodyApproves), nil
	}
	decision, err := r.tools.Approve(ctx, call)
	switch {
	case err != nil:
		return nil, err
	case decision.Approved:
		return Approve(call), nil
	default:
		return Deny(call, decision.Reason), nil
	}
}

const maxGivenBytes = 1 << 20 // in one request: servers take 2 MiB

// give gives a turn what this run has found out about its calls, in as many requests as it takes.
func (r *toolRun) give(ctx context.Context, answer *Answer) (*Answer, error) {
	request, size := r.resumption(), 0
	for _, call := range answer.GetPendingCalls() {
		outcome := r.outcomes[call.GetCallKey()]
		if outcome == nil {
			continue
		}
		bytes := len(outcome.GetResult()) + len(outcome.GetError()) + len(call.GetArguments())
		if size > 0 && size+bytes > maxGivenBytes {
			if _, err := r.client.ResumeTurn(ctx, request); err != nil {
				return nil, err
			}
			request, size = r.resumption(), 0
		}
		request.Results = append(request.Results, outcome)
		size += bytes
	}
	if len(request.Results) == 0 {
		return answer, nil
	}
	return r.client.ResumeTurn(ctx, request)
}

func (r *toolRun) resumption() *ResumeTurnRequest {
	return &ResumeTurnRequest{RequestId: r.request.GetRequestId(), OnDisconnect: r.request.GetOnDisconnect()}
}

package parley_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

type place struct {
	Word string `json:"word" jsonschema:"The place."`
}

// telling returns a tool of the tests by this name.
func telling(name string, run func(context.Context, place, *parley.PendingCall) (string, error)) parley.Function {
	return parley.NewFunction(name, "Tells something about a place.", run)
}

func TestFunctionsAreRunUntilThereIsAnAnswer(t *testing.T) {
	t.Parallel()
	both := sync.WaitGroup{}
	both.Add(2)
	weather := telling("weather", func(_ context.Context, in place, call *parley.PendingCall) (string, error) {
		both.Done()
		both.Wait() // the calls of one step run at the same time, or this never ends
		return in.Word + " is clear", uuid.Validate(call.GetCallKey())
	})
	count := parley.NewFunction("count", "", func(_ context.Context, in place, _ *parley.PendingCall) (int, error) {
		return len(in.Word), nil
	})
	request := &parley.ChatRequest{Message: "script\ncall weather:Turin weather:Rome\ntold\ncall count:Rome\ntold"}
	tools := parley.Tools{Functions: []parley.Function{weather, count}}
	answer := must(aClient(t, aToolUser(t)).RunWithTools(t.Context(), request, tools))(t)

	want(t, "4", answer.GetResponse()[strings.LastIndex(answer.GetResponse(), "r")+1:])
	results := []string{}
	for _, call := range answer.GetToolCalls() {
		want(t, false, call.GetIsError())
		results = append(results, call.GetResult())
	}
	wantAll(t, []string{"Turin is clear", "Rome is clear", "4"}, results)
	want(t, 0, len(request.GetTools())) // the caller's own request stays as it is
	want(t, "", request.GetRequestId())
}

func TestAFunctionsErrorIsToldWithoutItsText(t *testing.T) {
	t.Parallel()
	told := atomic.Int32{}
	tools := parley.Tools{
		Functions: []parley.Function{
			telling("broken", func(context.Context, place, *parley.PendingCall) (string, error) {
				return "", fmt.Errorf("reading: %w", &fs.PathError{Op: "open", Path: "/secret", Err: fs.ErrNotExist})
			}),
			telling("unknown_place", func(_ context.Context, in place, _ *parley.PendingCall) (string, error) {
				return "", parley.ToolError("Nobody knows " + in.Word + ".")
			}),
			telling("endless", func(context.Context, place, *parley.PendingCall) (string, error) {
				return strings.Repeat("x", 65_537), nil
			}),
			parley.NewFunction("other", "", func(context.Context, struct{ Count int }, *parley.PendingCall) (string, error) {
				panic("its arguments do not fit")
			}),
		},
		OnError: func(call *parley.PendingCall, err error) { told.Add(1) },
	}
	request := &parley.ChatRequest{
		Message: "script\ncall broken:x unknown_place:Atlantis endless:x other:x lost:x\ntold",
		Tools:   []*parley.Tool{{Name: "lost"}}, // which nobody runs
	}
	answer := must(aClient(t, aToolUser(t)).RunWithTools(t.Context(), request, tools))(t)
	results := []string{}
	for _, call := range answer.GetToolCalls() {
		want(t, true, call.GetIsError())
		results = append(results, call.GetResult())
	}
	wantAll(t, []string{
		"The tool failed (*fs.PathError).", "Nobody knows Atlantis.", "The tool's result has 65537 bytes, and 65536 are the most.",
		`The argument "Count" is missing.`, `There is no tool "lost".`,
	}, results)
	want(t, 4, told.Load())
}

func TestApprovalsAreAskedFor(t *testing.T) {
	t.Parallel()
	client := aClient(t, aToolUser(t))
	request := &parley.ChatRequest{Message: "script\ncall send:hello send:insult\ntold"}
	answer := must(client.RunWithTools(t.Context(), request, parley.Tools{
		Approve: func(_ context.Context, call *parley.PendingCall) (parley.Decision, error) {
			isFine := call.GetArguments() == `{"word": "hello"}`
			return parley.Decision{Approved: isFine, Reason: "be kind"}, nil
		},
	}))(t)
	want(t, "hello is sent", answer.GetToolCalls()[0].GetResult())
	want(t, true, answer.GetToolCalls()[1].GetIsError())
	want(t, "be kind", answer.GetToolCalls()[1].GetResult())

	answer = must(client.RunWithTools(t.Context(), request, parley.Tools{}))(t)
	want(t, "Nobody can approve calls here.", answer.GetToolCalls()[0].GetResult())
}

// Fails when an undecided approval keeps the results of its step from being given, or when a result that was given is
// asked for again.
func TestAnotherRunGoesOnWithWhatIsPending(t *testing.T) {
	t.Parallel()
	client := aClient(t, aToolUser(t))
	runs := 0
	weather := telling("weather", func(context.Context, place, *parley.PendingCall) (string, error) {
		runs++
		return "clear", nil
	})
	request := &parley.ChatRequest{Message: "script\ncall weather:Turin send:hello\ntold", RequestId: uuid.NewString()}
	undecided := errors.New("she is at lunch")
	tools := parley.Tools{
		Functions: []parley.Function{weather},
		Approve: func(context.Context, *parley.PendingCall) (parley.Decision, error) {
			return parley.Decision{}, undecided
		},
	}
	_, err := client.RunWithTools(t.Context(), request, tools)
	want(t, undecided, err)
	turn := must(client.GetTurn(t.Context(), &parley.GetTurnRequest{RequestId: request.GetRequestId()}))(t)
	want(t, 1, len(turn.GetPendingCalls()))

	tools.Approve = func(context.Context, *parley.PendingCall) (parley.Decision, error) {
		return parley.Decision{Approved: true}, nil
	}
	answer := must(client.RunWithTools(t.Context(), request, tools))(t)
	want(t, "clear\nhello is sent", answer.GetResponse())
	want(t, 1, runs)
	again := must(client.RunWithTools(t.Context(), request, tools))(t)
	want(t, true, again.GetReplayed())
	want(t, 1, runs)
}

func TestARunThatIsCancelledReturnsWhatWasSaid(t *testing.T) {
	t.Parallel()
	client := aClient(t, aToolUser(t))
	request := &parley.ChatRequest{Message: "script\nsay So far. \ncall weather:Turin\ntold", RequestId: uuid.NewString()}
	weather := telling("weather", func(ctx context.Context, _ place, _ *parley.PendingCall) (string, error) {
		_, err := client.CancelTurn(ctx, &parley.CancelTurnRequest{RequestId: request.GetRequestId()})
		return "clear", err
	})
	answer := must(client.RunWithTools(t.Context(), request, parley.Tools{Functions: []parley.Function{weather}}))(t)
	want(t, parleyv1.FinishReason_FINISH_REASON_CANCELLED, answer.GetFinishReason())
	want(t, "So far. ", answer.GetResponse())
}

func TestARunEndsWithItsContextAndGivesNothing(t *testing.T) {
	server := aScript(t, sends(waits(&parley.PendingCall{CallKey: "k", Name: "weather", Arguments: `{"word":""}`})))
	ctx, cancel := context.WithCancel(t.Context())
	weather := telling("weather", func(ctx context.Context, _ place, _ *parley.PendingCall) (string, error) {
		cancel()
		return "", ctx.Err()
	})
	tools := parley.Tools{Functions: []parley.Function{weather}}
	_, err := aClient(t, server.address).RunWithTools(ctx, &parley.ChatRequest{Message: "x", RequestId: "r"}, tools)
	var failure *parley.Error
	want(t, true, errors.As(err, &failure) && errors.Is(err, context.Canceled))
	want(t, "r", failure.RequestID)
	want(t, 1, len(server.asked()))
}

func waits(calls ...*parley.PendingCall) *parley.ChatResponse {
	for _, call := range calls {
		if call.Kind == 0 {
			call.Kind = parley.PendingResult
		}
	}
	return &parley.ChatResponse{FinishReason: parley.FinishReasonActionRequired, PendingCalls: calls}
}

// Fails when a result that another run gave first ends this one, or when a function runs again for it.
func TestARunThatIsOvertakenGoesOn(t *testing.T) {
	call, other := &parley.PendingCall{CallKey: "k1", Name: "weather"}, &parley.PendingCall{CallKey: "k2", Name: "weather"}
	call.Arguments, other.Arguments = "[]", `{"word":"Rome"}` // the first is no object
	server := aScript(t,
		sends(waits(call, other)), refuses(codes.AlreadyExists, parley.ReasonResultAlreadyGiven),
		sends(waits(other)), sends(&parleyv1.ResumeTurnResponse{Chat: anAnswer("clear")}),
	)
	runs := 0
	weather := telling("weather", func(_ context.Context, in place, _ *parley.PendingCall) (string, error) {
		runs++
		return "clear", nil
	})
	request := &parley.ChatRequest{Message: "x", OnDisconnect: parley.OnDisconnectContinue}
	tools := parley.Tools{Functions: []parley.Function{weather}}
	answer := must(aClient(t, server.address).RunWithTools(t.Context(), request, tools))(t)
	want(t, "clear", answer.GetResponse())
	want(t, 1, runs)
	given := server.asked()[1].(*parleyv1.ResumeTurnRequest)
	want(t, answer.RequestID, given.GetRequestId())
	want(t, parley.OnDisconnectContinue, given.GetOnDisconnect())
	want(t, "The arguments are not a JSON object.", given.GetResults()[0].GetError())
	want(t, 1, len(server.asked()[3].(*parleyv1.ResumeTurnRequest).GetResults()))

	never := aScript(t, sends(waits(other)), refuses(codes.FailedPrecondition, parley.ReasonCallNotPending))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := aClient(t, never.address).RunWithTools(ctx, request, tools)
	wantFailure(t, parley.ReasonCallNotPending, err)
}

// Servers take 2 MiB.
func TestLargeResultsAreGivenInSeveralRequests(t *testing.T) {
	t.Parallel()
	large := telling("large", func(context.Context, place, *parley.PendingCall) (string, error) {
		return strings.Repeat("x", 65_536), nil
	})
	request := &parley.ChatRequest{Message: "script\ncall" + strings.Repeat(" large:x", 33) + "\nsay done"}
	tools := parley.Tools{Functions: []parley.Function{large}}
	answer := must(aClient(t, aToolUser(t)).RunWithTools(t.Context(), request, tools))(t)
	want(t, parleyv1.FinishReason_FINISH_REASON_LENGTH, answer.GetFinishReason()) // an answer has 1 MiB of calls
}

func TestAPanicOfAFunctionIsItsCallers(t *testing.T) {
	server := aScript(t, sends(waits(&parley.PendingCall{CallKey: "k", Name: "weather", Arguments: `{"word":""}`})))
	weather := telling("weather", func(context.Context, place, *parley.PendingCall) (string, error) { panic("thunder") })
	defer func() {
		want(t, true, strings.Contains(fmt.Sprint(recover()), "thunder"))
		want(t, 1, len(server.asked()))
	}()
	tools := parley.Tools{Functions: []parley.Function{weather}}
	_, err := aClient(t, server.address).RunWithTools(t.Context(), &parley.ChatRequest{Message: "x"}, tools)
	t.Fatal("it has not come: ", err)
}

// Fails when a function runs on for a caller that has left.
func TestAPanicOfApproveIsItsCallersOnceTheFunctionsHaveReturned(t *testing.T) {
	server := aScript(t, sends(waits(
		&parley.PendingCall{CallKey: "k", Name: "weather", Arguments: `{"word":""}`},
		&parley.PendingCall{CallKey: "l", Name: "send", Kind: parley.PendingApproval},
	)))
	asked, hasReturned := make(chan struct{}), false
	weather := telling("weather", func(context.Context, place, *parley.PendingCall) (string, error) {
		<-asked
		time.Sleep(100 * time.Millisecond)
		hasReturned = true
		return "clear", nil
	})
	approve := func(context.Context, *parley.PendingCall) (parley.Decision, error) {
		close(asked)
		panic("thunder")
	}
	defer func() {
		want(t, true, strings.Contains(fmt.Sprint(recover()), "thunder"))
		want(t, true, hasReturned)
		want(t, 1, len(server.asked()))
	}()
	tools := parley.Tools{Functions: []parley.Function{weather}, Approve: approve}
	_, err := aClient(t, server.address).RunWithTools(t.Context(), &parley.ChatRequest{Message: "x"}, tools)
	t.Fatal("it has not come: ", err)
}

func TestTheSchemaIsThatOfTheArguments(t *testing.T) {
	type line struct {
		Article string  `json:"article"`
		Price   float64 `json:"price,omitempty"`
	}
	type order struct {
		Lines  []line          `json:"lines" jsonschema:"What is ordered."`
		Notes  map[string]bool `json:"notes,omitzero"`
		Due    *time.Time      `json:"due"`
		Hidden int             `json:"-"`
	}
	function := parley.NewFunction("order", "Orders.", func(_ context.Context, in order, _ *parley.PendingCall) (order, error) {
		return in, nil
	})
	want(t, `{"type":"object","properties":{"due":{"type":"string"},`+
		`"lines":{"type":"array","description":"What is ordered.","items":{"type":"object","properties":{`+
		`"article":{"type":"string"},"price":{"type":"number"}},"required":["article"],"additionalProperties":false}},`+
		`"notes":{"type":"object","additionalProperties":{"type":"boolean"}}},`+
		`"required":["lines"],"additionalProperties":false}`, function.Tool.GetParametersSchema())
	for arguments, told := range map[string]string{
		`{"lines": [{"article": "pen"}]}`:       `{"lines":[{"article":"pen"}],"due":null}`,
		`{"lines": [], "n": 1}`:                 `There is no argument "n".`,
		`{"lines": null}`:                       `The argument "lines" is missing.`,
		`{"lines": [{"article": 7}]}`:           `The argument "lines.article" cannot be number.`,
		`{"lines": [{}]}`:                       `The argument "lines[].article" is missing.`,
		`{"lines": [{"article": null}]}`:        `The argument "lines[].article" is missing.`,
		`{"lines": [{"article": "x", "n": 1}]}`: `There is no argument "lines[].n".`,
		`{"lines": [null]}`:                     `The argument "lines[]" is missing.`,
		`{"lines": [], "notes": {"a": null}}`:   `The argument "notes.a" is missing.`,
		`null`:                                  `The arguments are not a JSON object.`,
		`{"lines": [], "due": "tomorrow"}`:      `The arguments do not fit the tool's schema.`,
		`{"lines": []`:                          `The arguments are not a JSON object.`,
		`{"lines": [], "due": null, "notes":1}`: `The argument "notes" cannot be number.`,
	} {
		result, err := function.Run(t.Context(), &parley.PendingCall{Arguments: arguments})
		if err != nil {
			result = err.Error()
		}
		want(t, told, result)
	}
}

func TestToolsThatCannotBeAreRefusedAtOnce(t *testing.T) {
	type endless struct{ Next *endless }
	fine := telling("weather", func(context.Context, place, *parley.PendingCall) (string, error) { return "", nil })
	for _, each := range []struct {
		functions []parley.Function
		why       string
	}{
		{[]parley.Function{fine, fine}, "two tools"},
		{[]parley.Function{{Tool: weather}}, "needs a Tool and a Run"},
		{[]parley.Function{taking[endless]()}, "contain themselves"},
		{[]parley.Function{taking[struct{ Any any }]()}, "interface {}"},
		{[]parley.Function{taking[[]int]()}, "a struct"},
		{[]parley.Function{taking[struct {
			Count int `json:"count,string"`
		}]()}, "a number within a string"},
		{[]parley.Function{taking[struct{ place }]()}, "embed"},
	} {
		_, err := aClient(t, "127.0.0.1:1").RunWithTools(
			t.Context(), &parley.ChatRequest{Message: "x"}, parley.Tools{Functions: each.functions})
		want(t, true, err != nil && strings.Contains(err.Error(), each.why))
	}
}

func taking[Arguments any]() parley.Function {
	return parley.NewFunction("f", "", func(context.Context, Arguments, *parley.PendingCall) (string, error) { return "", nil })
}

// Fails when a run asks again and again about a call that this client cannot give, as that of a newer server.
func TestACallOfAKindThatIsUnknownStaysPending(t *testing.T) {
	newer := &parley.PendingCall{CallKey: "k2", Name: "send", Kind: parleyv1.PendingCallKind(99)}
	known := &parley.PendingCall{CallKey: "k1", Name: "weather", Arguments: `{"word":"Rome"}`}
	fine := telling("weather", func(context.Context, place, *parley.PendingCall) (string, error) { return "clear", nil })
	server := aScript(t, sends(waits(known, newer)), sends(&parleyv1.ResumeTurnResponse{Chat: waits(newer)}))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	tools := parley.Tools{Functions: []parley.Function{fine}}
	answer := must(aClient(t, server.address).RunWithTools(ctx, &parley.ChatRequest{Message: "x"}, tools))(t)
	want(t, parley.FinishReasonActionRequired, answer.GetFinishReason())
	want(t, "k2", answer.GetPendingCalls()[0].GetCallKey())
	want(t, 2, len(server.asked()))
}

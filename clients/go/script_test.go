package parley_test

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

// step is what a scripted server does with one call: it sends, then refuses, hangs, or ends well.
type step struct {
	sends   []proto.Message
	refuses *refusal
	hangs   bool
}

// refusal is an error as Parley tells it, or as something else does if it has no reason.
type refusal struct {
	code     codes.Code
	reason   parley.Reason
	domain   string // empty: Parley's
	metadata map[string]string
	retry    time.Duration
	pushback string // empty: as long as retry
	more     []protoadapt.MessageV1
}

func (r *refusal) in(ctx context.Context) error {
	details := r.more
	if r.reason != "" {
		info := &errdetails.ErrorInfo{Reason: string(r.reason), Domain: r.domain, Metadata: r.metadata}
		if r.domain == "" {
			info.Domain = "parley.v1"
		}
		details = append(details, protoadapt.MessageV1Of(info))
	}
	if r.retry > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(r.retry)}))
		if r.pushback == "" {
			r.pushback = strconv.FormatInt(r.retry.Milliseconds(), 10)
		}
	}
	if r.pushback != "" {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", r.pushback)) // a server's context
	}
	told, err := status.New(r.code, "because the test says so").WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return told.Err()
}

// script is a real gRPC server that takes its next step at every call, the last one again when there are
// no more, and remembers how it was asked.
type script struct {
	parleyv1.UnimplementedConversationServiceServer
	address string

	mutex    sync.Mutex
	steps    []step
	requests []proto.Message
	tokens   []string
	safe     []bool // whether proxies were told that it may be sent again
	timeLeft []time.Duration
	came     chan struct{} // a value for every call
	gone     chan struct{} // a value for every call whose caller went away
}

func aScript(t *testing.T, steps ...step) *script {
	t.Helper()
	return aScriptWith(t, nil, steps...)
}

func aScriptWith(t *testing.T, options []grpc.ServerOption, steps ...step) *script {
	t.Helper()
	s := &script{steps: steps, came: make(chan struct{}, 100), gone: make(chan struct{}, 100)}
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	s.address = listener.Addr().String()
	server := grpc.NewServer(options...)
	parleyv1.RegisterConversationServiceServer(server, s)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return s
}

// asked returns the requests that have come.
func (s *script) asked() []proto.Message {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.requests
}

// wantCallerGone waits for a caller to go away, and not until its call's own time is over.
func (s *script) wantCallerGone(t *testing.T) {
	t.Helper()
	select {
	case <-s.gone:
	case <-time.After(30 * time.Second):
		t.Fatal("the call goes on, and its caller has left")
	}
}

func (s *script) take(ctx context.Context, request proto.Message, send func(proto.Message) error) error {
	step := s.next(ctx, request)
	s.came <- struct{}{}
	for _, each := range step.sends {
		if err := send(each); err != nil {
			return err
		}
	}
	switch {
	case step.hangs:
		<-ctx.Done()
		s.gone <- struct{}{}
		return ctx.Err()
	case step.refuses != nil:
		return step.refuses.in(ctx)
	}
	return nil
}

func (s *script) next(ctx context.Context, request proto.Message) step {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.requests = append(s.requests, request)
	s.tokens = append(s.tokens, metadata.ValueFromIncomingContext(ctx, "authorization")...)
	s.safe = append(s.safe, len(metadata.ValueFromIncomingContext(ctx, "parley-retry")) > 0)
	deadline, _ := ctx.Deadline() // without one, a negative time is left
	s.timeLeft = append(s.timeLeft, time.Until(deadline))
	step := s.steps[0]
	if len(s.steps) > 1 {
		s.steps = s.steps[1:]
	}
	return step
}

func (s *script) Chat(ctx context.Context, request *parleyv1.ChatRequest) (*parleyv1.ChatResponse, error) {
	return answered[*parleyv1.ChatResponse](ctx, s, request)
}

func (s *script) GetHistory(ctx context.Context, request *parleyv1.GetHistoryRequest) (*parleyv1.GetHistoryResponse, error) {
	return answered[*parleyv1.GetHistoryResponse](ctx, s, request)
}

func (s *script) CreateConversation(ctx context.Context, request *parleyv1.CreateConversationRequest) (*parleyv1.CreateConversationResponse, error) {
	return answered[*parleyv1.CreateConversationResponse](ctx, s, request)
}

func (s *script) GetConversation(ctx context.Context, request *parleyv1.GetConversationRequest) (*parleyv1.GetConversationResponse, error) {
	return answered[*parleyv1.GetConversationResponse](ctx, s, request)
}

func (s *script) UpdateConversation(ctx context.Context, request *parleyv1.UpdateConversationRequest) (*parleyv1.UpdateConversationResponse, error) {
	return answered[*parleyv1.UpdateConversationResponse](ctx, s, request)
}

func (s *script) DeleteConversation(ctx context.Context, request *parleyv1.DeleteConversationRequest) (*parleyv1.DeleteConversationResponse, error) {
	return answered[*parleyv1.DeleteConversationResponse](ctx, s, request)
}

func (s *script) UndeleteConversation(ctx context.Context, request *parleyv1.UndeleteConversationRequest) (*parleyv1.UndeleteConversationResponse, error) {
	return answered[*parleyv1.UndeleteConversationResponse](ctx, s, request)
}

func (s *script) ListConversations(ctx context.Context, request *parleyv1.ListConversationsRequest) (*parleyv1.ListConversationsResponse, error) {
	return answered[*parleyv1.ListConversationsResponse](ctx, s, request)
}

func (s *script) CancelTurn(ctx context.Context, request *parleyv1.CancelTurnRequest) (*parleyv1.CancelTurnResponse, error) {
	return answered[*parleyv1.CancelTurnResponse](ctx, s, request)
}

func (s *script) StreamChat(request *parleyv1.StreamChatRequest, stream grpc.ServerStreamingServer[parleyv1.StreamChatResponse]) error {
	return s.take(stream.Context(), request, func(event proto.Message) error { return stream.SendMsg(event) })
}

func (s *script) WatchConversation(request *parleyv1.WatchConversationRequest, stream grpc.ServerStreamingServer[parleyv1.WatchConversationResponse]) error {
	return s.take(stream.Context(), request, func(event proto.Message) error { return stream.SendMsg(event) })
}

func (s *script) AppendMessages(ctx context.Context, request *parleyv1.AppendMessagesRequest) (*parleyv1.AppendMessagesResponse, error) {
	return answered[*parleyv1.AppendMessagesResponse](ctx, s, request)
}

func (s *script) ForkConversation(ctx context.Context, request *parleyv1.ForkConversationRequest) (*parleyv1.ForkConversationResponse, error) {
	return answered[*parleyv1.ForkConversationResponse](ctx, s, request)
}

func (s *script) EraseOwner(ctx context.Context, request *parleyv1.EraseOwnerRequest) (*parleyv1.EraseOwnerResponse, error) {
	return answered[*parleyv1.EraseOwnerResponse](ctx, s, request)
}

func (s *script) GetUsage(ctx context.Context, request *parleyv1.GetUsageRequest) (*parleyv1.GetUsageResponse, error) {
	return answered[*parleyv1.GetUsageResponse](ctx, s, request)
}

func (s *script) ExportConversations(request *parleyv1.ExportConversationsRequest, stream grpc.ServerStreamingServer[parleyv1.ExportConversationsResponse]) error {
	return s.take(stream.Context(), request, func(part proto.Message) error { return stream.SendMsg(part) })
}

func (s *script) StartTurn(ctx context.Context, request *parleyv1.StartTurnRequest) (*parleyv1.StartTurnResponse, error) {
	return answered[*parleyv1.StartTurnResponse](ctx, s, request)
}

func (s *script) ResumeTurn(ctx context.Context, request *parleyv1.ResumeTurnRequest) (*parleyv1.ResumeTurnResponse, error) {
	return answered[*parleyv1.ResumeTurnResponse](ctx, s, request)
}

func (s *script) StreamResumeTurn(request *parleyv1.StreamResumeTurnRequest, stream grpc.ServerStreamingServer[parleyv1.StreamResumeTurnResponse]) error {
	return s.take(stream.Context(), request, func(event proto.Message) error { return stream.SendMsg(event) })
}

func (s *script) WatchTurns(request *parleyv1.WatchTurnsRequest, stream grpc.ServerStreamingServer[parleyv1.WatchTurnsResponse]) error {
	return s.take(stream.Context(), request, func(update proto.Message) error { return stream.SendMsg(update) })
}

func (s *script) ListAgents(ctx context.Context, request *parleyv1.ListAgentsRequest) (*parleyv1.ListAgentsResponse, error) {
	return answered[*parleyv1.ListAgentsResponse](ctx, s, request)
}

func (s *script) ExplainTurn(ctx context.Context, request *parleyv1.ExplainTurnRequest) (*parleyv1.ExplainTurnResponse, error) {
	return answered[*parleyv1.ExplainTurnResponse](ctx, s, request)
}

func (s *script) RehearseTurn(request *parleyv1.RehearseTurnRequest, stream grpc.ServerStreamingServer[parleyv1.RehearseTurnResponse]) error {
	return s.take(stream.Context(), request, func(event proto.Message) error { return stream.SendMsg(event) })
}

// answered takes a step that sends one message.
func answered[Response proto.Message](ctx context.Context, s *script, request proto.Message) (response Response, err error) {
	err = s.take(ctx, request, func(sent proto.Message) error {
		response = sent.(Response)
		return nil
	})
	return response, err
}

func sends(messages ...proto.Message) step { return step{sends: messages} }

func refuses(code codes.Code, reason parley.Reason) step {
	return step{refuses: &refusal{code: code, reason: reason, retry: 10 * time.Millisecond}}
}

// after is a step that sends first.
func (s step) after(messages ...proto.Message) step {
	s.sends = messages
	return s
}

var (
	leaseLost = refuses(codes.Aborted, parley.ReasonLeaseLost)
	drained   = refuses(codes.Unavailable, parley.ReasonWorkerDrained)
	expired   = refuses(codes.Unavailable, parley.ReasonWatchExpired)
	full      = refuses(codes.ResourceExhausted, parley.ReasonOverloaded)
	notFound  = refuses(codes.NotFound, parley.ReasonConversationNotFound)
	// longWait is refused with a wait that is too long to be waited for.
	longWait = step{refuses: &refusal{
		code: codes.Unavailable, reason: parley.ReasonAgentUnavailable, retry: time.Minute, pushback: "-1",
	}}
	hangs = step{hangs: true}
)

func anAnswer(text string) *parley.ChatResponse {
	return &parley.ChatResponse{Response: text, UserSequence: 1, ResponseSequence: 2}
}

func started(attempt int32) *parley.StreamChatResponse {
	return &parley.StreamChatResponse{
		Attempt: attempt, Event: &parleyv1.StreamChatResponse_Started{Started: &parleyv1.TurnStarted{}},
	}
}

func chunk(text string, attempt int32, index int64) *parley.StreamChatResponse {
	return &parley.StreamChatResponse{
		Attempt: attempt, Index: &index,
		Event: &parleyv1.StreamChatResponse_Chunk{Chunk: &parleyv1.TextChunk{Text: text}},
	}
}

func completed(text string) *parley.StreamChatResponse {
	return &parley.StreamChatResponse{
		Event: &parleyv1.StreamChatResponse_Completed{Completed: anAnswer(text)},
	}
}

package parley

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"parley.dev/go/parleyv1"
)

// DefaultAddress is where a server listens unless it is told otherwise.
const DefaultAddress = "127.0.0.1:50051"

// Client talks to Parley. One serves a whole process; all its methods may be called by several goroutines
// at once, and none changes the request that it is given.
type Client struct {
	stub        parleyv1.ConversationServiceClient
	conn        *grpc.ClientConn // nil: another client closes it
	life        context.Context  // ends when that client is closed
	end         context.CancelFunc
	tokens      TokenSource
	actingFor   []string // the user's name, for its metadata; nil: the caller acts for itself
	chatTimeout time.Duration
	readTimeout time.Duration
	onRetry     func(context.Context, *Error)
}

// New makes a client. Nothing is connected before its first call.
//
// The address is host:port, or any gRPC target. To this machine the client speaks plaintext, to any other
// TLS with the system's roots; see [WithTLS], [WithCAFile], [WithClientCertificate], [WithPlaintext].
func New(address string, options ...Option) (*Client, error) {
	s, err := chosen(options)
	if err != nil {
		return nil, err
	}
	if address == "" {
		return nil, errors.New("parley: no address: give host:port, such as parley.DefaultAddress")
	}
	conn, err := connected(address, s)
	if err != nil {
		return nil, fmt.Errorf("parley: %w", err)
	}
	client := newClient(conn, s)
	client.conn = conn
	client.life, client.end = context.WithCancel(context.Background())
	return client, nil
}

// NewFromConn makes a client on a connection of the caller's own, which [Client.Close] leaves open. Dial it
// with [ServiceConfig]: without it nothing that ends UNAVAILABLE is retried but streams and deletions. Options
// about the way to the server (TLS, keepalive, dial options) are refused: the connection has been made.
func NewFromConn(conn grpc.ClientConnInterface, options ...Option) (*Client, error) {
	s, err := chosen(options)
	if err != nil {
		return nil, err
	}
	if len(s.wayOptions) > 0 {
		return nil, fmt.Errorf("parley: %s: too late for a connection that has been made",
			strings.Join(s.wayOptions, ", "))
	}
	return newClient(conn, s), nil
}

func newClient(conn grpc.ClientConnInterface, s *settings) *Client {
	return &Client{
		stub:        parleyv1.NewConversationServiceClient(conn),
		life:        context.Background(),
		tokens:      s.tokens,
		chatTimeout: s.chatTimeout,
		readTimeout: s.readTimeout,
		onRetry:     s.onRetry,
	}
}

// ActingFor returns a client that acts for a user and calls for the user's conversations; user is the "sub" of
// the user's own tokens. The token stays what it is, and needs the scope parley.act beside those of the
// calls. It is cheap enough for each request, and uses this client's connection, which its Close leaves open.
func (c *Client) ActingFor(user string) *Client {
	acting := *c
	acting.conn = nil
	acting.actingFor = []string{url.PathEscape(user)}
	return &acting
}

// Close closes the connection. Calls under way, and those that wait between two tries, end with an [*Error] whose Code is
// [codes.Canceled].
func (c *Client) Close() error {
	if c.conn == nil {
		return nil
	}
	c.end()
	return c.conn.Close()
}

// Chat makes one turn and returns its answer, with Replayed set if the turn had been answered before.
//
// A request without a RequestId gets a new UUID, which answer and error show. There is one turn for one
// request id, however often it is sent: pass one that is stored to repeat the turn after a crash of your
// own. The context's deadline counts for everything, waits and retries included; without one,
// [DefaultChatTimeout]. When the context ends, the request's OnDisconnect decides what happens to the turn.
//
// With [FinishReasonActionRequired] there is no answer yet: the turn waits for the PendingCalls, tools of the request's
// Tools or approvals, and [Client.ResumeTurn] gives it their results. [Client.RunWithTools] does all of that.
//
// An error is an [*Error], or the [TokenSource]'s. When there is none, message and answer are stored.
func (c *Client) Chat(ctx context.Context, request *ChatRequest) (*Answer, error) {
	request, err := keyed(request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(ctx, c.chatTimeout)
	defer cancel()
	response, err := call(ctx, c, c.stub.Chat, request, request.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &Answer{ChatResponse: response, RequestID: request.GetRequestId()}, nil
}

// keyed returns a copy of a request that has a request id: without one, a retry could make a second turn.
func keyed(request *ChatRequest) (*ChatRequest, error) {
	copied := &ChatRequest{}
	proto.Merge(copied, request)
	if copied.RequestId == "" {
		copied.RequestId = uuid.NewString()
	}
	texts := []text{{"message", copied.Message}, {"agent", copied.Agent}}
	for n, tool := range copied.GetTools() {
		name := fmt.Sprintf("tools[%d].", n)
		texts = append(texts,
			text{name + "name", tool.GetName()},
			text{name + "description", tool.GetDescription()},
			text{name + "parameters_schema", tool.GetParametersSchema()})
	}
	return copied, utf8Error(copied.RequestId, texts...)
}

// method is one of the stub's for a single response.
type method[Request, Response any] func(context.Context, Request, ...grpc.CallOption) (Response, error)

// call makes a call, with every try that it takes.
func call[Request, Response any](
	ctx context.Context, c *Client, method method[Request, Response], request Request, requestID string,
) (Response, error) {
	return callTelling(ctx, c, method, request, requestID, requestID != "")
}

// callSafely makes a call that has the same effect however often it is sent, even without a request id.
func callSafely[Request, Response any](
	ctx context.Context, c *Client, method method[Request, Response], request Request, requestID string,
) (Response, error) {
	return callTelling(ctx, c, method, request, requestID, true)
}

// callTelling makes a call, and tells proxies whether it may be sent again.
func callTelling[Request, Response any](
	ctx context.Context, c *Client, method method[Request, Response], request Request, requestID string, isSafe bool,
) (Response, error) {
	var none Response
	tries := newTries(unary)
	for {
		authorized, err := c.authorized(ctx)
		if err != nil {
			return none, err
		}
		if isSafe && tries.count == 1 {
			// Proxies cannot see the request id. The further tries are this client's own.
			authorized = metadata.AppendToOutgoingContext(authorized, "parley-retry", "safe")
		}
		var trailer metadata.MD
		authorized, cancel := c.whileOpen(authorized)
		response, failure := method(authorized, request, grpc.Trailer(&trailer))
		cancel()
		if failure == nil {
			return response, nil
		}
		if err := c.again(ctx, tries, c.errorFrom(ctx, failure, trailer, requestID)); err != nil {
			return none, err
		}
	}
}

// again waits for the next try, or returns the error that stands.
func (c *Client) again(ctx context.Context, tries *tries, err *Error) error {
	pause, isWorthIt := tries.pause(ctx, err)
	if !isWorthIt {
		return err
	}
	if c.onRetry != nil {
		c.onRetry(ctx, err)
	}
	const text = "the call's context ended between two tries, of which the last one failed: "
	return c.rest(ctx, pause, err.RequestID, text+err.Message)
}

// whileOpen returns a context that also ends with the client: gRPC itself would wait for its next try.
func (c *Client) whileOpen(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.life, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// againWithToken waits until the token source may be asked again, or returns its error, or what ended the wait.
func (c *Client) againWithToken(ctx context.Context, tries *tries, noToken error, requestID string) error {
	if !tries.waitForToken() {
		return noToken
	}
	failure := ownError(codes.Unavailable, "", requestID, "no token: "+errors.Unwrap(noToken).Error())
	failure.cause = noToken
	if err := c.again(ctx, tries, failure); err != failure {
		return err
	}
	return noToken
}

// rest waits for so long. An error says that the client was closed meanwhile, or, with this text, that the context ended.
func (c *Client) rest(ctx context.Context, pause time.Duration, requestID, text string) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.life.Done():
	case <-timer.C:
	}
	switch {
	case ctx.Err() != nil:
		return endedError(ctx.Err(), requestID, text)
	case c.life.Err() != nil:
		return closedError(requestID)
	default:
		return nil
	}
}

// withTimeout gives a context that has no deadline this one.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

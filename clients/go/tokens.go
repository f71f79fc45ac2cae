package parley

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc/metadata"
)

// TokenSource says who calls. It is asked before every call, by several goroutines at once. Its error ends the call; a stream
// that has begun to arrive asks it again, as often as it would try a server that is away, and a watch for about five minutes.
type TokenSource interface {
	// Token returns a JWT; empty: the call goes without one.
	Token(ctx context.Context) (string, error)
}

// TokenFunc is a function as a [TokenSource].
type TokenFunc func(ctx context.Context) (string, error)

// Token calls the function.
func (f TokenFunc) Token(ctx context.Context) (string, error) { return f(ctx) }

// StaticToken returns a source of one token that does not change.
func StaticToken(token string) TokenSource {
	return TokenFunc(func(context.Context) (string, error) { return token, nil })
}

// TokenFile returns a source that reads a file, such as a mounted secret, again whenever it changes.
func TokenFile(path string) TokenSource { return &tokenFile{path: path} }

type tokenFile struct {
	path string

	mutex sync.Mutex
	seen  os.FileInfo
	token string
}

func (f *tokenFile) Token(context.Context) (string, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	now, err := os.Stat(f.path)
	if err != nil {
		return "", err
	}
	if f.seen != nil && isSame(f.seen, now) {
		return f.token, nil
	}
	content, err := os.ReadFile(f.path)
	if err != nil {
		return "", err
	}
	f.seen, f.token = now, string(content)
	return f.token, nil
}

func isSame(before, now os.FileInfo) bool {
	return os.SameFile(before, now) && before.Size() == now.Size() && before.ModTime().Equal(now.ModTime())
}

var errBadToken = errors.New("a token is printable ASCII on one line, and this one is not")

// authorized returns a context that says who calls, and for whom. What the client says goes before what the
// context brought: two tokens, or two users, would be refused.
func (c *Client) authorized(ctx context.Context) (context.Context, error) {
	bearer, err := bearerOf(ctx, c.tokens)
	if err != nil {
		return nil, err
	}
	sent, _ := metadata.FromOutgoingContext(ctx) // a copy; none: nil
	if sent == nil {
		sent = metadata.MD{}
	}
	if bearer != "" {
		sent.Set("authorization", bearer)
	}
	if c.actingFor != nil {
		sent.Set("parley-user", c.actingFor...)
	}
	return metadata.NewOutgoingContext(ctx, sent), nil
}

// bearerOf returns the source's token as it is sent; empty: there is none.
func bearerOf(ctx context.Context, source TokenSource) (string, error) {
	if source == nil {
		return "", nil
	}
	token, err := source.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("parley: no token: %w", err)
	}
	token = strings.TrimSpace(token)
	if strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", fmt.Errorf("parley: no token: %w", errBadToken)
	}
	if token == "" {
		return "", nil
	}
	return "Bearer " + token, nil
}

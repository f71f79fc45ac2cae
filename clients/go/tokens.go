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

// TokenSource says who calls. It is asked before every call, by several goroutines at once.
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

// authorized returns a context that carries the source's token.
func authorized(ctx context.Context, source TokenSource) (context.Context, error) {
	if source == nil {
		return ctx, nil
	}
	token, err := source.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("parley: no token: %w", err)
	}
	token = strings.TrimSpace(token)
	if token == "" {
		return ctx, nil
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, fmt.Errorf("parley: no token: %w", errBadToken)
	}
	sent, _ := metadata.FromOutgoingContext(ctx) // a copy; none: empty
	if sent == nil {
		sent = metadata.MD{}
	}
	// Two tokens are refused: this one goes before what the context brought.
	sent.Set("authorization", "Bearer "+token)
	return metadata.NewOutgoingContext(ctx, sent), nil
}

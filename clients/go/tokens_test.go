package parley_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	parley "parley.dev/go"
	"parley.dev/go/parleyv1"
)

func TestATokenFileIsReadAgainWhenItChanges(t *testing.T) {
	server := aScript(t, sends(anAnswer("HELLO")))
	path := filepath.Join(t.TempDir(), "token")
	client := aClient(t, server.address, parley.WithTokenSource(parley.TokenFile(path)))
	_, err := client.Chat(t.Context(), &parley.ChatRequest{Message: "hello"})
	want(t, true, errors.Is(err, os.ErrNotExist))

	for _, token := range []string{"first\n", "second-and-longer\n"} {
		want(t, nil, os.WriteFile(path, []byte(token), 0o600))
		for range 2 {
			must(client.Chat(t.Context(), &parley.ChatRequest{Message: "hello"}))(t)
		}
	}
	// As Kubernetes replaces a secret: another file of the same size.
	want(t, nil, os.WriteFile(path+".new", []byte("third--and-longer\n"), 0o600))
	want(t, nil, os.Rename(path+".new", path))
	must(client.Chat(t.Context(), &parley.ChatRequest{Message: "hello"}))(t)
	wantAll(t, []string{"Bearer first", "Bearer first", "Bearer second-and-longer", "Bearer second-and-longer",
		"Bearer third--and-longer"}, server.tokens)
}

func TestATokenFunctionIsAskedBeforeEveryCall(t *testing.T) {
	server := aScript(t, drained, sends(completed("HELLO")))
	tokens := []string{"first", "second"}
	source := parley.TokenFunc(func(context.Context) (token string, err error) {
		token, tokens = tokens[0], tokens[1:]
		return token, nil
	})
	client := aClient(t, server.address, parley.WithTokenSource(source))
	must(gathered(client.Stream(t.Context(), &parley.ChatRequest{Message: "hello"})))(t)
	wantAll(t, []string{"Bearer first", "Bearer second"}, server.tokens)
}

func TestATokenSourcesErrorComesAsItIs(t *testing.T) {
	broken := errors.New("the vault is sealed")
	source := parley.TokenFunc(func(context.Context) (string, error) { return "", broken })
	client := aClient(t, "127.0.0.1:1", parley.WithTokenSource(source))
	_, chatted := client.Chat(t.Context(), &parley.ChatRequest{Message: "hello"})
	_, streamed := gathered(client.Stream(t.Context(), &parley.ChatRequest{Message: "hello"}))
	_, watched := gathered(client.Watch(t.Context(), &parley.WatchConversationRequest{}))
	for _, err := range []error{chatted, streamed, watched} {
		want(t, true, errors.Is(err, broken))
	}
}

func TestATokenThatCannotBeSentIsNotSent(t *testing.T) {
	for _, token := range []string{"two\nlines", "umläut", "nul\x00"} {
		client := aClient(t, "127.0.0.1:1", parley.WithToken(token))
		_, err := client.Chat(t.Context(), &parley.ChatRequest{Message: "hello"})
		want(t, true, err != nil && strings.Contains(err.Error(), "printable ASCII"))
		want(t, false, strings.Contains(err.Error(), token))
	}
}

func TestTheClientsTokenGoesBeforeTheContexts(t *testing.T) {
	server := aScript(t, sends(anAnswer("HELLO")))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer theirs", "x-trace", "7")
	must(aClient(t, server.address, parley.WithToken("ours")).Chat(ctx, &parley.ChatRequest{Message: "hello"}))(t)
	must(aClient(t, server.address, parley.WithToken("")).Chat(ctx, &parley.ChatRequest{Message: "hello"}))(t)
	wantAll(t, []string{"Bearer ours", "Bearer theirs"}, server.tokens)
}

// Fails when the error of a source that calls Parley itself is taken for the stream's, and so tried again.
func TestAStreamEndsWithTheErrorOfItsTokenSource(t *testing.T) {
	asked := 0
	source := parley.TokenFunc(func(context.Context) (string, error) {
		asked++
		return "", fmt.Errorf("asking the broker: %w", &parley.Error{Code: codes.Unavailable, Message: "gone"})
	})
	client := aClient(t, "127.0.0.1:1", parley.WithTokenSource(source))
	_, err := gathered(client.Stream(t.Context(), &parley.ChatRequest{Message: "x"}))
	want(t, true, err != nil && strings.HasPrefix(err.Error(), "parley: no token: asking the broker"))
	want(t, 1, asked)
}

// Fails when a token that cannot be got for a moment ends what would have waited for a server.
func TestAStreamUnderWayWaitsForItsToken(t *testing.T) {
	broken := errors.New("the vault is sealed")
	feed := &parleyv1.WatchTurnsResponse{Cursor: "1"}
	for name, under := range map[string]struct {
		steps []step
		call  func(*parley.Client) error
	}{
		"a watch": {[]step{expired.after(aMessage(1)), sends(aDeletion())}, func(client *parley.Client) error {
			_, err := gathered(client.Watch(t.Context(), &parley.WatchConversationRequest{}))
			return err
		}},
		"a turn": {[]step{drained.after(chunk("a", 1, 0)), sends(completed("a"))}, func(client *parley.Client) error {
			_, err := gathered(client.Stream(t.Context(), &parley.ChatRequest{Message: "hello"}))
			return err
		}},
		"a feed": {[]step{drained.after(feed), hangs.after(feed)}, func(client *parley.Client) error {
			updates := 0
			for _, err := range client.WatchTurns(t.Context(), &parley.WatchTurnsRequest{}) {
				if updates++; err != nil || updates == 2 {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server, asked, told := aScript(t, under.steps...), 0, []error{}
			source := parley.TokenFunc(func(context.Context) (string, error) {
				if asked++; asked == 2 || asked == 3 {
					return "", broken
				}
				return "token", nil
			})
			hook := parley.WithRetryHook(func(_ context.Context, err *parley.Error) { told = append(told, err) })
			want(t, nil, under.call(aClient(t, server.address, parley.WithTokenSource(source), hook)))
			want(t, 2, len(server.asked()))
			want(t, 3, len(told))
			want(t, true, errors.Is(told[1], broken) && errors.Is(told[2], broken))
		})
	}
}

func TestAStreamUnderWayDoesNotWaitForItsTokenForEver(t *testing.T) {
	broken, asked := errors.New("the vault is sealed"), 0
	source := parley.TokenFunc(func(context.Context) (string, error) {
		if asked++; asked > 1 {
			return "", broken
		}
		return "token", nil
	})
	server := aScript(t, drained.after(chunk("a", 1, 0)))
	client := aClient(t, server.address, parley.WithTokenSource(source))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := gathered(client.Stream(ctx, &parley.ChatRequest{Message: "hello"}))
	want(t, true, errors.Is(err, broken))
	want(t, true, asked > 2)
}

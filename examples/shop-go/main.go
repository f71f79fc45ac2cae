// Command shop-go is a shop that talks with its customers through Parley, and whose own functions are the model's tools.
//
// It reads messages from its standard input, one a line, and writes each answer to its standard output, one a line of JSON.
// All of them are one conversation. Started again with the same session and the same input, it goes on where it was: what
// was answered is answered again, and no order whose result was given is made again. README.md, in the folder above, has
// its environment variables.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	parley "parley.dev/go"
)

// prices are in cents.
var prices = map[string]int{"pen": 120, "notebook": 350, "lamp": 4900}

// pause is how long to wait before a turn is asked for again.
const pause = time.Second

type article struct {
	Article string `json:"article" jsonschema:"The article's name."`
}

type purchase struct {
	Article string `json:"article" jsonschema:"The article's name."`
	Count   int    `json:"count" jsonschema:"How many."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
	options := []parley.Option{parley.WithToken(os.Getenv("PARLEY_TOKEN"))}
	if path := os.Getenv("PARLEY_CA_FILE"); path != "" {
		options = append(options, parley.WithCAFile(path))
	}
	client, err := parley.New(setting("PARLEY_ADDRESS", parley.DefaultAddress), options...)
	if err != nil {
		return err
	}
	defer client.Close()

	session := setting("SHOP_SESSION", "demo")
	tools := parley.Tools{
		Functions: []parley.Function{
			parley.NewFunction("price", "Says what an article costs, in cents.", price),
			parley.NewFunction("order", "Orders an article for the customer.", order(setting("SHOP_ORDERS", "orders.txt"))),
		},
		Approve: leaveToOthers,
		OnError: func(call *parley.PendingCall, err error) { log.Printf("%s: %v", call.GetName(), err) },
	}
	answers := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		answer, err := answered(ctx, client, &parley.ChatRequest{
			// Both are the same after a restart, so nothing has to be stored here.
			ConversationId: uuid.NewSHA1(uuid.NameSpaceURL, []byte("shop:"+session)).String(),
			RequestId:      fmt.Sprintf("%s-%d", session, n),
			AllowMissing:   true,
			Message:        lines.Text(),
			OnBusy:         parley.OnBusyWait,
			OnDisconnect:   parley.OnDisconnectContinue,
		}, tools)
		if err != nil {
			return err
		}
		err = answers.Encode(map[string]string{
			"request_id": answer.RequestID, "conversation_id": answer.GetConversationId(), "answer": answer.GetResponse(),
		})
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

// answered asks for a turn until there is an answer. The client has retried by itself before an error comes here; this is
// for servers that are away for longer, and for approvals that take their time. The request id makes it safe.
func answered(
	ctx context.Context, client *parley.Client, request *parley.ChatRequest, tools parley.Tools,
) (*parley.Answer, error) {
	for {
		answer, err := client.RunWithTools(ctx, request, tools)
		var failure *parley.Error
		isRetryable := errors.As(err, &failure) && failure.Retryable() && ctx.Err() == nil
		if !isRetryable && !errors.Is(err, errOthersDecide) {
			return answer, err
		}
		log.Printf("asking again: %v", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// price is a tool that may run as often as the model likes.
func price(_ context.Context, in article, _ *parley.PendingCall) (int, error) {
	cents, isKnown := prices[in.Article]
	if !isKnown {
		return 0, parley.ToolError("There is no such article.")
	}
	return cents, nil
}

// order returns a tool that writes a line for each time that it runs: "CALL_KEY COUNT ARTICLE". A call that was cut short
// runs again under the same key: a shop with a database would have a unique index on it.
func order(path string) func(context.Context, purchase, *parley.PendingCall) (string, error) {
	return func(ctx context.Context, in purchase, call *parley.PendingCall) (string, error) {
		if _, err := price(ctx, article{in.Article}, call); err != nil {
			return "", err
		}
		if in.Count < 1 {
			return "", parley.ToolError("The count has to be at least 1.")
		}
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return "", err
		}
		_, err = fmt.Fprintf(file, "%s %d %s\n", call.GetCallKey(), in.Count, in.Article)
		if err = errors.Join(err, file.Close()); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d × %s ordered", in.Count, in.Article), nil
	}
}

var errOthersDecide = errors.New("a call waits for an approval from elsewhere")

// leaveToOthers keeps a turn waiting: somebody else watches the feed, and approves or denies.
func leaveToOthers(context.Context, *parley.PendingCall) (parley.Decision, error) {
	return parley.Decision{}, errOthersDecide
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

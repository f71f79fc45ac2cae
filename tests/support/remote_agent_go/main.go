// Command remote_agent_go is an agent by the Go SDK of A2A that does what a test tells it to, and says what it sees.
//
//	see        answers with what came along, as JSON
//	count N    answers with N words, each a chunk
//	hang       says "Half" and waits until it is cancelled, or its deadline is over
//	ask        asks for input, and answers it in the same task
//
// It writes lines to its standard output: "listens PORT", "deadline SECONDS", "cancelled", "ended".
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"iter"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2agrpc/v1"
	"github.com/a2aproject/a2a-go/v2/a2asrv"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type agent struct{}

func (agent) Execute(ctx context.Context, turn *a2asrv.ExecutorContext) iter.Seq2[a2a.Event, error] {
	command, argument, _ := strings.Cut(turn.Message.Parts[0].Text(), " ")
	return func(yield func(a2a.Event, error) bool) {
		if turn.StoredTask == nil && !yield(a2a.NewSubmittedTask(turn, turn.Message), nil) {
			return
		}
		said := func(state a2a.TaskState, text string) {
			message := a2a.NewMessageForTask(a2a.MessageRoleAgent, turn, a2a.NewTextPart(text))
			yield(a2a.NewStatusUpdateEvent(turn, state, message), nil)
		}
		switch command {
		case "see":
			said(a2a.TaskStateCompleted, seen(turn))
		case "count":
			count(turn, argument, yield)
		case "hang":
			hang(ctx, turn, yield)
		case "ask":
			said(a2a.TaskStateInputRequired, "Which one?")
		default:
			said(a2a.TaskStateCompleted, fmt.Sprintf("%s, in the task of before: %t", command, turn.StoredTask != nil))
		}
	}
}

func (agent) Cancel(_ context.Context, turn *a2asrv.ExecutorContext) iter.Seq2[a2a.Event, error] {
	return func(yield func(a2a.Event, error) bool) {
		fmt.Println("cancelled")
		yield(a2a.NewStatusUpdateEvent(turn, a2a.TaskStateCanceled, nil), nil)
	}
}

func seen(turn *a2asrv.ExecutorContext) string {
	headers := map[string][]string{}
	for key, values := range turn.ServiceParams.List() {
		headers[key] = values
	}
	data, err := json.Marshal(map[string]any{"headers": headers, "metadata": turn.Metadata, "context": turn.ContextID})
	if err != nil {
		log.Fatal(err)
	}
	return string(data)
}

func count(turn *a2asrv.ExecutorContext, argument string, yield func(a2a.Event, error) bool) {
	words, err := strconv.Atoi(argument)
	if err != nil {
		log.Fatal(err)
	}
	chunk := a2a.NewArtifactEvent(turn, a2a.NewTextPart("0"))
	for word := 1; yield(chunk, nil) && word < words; word++ {
		chunk = a2a.NewArtifactUpdateEvent(turn, chunk.Artifact.ID, a2a.NewTextPart(fmt.Sprint(" ", word)))
	}
	yield(a2a.NewStatusUpdateEvent(turn, a2a.TaskStateCompleted, nil), nil)
}

func hang(ctx context.Context, turn *a2asrv.ExecutorContext, yield func(a2a.Event, error) bool) {
	if yield(a2a.NewArtifactEvent(turn, a2a.NewTextPart("Half")), nil) {
		<-ctx.Done()
		fmt.Println("ended")
	}
}

func admit(token string) grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		deadline, ok := stream.Context().Deadline()
		if ok {
			fmt.Printf("deadline %.1f\n", time.Until(deadline).Seconds())
		}
		given := metadata.ValueFromIncomingContext(stream.Context(), "authorization")
		if token != "" && strings.Join(given, "") != "Bearer "+token {
			return status.Error(codes.Unauthenticated, "no token, no words")
		}
		return handle(server, stream)
	}
}

func main() {
	options := []grpc.ServerOption{grpc.StreamInterceptor(admit(os.Getenv("TOKEN")))}
	if file := os.Getenv("CERT_FILE"); file != "" {
		pair, err := tls.LoadX509KeyPair(file, os.Getenv("KEY_FILE"))
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(options...)
	a2agrpc.NewHandler(a2asrv.NewHandler(agent{})).RegisterWith(server)
	fmt.Println("listens", listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(server.Serve(listener))
}

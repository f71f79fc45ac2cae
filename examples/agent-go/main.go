// Command agent-go is an agent for Parley, by A2A over gRPC. It counts what was asked, and answers word by word.
package main

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"log"
	"net"
	"strings"
	"time"

	"github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2agrpc/v1"
	"github.com/a2aproject/a2a-go/v2/a2asrv"
	"google.golang.org/grpc"
)

type counter struct{}

// Execute answers one turn. Its context ends when Parley stops the turn; the deadline comes in the metadata.
func (counter) Execute(ctx context.Context, turn *a2asrv.ExecutorContext) iter.Seq2[a2a.Event, error] {
	deadline, _ := time.Parse(time.RFC3339, fmt.Sprint(turn.Metadata["parley.deadline"]))
	earlier, _ := turn.Metadata["parley.history"].([]any)
	answer := fmt.Sprintf("After %d earlier messages, you say: %s", len(earlier), turn.Message.Parts[0].Text())
	return func(yield func(a2a.Event, error) bool) {
		ctx, stop := context.WithDeadline(ctx, deadline)
		defer stop()
		// First the task: Parley can only cancel what it has heard of.
		isHeard := yield(a2a.NewSubmittedTask(turn, turn.Message), nil)
		artifact := a2a.NewArtifactEvent(turn)
		for _, word := range strings.SplitAfter(answer, " ") {
			time.Sleep(5 * time.Millisecond) // to think
			if !isHeard || ctx.Err() != nil {
				break
			}
			artifact.Artifact.Parts = a2a.ContentParts{a2a.NewTextPart(word)}
			isHeard = yield(artifact, nil)
			artifact = a2a.NewArtifactUpdateEvent(turn, artifact.Artifact.ID)
		}
		state := a2a.TaskStateCompleted
		if ctx.Err() != nil {
			log.Print("stopped: ", ctx.Err())
			state = a2a.TaskStateFailed
		}
		if isHeard {
			yield(a2a.NewStatusUpdateEvent(turn, state, nil), nil)
		}
	}
}

// Cancel is called when Parley stops the turn.
func (counter) Cancel(_ context.Context, turn *a2asrv.ExecutorContext) iter.Seq2[a2a.Event, error] {
	return func(yield func(a2a.Event, error) bool) {
		yield(a2a.NewStatusUpdateEvent(turn, a2a.TaskStateCanceled, nil), nil)
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "where to listen, HOST:PORT")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	a2agrpc.NewHandler(a2asrv.NewHandler(counter{})).RegisterWith(server)
	log.Print("listens on ", listener.Addr())
	log.Fatal(server.Serve(listener))
}

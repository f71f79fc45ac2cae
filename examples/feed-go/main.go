// Command feed-go writes down how each turn ended, once, as a line of JSON in a file. It can be killed at any moment.
//
// Each line has the cursor behind its turn, so what is written and how far it came are one: killed, it goes on behind the
// last whole line.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	parley "parley.dev/go"
)

type outcome struct {
	TurnID         string `json:"turn_id"`
	Attempt        int32  `json:"attempt"`
	State          string `json:"state"`
	ConversationID string `json:"conversation_id"`
	RequestID      string `json:"request_id"`
	Cursor         string `json:"cursor"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: feed-go FILE")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := follow(ctx, os.Args[1]); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

// follow writes what ended since the last line, then what ends.
func follow(ctx context.Context, path string) error {
	file, cursor, err := opened(path)
	if err != nil {
		return err
	}
	defer file.Close()
	client, err := parley.New(address(), parley.WithToken(os.Getenv("PARLEY_TOKEN")))
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		for update, err := range client.WatchTurns(ctx, &parley.WatchTurnsRequest{AfterCursor: cursor}) {
			var failure *parley.Error
			if errors.As(err, &failure) && failure.Retryable() && ctx.Err() == nil {
				log.Print(err) // the server was away from the beginning
				time.Sleep(time.Second)
				break
			}
			if err != nil {
				return err // ReasonCursorExpired as well: turns may be missing, which somebody has to look at
			}
			cursor = update.GetCursor()
			turn := update.GetTurn()
			if turn == nil || turn.GetState() == parley.TurnWaiting {
				continue
			}
			if err := write(file, outcome{
				turn.GetTurnId(), turn.GetAttempt(), turn.GetState().String(),
				turn.GetConversationId(), turn.GetRequestId(), cursor,
			}); err != nil {
				return err
			}
		}
	}
}

// write adds one line.
func write(file *os.File, told outcome) error {
	line, err := json.Marshal(told)
	if err != nil {
		return err
	}
	if _, err := file.Write(append(line, '\n')); err != nil {
		return err
	}
	return file.Sync()
}

// opened returns the file, ready for the next line, and the cursor of the last one. A line that was cut short is removed.
func opened(path string) (*os.File, string, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, "", err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, "", err
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	if err := file.Truncate(int64(len(whole))); err != nil {
		return nil, "", err
	}
	if _, err := file.Seek(int64(len(whole)), io.SeekStart); err != nil || len(whole) == 0 {
		return file, "", err
	}
	lines := bytes.Split(bytes.TrimSpace(whole), []byte("\n"))
	var last outcome
	err = json.Unmarshal(lines[len(lines)-1], &last)
	return file, last.Cursor, err
}

func address() string {
	if address := os.Getenv("PARLEY_ADDRESS"); address != "" {
		return address
	}
	return parley.DefaultAddress
}

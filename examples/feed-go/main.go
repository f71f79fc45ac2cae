// Command feed-go writes down how each turn ended, once, as a line of JSON in a file. It can be killed at any moment.
//
// Each line has the cursor behind its turn, so what is written and how far it came are one: killed, it goes on behind the
// last whole line. Where nothing ends, a last line has the cursor alone, for a turn's would expire: the next line takes its
// place.
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
	TurnID         string `json:"turn_id,omitempty"`
	Attempt        int32  `json:"attempt,omitempty"`
	State          string `json:"state,omitempty"`
	ConversationID string `json:"conversation_id,omitempty"`
	RequestID      string `json:"request_id,omitempty"`
	Cursor         string `json:"cursor"`
}

// record is the file.
type record struct {
	file *os.File
	end  int64 // of the last turn's line
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
	record, cursor, err := opened(path)
	if err != nil {
		return err
	}
	defer record.file.Close()
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
			told := outcome{Cursor: cursor}
			if turn := update.GetTurn(); turn != nil && turn.GetState() != parley.TurnWaiting {
				told = outcome{
					turn.GetTurnId(), turn.GetAttempt(), turn.GetState().String(),
					turn.GetConversationId(), turn.GetRequestId(), cursor,
				}
			}
			if err := record.write(told); err != nil {
				return err
			}
		}
	}
}

// write writes a line behind that of the last turn.
func (r *record) write(told outcome) error {
	line, err := json.Marshal(told)
	if err != nil {
		return err
	}
	if err := r.file.Truncate(r.end); err != nil {
		return err
	}
	if _, err := r.file.WriteAt(append(line, '\n'), r.end); err != nil {
		return err
	}
	if told.TurnID != "" {
		r.end += int64(len(line)) + 1
	}
	return r.file.Sync()
}

// opened returns the file, ready for the next line, and the cursor of the last one. A line that was cut short is removed.
func opened(path string) (*record, string, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, "", err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, "", err
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	if err := file.Truncate(int64(len(whole))); err != nil || len(whole) == 0 {
		return &record{file, 0}, "", err
	}
	line := whole[bytes.LastIndexByte(whole[:len(whole)-1], '\n')+1:]
	var last outcome
	if err := json.Unmarshal(line, &last); err != nil {
		return nil, "", err
	}
	if last.TurnID == "" {
		whole = whole[:len(whole)-len(line)]
	}
	return &record{file, int64(len(whole))}, last.Cursor, nil
}

func address() string {
	if address := os.Getenv("PARLEY_ADDRESS"); address != "" {
		return address
	}
	return parley.DefaultAddress
}

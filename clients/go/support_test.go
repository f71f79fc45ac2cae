package parley_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	parley "parley.dev/go"
)

// want fails the test unless what was observed is what was expected.
func want[Value comparable](t *testing.T, expected, observed Value) {
	t.Helper()
	if expected != observed {
		t.Fatalf("expected %v, observed %v", expected, observed)
	}
}

// wantAll does so for lists.
func wantAll[Value any](t *testing.T, expected, observed []Value) {
	t.Helper()
	want(t, fmt.Sprintf("%v", expected), fmt.Sprintf("%v", observed))
}

// wantFailure fails the test unless the error has this reason; it returns all that is known of it.
func wantFailure(t *testing.T, reason parley.Reason, err error) *parley.Error {
	t.Helper()
	if !errors.Is(err, reason) {
		t.Fatalf("expected %s, observed %v", reason, err)
	}
	var failure *parley.Error
	if !errors.As(err, &failure) {
		t.Fatalf("%v is no *parley.Error", err)
	}
	return failure
}

// must returns a value that has come without an error.
func must[Value any](value Value, err error) func(*testing.T) Value {
	return func(t *testing.T) Value {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// gathered returns what an iterator brings, and the error that it ends with.
func gathered[Value any](all iter.Seq2[Value, error]) (values []Value, err error) {
	for value, err := range all {
		if err != nil {
			return values, err
		}
		values = append(values, value)
	}
	return values, nil
}

// wire forwards connections to a server, and cuts them.
type wire struct {
	address string
	behind  string
	mutex   sync.Mutex
	open    []*link
}

// link is one side of a connection. What is written to it is dropped once it is silent.
type link struct {
	net.Conn
	isSilent atomic.Bool
}

func (l *link) Write(data []byte) (int, error) {
	if l.isSilent.Load() {
		return len(data), nil
	}
	return l.Conn.Write(data)
}

func aWire(t *testing.T, behind string) *wire {
	t.Helper()
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	w := &wire{address: listener.Addr().String(), behind: behind}
	t.Cleanup(func() {
		listener.Close()
		w.cut()
	})
	go func() {
		for {
			front, err := listener.Accept()
			if err != nil {
				return // the test is over
			}
			go w.forward(front)
		}
	}()
	return w
}

func (w *wire) forward(near net.Conn) {
	far, err := net.Dial("tcp", w.behind)
	if err != nil {
		near.Close()
		return
	}
	front, back := &link{Conn: near}, &link{Conn: far}
	w.mutex.Lock()
	w.open = append(w.open, front, back)
	w.mutex.Unlock()
	go copied(back, front)
	copied(front, back)
}

func copied(to, from net.Conn) {
	_, _ = io.Copy(to, from) // that it ends is all that matters
	to.Close()
}

// fallSilent passes nothing on over the connections that there are, and closes none; new ones may be made.
func (w *wire) fallSilent() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, each := range w.open {
		each.isSilent.Store(true)
	}
}

// cut closes all connections; new ones may be made.
func (w *wire) cut() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, each := range w.open {
		each.Close()
	}
	w.open = nil
}

// dialing returns a dialler that leads to this address, whatever it is asked for.
func dialing(address string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
}

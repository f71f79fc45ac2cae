package parley

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"parley.dev/go/parleyv1"
)

// longestWatchCall is more than the server takes to end a watch: a call that lasts longer has been lost.
const longestWatchCall = 300 * time.Second

// Watch iterates over a conversation's messages and turn states: first the stored ones, then new ones, until
// the context ends or the conversation is deleted.
//
// Updates: GetMessage, GetTurn (a state that changed), GetEvent (with IncludeEvents: a piece of the open
// turn; only turns that are streamed have them), GetProgress (all stored messages have arrived; also every minute)
// and GetDeleted (the conversation was deleted: the last update, after which the iteration ends without an error; so it is
// when a call that continues the watch finds no conversation).
//
// Every message arrives once, in order. A watch continues after the last message by itself when it expires, when
// a worker or a connection is lost, and while the server is full; it waits up to 3 seconds between tries, or
// as long as the server asks. An error comes last: one that retrying cannot fix, the end of the context, or
// one that prevents the watch from starting.
func (c *Client) Watch(
	ctx context.Context, request *WatchConversationRequest,
) iter.Seq2[*WatchConversationResponse, error] {
	return func(yield func(*WatchConversationResponse, error) bool) {
		tries := newTries(watched)
		watch := &watchStream{
			stub: c.stub, tries: tries, request: &WatchConversationRequest{}, event: eventTold{index: -1},
		}
		proto.Merge(watch.request, request)
		for update, err := range follow(ctx, c, watch, tries, "") {
			if failure, ok := err.(*Error); ok && tries.isUnderWay && failure.Reason == ReasonConversationNotFound {
				update, err = aDeletion(), nil // between two calls
			}
			if !yield(update, err) {
				return
			}
		}
	}
}

func aDeletion() *WatchConversationResponse {
	deleted := &parleyv1.WatchConversationResponse_Deleted{Deleted: &parleyv1.WatchDeleted{}}
	return &WatchConversationResponse{Update: deleted}
}

// watchStream is one conversation, watched.
type watchStream struct {
	stub    parleyv1.ConversationServiceClient
	tries   *tries
	request *WatchConversationRequest
	turn    turnTold
	event   eventTold
	over    bool
}

// turnTold is the last turn's state that was told.
type turnTold struct {
	id      string
	attempt int32
	state   parleyv1.TurnState
}

// eventTold is the last event that was told.
type eventTold struct {
	turnID  string
	attempt int32
	index   int64
}

func (s *watchStream) call(ctx context.Context) (grpc.ServerStreamingClient[WatchConversationResponse], error) {
	return s.stub.WatchConversation(ctx, s.request)
}

func (s *watchStream) longestCall() time.Duration { return longestWatchCall }

// takes notes an update. A call that continues a watch starts with the open turn's state and its first event:
// those that were reported before are not news.
func (s *watchStream) takes(update *WatchConversationResponse) bool {
	s.tries.cameFurther()
	switch update := update.GetUpdate().(type) {
	case *parleyv1.WatchConversationResponse_Message:
		s.request.AfterSequence = update.Message.GetSequence()
	case *parleyv1.WatchConversationResponse_Turn:
		told := s.turn
		s.turn = turnTold{update.Turn.GetTurnId(), update.Turn.GetAttempt(), update.Turn.GetState()}
		return s.turn != told
	case *parleyv1.WatchConversationResponse_Event:
		return s.takesEvent(update.Event)
	case *parleyv1.WatchConversationResponse_Deleted:
		s.over = true // the status that follows says the same
	}
	return true
}

func (s *watchStream) takesEvent(event *StreamChatResponse) bool {
	if event.Index == nil {
		return true
	}
	told := s.event
	now := eventTold{s.turn.id, event.GetAttempt(), event.GetIndex()}
	isLater := now.attempt > told.attempt || now.attempt == told.attempt && now.index > told.index
	if now.turnID == told.turnID && !isLater {
		return false
	}
	s.event = now
	return true
}

func (s *watchStream) isOver() bool { return s.over }

package parley_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/google/uuid"

	parley "parley.dev/go"
)

// The server of the tests says back what it is told.
func exampleClient() *parley.Client {
	client, err := parley.New(os.Getenv("PARLEY_ADDRESS"), parley.WithToken(os.Getenv("PARLEY_TOKEN")))
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func ExampleClient_Chat() {
	client := exampleClient()
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	// The same line again, from anywhere, gets the same answer.
	answer, err := client.Chat(ctx, &parley.ChatRequest{Message: "Book the room.", RequestId: "order-4711-book"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.GetResponse(), answer.GetResponseSequence(), answer.RequestID)
	// Output: Book the room. 2 order-4711-book
}

func ExampleClient_Stream() {
	client := exampleClient()
	defer client.Close()

	for event, err := range client.Stream(context.Background(), &parley.ChatRequest{Message: "Tell me a story."}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(event.GetChunk().GetText())
		if call := event.GetToolCall(); call != nil {
			fmt.Println("→", call.GetName(), call.GetResult())
		}
		if answer := event.GetCompleted(); answer != nil {
			fmt.Println("\nstored as message", answer.GetResponseSequence())
		}
	}
	// Output:
	// Tell me a story.
	// stored as message 2
}

func ExampleClient_StreamText() {
	client := exampleClient()
	defer client.Close()

	for text, err := range client.StreamText(context.Background(), &parley.ChatRequest{Message: "Tell me a story."}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(text)
	}
	// Output: Tell me a story.
}

func ExampleClient_GetHistory() {
	client := exampleClient()
	defer client.Close()
	ctx := context.Background()
	answer, err := client.Chat(ctx, &parley.ChatRequest{Message: "Hello!"})
	if err != nil {
		log.Fatal(err)
	}

	request := &parley.GetHistoryRequest{ConversationId: answer.GetConversationId(), Order: parley.OrderNewestFirst}
	for message, err := range client.GetHistory(ctx, request) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(message.GetSequence(), message.GetRole(), message.GetContent())
	}
	// Output:
	// 2 ROLE_ASSISTANT Hello!
	// 1 ROLE_USER Hello!
}

func ExampleClient_Watch() {
	client := exampleClient()
	defer client.Close()
	ctx := context.Background()
	answer, err := client.Chat(ctx, &parley.ChatRequest{Message: "Hello!"})
	if err != nil {
		log.Fatal(err)
	}

	request := &parley.WatchConversationRequest{ConversationId: answer.GetConversationId(), AfterSequence: 1}
	for update, err := range client.Watch(ctx, request) {
		if err != nil {
			log.Fatal(err)
		}
		if message := update.GetMessage(); message != nil {
			fmt.Println(message.GetSequence(), message.GetContent())
			break // a watch goes on until its conversation is deleted
		}
	}
	// Output: 2 Hello!
}

func ExampleClient_StartTurn() {
	client := exampleClient()
	defer client.Close()
	ctx := context.Background()

	request := &parley.ChatRequest{Message: "Sum up the day.", RequestId: "job-4711"}
	started, err := client.StartTurn(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(started.GetTurn().GetRequestId(), started.GetReplayed())

	// The same request gets the answer, from anywhere and at any time.
	answer, err := client.Chat(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.GetResponse())
	// Output:
	// job-4711 false
	// Sum up the day.
}

func ExampleClient_WatchTurns() {
	token := parley.WithToken(tokenOf(uuid.NewString(), nil)) // a user who has no turns yet
	client, err := parley.New(os.Getenv("PARLEY_ADDRESS"), token)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	for _, name := range []string{"job-1", "job-2"} {
		if _, err := client.Chat(ctx, &parley.ChatRequest{Message: "Hello!", RequestId: name}); err != nil {
			log.Fatal(err)
		}
	}

	cursor := "" // as it was stored last
	for update, err := range client.WatchTurns(ctx, &parley.WatchTurnsRequest{AfterCursor: cursor}) {
		if err != nil {
			log.Fatal(err)
		}
		if turn := update.GetTurn(); turn != nil {
			fmt.Println(turn.GetRequestId(), turn.GetState())
		}
		if cursor = update.GetCursor(); update.GetProgress() != nil {
			break // all that had ended has been told; a watch goes on for ever
		}
	}
	// Output:
	// job-1 TURN_STATE_COMPLETED
	// job-2 TURN_STATE_COMPLETED
}

func ExampleClient_AppendMessages() {
	client := exampleClient()
	defer client.Close()
	ctx := context.Background()

	history := &parley.AppendMessagesRequest{
		ConversationId: uuid.NewString(),
		AllowMissing:   true,
		Messages: []*parley.Message{
			{Role: parley.RoleUser, Content: "How far is Rome?"},
			{Role: parley.RoleAssistant, Content: "1,200 km."},
		},
	}
	added, err := client.AppendMessages(ctx, history)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(added.GetFirstSequence(), added.GetLastSequence())

	further := &parley.ChatRequest{ConversationId: history.ConversationId, Message: "And Oslo?"}
	answer, err := client.Chat(ctx, further)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.GetResponse(), answer.GetContext().GetMessageCount())
	// Output:
	// 1 2
	// And Oslo? 3
}

func ExampleClient_ForkConversation() {
	client := exampleClient()
	defer client.Close()
	ctx := context.Background()
	first, err := client.Chat(ctx, &parley.ChatRequest{Message: "How far is Rome?"})
	if err != nil {
		log.Fatal(err)
	}
	again := &parley.ChatRequest{ConversationId: first.GetConversationId(), Message: "And Oslo?"}
	if _, err := client.Chat(ctx, again); err != nil {
		log.Fatal(err)
	}

	// The fork does not know of the second turn.
	forked, err := client.ForkConversation(ctx, &parley.ForkConversationRequest{
		ConversationId: first.GetConversationId(),
		UpToSequence:   first.GetResponseSequence(),
	})
	if err != nil {
		log.Fatal(err)
	}
	request := &parley.GetHistoryRequest{ConversationId: forked.GetConversation().GetConversationId()}
	for message, err := range client.GetHistory(ctx, request) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(message.GetSequence(), message.GetContent())
	}
	// Output:
	// 1 How far is Rome?
	// 2 How far is Rome?
}

func ExampleClient_ExportConversations() {
	token := parley.WithToken(tokenOf(uuid.NewString(), nil)) // a user who has nothing stored yet
	client, err := parley.New(os.Getenv("PARLEY_ADDRESS"), token)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	if _, err := client.Chat(ctx, &parley.ChatRequest{Message: "Hello!"}); err != nil {
		log.Fatal(err)
	}

	for part, err := range client.ExportConversations(ctx, &parley.ExportConversationsRequest{}) {
		if err != nil {
			log.Fatal(err)
		}
		if conversation := part.GetConversation(); conversation != nil {
			fmt.Println("conversation:", conversation.GetTitle())
		}
		if message := part.GetMessage(); message != nil {
			fmt.Println(message.GetSequence(), message.GetContent())
		}
		if part.GetDone() != nil {
			fmt.Println("everything has come")
		}
	}
	// Output:
	// conversation: Hello!
	// 1 Hello!
	// 2 Hello!
	// everything has come
}

func ExampleClient_RehearseTurn() {
	client := exampleClient()
	defer client.Close()
	ctx := context.Background()
	answer, err := client.Chat(ctx, &parley.ChatRequest{Message: "How far is Rome?"})
	if err != nil {
		log.Fatal(err)
	}
	listed, err := client.ListAgents(ctx, &parley.ListAgentsRequest{})
	if err != nil {
		log.Fatal(err)
	}

	for _, agent := range listed.GetAgents() {
		request := &parley.RehearseTurnRequest{RequestId: answer.RequestID, Agent: agent.GetName()}
		for event, err := range client.RehearseTurn(ctx, request) {
			switch {
			case errors.Is(err, parley.ReasonNoRehearsal):
				fmt.Println(agent.GetName(), "might act")
			case err != nil:
				log.Fatal(err)
			case event.GetCompleted() != nil:
				fmt.Println(agent.GetName(), "says:", event.GetCompleted().GetResponse())
			}
		}
	}
	// Output: echo says: How far is Rome?
}

func ExampleError() {
	client := exampleClient()
	defer client.Close()

	_, err := client.Chat(context.Background(), &parley.ChatRequest{
		ConversationId: "01890000-0000-7000-8000-000000000000",
		Message:        "Hello!",
	})
	var failure *parley.Error
	switch {
	case errors.Is(err, parley.ReasonConversationNotFound):
		fmt.Println("start a new one")
	case errors.As(err, &failure) && failure.Retryable():
		fmt.Println("again later, with request id", failure.RequestID)
	}
	// Output: start a new one
}

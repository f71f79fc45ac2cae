// Package parley is the Go client of Parley, a gRPC service that keeps conversations with language models.
//
//	client, err := parley.New("parley.internal:443", parley.WithTokenSource(parley.TokenFile("/run/secrets/parley")))
//	…
//	answer, err := client.Chat(ctx, &parley.ChatRequest{Message: "Hello!"})
//
// Requests and responses are the contract's own messages. Every turn has a request id: the client makes one if
// the caller gives none, keeps it through its retries, and shows it in the result and in the error. So what is
// lost is asked for again without asking the model twice. [Client.CreateConversation], [Client.ForkConversation] and
// [Client.AppendMessages] have one as well.
//
// [Client.ListAgents] names the server's agents, [Client.ExplainTurn] tells what a turn's agent was shown, and
// [Client.RehearseTurn] asks another one.
//
// [Client.StartTurn] has a turn run without a caller, and [Client.WatchTurns] tells of every turn that ends.
//
// What the server, or the way to it, makes fail is an [*Error]; errors.Is tells its [Reason].
package parley

package dev.parley.client;

import dev.parley.v1.AppendMessagesRequest;
import dev.parley.v1.AppendMessagesResponse;
import dev.parley.v1.CallResult;
import dev.parley.v1.CancelTurnRequest;
import dev.parley.v1.CancelTurnResponse;
import dev.parley.v1.ChatRequest;
import dev.parley.v1.Conversation;
import dev.parley.v1.ConversationServiceGrpc;
import dev.parley.v1.CreateConversationRequest;
import dev.parley.v1.CreateConversationResponse;
import dev.parley.v1.DeleteConversationResponse;
import dev.parley.v1.EraseOwnerRequest;
import dev.parley.v1.EraseOwnerResponse;
import dev.parley.v1.ExplainTurnRequest;
import dev.parley.v1.ExplainTurnResponse;
import dev.parley.v1.ExportConversationsResponse;
import dev.parley.v1.ForkConversationRequest;
import dev.parley.v1.ForkConversationResponse;
import dev.parley.v1.GetConversationRequest;
import dev.parley.v1.GetConversationResponse;
import dev.parley.v1.GetHistoryResponse;
import dev.parley.v1.GetTurnRequest;
import dev.parley.v1.GetTurnResponse;
import dev.parley.v1.GetUsageResponse;
import dev.parley.v1.ListAgentsRequest;
import dev.parley.v1.ListAgentsResponse;
import dev.parley.v1.ListConversationsResponse;
import dev.parley.v1.Message;
import dev.parley.v1.RehearseTurnRequest;
import dev.parley.v1.RehearseTurnResponse;
import dev.parley.v1.ResumeTurnRequest;
import dev.parley.v1.StartTurnRequest;
import dev.parley.v1.StartTurnResponse;
import dev.parley.v1.StreamChatResponse;
import dev.parley.v1.Turn;
import dev.parley.v1.UndeleteConversationRequest;
import dev.parley.v1.UndeleteConversationResponse;
import dev.parley.v1.UpdateConversationResponse;
import dev.parley.v1.WatchConversationResponse;
import dev.parley.v1.WatchTurnsResponse;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.Flow;

/**
 * Parley, for a caller that does not wait: {@link CompletableFuture} for what comes once, {@link Flow.Publisher} for
 * what comes in pieces.
 *
 * <p>What it does is what {@link ParleyClient} does, and so are its errors: futures and subscribers get a
 * {@link ParleyException}. Cancelling a future or a subscription cancels the call. Every subscriber makes calls of
 * its own, when it subscribes, and gets no more events than it asks for.
 */
public final class AsyncParleyClient implements AutoCloseable {

    private final Connection connection;

    AsyncParleyClient(Connection connection) {
        this.connection = connection;
    }

    /** Begins to make a client. */
    public static ClientBuilder<AsyncParleyClient> builder() {
        return new ClientBuilder<>(AsyncParleyClient::new);
    }

    /** Returns this client as one whose calls are about a user's conversations; see {@link ParleyClient#actingFor}. */
    public AsyncParleyClient actingFor(String user) {
        return new AsyncParleyClient(connection.actingFor(user));
    }

    /** Makes one turn of a new conversation. */
    public CompletableFuture<Answer> chat(String message) {
        return chat(message, ChatOptions.defaults());
    }

    /** Makes one turn; see {@link ParleyClient#chat(String, ChatOptions)}. */
    public CompletableFuture<Answer> chat(String message, ChatOptions options) {
        return chat(options.request(message), options);
    }

    CompletableFuture<Answer> chat(ChatRequest request, ChatOptions options) {
        String requestId = request.getRequestId();
        return UnaryCall.start(
                connection, ConversationServiceGrpc.getChatMethod(), request, requestId,
                options.timeoutOr(connection.chatTimeout()), Headers.RETRY_IS_SAFE, options.onRetry(),
                response -> new Answer(response, requestId));
    }

    /** Makes one turn of a new conversation and publishes its answer as it comes. */
    public Flow.Publisher<StreamChatResponse> stream(String message) {
        return stream(message, ChatOptions.defaults());
    }

    /**
     * Makes one turn and publishes its answer as it comes; see {@link ParleyClient#stream(String, ChatOptions)}.
     * All subscribers share the request id, and so the turn.
     */
    public Flow.Publisher<StreamChatResponse> stream(String message, ChatOptions options) {
        return stream(options.request(message), options);
    }

    Flow.Publisher<StreamChatResponse> stream(ChatRequest request, ChatOptions options) {
        return Following.publisher(
                connection, () -> TurnProgress.of(request, options.timeoutOr(connection.chatTimeout())),
                options.onRetry());
    }

    /**
     * Makes one turn with tools of this process; see {@link ParleyClient#runWithTools}. No thread is held while the model
     * thinks. Functions run and approvals are asked about on threads of the run's own, which they may block. Cancelling
     * the future ends the call and interrupts them; the turn waits on.
     */
    public CompletableFuture<Answer> runWithTools(String message, ChatOptions options, Tools tools) {
        return runWithTools(options.request(message, tools), options, tools, null);
    }

    CompletableFuture<Answer> runWithTools(ChatRequest request, ChatOptions options, Tools tools, Executor steps) {
        return ToolRun.start(this, request, options, tools, steps);
    }

    /** Has a turn of a new conversation run without a caller. */
    public CompletableFuture<StartTurnResponse> startTurn(String message) {
        return startTurn(message, ChatOptions.defaults());
    }

    /** Has a turn run without a caller; see {@link ParleyClient#startTurn(String, ChatOptions)}. */
    public CompletableFuture<StartTurnResponse> startTurn(String message, ChatOptions options) {
        return startTurn(options.request(message), options);
    }

    CompletableFuture<StartTurnResponse> startTurn(ChatRequest chat, ChatOptions options) {
        return UnaryCall.start(
                connection, ConversationServiceGrpc.getStartTurnMethod(),
                StartTurnRequest.newBuilder().setChat(chat).build(), chat.getRequestId(),
                options.timeoutOr(connection.readTimeout()), Headers.RETRY_IS_SAFE, options.onRetry(),
                response -> response);
    }

    /** Gives a waiting turn what it waits for; see {@link ParleyClient#resumeTurn(TurnKey, List, ResumeOptions)}. */
    public CompletableFuture<Answer> resumeTurn(TurnKey key, List<CallResult> results, ResumeOptions options) {
        return UnaryCall.start(
                connection, ConversationServiceGrpc.getResumeTurnMethod(), options.request(key, results),
                key.requestId(), options.timeoutOr(connection.chatTimeout()), Headers.RETRY_IS_SAFE, options.onRetry(),
                response -> new Answer(response.getChat(), key.requestId()));
    }

    /**
     * Gives a waiting turn what it waits for, and publishes the turn as it comes; see
     * {@link ParleyClient#streamResumeTurn(TurnKey, List, ResumeOptions)}.
     */
    public Flow.Publisher<StreamChatResponse> streamResumeTurn(
            TurnKey key, List<CallResult> results, ResumeOptions options) {
        ResumeTurnRequest request = options.request(key, results);
        return TurnProgress.events(Following.publisher(
                connection, () -> TurnProgress.of(request, options.timeoutOr(connection.chatTimeout())),
                options.onRetry()));
    }

    /** Stops a turn; see {@link ParleyClient#cancelTurn}. */
    public CompletableFuture<Turn> cancelTurn(TurnKey key) {
        CancelTurnRequest request = CancelTurnRequest.newBuilder()
                .setRequestId(key.requestId()).setConversationId(key.conversationId()).setTurnId(key.turnId()).build();
        return read(
                ConversationServiceGrpc.getCancelTurnMethod(), request, key.requestId(), CancelTurnResponse::getTurn);
    }

    /** Says where a turn stands; see {@link ParleyClient#turn}. */
    public CompletableFuture<Turn> turn(TurnKey key) {
        GetTurnRequest request = GetTurnRequest.newBuilder()
                .setRequestId(key.requestId()).setConversationId(key.conversationId()).setTurnId(key.turnId()).build();
        return read(ConversationServiceGrpc.getGetTurnMethod(), request, key.requestId(), GetTurnResponse::getTurn);
    }

    /** Returns the agents that a caller can name; see {@link ParleyClient#listAgents}. */
    public CompletableFuture<ListAgentsResponse> listAgents() {
        return read(
                ConversationServiceGrpc.getListAgentsMethod(), ListAgentsRequest.getDefaultInstance(), "",
                response -> response);
    }

    /** Tells what a turn's agent was shown and did; see {@link ParleyClient#explainTurn}. */
    public CompletableFuture<ExplainTurnResponse> explainTurn(TurnKey key) {
        ExplainTurnRequest request = ExplainTurnRequest.newBuilder()
                .setRequestId(key.requestId()).setConversationId(key.conversationId()).setTurnId(key.turnId()).build();
        return read(
                ConversationServiceGrpc.getExplainTurnMethod(), request, key.requestId(), response -> response);
    }

    /**
     * Publishes what an agent answers to a turn when it is asked again; see
     * {@link ParleyClient#rehearseTurn(TurnKey, RehearseOptions)}. Every subscriber begins a rehearsal.
     */
    public Flow.Publisher<RehearseTurnResponse> rehearseTurn(TurnKey key, RehearseOptions options) {
        RehearseTurnRequest request = options.request(key);
        return Following.publisher(
                connection, () -> new RehearsalProgress(request, options.timeoutOr(connection.chatTimeout())),
                options.onRetry());
    }

    /** Creates an empty conversation; see {@link ParleyClient#createConversation}. */
    public CompletableFuture<CreateConversationResponse> createConversation(CreateOptions options) {
        return createConversation(options.request());
    }

    CompletableFuture<CreateConversationResponse> createConversation(CreateConversationRequest request) {
        return change(
                ConversationServiceGrpc.getCreateConversationMethod(), request, request.getRequestId(),
                connection.readTimeout());
    }

    /** Reads a conversation without its messages; see {@link ParleyClient#conversation}. */
    public CompletableFuture<Conversation> conversation(String conversationId) {
        GetConversationRequest request =
                GetConversationRequest.newBuilder().setConversationId(conversationId).build();
        return read(
                ConversationServiceGrpc.getGetConversationMethod(), request, "",
                GetConversationResponse::getConversation);
    }

    /** Changes a conversation; see {@link ParleyClient#updateConversation}. */
    public CompletableFuture<Conversation> updateConversation(String conversationId, UpdateOptions options) {
        return read(
                ConversationServiceGrpc.getUpdateConversationMethod(), options.request(conversationId), "",
                UpdateConversationResponse::getConversation);
    }

    /** Deletes a conversation that exists. */
    public CompletableFuture<DeleteConversationResponse> deleteConversation(String conversationId) {
        return deleteConversation(conversationId, DeleteOptions.defaults());
    }

    /** Deletes a conversation; see {@link ParleyClient#deleteConversation(String, DeleteOptions)}. */
    public CompletableFuture<DeleteConversationResponse> deleteConversation(
            String conversationId, DeleteOptions options) {
        return read(
                ConversationServiceGrpc.getDeleteConversationMethod(), options.request(conversationId), "",
                new Deletion());
    }

    /** Brings a deleted conversation back; see {@link ParleyClient#undeleteConversation}. */
    public CompletableFuture<Conversation> undeleteConversation(String conversationId) {
        UndeleteConversationRequest request =
                UndeleteConversationRequest.newBuilder().setConversationId(conversationId).build();
        return read(
                ConversationServiceGrpc.getUndeleteConversationMethod(), request, "",
                UndeleteConversationResponse::getConversation);
    }

    /** Reads one page of a conversation's messages; its token is empty if it was the last one. */
    public CompletableFuture<GetHistoryResponse> historyPage(String conversationId, HistoryOptions options) {
        return read(
                ConversationServiceGrpc.getGetHistoryMethod(), options.request(conversationId), "",
                response -> response);
    }

    /** Reads one page of the caller's conversations; its token is empty if it was the last one. */
    public CompletableFuture<ListConversationsResponse> conversationsPage(ListOptions options) {
        return read(
                ConversationServiceGrpc.getListConversationsMethod(), options.request(), "", response -> response);
    }

    /** Publishes what happens in a conversation; see {@link ParleyClient#watch(String, WatchOptions)}. */
    public Flow.Publisher<WatchConversationResponse> watch(String conversationId, WatchOptions options) {
        return Following.publisher(
                connection, () -> new ConversationProgress(options.request(conversationId)), options.onRetry());
    }

    /** Publishes every turn that ends; see {@link ParleyClient#watchTurns(FeedOptions)}. */
    public Flow.Publisher<WatchTurnsResponse> watchTurns(FeedOptions options) {
        return Following.publisher(connection, () -> new FeedProgress(options.request()), options.onRetry());
    }

    /** Adds messages to a conversation that exists. */
    public CompletableFuture<AppendMessagesResponse> appendMessages(String conversationId, List<Message> messages) {
        return appendMessages(conversationId, messages, AppendOptions.defaults());
    }

    /** Adds messages to a conversation; see {@link ParleyClient#appendMessages(String, List, AppendOptions)}. */
    public CompletableFuture<AppendMessagesResponse> appendMessages(
            String conversationId, List<Message> messages, AppendOptions options) {
        return appendMessages(options.request(conversationId, messages), options.timeout());
    }

    CompletableFuture<AppendMessagesResponse> appendMessages(AppendMessagesRequest request, Duration timeout) {
        return change(
                ConversationServiceGrpc.getAppendMessagesMethod(), request, request.getRequestId(), timeout);
    }

    /** Copies a conversation up to the end of its newest turn that has ended. */
    public CompletableFuture<ForkConversationResponse> forkConversation(String conversationId) {
        return forkConversation(conversationId, ForkOptions.defaults());
    }

    /** Copies a conversation; see {@link ParleyClient#forkConversation(String, ForkOptions)}. */
    public CompletableFuture<ForkConversationResponse> forkConversation(String conversationId, ForkOptions options) {
        return forkConversation(options.request(conversationId), options.timeout());
    }

    CompletableFuture<ForkConversationResponse> forkConversation(ForkConversationRequest request, Duration timeout) {
        return change(
                ConversationServiceGrpc.getForkConversationMethod(), request, request.getRequestId(), timeout);
    }

    /** Publishes everything that the caller has stored; see {@link ParleyClient#exportConversations(ExportOptions)}. */
    public Flow.Publisher<ExportConversationsResponse> exportConversations(ExportOptions options) {
        return Following.publisher(connection, () -> new ExportProgress(options.request()), options.onRetry());
    }

    /** Erases everything that the caller has stored; see {@link ParleyClient#eraseOwner}. */
    public CompletableFuture<EraseOwnerResponse> eraseOwner(String requestId) {
        EraseOwnerRequest request = EraseOwnerRequest.newBuilder().setRequestId(requestId).build();
        return change(
                ConversationServiceGrpc.getEraseOwnerMethod(), request, requestId, Connection.CHANGE_TIMEOUT);
    }

    /** Sums up what the caller's turns used; see {@link ParleyClient#usage}. */
    public CompletableFuture<GetUsageResponse> usage(UsageOptions options) {
        return read(ConversationServiceGrpc.getGetUsageMethod(), options.request(), "", response -> response);
    }

    /**
     * Closes the client. Calls under way, and those that wait between two tries, end with a {@link ParleyException}, code
     * CANCELLED. For a client that {@link #actingFor} returned, or that was built on a channel of the caller's own, this
     * does nothing: the channel is another's.
     */
    @Override
    public void close() {
        connection.close();
    }

    /** Returns what ends after a pause, or as soon as the client is closed. */
    CompletableFuture<?> rested(Duration pause) {
        return connection.rested(pause);
    }

    /** Makes a call that has a request id of its own, so that proxies may send it again. */
    private <Q, R> CompletableFuture<R> change(
            MethodDescriptor<Q, R> method, Q request, String requestId, Duration timeout) {
        return UnaryCall.start(
                connection, method, request, requestId, timeout, Headers.RETRY_IS_SAFE, error -> {},
                response -> response);
    }

    /** Makes a call that has no request id of its own, so that proxies are told nothing. */
    private <Q, R, T> CompletableFuture<T> read(
            MethodDescriptor<Q, R> method, Q request, String requestId, UnaryCall.Outcome<R, T> outcome) {
        return UnaryCall.start(
                connection, method, request, requestId, connection.readTimeout(), Headers.NONE, error -> {}, outcome);
    }
}

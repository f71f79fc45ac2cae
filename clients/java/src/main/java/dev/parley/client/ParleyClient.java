package dev.parley.client;

import dev.parley.v1.AppendMessagesRequest;
import dev.parley.v1.AppendMessagesResponse;
import dev.parley.v1.CallResult;
import dev.parley.v1.ChatRequest;
import dev.parley.v1.Conversation;
import dev.parley.v1.CreateConversationRequest;
import dev.parley.v1.CreateConversationResponse;
import dev.parley.v1.DeleteConversationResponse;
import dev.parley.v1.EraseOwnerResponse;
import dev.parley.v1.ErasureState;
import dev.parley.v1.ExplainTurnResponse;
import dev.parley.v1.ExportConversationsResponse;
import dev.parley.v1.ForkConversationRequest;
import dev.parley.v1.ForkConversationResponse;
import dev.parley.v1.GetHistoryResponse;
import dev.parley.v1.GetUsageResponse;
import dev.parley.v1.ListAgentsResponse;
import dev.parley.v1.ListConversationsResponse;
import dev.parley.v1.Message;
import dev.parley.v1.RehearseTurnResponse;
import dev.parley.v1.StartTurnResponse;
import dev.parley.v1.Turn;
import dev.parley.v1.WatchConversationResponse;
import dev.parley.v1.WatchTurnsResponse;
import java.time.Duration;
import java.util.List;

/**
 * Parley, for a caller that waits.
 *
 * <pre>{@code
 * try (ParleyClient parley = ParleyClient.builder().address("parley.internal:443").tokenFile(path).build()) {
 *     Answer answer = parley.chat("Hello!");
 *     answer = parley.chat("And?", ChatOptions.inConversation(answer.conversationId()));
 * }
 * }</pre>
 *
 * <p>One client serves a whole process and any number of its threads. It connects at its first call. What answers
 * is the contract's own messages; what fails is a {@link ParleyException}. Unreachable servers and lost workers are
 * retried under the call's deadline, with the same request id. Interrupting a thread that waits cancels its call.
 */
public final class ParleyClient implements AutoCloseable {

    /** How long to wait before an erasure is asked for again. */
    private static final Duration ERASURE_PAUSE = Duration.ofSeconds(1);

    private final AsyncParleyClient async;

    ParleyClient(Connection connection) {
        this(new AsyncParleyClient(connection));
    }

    private ParleyClient(AsyncParleyClient async) {
        this.async = async;
    }

    /** Begins to make a client. */
    public static ClientBuilder<ParleyClient> builder() {
        return new ClientBuilder<>(ParleyClient::new);
    }

    /**
     * Returns this client as one whose calls are about a user's conversations. It is cheap enough for each request
     * of a web server: it uses this client's channel, which closing it leaves open. The token stays what it is, and
     * needs the scope {@code parley.act} beside those of the calls.
     *
     * @param user what the user's own tokens have as {@code sub}
     * @throws IllegalArgumentException the name is empty or cannot be sent; what else is no name, the server refuses
     *     at every call with InvalidRequest
     */
    public ParleyClient actingFor(String user) {
        return new ParleyClient(async.actingFor(user));
    }

    /** Makes one turn of a new conversation and returns its answer. */
    public Answer chat(String message) {
        return chat(message, ChatOptions.defaults());
    }

    /**
     * Makes one turn and returns its answer. There is one turn for one request id, however often it is sent. When
     * this returns, message and answer are stored.
     *
     * @param message 1 to 262,144 bytes of UTF-8 unless the server is set otherwise, not only white space
     * @return the answer, replayed if the turn had been answered before. If it {@link Answer#isWaiting}, the turn waits
     *     for tools of the options or for an approval: {@code resumeTurn} lets it go on
     * @throws ParleyException ConversationNotFound, TurnInProgress, SequenceMismatch, RequestIdReused,
     *     TurnSuperseded, AttemptsExhausted, AgentRefused, Unavailable, DeadlineExceeded, and what any call may
     *     throw: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded, InternalError
     * @throws IllegalArgumentException the message cannot be sent
     */
    public Answer chat(String message, ChatOptions options) {
        ChatRequest request = options.request(message);
        return Waiting.forResult(async.chat(request, options), request.getRequestId());
    }

    /**
     * Makes one turn as {@code chat} does, runs the tools of this process that the model calls, and returns the answer.
     *
     * <p>The model is told the tools of the options and those of {@code tools}. While the turn waits, each call of a
     * function is run, all that the model has asked for at once at the same time, on threads of their own; calls that
     * need an approval are asked about. The turn is then resumed, and may wait again. If a function throws, so that the
     * call fails, the model is told the text of a {@link ToolException}, and of any other exception the class. So it is
     * for a tool that nobody knows.
     *
     * <p>With a request id that is stored, the same call can be made again after a crash, or at the same time elsewhere:
     * it goes on with what is pending. A function whose result was given does not run again; one that was cut short does,
     * under the same call key. The tools have to be the same then, or RequestIdReused is thrown.
     *
     * @param options the timeout is that of each call of the turn; functions have no limit. Interrupting the thread ends
     *     the call and interrupts the functions; the turn waits on
     * @return the answer; of a turn that was cancelled meanwhile, or waited for too long, what was said so far; one that
     *     {@link Answer#isWaiting} if it waits only for what this client does not know, such as a newer kind of call
     * @throws ParleyException as of {@code chat}
     */
    public Answer runWithTools(String message, ChatOptions options, Tools tools) {
        ChatRequest request = options.request(message, tools);
        var thread = new WaitingThread();
        return thread.until(async.runWithTools(request, options, tools, thread), request.getRequestId());
    }

    /** Gives a waiting turn what it waits for. */
    public Answer resumeTurn(TurnKey key, List<CallResult> results) {
        return resumeTurn(key, results, ResumeOptions.defaults());
    }

    /**
     * Gives a waiting turn what it waits for, and returns what becomes of it. A result counts once, however often it is
     * given.
     *
     * @param results one for each pending call, or for some of them, 1 to 64; {@link CallResults} makes them
     * @return the answer, or one that {@link Answer#isWaiting}, with what the turn still waits for, or waits for again
     * @throws ParleyException TurnNotFound, ResultAlreadyGiven, CallNotPending, and those of {@code chat}
     */
    public Answer resumeTurn(TurnKey key, List<CallResult> results, ResumeOptions options) {
        return Waiting.forResult(async.resumeTurn(key, results, options), key.requestId());
    }

    /** Gives a waiting turn what it waits for, and streams the turn. */
    public TurnStream streamResumeTurn(TurnKey key, List<CallResult> results) {
        return streamResumeTurn(key, results, ResumeOptions.defaults());
    }

    /**
     * Gives a waiting turn what it waits for, and streams the turn while the agent goes on with it: from its beginning,
     * what was said before it waited included. A lost stream is restarted as that of {@code stream}.
     */
    public TurnStream streamResumeTurn(TurnKey key, List<CallResult> results, ResumeOptions options) {
        return new TurnStream(async.streamResumeTurn(key, results, options), key.requestId());
    }

    /** Makes one turn of a new conversation and streams its answer. */
    public TurnStream stream(String message) {
        return stream(message, ChatOptions.defaults());
    }

    /**
     * Makes one turn and streams its answer. The client restarts a lost stream by itself, with the same request id
     * and after the last piece received, on any worker: up to 5 failed tries, 8 once pieces have arrived.
     *
     * @return a stream that ends with {@code completed} or an exception, at the timeout at the latest. Closing it
     *     cancels the call, and {@code onDisconnect} decides what happens to the turn
     * @throws IllegalArgumentException the message cannot be sent
     */
    public TurnStream stream(String message, ChatOptions options) {
        ChatRequest request = options.request(message);
        return new TurnStream(async.stream(request, options), request.getRequestId());
    }

    /** Has a turn of a new conversation run without a caller. */
    public StartTurnResponse startTurn(String message) {
        return startTurn(message, ChatOptions.defaults());
    }

    /**
     * Stores a turn and returns at once. A worker of the server runs it later, without a caller: no connection has to
     * stay open. Turns of one conversation begin in the order in which they were accepted, one after the other. There
     * is one turn for one request id, however often it is sent; one that has failed is queued again, where
     * {@code chat} would run it again.
     *
     * <p>{@link #turn} says where the turn stands, {@link #watchTurns(FeedOptions)} when it has ended or waits. {@code stream}
     * and {@code chat} with the same request id and arguments get its answer. {@link #cancelTurn} before it begins
     * leaves no message behind.
     *
     * @param message 1 to 262,144 bytes of UTF-8 unless the server is set otherwise, not only white space
     * @param options {@code onBusy} and {@code onDisconnect} mean nothing here; the timeout is that of a read, 10
     *     seconds, unless one is given
     * @return the turn, queued, with the request id that was given or made; replayed if an earlier call had stored it,
     *     and then as it is now. When this returns, the turn is stored and will be run
     * @throws ParleyException ConversationNotFound, RequestIdReused, TurnSuperseded, AttemptsExhausted, QueueFull,
     *     TurnLimitReached, BudgetExhausted, and what any call may throw
     * @throws IllegalArgumentException the message cannot be sent
     */
    public StartTurnResponse startTurn(String message, ChatOptions options) {
        ChatRequest request = options.request(message);
        return Waiting.forResult(async.startTurn(request, options), request.getRequestId());
    }

    /**
     * Stops a turn; the text written so far becomes its final answer. Callers that stream the turn or wait for it
     * get that answer. A turn that has ended does not change.
     *
     * @return the turn. Still running: it has been asked to stop and has not ended within 2 seconds
     * @throws ParleyException TurnNotFound, and what any call may throw
     */
    public Turn cancelTurn(TurnKey key) {
        return Waiting.forResult(async.cancelTurn(key), key.requestId());
    }

    /**
     * Returns the state of a turn.
     *
     * @throws ParleyException TurnNotFound, and what any call may throw
     */
    public Turn turn(TurnKey key) {
        return Waiting.forResult(async.turn(key), key.requestId());
    }

    /**
     * Returns the agents that a caller can name, by name: at least one, and exactly one of them is the default.
     *
     * @throws ParleyException what any call may throw
     */
    public ListAgentsResponse listAgents() {
        return Waiting.forResult(async.listAgents(), "");
    }

    /**
     * Returns what a turn's agent was shown and what it did: the messages, those that were omitted and why, a digest of
     * its instructions, its tool calls and the attempts. Of a turn without an answer, it is what the next attempt would
     * be shown.
     *
     * @throws ParleyException TurnNotFound, and what any call may throw
     */
    public ExplainTurnResponse explainTurn(TurnKey key) {
        return Waiting.forResult(async.explainTurn(key), key.requestId());
    }

    /** Gives a turn's window and message to its own agent again. */
    public EventStream<RehearseTurnResponse> rehearseTurn(TurnKey key) {
        return rehearseTurn(key, RehearseOptions.defaults());
    }

    /**
     * Gives a turn's window and message to an agent again, and streams what it answers. Nothing is stored, and no tool is
     * run: a call that the turn itself made, with the same arguments, gets the result that it got then, any other one
     * an error.
     *
     * <p>The client tries up to 5 times as long as no event has come. Once one has, a lost rehearsal is not begun again:
     * it would use the tokens again, and answer differently.
     *
     * @return events: {@code started} (the first), {@code chunk} (text), {@code tool_call} (with its result), and last
     *     {@code completed}: the whole answer, with its tokens. It ends with {@code completed} or an exception, at the
     *     timeout at the latest. Closing it ends the rehearsal. Its iteration throws TurnNotFound, AgentUnknown,
     *     WindowIncomplete, NoRehearsal, AgentRefused, TurnLimitReached, BudgetExhausted, and what any call may throw:
     *     what had come before is no answer
     */
    public EventStream<RehearseTurnResponse> rehearseTurn(TurnKey key, RehearseOptions options) {
        return new EventStream<>(async.rehearseTurn(key, options), "");
    }

    /**
     * Creates an empty conversation, to give it labels, instructions, a title or an agent before its first message. One
     * conversation is created for one request id, however often it is sent.
     *
     * @return the conversation as it is now, replayed if an earlier call had created it
     * @throws ParleyException ConversationExists, RequestIdReused, AgentUnknown, and what any call may throw
     */
    public CreateConversationResponse createConversation(CreateOptions options) {
        CreateConversationRequest request = options.request();
        return Waiting.forResult(async.createConversation(request), request.getRequestId());
    }

    /**
     * Returns one conversation, without its messages.
     *
     * @throws ParleyException ConversationNotFound, and what any call may throw
     */
    public Conversation conversation(String conversationId) {
        return Waiting.forResult(async.conversation(conversationId), "");
    }

    /**
     * Changes the title, the labels, the instructions or the agent of a conversation. What the options do not give stays.
     *
     * <p>The client repeats a call whose answer was lost. If the lost try had made the change, the next one makes it
     * again and the revision rises by 2; with {@link UpdateOptions#expectedRevision} the next try finds exactly its own
     * change, at the next revision, and the call returns the conversation.
     *
     * @return the conversation as it is now
     * @throws ParleyException ConversationNotFound, RevisionMismatch, AgentUnknown, and what any call may throw
     */
    public Conversation updateConversation(String conversationId, UpdateOptions options) {
        return Waiting.forResult(async.updateConversation(conversationId, options), "");
    }

    /** Deletes a conversation that exists. */
    public DeleteConversationResponse deleteConversation(String conversationId) {
        return deleteConversation(conversationId, DeleteOptions.defaults());
    }

    /**
     * Deletes a conversation with everything that was said in it. When this returns, no call finds it: its open turn
     * is stopped, and its watches end.
     *
     * <p>The client repeats a call whose answer was lost. If the conversation is not there any more, the lost try
     * counts as the one that deleted it, and the response is empty. To repeat the call yourself, use
     * {@link DeleteOptions#allowMissing}.
     *
     * @return until when {@link #undeleteConversation} brings the conversation back, if at all: {@code purge_time}
     * @throws ParleyException ConversationNotFound unless a missing one is allowed, and what any call may throw
     */
    public DeleteConversationResponse deleteConversation(String conversationId, DeleteOptions options) {
        return Waiting.forResult(async.deleteConversation(conversationId, options), "");
    }

    /**
     * Brings a deleted conversation back, as it was when it was deleted; a turn that was open then has failed. A
     * conversation that is not deleted does not change.
     *
     * @return the conversation as it is now
     * @throws ParleyException ConversationNotFound (there is none, or it can no longer be brought back), and what any
     *     call may throw
     */
    public Conversation undeleteConversation(String conversationId) {
        return Waiting.forResult(async.undeleteConversation(conversationId), "");
    }

    /** Returns all messages of a conversation, the oldest first; pages are fetched as they are needed. */
    public Iterable<Message> history(String conversationId) {
        return history(conversationId, HistoryOptions.defaults());
    }

    /** Returns messages of a conversation. Its iterator fetches pages as they are needed, and throws. */
    public Iterable<Message> history(String conversationId, HistoryOptions options) {
        return new Pages<>(
                options.pageToken(), token -> historyPage(conversationId, options.pageToken(token)),
                GetHistoryResponse::getMessagesList, GetHistoryResponse::getNextPageToken);
    }

    /**
     * Returns one page of a conversation's messages; its token is empty if it was the last one.
     *
     * @throws ParleyException ConversationNotFound, SequenceNotReached, InvalidPageToken, and what any call may throw
     */
    public GetHistoryResponse historyPage(String conversationId, HistoryOptions options) {
        return Waiting.forResult(async.historyPage(conversationId, options), "");
    }

    /** Returns all conversations of the caller, the most recently active first. */
    public Iterable<Conversation> conversations() {
        return conversations(ListOptions.defaults());
    }

    /** Returns conversations of the caller. Its iterator fetches pages as they are needed, and throws. */
    public Iterable<Conversation> conversations(ListOptions options) {
        return new Pages<>(
                options.pageToken(), token -> conversationsPage(options.pageToken(token)),
                ListConversationsResponse::getConversationsList, ListConversationsResponse::getNextPageToken);
    }

    /**
     * Returns one page of the caller's conversations; its token is empty if it was the last one, and only then: with
     * labels, a page may have fewer conversations than its size, even none, although there are more.
     *
     * @throws ParleyException InvalidPageToken, and what any call may throw
     */
    public ListConversationsResponse conversationsPage(ListOptions options) {
        return Waiting.forResult(async.conversationsPage(options), "");
    }

    /** Returns a conversation's messages and turn states, from the first message on. */
    public EventStream<WatchConversationResponse> watch(String conversationId) {
        return watch(conversationId, WatchOptions.defaults());
    }

    /**
     * Returns a conversation's messages and turn states: first the stored ones, then new ones, until the conversation
     * is deleted.
     *
     * <p>Every message arrives once, in order. A watch continues after the last message by itself when it expires,
     * when a worker or a connection is lost, and while the server is full; it waits up to 3 seconds between tries, or
     * as long as the server asks.
     *
     * @return updates: {@code message}, {@code turn} (a state that changed), {@code event} (with
     *     {@link WatchOptions#includeEvents}), {@code progress} (all stored messages have arrived; also every
     *     minute) and {@code deleted}, after which the iteration ends, also if the conversation was deleted while the
     *     watch was lost. Its iteration throws errors that retrying cannot fix, or that prevent the watch from starting
     */
    public EventStream<WatchConversationResponse> watch(String conversationId, WatchOptions options) {
        return new EventStream<>(async.watch(conversationId, options), "");
    }

    /** Returns every turn of the caller that ends, from the oldest one that is kept. */
    public EventStream<WatchTurnsResponse> watchTurns() {
        return watchTurns(FeedOptions.defaults());
    }

    /**
     * Returns every turn that ends: first those that have ended behind a cursor, then new ones, without an end.
     *
     * <p>Every end comes once, in order; a turn that is run again after it failed has one for each attempt. A watch
     * continues behind the last update by itself when it expires, when a worker or a connection is lost, and while the
     * server is full; it waits up to 3 seconds between tries, or as long as the server asks.
     *
     * @return updates: {@code turn}, and {@code progress} (all that had ended have been told; also every minute). Each
     *     has a {@code cursor}: store it once the update is handled, to continue after a crash of the caller. Its
     *     iteration throws errors that retrying cannot fix, or that prevent the watch from starting: CursorExpired
     *     (turns behind the cursor may be gone), InvalidPageToken (it is not one of this feed's), ScopeMissing, and
     *     what any call may throw
     */
    public EventStream<WatchTurnsResponse> watchTurns(FeedOptions options) {
        return new EventStream<>(async.watchTurns(options), "");
    }

    /** Adds messages to a conversation that exists. */
    public AppendMessagesResponse appendMessages(String conversationId, List<Message> messages) {
        return appendMessages(conversationId, messages, AppendOptions.defaults());
    }

    /**
     * Adds messages to a conversation without running an agent: all of them, or none. The agent sees them in the next
     * turn. They are added once for one request id, however often it is sent.
     *
     * @param messages 1 to 1,000, in order, with at most 1 MiB of texts; those of another conversation as they are
     * @return the sequences of the first and the last one, replayed if an earlier call had added them
     * @throws ParleyException ConversationNotFound unless a missing one is allowed, TurnInProgress, SequenceMismatch,
     *     RequestIdReused, and what any call may throw
     * @throws IllegalArgumentException a text cannot be sent
     */
    public AppendMessagesResponse appendMessages(String conversationId, List<Message> messages, AppendOptions options) {
        AppendMessagesRequest request = options.request(conversationId, messages);
        return Waiting.forResult(async.appendMessages(request, options.timeout()), request.getRequestId());
    }

    /** Copies a conversation up to the end of its newest turn that has ended. */
    public ForkConversationResponse forkConversation(String conversationId) {
        return forkConversation(conversationId, ForkOptions.defaults());
    }

    /**
     * Creates a conversation with the messages, title, labels, instructions and agent of another one; from then on
     * both change apart. One conversation is created for one request id, however often it is sent.
     *
     * @return the copy as it is now, replayed if an earlier call had created it
     * @throws ParleyException ConversationNotFound, NotATurnBoundary, SequenceNotReached, ConversationExists,
     *     RequestIdReused, and what any call may throw
     */
    public ForkConversationResponse forkConversation(String conversationId, ForkOptions options) {
        ForkConversationRequest request = options.request(conversationId);
        return Waiting.forResult(async.forkConversation(request, options.timeout()), request.getRequestId());
    }

    /** Returns everything that the caller has stored, from the beginning. */
    public EventStream<ExportConversationsResponse> exportConversations() {
        return exportConversations(ExportOptions.defaults());
    }

    /**
     * Returns everything that the caller has stored: each conversation, followed by its messages.
     *
     * <p>Every part arrives once, in order. An export continues behind the last part by itself when it expires, when a
     * worker or a connection is lost, and while the server is full: up to 5 failed tries, 8 once parts have arrived.
     *
     * @return parts: {@code conversation}, {@code message} (of the conversation before it) and, last, {@code done}. To
     *     continue after a crash of the caller, pass the last part's {@code cursor}. Its iteration throws
     *     InvalidPageToken (the cursor is not one of the caller's), and what any call may throw
     */
    public EventStream<ExportConversationsResponse> exportConversations(ExportOptions options) {
        return new EventStream<>(async.exportConversations(options), "");
    }

    /**
     * Erases everything that the caller has stored; the token has to name the scope {@code parley.erase}. When this
     * returns, no call finds any of it; what is created later stays.
     *
     * @param requestId the erasure's key, 1 to 128 of {@code [A-Za-z0-9._:-]}. Another one begins another erasure, so
     *     store it before the first call. It is kept with the receipt: no personal data
     * @return the receipt. ERASURE_STATE_RUNNING: rows are still being removed; call again with the same request id
     * @throws ParleyException ScopeMissing, and what any call may throw
     */
    public EraseOwnerResponse eraseOwner(String requestId) {
        return Waiting.forResult(async.eraseOwner(requestId), requestId);
    }

    /** Does what {@link #eraseOwner} does, again every second until all rows are removed, however long that takes. */
    public EraseOwnerResponse eraseOwnerAndWait(String requestId) {
        while (true) {
            EraseOwnerResponse receipt = eraseOwner(requestId);
            if (receipt.getState() == ErasureState.ERASURE_STATE_DONE) {
                return receipt;
            }
            Waiting.forResult(async.rested(ERASURE_PAUSE), requestId);
        }
    }

    /**
     * Returns what the caller's turns used: a row for each day and, if asked for, agent and value of a label. Every
     * attempt counts, failed ones included.
     *
     * @throws ParleyException InvalidRequest, and what any call may throw
     */
    public GetUsageResponse usage(UsageOptions options) {
        return Waiting.forResult(async.usage(options), "");
    }

    /**
     * Closes the client. Calls under way, and those that wait between two tries, end with a {@link ParleyException}, code
     * CANCELLED. For a client that {@link #actingFor} returned, or that was built on a channel of the caller's own, this
     * does nothing: the channel is another's.
     */
    @Override
    public void close() {
        async.close();
    }
}

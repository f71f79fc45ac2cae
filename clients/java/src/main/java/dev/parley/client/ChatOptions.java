package dev.parley.client;

import dev.parley.v1.ChatRequest;
import dev.parley.v1.OnBusy;
import dev.parley.v1.OnDisconnect;
import dev.parley.v1.Tool;
import java.time.Duration;
import java.util.List;
import java.util.UUID;
import java.util.function.Consumer;
import java.util.function.UnaryOperator;

/**
 * How a turn is made. Immutable: every method returns new options, so that they can be shared and built upon.
 *
 * <pre>{@code
 * ChatOptions.inConversation(id).requestId("order-4711-book").onBusy(OnBusy.ON_BUSY_WAIT)
 * }</pre>
 */
public final class ChatOptions {

    private static final ChatOptions DEFAULTS = new ChatOptions(ChatRequest.getDefaultInstance(), null, error -> {});

    private final ChatRequest request;
    private final Duration timeout; // null: the client's
    private final Consumer<ParleyException> onRetry;

    private ChatOptions(ChatRequest request, Duration timeout, Consumer<ParleyException> onRetry) {
        this.request = request;
        this.timeout = timeout;
        this.onRetry = onRetry;
    }

    /** Starts a new conversation, and leaves everything to its default. */
    public static ChatOptions defaults() {
        return DEFAULTS;
    }

    /** Continues a conversation. */
    public static ChatOptions inConversation(String conversationId) {
        return DEFAULTS.conversationId(conversationId);
    }

    /** The conversation to continue, a UUID. Default: a new one. */
    public ChatOptions conversationId(String conversationId) {
        return with(builder -> builder.setConversationId(conversationId));
    }

    /**
     * The turn's key, 1 to 128 of {@code [A-Za-z0-9._:-]}. Default: a new UUID, which answers, streams and
     * exceptions show. Pass one that is stored to repeat the turn after a crash of the caller.
     */
    public ChatOptions requestId(String requestId) {
        return with(builder -> builder.setRequestId(requestId));
    }

    /** Creates the conversation under its id if there is none. Default: ConversationNotFound. */
    public ChatOptions allowMissing() {
        return with(builder -> builder.setAllowMissing(true));
    }

    /** Refuses unless this is the conversation's last sequence; 0: new or empty. Default: whatever is there. */
    public ChatOptions expectedSequence(long sequence) {
        return with(builder -> builder.setExpectedSequence(sequence));
    }

    /**
     * What to do while another turn of the conversation is open. Default: ON_BUSY_REJECT. ON_BUSY_REPLACE takes the place of
     * one that waits for its caller.
     */
    public ChatOptions onBusy(OnBusy onBusy) {
        return with(builder -> builder.setOnBusy(onBusy));
    }

    /** What becomes of the turn when this call is lost or its deadline comes. Default: ON_DISCONNECT_CANCEL. */
    public ChatOptions onDisconnect(OnDisconnect onDisconnect) {
        return with(builder -> builder.setOnDisconnect(onDisconnect));
    }

    /**
     * An agent's name, one of {@code listAgents}. Default: the conversation's agent, or the server's default one.
     *
     * @throws IllegalArgumentException the name cannot be sent
     */
    public ChatOptions agent(String agent) {
        return with(builder -> builder.setAgent(Texts.checked("agent's name", agent)));
    }

    /**
     * Tools that the caller runs itself, at most 64; they replace those given before. When the model calls one, the turn
     * waits, and {@code resumeTurn} gives it the result. {@code runWithTools} brings its own. Default: none.
     *
     * @throws IllegalArgumentException one cannot be sent
     */
    public ChatOptions tools(List<Tool> tools) {
        tools.forEach(each -> {
            Texts.checked("tool's name", each.getName());
            Texts.checked("tool's description", each.getDescription());
            Texts.checked("tool's schema", each.getParametersSchema());
        });
        return with(builder -> builder.clearTools().addAllTools(tools));
    }

    /** For everything, waits and retries included. Default: the client's, 120 seconds; for {@code startTurn} 10. */
    public ChatOptions timeout(Duration timeout) {
        return new ChatOptions(request, ClientBuilder.positive(timeout), onRetry);
    }

    /**
     * Told of every error after which the client calls again by itself, such as to log it; on a thread of the
     * client's, which it must not block.
     */
    public ChatOptions onRetry(Consumer<ParleyException> onRetry) {
        return new ChatOptions(request, timeout, onRetry);
    }

    /** Returns what to send. It always has a request id: without one, a retry could make a second turn. */
    ChatRequest request(String message) {
        ChatRequest.Builder builder = request.toBuilder().setMessage(Texts.checked("message", message));
        if (builder.getRequestId().isEmpty()) {
            builder.setRequestId(UUID.randomUUID().toString());
        }
        return builder.build();
    }

    /** Returns a request with tools besides those of these options. */
    ChatRequest request(String message, Tools tools) {
        ChatRequest request = request(message);
        return tools(tools.told()).request(message).toBuilder() // which looks at their texts
                .setRequestId(request.getRequestId())
                .clearTools().addAllTools(request.getToolsList()).addAllTools(tools.told()).build();
    }

    /** Returns how a turn that was made with these options is resumed. */
    ResumeOptions resume() {
        ResumeOptions options = ResumeOptions.defaults().onDisconnect(request.getOnDisconnect()).onRetry(onRetry);
        return timeout == null ? options : options.timeout(timeout);
    }

    Duration timeoutOr(Duration otherwise) {
        return timeout == null ? otherwise : timeout;
    }

    Consumer<ParleyException> onRetry() {
        return onRetry;
    }

    private ChatOptions with(UnaryOperator<ChatRequest.Builder> change) {
        return new ChatOptions(change.apply(request.toBuilder()).build(), timeout, onRetry);
    }
}

package dev.parley.client;

import dev.parley.v1.AppendMessagesRequest;
import dev.parley.v1.Message;
import dev.parley.v1.OnBusy;
import dev.parley.v1.ToolCall;
import java.time.Duration;
import java.util.List;
import java.util.UUID;
import java.util.function.UnaryOperator;

/**
 * How messages are added to a conversation. Immutable: every method returns new options.
 *
 * <pre>{@code
 * AppendOptions.defaults().allowMissing().requestId("import-4711")
 * }</pre>
 */
public final class AppendOptions {

    private static final AppendOptions DEFAULTS =
            new AppendOptions(AppendMessagesRequest.getDefaultInstance(), Connection.CHANGE_TIMEOUT);

    private final AppendMessagesRequest request;
    private final Duration timeout;

    private AppendOptions(AppendMessagesRequest request, Duration timeout) {
        this.request = request;
        this.timeout = timeout;
    }

    /** To a conversation that exists, whatever its last message is, while no turn of it is open. */
    public static AppendOptions defaults() {
        return DEFAULTS;
    }

    /**
     * The call's key, 1 to 128 of {@code [A-Za-z0-9._:-]}, separate from those of turns and creations. Default: a new
     * UUID. Pass one that is stored to repeat the call after a crash of the caller.
     */
    public AppendOptions requestId(String requestId) {
        return with(builder -> builder.setRequestId(requestId));
    }

    /** Creates the conversation if there is none. Default: ConversationNotFound. */
    public AppendOptions allowMissing() {
        return with(builder -> builder.setAllowMissing(true));
    }

    /** Refuses unless this is the conversation's last sequence; 0: new or empty. Default: whatever is there. */
    public AppendOptions expectedSequence(long sequence) {
        return with(builder -> builder.setExpectedSequence(sequence));
    }

    /** What to do while a turn of the conversation is open. Default: ON_BUSY_REJECT. */
    public AppendOptions onBusy(OnBusy onBusy) {
        return with(builder -> builder.setOnBusy(onBusy));
    }

    /** For everything, waits and retries included. Default: 60 seconds. */
    public AppendOptions timeout(Duration timeout) {
        return new AppendOptions(request, ClientBuilder.positive(timeout));
    }

    Duration timeout() {
        return timeout;
    }

    /**
     * Returns what to send. It always has a request id: without one, a retry could add the messages twice.
     *
     * @throws IllegalArgumentException a text cannot be sent
     */
    AppendMessagesRequest request(String conversationId, List<Message> messages) {
        for (int n = 0; n < messages.size(); n++) {
            check(messages.get(n), "messages[%d]".formatted(n));
        }
        AppendMessagesRequest.Builder builder =
                request.toBuilder().setConversationId(conversationId).addAllMessages(messages);
        if (builder.getRequestId().isEmpty()) {
            builder.setRequestId(UUID.randomUUID().toString());
        }
        return builder.build();
    }

    private static void check(Message message, String name) {
        Texts.checked("content of " + name, message.getContent());
        Texts.checked("model of " + name, message.getModel());
        for (ToolCall call : message.getToolCallsList()) {
            Texts.checked("id of a tool call of " + name, call.getId());
            Texts.checked("name of a tool call of " + name, call.getName());
            Texts.checked("arguments of a tool call of " + name, call.getArguments());
            Texts.checked("result of a tool call of " + name, call.getResult());
        }
    }

    private AppendOptions with(UnaryOperator<AppendMessagesRequest.Builder> change) {
        return new AppendOptions(change.apply(request.toBuilder()).build(), timeout);
    }
}

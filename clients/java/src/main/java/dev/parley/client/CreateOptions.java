package dev.parley.client;

import dev.parley.v1.CreateConversationRequest;
import java.util.Map;
import java.util.UUID;
import java.util.function.UnaryOperator;

/**
 * How a conversation is created. Immutable: every method returns new options.
 *
 * <pre>{@code
 * CreateOptions.defaults().title("Order 4711").labels(Map.of("team", "support"))
 * }</pre>
 */
public final class CreateOptions {

    private static final CreateOptions DEFAULTS = new CreateOptions(CreateConversationRequest.getDefaultInstance());

    private final CreateConversationRequest request;

    private CreateOptions(CreateConversationRequest request) {
        this.request = request;
    }

    /** A conversation without title, labels, instructions and agent, whose id the server chooses. */
    public static CreateOptions defaults() {
        return DEFAULTS;
    }

    /** The id that the conversation is to have, a UUID. Default: the server chooses one. */
    public CreateOptions conversationId(String conversationId) {
        return with(builder -> builder.setConversationId(conversationId));
    }

    /**
     * The call's key, 1 to 128 of {@code [A-Za-z0-9._:-]}, separate from those of turns. Default: a new UUID. Pass
     * one that is stored to repeat the call after a crash of the caller.
     */
    public CreateOptions requestId(String requestId) {
        return with(builder -> builder.setRequestId(requestId));
    }

    /**
     * A title for lists, at most 512 bytes of UTF-8. Default: the beginning of the first message.
     *
     * @throws IllegalArgumentException it cannot be sent
     */
    public CreateOptions title(String title) {
        return with(builder -> builder.setTitle(Texts.checked("title", title)));
    }

    /**
     * Labels by which to find the conversation, at most 16; they replace those given before. A key has 1 to 63 of
     * {@code [a-z0-9._/-]} and begins and ends with a letter or digit, a value has 0 to 63 bytes. Default: none.
     *
     * @throws IllegalArgumentException one cannot be sent
     */
    public CreateOptions labels(Map<String, String> labels) {
        return with(builder -> builder.clearLabels().putAllLabels(Texts.checked(labels)));
    }

    /**
     * What the agent is told in this conversation, after the server's own instructions: at most 8,192 bytes of
     * UTF-8. Default: nothing.
     *
     * @throws IllegalArgumentException it cannot be sent
     */
    public CreateOptions instructions(String instructions) {
        return with(builder -> builder.setInstructions(Texts.checked("text of the instructions", instructions)));
    }

    /**
     * The agent that answers the turns whose callers name none, one of {@code listAgents}. Default: the server's default
     * agent, whichever it is when a turn begins.
     *
     * @throws IllegalArgumentException the name cannot be sent
     */
    public CreateOptions agent(String agent) {
        return with(builder -> builder.setAgent(Texts.checked("agent's name", agent)));
    }

    /** Returns what to send. It always has a request id: without one, a retry could create a second conversation. */
    CreateConversationRequest request() {
        return request.getRequestId().isEmpty()
                ? request.toBuilder().setRequestId(UUID.randomUUID().toString()).build()
                : request;
    }

    private CreateOptions with(UnaryOperator<CreateConversationRequest.Builder> change) {
        return new CreateOptions(change.apply(request.toBuilder()).build());
    }
}

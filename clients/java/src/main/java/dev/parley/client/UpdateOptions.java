package dev.parley.client;

import dev.parley.v1.UpdateConversationRequest;
import java.util.Map;
import java.util.function.UnaryOperator;

/**
 * What changes in a conversation. Only what is given changes, and an empty value clears. Immutable: every method
 * returns new options.
 *
 * <pre>{@code
 * UpdateOptions.defaults().title("").labels(Map.of("state", "closed")).expectedRevision(3)
 * }</pre>
 */
public final class UpdateOptions {

    private static final UpdateOptions DEFAULTS = new UpdateOptions(UpdateConversationRequest.getDefaultInstance());

    private final UpdateConversationRequest request;

    private UpdateOptions(UpdateConversationRequest request) {
        this.request = request;
    }

    /** Changes nothing yet, which the server refuses. */
    public static UpdateOptions defaults() {
        return DEFAULTS;
    }

    /**
     * The new title, at most 512 bytes of UTF-8; empty: none. In a conversation without messages the first one then
     * sets it. Default: the title stays.
     *
     * @throws IllegalArgumentException it cannot be sent
     */
    public UpdateOptions title(String title) {
        return changing("title", builder -> builder.setTitle(Texts.checked("title", title)));
    }

    /**
     * The new labels, at most 16. They replace all labels that the conversation has; empty: it has none then.
     * Default: the labels stay.
     *
     * @throws IllegalArgumentException one cannot be sent
     */
    public UpdateOptions labels(Map<String, String> labels) {
        return changing("labels", builder -> builder.clearLabels().putAllLabels(Texts.checked(labels)));
    }

    /**
     * The new instructions, at most 8,192 bytes of UTF-8; empty: none. A turn that is open keeps those that it began
     * with. Default: the instructions stay.
     *
     * @throws IllegalArgumentException it cannot be sent
     */
    public UpdateOptions instructions(String instructions) {
        return changing(
                "instructions",
                builder -> builder.setInstructions(Texts.checked("text of the instructions", instructions)));
    }

    /**
     * The agent that answers the turns whose callers name none from now on, one of {@code listAgents}; empty: the
     * server's default one. A turn that is open keeps the one that it began with. Default: the agent stays.
     *
     * @throws IllegalArgumentException the name cannot be sent
     */
    public UpdateOptions agent(String agent) {
        return changing("agent", builder -> builder.setAgent(Texts.checked("agent's name", agent)));
    }

    /** Refuses unless this is the conversation's revision, at least 1. Default: whatever is there. */
    public UpdateOptions expectedRevision(long revision) {
        return new UpdateOptions(request.toBuilder().setExpectedRevision(revision).build());
    }

    UpdateConversationRequest request(String conversationId) {
        return request.toBuilder().setConversationId(conversationId).build();
    }

    /** Returns options that change this field, too: without its name, an empty value would change nothing. */
    private UpdateOptions changing(String field, UnaryOperator<UpdateConversationRequest.Builder> change) {
        UpdateConversationRequest.Builder builder = change.apply(request.toBuilder());
        if (!builder.getUpdateMask().getPathsList().contains(field)) {
            builder.getUpdateMaskBuilder().addPaths(field);
        }
        return new UpdateOptions(builder.build());
    }
}

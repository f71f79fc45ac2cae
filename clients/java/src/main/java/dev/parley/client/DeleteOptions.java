package dev.parley.client;

import dev.parley.v1.DeleteConversationRequest;

/** How a conversation is deleted. Immutable: every method returns new options. */
public final class DeleteOptions {

    private static final DeleteOptions DEFAULTS = new DeleteOptions(DeleteConversationRequest.getDefaultInstance());

    private final DeleteConversationRequest request;

    private DeleteOptions(DeleteConversationRequest request) {
        this.request = request;
    }

    /** A conversation that exists. */
    public static DeleteOptions defaults() {
        return DEFAULTS;
    }

    /**
     * Takes a conversation that does not exist for a deleted one, so that the call can be repeated. Default:
     * ConversationNotFound.
     */
    public DeleteOptions allowMissing() {
        return new DeleteOptions(request.toBuilder().setAllowMissing(true).build());
    }

    DeleteConversationRequest request(String conversationId) {
        return request.toBuilder().setConversationId(conversationId).build();
    }
}

package dev.parley.client;

import dev.parley.v1.ChatResponse;

/**
 * A turn that was answered. Message and answer are stored.
 *
 * @param response the answer as the contract has it: usage, model, tool calls and all
 * @param requestId the turn's key, given or made; calling {@code chat} with it again gets this answer again
 */
public record Answer(ChatResponse response, String requestId) {

    /** All text of the turn, in order. May be empty. */
    public String text() {
        return response.getResponse();
    }

    /** The conversation, to continue it. */
    public String conversationId() {
        return response.getConversationId();
    }

    /** Whether this turn had been answered before, so that nothing ran. */
    public boolean isReplayed() {
        return response.getReplayed();
    }
}

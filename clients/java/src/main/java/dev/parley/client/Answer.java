package dev.parley.client;

import dev.parley.v1.ChatResponse;
import dev.parley.v1.FinishReason;
import dev.parley.v1.PendingCall;
import java.util.List;

/**
 * A turn that was answered. Message and answer are stored. If it {@link #isWaiting}, it has no answer yet.
 *
 * @param response the answer as the contract has it: usage, model, tool calls and all
 * @param requestId the turn's key, given or made; calling {@code chat} with it again gets this answer again. Empty:
 *     {@code resumeTurn} named the turn otherwise
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

    /** Whether the turn waits for its caller: {@code resumeTurn} lets it go on. */
    public boolean isWaiting() {
        return response.getFinishReason() == FinishReason.FINISH_REASON_ACTION_REQUIRED;
    }

    /** What the turn waits for, in order. */
    public List<PendingCall> pendingCalls() {
        return response.getPendingCallsList();
    }

    /** Whether this turn had been answered before, so that nothing ran. */
    public boolean isReplayed() {
        return response.getReplayed();
    }
}

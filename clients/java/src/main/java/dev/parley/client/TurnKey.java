package dev.parley.client;

/**
 * Names a turn: by the request id that it was asked for with, or by conversation and turn.
 *
 * @param requestId empty: it is named by the others
 * @param conversationId empty: it is named by the request id
 * @param turnId empty: it is named by the request id
 */
public record TurnKey(String requestId, String conversationId, String turnId) {

    /** Names a turn by its request id alone: enough for a caller that lost everything else. */
    public static TurnKey ofRequest(String requestId) {
        return new TurnKey(requestId, "", "");
    }

    /** Names a turn as answers and events do. */
    public static TurnKey of(String conversationId, String turnId) {
        return new TurnKey("", conversationId, turnId);
    }
}

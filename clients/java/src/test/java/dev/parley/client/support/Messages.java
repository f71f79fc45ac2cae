package dev.parley.client.support;

import dev.parley.v1.ChatResponse;
import dev.parley.v1.Conversation;
import dev.parley.v1.Message;
import dev.parley.v1.StreamChatResponse;
import dev.parley.v1.TextChunk;
import dev.parley.v1.Turn;
import dev.parley.v1.TurnStarted;
import dev.parley.v1.TurnState;
import dev.parley.v1.WatchConversationResponse;
import dev.parley.v1.WatchDeleted;
import dev.parley.v1.WatchProgress;

/** Builders of what a scripted server sends. */
public final class Messages {

    private Messages() {}

    public static ChatResponse anAnswer(String text) {
        return ChatResponse.newBuilder().setResponse(text).setConversationId("c").build();
    }

    public static Conversation aConversation(String title) {
        return Conversation.newBuilder().setConversationId("c").setTitle(title).setRevision(2).build();
    }

    public static StreamChatResponse started(int attempt) {
        return StreamChatResponse.newBuilder()
                .setAttempt(attempt).setStarted(TurnStarted.newBuilder().setConversationId("c")).build();
    }

    public static StreamChatResponse chunk(String text, int attempt, long index) {
        return StreamChatResponse.newBuilder()
                .setAttempt(attempt).setIndex(index).setChunk(TextChunk.newBuilder().setText(text)).build();
    }

    public static StreamChatResponse completed(String text) {
        return StreamChatResponse.newBuilder().setCompleted(anAnswer(text)).build();
    }

    public static WatchConversationResponse aMessage(long sequence) {
        return WatchConversationResponse.newBuilder().setMessage(Message.newBuilder().setSequence(sequence)).build();
    }

    public static WatchConversationResponse aTurn(int attempt) {
        return WatchConversationResponse.newBuilder()
                .setTurn(Turn.newBuilder().setTurnId("t").setAttempt(attempt).setState(TurnState.TURN_STATE_RUNNING))
                .build();
    }

    public static WatchConversationResponse anEvent(int attempt, long index) {
        return WatchConversationResponse.newBuilder()
                .setEvent(chunk(attempt + "." + index, attempt, index)).build();
    }

    public static WatchConversationResponse deleted() {
        return WatchConversationResponse.newBuilder().setDeleted(WatchDeleted.getDefaultInstance()).build();
    }

    public static WatchConversationResponse progress(long sequence) {
        return WatchConversationResponse.newBuilder()
                .setProgress(WatchProgress.newBuilder().setLastSequence(sequence)).build();
    }
}

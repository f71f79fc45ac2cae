package dev.parley.client;

import dev.parley.v1.ChatRequest;
import dev.parley.v1.ConversationServiceGrpc;
import dev.parley.v1.StreamChatRequest;
import dev.parley.v1.StreamChatResponse;
import java.time.Duration;

/** One turn, as it comes: a lost stream is asked for again behind the last text or tool call seen. */
final class TurnProgress extends Progress<StreamChatRequest, StreamChatResponse> {

    private final StreamChatRequest.Builder request;
    private boolean isOver;

    TurnProgress(ChatRequest chat, Duration timeout) {
        super(ConversationServiceGrpc.getStreamChatMethod(), new Tries(Tries.Kind.TURN_STREAM, timeout));
        this.request = StreamChatRequest.newBuilder().setChat(chat);
    }

    @Override
    StreamChatRequest request() {
        return request.build();
    }

    @Override
    String requestId() {
        return request.getChat().getRequestId();
    }

    @Override
    boolean takes(StreamChatResponse event) {
        if (event.hasIndex()) {
            request.setAfterAttempt(event.getAttempt()).setAfterIndex(event.getIndex());
            cameFurther();
        }
        isOver = event.hasCompleted();
        return true;
    }

    @Override
    boolean isOver() {
        return isOver;
    }
}

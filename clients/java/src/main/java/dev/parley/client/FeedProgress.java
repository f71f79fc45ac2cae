package dev.parley.client;

import dev.parley.v1.ConversationServiceGrpc;
import dev.parley.v1.WatchTurnsRequest;
import dev.parley.v1.WatchTurnsResponse;
import java.time.Duration;

/** The feed of turns, watched: a lost watch is asked for again behind the last update seen. */
final class FeedProgress extends Progress<WatchTurnsRequest, WatchTurnsResponse> {

    private final WatchTurnsRequest.Builder request;

    FeedProgress(WatchTurnsRequest request) {
        super(ConversationServiceGrpc.getWatchTurnsMethod(), new Tries(Tries.Kind.WATCH, Duration.ZERO));
        this.request = request.toBuilder();
    }

    @Override
    WatchTurnsRequest request() {
        return request.build();
    }

    @Override
    String requestId() {
        return "";
    }

    @Override
    boolean takes(WatchTurnsResponse update) {
        cameFurther();
        request.setAfterCursor(update.getCursor());
        return true;
    }

    /** {@inheritDoc} A feed has no last one. */
    @Override
    boolean isOver() {
        return false;
    }
}

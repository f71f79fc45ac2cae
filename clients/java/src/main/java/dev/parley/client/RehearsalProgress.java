package dev.parley.client;

import dev.parley.v1.ConversationServiceGrpc;
import dev.parley.v1.RehearseTurnRequest;
import dev.parley.v1.RehearseTurnResponse;
import java.time.Duration;

/** One rehearsal, as it comes: a lost one is asked for again only before anything has come, for nothing of it is stored. */
final class RehearsalProgress extends Progress<RehearseTurnRequest, RehearseTurnResponse> {

    private final RehearseTurnRequest request;
    private boolean isOver;

    RehearsalProgress(RehearseTurnRequest request, Duration timeout) {
        super(ConversationServiceGrpc.getRehearseTurnMethod(), new Tries(Tries.Kind.REHEARSAL, timeout));
        this.request = request;
    }

    @Override
    RehearseTurnRequest request() {
        return request;
    }

    /** {@inheritDoc} That of a rehearsed turn is no key of the rehearsal's. */
    @Override
    String requestId() {
        return "";
    }

    @Override
    boolean takes(RehearseTurnResponse event) {
        cameFurther();
        isOver = event.hasCompleted();
        return true;
    }

    @Override
    boolean isOver() {
        return isOver;
    }
}

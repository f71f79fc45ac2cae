package dev.parley.client;

import io.grpc.Deadline;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.time.Duration;
import java.util.Optional;

/**
 * How far one stream has come, over all calls that it takes: what to ask for next, and whether to ask again.
 * Nothing here does I/O.
 */
abstract class Progress<Q, E> {

    private final MethodDescriptor<Q, E> method;
    private final Tries tries;

    Progress(MethodDescriptor<Q, E> method, Tries tries) {
        this.method = method;
        this.tries = tries;
    }

    final MethodDescriptor<Q, E> method() {
        return method;
    }

    final Deadline deadline() {
        return tries.deadline();
    }

    final Optional<Duration> pause(ParleyException error) {
        return tries.pause(error);
    }

    final void cameFurther() {
        tries.cameFurther();
    }

    final boolean isUnderWay() {
        return tries.isUnderWay();
    }

    /** What to ask for in the next call. */
    abstract Q request();

    /** The turn's; empty: it is about no turn. */
    abstract String requestId();

    /** Notes an event. Returns whether it is news for the listener. */
    abstract boolean takes(E event);

    /** Whether the last event has come. */
    abstract boolean isOver();

    /** The last event, if an error stands for it. */
    Optional<E> lastEvent(ParleyException error) {
        return Optional.empty();
    }

    /** The error of a call that ended well and too early. */
    final ParleyException cutShort() {
        Status status = Status.UNAVAILABLE.withDescription("the stream ended before its last event");
        return Statuses.exceptionFrom(status, null, requestId());
    }
}

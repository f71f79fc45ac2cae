package dev.parley.client;

import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.Flow;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * One subscriber's way through a stream, with every call that it takes. What the subscriber asks for is what gRPC
 * is asked for, so that a slow one slows the server down and nothing piles up here.
 */
final class Following<Q, E> implements Flow.Subscription {

    private final Connection connection;
    private final Progress<Q, E> progress;
    private final Flow.Subscriber<? super E> subscriber;
    private final Consumer<ParleyException> onRetry;

    // Guarded by this.
    private long demand;
    private boolean hasEnded;
    private Throwable refusal; // what the subscriber did wrong, until its call has ended; null: nothing
    private ClientCall<Q, E> call; // null: between two calls
    private E last; // the last event, for which an error stood, until the subscriber asks for it; null: none

    private Following(
            Connection connection, Progress<Q, E> progress, Flow.Subscriber<? super E> subscriber,
            Consumer<ParleyException> onRetry) {
        this.connection = connection;
        this.progress = progress;
        this.subscriber = subscriber;
        this.onRetry = onRetry;
    }

    /** Returns a publisher whose every subscriber makes its own calls. */
    static <Q, E> Flow.Publisher<E> publisher(
            Connection connection, Supplier<Progress<Q, E>> progress, Consumer<ParleyException> onRetry) {
        return subscriber -> {
            var following = new Following<Q, E>(connection, progress.get(), subscriber, onRetry);
            subscriber.onSubscribe(following);
            following.attempt();
        };
    }

    @Override
    public void request(long wanted) {
        if (wanted <= 0) {
            refuse(new IllegalArgumentException("a subscriber has to ask for more than " + wanted));
            return;
        }
        synchronized (this) {
            demand = demand + wanted < 0 ? Long.MAX_VALUE : demand + wanted;
            if (call != null) {
                call.request(asInt(wanted));
            }
        }
        tellLast();
    }

    @Override
    public void cancel() {
        end();
    }

    private void attempt() {
        try {
            synchronized (this) { // so that no call is asked for more before it has started
                if (hasEnded) {
                    return;
                }
                ClientCall<Q, E> made = connection.newCall(progress.method(), progress.deadline(), Headers.NONE);
                call = made; // which, on a direct executor, may have ended before it has started
                made.start(new Listener(), new Metadata());
                made.sendMessage(progress.request());
                made.halfClose();
                if (demand > 0) {
                    made.request(asInt(demand));
                }
            }
        } catch (Throwable defect) {
            fail(defect); // or the subscriber would wait for ever
        }
    }

    private void ended(Status status, Metadata trailers) {
        if (progress.isOver()) {
            if (end()) {
                subscriber.onComplete();
            }
            return;
        }
        try {
            failOrTryAgain(status, trailers);
        } catch (Throwable defect) {
            fail(defect); // such as of the caller's own hook
        }
    }

    private void failOrTryAgain(Status status, Metadata trailers) {
        ParleyException error = status.isOk()
                ? progress.cutShort()
                : connection.exceptionFrom(status, trailers, progress.requestId());
        Optional<E> event = progress.lastEvent(error);
        if (event.isPresent()) {
            synchronized (this) {
                last = event.get();
            }
            tellLast();
            return;
        }
        Optional<Duration> pause = progress.pause(error);
        if (pause.isEmpty() || Context.current().isCancelled()) {
            fail(error); // with the caller's context, every further call would have ended as well
            return;
        }
        onRetry.accept(error);
        connection.later(pause.get(), this::attempt, this::fail);
    }

    /** Tells the last event if there is one that the subscriber has asked for, and ends the stream. */
    private void tellLast() {
        E event;
        synchronized (this) {
            if (last == null || demand == 0 || hasEnded) {
                return;
            }
            event = last;
            last = null;
        }
        subscriber.onNext(event);
        if (end()) {
            subscriber.onComplete();
        }
    }

    /** Ends the call under way, and then the stream: the subscriber may be busy with an event on another thread. */
    private void refuse(Throwable mistake) {
        ClientCall<Q, E> current;
        synchronized (this) {
            refusal = mistake;
            current = call;
        }
        if (current == null) {
            fail(mistake);
        } else {
            current.cancel("the subscriber has made a mistake", mistake); // if it has ended, this changes nothing
        }
    }

    private void fail(Throwable error) {
        if (end()) {
            subscriber.onError(error);
        }
    }

    /** Ends the stream and its call. Returns whether it had not ended before. */
    private boolean end() {
        ClientCall<Q, E> current;
        synchronized (this) {
            if (hasEnded) {
                return false;
            }
            hasEnded = true;
            current = call;
        }
        if (current != null) {
            current.cancel("the caller has left", null); // if it has ended, this changes nothing
        }
        return true;
    }

    private static int asInt(long wanted) {
        return (int) Math.min(wanted, Integer.MAX_VALUE);
    }

    private final class Listener extends ClientCall.Listener<E> {
        @Override
        public void onMessage(E event) {
            boolean isNews = progress.takes(event);
            synchronized (Following.this) {
                if (hasEnded || refusal != null) {
                    return;
                }
                if (!isNews) {
                    call.request(1);
                    return;
                }
                demand--;
            }
            subscriber.onNext(event);
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            Throwable mistake;
            synchronized (Following.this) {
                if (hasEnded) {
                    return;
                }
                call = null;
                mistake = refusal;
            }
            if (mistake == null) {
                ended(status, trailers);
            } else {
                fail(mistake);
            }
        }
    }
}

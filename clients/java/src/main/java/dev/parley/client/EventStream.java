package dev.parley.client;

import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Flow;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * Events as they come, for one thread that waits for them. It can be gone through once.
 *
 * <p>Close it, best with {@code try (…)}: a stream that is left early holds its call at the server. Closing may be
 * done from any thread and ends the iteration.
 *
 * @param <E> an event
 */
public class EventStream<E> implements Iterator<E>, Iterable<E>, AutoCloseable {

    /** So many events may be under way to a thread that is busy with an earlier one. */
    private static final int AHEAD = 16;

    private final BlockingQueue<Signal<E>> signals = new LinkedBlockingQueue<>();
    private final String requestId;
    private volatile Flow.Subscription subscription;
    private volatile boolean isOver;
    private E next;

    private record Signal<E>(E event, Throwable error) {}

    EventStream(Flow.Publisher<E> events, String requestId) {
        this.requestId = requestId;
        events.subscribe(new Receiver());
    }

    /** Returns this: there is one iteration. */
    @Override
    public Iterator<E> iterator() {
        return this;
    }

    /** Returns the events as a stream of the JDK's; closing it closes this. */
    public Stream<E> asStream() {
        return StreamSupport.stream(spliterator(), false).onClose(this::close);
    }

    /**
     * Waits for the next event.
     *
     * @return whether there is one; false: the stream has ended, or was closed
     * @throws ParleyException it was lost for good. What had come before is no answer
     */
    @Override
    public boolean hasNext() {
        if (isOver) {
            return false;
        }
        if (next != null) {
            return true;
        }
        Signal<E> signal = taken();
        next = signal.event();
        if (signal.error() != null) {
            isOver = true;
            throw Waiting.thrown(signal.error());
        }
        isOver |= next == null;
        return next != null;
    }

    @Override
    public E next() {
        if (next == null && !hasNext()) { // what hasNext has promised comes, although another thread has closed this
            throw new NoSuchElementException("the stream has ended");
        }
        E event = next;
        next = null;
        subscription.request(1);
        return event;
    }

    /** Ends the iteration and its call at the server. */
    @Override
    public void close() {
        isOver = true;
        subscription.cancel();
        signals.add(new Signal<>(null, null)); // for a thread that waits
    }

    private Signal<E> taken() {
        try {
            return signals.take();
        } catch (InterruptedException interrupted) {
            close();
            throw Waiting.interrupted(requestId, interrupted);
        }
    }

    private final class Receiver implements Flow.Subscriber<E> {
        @Override
        public void onSubscribe(Flow.Subscription given) {
            subscription = given;
            given.request(AHEAD);
        }

        @Override
        public void onNext(E event) {
            signals.add(new Signal<>(event, null));
        }

        @Override
        public void onError(Throwable error) {
            signals.add(new Signal<>(null, error));
        }

        @Override
        public void onComplete() {
            signals.add(new Signal<>(null, null));
        }
    }
}

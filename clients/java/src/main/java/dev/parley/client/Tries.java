package dev.parley.client;

import dev.parley.client.ParleyException.DeadlineExceeded;
import dev.parley.client.ParleyException.LeaseLost;
import dev.parley.client.ParleyException.Overloaded;
import dev.parley.client.ParleyException.Unavailable;
import io.grpc.Deadline;
import io.grpc.Status;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * What the client retries by itself: the tries of one call, under one deadline.
 *
 * <p>What ended UNAVAILABLE, and a turn that another worker took over, are safe to repeat because of the request id:
 * the server makes one turn, creates one conversation, or adds messages once, for it. Other calls leave the same behind when they are made
 * twice; {@link Deletion} says what a second one comes to. gRPC's own retries are switched off: in Java they repeat
 * whatever carries {@code grpc-retry-pushback-ms}, also a conversation that is busy or a server that is full, which
 * need a decision. How often and how soon is what the service config that all of Parley's clients share says.
 */
final class Tries {

    static final int MOST = 5;
    /** Of a turn or an export that has begun to arrive: patience for a server that restarts. */
    static final int MOST_UNDER_WAY = 8;
    /**
     * Of a watch whose token supplier fails: about five minutes. The server may be away for longer, but of a supplier that
     * fails for so long, its owner has to know.
     */
    static final int MOST_FOR_TOKEN = 100;

    static final Duration FIRST_PAUSE = Duration.ofMillis(200);
    static final Duration LONGEST_PAUSE = Duration.ofSeconds(3);
    /** How long one call of a watch or an export may last: the server ends it sooner, unless it is lost. */
    private static final Duration WATCH_CALL = Duration.ofSeconds(300);

    /** What is tried. */
    enum Kind { CALL, TURN_STREAM, REHEARSAL, EXPORT, WATCH }

    private final Kind kind;
    private final Deadline.Ticker clock;
    private final Deadline end; // null: there is none
    private int count = 1;
    private boolean isUnderWay;
    private int tokenless; // in how many a token supplier has failed since something has come

    /** Starts the time of all tries together; a watch and an export have no timeout. */
    Tries(Kind kind, Duration timeout, Deadline.Ticker clock) {
        this.kind = kind;
        this.clock = clock;
        this.end = hasNoEnd() ? null : after(timeout);
    }

    Tries(Kind kind, Duration timeout) {
        this(kind, timeout, Deadline.getSystemTicker());
    }

    /** The next try's deadline. */
    Deadline deadline() {
        return end == null ? after(WATCH_CALL) : end;
    }

    /** Takes note that something new has come. */
    void cameFurther() {
        isUnderWay = true;
        count = 1;
        tokenless = 0;
    }

    /** Whether something has come. */
    boolean isUnderWay() {
        return isUnderWay;
    }

    /** Says how long to wait before the next try. Empty: the error stands. */
    Optional<Duration> pause(ParleyException error) {
        Duration pause = wantedPause(error);
        if (BearerToken.isMissing(error)) {
            tokenless++;
        }
        if (!isWorthIt(error) || end != null && pause.compareTo(timeLeft()) >= 0) {
            return Optional.empty();
        }
        count++;
        return Optional.of(pause);
    }

    /** As long as the server asks for, or more with every try in vain; for a stream the longer one of both. */
    private Duration wantedPause(ParleyException error) {
        if (kind == Kind.CALL && error.retryAfter().isPresent()) {
            return error.retryAfter().get();
        }
        int doublings = Math.min(count - 1, 9); // a watch has no end of tries
        long backoffMs = Math.min(LONGEST_PAUSE.toMillis(), FIRST_PAUSE.toMillis() << doublings);
        Duration spread = Duration.ofMillis((long) (backoffMs * ThreadLocalRandom.current().nextDouble(0.8, 1.2)));
        Duration asked = error.retryAfter().orElse(Duration.ZERO);
        return spread.compareTo(asked) > 0 ? spread : asked;
    }

    private boolean isWorthIt(ParleyException error) {
        // Before anything has come, the caller learns at once what is wrong with the token supplier.
        boolean isWaitingForToken = isUnderWay && BearerToken.isMissing(error) && tokenless < MOST_FOR_TOKEN;
        if (hasNoEnd() && isUnderWay) {
            // The server ends a call whose caller has rested for too long with DEADLINE_EXCEEDED.
            boolean helps = error instanceof Unavailable || isReset(error) || error instanceof Overloaded
                    || error instanceof DeadlineExceeded || isWaitingForToken;
            // A reset that always comes at the same place is no loss: a watch tells it, too.
            return helps && (kind == Kind.WATCH && !isReset(error) || count < MOST_UNDER_WAY);
        }
        if (error.isPushedBack()) {
            return false;
        }
        boolean isLost =
                error instanceof Unavailable || isReset(error) || error instanceof LeaseLost || isWaitingForToken;
        if (!isUnderWay) {
            return isLost && count < MOST;
        }
        if (kind == Kind.REHEARSAL) {
            return false; // nothing of it is stored: another one would use the tokens again, and answer differently
        }
        // The worker that drains hands all its streams to the others, all at once.
        return (isLost || error instanceof Overloaded) && count < MOST_UNDER_WAY;
    }

    /** Whether a proxy has reset a stream whose server it has lost. gRPC calls that INTERNAL; Parley gives a reason. */
    private boolean isReset(ParleyException error) {
        return kind != Kind.CALL && error.code() == Status.Code.INTERNAL && error.reason().isEmpty();
    }

    private boolean hasNoEnd() {
        return kind == Kind.WATCH || kind == Kind.EXPORT;
    }

    private Duration timeLeft() {
        return Duration.ofNanos(end.timeRemaining(TimeUnit.NANOSECONDS));
    }

    private Deadline after(Duration timeout) {
        // 292 years at most: more does not fit into a long.
        return Deadline.after(TimeUnit.NANOSECONDS.convert(timeout), TimeUnit.NANOSECONDS, clock);
    }
}

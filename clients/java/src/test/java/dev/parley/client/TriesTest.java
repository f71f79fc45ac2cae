package dev.parley.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.grpc.Deadline;
import io.grpc.Status;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** When the client tries again, by a clock that is moved. */
class TriesTest {

    private static final Duration LONG = Duration.ofHours(1);

    private static final class Clock extends Deadline.Ticker {
        private long nowNs = 5;

        @Override
        public long nanoTime() {
            return nowNs;
        }
    }

    private static Failure failure(Duration retryAfter) {
        return new Failure("x", Status.Code.UNAVAILABLE, "", Map.of(), retryAfter, false, List.of(), "", "", null);
    }

    private static ParleyException lost(Duration retryAfter) {
        return new ParleyException.LeaseLost(failure(retryAfter));
    }

    private static ParleyException down() {
        return new ParleyException.Unavailable(failure(null));
    }

    @Test
    void triesWaitAsLongAsTheyAreAskedTo() {
        Clock clock = new Clock();
        Tries tries = new Tries(Tries.Kind.CALL, Duration.ofSeconds(10), clock);
        Duration asked = Duration.ofMillis(2500);
        assertEquals(Optional.of(asked), tries.pause(lost(asked)));
        clock.nowNs += TimeUnit.SECONDS.toNanos(8);
        assertEquals(2000, tries.deadline().timeRemaining(TimeUnit.MILLISECONDS));
        assertEquals(Optional.empty(), tries.pause(lost(asked)));
        assertTrue(tries.pause(lost(Duration.ofMillis(200))).isPresent());
    }

    @Test
    void triesAreThoseOfTheServiceConfigThatAllClientsShare() throws IOException {
        Path shared = Stream.of("../service_config.json", "../python/parley_client/service_config.json")
                .map(Path::of).filter(Files::exists).findFirst().orElseThrow();
        JsonObject config = JsonParser.parseString(Files.readString(shared)).getAsJsonObject();
        JsonObject policy = config.getAsJsonArray("methodConfig").get(0).getAsJsonObject().getAsJsonObject("retryPolicy");
        assertEquals(policy.get("maxAttempts").getAsInt(), Tries.MOST);
        assertEquals(policy.get("initialBackoff").getAsString(), seconds(Tries.FIRST_PAUSE));
        assertEquals(policy.get("maxBackoff").getAsString(), seconds(Tries.LONGEST_PAUSE));
        assertEquals(2, policy.get("backoffMultiplier").getAsInt());
        assertEquals("[\"UNAVAILABLE\"]", policy.get("retryableStatusCodes").toString());
    }

    private static String seconds(Duration pause) {
        return BigDecimal.valueOf(pause.toMillis(), 3).stripTrailingZeros().toPlainString() + "s";
    }

    @Test
    void aStreamUnderWayHasMorePatienceAndWaitsLongerEachTime() {
        Tries tries = new Tries(Tries.Kind.TURN_STREAM, LONG);
        tries.cameFurther();
        List<Optional<Duration>> pauses = IntStream.range(0, 8).mapToObj(n -> tries.pause(down())).toList();
        for (int n = 0; n < 7; n++) {
            long wantedMs = Math.min(3000, 200L << n);
            long pauseMs = pauses.get(n).orElseThrow().toMillis();
            assertTrue(wantedMs * 0.8 - 1 <= pauseMs && pauseMs <= wantedMs * 1.2, n + ": " + pauseMs);
        }
        assertEquals(Optional.empty(), pauses.get(7));
    }

    @Test
    void aStreamThatNeverBeganHasFiveTriesAndNoneWhenOverloaded() {
        Tries tries = new Tries(Tries.Kind.TURN_STREAM, LONG);
        long count = IntStream.range(0, 8).filter(n -> tries.pause(down()).isPresent()).count();
        assertEquals(4, count);
        var full = new ParleyException.Overloaded(failure(null));
        assertEquals(Optional.empty(), new Tries(Tries.Kind.TURN_STREAM, LONG).pause(full));
        Tries underWay = new Tries(Tries.Kind.TURN_STREAM, LONG);
        underWay.cameFurther();
        assertTrue(underWay.pause(full).isPresent());
    }

    /** Fails when an export of which no more comes has no end, as a watch has none. */
    @Test
    void triesOfAnExportAreCountedAnewAfterEachPart() {
        Tries tries = new Tries(Tries.Kind.EXPORT, Duration.ZERO);
        for (int part = 0; part < 2; part++) {
            tries.cameFurther();
            assertEquals(7, IntStream.range(0, 10).filter(n -> tries.pause(down()).isPresent()).count());
        }
    }

    /** Fails when a supplier that fails for good is asked for ever, or one that fails at first more than once. */
    @Test
    void triesForATokenAreCounted() {
        var broken = new Failure(
                "x", Status.Code.UNAUTHENTICATED, "", Map.of(), null, false, List.of(), "", "", new IOException("sealed"));
        var tokenless = new ParleyException.Unauthenticated(broken);
        for (Tries.Kind kind : Tries.Kind.values()) {
            assertEquals(Optional.empty(), new Tries(kind, LONG).pause(tokenless));
        }
        Map<Tries.Kind, Integer> most =
                Map.of(Tries.Kind.WATCH, 99, Tries.Kind.TURN_STREAM, 7, Tries.Kind.EXPORT, 7, Tries.Kind.REHEARSAL, 0);
        most.forEach((kind, pauses) -> {
            Tries tries = new Tries(kind, LONG);
            for (int event = 0; event < 2; event++) {
                tries.cameFurther();
                assertEquals(pauses, (int) IntStream.range(0, 200).filter(n -> tries.pause(tokenless).isPresent()).count());
            }
        });
        Tries watch = new Tries(Tries.Kind.WATCH, LONG);
        watch.cameFurther();
        IntStream.range(0, 200).forEach(n -> watch.pause(down())); // a server that is away for long counts apart
        assertTrue(watch.pause(tokenless).isPresent());
    }

    /** A proxy resets a stream whose server it has lost; one that gets no further will not get further. */
    @Test
    void aStreamThatWasResetIsTriedAgainAndAWatchNotForEver() {
        var reset = new ParleyException(Failure.ofOurs(Status.Code.INTERNAL, "x", "", null));
        var defect = new ParleyException.InternalError(new Failure(
                "x", Status.Code.INTERNAL, "INTERNAL", Map.of(), null, false, List.of(), "", "", null));
        for (Tries.Kind kind : List.of(Tries.Kind.TURN_STREAM, Tries.Kind.EXPORT, Tries.Kind.WATCH)) {
            Tries tries = new Tries(kind, LONG);
            tries.cameFurther();
            assertEquals(Optional.empty(), tries.pause(defect));
            assertEquals(7, IntStream.range(0, 10).filter(n -> tries.pause(reset).isPresent()).count());
        }
        assertEquals(Optional.empty(), new Tries(Tries.Kind.CALL, LONG).pause(reset));
    }

    @Test
    void aWatchThatHasBegunIsTriedForEver() {
        Tries tries = new Tries(Tries.Kind.WATCH, Duration.ZERO);
        tries.cameFurther();
        for (int n = 0; n < 1000; n++) {
            assertTrue(tries.pause(down()).orElseThrow().compareTo(Duration.ofMillis(3600)) <= 0);
        }
        assertEquals(Optional.empty(), tries.pause(new ParleyException.ScopeMissing(failure(null))));
    }
}

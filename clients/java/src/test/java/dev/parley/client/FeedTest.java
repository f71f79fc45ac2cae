package dev.parley.client;

import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.parley.client.support.LiveServer;
import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.client.support.Wire;
import dev.parley.v1.Turn;
import dev.parley.v1.TurnState;
import dev.parley.v1.WatchTurnsProgress;
import dev.parley.v1.WatchTurnsRequest;
import dev.parley.v1.WatchTurnsResponse;
import io.grpc.Status;
import java.io.IOException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Flow;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** Watching the feed of turns: every one that ends once, whatever gets lost. */
class FeedTest {

    private static final Refusal EXPIRED = Refusal.unavailable("WATCH_EXPIRED");
    private static final Refusal DRAINED = Refusal.unavailable("WORKER_DRAINED");
    private static final Refusal FULL = Refusal.of(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED").retryMs(10);
    private static final Refusal RESTED = Refusal.of(Status.Code.DEADLINE_EXCEEDED, "").retryMs(10);
    private static final Refusal STOP = Refusal.of(Status.Code.PERMISSION_DENIED, "SCOPE_MISSING");

    private static ParleyClient clientAt(String address) {
        return ParleyClient.builder().address(address).build();
    }

    private static ParleyClient clientAt(String address, String token) {
        return ParleyClient.builder().address(address).token(token).build();
    }

    private static WatchTurnsResponse aTurn(String cursor) {
        return WatchTurnsResponse.newBuilder()
                .setTurn(Turn.newBuilder().setTurnId("t").setState(TurnState.TURN_STATE_COMPLETED))
                .setCursor(cursor).setUser("ada").build();
    }

    private static WatchTurnsResponse progress(String cursor) {
        return WatchTurnsResponse.newBuilder()
                .setProgress(WatchTurnsProgress.getDefaultInstance()).setCursor(cursor).build();
    }

    private static List<WatchTurnsRequest> requests(ScriptedServer server) {
        return server.asked().stream().map(each -> (WatchTurnsRequest) each.request()).toList();
    }

    /** Fails when it goes on from anything but the last turn told, and when it gives up on a lost server. */
    @Test
    void aFeedTellsEveryTurnOnceThroughCutsAndARestart() throws IOException {
        String token = LiveServer.tokenOf("ada");
        List<ParleyException> losses = Collections.synchronizedList(new ArrayList<>());
        List<String> ended = new ArrayList<>();
        String cursor = "";
        try (var server = LiveServer.start("echo");
                var wire = new Wire(server.address());
                var direct = clientAt(server.address(), token);
                var client = clientAt(wire.address(), token)) {
            direct.startTurn("hello", ChatOptions.defaults().requestId("r0"));
            try (var feed = client.watchTurns(FeedOptions.defaults().onRetry(losses::add))) {
                while (ended.size() < 5) {
                    WatchTurnsResponse update = feed.next();
                    if (!update.hasTurn()) {
                        continue;
                    }
                    assertEquals(TurnState.TURN_STATE_COMPLETED, update.getTurn().getState());
                    ended.add(update.getTurn().getRequestId());
                    cursor = update.getCursor();
                    if (ended.size() == 2) {
                        wire.cut();
                    }
                    if (ended.size() == 3) { // killed, and back at the same address with the same data
                        server.kill();
                        server.serve();
                    }
                    direct.startTurn("hello", ChatOptions.defaults().requestId("r" + ended.size()));
                }
            }
            // As after a crash of the caller's own.
            try (var feed = direct.watchTurns(FeedOptions.defaults().afterCursor(cursor))) {
                ended.add(feed.asStream().filter(WatchTurnsResponse::hasTurn).findFirst().orElseThrow()
                        .getTurn().getRequestId());
            }
        }
        assertEquals(List.of("r0", "r1", "r2", "r3", "r4", "r5"), ended);
        assertTrue(losses.size() >= 2, losses::toString);
    }

    @Test
    void aFeedOfAllOwnersSaysWhoseATurnIs() {
        String address = LiveServer.fast().address();
        String user = UUID.randomUUID().toString();
        String observes = LiveServer.tokenOf("observer", Map.of("scope", "parley.observe"));
        var all = FeedOptions.defaults().allOwners();
        try (var theirs = clientAt(address, LiveServer.tokenOf(user)); var observer = clientAt(address, observes)) {
            theirs.chat("hello");
            try (var feed = theirs.watchTurns(all)) {
                assertEquals(
                        "parley.observe", assertThrows(ParleyException.ScopeMissing.class, feed::hasNext).scope());
            }
            try (var feed = observer.watchTurns(all)) { // without tenants, other tests' turns are told as well
                assertTrue(feed.asStream().anyMatch(each -> each.getUser().equals(user) && each.hasTurn()));
            }
        }
    }

    /** Fails when it goes on from anything but the last update delivered, or gives up once it has begun. */
    @Test
    void aFeedGoesOnBehindItsLastUpdate() {
        List<ParleyException> losses = Collections.synchronizedList(new ArrayList<>());
        List<WatchTurnsResponse> updates = new ArrayList<>();
        var options = FeedOptions.defaults()
                .afterCursor("c0").labels(Map.of("team", "support")).allOwners().onRetry(losses::add);
        try (var server = ScriptedServer.start(
                        refuses(DRAINED),
                        sends(aTurn("c1"), progress("c2")).thenRefuses(EXPIRED),
                        refuses(FULL),
                        sends(aTurn("c3")), // cut short
                        sends(aTurn("c4")).thenRefuses(RESTED),
                        refuses(STOP));
                var client = clientAt(server.address());
                var feed = client.watchTurns(options)) {
            assertThrows(ParleyException.ScopeMissing.class, () -> feed.forEachRemaining(updates::add));
            assertEquals(
                    List.of("c0", "c0", "c2", "c2", "c3", "c4"),
                    requests(server).stream().map(WatchTurnsRequest::getAfterCursor).toList());
            var first = WatchTurnsRequest.newBuilder()
                    .setAfterCursor("c0").addLabels("team=support").setAllOwners(true).build();
            assertEquals(
                    Collections.nCopies(6, first),
                    requests(server).stream().map(each -> each.toBuilder().setAfterCursor("c0").build()).toList());
        }
        assertEquals(List.of(aTurn("c1"), progress("c2"), aTurn("c3"), aTurn("c4")), updates);
        assertEquals(5, losses.size());
    }

    /** A feed of new turns alone misses none that ends while it is lost. */
    @Test
    void aFeedOfNewTurnsGoesOnBehindItsCursor() {
        try (var server = ScriptedServer.start(sends(progress("c1")).thenRefuses(DRAINED), refuses(STOP));
                var client = clientAt(server.address());
                var feed = client.watchTurns(FeedOptions.defaults().onlyNew())) {
            assertEquals(progress("c1"), feed.next());
            assertThrows(ParleyException.ScopeMissing.class, feed::hasNext);
            assertTrue(requests(server).get(0).getOnlyNew());
            assertEquals("c1", requests(server).get(1).getAfterCursor());
        }
    }

    @Test
    void triesOfAFeedThatDoesNotBeginAreBounded() {
        try (var server = ScriptedServer.start(refuses(DRAINED));
                var client = clientAt(server.address());
                var feed = client.watchTurns()) {
            assertThrows(ParleyException.WorkerDrained.class, feed::hasNext);
            assertEquals(5, server.asked().size());
        }
    }

    /** Fails when a watch begins anew by itself: its caller would not know that turns may be missing. */
    @Test
    void anExpiredCursorIsTheCallersToKnow() {
        var untold = Refusal.of(Status.Code.FAILED_PRECONDITION, "CURSOR_EXPIRED");
        var told = Refusal.of(Status.Code.FAILED_PRECONDITION, "CURSOR_EXPIRED")
                .metadata("oldest_time", "2026-11-28T04:05:06.789000+00:00");
        try (var server = ScriptedServer.start(
                        refuses(untold), sends(aTurn("c1")).thenRefuses(DRAINED), refuses(told), refuses(STOP));
                var client = clientAt(server.address())) {
            try (var feed = client.watchTurns(FeedOptions.defaults().afterCursor("old"))) {
                var error = assertThrows(ParleyException.CursorExpired.class, feed::hasNext);
                assertEquals(Optional.empty(), error.oldestTime());
                assertEquals(1, server.asked().size());
            }
            try (var feed = client.watchTurns()) {
                assertEquals(aTurn("c1"), feed.next());
                var error = assertThrows(ParleyException.CursorExpired.class, feed::hasNext);
                assertEquals(Optional.of(Instant.parse("2026-11-28T04:05:06.789Z")), error.oldestTime());
                assertFalse(error.isRetryable());
                assertEquals(3, server.asked().size());
            }
        }
    }

    @Test
    void aForgedCursorIsAnError() {
        try (var client = clientAt(LiveServer.fast().address(), LiveServer.tokenOf("ada"));
                var feed = client.watchTurns(FeedOptions.defaults().afterCursor("forged"))) {
            assertThrows(ParleyException.InvalidPageToken.class, feed::hasNext);
        }
    }

    @Test
    void closingAFeedEndsItsCall() throws InterruptedException {
        try (var server = ScriptedServer.start(sends(aTurn("c1")).thenHangs());
                var client = clientAt(server.address())) {
            try (var feed = client.watchTurns()) {
                feed.next();
            }
            server.awaitCallerGone();
        }
    }

    /** Fails when all subscribers share one place in the feed. */
    @Test
    void everySubscriberHasAFeedOfItsOwn() throws InterruptedException {
        try (var server = ScriptedServer.start(
                        sends(aTurn("c1")).thenRefuses(STOP), sends(aTurn("c2")).thenRefuses(STOP));
                var client = AsyncParleyClient.builder().address(server.address()).build()) {
            Flow.Publisher<WatchTurnsResponse> feed = client.watchTurns(FeedOptions.defaults().afterCursor("c0"));
            for (String cursor : List.of("c1", "c2")) {
                BlockingQueue<Object> told = new LinkedBlockingQueue<>();
                feed.subscribe(new Keeping(told));
                assertEquals(aTurn(cursor), told.poll(30, TimeUnit.SECONDS));
                assertEquals(ParleyException.ScopeMissing.class, told.poll(30, TimeUnit.SECONDS));
            }
            assertEquals(
                    List.of("c0", "c0"), requests(server).stream().map(WatchTurnsRequest::getAfterCursor).toList());
        }
    }

    private record Keeping(BlockingQueue<Object> told) implements Flow.Subscriber<WatchTurnsResponse> {
        @Override
        public void onSubscribe(Flow.Subscription given) {
            given.request(Long.MAX_VALUE);
        }

        @Override
        public void onNext(WatchTurnsResponse update) {
            told.add(update);
        }

        @Override
        public void onError(Throwable error) {
            told.add(error.getClass());
        }

        @Override
        public void onComplete() {
            told.add("the end");
        }
    }
}

package dev.parley.client;

import static dev.parley.client.support.Messages.aMessage;
import static dev.parley.client.support.Messages.aTurn;
import static dev.parley.client.support.Messages.anEvent;
import static dev.parley.client.support.Messages.deleted;
import static dev.parley.client.support.Messages.progress;
import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.parley.client.support.LiveServer;
import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.client.support.Wire;
import dev.parley.v1.WatchConversationRequest;
import dev.parley.v1.WatchConversationResponse;
import io.grpc.Status;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Watching a conversation: every message once, whatever gets lost. */
class WatchesTest {

    private static final Refusal EXPIRED = Refusal.unavailable("WATCH_EXPIRED");
    private static final Refusal DRAINED = Refusal.unavailable("WORKER_DRAINED");
    private static final Refusal FULL = Refusal.of(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED").retryMs(10);
    private static final Refusal GONE = Refusal.of(Status.Code.NOT_FOUND, "CONVERSATION_NOT_FOUND");
    private static final Refusal STOP = Refusal.of(Status.Code.PERMISSION_DENIED, "SCOPE_MISSING");

    /** Watches until the server refuses for good; returns what came. */
    private static List<WatchConversationResponse> takenFrom(ScriptedServer server, WatchOptions options) {
        List<WatchConversationResponse> updates = new ArrayList<>();
        try (var client = ParleyClient.builder().address(server.address()).build();
                var watch = client.watch("c", options)) {
            assertThrows(ParleyException.ScopeMissing.class, () -> watch.forEachRemaining(updates::add));
        }
        return updates;
    }

    /** Fails when it goes on from anything but the last message delivered, and when it gives up on a lost server. */
    @Test
    void aWatchSeesEveryMessageOnceThroughCutsAndARestart() throws IOException {
        String token = LiveServer.tokenOf("ada");
        List<ParleyException> losses = Collections.synchronizedList(new ArrayList<>());
        List<Long> sequences = new ArrayList<>();
        try (var server = LiveServer.start("echo");
                var wire = new Wire(server.address());
                var direct = ParleyClient.builder().address(server.address()).token(token).build();
                var client = ParleyClient.builder().address(wire.address()).token(token).build()) {
            String id = direct.chat("m").conversationId();
            try (var watch = client.watch(id, WatchOptions.defaults().onRetry(losses::add))) {
                for (WatchConversationResponse update : watch) {
                    if (!update.hasMessage()) {
                        continue;
                    }
                    sequences.add(update.getMessage().getSequence());
                    if (sequences.size() == 10) {
                        break;
                    }
                    if (sequences.size() == 4) {
                        wire.cut();
                    }
                    if (sequences.size() == 6) { // killed, and back at the same address with the same data
                        server.kill();
                        server.serve();
                    }
                    if (sequences.size() % 2 == 0) {
                        direct.chat("more", ChatOptions.inConversation(id));
                    }
                }
            }
        }
        assertEquals(LongStream.rangeClosed(1, 10).boxed().toList(), sequences);
        assertTrue(losses.size() >= 2, losses::toString);
    }

    @Test
    void aWatchGoesOnBehindTheLastMessage() {
        try (var server = ScriptedServer.start(
                sends(aMessage(5), aMessage(6), progress(6)).thenRefuses(EXPIRED),
                refuses(DRAINED),
                refuses(FULL),
                sends(progress(6), aMessage(7)).thenRefuses(DRAINED),
                refuses(STOP))) {
            var updates = takenFrom(server, WatchOptions.defaults().afterSequence(4).includeEvents());
            List<WatchConversationRequest> asked =
                    server.asked().stream().map(each -> (WatchConversationRequest) each.request()).toList();
            assertEquals(
                    List.of(4L, 6L, 6L, 6L, 7L),
                    asked.stream().map(WatchConversationRequest::getAfterSequence).toList());
            assertTrue(asked.stream().allMatch(each -> each.getIncludeEvents() && each.getConversationId().equals("c")));
            assertEquals(
                    List.of(5L, 6L, 7L),
                    updates.stream().filter(WatchConversationResponse::hasMessage)
                            .map(each -> each.getMessage().getSequence()).toList());
        }
    }

    /** Fails when the NOT_FOUND behind it, or a lost connection, is an error, and when it is asked for again. */
    @ParameterizedTest
    @MethodSource("whatFollowsADeletion")
    void aWatchEndsWithTheDeletionOfItsConversation(Refusal refusal) {
        try (var server = ScriptedServer.start(
                        sends(aMessage(1)).thenRefuses(EXPIRED), sends(deleted()).thenRefuses(refusal));
                var client = ParleyClient.builder().address(server.address()).build();
                var watch = client.watch("c")) {
            List<WatchConversationResponse> updates = new ArrayList<>();
            watch.forEachRemaining(updates::add);
            assertEquals(List.of(aMessage(1), deleted()), updates);
            assertEquals(2, server.asked().size());
        }
    }

    static Stream<Refusal> whatFollowsADeletion() {
        return Stream.of(GONE, DRAINED);
    }

    /** Fails when the status of a call that continues a watch is told instead of what happened to the conversation. */
    @Test
    void aWatchEndsWithAConversationThatIsDeletedBetweenTwoCalls() {
        try (var server = ScriptedServer.start(
                        sends(aMessage(1)).thenRefuses(EXPIRED), refuses(DRAINED), refuses(GONE));
                var client = ParleyClient.builder().address(server.address()).build();
                var watch = client.watch("c")) {
            List<WatchConversationResponse> updates = new ArrayList<>();
            watch.forEachRemaining(updates::add);
            assertEquals(List.of(aMessage(1), deleted()), updates);
            assertEquals(3, server.asked().size());
        }
    }

    /** Fails when the update comes before it is asked for, or never. */
    @Test
    void aDeletionBetweenTwoCallsIsToldWhenItIsAskedFor() throws Exception {
        try (var server = ScriptedServer.start(sends(aMessage(1)).thenRefuses(EXPIRED), refuses(GONE));
                var client = AsyncParleyClient.builder().address(server.address()).build()) {
            var updates = new LinkedBlockingQueue<WatchConversationResponse>();
            var end = new CompletableFuture<Void>();
            var given = new CompletableFuture<Flow.Subscription>();
            client.watch("c", WatchOptions.defaults()).subscribe(new Flow.Subscriber<>() {
                @Override
                public void onSubscribe(Flow.Subscription subscription) {
                    given.complete(subscription);
                }

                @Override
                public void onNext(WatchConversationResponse update) {
                    updates.add(update);
                }

                @Override
                public void onError(Throwable error) {
                    end.completeExceptionally(error);
                }

                @Override
                public void onComplete() {
                    end.complete(null);
                }
            });
            given.join().request(1);
            assertEquals(aMessage(1), updates.poll(20, TimeUnit.SECONDS));
            while (server.asked().size() < 2) {
                Thread.onSpinWait();
            }
            assertNull(updates.poll(100, TimeUnit.MILLISECONDS));
            assertFalse(end.isDone());
            given.join().request(1);
            assertEquals(deleted(), updates.poll(20, TimeUnit.SECONDS));
            end.get(20, TimeUnit.SECONDS);
        }
    }

    @Test
    void aWatchThatNothingHasComeOfTellsOfNoDeletion() {
        try (var server = ScriptedServer.start(refuses(DRAINED), refuses(GONE));
                var client = ParleyClient.builder().address(server.address()).build();
                var watch = client.watch("c")) {
            assertThrows(ParleyException.ConversationNotFound.class, watch::hasNext);
        }
    }

    /** A new call tells the open turn's state and its pieces from the first one again. */
    @Test
    void aWatchRepeatsNoStateAndNoPiece() {
        try (var server = ScriptedServer.start(
                sends(aMessage(1), aTurn(1), anEvent(1, 0), anEvent(1, 1)).thenRefuses(EXPIRED),
                sends(aTurn(1), anEvent(1, 0), anEvent(1, 1), anEvent(1, 2)).thenRefuses(DRAINED),
                sends(aTurn(2), anEvent(2, 0)).thenRefuses(DRAINED),
                sends(aTurn(2), anEvent(2, 0), anEvent(2, 1)).thenRefuses(STOP))) {
            var updates = takenFrom(server, WatchOptions.defaults());
            assertEquals(
                    List.of("1.0", "1.1", "1.2", "2.0", "2.1"),
                    updates.stream().filter(WatchConversationResponse::hasEvent)
                            .map(each -> each.getEvent().getChunk().getText()).toList());
            assertEquals(
                    List.of(1, 2),
                    updates.stream().filter(WatchConversationResponse::hasTurn)
                            .map(each -> each.getTurn().getAttempt()).toList());
        }
    }

    @Test
    void aWatchOfNothingIsAnError() {
        try (var client = ParleyClient.builder()
                        .address(LiveServer.fast().address()).token(LiveServer.tokenOf("ada")).build();
                var watch = client.watch(UUID.randomUUID().toString())) {
            assertThrows(ParleyException.ConversationNotFound.class, watch::hasNext);
        }
    }

    @Test
    void closingAWatchFromAnotherThreadEndsIt() throws InterruptedException {
        try (var server = ScriptedServer.start(sends(aMessage(1)).thenHangs());
                var client = ParleyClient.builder().address(server.address()).build();
                var watch = client.watch("c")) {
            List<Long> sequences = Collections.synchronizedList(new ArrayList<>());
            Thread thread = new Thread(() -> watch.forEach(each -> sequences.add(each.getMessage().getSequence())));
            thread.start();
            while (sequences.isEmpty()) {
                Thread.onSpinWait();
            }
            watch.close();
            thread.join();
            assertEquals(List.of(1L), sequences);
            server.awaitCallerGone();
        }
    }
}

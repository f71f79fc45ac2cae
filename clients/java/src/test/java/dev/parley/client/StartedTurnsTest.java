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
import dev.parley.v1.ChatRequest;
import dev.parley.v1.StartTurnRequest;
import dev.parley.v1.StartTurnResponse;
import dev.parley.v1.Turn;
import dev.parley.v1.TurnState;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Turns that are started, and run without a caller. */
class StartedTurnsTest {

    private static final StartTurnResponse STORED = StartTurnResponse.newBuilder()
            .setTurn(Turn.newBuilder().setTurnId("t").setState(TurnState.TURN_STATE_QUEUED)).setReplayed(true).build();

    private static ParleyClient clientOf(ScriptedServer server) {
        return ParleyClient.builder().address(server.address()).build();
    }

    private static ParleyClient clientOf(LiveServer server, String token) {
        return ParleyClient.builder().address(server.address()).token(token).build();
    }

    @Test
    void aStartedTurnIsRunWithoutItsCaller() {
        String token = LiveServer.tokenOf(UUID.randomUUID().toString());
        StartTurnResponse started;
        try (var caller = clientOf(LiveServer.fast(), token)) {
            started = caller.startTurn("hello");
        }
        assertFalse(started.getReplayed());
        Turn turn = started.getTurn();
        assertTrue(turn.getRequestId().matches("[0-9a-f-]{36}")); // the client has made it
        var options = ChatOptions.defaults().requestId(turn.getRequestId());
        try (var later = clientOf(LiveServer.fast(), token); var stream = later.stream("hello", options)) {
            Answer answer = stream.answer();
            assertEquals("hello", answer.text());
            assertEquals(turn.getTurnId(), answer.response().getTurnId());

            StartTurnResponse again = later.startTurn("hello", options);
            assertTrue(again.getReplayed());
            assertEquals(later.turn(TurnKey.ofRequest(turn.getRequestId())), again.getTurn());
            assertEquals(TurnState.TURN_STATE_COMPLETED, again.getTurn().getState());
        }
    }

    @Test
    void startedTurnsBeginInOrderAndCanBeCancelledBefore() {
        try (var parley = clientOf(LiveServer.slow(), LiveServer.tokenOf(UUID.randomUUID().toString()))) {
            String id = parley.startTurn("first").getTurn().getConversationId();
            Turn second = parley.startTurn("second", ChatOptions.inConversation(id)).getTurn();
            Turn third = parley.startTurn("third", ChatOptions.inConversation(id)).getTurn();
            assertEquals(TurnState.TURN_STATE_QUEUED, second.getState());
            Turn cancelled = parley.cancelTurn(TurnKey.of(id, second.getTurnId()));
            assertEquals(TurnState.TURN_STATE_CANCELLED, cancelled.getState());

            parley.chat("third", ChatOptions.inConversation(id).requestId(third.getRequestId()));
            List<String> said = new ArrayList<>();
            parley.history(id).forEach(each -> said.add(each.getContent()));
            assertEquals(List.of("first", "first", "third", "third"), said);
        }
    }

    static Stream<Refusal> losses() {
        return Stream.of(
                Refusal.unavailable("STORE_UNAVAILABLE"), Refusal.of(Status.Code.ABORTED, "LEASE_LOST").retryMs(10));
    }

    /** Fails when a try has an id of its own, or when not the first one alone tells proxies that it has one. */
    @ParameterizedTest
    @MethodSource("losses")
    void aTurnIsStartedAgainUnderTheSameRequestId(Refusal lost) {
        List<ParleyException> told = Collections.synchronizedList(new ArrayList<>());
        try (var server = ScriptedServer.start(refuses(lost), refuses(lost), sends(STORED));
                var client = clientOf(server)) {
            var options = ChatOptions.inConversation("c").allowMissing().expectedSequence(2).agent("quick");
            assertEquals(STORED, client.startTurn("hello", options.onRetry(told::add)));

            var sent = (StartTurnRequest) server.asked().get(0).request();
            String requestId = sent.getChat().getRequestId();
            assertTrue(requestId.matches("[0-9a-f-]{36}"));
            var expected = ChatRequest.newBuilder()
                    .setConversationId("c").setMessage("hello").setRequestId(requestId).setAllowMissing(true)
                    .setExpectedSequence(2).setAgent("quick").build();
            assertEquals(expected, sent.getChat());
            assertEquals(
                    Collections.nCopies(3, sent), server.asked().stream().map(ScriptedServer.Asked::request).toList());
            assertEquals(
                    List.of("safe", "null", "null"),
                    server.asked().stream().map(each -> each.header("parley-retry")).toList());
            assertEquals(List.of(requestId, requestId), told.stream().map(ParleyException::requestId).toList());
        }
    }

    /** Fails when it has the time of a turn, which it does not wait for, or not that which its caller gives. */
    @Test
    void anAcceptanceHasTheTimeOfARead() {
        try (var server = ScriptedServer.start(sends(STORED)); var client = clientOf(server)) {
            client.startTurn("hello");
            client.startTurn("hello", ChatOptions.defaults().timeout(Duration.ofMinutes(5)));
            long usualMs = server.asked().get(0).timeLeftMs();
            long givenMs = server.asked().get(1).timeLeftMs();
            assertTrue(3_000 < usualMs && usualMs <= 10_001, usualMs + " ms");
            assertTrue(200_000 < givenMs, givenMs + " ms");
        }
    }

    /** Fails when the client waits for the queue by itself. */
    @Test
    void aFullQueueNeedsADecision() {
        var full = Refusal.of(Status.Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
                .retryMs(1000).metadata("max_queued_turns", "50");
        try (var server = ScriptedServer.start(refuses(full)); var client = clientOf(server)) {
            var options = ChatOptions.defaults().requestId("order-7");
            var error = assertThrows(ParleyException.QueueFull.class, () -> client.startTurn("hello", options));
            assertEquals(50, error.maxQueuedTurns());
            assertEquals(Optional.of(Duration.ofSeconds(1)), error.retryAfter());
            assertEquals("order-7", error.requestId());
            assertTrue(error.isRetryable());
            assertEquals(1, server.asked().size());
        }
    }

    @Test
    void aTurnIsStartedWithoutWaiting() {
        try (var server = ScriptedServer.start(sends(STORED));
                var client = AsyncParleyClient.builder().address(server.address()).build()) {
            assertEquals(STORED, client.startTurn("hello").join());
            assertThrows(IllegalArgumentException.class, () -> client.startTurn("half \ud800"));
            assertEquals(1, server.asked().size());
        }
    }
}

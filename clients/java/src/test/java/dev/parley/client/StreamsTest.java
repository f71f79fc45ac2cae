package dev.parley.client;

import static dev.parley.client.support.Messages.chunk;
import static dev.parley.client.support.Messages.completed;
import static dev.parley.client.support.Messages.started;
import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.parley.client.support.LiveServer;
import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.client.support.ScriptedServer.Step;
import dev.parley.client.support.Wire;
import dev.parley.v1.FinishReason;
import dev.parley.v1.OnDisconnect;
import dev.parley.v1.StreamChatRequest;
import dev.parley.v1.StreamChatResponse;
import dev.parley.v1.TurnState;
import io.grpc.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Answers as they come: attached again when lost, finished from {@code completed}. */
class StreamsTest {

    private static final Refusal DRAINED = Refusal.unavailable("WORKER_DRAINED");
    private static final String LONG = "one two three four five six seven eight nine ten. ".repeat(20).strip();

    private static ParleyClient clientOf(String address) {
        return ParleyClient.builder()
                .address(address).token(LiveServer.tokenOf(UUID.randomUUID().toString())).build();
    }

    private static List<StreamChatResponse> eventsOf(ScriptedServer server) {
        try (var client = clientOf(server.address()); var stream = client.stream("hello")) {
            return stream.asStream().toList();
        }
    }

    private static String textOf(List<StreamChatResponse> events) {
        return events.stream().map(each -> each.getChunk().getText()).collect(Collectors.joining());
    }

    @Test
    void aStreamBringsStartedThenPiecesAndLastTheAnswer() {
        try (var client = clientOf(LiveServer.slow().address()); var stream = client.stream(LONG)) {
            List<StreamChatResponse> events = stream.asStream().toList();
            assertTrue(events.get(0).hasStarted());
            assertEquals(LONG, events.get(events.size() - 1).getCompleted().getResponse());
            assertTrue(LONG.startsWith(textOf(events)));
            assertTrue(client.chat(LONG, ChatOptions.defaults().requestId(stream.requestId())).isReplayed());
        }
    }

    /** Fails when a lost stream is not asked for again, or under another request id. */
    @Test
    void aStreamWhoseConnectionIsCutGoesOnWithTheSameTurn() throws IOException {
        List<ParleyException> losses = Collections.synchronizedList(new ArrayList<>());
        try (var wire = new Wire(LiveServer.slow().address());
                var client = clientOf(wire.address());
                var stream = client.stream(LONG, ChatOptions.defaults()
                        .onDisconnect(OnDisconnect.ON_DISCONNECT_CONTINUE).onRetry(losses::add))) {
            assertTrue(stream.next().hasStarted());
            wire.cut();
            assertEquals(LONG, stream.answer().text());
            assertFalse(losses.isEmpty());
            var turn = client.turn(TurnKey.ofRequest(stream.requestId()));
            assertEquals(List.of(1, 1L), List.of(turn.getAttempt(), turn.getUserSequence()));
        }
    }

    @Test
    void aLostStreamIsAskedForBehindTheLastPieceSeen() {
        try (var server = ScriptedServer.start(
                sends(started(1), chunk("one ", 1, 0), chunk("two ", 1, 1)).thenRefuses(DRAINED),
                refuses(DRAINED),
                sends(started(1), chunk("three", 1, 2), completed("one two three")))) {
            assertEquals("one two three", textOf(eventsOf(server)));
            List<StreamChatRequest> asked =
                    server.asked().stream().map(each -> (StreamChatRequest) each.request()).toList();
            assertEquals(List.of(0, 1, 1), asked.stream().map(StreamChatRequest::getAfterAttempt).toList());
            assertEquals(List.of(false, true, true), asked.stream().map(StreamChatRequest::hasAfterIndex).toList());
            assertEquals(List.of(0L, 1L, 1L), asked.stream().map(StreamChatRequest::getAfterIndex).toList());
            assertEquals(1, asked.stream().map(each -> each.getChat().getRequestId()).distinct().count());
        }
    }

    @Test
    void aStreamThatEndsWellAndTooEarlyIsAskedForAgain() {
        try (var server = ScriptedServer.start(sends(started(1)), sends(completed("whole")))) {
            assertTrue(eventsOf(server).get(1).hasCompleted());
            assertEquals(2, server.asked().size());
        }
    }

    @Test
    void anErrorAfterCompletedChangesNothing() {
        try (var server = ScriptedServer.start(sends(completed("whole")).thenRefuses(DRAINED))) {
            assertEquals(1, eventsOf(server).size());
            assertEquals(1, server.asked().size());
        }
    }

    @Test
    void aStreamThatNeverBeginsIsGivenUpAfterFiveTries() {
        try (var server = ScriptedServer.start(refuses(Refusal.unavailable("STORE_UNAVAILABLE")))) {
            assertThrows(ParleyException.StoreUnavailable.class, () -> eventsOf(server));
            assertEquals(5, server.asked().size());
        }
    }

    static Stream<Step> whatTimeDoesNotMend() {
        return Stream.of(
                refuses(Refusal.of(Status.Code.FAILED_PRECONDITION, "AGENT_REFUSED")),
                refuses(Refusal.of(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED").retryMs(10)),
                refuses(Refusal.of(Status.Code.UNAVAILABLE, "AGENT_UNAVAILABLE").pushback("-1")),
                sends(started(1), chunk("one", 1, 0))
                        .thenRefuses(Refusal.of(Status.Code.FAILED_PRECONDITION, "AGENT_REFUSED")));
    }

    @ParameterizedTest
    @MethodSource("whatTimeDoesNotMend")
    void whatTimeDoesNotMendIsThrown(Step step) {
        try (var server = ScriptedServer.start(step)) {
            assertThrows(ParleyException.class, () -> eventsOf(server));
            assertEquals(1, server.asked().size());
        }
    }

    @Test
    void leavingAStreamCancelsItsCall() throws InterruptedException {
        try (var server = ScriptedServer.start(sends(started(1), chunk("one", 1, 0)).thenHangs());
                var client = clientOf(server.address())) {
            try (var stream = client.stream("hello")) {
                assertTrue(stream.next().hasStarted());
            }
            server.awaitCallerGone();
        }
    }

    @Test
    void aStreamEndsAtItsDeadline() {
        try (var server = ScriptedServer.start(sends(started(1)).thenHangs());
                var client = clientOf(server.address());
                var stream = client.stream("hello", ChatOptions.defaults().timeout(Duration.ofMillis(400)))) {
            assertThrows(ParleyException.DeadlineExceeded.class, stream::answer);
        }
    }

    @Test
    void textComesOnceTheLastPieceIncluded() {
        try (var server = ScriptedServer.start(
                        sends(started(1), chunk("one ", 1, 0)).thenRefuses(DRAINED),
                        sends(started(1), chunk("two ", 1, 1), completed("one two three")));
                var client = clientOf(server.address());
                var stream = client.stream("hello")) {
            List<String> texts = new ArrayList<>();
            stream.texts().forEach(texts::add);
            assertEquals(List.of("one ", "two ", "three"), texts);
        }
    }

    /** Fails when the second attempt's text follows the first one's. */
    @Test
    void textDoesNotGoOnWhenTheAgentBeganAnew() {
        try (var server = ScriptedServer.start(
                        sends(started(1), chunk("first", 1, 0)).thenRefuses(DRAINED),
                        sends(started(2), chunk("anew", 2, 0), completed("anew")));
                var client = clientOf(server.address());
                var stream = client.stream("hello")) {
            List<String> texts = new ArrayList<>();
            var error = assertThrows(
                    ParleyException.AttemptLost.class, () -> stream.texts().forEach(texts::add));
            assertEquals(List.of("first"), texts);
            assertEquals(stream.requestId(), error.requestId());
        }
    }

    @Test
    void aCancelledTurnsStreamGetsWhatWasSaid() {
        try (var client = clientOf(LiveServer.slow().address()); var stream = client.stream("hello")) {
            assertTrue(stream.next().hasStarted());
            var turn = client.cancelTurn(TurnKey.ofRequest(stream.requestId()));
            assertTrue(Set.of(TurnState.TURN_STATE_CANCELLED, TurnState.TURN_STATE_RUNNING).contains(turn.getState()));
            assertEquals(
                    FinishReason.FINISH_REASON_CANCELLED, stream.answer().response().getFinishReason());
        }
    }

    /** Fails when a thread that was promised an event finds none, since another one has closed the stream meanwhile. */
    @Test
    void anEventThatWasPromisedComesAlthoughTheStreamWasClosed() {
        try (var server = ScriptedServer.start(sends(started(1), chunk("one", 1, 0)).thenHangs());
                var client = clientOf(server.address());
                var stream = client.stream("hello")) {
            assertTrue(stream.hasNext());
            stream.close();
            assertTrue(stream.next().hasStarted());
            assertFalse(stream.hasNext());
        }
    }
}

package dev.parley.client;

import static dev.parley.client.support.Messages.aMessage;
import static dev.parley.client.support.Messages.anAnswer;
import static dev.parley.client.support.Messages.deleted;
import static dev.parley.client.support.Messages.completed;
import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.v1.Approval;
import dev.parley.v1.CallResult;
import dev.parley.v1.CancelTurnResponse;
import dev.parley.v1.ChatRequest;
import dev.parley.v1.Denial;
import dev.parley.v1.ErrorReason;
import dev.parley.v1.GetHistoryResponse;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** What is sent again, when, under which id, and what a failure looks like. */
class RetriesTest {

    private static final Refusal LEASE_LOST = Refusal.of(Status.Code.ABORTED, "LEASE_LOST").retryMs(10);

    private static ParleyClient clientOf(ScriptedServer server) {
        return ParleyClient.builder().address(server.address()).build();
    }

    private static List<String> requestIds(ScriptedServer server) {
        return server.asked().stream().map(each -> ((ChatRequest) each.request()).getRequestId()).toList();
    }

    static Stream<Refusal> whatIsSafeToRetry() {
        return Stream.of(Refusal.unavailable("STORE_UNAVAILABLE"), LEASE_LOST);
    }

    /** Fails when either is not worth a try, and with a new id at each try. */
    @ParameterizedTest
    @MethodSource("whatIsSafeToRetry")
    void retriesKeepTheRequestId(Refusal refusal) {
        try (var server = ScriptedServer.start(refuses(refusal), refuses(refusal), sends(anAnswer("HELLO")));
                var client = clientOf(server)) {
            Answer answer = client.chat("hello");
            assertEquals("HELLO", answer.text());
            assertEquals(Collections.nCopies(3, answer.requestId()), requestIds(server));
        }
    }

    /** Fails when every try carries it, with which proxies would repeat repeated calls, and when none does. */
    @Test
    void theFirstTryOfAChatAloneTellsProxiesThatItMayBeSentAgain() {
        try (var server = ScriptedServer.start(
                        refuses(LEASE_LOST), sends(anAnswer("x")), sends(CancelTurnResponse.getDefaultInstance()));
                var client = clientOf(server)) {
            client.chat("hello");
            client.cancelTurn(TurnKey.ofRequest("order-7"));
            assertEquals(List.of("safe", "null", "null"),
                    server.asked().stream().map(each -> each.header("parley-retry")).toList());
        }
    }

    @ParameterizedTest
    @MethodSource("whatIsSafeToRetry")
    void triesEndAfterTheFifth(Refusal refusal) {
        try (var server = ScriptedServer.start(refuses(refusal)); var client = clientOf(server)) {
            var error = assertThrows(ParleyException.class, () -> client.chat("hello"));
            assertEquals(Collections.nCopies(5, error.requestId()), requestIds(server));
            assertEquals(Optional.of(Duration.ofMillis(10)), error.retryAfter());
            assertTrue(error.isRetryable());
        }
    }

    /** gRPC's own first backoff is 0.24 s at most. */
    @Test
    void theServersPushbackGoesBeforeTheBackoff() {
        var drained = Refusal.unavailable("WORKER_DRAINED").retryMs(800);
        try (var server = ScriptedServer.start(refuses(drained), sends(anAnswer("x"))); var client = clientOf(server)) {
            client.chat("hello");
            long pauseMs = (server.asked().get(1).atNs() - server.asked().get(0).atNs()) / 1_000_000;
            assertTrue(pauseMs > 700, pauseMs + " ms");
        }
    }

    /** Fails when a token that cannot be got for a moment ends what would have waited for a server. */
    @Test
    void aStreamUnderWayWaitsForItsToken() {
        var sealed = new IllegalStateException("the vault is sealed");
        var asked = new AtomicInteger();
        List<Throwable> told = Collections.synchronizedList(new ArrayList<>());
        var options = WatchOptions.defaults().onRetry(error -> told.add(error.getCause()));
        try (var server = ScriptedServer.start(
                        sends(aMessage(1)).thenRefuses(Refusal.unavailable("WATCH_EXPIRED")), sends(deleted()));
                var client = ParleyClient.builder().address(server.address()).token(() -> {
                    if (Set.of(2, 3).contains(asked.incrementAndGet())) {
                        throw sealed;
                    }
                    return "token";
                }).build();
                var watch = client.watch("c", options)) {
            List<Object> updates = new ArrayList<>();
            watch.forEachRemaining(updates::add);
            assertEquals(List.of(aMessage(1), deleted()), updates);
            assertEquals(List.of(sealed, sealed), told.subList(1, told.size()));
            assertEquals(2, server.asked().size());
        }
    }

    static Stream<Refusal> whatNeedsADecision() {
        return Stream.of(
                Refusal.of(Status.Code.ABORTED, "TURN_IN_PROGRESS").retryMs(10),
                Refusal.of(Status.Code.ABORTED, "SEQUENCE_MISMATCH"),
                Refusal.of(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED").retryMs(10),
                Refusal.of(Status.Code.UNAVAILABLE, "STORE_UNAVAILABLE").pushback("-1"));
    }

    /** Fails with gRPC's own retries switched on: they take the server's pushback for an invitation. */
    @ParameterizedTest
    @MethodSource("whatNeedsADecision")
    void whatNeedsADecisionIsNotRetried(Refusal refusal) {
        try (var server = ScriptedServer.start(refuses(refusal)); var client = clientOf(server)) {
            var error = assertThrows(ParleyException.class, () -> client.chat("hello"));
            assertEquals(1, server.asked().size());
            assertEquals(error.reason().equals("STORE_UNAVAILABLE"), error.isPushedBack());
        }
    }

    @Test
    void noTryBeginsAfterTheDeadline() {
        var late = Refusal.of(Status.Code.ABORTED, "LEASE_LOST").retryMs(5000);
        try (var server = ScriptedServer.start(refuses(late)); var client = clientOf(server)) {
            var options = ChatOptions.defaults().timeout(Duration.ofSeconds(2));
            assertThrows(ParleyException.LeaseLost.class, () -> client.chat("hello", options));
            assertEquals(1, server.asked().size());
        }
    }

    @Test
    void laterTriesHaveWhatIsLeftOfTheDeadline() {
        var late = Refusal.of(Status.Code.ABORTED, "LEASE_LOST").retryMs(1000);
        try (var server = ScriptedServer.start(refuses(late), sends(anAnswer("x"))); var client = clientOf(server)) {
            client.chat("hello");
            long lessMs = server.asked().get(0).timeLeftMs() - server.asked().get(1).timeLeftMs();
            assertTrue(lessMs > 900, lessMs + " ms");
        }
    }

    @Test
    void everyCallHasADeadline() {
        try (var server = ScriptedServer.start(
                        sends(anAnswer("x")), sends(GetHistoryResponse.getDefaultInstance()));
                var client = clientOf(server)) {
            client.chat("hello");
            client.historyPage("c", HistoryOptions.defaults());
            long chatMs = server.asked().get(0).timeLeftMs();
            long readMs = server.asked().get(1).timeLeftMs();
            assertTrue(100_000 < chatMs && chatMs <= 120_001, chatMs + " ms");
            assertTrue(3_000 < readMs && readMs <= 10_001, readMs + " ms");
        }
    }

    @Test
    void aCallThatNobodyAnswersEndsAtItsDeadline() {
        try (var server = ScriptedServer.start(sends().thenHangs()); var client = clientOf(server)) {
            var options = ChatOptions.defaults().requestId("order-7").timeout(Duration.ofMillis(300));
            var error = assertThrows(ParleyException.DeadlineExceeded.class, () -> client.chat("hello", options));
            assertEquals(List.of("DEADLINE_EXCEEDED", "", "order-7"),
                    List.of(error.code().name(), error.reason(), error.requestId()));
        }
    }

    @Test
    void everyTurnHasARequestIdOfItsOwn() {
        try (var server = ScriptedServer.start(sends(anAnswer("x"))); var client = clientOf(server)) {
            List<String> shown = List.of(
                    client.chat("one").requestId(),
                    client.chat("two", ChatOptions.defaults().requestId("")).requestId(),
                    client.chat("three", ChatOptions.defaults().requestId("order-7")).requestId());
            assertEquals(shown, requestIds(server));
            assertEquals(3, Set.copyOf(shown).size());
            assertTrue(shown.get(0).matches("[0-9a-f-]{36}"));
            assertEquals("order-7", shown.get(2));
        }
    }

    @Test
    void aServerThatComesBackIsFoundAgain() {
        var earlier = ScriptedServer.start(sends(anAnswer("x")));
        List<ScriptedServer> later = Collections.synchronizedList(new ArrayList<>());
        try (var client = clientOf(earlier)) {
            client.chat("before");
            earlier.close();
            var options = ChatOptions.defaults().onRetry(error -> {
                if (later.isEmpty()) {
                    later.add(ScriptedServer.startAt(earlier.port(), sends(completed("BACK"))));
                }
            });
            try (var stream = client.stream("meanwhile", options)) {
                assertEquals("BACK", stream.answer().text());
            }
        } finally {
            later.forEach(ScriptedServer::close);
        }
    }

    @Test
    void aServerThatIsAwayIsUnavailable() {
        var gone = ScriptedServer.start(sends(anAnswer("x")));
        gone.close();
        try (var client = clientOf(gone)) {
            var error = assertThrows(
                    ParleyException.Unavailable.class,
                    () -> client.chat("hello", ChatOptions.defaults().requestId("order-7")));
            assertEquals(List.of("UNAVAILABLE", "", "order-7"),
                    List.of(error.code().name(), error.reason(), error.requestId()));
        }
    }

    @Test
    void whatAStatusSaysIsInTheException() {
        var refusal = Refusal.of(Status.Code.INVALID_ARGUMENT, "INVALID_REQUEST")
                .metadata("fields", "message").violation("message");
        try (var server = ScriptedServer.start(refuses(refusal)); var client = clientOf(server)) {
            var error = assertThrows(ParleyException.InvalidRequest.class, () ->
                    client.chat("hello", ChatOptions.defaults().requestId("order-7")));
            assertEquals(Refusal.TEXT, error.text());
            assertEquals(Refusal.TEXT + " [INVALID_REQUEST, request_id=order-7, call_id=call-1]", error.getMessage());
            assertEquals(Map.of("fields", "message"), error.metadata());
            assertEquals(
                    List.of(new ParleyException.Violation("message", "REQUIRED", "say something")), error.violations());
            assertEquals("call-1", error.callId());
            assertFalse(error.isRetryable());
            assertEquals(Waiting.class.getName(), error.getStackTrace()[0].getClassName());
        }
    }

    @Test
    void everyReasonOfTheContractHasAClassOfItsOwn() {
        Set<String> reasons = Stream.of(ErrorReason.values())
                .filter(each -> each != ErrorReason.UNRECOGNIZED && each.getNumber() != 0)
                .map(each -> each.name().substring("ERROR_REASON_".length()))
                .collect(Collectors.toSet());
        assertEquals(reasons, Statuses.BY_REASON.keySet());
        Failure failure = Failure.ofOurs(Status.Code.UNKNOWN, "x", "", null);
        Set<Class<?>> classes = Statuses.BY_REASON.values().stream()
                .map(each -> each.apply(failure).getClass())
                .collect(Collectors.toSet());
        assertEquals(reasons.size(), classes.size());
    }

    /** Fails when a program that asks for a number gets an exception in its place. */
    @Test
    void aNumberThatIsMangledIsNoNumber() {
        var metadata = Map.of(
                "last_sequence", "many", "revision", "", "attempts", "99999999999", "previous_boundary", "-",
                "max_queued_turns", "1e3", "max_tokens_per_day", "x", "used_tokens", "x");
        Function<String, ParleyException> told = reason -> Statuses.BY_REASON.get(reason).apply(new Failure(
                "x", Status.Code.ABORTED, reason, metadata, null, false, List.of(), "", "", null));
        var budget = (ParleyException.BudgetExhausted) told.apply("BUDGET_EXHAUSTED");
        assertEquals(0, ((ParleyException.SequenceMismatch) told.apply("SEQUENCE_MISMATCH")).lastSequence());
        assertEquals(0, ((ParleyException.SequenceNotReached) told.apply("SEQUENCE_NOT_REACHED")).lastSequence());
        assertEquals(0, ((ParleyException.RevisionMismatch) told.apply("REVISION_MISMATCH")).revision());
        assertEquals(0, ((ParleyException.AttemptsExhausted) told.apply("ATTEMPTS_EXHAUSTED")).attempts());
        assertEquals(0, ((ParleyException.NotATurnBoundary) told.apply("NOT_A_TURN_BOUNDARY")).previousBoundary());
        assertEquals(0, ((ParleyException.QueueFull) told.apply("QUEUE_FULL")).maxQueuedTurns());
        assertEquals(List.of(0L, 0L), List.of(budget.maxTokensPerDay(), budget.usedTokens()));
    }

    record Stranger(Refusal refusal, Class<?> kind, String reason) {}

    static Stream<Stranger> strangers() {
        return Stream.of(
                new Stranger(Refusal.of(Status.Code.INTERNAL, "INTERNAL"), ParleyException.InternalError.class, "INTERNAL"),
                new Stranger(
                        Refusal.of(Status.Code.INVALID_ARGUMENT, "NEWER"), ParleyException.InvalidRequest.class, "NEWER"),
                new Stranger(Refusal.of(Status.Code.PERMISSION_DENIED, ""), ParleyException.class, ""),
                new Stranger(
                        Refusal.of(Status.Code.INVALID_ARGUMENT, "INTERNAL").domain("else.where"),
                        ParleyException.InvalidRequest.class, ""),
                new Stranger(
                        Refusal.of(Status.Code.INVALID_ARGUMENT, "AGENT_UNKNOWN").mangled(),
                        ParleyException.InvalidRequest.class, ""));
    }

    @ParameterizedTest
    @MethodSource("strangers")
    void aStatusThatIsNotParleysHasTheClassOfItsCode(Stranger stranger) {
        try (var server = ScriptedServer.start(refuses(stranger.refusal())); var client = clientOf(server)) {
            var error = assertThrows(ParleyException.class, () -> client.chat("hello"));
            assertSame(stranger.kind(), error.getClass());
            assertEquals(stranger.reason(), error.reason());
        }
    }

    @Test
    void aMessageThatCannotBeSentIsRefusedAtOnce() {
        try (var client = ParleyClient.builder().build()) {
            assertThrows(IllegalArgumentException.class, () -> client.chat("half \ud800"));
            assertThrows(IllegalArgumentException.class, () -> ChatOptions.defaults().agent("half \ud800"));
            // What is made by hand, and not by CallResults, which looks at it, would be given as "half ?".
            var key = TurnKey.ofRequest("r");
            for (var each : List.of(
                    CallResult.newBuilder().setResult("half \ud800"), CallResult.newBuilder().setError("half \ud800"),
                    CallResult.newBuilder().setDenial(Denial.newBuilder().setReason("half \ud800")),
                    CallResult.newBuilder().setApproval(Approval.newBuilder().setArguments("half \ud800")))) {
                assertThrows(IllegalArgumentException.class, () -> client.resumeTurn(key, List.of(each.build())));
            }
            assertThrows(IllegalArgumentException.class, () -> ChatOptions.defaults().timeout(Duration.ZERO));
        }
    }

    @Test
    void closingAClientEndsItsCalls() throws InterruptedException {
        try (var server = ScriptedServer.start(sends().thenHangs());
                var client = AsyncParleyClient.builder().address(server.address()).build()) {
            var chatting = client.chat("hello");
            while (server.asked().isEmpty()) {
                Thread.onSpinWait();
            }
            client.close();
            var ended = assertThrows(java.util.concurrent.ExecutionException.class, chatting::get);
            assertEquals(Status.Code.CANCELLED, assertInstanceOf(ParleyException.class, ended.getCause()).code());
            server.awaitCallerGone();
        }
    }
}

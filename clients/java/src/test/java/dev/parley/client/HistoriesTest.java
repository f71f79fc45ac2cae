package dev.parley.client;

import static dev.parley.client.support.Messages.aConversation;
import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Message;
import com.google.protobuf.Timestamp;
import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.v1.AppendMessagesRequest;
import dev.parley.v1.AppendMessagesResponse;
import dev.parley.v1.EraseOwnerRequest;
import dev.parley.v1.EraseOwnerResponse;
import dev.parley.v1.ErasureState;
import dev.parley.v1.ForkConversationRequest;
import dev.parley.v1.ForkConversationResponse;
import dev.parley.v1.GetUsageRequest;
import dev.parley.v1.GetUsageResponse;
import dev.parley.v1.OnBusy;
import dev.parley.v1.Role;
import dev.parley.v1.ToolCall;
import dev.parley.v1.UsageRow;
import io.grpc.Status;
import java.time.Duration;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Messages that are added, conversations that are copied, owners that are erased, and what turns used. */
class HistoriesTest {

    private static final Refusal LOST = Refusal.unavailable("STORE_UNAVAILABLE");
    private static final AppendMessagesResponse ADDED = AppendMessagesResponse.newBuilder()
            .setConversationId("c").setFirstSequence(3).setLastSequence(4).setReplayed(true).build();
    private static final ForkConversationResponse FORKED =
            ForkConversationResponse.newBuilder().setConversation(aConversation("copy")).setReplayed(true).build();
    private static final EraseOwnerResponse RUNNING = EraseOwnerResponse.newBuilder()
            .setState(ErasureState.ERASURE_STATE_RUNNING).setMessages(2).build();
    private static final EraseOwnerResponse DONE = EraseOwnerResponse.newBuilder()
            .setState(ErasureState.ERASURE_STATE_DONE).setEndTime(Timestamp.newBuilder().setSeconds(5)).build();
    private static final List<dev.parley.v1.Message> HISTORY = List.of(
            dev.parley.v1.Message.newBuilder().setRole(Role.ROLE_USER).setContent("How far is Rome?").build(),
            dev.parley.v1.Message.newBuilder().setRole(Role.ROLE_ASSISTANT)
                    .addToolCalls(ToolCall.newBuilder().setId("c1").setName("distance").setArguments("{}")).build());
    private static final String HALF = "half \ud800";

    private static ParleyClient clientOf(ScriptedServer server) {
        return ParleyClient.builder().address(server.address()).build();
    }

    private static List<Message> requests(ScriptedServer server) {
        return server.asked().stream().map(ScriptedServer.Asked::request).toList();
    }

    @Test
    void messagesAreAddedAsTheyAreGiven() {
        try (var server = ScriptedServer.start(sends(ADDED)); var client = clientOf(server)) {
            var options = AppendOptions.defaults()
                    .requestId("import-7").allowMissing().expectedSequence(0).onBusy(OnBusy.ON_BUSY_WAIT);
            assertEquals(ADDED, client.appendMessages("c", HISTORY, options));
            var expected = AppendMessagesRequest.newBuilder()
                    .setConversationId("c").setRequestId("import-7").addAllMessages(HISTORY).setAllowMissing(true)
                    .setExpectedSequence(0).setOnBusy(OnBusy.ON_BUSY_WAIT).build();
            assertEquals(List.of(expected), requests(server));
        }
    }

    @Test
    void aConversationIsForkedUpToWhereTheCallerSays() {
        try (var server = ScriptedServer.start(sends(FORKED)); var client = clientOf(server)) {
            var options = ForkOptions.defaults().upToSequence(4).newConversationId("d").requestId("fork-7");
            assertEquals(FORKED, client.forkConversation("c", options));
            var expected = ForkConversationRequest.newBuilder()
                    .setConversationId("c").setNewConversationId("d").setRequestId("fork-7").setUpToSequence(4).build();
            assertEquals(List.of(expected), requests(server));
        }
    }

    record Change(Message answer, Consumer<ParleyClient> call) {}

    static Stream<Change> changes() {
        return Stream.of(
                new Change(ADDED, client -> client.appendMessages("c", HISTORY)),
                new Change(FORKED, client -> client.forkConversation("c")),
                new Change(RUNNING, client -> client.eraseOwner("erase-7")));
    }

    /** Fails when a try has an id of its own, or when not the first one alone tells proxies that it has one. */
    @ParameterizedTest
    @MethodSource("changes")
    void aChangeIsRetriedUnderOneRequestId(Change change) {
        try (var server = ScriptedServer.start(refuses(LOST), refuses(LOST), sends(change.answer()));
                var client = clientOf(server)) {
            change.call().accept(client);
            change.call().accept(client);
            List<Message> sent = requests(server);
            assertEquals(Collections.nCopies(3, sent.get(0)), sent.subList(0, 3));
            boolean isGiven = sent.get(0) instanceof EraseOwnerRequest;
            assertEquals(isGiven ? 1 : 2, Set.copyOf(sent).size()); // another call has another id, unless it is given one
            assertEquals(
                    List.of("safe", "null", "null", "safe"),
                    server.asked().stream().map(each -> each.header("parley-retry")).toList());
        }
    }

    /** Fails when one has no more time than a read. */
    @ParameterizedTest
    @MethodSource("changes")
    void whatWritesMuchAtOnceHasAMinute(Change change) {
        try (var server = ScriptedServer.start(sends(change.answer())); var client = clientOf(server)) {
            change.call().accept(client);
            long leftMs = server.asked().get(0).timeLeftMs();
            assertTrue(50_000 < leftMs && leftMs <= 60_001, leftMs + " ms");
        }
    }

    @Test
    void aCallerMayGiveMoreTime() {
        try (var server = ScriptedServer.start(sends(ADDED), sends(FORKED)); var client = clientOf(server)) {
            Duration patience = Duration.ofMinutes(5);
            client.appendMessages("c", HISTORY, AppendOptions.defaults().timeout(patience));
            client.forkConversation("c", ForkOptions.defaults().timeout(patience));
            assertTrue(server.asked().stream().allMatch(each -> each.timeLeftMs() > 200_000));
        }
        assertThrows(IllegalArgumentException.class, () -> AppendOptions.defaults().timeout(Duration.ZERO));
        assertThrows(IllegalArgumentException.class, () -> ForkOptions.defaults().timeout(Duration.ZERO));
    }

    @Test
    void aForkWithinATurnSaysWhereOneMayEnd() {
        var within = Refusal.of(Status.Code.FAILED_PRECONDITION, "NOT_A_TURN_BOUNDARY")
                .metadata("up_to_sequence", "3").metadata("previous_boundary", "2");
        try (var server = ScriptedServer.start(refuses(within)); var client = clientOf(server)) {
            var options = ForkOptions.defaults().upToSequence(3).requestId("fork-7");
            var error = assertThrows(
                    ParleyException.NotATurnBoundary.class, () -> client.forkConversation("c", options));
            assertEquals(2, error.previousBoundary());
            assertEquals("fork-7", error.requestId());
            assertFalse(error.isRetryable());
        }
    }

    @Test
    void aRefusedAppendingShowsItsRequestId() {
        var reused = Refusal.of(Status.Code.ALREADY_EXISTS, "REQUEST_ID_REUSED");
        try (var server = ScriptedServer.start(refuses(reused)); var client = clientOf(server)) {
            var options = AppendOptions.defaults().requestId("import-7");
            var error = assertThrows(
                    ParleyException.RequestIdReused.class, () -> client.appendMessages("c", HISTORY, options));
            assertEquals("import-7", error.requestId());
        }
    }

    @Test
    void anErasureIsWaitedFor() {
        try (var server = ScriptedServer.start(sends(RUNNING), sends(DONE)); var client = clientOf(server)) {
            assertEquals(DONE, client.eraseOwnerAndWait("erase-7"));
            var request = EraseOwnerRequest.newBuilder().setRequestId("erase-7").build();
            assertEquals(Collections.nCopies(2, request), requests(server));
        }
    }

    @Test
    void aThreadThatWaitsForAnErasureCanBeInterrupted() throws InterruptedException {
        try (var server = ScriptedServer.start(sends(RUNNING)); var client = clientOf(server)) {
            Thread waiting = new Thread(() -> {
                var error = assertThrows(ParleyException.class, () -> client.eraseOwnerAndWait("erase-7"));
                assertEquals(Status.Code.CANCELLED, error.code());
                assertEquals("erase-7", error.requestId());
            });
            List<Throwable> failures = Collections.synchronizedList(new ArrayList<>());
            waiting.setUncaughtExceptionHandler((thread, failure) -> failures.add(failure));
            waiting.start();
            while (server.asked().isEmpty()) {
                Thread.onSpinWait();
            }
            waiting.interrupt();
            waiting.join();
            assertEquals(List.of(), failures);
        }
    }

    @Test
    void usageIsAskedForByDayAgentAndLabel() {
        var used = GetUsageResponse.newBuilder()
                .addRows(UsageRow.newBuilder().setDate("2026-11-28").setAttempts(2)).build();
        try (var server = ScriptedServer.start(refuses(LOST), sends(used)); var client = clientOf(server)) {
            var options = UsageOptions.defaults()
                    .startDate(LocalDate.of(2026, 11, 1)).endDate("2026-11-28").byAgent().byLabel("team")
                    .labels(Map.of("gone", "")).labels(Map.of("vip", "", "app", "a=b"));
            assertEquals(used, client.usage(options));
            var expected = GetUsageRequest.newBuilder()
                    .setStartDate("2026-11-01").setEndDate("2026-11-28").setByAgent(true).setByLabel("team")
                    .addLabels("app=a=b").addLabels("vip=").build();
            assertEquals(Collections.nCopies(2, expected), requests(server));
        }
    }

    /** Fails when a turn waits for midnight by itself. */
    @Test
    void aBudgetThatIsUsedUpNeedsADecision() {
        var exhausted = Refusal.of(Status.Code.RESOURCE_EXHAUSTED, "BUDGET_EXHAUSTED")
                .metadata("max_tokens_per_day", "100").metadata("used_tokens", "101")
                .retryMs(18_000_000).pushback("-1");
        try (var server = ScriptedServer.start(refuses(exhausted)); var client = clientOf(server)) {
            var error = assertThrows(ParleyException.BudgetExhausted.class, () -> client.chat("hello"));
            assertEquals(List.of(100L, 101L), List.of(error.maxTokensPerDay(), error.usedTokens()));
            assertEquals(Optional.of(Duration.ofHours(5)), error.retryAfter());
            assertTrue(error.isRetryable());
            try (var stream = client.stream("hello")) {
                assertThrows(ParleyException.BudgetExhausted.class, stream::hasNext);
            }
            assertEquals(2, server.asked().size());
        }
    }

    @Test
    void futuresEndWithTheSame() {
        try (var server = ScriptedServer.start(
                        sends(ADDED), sends(FORKED), sends(RUNNING), sends(GetUsageResponse.getDefaultInstance()));
                var client = AsyncParleyClient.builder().address(server.address()).build()) {
            assertEquals(ADDED, client.appendMessages("c", HISTORY).join());
            assertEquals(FORKED, client.forkConversation("c").join());
            assertEquals(RUNNING, client.eraseOwner("erase-7").join());
            assertEquals(GetUsageResponse.getDefaultInstance(), client.usage(UsageOptions.defaults()).join());
        }
    }

    @Test
    void whatCannotBeSentIsRefusedAtOnce() {
        var call = ToolCall.newBuilder();
        try (var client = ParleyClient.builder().build()) {
            for (var wrong : List.of(
                    dev.parley.v1.Message.newBuilder().setContent(HALF),
                    dev.parley.v1.Message.newBuilder().setModel(HALF),
                    dev.parley.v1.Message.newBuilder().addToolCalls(call.clone().setArguments(HALF)),
                    dev.parley.v1.Message.newBuilder().addToolCalls(call.clone().setResult(HALF)))) {
                var messages = List.of(HISTORY.get(0), wrong.build());
                var error = assertThrows(
                        IllegalArgumentException.class, () -> client.appendMessages("c", messages));
                assertTrue(error.getMessage().contains("messages[1]"), error.getMessage());
            }
        }
        assertThrows(IllegalArgumentException.class, () -> UsageOptions.defaults().labels(Map.of("a=b", "c")));
    }
}

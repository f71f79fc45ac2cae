package dev.parley.client;

import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.parley.client.support.LiveServer;
import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.client.support.ScriptedServer.Step;
import dev.parley.v1.Agent;
import dev.parley.v1.Conversation;
import dev.parley.v1.ExplainTurnRequest;
import dev.parley.v1.ExplainTurnResponse;
import dev.parley.v1.ListAgentsResponse;
import dev.parley.v1.OmissionReason;
import dev.parley.v1.OmittedMessages;
import dev.parley.v1.RehearsalCompleted;
import dev.parley.v1.RehearsalStarted;
import dev.parley.v1.RehearseTurnRequest;
import dev.parley.v1.RehearseTurnResponse;
import dev.parley.v1.TextChunk;
import dev.parley.v1.ToolCall;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletionException;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Agents, what one was shown, and rehearsals: of which nothing is stored, so that none is begun again on its own. */
class AgentsTest {

    private static final Refusal DRAINED = Refusal.unavailable("WORKER_DRAINED");
    private static final Refusal AGENT_DOWN = Refusal.unavailable("AGENT_UNAVAILABLE");
    private static final Refusal FULL = Refusal.of(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED").retryMs(10);
    private static final Refusal NOT_FOUND = Refusal.of(Status.Code.NOT_FOUND, "TURN_NOT_FOUND");
    private static final TurnKey TURN = TurnKey.ofRequest("r");
    private static final RehearseTurnResponse STARTED = RehearseTurnResponse.newBuilder()
            .setStarted(RehearsalStarted.newBuilder().setAgent("echo")).build();
    private static final RehearseTurnResponse PIECE = RehearseTurnResponse.newBuilder()
            .setChunk(TextChunk.newBuilder().setText("Hel")).build();
    private static final RehearseTurnResponse CALLED = RehearseTurnResponse.newBuilder()
            .setToolCall(ToolCall.newBuilder().setName("look_up")).build();
    private static final RehearseTurnResponse COMPLETED = RehearseTurnResponse.newBuilder()
            .setCompleted(RehearsalCompleted.newBuilder().setResponse("Hello").setModel("m")).build();

    private static ParleyClient aClient() {
        String token = LiveServer.tokenOf(UUID.randomUUID().toString());
        return ParleyClient.builder().address(LiveServer.fast().address()).token(token).build();
    }

    private static ParleyClient clientOf(ScriptedServer server) {
        return ParleyClient.builder().address(server.address()).build();
    }

    /** What a rehearsal came to: its events, the exception that it ended with, and how often it was asked for. */
    private record Rehearsed(List<RehearseTurnResponse> events, ParleyException error, int asked) {}

    private static Rehearsed rehearsed(RehearseOptions options, Step... steps) {
        List<RehearseTurnResponse> events = new ArrayList<>();
        try (var server = ScriptedServer.start(steps);
                var client = clientOf(server);
                var stream = client.rehearseTurn(TURN, options)) {
            ParleyException error = null;
            try {
                stream.forEach(events::add);
            } catch (ParleyException thrown) {
                error = thrown;
            }
            return new Rehearsed(events, error, server.asked().size());
        }
    }

    private static Rehearsed rehearsed(Step... steps) {
        return rehearsed(RehearseOptions.defaults(), steps);
    }

    @Test
    void aTurnIsExplainedAndRehearsedAndNothingIsStored() {
        try (var parley = aClient()) {
            Agent agent = parley.listAgents().getAgentsList().get(0);
            assertTrue(agent.getIsDefault() && agent.getCanRehearse());
            Answer answer = parley.chat("Hello!");
            String turnId = answer.response().getTurnId();
            var key = TurnKey.ofRequest(answer.requestId());
            for (TurnKey each : List.of(key, TurnKey.of(answer.conversationId(), turnId))) {
                ExplainTurnResponse explained = parley.explainTurn(each);
                assertEquals(turnId, explained.getTurn().getTurnId());
                assertEquals("Hello!", explained.getMessages(0).getPreview());
                assertEquals(1, explained.getAttemptsCount());
            }
            try (var stream = parley.rehearseTurn(key, RehearseOptions.defaults().agent(agent.getName()))) {
                List<RehearseTurnResponse> events = stream.asStream().toList();
                assertEquals(agent.getName(), events.get(0).getStarted().getAgent());
                assertEquals(answer.text(), events.get(events.size() - 1).getCompleted().getResponse());
            }
            try (var stream = parley.rehearseTurn(key)) {
                assertTrue(stream.asStream().anyMatch(RehearseTurnResponse::hasCompleted));
            }
            assertEquals(2, parley.historyPage(answer.conversationId(), HistoryOptions.defaults()).getMessagesCount());
        }
    }

    @Test
    void aConversationHasAnAgent() {
        try (var parley = aClient()) {
            String name = parley.listAgents().getAgents(0).getName();
            Conversation created =
                    parley.createConversation(CreateOptions.defaults().agent(name)).getConversation();
            assertEquals(name, created.getAgent());
            String id = created.getConversationId();
            var update = UpdateOptions.defaults();
            assertEquals(name, parley.updateConversation(id, update.title("A title")).getAgent());
            assertEquals("", parley.updateConversation(id, update.agent("")).getAgent());
            assertEquals(name, parley.updateConversation(id, update.agent(name)).getAgent());
            assertThrows(
                    ParleyException.AgentUnknown.class,
                    () -> parley.createConversation(CreateOptions.defaults().agent("nobody")));
            assertThrows(
                    ParleyException.AgentUnknown.class, () -> parley.updateConversation(id, update.agent("nobody")));
        }
    }

    @Test
    void whatIsAskedAboutAgentsIsRetriedWithinTheTimeOfARead() {
        var agents = ListAgentsResponse.newBuilder().addAgents(Agent.newBuilder().setName("echo").setIsDefault(true)).build();
        var explained = ExplainTurnResponse.newBuilder().addOmitted(OmittedMessages.newBuilder()
                .setFirstSequence(1).setLastSequence(2).setReason(OmissionReason.OMISSION_REASON_OLDER)).build();
        try (var server = ScriptedServer.start(
                        refuses(DRAINED), refuses(DRAINED), sends(agents), refuses(DRAINED), sends(explained),
                        refuses(NOT_FOUND));
                var client = clientOf(server)) {
            assertEquals(agents, client.listAgents());
            assertEquals(explained, client.explainTurn(TURN));
            assertEquals(
                    ExplainTurnRequest.newBuilder().setRequestId("r").build(), server.asked().get(4).request());
            var error = assertThrows(ParleyException.TurnNotFound.class, () -> client.explainTurn(TURN));
            assertEquals("r", error.requestId());
            assertEquals(6, server.asked().size());
            server.asked().forEach(each ->
                    assertTrue(5_000 < each.timeLeftMs() && each.timeLeftMs() < 11_000, each::toString));
        }
    }

    @Test
    void theAsynchronousClientAsksAboutAgentsAsWell() {
        var agents = ListAgentsResponse.newBuilder().addAgents(Agent.newBuilder().setName("echo")).build();
        try (var server = ScriptedServer.start(
                        sends(agents), sends(ExplainTurnResponse.getDefaultInstance()), refuses(NOT_FOUND));
                var client = AsyncParleyClient.builder().address(server.address()).build()) {
            assertEquals(agents, client.listAgents().join());
            assertEquals(ExplainTurnResponse.getDefaultInstance(), client.explainTurn(TURN).join());
            var explaining = client.explainTurn(TURN);
            var error = assertThrows(CompletionException.class, explaining::join);
            assertInstanceOf(ParleyException.TurnNotFound.class, error.getCause());
        }
    }

    @Test
    void aRehearsalBringsItsEventsInOrder() {
        try (var server = ScriptedServer.start(sends(STARTED, PIECE, CALLED, COMPLETED));
                var client = clientOf(server);
                var stream = client.rehearseTurn(TurnKey.of("c", "t"), RehearseOptions.defaults().agent("echo"))) {
            assertEquals(List.of(STARTED, PIECE, CALLED, COMPLETED), stream.asStream().toList());
            var asked = server.asked().get(0);
            assertEquals(
                    RehearseTurnRequest.newBuilder().setConversationId("c").setTurnId("t").setAgent("echo").build(),
                    asked.request());
            assertTrue(110_000 < asked.timeLeftMs() && asked.timeLeftMs() < 121_000, asked::toString);
        }
    }

    /** Fails when the tries go on as those of a turn do: the agent would be asked again. */
    @Test
    void aRehearsalBeginsAgainOnlyBeforeAnythingHasCome() {
        List<String> losses = Collections.synchronizedList(new ArrayList<>());
        var options = RehearseOptions.defaults().onRetry(error -> losses.add(error.reason()));
        Step whole = sends(STARTED, COMPLETED);
        var begun = rehearsed(options, refuses(DRAINED), refuses(AGENT_DOWN), whole);
        assertEquals(new Rehearsed(List.of(STARTED, COMPLETED), null, 3), begun);
        assertEquals(List.of("WORKER_DRAINED", "AGENT_UNAVAILABLE"), losses);

        Map.of("WORKER_DRAINED", DRAINED, "AGENT_UNAVAILABLE", AGENT_DOWN, "OVERLOADED", FULL).forEach((reason, last) -> {
            var lost = rehearsed(options, sends(STARTED).thenRefuses(last), whole);
            assertEquals(new Rehearsed(List.of(STARTED), lost.error(), 1), lost);
            assertEquals(reason, lost.error().reason());
        });
        assertEquals(2, losses.size());
    }

    @Test
    void aRehearsalThatEndsWithoutItsLastEventIsLost() {
        var lost = rehearsed(sends(STARTED, PIECE));
        assertInstanceOf(ParleyException.Unavailable.class, lost.error());
        assertEquals(new Rehearsed(List.of(STARTED, PIECE), lost.error(), 1), lost);
    }

    @Test
    void aRehearsalThatNeverBeganIsGivenUp() {
        var often = rehearsed(refuses(DRAINED));
        assertInstanceOf(ParleyException.WorkerDrained.class, often.error());
        var once = rehearsed(refuses(Refusal.unavailable("STORE_UNAVAILABLE").retryMs(90_000).pushback("-1")));
        assertInstanceOf(ParleyException.StoreUnavailable.class, once.error());
        assertEquals(List.of(5, 1), List.of(often.asked(), once.asked()));
    }

    @Test
    void aRehearsalThatCannotBeSaysWhy() {
        var gone = rehearsed(refuses(
                Refusal.of(Status.Code.FAILED_PRECONDITION, "WINDOW_INCOMPLETE").metadata("turn_id", "t")));
        assertEquals("t", assertInstanceOf(ParleyException.WindowIncomplete.class, gone.error()).turnId());
        var acting = rehearsed(refuses(
                Refusal.of(Status.Code.FAILED_PRECONDITION, "NO_REHEARSAL").metadata("agent", "acting")));
        assertEquals("acting", assertInstanceOf(ParleyException.NoRehearsal.class, acting.error()).agent());
        Stream.of(gone, acting).forEach(each -> {
            assertFalse(each.error().isRetryable());
            assertEquals("", each.error().requestId());
            assertEquals(1, each.asked());
        });
    }

    @Test
    void aRehearsalEndsAtItsTimeoutAndWhenItIsClosed() throws InterruptedException {
        var late = rehearsed(
                RehearseOptions.defaults().timeout(Duration.ofMillis(500)), sends(STARTED).thenHangs());
        assertInstanceOf(ParleyException.DeadlineExceeded.class, late.error());
        assertEquals(new Rehearsed(List.of(STARTED), late.error(), 1), late);

        try (var server = ScriptedServer.start(sends(STARTED).thenHangs()); var client = clientOf(server)) {
            try (var stream = client.rehearseTurn(TURN)) {
                assertEquals(STARTED, stream.next());
            }
            server.awaitCallerGone();
        }
    }

    @Test
    void anAgentsNameThatCannotBeSentIsRefusedAtOnce() {
        assertThrows(IllegalArgumentException.class, () -> RehearseOptions.defaults().agent("\ud800"));
        assertThrows(IllegalArgumentException.class, () -> CreateOptions.defaults().agent("\ud800"));
        assertThrows(IllegalArgumentException.class, () -> UpdateOptions.defaults().agent("\ud800"));
    }
}

package dev.parley.client;

import static dev.parley.client.support.Messages.anAnswer;
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
import dev.parley.v1.CallResult;
import dev.parley.v1.OnBusy;
import dev.parley.v1.OnDisconnect;
import dev.parley.v1.PendingCall;
import dev.parley.v1.ResumeTurnRequest;
import dev.parley.v1.ResumeTurnResponse;
import dev.parley.v1.StreamChatResponse;
import dev.parley.v1.StreamResumeTurnRequest;
import dev.parley.v1.StreamResumeTurnResponse;
import dev.parley.v1.Tool;
import dev.parley.v1.TurnState;
import io.grpc.Status;
import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.UUID;
import org.junit.jupiter.api.Test;

/** Turns that wait for their caller, and go on. */
class ResumesTest {

    private static final String ASKED = "script\nsay Let me see. \ncall weather:Turin weather:Rome\ntold";
    private static final ChatOptions TOOLS =
            ChatOptions.defaults().tools(List.of(Tool.newBuilder().setName("weather").build()));
    private static final PendingCall CALL = PendingCall.newBuilder().setCallKey("k").setArguments("{}").build();

    private static ParleyClient aClient() {
        String token = LiveServer.tokenOf(UUID.randomUUID().toString());
        return ParleyClient.builder().address(LiveServer.toolUser().address()).token(token).build();
    }

    private static ParleyClient clientOf(ScriptedServer server) {
        return ParleyClient.builder().address(server.address()).build();
    }

    @Test
    void aTurnWaitsForToolsOfItsCaller() {
        try (var parley = aClient()) {
            Answer waiting = parley.chat(ASKED, TOOLS);
            assertTrue(waiting.isWaiting());
            assertEquals("Let me see. ", waiting.text());
            List<PendingCall> calls = waiting.pendingCalls();
            assertEquals("{\"word\": \"Rome\"}", calls.get(1).getArguments());
            var key = TurnKey.ofRequest(waiting.requestId());
            assertEquals(TurnState.TURN_STATE_WAITING, parley.turn(key).getState());

            var named = TurnKey.of(waiting.conversationId(), waiting.response().getTurnId());
            Answer still = parley.resumeTurn(named, List.of(CallResults.result(calls.get(0), "clear")));
            assertEquals(List.of(calls.get(1)), still.pendingCalls());
            var error = List.of(CallResults.error(calls.get(1), "no station"));
            Answer answer = parley.resumeTurn(key, error);
            assertFalse(answer.isWaiting());
            assertEquals("Let me see. clear\n{\"error\":\"no station\"}", answer.text());
            assertEquals(answer.text(), parley.resumeTurn(key, error).text());

            var other = List.of(CallResults.result(calls.get(1), "rain"));
            var given = assertThrows(
                    ParleyException.ResultAlreadyGiven.class, () -> parley.resumeTurn(key, other));
            assertEquals(calls.get(1).getCallKey(), given.callKey());
            var unknown = List.of(other.get(0).toBuilder().setCallKey(answer.response().getTurnId()).build());
            var gone = assertThrows(ParleyException.CallNotPending.class, () -> parley.resumeTurn(key, unknown));
            assertEquals(answer.response().getTurnId(), gone.callKey());
            assertFalse(gone.isRetryable());
        }
    }

    @Test
    void aResumedTurnIsStreamed() {
        try (var parley = aClient(); var asked = parley.stream(ASKED, TOOLS)) {
            List<CallResult> results = asked.answer().pendingCalls().stream()
                    .map(call -> CallResults.result(call, "clear")).toList();
            var key = TurnKey.ofRequest(asked.requestId());
            StringBuilder text = new StringBuilder();
            try (var stream = parley.streamResumeTurn(key, results)) {
                stream.texts().forEach(text::append);
            }
            assertEquals("Let me see. clear\nclear", text.toString());
        }
    }

    @Test
    void theTextsOfATurnSayThatItWaits() {
        try (var parley = aClient(); var stream = parley.stream(ASKED, TOOLS)) {
            var texts = stream.texts().iterator();
            assertEquals("Let me see. ", texts.next());
            var waits = assertThrows(ParleyException.ActionRequired.class, texts::hasNext);
            assertEquals(stream.requestId(), waits.requestId());
            assertFalse(waits.isRetryable());
        }
    }

    @Test
    void aWaitingTurnIsReplaced() {
        try (var parley = aClient()) {
            Answer waiting = parley.chat(ASKED, TOOLS);
            var options = ChatOptions.inConversation(waiting.conversationId());
            assertThrows(ParleyException.TurnInProgress.class, () -> parley.chat("Never mind.", options));
            assertEquals("Never mind.", parley.chat("Never mind.", options.onBusy(OnBusy.ON_BUSY_REPLACE)).text());
            assertEquals(
                    TurnState.TURN_STATE_CANCELLED, parley.turn(TurnKey.ofRequest(waiting.requestId())).getState());
        }
    }

    /** Fails when a resume is left to the caller, or when not the first try alone tells proxies that it is safe. */
    @Test
    void aResumeIsRetried() {
        var lost = Refusal.of(Status.Code.ABORTED, "LEASE_LOST").retryMs(10);
        try (var server = ScriptedServer.start(
                refuses(Refusal.unavailable("WORKER_DRAINED")), refuses(lost),
                sends(ResumeTurnResponse.newBuilder().setChat(anAnswer("clear")).build()));
                var client = clientOf(server)) {
            var options = ResumeOptions.defaults()
                    .onDisconnect(OnDisconnect.ON_DISCONNECT_CONTINUE).timeout(Duration.ofMinutes(5));
            var results = List.of(CallResults.approval(CALL));
            assertEquals("clear", client.resumeTurn(TurnKey.of("c", "t"), results, options).text());
            var expected = ResumeTurnRequest.newBuilder()
                    .setConversationId("c").setTurnId("t").addAllResults(results)
                    .setOnDisconnect(OnDisconnect.ON_DISCONNECT_CONTINUE).build();
            assertEquals(
                    Collections.nCopies(3, expected), server.asked().stream().map(ScriptedServer.Asked::request).toList());
            assertEquals(
                    List.of("safe", "null", "null"),
                    server.asked().stream().map(each -> each.header("parley-retry")).toList());
            assertTrue(server.asked().get(0).timeLeftMs() > 200_000);
        }
    }

    private static StreamResumeTurnResponse resumed(StreamChatResponse event) {
        return StreamResumeTurnResponse.newBuilder().setEvent(event).build();
    }

    @Test
    void aResumedStreamAsksAgainBehindTheLastPiece() {
        var lost = Refusal.of(Status.Code.ABORTED, "LEASE_LOST").retryMs(10);
        try (var server = ScriptedServer.start(
                sends(resumed(started(2)), resumed(chunk("a", 2, 0)), resumed(chunk("b", 2, 1))).thenRefuses(lost),
                sends(resumed(started(2))), // ends well and too early
                sends(resumed(completed("ab"))));
                var client = clientOf(server);
                var stream = client.streamResumeTurn(
                        TurnKey.ofRequest("r"), List.of(CallResults.denial(CALL, "no")))) {
            assertEquals("ab", stream.answer().text());
            assertEquals("r", stream.requestId());
            assertEquals(3, server.asked().size());
            for (int n = 0; n < 3; n++) {
                var asked = (StreamResumeTurnRequest) server.asked().get(n).request();
                assertEquals("no", asked.getResume().getResults(0).getDenial().getReason());
                assertEquals(n > 0 ? 2 : 0, asked.getAfterAttempt());
                assertEquals(n > 0 ? 1 : 0, asked.getAfterIndex());
            }
        }
    }

    @Test
    void whatCannotBeSentIsRefusedAtOnce() {
        assertThrows(IllegalArgumentException.class, () -> CallResults.result(CALL, "\ud800"));
        assertThrows(IllegalArgumentException.class, () -> CallResults.error(CALL, "\ud800"));
        assertThrows(IllegalArgumentException.class, () -> CallResults.denial(CALL, "\ud800"));
        var tools = List.of(Tool.newBuilder().setDescription("\ud800").build());
        assertThrows(IllegalArgumentException.class, () -> ChatOptions.defaults().tools(tools));
    }
}

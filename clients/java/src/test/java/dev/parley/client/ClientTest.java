package dev.parley.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.parley.client.support.LiveServer;
import dev.parley.v1.Conversation;
import dev.parley.v1.Message;
import dev.parley.v1.Order;
import dev.parley.v1.TurnState;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Turns and reads of a real server, by a user whom nobody else is. */
class ClientTest {

    private final ParleyClient parley = ParleyClient.builder()
            .address(LiveServer.fast().address())
            .token(LiveServer.tokenOf(UUID.randomUUID().toString()))
            .build();

    @AfterEach
    void close() {
        parley.close();
    }

    @Test
    void chatIsOneTurnForOneRequestId() {
        Answer first = parley.chat("hello", ChatOptions.defaults().requestId("order-7"));
        Answer again = parley.chat("hello", ChatOptions.defaults().requestId("order-7"));
        assertEquals("hello", first.text());
        assertFalse(first.isReplayed());
        assertTrue(again.isReplayed());
        assertEquals(first.response(), again.response().toBuilder().setReplayed(false).build());
        assertThrows(
                ParleyException.RequestIdReused.class,
                () -> parley.chat("other", ChatOptions.defaults().requestId("order-7")));
    }

    @Test
    void historyFetchesPagesAsTheyAreNeeded() {
        String id = parley.chat("m1").conversationId();
        parley.chat("m2", ChatOptions.inConversation(id));
        List<Long> sequences = new ArrayList<>();
        parley.history(id, HistoryOptions.defaults().pageSize(3)).forEach(each -> sequences.add(each.getSequence()));
        assertEquals(List.of(1L, 2L, 3L, 4L), sequences);

        Iterable<Message> newest = parley.history(id, HistoryOptions.defaults().order(Order.ORDER_NEWEST_FIRST));
        assertEquals(4, newest.iterator().next().getSequence());
        assertEquals(4, newest.iterator().next().getSequence()); // every iteration begins anew
        String token = parley.historyPage(id, HistoryOptions.defaults().pageSize(3)).getNextPageToken();
        Iterable<Message> rest = parley.history(id, HistoryOptions.defaults().pageToken(token));
        assertEquals(4, rest.iterator().next().getSequence());
    }

    @Test
    void conversationsComeByLastActivity() {
        String older = parley.chat("one").conversationId();
        String newer = parley.chat("two").conversationId();
        List<String> ids = new ArrayList<>();
        for (Conversation each : parley.conversations(ListOptions.defaults().pageSize(1))) {
            ids.add(each.getConversationId());
        }
        assertEquals(List.of(newer, older), ids);
    }

    @Test
    void aTurnIsFoundByEitherOfItsNames() {
        Answer answer = parley.chat("hello");
        var byRequest = parley.turn(TurnKey.ofRequest(answer.requestId()));
        var byIds = parley.turn(TurnKey.of(answer.conversationId(), answer.response().getTurnId()));
        assertEquals(TurnState.TURN_STATE_COMPLETED, byRequest.getState());
        assertEquals(byRequest, byIds);
        assertEquals(byRequest, parley.cancelTurn(TurnKey.ofRequest(answer.requestId()))); // it had ended
    }

    @Test
    void failuresHaveTypes() {
        String id = parley.chat("hello").conversationId();
        var mismatch = assertThrows(
                ParleyException.SequenceMismatch.class,
                () -> parley.chat("x", ChatOptions.inConversation(id).expectedSequence(0)));
        assertEquals(2, mismatch.lastSequence());
        var invalid = assertThrows(ParleyException.InvalidRequest.class, () -> parley.chat(" "));
        assertEquals("message", invalid.violations().get(0).field());
        assertThrows(ParleyException.TurnNotFound.class, () -> parley.turn(TurnKey.ofRequest("nobodys")));
        var missing = parley.history(UUID.randomUUID().toString()).iterator();
        assertThrows(ParleyException.ConversationNotFound.class, missing::hasNext);
    }

    @Test
    void aTokenWithoutTheScopeIsRefused() {
        String token = LiveServer.tokenOf("reader", Map.of("scope", "parley.read"));
        try (var reader = ParleyClient.builder().address(LiveServer.fast().address()).token(token).build()) {
            var error = assertThrows(ParleyException.ScopeMissing.class, () -> reader.chat("hello"));
            assertEquals("parley.write", error.scope());
        }
    }

    /** Fails when the user is not named or not encoded, when two are named, and when close() closes the channel. */
    @Test
    void aBackendActsForItsUsersOnOneChannel() {
        String user = "Jürgen / 100% + 😀 " + UUID.randomUUID();
        String token = LiveServer.tokenOf("backend", Map.of("scope", "parley.read parley.write parley.act"));
        String address = LiveServer.fast().address();
        try (var backend = ParleyClient.builder().address(address).token(token).build();
                var async = AsyncParleyClient.builder().address(address).token(token).build();
                var theirs = ParleyClient.builder().address(address).token(LiveServer.tokenOf(user)).build()) {
            ParleyClient acting = backend.actingFor("somebody else").actingFor(user);
            String id = acting.chat("hello").conversationId();
            acting.close();
            async.actingFor(user).chat("more", ChatOptions.inConversation(id)).join();
            try (var stream = acting.stream("and more", ChatOptions.inConversation(id))) {
                assertEquals("and more", stream.answer().text());
            }
            List<Long> sequences = new ArrayList<>();
            theirs.history(id).forEach(each -> sequences.add(each.getSequence()));
            assertEquals(List.of(1L, 2L, 3L, 4L, 5L, 6L), sequences);

            var itsOwn = backend.history(id).iterator();
            assertThrows(ParleyException.ConversationNotFound.class, itsOwn::hasNext);
            var refused = assertThrows(
                    ParleyException.ScopeMissing.class, () -> theirs.actingFor("eve").chat("hello"));
            assertEquals("parley.act", refused.scope());
            var invalid = assertThrows(
                    ParleyException.InvalidRequest.class, () -> backend.actingFor(" ").chat("hello"));
            assertEquals("parley-user", invalid.violations().get(0).field());
            assertThrows(IllegalArgumentException.class, () -> backend.actingFor(""));
            assertThrows(IllegalArgumentException.class, () -> backend.actingFor("half \ud800"));
        }
    }

    @Test
    void interruptingAThreadCancelsItsCall() throws InterruptedException {
        String token = LiveServer.tokenOf(UUID.randomUUID().toString());
        try (var slow = ParleyClient.builder().address(LiveServer.slow().address()).token(token).build()) {
            List<Object> seen = new ArrayList<>();
            Thread thread = new Thread(() -> {
                var error = assertThrows(
                        ParleyException.class,
                        () -> slow.chat("hello", ChatOptions.defaults().requestId("order-7")));
                seen.addAll(List.of(error.code().name(), error.requestId(), Thread.currentThread().isInterrupted()));
            });
            thread.start();
            while (!slow.conversations().iterator().hasNext()) {
                Thread.onSpinWait(); // until the turn is there
            }
            thread.interrupt();
            thread.join();
            assertEquals(List.of("CANCELLED", "order-7", true), seen);
            while (slow.turn(TurnKey.ofRequest("order-7")).getState() == TurnState.TURN_STATE_RUNNING) {
                Thread.onSpinWait();
            }
            assertEquals(
                    "ERROR_REASON_CALLER_LOST", slow.turn(TurnKey.ofRequest("order-7")).getErrorReason().name());
        }
    }
}

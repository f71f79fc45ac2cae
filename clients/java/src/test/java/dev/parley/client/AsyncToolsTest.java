package dev.parley.client;

import static dev.parley.client.support.Messages.anAnswer;
import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.parley.client.support.LiveServer;
import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.v1.ChatResponse;
import dev.parley.v1.FinishReason;
import dev.parley.v1.PendingCall;
import dev.parley.v1.PendingCallKind;
import dev.parley.v1.ResumeTurnRequest;
import dev.parley.v1.ResumeTurnResponse;
import dev.parley.v1.ToolCall;
import io.grpc.Context;
import io.grpc.Status;
import java.io.IOException;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

/** Tools that are functions of the caller's, for a caller that does not wait; {@link ToolsTest} has the rest. */
class AsyncToolsTest {

    record Place(String word) {}

    private static AsyncParleyClient aClient() {
        String token = LiveServer.tokenOf(UUID.randomUUID().toString());
        return AsyncParleyClient.builder().address(LiveServer.toolUser().address()).token(token).build();
    }

    private static AsyncParleyClient clientOf(ScriptedServer server) {
        return AsyncParleyClient.builder().address(server.address()).build();
    }

    private static ToolFunction telling(String name, ToolFunction.Body<Place> body) {
        return ToolFunction.of(name, "Tells something about a place.", Place.class, body);
    }

    private static ChatResponse waits(PendingCallKind kind) {
        var call = PendingCall.newBuilder().setCallKey("k").setName("weather").setArguments("{\"word\": \"\"}").setKind(kind);
        return ChatResponse.newBuilder()
                .setFinishReason(FinishReason.FINISH_REASON_ACTION_REQUIRED).addPendingCalls(call).build();
    }

    private static ResumeTurnResponse resumed(ChatResponse answer) {
        return ResumeTurnResponse.newBuilder().setChat(answer).build();
    }

    /** Fails when the functions of one step run one after another, or when the caller's thread has to run them. */
    @Test
    void functionsAreRunAndApprovalsAskedForUntilThereIsAnAnswer() {
        var both = new CountDownLatch(2);
        var weather = telling("weather", (in, call) -> {
            both.countDown();
            both.await(); // the calls of one step run at the same time, or this never ends
            return in.word() + " is clear";
        });
        var tools = Tools.of(weather).approve(call ->
                call.getArguments().contains("hello") ? Decision.approve() : Decision.deny("be kind"));
        String message = "script\ncall weather:Turin weather:Rome\ntold\ncall send:hello send:insult\ntold";
        try (var parley = aClient()) {
            Answer answer = parley.runWithTools(message, ChatOptions.defaults(), tools).join();
            assertEquals(
                    List.of("Turin is clear", "Rome is clear", "hello is sent", "be kind"),
                    answer.response().getToolCallsList().stream().map(ToolCall::getResult).toList());
        }
    }

    /** Fails when an undecided approval keeps the results of its step from being given, or they are asked for again. */
    @Test
    void anotherRunGoesOnWithWhatIsPending() {
        var runs = new AtomicInteger();
        var tools = Tools.of(telling("weather", (in, call) -> {
            runs.incrementAndGet();
            return "clear";
        }));
        var undecided = new IllegalStateException("she is at lunch");
        String message = "script\ncall weather:Turin send:hello\ntold";
        var options = ChatOptions.defaults().requestId(UUID.randomUUID().toString());
        try (var parley = aClient()) {
            var asking = parley.runWithTools(message, options, tools.approve(call -> {
                throw undecided;
            }));
            assertSame(undecided, assertThrows(CompletionException.class, asking::join).getCause());
            var deciding = parley.runWithTools(message, options, tools.approve(call -> Decision.approve()));
            assertEquals("clear\nhello is sent", deciding.join().text());
            assertTrue(parley.runWithTools(message, options, tools).join().isReplayed());
            assertEquals(1, runs.get());
        }
    }

    @SuppressWarnings("unchecked")
    private static <X extends Throwable> Decision throwUnchecked(Throwable any) throws X {
        throw (X) any;
    }

    /** Fails when what Kotlin's callbacks may throw, and Java's may not, loses the results of its step. */
    @Test
    void anUndecidedApprovalLosesNoResultWhateverItThrew() {
        var call = waits(PendingCallKind.PENDING_CALL_KIND_RESULT).toBuilder();
        var approval = PendingCall.newBuilder()
                .setCallKey("a").setName("send").setKind(PendingCallKind.PENDING_CALL_KIND_APPROVAL);
        for (var thrown : List.of(new IOException("the desk is closed"), new InterruptedException())) {
            var tools = Tools.of(telling("weather", (in, each) -> "clear"))
                    .approve(each -> AsyncToolsTest.<RuntimeException>throwUnchecked(thrown));
            var stillWaits = ChatResponse.newBuilder()
                    .setFinishReason(FinishReason.FINISH_REASON_ACTION_REQUIRED).addPendingCalls(approval).build();
            try (var server = ScriptedServer.start(
                            sends(call.clone().addPendingCalls(approval).build()), sends(resumed(stillWaits)));
                    var client = clientOf(server)) {
                var running = client.runWithTools("x", ChatOptions.defaults(), tools);
                assertSame(thrown, assertThrows(CompletionException.class, running::join).getCause());
                var given = (ResumeTurnRequest) server.asked().get(1).request();
                assertEquals("clear", given.getResults(0).getResult());
            }
        }
    }

    /** Fails when an approval that was interrupted hides it from the thread that waits. */
    @Test
    void anInterruptedApprovalEndsTheRunOfTheBlockingClient() {
        var tools = Tools.of().approve(each -> AsyncToolsTest.<RuntimeException>throwUnchecked(new InterruptedException()));
        try (var server = ScriptedServer.start(sends(waits(PendingCallKind.PENDING_CALL_KIND_APPROVAL)));
                var client = ParleyClient.builder().address(server.address()).build()) {
            var error = assertThrows(
                    ParleyException.class, () -> client.runWithTools("x", ChatOptions.defaults(), tools));
            assertEquals(Status.Code.CANCELLED, error.code());
            assertTrue(Thread.interrupted());
        }
    }

    /** Fails when a defect is taken for a caller that cannot decide, and the run goes on. */
    @Test
    void aDefectOfAnApprovalEndsTheRun() {
        var defect = new AssertionError("broken");
        var tools = Tools.of().approve(each -> {
            throw defect;
        });
        try (var server = ScriptedServer.start(sends(waits(PendingCallKind.PENDING_CALL_KIND_APPROVAL)));
                var client = clientOf(server)) {
            var running = client.runWithTools("x", ChatOptions.defaults(), tools);
            assertSame(defect, assertThrows(CompletionException.class, running::join).getCause());
            assertEquals(1, server.asked().size());
        }
    }

    @Test
    void aRunThatIsOvertakenGoesOnAndNotForEver() {
        var given = Refusal.of(Status.Code.ALREADY_EXISTS, "RESULT_ALREADY_GIVEN");
        var tools = Tools.of(telling("weather", (in, call) -> "clear"));
        var waiting = sends(waits(PendingCallKind.PENDING_CALL_KIND_RESULT));
        try (var server = ScriptedServer.start(waiting, refuses(given), waiting, sends(resumed(anAnswer("done"))));
                var client = clientOf(server)) {
            assertEquals("done", client.runWithTools("x", ChatOptions.defaults(), tools).join().text());
            assertEquals(server.asked().get(0).request(), server.asked().get(2).request());
        }
        var steps = new ScriptedServer.Step[12];
        for (int n = 0; n < steps.length; n += 2) {
            steps[n] = waiting;
            steps[n + 1] = refuses(given);
        }
        try (var server = ScriptedServer.start(steps); var client = clientOf(server)) {
            var running = client.runWithTools("x", ChatOptions.defaults(), tools);
            var error = assertThrows(CompletionException.class, running::join).getCause();
            assertInstanceOf(ParleyException.ResultAlreadyGiven.class, error);
            assertEquals(12, server.asked().size());
        }
    }

    @Test
    void aFailureOfTheTurnEndsTheRunAsItIs() {
        var refused = Refusal.of(Status.Code.FAILED_PRECONDITION, "AGENT_REFUSED");
        try (var server = ScriptedServer.start(refuses(refused)); var client = clientOf(server)) {
            var options = ChatOptions.defaults().requestId("order-7");
            var running = client.runWithTools("x", options, Tools.of());
            var error = assertThrows(CompletionException.class, running::join).getCause();
            assertEquals("order-7", assertInstanceOf(ParleyException.AgentRefused.class, error).requestId());
            assertThrows(
                    IllegalArgumentException.class, () -> client.runWithTools("\ud800", options, Tools.of()));
        }
    }

    /** Fails when a defect of a function is taken for a result, or leaves the future open. */
    @Test
    void aDefectOfAFunctionEndsTheRun() {
        var defect = new AssertionError("broken");
        var tools = Tools.of(telling("weather", (in, call) -> {
            throw defect;
        }));
        try (var server = ScriptedServer.start(sends(waits(PendingCallKind.PENDING_CALL_KIND_RESULT)));
                var client = clientOf(server)) {
            var running = client.runWithTools("x", ChatOptions.defaults(), tools);
            assertSame(defect, assertThrows(CompletionException.class, running::join).getCause());
            assertEquals(1, server.asked().size());
        }
    }

    /** Fails when cancelling leaves a function, an approval or a call behind. */
    @Test
    void cancellingARunInterruptsWhatItDoesAndGivesNothing() throws InterruptedException {
        for (PendingCallKind kind : List.of(
                PendingCallKind.PENDING_CALL_KIND_RESULT, PendingCallKind.PENDING_CALL_KIND_APPROVAL)) {
            var began = new CountDownLatch(1);
            var interrupted = new CountDownLatch(1);
            Runnable hanging = () -> {
                began.countDown();
                try {
                    new CountDownLatch(1).await();
                } catch (InterruptedException expected) {
                    interrupted.countDown();
                }
            };
            var tools = Tools.of(telling("weather", (in, call) -> {
                hanging.run();
                return "clear";
            })).approve(call -> {
                hanging.run();
                return Decision.approve();
            });
            try (var server = ScriptedServer.start(sends(waits(kind))); var client = clientOf(server)) {
                CompletableFuture<Answer> running = client.runWithTools("x", ChatOptions.defaults(), tools);
                began.await();
                running.cancel(true);
                interrupted.await();
                assertEquals(1, server.asked().size());
            }
        }
        try (var server = ScriptedServer.start(sends().thenHangs()); var client = clientOf(server)) {
            var running = client.runWithTools("x", ChatOptions.defaults(), Tools.of());
            while (server.asked().isEmpty()) {
                Thread.onSpinWait();
            }
            running.cancel(true);
            server.awaitCallerGone();
        }
    }

    /** Fails when the steps after the first call lose the caller's gRPC context, and with it a trace. */
    @Test
    void theStepsOfARunKeepTheContextOfItsCaller() throws Exception {
        Context.Key<String> key = Context.key("trace");
        var seen = new AtomicReference<String>();
        var tools = Tools.of().approve(call -> {
            seen.set(key.get());
            return Decision.approve();
        });
        try (var server = ScriptedServer.start(
                        sends(waits(PendingCallKind.PENDING_CALL_KIND_APPROVAL)), sends(resumed(anAnswer("done"))));
                var client = clientOf(server)) {
            Context.current().withValue(key, "t-1")
                    .call(() -> client.runWithTools("x", ChatOptions.defaults(), tools)).join();
            assertEquals("t-1", seen.get());
        }
    }

    /** Fails when the blocking client asks about approvals anywhere but on its caller's thread. */
    @Test
    void theBlockingClientAsksOnTheThreadOfItsCaller() {
        var asked = new AtomicReference<Thread>();
        var tools = Tools.of().approve(call -> {
            asked.set(Thread.currentThread());
            return Decision.approve();
        });
        try (var server = ScriptedServer.start(
                        sends(waits(PendingCallKind.PENDING_CALL_KIND_APPROVAL)), sends(resumed(anAnswer("done"))));
                var client = ParleyClient.builder().address(server.address()).build()) {
            assertEquals("done", client.runWithTools("x", ChatOptions.defaults(), tools).text());
            assertSame(Thread.currentThread(), asked.get());
        }
    }

    /** Fails when a run asks again and again about a call that this client cannot give, as that of a newer server. */
    @Test
    void aCallOfAKindThatIsUnknownStaysPending() throws Exception {
        var newer = waits(PendingCallKind.PENDING_CALL_KIND_RESULT).toBuilder();
        newer.getPendingCallsBuilder(0).setCallKey("newer").setKindValue(99);
        var both = waits(PendingCallKind.PENDING_CALL_KIND_RESULT).toBuilder().addPendingCalls(newer.getPendingCalls(0));
        var tools = Tools.of(telling("weather", (in, call) -> "clear"));
        try (var server = ScriptedServer.start(sends(both.build()), sends(resumed(newer.build())));
                var client = clientOf(server)) {
            var running = client.runWithTools("x", ChatOptions.defaults(), tools);
            try {
                Answer answer = running.get(10, TimeUnit.SECONDS);
                assertTrue(answer.isWaiting());
                assertEquals("newer", answer.pendingCalls().get(0).getCallKey());
                assertEquals(2, server.asked().size());
            } finally {
                running.cancel(true);
            }
        }
    }
}

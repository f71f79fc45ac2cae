package dev.parley.client;

import static dev.parley.client.support.Messages.anAnswer;
import static dev.parley.client.support.Messages.progress;
import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.v1.EraseOwnerResponse;
import dev.parley.v1.ErasureState;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import java.io.IOException;
import java.time.Duration;
import java.time.temporal.ChronoUnit;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Flow;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every call ends, and every subscriber is told so, whatever goes wrong on the way: what is asked for, run or thrown. */
class EndingsTest {

    private static final Refusal DRAINED = Refusal.unavailable("WORKER_DRAINED");
    private static final Refusal IN_TEN_THOUSAND_YEARS =
            Refusal.unavailable("WORKER_DRAINED").retryMs(315_576_000_000_000L);

    private static AsyncParleyClient clientOf(ScriptedServer server) {
        return AsyncParleyClient.builder().address(server.address()).build();
    }

    /** Waits for what a future or a subscriber ends with, and not for ever. */
    private static Throwable endOf(CompletableFuture<?> future) {
        return assertThrows(ExecutionException.class, () -> future.get(20, TimeUnit.SECONDS)).getCause();
    }

    /** Subscribes for everything. The future ends as the subscription does. */
    private static <E> CompletableFuture<Void> all(Flow.Publisher<E> events) {
        var end = new CompletableFuture<Void>();
        events.subscribe(new Flow.Subscriber<E>() {
            @Override
            public void onSubscribe(Flow.Subscription subscription) {
                subscription.request(Long.MAX_VALUE);
            }

            @Override
            public void onNext(E event) {
                // That it ends is all that matters.
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
        return end;
    }

    /** Fails when the wait is counted in nanoseconds, of which a long holds 292 years. */
    @Test
    void aWaitThatIsTooLongForAnyClockEndsTheCall() {
        try (var server = ScriptedServer.start(refuses(IN_TEN_THOUSAND_YEARS)); var client = clientOf(server)) {
            var error = assertInstanceOf(ParleyException.WorkerDrained.class, endOf(client.chat("hello")));
            assertEquals(Duration.ofDays(3_652_500), error.retryAfter().orElseThrow());
            assertInstanceOf(ParleyException.WorkerDrained.class, endOf(all(client.stream("hello"))));
        }
    }

    @Test
    void aTimeoutMayBeForEver() throws Exception {
        try (var server = ScriptedServer.start(sends(anAnswer("HELLO"))); var client = clientOf(server)) {
            var options = ChatOptions.defaults().timeout(ChronoUnit.FOREVER.getDuration());
            assertEquals("HELLO", client.chat("hello", options).get(20, TimeUnit.SECONDS).text());
        }
    }

    private static Stream<Function<AsyncParleyClient, CompletableFuture<?>>> calls() {
        return Stream.of(
                client -> client.chat("hello", ChatOptions.defaults().requestId("r")),
                client -> all(client.stream("hello", ChatOptions.defaults().requestId("r"))));
    }

    /** Fails when the wait goes on, and when the next try is made. */
    @ParameterizedTest
    @MethodSource("calls")
    void closingTheClientEndsWaitsBetweenTwoTries(Function<AsyncParleyClient, CompletableFuture<?>> call) {
        var inAMinute = Refusal.unavailable("WORKER_DRAINED").retryMs(60_000);
        try (var server = ScriptedServer.start(refuses(inAMinute)); var client = clientOf(server)) {
            var begun = call.apply(client.actingFor("eve"));
            while (server.asked().isEmpty()) {
                Thread.onSpinWait();
            }
            CompletableFuture.runAsync(client::close, CompletableFuture.delayedExecutor(100, TimeUnit.MILLISECONDS));
            var error = assertInstanceOf(ParleyException.class, endOf(begun)); // it may not wait yet, but soon
            assertEquals(Status.Code.CANCELLED, error.code());
            assertEquals("the client was closed", error.text());
            assertEquals("r", error.requestId());
            assertEquals(1, server.asked().size());
        }
    }

    /** Fails when an erasure is asked about by a client that is closed. */
    @Test
    void closingTheClientEndsTheWaitForAnErasure() {
        var running = EraseOwnerResponse.newBuilder().setState(ErasureState.ERASURE_STATE_RUNNING).build();
        try (var server = ScriptedServer.start(sends(running));
                var client = ParleyClient.builder().address(server.address()).build()) {
            var begun = CompletableFuture.supplyAsync(() -> client.eraseOwnerAndWait("r"));
            while (server.asked().isEmpty()) {
                Thread.onSpinWait();
            }
            CompletableFuture.runAsync(client::close, CompletableFuture.delayedExecutor(100, TimeUnit.MILLISECONDS));
            assertEquals("the client was closed", assertInstanceOf(ParleyException.class, endOf(begun)).text());
            assertEquals(1, server.asked().size());
        }
    }

    /** Fails when closing a client on a channel that stays open hides what ends its calls. */
    @Test
    void aChannelOfTheCallersOwnIsNotClosed() throws Exception {
        try (var server = ScriptedServer.start(refuses(DRAINED), sends(anAnswer("HELLO")))) {
            var channel =
                    Grpc.newChannelBuilder(server.address(), InsecureChannelCredentials.create()).disableRetry().build();
            var client = AsyncParleyClient.builder().channel(channel).build();
            client.close();
            assertEquals("HELLO", client.chat("hello").get(20, TimeUnit.SECONDS).text());
            channel.shutdownNow();
        }
    }

    /** Fails when the next try is lost with the executor that was to make it. */
    @Test
    void anExecutorThatIsShutDownBetweenTwoTriesEndsTheCall() {
        for (boolean isStreamed : new boolean[] {false, true}) {
            var executor = Executors.newSingleThreadExecutor();
            try (var server = ScriptedServer.start(refuses(DRAINED))) {
                var channel = Grpc.newChannelBuilder(server.address(), InsecureChannelCredentials.create())
                        .disableRetry().build();
                try (var client = AsyncParleyClient.builder().channel(channel).executor(executor).build()) {
                    var options = ChatOptions.defaults().onRetry(error -> executor.shutdown());
                    CompletableFuture<?> call =
                            isStreamed ? all(client.stream("hello", options)) : client.chat("hello", options);
                    assertInstanceOf(RejectedExecutionException.class, endOf(call));
                } finally {
                    channel.shutdownNow();
                }
            }
        }
    }

    /** Fails when only exceptions are caught. */
    @Test
    void anErrorOfTheCallersHookEndsTheCall() {
        var defect = new AssertionError("of the caller's");
        var options = ChatOptions.defaults().onRetry(error -> {
            throw defect;
        });
        try (var server = ScriptedServer.start(refuses(DRAINED)); var client = clientOf(server)) {
            assertSame(defect, endOf(client.chat("hello", options)));
            assertSame(defect, endOf(all(client.stream("hello", options))));
        }
    }

    @SuppressWarnings("unchecked")
    private static <X extends Throwable> void throwUnchecked(Throwable any) throws X {
        throw (X) any;
    }

    /** Fails with a ClassCastException: Kotlin's hooks may throw what Java's may not. */
    @Test
    void anExceptionThatJavaWouldHaveToDeclareIsTheCause() {
        var unchecked = new IOException("of the caller's");
        var options = ChatOptions.defaults().onRetry(error -> EndingsTest.<RuntimeException>throwUnchecked(unchecked));
        try (var server = ScriptedServer.start(refuses(DRAINED));
                var client = ParleyClient.builder().address(server.address()).build()) {
            var thrown = assertThrows(CompletionException.class, () -> client.chat("hello", options));
            assertSame(unchecked, thrown.getCause());
        }
    }

    /** Fails when the call waits for its deadline instead, as for a class that cannot be loaded. */
    @Test
    void anErrorOfATokenSourceIsTold() {
        var defect = new NoClassDefFoundError("a library of the caller's");
        try (var server = ScriptedServer.start(sends(anAnswer("x")));
                var client = AsyncParleyClient.builder().address(server.address()).token(() -> {
                    throw defect;
                }).build()) {
            var error = assertInstanceOf(ParleyException.Unauthenticated.class, endOf(client.chat("hello")));
            assertSame(defect, error.getCause());
            assertInstanceOf(ParleyException.Unauthenticated.class, endOf(all(client.stream("hello"))));
        }
    }

    /** Fails when the end of a context's time is taken for that of one call: the watch then asks again for ever. */
    @Test
    void aWatchEndsWithTheTimeOfItsContext() {
        var clock = Executors.newSingleThreadScheduledExecutor();
        try (var server = ScriptedServer.start(sends(progress(0)).thenHangs()); var client = clientOf(server)) {
            var context = Context.current().withDeadlineAfter(500, TimeUnit.MILLISECONDS, clock);
            var end = new CompletableFuture<CompletableFuture<Void>>();
            context.run(() -> end.complete(all(client.watch("c", WatchOptions.defaults()))));
            assertInstanceOf(ParleyException.DeadlineExceeded.class, endOf(end.join()));
        } finally {
            clock.shutdownNow();
        }
    }

    /** Fails with a NullPointerException when a call that ends while it is started is thought to be there. */
    @Test
    void aStreamOnADirectExecutorEndsWithItsError() {
        var gone = ScriptedServer.start(sends(anAnswer("x")));
        gone.close();
        try (var client = AsyncParleyClient.builder().address(gone.address())
                .configureChannel(ManagedChannelBuilder::directExecutor).build()) {
            assertInstanceOf(ParleyException.Unavailable.class, endOf(all(client.stream("hello"))));
        }
    }
}

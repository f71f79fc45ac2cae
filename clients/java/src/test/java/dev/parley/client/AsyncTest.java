package dev.parley.client;

import static dev.parley.client.support.Messages.anAnswer;
import static dev.parley.client.support.Messages.chunk;
import static dev.parley.client.support.Messages.completed;
import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.v1.StreamChatResponse;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Flow;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** Futures and publishers: what they end with, how they are stopped, how much they send. */
class AsyncTest {

    /** Keeps what it is told; the test asks for more. */
    private static class Keeping implements Flow.Subscriber<StreamChatResponse> {
        final BlockingQueue<Object> told = new LinkedBlockingQueue<>();
        Flow.Subscription subscription;

        @Override
        public void onSubscribe(Flow.Subscription given) {
            subscription = given;
        }

        @Override
        public void onNext(StreamChatResponse event) {
            told.add(event.hasCompleted() ? event.getCompleted().getResponse() : event.getChunk().getText());
        }

        @Override
        public void onError(Throwable error) {
            told.add(error);
        }

        @Override
        public void onComplete() {
            told.add("the end");
        }

        Object next() throws InterruptedException {
            Object next = told.poll(30, TimeUnit.SECONDS);
            return next == null ? "nothing" : next;
        }
    }

    private static AsyncParleyClient clientOf(ScriptedServer server) {
        return AsyncParleyClient.builder().address(server.address()).build();
    }

    @Test
    void aFutureEndsWithTheAnswerOrTheTypedError() {
        var refused = Refusal.of(io.grpc.Status.Code.NOT_FOUND, "CONVERSATION_NOT_FOUND");
        try (var server = ScriptedServer.start(sends(anAnswer("HELLO")), refuses(refused)); var client = clientOf(server)) {
            assertEquals("HELLO", client.chat("hello").thenApply(Answer::text).join());
            var chatting = client.chat("hello", ChatOptions.defaults().requestId("order-7"));
            var error = assertThrows(CompletionException.class, chatting::join).getCause();
            assertEquals("order-7", assertInstanceOf(ParleyException.ConversationNotFound.class, error).requestId());
        }
    }

    @Test
    void cancellingAFutureCancelsItsCall() throws InterruptedException {
        try (var server = ScriptedServer.start(sends().thenHangs()); var client = clientOf(server)) {
            var chatting = client.chat("hello");
            while (server.asked().isEmpty()) {
                Thread.onSpinWait();
            }
            chatting.cancel(true);
            server.awaitCallerGone();
        }
    }

    @Test
    void aSubscriberGetsNoMoreThanItAsksFor() throws InterruptedException {
        try (var server = ScriptedServer.start(
                        sends(chunk("one", 1, 0), chunk("two", 1, 1))
                                .thenRefuses(Refusal.unavailable("WORKER_DRAINED")),
                        sends(chunk("three", 1, 2), completed("one two three")));
                var client = clientOf(server)) {
            var keeping = new Keeping();
            client.stream("hello").subscribe(keeping);
            keeping.subscription.request(1);
            assertEquals("one", keeping.next());
            assertNull(keeping.told.poll(300, TimeUnit.MILLISECONDS)); // all that can be told of what must not come
            keeping.subscription.request(2); // "three" comes in the second call: what was asked for is kept
            assertEquals(List.of("two", "three"), List.of(keeping.next(), keeping.next()));
            assertNull(keeping.told.poll(300, TimeUnit.MILLISECONDS));
            keeping.subscription.request(Long.MAX_VALUE);
            assertEquals(List.of("one two three", "the end"), List.of(keeping.next(), keeping.next()));
        }
    }

    @Test
    void cancellingASubscriptionCancelsItsCall() throws InterruptedException {
        try (var server = ScriptedServer.start(sends(chunk("one", 1, 0)).thenHangs()); var client = clientOf(server)) {
            var keeping = new Keeping();
            client.stream("hello").subscribe(keeping);
            keeping.subscription.request(5);
            assertEquals("one", keeping.next());
            keeping.subscription.cancel();
            server.awaitCallerGone();
            assertEquals(0, keeping.told.size());
        }
    }

    @Test
    void cancellingBetweenTwoTriesEndsThem() throws InterruptedException {
        var later = Refusal.unavailable("WORKER_DRAINED").retryMs(1000);
        BlockingQueue<ParleyException> losses = new LinkedBlockingQueue<>();
        try (var server = ScriptedServer.start(refuses(later)); var client = clientOf(server)) {
            var chatting = client.chat("hello", ChatOptions.defaults().onRetry(losses::add));
            assertInstanceOf(ParleyException.WorkerDrained.class, losses.poll(30, TimeUnit.SECONDS));
            chatting.cancel(true);
            var other = client.chat("other", ChatOptions.defaults().onRetry(losses::add).timeout(Duration.ofSeconds(60)));
            losses.poll(30, TimeUnit.SECONDS);
            losses.poll(30, TimeUnit.SECONDS); // its second try was made later than the first call's would have been
            assertEquals(3, server.asked().size());
            other.cancel(true);
        }
    }

    @Test
    void askingForNothingIsAnError() throws InterruptedException {
        try (var server = ScriptedServer.start(sends().thenHangs()); var client = clientOf(server)) {
            var keeping = new Keeping();
            client.stream("hello").subscribe(keeping);
            keeping.subscription.request(0);
            assertInstanceOf(IllegalArgumentException.class, keeping.next());
        }
    }

    @Test
    void aHookThatThrowsEndsTheCall() {
        try (var server = ScriptedServer.start(refuses(Refusal.unavailable("WORKER_DRAINED")));
                var client = clientOf(server)) {
            var options = ChatOptions.defaults().onRetry(error -> {
                throw new IllegalStateException("of the caller's");
            });
            var error = assertThrows(CompletionException.class, () -> client.chat("hello", options).join());
            assertInstanceOf(IllegalStateException.class, error.getCause());
        }
    }

    /** Fails when a subscriber is told of its mistake while it is told of an event: signals come one after the other. */
    @Test
    void askingForNothingFromAnotherThreadWaitsForTheEventUnderWay() throws InterruptedException {
        var isBusy = new CountDownLatch(1);
        var mayGoOn = new CountDownLatch(1);
        var keeping = new Keeping() {
            @Override
            public void onNext(StreamChatResponse event) {
                isBusy.countDown();
                try {
                    mayGoOn.await();
                } catch (InterruptedException broken) {
                    throw new IllegalStateException(broken);
                }
                super.onNext(event);
            }
        };
        try (var server = ScriptedServer.start(sends(chunk("one", 1, 0), chunk("two", 1, 1)).thenHangs());
                var client = clientOf(server)) {
            client.stream("hello").subscribe(keeping);
            keeping.subscription.request(5);
            isBusy.await();
            keeping.subscription.request(0);
            server.awaitCallerGone();
            assertEquals(0, keeping.told.size());
            mayGoOn.countDown();
            assertEquals("one", keeping.next());
            assertInstanceOf(IllegalArgumentException.class, keeping.next());
        }
    }
}

package dev.parley.client;

import io.grpc.CallCredentials;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.ConnectivityState;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;

/** The channel of one client, and how calls are made on it. Any number of threads may use it. */
final class Connection {

    /** For calls that may write much at once. */
    static final Duration CHANGE_TIMEOUT = Duration.ofSeconds(60);

    private static final long RECONNECT_PAUSE_NS = TimeUnit.MILLISECONDS.toNanos(200);

    private final Channel channel;
    private final ManagedChannel own; // null: the channel is the caller's
    private final CallCredentials credentials; // null: calls carry no token
    private final Executor executor;
    private final Duration chatTimeout;
    private final Duration readTimeout;
    private final AtomicLong reconnectedAtNs;
    private final AtomicBoolean isClosed;
    private final CompletableFuture<Void> closing; // ends when the channel is closed
    private final Metadata acting; // Headers.NONE: the caller acts for itself

    Connection(
            Channel channel,
            ManagedChannel own,
            CallCredentials credentials,
            Executor executor,
            Duration chatTimeout,
            Duration readTimeout) {
        this.channel = channel;
        this.own = own;
        this.credentials = credentials;
        this.executor = executor == null ? ForkJoinPool.commonPool() : executor;
        this.chatTimeout = chatTimeout;
        this.readTimeout = readTimeout;
        this.reconnectedAtNs = new AtomicLong(System.nanoTime() - RECONNECT_PAUSE_NS);
        this.isClosed = new AtomicBoolean();
        this.closing = new CompletableFuture<>();
        this.acting = Headers.NONE;
    }

    private Connection(Connection shared, Metadata acting) {
        this.channel = shared.channel;
        this.own = shared.own;
        this.credentials = shared.credentials;
        this.executor = shared.executor;
        this.chatTimeout = shared.chatTimeout;
        this.readTimeout = shared.readTimeout;
        this.reconnectedAtNs = shared.reconnectedAtNs;
        this.isClosed = shared.isClosed;
        this.closing = shared.closing;
        this.acting = acting;
    }

    /** Returns this connection as one whose calls are about a user's conversations. */
    Connection actingFor(String user) {
        return new Connection(this, Headers.naming(user));
    }

    Duration chatTimeout() {
        return chatTimeout;
    }

    Duration readTimeout() {
        return readTimeout;
    }

    /** Makes one try of a call, which says in metadata what is given besides who calls; nothing is sent yet. */
    <Q, R> ClientCall<Q, R> newCall(MethodDescriptor<Q, R> method, Deadline deadline, Metadata headers) {
        reconnectSoon();
        CallOptions options = CallOptions.DEFAULT.withDeadline(deadline);
        return ClientInterceptors.intercept(
                        channel,
                        MetadataUtils.newAttachHeadersInterceptor(acting),
                        MetadataUtils.newAttachHeadersInterceptor(headers))
                .newCall(method, credentials == null ? options : options.withCallCredentials(credentials));
    }

    /**
     * Does something after a pause, in the caller's gRPC context. If the executor refuses it then, since it was shut
     * down meanwhile, the other action is told so.
     */
    void later(Duration pause, Runnable action, Consumer<Throwable> refused) {
        Runnable inContext = Context.current().wrap(action);
        rested(pause).thenRun(() -> {
            try {
                executor.execute(inContext);
            } catch (RuntimeException closed) {
                ForkJoinPool.commonPool().execute(() -> refused.accept(closed)); // who is told may block
            }
        });
    }

    /** Returns what ends after a pause, or as soon as the channel is closed. */
    CompletableFuture<?> rested(Duration pause) {
        long pauseNs = TimeUnit.NANOSECONDS.convert(pause);
        var over = new CompletableFuture<Void>().completeOnTimeout(null, pauseNs, TimeUnit.NANOSECONDS);
        return CompletableFuture.anyOf(over, closing);
    }

    /** Returns the exception that the last status of a try stands for. */
    ParleyException exceptionFrom(Status status, Metadata trailers, String requestId) {
        if (isClosed.get()) {
            String text = "the client was closed";
            return new ParleyException(Failure.ofOurs(Status.Code.CANCELLED, text, requestId, status.getCause()));
        }
        return Statuses.exceptionFrom(status, trailers, requestId);
    }

    /** Closes the channel, unless it is the caller's, or another connection's, which this one shares. */
    void close() {
        if (own == null || acting != Headers.NONE) {
            return;
        }
        isClosed.set(true);
        own.shutdownNow();
        closing.complete(null); // last: what has waited fails on the closed channel, and asks no server
    }

    /** A server that restarts is found again in good time: gRPC's own waits grow to two minutes. */
    private void reconnectSoon() {
        if (own == null || own.getState(false) != ConnectivityState.TRANSIENT_FAILURE) {
            return;
        }
        long before = reconnectedAtNs.get();
        long now = System.nanoTime();
        if (now - before >= RECONNECT_PAUSE_NS && reconnectedAtNs.compareAndSet(before, now)) {
            own.resetConnectBackoff();
        }
    }
}

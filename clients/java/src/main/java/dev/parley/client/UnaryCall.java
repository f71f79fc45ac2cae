package dev.parley.client;

import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;

/** One call for a single response, with every try that it takes. Cancelling its future cancels it. */
final class UnaryCall<Q, R, T> {

    private final Connection connection;
    private final MethodDescriptor<Q, R> method;
    private final Q request;
    private final String requestId;
    private final Outcome<R, T> outcome;
    private final Consumer<ParleyException> onRetry;
    private final Tries tries;
    private final CompletableFuture<T> future = new CompletableFuture<>();
    private volatile ClientCall<Q, R> call;
    private boolean isMaybeDone; // a try ended UNAVAILABLE, perhaps after the server had done what was asked

    /** What a call comes to for its caller. */
    interface Outcome<R, T> {
        T of(R response);

        /** What an error comes to after a try that may have done what was asked. Empty: the error stands. */
        default Optional<T> afterLoss(ParleyException error) {
            return Optional.empty();
        }
    }

    private UnaryCall(
            Connection connection, MethodDescriptor<Q, R> method, Q request, String requestId, Duration timeout,
            Consumer<ParleyException> onRetry, Outcome<R, T> outcome) {
        this.connection = connection;
        this.method = method;
        this.request = request;
        this.requestId = requestId;
        this.outcome = outcome;
        this.onRetry = onRetry;
        this.tries = new Tries(Tries.Kind.CALL, timeout);
    }

    /**
     * Starts a call, whose first try alone says in metadata what is given. Its future ends with the result or a
     * {@link ParleyException}.
     */
    static <Q, R, T> CompletableFuture<T> start(
            Connection connection, MethodDescriptor<Q, R> method, Q request, String requestId, Duration timeout,
            Metadata firstHeaders, Consumer<ParleyException> onRetry, Outcome<R, T> outcome) {
        var started = new UnaryCall<>(connection, method, request, requestId, timeout, onRetry, outcome);
        started.future.whenComplete((value, error) -> started.cancelIfUnwanted());
        started.attempt(firstHeaders);
        return started.future;
    }

    private void attempt(Metadata headers) {
        if (future.isDone()) {
            return; // the caller has left during the pause
        }
        try {
            call = connection.newCall(method, tries.deadline(), headers);
            ClientCalls.asyncUnaryCall(call, request, new Answer());
            cancelIfUnwanted();
        } catch (Throwable defect) {
            future.completeExceptionally(defect); // or its caller would wait for ever
        }
    }

    private void cancelIfUnwanted() {
        ClientCall<Q, R> current = call;
        if (future.isCancelled() && current != null) {
            current.cancel("the caller has left", null);
        }
    }

    private void failed(Throwable failure) {
        try {
            endOrTryAgain(failure);
        } catch (Throwable defect) {
            future.completeExceptionally(defect); // such as of the caller's own hook
        }
    }

    private void endOrTryAgain(Throwable failure) {
        ParleyException error = connection.exceptionFrom(
                Status.fromThrowable(failure), Status.trailersFromThrowable(failure), requestId);
        Optional<T> done = isMaybeDone ? outcome.afterLoss(error) : Optional.empty();
        if (done.isPresent()) {
            future.complete(done.get());
            return;
        }
        Optional<Duration> pause = tries.pause(error);
        if (pause.isEmpty()) {
            future.completeExceptionally(error);
            return;
        }
        isMaybeDone |= error.code() == Status.Code.UNAVAILABLE;
        onRetry.accept(error);
        connection.later(pause.get(), () -> attempt(Headers.NONE), future::completeExceptionally);
    }

    private final class Answer implements StreamObserver<R> {
        private R received;

        @Override
        public void onNext(R response) {
            received = response;
        }

        @Override
        public void onError(Throwable failure) {
            failed(failure);
        }

        @Override
        public void onCompleted() {
            future.complete(outcome.of(received));
        }
    }
}

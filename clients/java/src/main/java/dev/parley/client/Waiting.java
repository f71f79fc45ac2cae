package dev.parley.client;

import io.grpc.Status;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;

/** How a thread waits for what the asynchronous client does. */
final class Waiting {

    private Waiting() {}

    /** Waits for a call's end. Interrupting the thread cancels the call. */
    static <T> T forResult(CompletableFuture<T> future, String requestId) {
        try {
            return future.get();
        } catch (ExecutionException failed) {
            throw thrown(failed.getCause());
        } catch (InterruptedException interrupted) {
            future.cancel(true);
            throw interrupted(requestId, interrupted);
        }
    }

    /** Returns an error to be thrown here: its stack trace shows who has called, and no thread of gRPC's. */
    static RuntimeException thrown(Throwable error) {
        if (error instanceof Error defect) {
            throw defect;
        }
        if (!(error instanceof RuntimeException)) {
            return new CompletionException(error); // of callbacks of the caller's in languages that check none
        }
        error.fillInStackTrace();
        return (RuntimeException) error;
    }

    /** Returns the error of an interrupted thread, and keeps its interrupt flag set. */
    static ParleyException interrupted(String requestId, InterruptedException cause) {
        Thread.currentThread().interrupt();
        String text = "the thread was interrupted while it waited";
        return new ParleyException(Failure.ofOurs(Status.Code.CANCELLED, text, requestId, cause));
    }
}

package dev.parley.client;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.LinkedBlockingQueue;

/** A thread that waits for a future, and meanwhile does the work of this executor itself. */
final class WaitingThread implements Executor {

    private final BlockingQueue<Runnable> work = new LinkedBlockingQueue<>();

    @Override
    public void execute(Runnable task) {
        work.add(task);
    }

    /** Works until the future has ended, and returns what it ended with. Interrupting the thread cancels the future. */
    <T> T until(CompletableFuture<T> future, String requestId) {
        future.whenComplete((value, error) -> work.add(() -> {})); // for a thread that waits
        try {
            while (!future.isDone()) {
                work.take().run();
            }
        } catch (InterruptedException interrupted) {
            future.cancel(true);
            throw Waiting.interrupted(requestId, interrupted);
        }
        return Waiting.forResult(future, requestId);
    }
}

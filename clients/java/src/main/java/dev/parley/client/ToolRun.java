package dev.parley.client;

import dev.parley.v1.CallResult;
import dev.parley.v1.ChatRequest;
import dev.parley.v1.PendingCall;
import dev.parley.v1.PendingCallKind;
import io.grpc.Context;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * One turn with the tools of its caller, over all that it waits for. Its steps, approvals included, come one after the
 * other on an executor; functions run on threads of their own.
 */
final class ToolRun {

    private static final int MAX_RESULT_BYTES = 65_536;
    private static final int MAX_GIVEN_BYTES = 1 << 20; // in one request: servers take 2 MiB

    private final AsyncParleyClient client;
    private final ChatRequest request;
    private final ChatOptions options;
    private final Tools tools;
    private final Map<String, ToolFunction> functions;
    private final ExecutorService threads = Executors.newCachedThreadPool(ToolRun::thread);
    private final Executor steps;
    private final Map<String, CallResult> outcomes = new HashMap<>(); // what this run has found out, by call key
    private final CompletableFuture<Answer> end = new CompletableFuture<>();
    private volatile CompletableFuture<Answer> call;

    private ToolRun(
            AsyncParleyClient client, ChatRequest request, ChatOptions options, Tools tools, Executor steps) {
        this.client = client;
        this.request = request;
        this.options = options;
        this.tools = tools;
        this.functions = tools.byName();
        this.steps = steps == null ? Context.current().fixedContextExecutor(threads) : steps;
    }

    /**
     * Starts a run. Cancelling its future ends the call under way and interrupts the functions; the turn waits on.
     *
     * @param steps where its steps come; null: on threads of its own, in its caller's gRPC context
     */
    static CompletableFuture<Answer> start(
            AsyncParleyClient client, ChatRequest request, ChatOptions options, Tools tools, Executor steps) {
        var run = new ToolRun(client, request, options, tools, steps);
        run.end.whenComplete((answer, error) -> run.stop());
        run.chat().thenComposeAsync(answer -> run.goOn(answer, 0), run.steps).whenComplete((answer, error) -> {
            if (error == null) {
                run.end.complete(answer);
            } else {
                run.end.completeExceptionally(causeOf(error));
            }
        });
        return run.end;
    }

    private static Thread thread(Runnable work) {
        Thread thread = new Thread(work, "parley-tool");
        thread.setDaemon(true);
        return thread;
    }

    private void stop() {
        threads.shutdownNow();
        cancelIfUnwanted();
    }

    /** Goes on as long as the turn waits. Args: how often in a row somebody else was first to give results. */
    private CompletableFuture<Answer> goOn(Answer answer, int overtaken) {
        if (!answer.isWaiting()) {
            return CompletableFuture.completedFuture(answer);
        }
        return findOut(answer.pendingCalls()).thenComposeAsync(
                undecided -> undecided.isEmpty() && requestsFor(answer.pendingCalls()).isEmpty()
                        ? CompletableFuture.completedFuture(answer) // a newer server's kinds of calls stay pending
                        : give(answer)
                                .handleAsync((given, error) -> after(given, causeOf(error), undecided, overtaken), steps)
                                .thenCompose(next -> next),
                steps);
    }

    /** Goes on after results were given, or were not. Args: what asking for approvals threw. */
    private CompletableFuture<Answer> after(
            Answer given, Throwable error, Optional<Exception> undecided, int overtaken) {
        if (error instanceof ParleyException.ResultAlreadyGiven || error instanceof ParleyException.CallNotPending) {
            return overtaken >= Tries.MOST
                    ? CompletableFuture.failedFuture(error)
                    // Somebody else gives results, or has ended the wait.
                    : chat().thenComposeAsync(answer -> goOn(answer, overtaken + 1), steps);
        }
        if (error != null) {
            return CompletableFuture.failedFuture(error);
        }
        return undecided.isPresent() && given.isWaiting()
                ? CompletableFuture.failedFuture(undecided.get())
                : goOn(given, 0);
    }

    /** Runs functions and asks for approvals, of calls that this run has not had before. Comes to what asking threw. */
    private CompletableFuture<Optional<Exception>> findOut(List<PendingCall> calls) {
        List<CompletableFuture<CallResult>> running = new ArrayList<>();
        for (PendingCall pending : calls) {
            if (isOpen(pending, PendingCallKind.PENDING_CALL_KIND_RESULT)) {
                running.add(CompletableFuture.supplyAsync(() -> outcomeOf(pending), threads));
            }
        }
        Optional<Exception> undecided = decide(calls);
        return CompletableFuture.allOf(running.toArray(CompletableFuture[]::new)).thenApplyAsync(all -> {
            running.forEach(each -> outcomes.put(each.join().getCallKey(), each.join()));
            return undecided;
        }, steps);
    }

    /** Asks for approvals, one after the other, until asking throws. Kotlin's callbacks may throw what Java's may not. */
    private Optional<Exception> decide(List<PendingCall> calls) {
        for (PendingCall pending : calls) {
            if (!isOpen(pending, PendingCallKind.PENDING_CALL_KIND_APPROVAL)) {
                continue;
            }
            try {
                Decision decision = tools.decisionOn(pending);
                outcomes.put(pending.getCallKey(), decision.isApproved()
                        ? CallResults.approval(pending) : CallResults.denial(pending, decision.reason()));
            } catch (Exception thrown) {
                if (thrown instanceof InterruptedException) {
                    Thread.currentThread().interrupt();
                }
                return Optional.of(thrown);
            }
        }
        return Optional.empty();
    }

    private boolean isOpen(PendingCall pending, PendingCallKind kind) {
        return pending.getKind() == kind && !outcomes.containsKey(pending.getCallKey());
    }

    private CallResult outcomeOf(PendingCall call) {
        ToolFunction function = functions.get(call.getName());
        if (function == null) {
            return CallResults.error(call, "There is no tool \"%s\".".formatted(call.getName()));
        }
        try {
            String result = function.run(call);
            String wrong = unfit(result);
            if (!wrong.isEmpty()) {
                throw new ToolException(wrong);
            }
            return CallResults.result(call, result);
        } catch (Exception error) {
            tools.failed(call, error);
            return CallResults.error(call, toldOf(error));
        }
    }

    /** Returns what the model is told of a function's exception. */
    private static String toldOf(Exception error) {
        String text = error.getMessage();
        boolean isForModel = error instanceof ToolException && text != null && !text.isBlank() && unfit(text).isEmpty();
        return isForModel ? text : "The tool failed (%s).".formatted(error.getClass().getSimpleName());
    }

    /** Says why a text cannot be sent; empty: it can. */
    private static String unfit(String text) {
        int bytes = text.getBytes(StandardCharsets.UTF_8).length;
        if (bytes > MAX_RESULT_BYTES) {
            return "The tool's result has %d bytes, and %d are the most.".formatted(bytes, MAX_RESULT_BYTES);
        }
        boolean isText = text.indexOf('\0') < 0 && StandardCharsets.UTF_8.newEncoder().canEncode(text);
        return isText ? "" : "The tool's result is not text.";
    }

    /** Gives the turn what this run has found out about its calls, in as many requests as it takes. */
    private CompletableFuture<Answer> give(Answer answer) {
        CompletableFuture<Answer> given = CompletableFuture.completedFuture(answer);
        for (List<CallResult> results : requestsFor(answer.pendingCalls())) {
            given = given.thenComposeAsync(before -> resume(results), steps);
        }
        return given;
    }

    private List<List<CallResult>> requestsFor(List<PendingCall> calls) {
        List<List<CallResult>> requests = new ArrayList<>();
        int bytes = 0;
        for (PendingCall pending : calls) {
            CallResult outcome = outcomes.get(pending.getCallKey());
            if (outcome == null) {
                continue;
            }
            if (requests.isEmpty() || bytes + outcome.getSerializedSize() > MAX_GIVEN_BYTES) {
                requests.add(new ArrayList<>());
                bytes = 0;
            }
            requests.get(requests.size() - 1).add(outcome);
            bytes += outcome.getSerializedSize();
        }
        return requests;
    }

    private CompletableFuture<Answer> chat() {
        return called(client.chat(request, options));
    }

    private CompletableFuture<Answer> resume(List<CallResult> results) {
        return called(client.resumeTurn(TurnKey.ofRequest(request.getRequestId()), results, options.resume()));
    }

    private CompletableFuture<Answer> called(CompletableFuture<Answer> started) {
        call = started;
        cancelIfUnwanted();
        return started;
    }

    private void cancelIfUnwanted() {
        CompletableFuture<Answer> current = call;
        if (end.isDone() && current != null) {
            current.cancel(true); // if it has ended, this changes nothing
        }
    }

    /** Returns what a stage failed with; null: it has not failed. */
    private static Throwable causeOf(Throwable error) {
        return error instanceof CompletionException && error.getCause() != null ? error.getCause() : error;
    }
}

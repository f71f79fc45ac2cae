package dev.parley.client;

import dev.parley.v1.CallResult;
import dev.parley.v1.ChatRequest;
import dev.parley.v1.PendingCall;
import dev.parley.v1.PendingCallKind;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** One turn with the tools of its caller, over all that it waits for. */
final class ToolRun {

    private static final int MAX_RESULT_BYTES = 65_536;
    private static final int MAX_GIVEN_BYTES = 1 << 20; // in one request: servers take 2 MiB

    private final ParleyClient client;
    private final ChatRequest request;
    private final ChatOptions options;
    private final Tools tools;
    private final Map<String, ToolFunction> functions;
    private final Map<String, CallResult> outcomes = new HashMap<>(); // what this run has found out, by call key

    ToolRun(ParleyClient client, ChatRequest request, ChatOptions options, Tools tools) {
        this.client = client;
        this.request = request;
        this.options = options;
        this.tools = tools;
        this.functions = tools.byName();
    }

    Answer toTheEnd() {
        ExecutorService threads = Executors.newCachedThreadPool(ToolRun::thread);
        try {
            return toTheEnd(threads);
        } finally {
            threads.shutdownNow();
        }
    }

    private static Thread thread(Runnable work) {
        Thread thread = new Thread(work, "parley-tool");
        thread.setDaemon(true);
        return thread;
    }

    private Answer toTheEnd(ExecutorService threads) {
        Answer answer = client.chat(request, options);
        int overtaken = 0;
        while (answer.isWaiting()) {
            RuntimeException undecided = findOut(answer.pendingCalls(), threads);
            try {
                answer = give(answer);
                overtaken = 0;
            } catch (ParleyException.ResultAlreadyGiven | ParleyException.CallNotPending another) {
                if (++overtaken > Tries.MOST) {
                    throw another;
                }
                answer = client.chat(request, options); // somebody else gives results, or has ended the wait
                continue;
            }
            if (undecided != null && answer.isWaiting()) {
                throw undecided;
            }
        }
        return answer;
    }

    /** Runs functions and asks for approvals, of calls that this run has not had before. Returns what asking threw. */
    private RuntimeException findOut(List<PendingCall> calls, ExecutorService threads) {
        Map<String, Future<CallResult>> running = new HashMap<>();
        RuntimeException undecided = null;
        for (PendingCall call : calls) {
            if (!outcomes.containsKey(call.getCallKey()) && call.getKind() == PendingCallKind.PENDING_CALL_KIND_RESULT) {
                running.put(call.getCallKey(), threads.submit(() -> outcomeOf(call)));
            }
        }
        for (PendingCall call : calls) {
            boolean isToDecide = call.getKind() == PendingCallKind.PENDING_CALL_KIND_APPROVAL && undecided == null;
            if (isToDecide && !outcomes.containsKey(call.getCallKey())) {
                try {
                    Decision decision = tools.decisionOn(call);
                    outcomes.put(call.getCallKey(), decision.isApproved()
                            ? CallResults.approval(call) : CallResults.denial(call, decision.reason()));
                } catch (RuntimeException thrown) {
                    undecided = thrown;
                }
            }
        }
        running.forEach((key, future) -> outcomes.put(key, resultOf(future)));
        return undecided;
    }

    private CallResult resultOf(Future<CallResult> future) {
        try {
            return future.get();
        } catch (ExecutionException failed) {
            throw Waiting.thrown(failed.getCause()); // an Error of a function, or an exception of onError
        } catch (InterruptedException interrupted) {
            throw Waiting.interrupted(request.getRequestId(), interrupted);
        }
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
    private Answer give(Answer answer) {
        List<CallResult> results = new ArrayList<>();
        int bytes = 0;
        for (PendingCall call : answer.pendingCalls()) {
            CallResult outcome = outcomes.get(call.getCallKey());
            if (outcome == null) {
                continue;
            }
            if (!results.isEmpty() && bytes + outcome.getSerializedSize() > MAX_GIVEN_BYTES) {
                resume(results);
                results.clear();
                bytes = 0;
            }
            results.add(outcome);
            bytes += outcome.getSerializedSize();
        }
        return results.isEmpty() ? answer : resume(results);
    }

    private Answer resume(List<CallResult> results) {
        return client.resumeTurn(TurnKey.ofRequest(request.getRequestId()), results, options.resume());
    }
}

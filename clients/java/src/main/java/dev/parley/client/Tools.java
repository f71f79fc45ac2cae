package dev.parley.client;

import dev.parley.v1.PendingCall;
import dev.parley.v1.Tool;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.BiConsumer;
import java.util.function.Function;

/**
 * What a caller does for its turns; see {@link ParleyClient#runWithTools}. Immutable: every method returns new tools.
 */
public final class Tools {

    private static final Decision NOBODY = Decision.deny("Nobody can approve calls here.");

    private final List<ToolFunction> functions;
    private final Function<PendingCall, Decision> approve;
    private final BiConsumer<PendingCall, Exception> onError;

    private Tools(
            List<ToolFunction> functions, Function<PendingCall, Decision> approve,
            BiConsumer<PendingCall, Exception> onError) {
        this.functions = functions;
        this.approve = approve;
        this.onError = onError;
    }

    /**
     * Tools that this process runs. Calls that need an approval are denied.
     *
     * @throws IllegalArgumentException two have the same name
     */
    public static Tools of(ToolFunction... functions) {
        var tools = new Tools(List.of(functions), call -> NOBODY, (call, error) -> {});
        if (tools.byName().size() < functions.length) {
            throw new IllegalArgumentException("two tools have the same name: the model could not tell them apart");
        }
        return tools;
    }

    /**
     * Decides whether the server may run a call. It is asked about one call at a time, by the thread that called
     * {@code runWithTools}, or, for the asynchronous client, on a thread that it may block. If it throws, so does {@code runWithTools}, and the turn waits on: for whoever approves it
     * elsewhere, or until the next {@code runWithTools} asks again.
     */
    public Tools approve(Function<PendingCall, Decision> approve) {
        return new Tools(functions, approve, onError);
    }

    /** Told every exception of a function, such as to log it, by several threads at once: the model is told little of it. */
    public Tools onError(BiConsumer<PendingCall, Exception> onError) {
        return new Tools(functions, approve, onError);
    }

    List<Tool> told() {
        return functions.stream().map(ToolFunction::tool).toList();
    }

    Map<String, ToolFunction> byName() {
        Map<String, ToolFunction> known = new TreeMap<>();
        functions.forEach(each -> known.put(each.tool().getName(), each));
        return known;
    }

    Decision decisionOn(PendingCall call) {
        return approve.apply(call);
    }

    void failed(PendingCall call, Exception error) {
        onError.accept(call, error);
    }
}

package dev.parley.conformance;

import dev.parley.client.ParleyClient;
import dev.parley.conformance.Runner.Scenario;
import dev.parley.conformance.Runner.Step;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Function;

/** Plays one scenario: its steps, one after another, and what they leave in the background. */
final class Playing {

    private static final long STEP_S = 60;
    private static final long EVENTUALLY_NS = TimeUnit.SECONDS.toNanos(30);
    private static final long AGAIN_MS = 100;

    private final Function<String, ParleyClient> clients;
    private final Values values;
    private final Map<String, Calling> background = new HashMap<>();

    /** The scenario has failed; the text says why. */
    static final class Failed extends RuntimeException {
        private static final long serialVersionUID = 1;

        Failed(String why) { super(why); }
    }

    private Playing(Scenario scenario, Function<String, ParleyClient> clients) {
        this.clients = clients;
        this.values = new Values(scenario.let() == null ? Map.of() : scenario.let());
    }

    /** Plays a scenario. Returns why it fails; empty: it does not. */
    static String whyItFails(Scenario scenario, Function<String, ParleyClient> clients) {
        Playing playing = new Playing(scenario, clients);
        int number = 0;
        try {
            for (Step step : scenario.steps()) {
                number++;
                playing.take(step);
            }
            return "";
        } catch (Failed failed) {
            Step step = scenario.steps().get(number - 1);
            String what = step.call() == null ? "wait " + step.awaited() : step.call();
            return "step %d (%s), %s".formatted(number, what, failed.getMessage());
        } finally {
            playing.background.values().forEach(Calling::close);
        }
    }

    private void take(Step step) {
        if (step.awaited() != null) {
            keep(step.awaited(), background.get(step.awaited()), step);
        } else if (step.background()) {
            Calling calling = start(step);
            background.put(step.as(), calling);
            awaited(calling.begun(), "nothing came");
        } else if (step.eventually()) {
            again(step);
        } else {
            keep(step.as(), start(step), step);
        }
    }

    private Calling start(Step step) {
        ParleyClient client = clients.apply(step.client() == null ? "ada" : step.client());
        Map<String, Object> with = values.resolved(step.with() == null ? Map.of() : step.with());
        return Calling.start(client, step, with);
    }

    /** Makes a call until its result is as expected, or time is up. */
    private void again(Step step) {
        long endNs = System.nanoTime() + EVENTUALLY_NS;
        while (true) {
            try {
                keep(step.as(), start(step), step);
                return;
            } catch (Failed failed) {
                if (System.nanoTime() - endNs > 0) {
                    throw failed;
                }
            }
            try {
                Thread.sleep(AGAIN_MS);
            } catch (InterruptedException interrupted) {
                throw new IllegalStateException(interrupted);
            }
        }
    }

    /** Waits for a call's end, keeps its result under a name, and compares it with what is expected. */
    private void keep(String name, Calling calling, Step step) {
        Map<String, Object> result = awaited(calling.result(), "no end");
        if (name != null) {
            values.set(name, result);
        }
        Map<String, Object> expected = step.expect() == null ? Map.of() : step.expect();
        if (result.get("error") instanceof Map<?, ?> error
                && expected.keySet().stream().noneMatch(path -> path.split("\\.")[0].equals("error"))) {
            throw new Failed("ended with %s %s: %s".formatted(
                    error.get("code"), error.get("reason"), error.get("message")));
        }
        Values.compare(result, values.resolved(expected));
    }

    private static <T> T awaited(Future<T> happens, String otherwise) {
        try {
            return happens.get(STEP_S, TimeUnit.SECONDS);
        } catch (TimeoutException late) {
            throw new Failed("%s within %d s".formatted(otherwise, STEP_S));
        } catch (ExecutionException | InterruptedException defect) {
            throw new Failed("the client threw " + defect.getCause());
        }
    }
}

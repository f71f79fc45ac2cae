package dev.parley.client;

import dev.parley.v1.RehearseTurnRequest;
import java.time.Duration;
import java.util.function.Consumer;

/** How a turn is rehearsed. Immutable: every method returns new options. */
public final class RehearseOptions {

    private static final RehearseOptions DEFAULTS = new RehearseOptions("", null, error -> {});

    private final String agent;
    private final Duration timeout; // null: the client's
    private final Consumer<ParleyException> onRetry;

    private RehearseOptions(String agent, Duration timeout, Consumer<ParleyException> onRetry) {
        this.agent = agent;
        this.timeout = timeout;
        this.onRetry = onRetry;
    }

    /** Asks the turn's own agent. */
    public static RehearseOptions defaults() {
        return DEFAULTS;
    }

    /**
     * The agent to ask, one of {@code listAgents} that can rehearse. Default: the turn's own.
     *
     * @throws IllegalArgumentException the name cannot be sent
     */
    public RehearseOptions agent(String agent) {
        return new RehearseOptions(Texts.checked("agent's name", agent), timeout, onRetry);
    }

    /** For the rehearsal, waits and retries included. Default: the client's for a turn, 120 seconds. */
    public RehearseOptions timeout(Duration timeout) {
        return new RehearseOptions(agent, ClientBuilder.positive(timeout), onRetry);
    }

    /** Told of every error after which the client begins again, on a client thread, which it must not block. */
    public RehearseOptions onRetry(Consumer<ParleyException> onRetry) {
        return new RehearseOptions(agent, timeout, onRetry);
    }

    RehearseTurnRequest request(TurnKey key) {
        return RehearseTurnRequest.newBuilder()
                .setRequestId(key.requestId()).setConversationId(key.conversationId()).setTurnId(key.turnId())
                .setAgent(agent).build();
    }

    Duration timeoutOr(Duration otherwise) {
        return timeout == null ? otherwise : timeout;
    }

    Consumer<ParleyException> onRetry() {
        return onRetry;
    }
}

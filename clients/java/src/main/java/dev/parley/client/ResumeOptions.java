package dev.parley.client;

import dev.parley.v1.CallResult;
import dev.parley.v1.OnDisconnect;
import dev.parley.v1.ResumeTurnRequest;
import java.time.Duration;
import java.util.List;
import java.util.function.Consumer;

/** How a turn is resumed. Immutable: every method returns new options. */
public final class ResumeOptions {

    private static final ResumeOptions DEFAULTS =
            new ResumeOptions(OnDisconnect.ON_DISCONNECT_UNSPECIFIED, null, error -> {});

    private final OnDisconnect onDisconnect;
    private final Duration timeout; // null: the client's
    private final Consumer<ParleyException> onRetry;

    private ResumeOptions(OnDisconnect onDisconnect, Duration timeout, Consumer<ParleyException> onRetry) {
        this.onDisconnect = onDisconnect;
        this.timeout = timeout;
        this.onRetry = onRetry;
    }

    /** Leaves everything to its default. */
    public static ResumeOptions defaults() {
        return DEFAULTS;
    }

    /** What becomes of the turn when this call is lost or its deadline comes. Default: ON_DISCONNECT_CANCEL. */
    public ResumeOptions onDisconnect(OnDisconnect onDisconnect) {
        return new ResumeOptions(onDisconnect, timeout, onRetry);
    }

    /** For the rest of the turn, waits and retries included. Default: the client's for a turn, 120 seconds. */
    public ResumeOptions timeout(Duration timeout) {
        return new ResumeOptions(onDisconnect, ClientBuilder.positive(timeout), onRetry);
    }

    /** Told of every error after which the client calls again by itself, on a client thread, which it must not block. */
    public ResumeOptions onRetry(Consumer<ParleyException> onRetry) {
        return new ResumeOptions(onDisconnect, timeout, onRetry);
    }

    /**
     * Returns what to send.
     *
     * @throws IllegalArgumentException a text cannot be sent
     */
    ResumeTurnRequest request(TurnKey key, List<CallResult> results) {
        results.forEach(each -> {
            Texts.checked("result", each.getResult());
            Texts.checked("error", each.getError());
            Texts.checked("arguments of an approval", each.getApproval().getArguments());
            Texts.checked("reason of a denial", each.getDenial().getReason());
        });
        return ResumeTurnRequest.newBuilder()
                .setRequestId(key.requestId()).setConversationId(key.conversationId()).setTurnId(key.turnId())
                .addAllResults(results).setOnDisconnect(onDisconnect).build();
    }

    Duration timeoutOr(Duration otherwise) {
        return timeout == null ? otherwise : timeout;
    }

    Consumer<ParleyException> onRetry() {
        return onRetry;
    }
}

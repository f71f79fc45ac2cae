package dev.parley.client;

import dev.parley.v1.ForkConversationRequest;
import java.time.Duration;
import java.util.UUID;
import java.util.function.UnaryOperator;

/** How a conversation is copied. Immutable: every method returns new options. */
public final class ForkOptions {

    private static final ForkOptions DEFAULTS =
            new ForkOptions(ForkConversationRequest.getDefaultInstance(), Connection.CHANGE_TIMEOUT);

    private final ForkConversationRequest request;
    private final Duration timeout;

    private ForkOptions(ForkConversationRequest request, Duration timeout) {
        this.request = request;
        this.timeout = timeout;
    }

    /** Up to the end of the newest turn that has ended, under an id that the server chooses. */
    public static ForkOptions defaults() {
        return DEFAULTS;
    }

    /** The last message to copy: the last one of a turn that has ended, or an appended one. */
    public ForkOptions upToSequence(long sequence) {
        return with(builder -> builder.setUpToSequence(sequence));
    }

    /** The id that the copy is to have, a UUID. Default: the server chooses one. */
    public ForkOptions newConversationId(String conversationId) {
        return with(builder -> builder.setNewConversationId(conversationId));
    }

    /**
     * The call's key, 1 to 128 of {@code [A-Za-z0-9._:-]}, one of those of creations. Default: a new UUID. Pass one that
     * is stored to repeat the call after a crash of the caller.
     */
    public ForkOptions requestId(String requestId) {
        return with(builder -> builder.setRequestId(requestId));
    }

    /** For everything, waits and retries included. Default: 60 seconds. */
    public ForkOptions timeout(Duration timeout) {
        return new ForkOptions(request, ClientBuilder.positive(timeout));
    }

    Duration timeout() {
        return timeout;
    }

    /** Returns what to send. It always has a request id: without one, a retry could make a second copy. */
    ForkConversationRequest request(String conversationId) {
        ForkConversationRequest.Builder builder = request.toBuilder().setConversationId(conversationId);
        if (builder.getRequestId().isEmpty()) {
            builder.setRequestId(UUID.randomUUID().toString());
        }
        return builder.build();
    }

    private ForkOptions with(UnaryOperator<ForkConversationRequest.Builder> change) {
        return new ForkOptions(change.apply(request.toBuilder()).build(), timeout);
    }
}

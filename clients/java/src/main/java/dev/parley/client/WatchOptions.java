package dev.parley.client;

import dev.parley.v1.WatchConversationRequest;
import java.util.function.Consumer;

/** How a conversation is watched. Immutable: every method returns new options. */
public final class WatchOptions {

    private static final WatchOptions DEFAULTS =
            new WatchOptions(WatchConversationRequest.getDefaultInstance(), error -> {});

    private final WatchConversationRequest request;
    private final Consumer<ParleyException> onRetry;

    private WatchOptions(WatchConversationRequest request, Consumer<ParleyException> onRetry) {
        this.request = request;
        this.onRetry = onRetry;
    }

    /** From the first message on. */
    public static WatchOptions defaults() {
        return DEFAULTS;
    }

    /** Only messages with a higher sequence than this. Default: 0, all of them. */
    public WatchOptions afterSequence(long sequence) {
        return new WatchOptions(request.toBuilder().setAfterSequence(sequence).build(), onRetry);
    }

    /** Also brings the pieces of the open turn, which turns that are streamed have. */
    public WatchOptions includeEvents() {
        return new WatchOptions(request.toBuilder().setIncludeEvents(true).build(), onRetry);
    }

    /** Called with every error after which the watch continues, on a client thread, which it must not block. */
    public WatchOptions onRetry(Consumer<ParleyException> onRetry) {
        return new WatchOptions(request, onRetry);
    }

    Consumer<ParleyException> onRetry() {
        return onRetry;
    }

    WatchConversationRequest request(String conversationId) {
        return request.toBuilder().setConversationId(conversationId).build();
    }
}

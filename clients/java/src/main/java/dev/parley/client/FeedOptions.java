package dev.parley.client;

import dev.parley.v1.WatchTurnsRequest;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.UnaryOperator;

/** How the feed of turns is watched. Immutable: every method returns new options. */
public final class FeedOptions {

    private static final FeedOptions DEFAULTS =
            new FeedOptions(WatchTurnsRequest.getDefaultInstance(), error -> {});

    private final WatchTurnsRequest request;
    private final Consumer<ParleyException> onRetry;

    private FeedOptions(WatchTurnsRequest request, Consumer<ParleyException> onRetry) {
        this.request = request;
        this.onRetry = onRetry;
    }

    /** The caller's own turns, from the oldest one that is kept. */
    public static FeedOptions defaults() {
        return DEFAULTS;
    }

    /** The {@code cursor} of the last update handled, to continue behind it. Default: from the oldest turn kept. */
    public FeedOptions afterCursor(String cursor) {
        return with(builder -> builder.setAfterCursor(cursor));
    }

    /** Without a cursor, only what ends from now on. Default: from the oldest turn kept. */
    public FeedOptions onlyNew() {
        return with(builder -> builder.setOnlyNew(true));
    }

    /**
     * Only turns of conversations that have all of these labels, at most 16; they replace those given before.
     * Default: all turns.
     *
     * @throws IllegalArgumentException one cannot be sent
     */
    public FeedOptions labels(Map<String, String> labels) {
        return with(builder -> builder.clearLabels().addAllLabels(Texts.written(labels)));
    }

    /**
     * The turns of all users of the token's tenant; {@code user} says whose each one is. The token has to name the
     * scope {@code parley.observe}. Default: the caller's own.
     */
    public FeedOptions allOwners() {
        return with(builder -> builder.setAllOwners(true));
    }

    /** Called with every error after which the watch continues, on a client thread, which it must not block. */
    public FeedOptions onRetry(Consumer<ParleyException> onRetry) {
        return new FeedOptions(request, onRetry);
    }

    Consumer<ParleyException> onRetry() {
        return onRetry;
    }

    WatchTurnsRequest request() {
        return request;
    }

    private FeedOptions with(UnaryOperator<WatchTurnsRequest.Builder> change) {
        return new FeedOptions(change.apply(request.toBuilder()).build(), onRetry);
    }
}

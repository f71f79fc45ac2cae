package dev.parley.client;

import dev.parley.v1.ExportConversationsRequest;
import java.util.function.Consumer;

/** How everything that a caller has stored is exported. Immutable: every method returns new options. */
public final class ExportOptions {

    private static final ExportOptions DEFAULTS =
            new ExportOptions(ExportConversationsRequest.getDefaultInstance(), error -> {});

    private final ExportConversationsRequest request;
    private final Consumer<ParleyException> onRetry;

    private ExportOptions(ExportConversationsRequest request, Consumer<ParleyException> onRetry) {
        this.request = request;
        this.onRetry = onRetry;
    }

    /** From the beginning. */
    public static ExportOptions defaults() {
        return DEFAULTS;
    }

    /** The {@code cursor} of the last part received, to continue behind it. Default: from the beginning. */
    public ExportOptions cursor(String cursor) {
        return new ExportOptions(request.toBuilder().setCursor(cursor).build(), onRetry);
    }

    /** Called with every error after which the export continues, on a client thread, which it must not block. */
    public ExportOptions onRetry(Consumer<ParleyException> onRetry) {
        return new ExportOptions(request, onRetry);
    }

    Consumer<ParleyException> onRetry() {
        return onRetry;
    }

    ExportConversationsRequest request() {
        return request;
    }
}

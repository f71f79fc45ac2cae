package dev.parley.client;

import dev.parley.v1.ConversationServiceGrpc;
import dev.parley.v1.ExportConversationsRequest;
import dev.parley.v1.ExportConversationsResponse;
import java.time.Duration;

/** One export: a lost one is asked for again behind the last part seen. */
final class ExportProgress extends Progress<ExportConversationsRequest, ExportConversationsResponse> {

    private final ExportConversationsRequest.Builder request;
    private boolean isOver;

    ExportProgress(ExportConversationsRequest request) {
        super(ConversationServiceGrpc.getExportConversationsMethod(), new Tries(Tries.Kind.EXPORT, Duration.ZERO));
        this.request = request.toBuilder();
    }

    @Override
    ExportConversationsRequest request() {
        return request.build();
    }

    @Override
    String requestId() {
        return "";
    }

    @Override
    boolean takes(ExportConversationsResponse part) {
        cameFurther();
        request.setCursor(part.getCursor());
        isOver = part.hasDone();
        return true;
    }

    @Override
    boolean isOver() {
        return isOver;
    }
}

package dev.parley.client;

import dev.parley.client.ParleyException.Violation;
import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/** What is known of a failed call. {@code retryAfter} and {@code cause} may be null, a text only empty. */
record Failure(
        String text,
        Status.Code code,
        String reason,
        Map<String, String> metadata,
        Duration retryAfter,
        boolean isPushedBack,
        List<Violation> violations,
        String callId,
        String requestId,
        Throwable cause) {

    /** A failure that this client tells, and no server. */
    static Failure ofOurs(Status.Code code, String text, String requestId, Throwable cause) {
        return new Failure(text, code, "", Map.of(), null, false, List.of(), "", requestId, cause);
    }
}

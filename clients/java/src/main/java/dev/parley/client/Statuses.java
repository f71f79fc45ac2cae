package dev.parley.client;

import static java.util.Map.entry;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import dev.parley.client.ParleyException.Violation;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/** From a failed RPC to a typed exception: reads the google.rpc details that come with a status. */
final class Statuses {

    static final String DOMAIN = "parley.v1";

    private static final long LONGEST_S = 315_576_000_000L;

    private static final Metadata.Key<byte[]> DETAILS =
            Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
    private static final Metadata.Key<String> PUSHBACK =
            Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);

    /** One class for each reason of the contract's ErrorReason. */
    static final Map<String, Function<Failure, ParleyException>> BY_REASON = Map.ofEntries(
            entry("INVALID_REQUEST", ParleyException.InvalidRequest::new),
            entry("INVALID_PAGE_TOKEN", ParleyException.InvalidPageToken::new),
            entry("AGENT_UNKNOWN", ParleyException.AgentUnknown::new),
            entry("UNAUTHENTICATED", ParleyException.Unauthenticated::new),
            entry("SCOPE_MISSING", ParleyException.ScopeMissing::new),
            entry("CONVERSATION_NOT_FOUND", ParleyException.ConversationNotFound::new),
            entry("TURN_NOT_FOUND", ParleyException.TurnNotFound::new),
            entry("REQUEST_ID_REUSED", ParleyException.RequestIdReused::new),
            entry("TURN_IN_PROGRESS", ParleyException.TurnInProgress::new),
            entry("SEQUENCE_MISMATCH", ParleyException.SequenceMismatch::new),
            entry("LEASE_LOST", ParleyException.LeaseLost::new),
            entry("TURN_SUPERSEDED", ParleyException.TurnSuperseded::new),
            entry("ATTEMPTS_EXHAUSTED", ParleyException.AttemptsExhausted::new),
            entry("SEQUENCE_NOT_REACHED", ParleyException.SequenceNotReached::new),
            entry("NOT_A_TURN_BOUNDARY", ParleyException.NotATurnBoundary::new),
            entry("RESULT_ALREADY_GIVEN", ParleyException.ResultAlreadyGiven::new),
            entry("CALL_NOT_PENDING", ParleyException.CallNotPending::new),
            entry("WINDOW_INCOMPLETE", ParleyException.WindowIncomplete::new),
            entry("NO_REHEARSAL", ParleyException.NoRehearsal::new),
            entry("AGENT_REFUSED", ParleyException.AgentRefused::new),
            entry("AGENT_TIMEOUT", ParleyException.AgentTimeout::new),
            entry("AGENT_UNAVAILABLE", ParleyException.AgentUnavailable::new),
            entry("DEADLINE_TOO_SHORT", ParleyException.DeadlineTooShort::new),
            entry("OVERLOADED", ParleyException.Overloaded::new),
            entry("TURN_LIMIT_REACHED", ParleyException.TurnLimitReached::new),
            entry("BUDGET_EXHAUSTED", ParleyException.BudgetExhausted::new),
            entry("QUEUE_FULL", ParleyException.QueueFull::new),
            entry("STORE_UNAVAILABLE", ParleyException.StoreUnavailable::new),
            entry("KEYS_UNAVAILABLE", ParleyException.KeysUnavailable::new),
            entry("WORKER_DRAINED", ParleyException.WorkerDrained::new),
            entry("CALLER_LOST", ParleyException.CallerLost::new),
            entry("TURN_ABANDONED", ParleyException.TurnAbandoned::new),
            entry("INTERNAL", ParleyException.InternalError::new),
            entry("WATCH_EXPIRED", ParleyException.WatchExpired::new),
            entry("CURSOR_EXPIRED", ParleyException.CursorExpired::new),
            entry("CONVERSATION_EXISTS", ParleyException.ConversationExists::new),
            entry("REVISION_MISMATCH", ParleyException.RevisionMismatch::new));

    private static final Map<Status.Code, Function<Failure, ParleyException>> BY_CODE = Map.of(
            Status.Code.INVALID_ARGUMENT, ParleyException.InvalidRequest::new,
            Status.Code.UNAUTHENTICATED, ParleyException.Unauthenticated::new,
            Status.Code.UNAVAILABLE, ParleyException.Unavailable::new,
            Status.Code.DEADLINE_EXCEEDED, ParleyException.DeadlineExceeded::new);

    private Statuses() {}

    /** Returns the typed exception that a status stands for; {@code trailers} may be null. */
    static ParleyException exceptionFrom(Status status, Metadata trailers, String requestId) {
        List<Any> details = detailsIn(trailers);
        ErrorInfo info = detail(details, ErrorInfo.getDefaultInstance());
        if (!info.getDomain().equals(DOMAIN)) {
            info = ErrorInfo.getDefaultInstance();
        }
        RetryInfo retry = detail(details, RetryInfo.getDefaultInstance());
        BadRequest wrong = detail(details, BadRequest.getDefaultInstance());
        Failure failure = new Failure(
                status.getDescription() == null ? status.getCode().name() : status.getDescription(),
                status.getCode(),
                info.getReason(),
                Map.copyOf(info.getMetadataMap()),
                retry.hasRetryDelay() ? durationOf(retry.getRetryDelay()) : null,
                isPushedBack(trailers),
                wrong.getFieldViolationsList().stream()
                        .map(each -> new Violation(each.getField(), each.getReason(), each.getDescription()))
                        .toList(),
                detail(details, RequestInfo.getDefaultInstance()).getRequestId(),
                requestId,
                status.getCause());
        Function<Failure, ParleyException> byCode = BY_CODE.getOrDefault(failure.code(), ParleyException::new);
        return BY_REASON.getOrDefault(failure.reason(), byCode).apply(failure);
    }

    /** Returns a duration within the bounds that protobuf sets: 0 to 10,000 years. */
    private static Duration durationOf(com.google.protobuf.Duration given) {
        long seconds = Math.max(0, Math.min(given.getSeconds(), LONGEST_S));
        return Duration.ofSeconds(seconds, Math.max(0, given.getNanos()));
    }

    /** Returns the status' details; none, if something on the way mangled them. */
    private static List<Any> detailsIn(Metadata trailers) {
        byte[] found = trailers == null ? null : trailers.get(DETAILS);
        if (found == null) {
            return List.of();
        }
        try {
            return com.google.rpc.Status.parseFrom(found).getDetailsList();
        } catch (InvalidProtocolBufferException mangled) {
            return List.of(); // the code and its text still say what happened
        }
    }

    /** Returns the detail of this kind; its default: there is none. */
    @SuppressWarnings("unchecked")
    private static <D extends Message> D detail(List<Any> details, D kind) {
        for (Any each : details) {
            if (each.is(kind.getClass())) {
                try {
                    return (D) each.unpack(kind.getClass());
                } catch (InvalidProtocolBufferException mangled) {
                    return kind; // as above
                }
            }
        }
        return kind;
    }

    /** Whether the server asks that nothing be retried: negative, or no number (gRFC A6). */
    private static boolean isPushedBack(Metadata trailers) {
        String wanted = trailers == null ? null : trailers.get(PUSHBACK);
        if (wanted == null) {
            return false;
        }
        try {
            return Long.parseLong(wanted) < 0;
        } catch (NumberFormatException noNumber) {
            return true;
        }
    }
}

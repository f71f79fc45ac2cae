package dev.parley.client;

import io.grpc.Status;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.format.DateTimeParseException;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A call failed. Catch this for all of them, or one of its classes:
 *
 * <pre>
 * ParleyException
 * ├── InvalidRequest ─ InvalidPageToken, AgentUnknown
 * ├── Unauthenticated, ScopeMissing
 * ├── ConversationNotFound, TurnNotFound
 * ├── RequestIdReused, ConversationExists, ResultAlreadyGiven
 * ├── TurnInProgress, SequenceMismatch, RevisionMismatch, LeaseLost, AttemptLost
 * ├── TurnSuperseded, AttemptsExhausted, SequenceNotReached, NotATurnBoundary, CursorExpired
 * ├── AgentRefused, CallNotPending, ActionRequired, WindowIncomplete, NoRehearsal
 * ├── Overloaded ─ TurnLimitReached, QueueFull
 * ├── BudgetExhausted
 * ├── Unavailable ─ AgentUnavailable, StoreUnavailable, KeysUnavailable, WorkerDrained,
 * │                 TurnAbandoned, WatchExpired
 * ├── DeadlineExceeded ─ AgentTimeout, DeadlineTooShort, CallerLost
 * └── InternalError
 * </pre>
 *
 * There is one class for each reason of the contract's ErrorReason. A status without a reason, because it
 * comes from gRPC itself or from something between client and server, and one whose reason is newer than
 * this client, has the class of its code: InvalidRequest, Unauthenticated, Unavailable, DeadlineExceeded,
 * or ParleyException itself.
 */
public class ParleyException extends RuntimeException {

    private final transient Failure failure;

    ParleyException(Failure failure) {
        super(failure.text(), failure.cause());
        this.failure = failure;
    }

    /** The sentence, with the ids that a log has to have. */
    @Override
    public String getMessage() {
        String ids = (requestId().isEmpty() ? "" : ", request_id=" + requestId())
                + (callId().isEmpty() ? "" : ", call_id=" + callId());
        return "%s [%s%s]".formatted(text(), reason().isEmpty() ? code().name() : reason(), ids);
    }

    /** The sentence alone, for people. Programs read the class and {@link #metadata}. */
    public String text() {
        return failure.text();
    }

    /** gRPC's status code. */
    public Status.Code code() {
        return failure.code();
    }

    /** The name of an ErrorReason, such as {@code TURN_IN_PROGRESS}. Empty: the status is not Parley's. */
    public String reason() {
        return failure.reason();
    }

    /** Every variable part of the sentence, by name. */
    public Map<String, String> metadata() {
        return failure.metadata();
    }

    /** How long the server asks to wait before the next try. Empty: it does not say. */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(failure.retryAfter());
    }

    /** Whether the server asks that nothing be retried: the wait is too long for that. */
    public boolean isPushedBack() {
        return failure.isPushedBack();
    }

    /** Every field that was wrong, for an {@link InvalidRequest}. */
    public List<Violation> violations() {
        return failure.violations();
    }

    /** Names the call in the server's log. Empty: the server did not say. */
    public String callId() {
        return failure.callId();
    }

    /** The request id of a turn, or of what was created, added or erased; calling again with it is safe. Empty: the call has none. */
    public String requestId() {
        return failure.requestId();
    }

    /**
     * Whether the same call, with the same request id, may succeed later. Where it may not, something has to
     * change first: the request, the token, or what the caller knows of the conversation.
     */
    public boolean isRetryable() {
        return this instanceof TurnInProgress || this instanceof LeaseLost || this instanceof AttemptLost
                || this instanceof Overloaded || this instanceof BudgetExhausted || this instanceof Unavailable
                || this instanceof DeadlineExceeded;
    }

    /** Returns a number of the metadata. 0: there is none. */
    final long number(String name) {
        try {
            return Long.parseLong(metadata().getOrDefault(name, ""));
        } catch (NumberFormatException unknown) {
            return 0;
        }
    }

    /** Returns a number that an int can hold. 0: there is none. */
    final int smallNumber(String name) {
        long number = number(name);
        return number == (int) number ? (int) number : 0;
    }

    /**
     * What is wrong with one field of a request.
     *
     * @param field its name in the contract
     * @param reason UPPER_SNAKE, for programs
     * @param description for people: what is wrong and what would be right
     */
    public record Violation(String field, String reason, String description) {}

    /** Fields of the request are invalid: see {@link #violations}. Nothing was stored. */
    public static class InvalidRequest extends ParleyException {
        InvalidRequest(Failure failure) { super(failure); }
    }

    /** The page token was changed, or belongs to another request or owner. Start without one. */
    public static final class InvalidPageToken extends InvalidRequest {
        InvalidPageToken(Failure failure) { super(failure); }
    }

    /** The server has no agent with that name: {@code listAgents} names those that there are. */
    public static final class AgentUnknown extends InvalidRequest {
        AgentUnknown(Failure failure) { super(failure); }
    }

    /** The call carried no valid token, or the client got none: then the cause says why. */
    public static final class Unauthenticated extends ParleyException {
        Unauthenticated(Failure failure) { super(failure); }
    }

    /** The token is valid but lacks a scope. */
    public static final class ScopeMissing extends ParleyException {
        ScopeMissing(Failure failure) { super(failure); }

        /** The scope that it lacks. */
        public String scope() { return metadata().getOrDefault("scope", ""); }
    }

    /** The caller has no such conversation; another owner may have it. */
    public static final class ConversationNotFound extends ParleyException {
        ConversationNotFound(Failure failure) { super(failure); }
    }

    /** The caller has no such turn. */
    public static final class TurnNotFound extends ParleyException {
        TurnNotFound(Failure failure) { super(failure); }
    }

    /** The request id belongs to a turn, or to a creation, a fork or an appending, with other arguments. */
    public static final class RequestIdReused extends ParleyException {
        RequestIdReused(Failure failure) { super(failure); }
    }

    /** The caller has a conversation with this id, which this call did not create: use another id, or update it. */
    public static final class ConversationExists extends ParleyException {
        ConversationExists(Failure failure) { super(failure); }

        /** The conversation that is there. */
        public String conversationId() { return metadata().getOrDefault("conversation_id", ""); }
    }

    /** Another turn of the conversation is open. {@code ON_BUSY_WAIT} waits for its end instead. */
    public static final class TurnInProgress extends ParleyException {
        TurnInProgress(Failure failure) { super(failure); }

        /** The turn that is open. */
        public String turnId() { return metadata().getOrDefault("turn_id", ""); }
    }

    /** The last sequence is not the expected one: read the new messages before you send again. */
    public static final class SequenceMismatch extends ParleyException {
        SequenceMismatch(Failure failure) { super(failure); }

        /** Returns the conversation's last sequence. */
        public long lastSequence() { return number("last_sequence"); }
    }

    /** The revision is not the expected one: read the conversation before you change it again. */
    public static final class RevisionMismatch extends ParleyException {
        RevisionMismatch(Failure failure) { super(failure); }

        /** Returns the conversation's revision; 0: the server did not say. */
        public long revision() { return number("revision"); }
    }

    /** Another worker took the turn over. The client retries by itself while there is time. */
    public static final class LeaseLost extends ParleyException {
        LeaseLost(Failure failure) { super(failure); }
    }

    /** The agent started over while texts were returned, which are void now. The same request id gets the answer. */
    public static final class AttemptLost extends ParleyException {
        AttemptLost(Failure failure) { super(failure); }
    }

    /** The turn failed and the conversation has a newer turn: send the message with a new request id. */
    public static final class TurnSuperseded extends ParleyException {
        TurnSuperseded(Failure failure) { super(failure); }
    }

    /** The turn failed as often as the server allows: if you still need it, use a new request id. */
    public static final class AttemptsExhausted extends ParleyException {
        AttemptsExhausted(Failure failure) { super(failure); }

        /** Returns how many attempts in a row failed; 0: the server did not say. */
        public int attempts() { return smallNumber("attempts"); }
    }

    /** The minimum sequence, or that to fork up to, is above the conversation's last sequence. */
    public static final class SequenceNotReached extends ParleyException {
        SequenceNotReached(Failure failure) { super(failure); }

        /** Returns the conversation's last sequence. */
        public long lastSequence() { return number("last_sequence"); }
    }

    /** The sequence to fork up to is in the midst of a turn, or its turn is open: nothing was copied. */
    public static final class NotATurnBoundary extends ParleyException {
        NotATurnBoundary(Failure failure) { super(failure); }

        /** Returns the nearest sequence before it that a fork may end at; 0: there is none. */
        public long previousBoundary() { return number("previous_boundary"); }
    }

    /** Turns behind the cursor may be gone: read what you need, then watch without a cursor. */
    public static final class CursorExpired extends ParleyException {
        CursorExpired(Failure failure) { super(failure); }

        /** Returns since when turns are kept. Empty: the server did not say. */
        public Optional<Instant> oldestTime() {
            try {
                return Optional.of(OffsetDateTime.parse(metadata().getOrDefault("oldest_time", "")).toInstant());
            } catch (DateTimeParseException unknown) {
                return Optional.empty();
            }
        }
    }

    /** Another result was given for a call before, and stays. Nothing of the request was stored. */
    public static final class ResultAlreadyGiven extends ParleyException {
        ResultAlreadyGiven(Failure failure) { super(failure); }

        /** The call. */
        public String callKey() { return metadata().getOrDefault("call_key", ""); }
    }

    /** The turn does not wait for this call, or no longer: {@code turn} says what it waits for. Nothing was stored. */
    public static final class CallNotPending extends ParleyException {
        CallNotPending(Failure failure) { super(failure); }

        /** The call. */
        public String callKey() { return metadata().getOrDefault("call_key", ""); }
    }

    /**
     * The turn waits for its caller, which a stream's {@code texts()} cannot show. {@code turn} with the same request id
     * tells what it waits for, and {@code resumeTurn} lets it go on.
     */
    public static final class ActionRequired extends ParleyException {
        ActionRequired(Failure failure) { super(failure); }
    }

    /** What the turn's agent was shown cannot be put together: rehearse another turn, or with another agent. */
    public static final class WindowIncomplete extends ParleyException {
        WindowIncomplete(Failure failure) { super(failure); }

        /** The turn. */
        public String turnId() { return metadata().getOrDefault("turn_id", ""); }
    }

    /** The agent might act in a rehearsal: {@code listAgents} says which ones can rehearse. */
    public static final class NoRehearsal extends ParleyException {
        NoRehearsal(Failure failure) { super(failure); }

        /** The agent. */
        public String agent() { return metadata().getOrDefault("agent", ""); }
    }

    /** The model's provider refused the request. */
    public static final class AgentRefused extends ParleyException {
        AgentRefused(Failure failure) { super(failure); }
    }

    /** The server has reached its limit of open calls, or of answers that callers have not read yet. */
    public static class Overloaded extends ParleyException {
        Overloaded(Failure failure) { super(failure); }
    }

    /** The caller has reached its limit of new turns per minute: wait as long as {@link #retryAfter} says. */
    public static final class TurnLimitReached extends Overloaded {
        TurnLimitReached(Failure failure) { super(failure); }
    }

    /** Too many of the caller's started turns have not ended: wait until some have been run. */
    public static final class QueueFull extends Overloaded {
        QueueFull(Failure failure) { super(failure); }

        /** Returns how many may not have ended at a time; 0: the server did not say. */
        public int maxQueuedTurns() { return smallNumber("max_queued_turns"); }
    }

    /** The caller's turns used today's tokens: wait as long as {@link #retryAfter} says, until midnight UTC. */
    public static final class BudgetExhausted extends ParleyException {
        BudgetExhausted(Failure failure) { super(failure); }

        /** Returns how many tokens a day the server allows; 0: it did not say. */
        public long maxTokensPerDay() { return number("max_tokens_per_day"); }

        /** Returns how many tokens the caller's turns have used today; 0: the server did not say. */
        public long usedTokens() { return number("used_tokens"); }
    }

    /** The server, or something it needs, is unavailable. The client has retried without success. */
    public static class Unavailable extends ParleyException {
        Unavailable(Failure failure) { super(failure); }
    }

    /** The agent or its provider is down, limits its rate, or returned an invalid response. */
    public static final class AgentUnavailable extends Unavailable {
        AgentUnavailable(Failure failure) { super(failure); }
    }

    /** The server's database cannot be reached or did not answer in time. */
    public static final class StoreUnavailable extends Unavailable {
        StoreUnavailable(Failure failure) { super(failure); }
    }

    /** The server cannot fetch the keys for checking tokens. */
    public static final class KeysUnavailable extends Unavailable {
        KeysUnavailable(Failure failure) { super(failure); }
    }

    /** The worker is shutting down; another worker answers the next call. */
    public static final class WorkerDrained extends Unavailable {
        WorkerDrained(Failure failure) { super(failure); }
    }

    /** The worker that ran the turn died. */
    public static final class TurnAbandoned extends Unavailable {
        TurnAbandoned(Failure failure) { super(failure); }
    }

    /** A watch or an export reached its time limit. The client continues by itself. */
    public static final class WatchExpired extends Unavailable {
        WatchExpired(Failure failure) { super(failure); }
    }

    /** No answer within the timeout. The same request id gets the answer, or runs the turn again. */
    public static class DeadlineExceeded extends ParleyException {
        DeadlineExceeded(Failure failure) { super(failure); }
    }

    /** The agent did not finish in time. */
    public static final class AgentTimeout extends DeadlineExceeded {
        AgentTimeout(Failure failure) { super(failure); }
    }

    /** Less than a second was left, too little to run an agent. Nothing was stored. */
    public static final class DeadlineTooShort extends DeadlineExceeded {
        DeadlineTooShort(Failure failure) { super(failure); }
    }

    /** The deadline passed, or the caller disconnected, before the answer was complete. */
    public static final class CallerLost extends DeadlineExceeded {
        CallerLost(Failure failure) { super(failure); }
    }

    /** A defect of the server's. Its log says more under {@link #callId}. */
    public static final class InternalError extends ParleyException {
        InternalError(Failure failure) { super(failure); }
    }
}

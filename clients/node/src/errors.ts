/**
 * Everything that a call can end with, as typed errors.
 *
 *     ParleyError
 *     ├── InvalidRequest ─ InvalidPageToken, AgentUnknown
 *     ├── Unauthenticated, ScopeMissing
 *     ├── ConversationNotFound, TurnNotFound
 *     ├── RequestIdReused, ConversationExists, ResultAlreadyGiven
 *     ├── TurnInProgress, SequenceMismatch, RevisionMismatch, LeaseLost, AttemptLost
 *     ├── TurnSuperseded, AttemptsExhausted, SequenceNotReached, NotATurnBoundary, CursorExpired
 *     ├── AgentRefused, CallNotPending, ActionRequired, WindowIncomplete, NoRehearsal
 *     ├── Overloaded ─ TurnLimitReached, QueueFull
 *     ├── BudgetExhausted
 *     ├── Unavailable ─ AgentUnavailable, StoreUnavailable, KeysUnavailable, WorkerDrained,
 *     │                 TurnAbandoned, WatchExpired
 *     ├── DeadlineExceeded ─ AgentTimeout, DeadlineTooShort, CallerLost
 *     └── InternalError
 *
 * There is one class for each reason of the contract's ErrorReason. A status without a reason, because
 * it comes from gRPC itself or from something between client and server, and one whose reason is newer
 * than this client, has the class of its code: InvalidRequest, Unauthenticated, Unavailable,
 * DeadlineExceeded, or ParleyError itself.
 */

import type { status } from "@grpc/grpc-js";
import type { ErrorReason as Names } from "./gen/parley/v1/error_reason.js";

/** A gRPC status code by its name. */
export type Code = keyof typeof status;

/** The contract's reasons, for `switch (error.reason)`. */
export type ErrorReason = Exclude<keyof typeof Names, "UNSPECIFIED" | "UNRECOGNIZED">;

/** What is wrong with one field of a request. */
export interface Violation {
  field: string;
  /** UPPER_SNAKE, for programs. */
  reason: string;
  /** For people: what is wrong and what would be right. */
  description: string;
}

/** What is known of a failed call. */
export interface ErrorDetails {
  code: Code;
  reason?: string | undefined;
  metadata?: Record<string, string>;
  retryAfterMs?: number | undefined;
  isPushedBack?: boolean;
  violations?: readonly Violation[];
  callId?: string | undefined;
  requestId?: string | undefined;
  cause?: unknown;
}

/** A call failed. Catch this for all of them, or one of its classes. */
export class ParleyError extends Error {
  /** The status code's name, such as "NOT_FOUND". */
  readonly code: Code;
  /** The reason's name, such as "TURN_IN_PROGRESS". Undefined: the status is not Parley's. */
  // A newer server may have reasons that this client does not know.
  readonly reason: ErrorReason | (string & {}) | undefined;
  /** Every variable part of the message, by name. */
  readonly metadata: Readonly<Record<string, string>>;
  /** How long the server asks to wait before the next try. Undefined: it does not say. */
  readonly retryAfterMs: number | undefined;
  /** The wait is too long for a retry under the same deadline: the server asks for none. */
  readonly isPushedBack: boolean;
  /** Every field that was wrong, for an InvalidRequest. */
  readonly violations: readonly Violation[];
  /** Names the call in the server's log. Undefined: the server did not say. */
  readonly callId: string | undefined;
  /** The request id that the call was made with; making the same call with it again is safe. */
  readonly requestId: string | undefined;

  constructor(message: string, details: ErrorDetails) {
    super(message, "cause" in details ? { cause: details.cause } : undefined);
    this.name = new.target.name;
    this.code = details.code;
    this.reason = details.reason;
    this.metadata = details.metadata ?? {};
    this.retryAfterMs = details.retryAfterMs;
    this.isPushedBack = details.isPushedBack ?? false;
    this.violations = details.violations ?? [];
    this.callId = details.callId;
    this.requestId = details.requestId;
  }

  /**
   * The same call, with the same request id, may succeed later. Where it may not, something has to
   * change first: the request, the token, or what the caller knows of the conversation.
   */
  get isRetryable(): boolean {
    return false;
  }

  /** Return a number of the metadata; 0: there is none. */
  protected number(name: string): number {
    const number = Number(this.metadata[name]);
    return Number.isSafeInteger(number) ? number : 0;
  }
}

/** Fields of the request are invalid: see `violations`. Nothing was stored. */
export class InvalidRequest extends ParleyError {}

/** The page token was changed, or belongs to another request or owner. Start without one. */
export class InvalidPageToken extends InvalidRequest {}

/** The server has no agent with that name: `listAgents` names those that there are. */
export class AgentUnknown extends InvalidRequest {}

/** The call carried no valid token. */
export class Unauthenticated extends ParleyError {}

/** The token is valid but lacks a scope. */
export class ScopeMissing extends ParleyError {
  get scope(): string {
    return this.metadata.scope ?? "";
  }
}

/** The caller has no such conversation; another owner may have it. */
export class ConversationNotFound extends ParleyError {
  get conversationId(): string {
    return this.metadata.conversation_id ?? "";
  }
}

/** The caller has no such turn. */
export class TurnNotFound extends ParleyError {}

/** The request id belongs to a call with other arguments: to a turn with another message, for example. */
export class RequestIdReused extends ParleyError {}

/** The caller has a conversation with this id, and this call did not create it. */
export class ConversationExists extends ParleyError {
  get conversationId(): string {
    return this.metadata.conversation_id ?? "";
  }
}

/** Another result was given for a pending call before. It stays, and nothing of the request was stored. */
export class ResultAlreadyGiven extends ParleyError {
  get callKey(): string {
    return this.metadata.call_key ?? "";
  }
}

/** What may succeed later as it is. */
class Retryable extends ParleyError {
  override get isRetryable(): boolean {
    return true;
  }
}

/** Another turn of the conversation is open. `onBusy: "wait"` waits for its end instead. */
export class TurnInProgress extends Retryable {
  get turnId(): string {
    return this.metadata.turn_id ?? "";
  }
}

/** The last sequence is not `expectedSequence`: read the new messages before you send again. */
export class SequenceMismatch extends ParleyError {
  get lastSequence(): number {
    return this.number("last_sequence");
  }
}

/** The revision is not `expectedRevision`: read the conversation before you change it. */
export class RevisionMismatch extends ParleyError {
  get revision(): number {
    return this.number("revision");
  }
}

/** Another worker took the turn over. The client retries by itself while there is time. */
export class LeaseLost extends Retryable {}

/**
 * The agent started over while `streamText` yielded its text, which is void now.
 *
 * The turn may still run: the same request id gets its whole answer.
 */
export class AttemptLost extends Retryable {}

/**
 * The turn waits for its caller, which `streamText` cannot show.
 *
 * `turn` with the same request id tells for what, and `resumeTurn` gives it.
 */
export class ActionRequired extends ParleyError {}

/** The turn failed and the conversation has a newer turn: send the message with a new request id. */
export class TurnSuperseded extends ParleyError {}

/** The turn failed as often as the server allows: if you still need it, use a new request id. */
export class AttemptsExhausted extends ParleyError {
  get attempts(): number {
    return this.number("attempts");
  }
}

/** `minSequence`, or `upToSequence`, is above the conversation's last sequence. */
export class SequenceNotReached extends ParleyError {
  get lastSequence(): number {
    return this.number("last_sequence");
  }
}

/** `upToSequence` is in the midst of a turn, or its turn is open: fork up to `previousBoundary`, or without it. */
export class NotATurnBoundary extends ParleyError {
  /** The sequence at which the turn before ended; 0: there is none. */
  get previousBoundary(): number {
    return this.number("previous_boundary");
  }
}

/**
 * The cursor is older than what the feed keeps, so that turns may be missing behind it: read what you need with
 * `conversations` and `history`, then watch without a cursor.
 */
export class CursorExpired extends ParleyError {
  /** When the oldest turn ended that is kept. Undefined: the server did not say. */
  get oldestTime(): Date | undefined {
    const time = new Date(this.metadata.oldest_time ?? "");
    return Number.isNaN(time.getTime()) ? undefined : time;
  }
}

/** The model's provider refused the request. */
export class AgentRefused extends ParleyError {}

/** The turn does not wait for this call, or not any more: `turn` says what it waits for. Nothing was stored. */
export class CallNotPending extends ParleyError {
  get callKey(): string {
    return this.metadata.call_key ?? "";
  }
}

/** What the turn's agent was shown cannot be put together: rehearse another turn, or with another agent. */
export class WindowIncomplete extends ParleyError {
  get turnId(): string {
    return this.metadata.turn_id ?? "";
  }
}

/** The agent might act in a rehearsal: `listAgents` says which ones can rehearse. */
export class NoRehearsal extends ParleyError {
  get agent(): string {
    return this.metadata.agent ?? "";
  }
}

/** The server has reached its limit of open calls, or of answers that callers have not read yet. */
export class Overloaded extends Retryable {}

/** The caller has reached its limit of new turns per minute: wait `retryAfterMs`. */
export class TurnLimitReached extends Overloaded {}

/** The caller has as many turns that have not ended as it may: start more after `retryAfterMs`. */
export class QueueFull extends Overloaded {
  get maxQueuedTurns(): number {
    return this.number("max_queued_turns");
  }
}

/** The caller's turns have used as many tokens today as the server allows: wait `retryAfterMs`, until midnight UTC. */
export class BudgetExhausted extends Retryable {
  get maxTokensPerDay(): number {
    return this.number("max_tokens_per_day");
  }

  get usedTokens(): number {
    return this.number("used_tokens");
  }
}

/** The server, or something it needs, is unavailable. The client has retried without success. */
export class Unavailable extends Retryable {}

/** The agent or its provider is down, limits its rate, or returned an invalid response. */
export class AgentUnavailable extends Unavailable {}

/** The server's database cannot be reached or did not answer in time. */
export class StoreUnavailable extends Unavailable {}

/** The server cannot fetch the keys for checking tokens. */
export class KeysUnavailable extends Unavailable {}

/** The worker is shutting down; another worker answers the next call. */
export class WorkerDrained extends Unavailable {}

/** The worker that ran the turn died. */
export class TurnAbandoned extends Unavailable {}

/** A watch, of a conversation or of the feed, or an export reached its time limit. The client continues by itself. */
export class WatchExpired extends Unavailable {}

/** No answer within `timeoutMs`. The same request id gets the answer, or runs the turn again. */
export class DeadlineExceeded extends Retryable {}

/** The agent did not finish in time. */
export class AgentTimeout extends DeadlineExceeded {}

/** Less than a second was left, too little to run an agent. Nothing was stored. */
export class DeadlineTooShort extends DeadlineExceeded {}

/** The deadline passed, or the caller disconnected, before the answer was complete. */
export class CallerLost extends DeadlineExceeded {}

/** A defect in the server. Its log has the details under `callId`. */
export class InternalError extends ParleyError {}

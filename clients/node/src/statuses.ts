/** From a failed RPC to a typed error: reads the google.rpc details that come with a status. */

import { type ServiceError, status } from "@grpc/grpc-js";
import type { MessageType } from "./calls.js";
import type { Code, ErrorReason } from "./errors.js";
import * as errors from "./errors.js";
import { BadRequest, ErrorInfo, RequestInfo, RetryInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";

type Kind = typeof errors.ParleyError;

const DOMAIN = "parley.v1";
const PUSHBACK = "grpc-retry-pushback-ms";
const DETAILS = "grpc-status-details-bin";

/** One class for each reason. */
const BY_REASON: Readonly<Record<ErrorReason, Kind>> = {
  INVALID_REQUEST: errors.InvalidRequest,
  INVALID_PAGE_TOKEN: errors.InvalidPageToken,
  AGENT_UNKNOWN: errors.AgentUnknown,
  UNAUTHENTICATED: errors.Unauthenticated,
  SCOPE_MISSING: errors.ScopeMissing,
  CONVERSATION_NOT_FOUND: errors.ConversationNotFound,
  TURN_NOT_FOUND: errors.TurnNotFound,
  REQUEST_ID_REUSED: errors.RequestIdReused,
  CONVERSATION_EXISTS: errors.ConversationExists,
  RESULT_ALREADY_GIVEN: errors.ResultAlreadyGiven,
  TURN_IN_PROGRESS: errors.TurnInProgress,
  SEQUENCE_MISMATCH: errors.SequenceMismatch,
  REVISION_MISMATCH: errors.RevisionMismatch,
  LEASE_LOST: errors.LeaseLost,
  TURN_SUPERSEDED: errors.TurnSuperseded,
  ATTEMPTS_EXHAUSTED: errors.AttemptsExhausted,
  SEQUENCE_NOT_REACHED: errors.SequenceNotReached,
  NOT_A_TURN_BOUNDARY: errors.NotATurnBoundary,
  CURSOR_EXPIRED: errors.CursorExpired,
  AGENT_REFUSED: errors.AgentRefused,
  CALL_NOT_PENDING: errors.CallNotPending,
  WINDOW_INCOMPLETE: errors.WindowIncomplete,
  NO_REHEARSAL: errors.NoRehearsal,
  AGENT_TIMEOUT: errors.AgentTimeout,
  AGENT_UNAVAILABLE: errors.AgentUnavailable,
  DEADLINE_TOO_SHORT: errors.DeadlineTooShort,
  OVERLOADED: errors.Overloaded,
  TURN_LIMIT_REACHED: errors.TurnLimitReached,
  QUEUE_FULL: errors.QueueFull,
  BUDGET_EXHAUSTED: errors.BudgetExhausted,
  STORE_UNAVAILABLE: errors.StoreUnavailable,
  KEYS_UNAVAILABLE: errors.KeysUnavailable,
  WORKER_DRAINED: errors.WorkerDrained,
  CALLER_LOST: errors.CallerLost,
  TURN_ABANDONED: errors.TurnAbandoned,
  INTERNAL: errors.InternalError,
  WATCH_EXPIRED: errors.WatchExpired,
};

/** One class for each code that says enough by itself. */
const BY_CODE: Readonly<Partial<Record<Code, Kind>>> = {
  INVALID_ARGUMENT: errors.InvalidRequest,
  UNAUTHENTICATED: errors.Unauthenticated,
  UNAVAILABLE: errors.Unavailable,
  DEADLINE_EXCEEDED: errors.DeadlineExceeded,
};

/** Say whether something that was thrown is a failed RPC. */
export function isFailure(thrown: unknown): thrown is ServiceError {
  return thrown instanceof Error && "metadata" in thrown && "details" in thrown && "code" in thrown;
}

/**
 * Return the typed error that a failed RPC stands for.
 *
 * @param failure what grpc-js ended the call with.
 * @param requestId the turn's, to be shown to the caller.
 */
export function errorFrom(
  failure: ServiceError,
  requestId: string | undefined,
): errors.ParleyError {
  const details = detailsOf(failure);
  const told = find(details, "ErrorInfo", ErrorInfo);
  const info = told?.domain === DOMAIN ? told : undefined;
  const delay = find(details, "RetryInfo", RetryInfo)?.retryDelay;
  const wrong = find(details, "BadRequest", BadRequest)?.fieldViolations ?? [];

  const code = status[failure.code] as Code;
  const Kind = kindOf(info?.reason) ?? BY_CODE[code] ?? errors.ParleyError;
  return new Kind(failure.details || code, {
    code,
    reason: info?.reason || undefined,
    metadata: info?.metadata ?? {},
    retryAfterMs: delay && delay.seconds * 1000 + Math.round(delay.nanos / 1e6),
    isPushedBack: isPushedBack(failure),
    violations: wrong.map(({ field, reason, description }) => ({ field, reason, description })),
    callId: find(details, "RequestInfo", RequestInfo)?.requestId || undefined,
    requestId: requestId || undefined,
    cause: failure,
  });
}

function kindOf(reason: string | undefined): Kind | undefined {
  const isKnown = reason !== undefined && Object.hasOwn(BY_REASON, reason);
  return isKnown ? BY_REASON[reason as ErrorReason] : undefined;
}

/** Return the status' details; none, if something on the way mangled them. */
function detailsOf(failure: ServiceError): Status["details"] {
  const [packed] = failure.metadata.get(DETAILS);
  return (packed instanceof Buffer && decoded(Status, packed)?.details) || [];
}

/**
 * Say whether the server asks that nothing be retried.
 *
 * Source: gRFC A6: a pushback that is negative, or no number.
 */
function isPushedBack(failure: ServiceError): boolean {
  const [wanted] = failure.metadata.get(PUSHBACK);
  return wanted !== undefined && !/^\d+$/.test(String(wanted));
}

/** Return the first detail of a kind that can be read. */
function find<T>(details: Status["details"], name: string, kind: MessageType<T>): T | undefined {
  for (const { typeUrl, value } of details) {
    if (typeUrl.endsWith(`/google.rpc.${name}`)) {
      const found = decoded(kind, value);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

function decoded<T>(kind: MessageType<T>, bytes: Uint8Array): T | undefined {
  try {
    return kind.decode(bytes);
  } catch {
    return undefined; // mangled on the way: the status alone says enough
  }
}

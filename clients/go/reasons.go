package parley

// Reason says why a call failed: the name of an ErrorReason of the contract without ERROR_REASON_.
//
// It is an error, so that errors.Is recognizes it: errors.Is(err, parley.ReasonTurnInProgress).
type Reason string

// Error returns the reason's name.
func (r Reason) Error() string { return string(r) }

// The reasons of the contract. A server that is newer than this client may know others.
const (
	// ReasonInvalidRequest: fields of the request are invalid; [Error].Violations lists them.
	ReasonInvalidRequest Reason = "INVALID_REQUEST"
	// ReasonInvalidPageToken: the page token was changed, or belongs to another request. Start without one.
	ReasonInvalidPageToken Reason = "INVALID_PAGE_TOKEN"
	// ReasonCursorExpired: the cursor is older than what the feed keeps, so that turns may be missing: read what you need
	// with [Client.ListConversations] and [Client.GetHistory], then watch without a cursor. [Error.OldestTime] says since
	// when turns are kept.
	ReasonCursorExpired Reason = "CURSOR_EXPIRED"
	// ReasonAgentUnknown: no agent has that name: [Client.ListAgents] names those that there are.
	ReasonAgentUnknown Reason = "AGENT_UNKNOWN"

	// ReasonUnauthenticated: the call carried no valid token.
	ReasonUnauthenticated Reason = "UNAUTHENTICATED"
	// ReasonScopeMissing: the token is valid but lacks the scope in Metadata["scope"].
	ReasonScopeMissing Reason = "SCOPE_MISSING"

	// ReasonConversationNotFound: the caller has no conversation with that id; another owner may have it.
	ReasonConversationNotFound Reason = "CONVERSATION_NOT_FOUND"
	// ReasonTurnNotFound: the caller has no such turn.
	ReasonTurnNotFound Reason = "TURN_NOT_FOUND"
	// ReasonRequestIDReused: the request id belongs to another message, conversation or agent, or to another
	// creation, fork or appending.
	ReasonRequestIDReused Reason = "REQUEST_ID_REUSED"
	// ReasonConversationExists: another call created the caller's conversation Metadata["conversation_id"]. Use
	// another id, or change that conversation with [Client.UpdateConversation].
	ReasonConversationExists Reason = "CONVERSATION_EXISTS"

	// ReasonTurnInProgress: another turn, Metadata["turn_id"], is open. OnBusyWait waits for it to end.
	ReasonTurnInProgress Reason = "TURN_IN_PROGRESS"
	// ReasonSequenceMismatch: the conversation has newer messages. Read on to [Error.LastSequence], then decide
	// whether to send the message again.
	ReasonSequenceMismatch Reason = "SEQUENCE_MISMATCH"
	// ReasonRevisionMismatch: the conversation was changed, and has [Error.Revision]. Read it, then decide whether
	// to change it again.
	ReasonRevisionMismatch Reason = "REVISION_MISMATCH"
	// ReasonLeaseLost: another worker took the turn over. The client has retried by itself.
	ReasonLeaseLost Reason = "LEASE_LOST"
	// ReasonTurnSuperseded: the turn failed and the conversation has a newer turn. Use a new request id.
	ReasonTurnSuperseded Reason = "TURN_SUPERSEDED"
	// ReasonAttemptsExhausted: the turn failed Metadata["attempts"] times, as often as the server allows. Use a
	// new request id if the message is still wanted.
	ReasonAttemptsExhausted Reason = "ATTEMPTS_EXHAUSTED"
	// ReasonSequenceNotReached: MinSequence, or UpToSequence, is above [Error.LastSequence].
	ReasonSequenceNotReached Reason = "SEQUENCE_NOT_REACHED"
	// ReasonNotATurnBoundary: UpToSequence is in the midst of a turn, or its turn is open. Fork up to
	// [Error.PreviousBoundary], or without UpToSequence.
	ReasonNotATurnBoundary Reason = "NOT_A_TURN_BOUNDARY"

	// ReasonResultAlreadyGiven: another result was given for the call Metadata["call_key"] before, and stays.
	ReasonResultAlreadyGiven Reason = "RESULT_ALREADY_GIVEN"
	// ReasonCallNotPending: the turn does not wait for the call Metadata["call_key"], or no longer. [Client.GetTurn] says
	// what it waits for.
	ReasonCallNotPending Reason = "CALL_NOT_PENDING"

	// ReasonWindowIncomplete: what the agent of the turn Metadata["turn_id"] was shown cannot be put together, for
	// Metadata["cause"]: NOT_BEGUN, MISSING or TOO_SMALL. Rehearse another turn, or with another agent.
	ReasonWindowIncomplete Reason = "WINDOW_INCOMPLETE"
	// ReasonNoRehearsal: the agent Metadata["agent"] might act in a rehearsal. [Client.ListAgents] says which can rehearse.
	ReasonNoRehearsal Reason = "NO_REHEARSAL"

	// ReasonAgentRefused: the model's provider refused the request.
	ReasonAgentRefused Reason = "AGENT_REFUSED"
	// ReasonAgentTimeout: the agent was too slow. Call again with the same request id and more time.
	ReasonAgentTimeout Reason = "AGENT_TIMEOUT"
	// ReasonAgentUnavailable: the agent or its provider is down, limits its rate, or returned an invalid response.
	ReasonAgentUnavailable Reason = "AGENT_UNAVAILABLE"
	// ReasonDeadlineTooShort: less than a second was left, and nothing was stored.
	ReasonDeadlineTooShort Reason = "DEADLINE_TOO_SHORT"

	// ReasonOverloaded: the server has reached its limit of open calls or of answers that callers have not read yet.
	ReasonOverloaded Reason = "OVERLOADED"
	// ReasonTurnLimitReached: the caller has reached its limit of new turns per minute. The next one may start
	// after RetryAfter.
	ReasonTurnLimitReached Reason = "TURN_LIMIT_REACHED"
	// ReasonBudgetExhausted: the caller's turns have used as many tokens today, Metadata["used_tokens"], as the server
	// allows. The next one may start after RetryAfter, at midnight UTC.
	ReasonBudgetExhausted Reason = "BUDGET_EXHAUSTED"
	// ReasonQueueFull: the caller has Metadata["max_queued_turns"] turns of [Client.StartTurn] that have not ended, as many
	// as the server allows. Start it after RetryAfter, when some have been run.
	ReasonQueueFull Reason = "QUEUE_FULL"
	// ReasonStoreUnavailable: the server's database cannot be reached, or was too slow.
	ReasonStoreUnavailable Reason = "STORE_UNAVAILABLE"
	// ReasonKeysUnavailable: the server cannot fetch the keys for checking tokens.
	ReasonKeysUnavailable Reason = "KEYS_UNAVAILABLE"
	// ReasonWorkerDrained: the worker is shutting down. Another worker answers the next call.
	ReasonWorkerDrained Reason = "WORKER_DRAINED"
	// ReasonWatchExpired: a watch or an export reached its time limit. [Client.Watch], [Client.WatchTurns] and
	// [Client.ExportConversations] continue by themselves.
	ReasonWatchExpired Reason = "WATCH_EXPIRED"

	// ReasonCallerLost: the deadline passed, or the caller disconnected, before the answer was complete.
	ReasonCallerLost Reason = "CALLER_LOST"
	// ReasonTurnAbandoned: the worker that ran the turn died. Only in [Turn].ErrorReason.
	ReasonTurnAbandoned Reason = "TURN_ABANDONED"
	// ReasonInternal: a defect in the server. Its log has the details under [Error].CallID.
	ReasonInternal Reason = "INTERNAL"
)

// ReasonAttemptLost is this client's own: the agent started over while [Client.StreamText] yielded its
// text, which is void now. [Client.Chat] with the same request id gets the whole answer.
const ReasonAttemptLost Reason = "ATTEMPT_LOST"

// ReasonActionRequired is this client's own: the turn waits for its caller, which [Client.StreamText] cannot show.
// [Client.GetTurn] with the same request id tells what it waits for, and [Client.ResumeTurn] lets it go on.
const ReasonActionRequired Reason = "ACTION_REQUIRED"

package parley

// Reason says why a call failed: the name of an ErrorReason of the contract without ERROR_REASON_.
//
// It is an error, so that errors.Is tells it: errors.Is(err, parley.ReasonTurnInProgress).
type Reason string

// Error returns the reason's name.
func (r Reason) Error() string { return string(r) }

// The reasons of the contract. A server that is newer than this client may know others.
const (
	// ReasonInvalidRequest: fields are wrong; [Error].Violations names all of them.
	ReasonInvalidRequest Reason = "INVALID_REQUEST"
	// ReasonInvalidPageToken: altered, or another request's. Start again without one.
	ReasonInvalidPageToken Reason = "INVALID_PAGE_TOKEN"
	// ReasonAgentUnknown: no agent of that name. Leave it out for the default one.
	ReasonAgentUnknown Reason = "AGENT_UNKNOWN"

	// ReasonUnauthenticated: the call carried no valid token.
	ReasonUnauthenticated Reason = "UNAUTHENTICATED"
	// ReasonScopeMissing: the token is valid and lacks the scope that Metadata["scope"] names.
	ReasonScopeMissing Reason = "SCOPE_MISSING"

	// ReasonConversationNotFound: the caller has none of that id. Another owner's looks the same.
	ReasonConversationNotFound Reason = "CONVERSATION_NOT_FOUND"
	// ReasonTurnNotFound: the caller has no such turn.
	ReasonTurnNotFound Reason = "TURN_NOT_FOUND"
	// ReasonRequestIDReused: the request id belongs to another message, conversation or agent.
	ReasonRequestIDReused Reason = "REQUEST_ID_REUSED"

	// ReasonTurnInProgress: another turn, Metadata["turn_id"], is open. OnBusyWait waits for its end.
	ReasonTurnInProgress Reason = "TURN_IN_PROGRESS"
	// ReasonSequenceMismatch: somebody else wrote. Read on to [Error.LastSequence], then decide anew.
	ReasonSequenceMismatch Reason = "SEQUENCE_MISMATCH"
	// ReasonLeaseLost: another worker took the turn over. The client has called again by itself.
	ReasonLeaseLost Reason = "LEASE_LOST"
	// ReasonTurnSuperseded: the turn failed and the conversation went on. Use a new request id.
	ReasonTurnSuperseded Reason = "TURN_SUPERSEDED"
	// ReasonAttemptsExhausted: the turn failed as often as it may, Metadata["attempts"]. Use a new request
	// id, if the message is still wanted.
	ReasonAttemptsExhausted Reason = "ATTEMPTS_EXHAUSTED"
	// ReasonSequenceNotReached: MinSequence is above [Error.LastSequence].
	ReasonSequenceNotReached Reason = "SEQUENCE_NOT_REACHED"

	// ReasonAgentRefused: the model's provider refuses the request as it is.
	ReasonAgentRefused Reason = "AGENT_REFUSED"
	// ReasonAgentTimeout: the agent was too slow. Call again with the same request id and more time.
	ReasonAgentTimeout Reason = "AGENT_TIMEOUT"
	// ReasonAgentUnavailable: the agent or its provider is down, limited, or answered nonsense.
	ReasonAgentUnavailable Reason = "AGENT_UNAVAILABLE"
	// ReasonDeadlineTooShort: less than a second was left, and nothing was stored.
	ReasonDeadlineTooShort Reason = "DEADLINE_TOO_SHORT"

	// ReasonOverloaded: the server has as many calls as it takes, or answers that nobody has taken yet.
	ReasonOverloaded Reason = "OVERLOADED"
	// ReasonTurnLimitReached: the caller has started as many turns within a minute as it may. The next one
	// may start after RetryAfter.
	ReasonTurnLimitReached Reason = "TURN_LIMIT_REACHED"
	// ReasonStoreUnavailable: the server's database cannot be reached, or was too slow.
	ReasonStoreUnavailable Reason = "STORE_UNAVAILABLE"
	// ReasonKeysUnavailable: the server cannot get the keys that tokens are checked with.
	ReasonKeysUnavailable Reason = "KEYS_UNAVAILABLE"
	// ReasonWorkerDrained: the worker is shutting down. Another one takes the call.
	ReasonWorkerDrained Reason = "WORKER_DRAINED"
	// ReasonWatchExpired: a watch lasted as long as one may. [Client.Watch] goes on by itself.
	ReasonWatchExpired Reason = "WATCH_EXPIRED"

	// ReasonCallerLost: the deadline came, or the caller went away, before the answer did.
	ReasonCallerLost Reason = "CALLER_LOST"
	// ReasonTurnAbandoned: the worker that ran the turn went away. Only in [Turn].ErrorReason.
	ReasonTurnAbandoned Reason = "TURN_ABANDONED"
	// ReasonInternal: a defect of the server's. Its log says more under [Error].CallID.
	ReasonInternal Reason = "INTERNAL"
)

// ReasonAttemptLost is this client's own: the agent began anew while [Client.StreamText] handed out
// its text, which is void. [Client.Chat] with the same request id gets the whole answer.
const ReasonAttemptLost Reason = "ATTEMPT_LOST"

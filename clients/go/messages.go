package parley

import "parley.dev/go/parleyv1"

// The contract's messages, under the names that a caller needs. They are the generated types of
// [parley.dev/go/parleyv1], whose comments say what each field means.
type (
	ChatRequest                 = parleyv1.ChatRequest
	ChatResponse                = parleyv1.ChatResponse
	StreamChatResponse          = parleyv1.StreamChatResponse
	ToolCall                    = parleyv1.ToolCall
	Tool                        = parleyv1.Tool
	PendingCall                 = parleyv1.PendingCall
	ResumeTurnRequest           = parleyv1.ResumeTurnRequest
	CallResult                  = parleyv1.CallResult
	Message                     = parleyv1.Message
	Conversation                = parleyv1.Conversation
	Turn                        = parleyv1.Turn
	GetHistoryRequest           = parleyv1.GetHistoryRequest
	GetHistoryResponse          = parleyv1.GetHistoryResponse
	CreateConversationRequest   = parleyv1.CreateConversationRequest
	CreateConversationResponse  = parleyv1.CreateConversationResponse
	GetConversationRequest      = parleyv1.GetConversationRequest
	UpdateConversationRequest   = parleyv1.UpdateConversationRequest
	DeleteConversationRequest   = parleyv1.DeleteConversationRequest
	DeleteConversationResponse  = parleyv1.DeleteConversationResponse
	UndeleteConversationRequest = parleyv1.UndeleteConversationRequest
	ListConversationsRequest    = parleyv1.ListConversationsRequest
	ListConversationsResponse   = parleyv1.ListConversationsResponse
	StartTurnResponse           = parleyv1.StartTurnResponse
	GetTurnRequest              = parleyv1.GetTurnRequest
	CancelTurnRequest           = parleyv1.CancelTurnRequest
	WatchConversationRequest    = parleyv1.WatchConversationRequest
	WatchConversationResponse   = parleyv1.WatchConversationResponse
	WatchTurnsRequest           = parleyv1.WatchTurnsRequest
	WatchTurnsResponse          = parleyv1.WatchTurnsResponse
	AppendMessagesRequest       = parleyv1.AppendMessagesRequest
	AppendMessagesResponse      = parleyv1.AppendMessagesResponse
	ForkConversationRequest     = parleyv1.ForkConversationRequest
	ForkConversationResponse    = parleyv1.ForkConversationResponse
	ExportConversationsRequest  = parleyv1.ExportConversationsRequest
	ExportConversationsResponse = parleyv1.ExportConversationsResponse
	EraseOwnerRequest           = parleyv1.EraseOwnerRequest
	EraseOwnerResponse          = parleyv1.EraseOwnerResponse
	GetUsageRequest             = parleyv1.GetUsageRequest
	GetUsageResponse            = parleyv1.GetUsageResponse
	UsageRow                    = parleyv1.UsageRow
	Usage                       = parleyv1.Usage
	ListAgentsRequest           = parleyv1.ListAgentsRequest
	ListAgentsResponse          = parleyv1.ListAgentsResponse
	Agent                       = parleyv1.Agent
	ExplainTurnRequest          = parleyv1.ExplainTurnRequest
	ExplainTurnResponse         = parleyv1.ExplainTurnResponse
	RehearseTurnRequest         = parleyv1.RehearseTurnRequest
	RehearseTurnResponse        = parleyv1.RehearseTurnResponse
)

// What to do while another turn of the conversation is open: [ChatRequest].OnBusy, [AppendMessagesRequest].OnBusy.
const (
	OnBusyReject = parleyv1.OnBusy_ON_BUSY_REJECT // The default: the reason is ReasonTurnInProgress.
	OnBusyWait   = parleyv1.OnBusy_ON_BUSY_WAIT   // Wait for its end, or for the deadline.
	// Cancel it if it waits for its caller, and take its place; else as OnBusyReject. Only for Chat and Stream.
	OnBusyReplace = parleyv1.OnBusy_ON_BUSY_REPLACE
)

// What happens to a turn when its caller disconnects: [ChatRequest].OnDisconnect.
const (
	OnDisconnectCancel   = parleyv1.OnDisconnect_ON_DISCONNECT_CANCEL   // The default: the agent stops.
	OnDisconnectContinue = parleyv1.OnDisconnect_ON_DISCONNECT_CONTINUE // It continues without the caller.
)

// The order of a history: [GetHistoryRequest].Order.
const (
	OrderOldestFirst = parleyv1.Order_ORDER_OLDEST_FIRST // The default.
	OrderNewestFirst = parleyv1.Order_ORDER_NEWEST_FIRST
)

// The state of a turn: [Turn].State.
const (
	TurnQueued    = parleyv1.TurnState_TURN_STATE_QUEUED // StartTurn has stored it, and it has not begun.
	TurnRunning   = parleyv1.TurnState_TURN_STATE_RUNNING
	TurnCompleted = parleyv1.TurnState_TURN_STATE_COMPLETED
	TurnFailed    = parleyv1.TurnState_TURN_STATE_FAILED
	TurnCancelled = parleyv1.TurnState_TURN_STATE_CANCELLED
	TurnWaiting   = parleyv1.TurnState_TURN_STATE_WAITING // For its caller: ResumeTurn lets it go on.
)

// FinishReasonActionRequired: there is no answer yet, and the turn waits for its PendingCalls.
const FinishReasonActionRequired = parleyv1.FinishReason_FINISH_REASON_ACTION_REQUIRED

// What a pending call waits for: [PendingCall].Kind.
const (
	PendingResult   = parleyv1.PendingCallKind_PENDING_CALL_KIND_RESULT   // Run the tool: ResultFor, ErrorFor.
	PendingApproval = parleyv1.PendingCallKind_PENDING_CALL_KIND_APPROVAL // Say whether the server may: Approve, Deny.
)

// Who wrote a message: [Message].Role.
const (
	RoleUser      = parleyv1.Role_ROLE_USER
	RoleAssistant = parleyv1.Role_ROLE_ASSISTANT
	RoleSystem    = parleyv1.Role_ROLE_SYSTEM // Only AppendMessages writes such messages.
)

// How far an erasure has come: [EraseOwnerResponse].State.
const (
	ErasureRunning = parleyv1.ErasureState_ERASURE_STATE_RUNNING
	ErasureDone    = parleyv1.ErasureState_ERASURE_STATE_DONE
)

// Why messages were not shown to a turn's agent: the Reason of those that are Omitted in [ExplainTurnResponse].
const (
	OmittedOlder      = parleyv1.OmissionReason_OMISSION_REASON_OLDER      // Older than the window.
	OmittedUnanswered = parleyv1.OmissionReason_OMISSION_REASON_UNANSWERED // Their turn was not answered.
	OmittedWithdrawn  = parleyv1.OmissionReason_OMISSION_REASON_WITHDRAWN  // It was cancelled or filtered too early.
)

// Answer is a turn that was answered: message and answer are stored. With [FinishReasonActionRequired] the turn waits
// instead.
type Answer struct {
	*ChatResponse
	// RequestID is the turn's key: the caller's own, or the one that the client made. Empty: ResumeTurn named the turn
	// otherwise.
	RequestID string
}

// Event is one event of a turn; see [Client.Stream].
type Event struct {
	*StreamChatResponse
	// RequestID is the turn's key, as in [Answer].
	RequestID string
}

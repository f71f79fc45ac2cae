package parley

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	domain   = "parley.v1"
	pushback = "grpc-retry-pushback-ms"
)

// Error is what every call ends with that the server, or the way to it, made fail.
//
//	var failure *parley.Error
//	switch {
//	case errors.Is(err, parley.ReasonTurnInProgress): // one reason
//	case errors.Is(err, context.Canceled):            // the caller's own context ended
//	case errors.As(err, &failure):                    // everything that is known
//	}
//
// It wraps the call's gRPC status: [status.Code] and [status.FromError] see through it.
type Error struct {
	// Code is gRPC's status code.
	Code codes.Code
	// Reason is Parley's. Empty: the status is not Parley's, but gRPC's own or a proxy's.
	Reason Reason
	// Message is a sentence for people. Programs read Reason and Metadata.
	Message string
	// Metadata holds every variable part of the message, by name.
	Metadata map[string]string
	// RetryAfter is how long the server asks to wait before the next try. 0: it does not say.
	RetryAfter time.Duration
	// PushedBack says that this wait is too long for a retry under the same deadline.
	PushedBack bool
	// Violations are all the fields that were wrong, with ReasonInvalidRequest.
	Violations []Violation
	// CallID names the call in the server's log. Empty: the server did not say.
	CallID string
	// RequestID is the key of the turn, or of what was created, added or erased. Calling again with it is safe. Empty:
	// the call has none, or named its turn otherwise.
	RequestID string

	status *status.Status
	cause  error
}

// Violation says what is wrong with one field of a request.
type Violation struct {
	Field       string
	Reason      string // UPPER_SNAKE, for programs.
	Description string // For people: what is wrong, and what would be right.
}

// Error returns the sentence, with what a log has to have.
func (e *Error) Error() string {
	known := []string{e.Code.String()}
	if e.Reason != "" {
		known[0] = string(e.Reason)
	}
	if e.RequestID != "" {
		known = append(known, "request_id="+e.RequestID)
	}
	if e.CallID != "" {
		known = append(known, "call_id="+e.CallID)
	}
	return fmt.Sprintf("parley: %s [%s]", e.Message, strings.Join(known, ", "))
}

// Is makes errors.Is tell a [Reason].
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && reason != "" && reason == e.Reason
}

// Unwrap returns context.Canceled or context.DeadlineExceeded if the call's context ended it, and a [TokenSource]'s error,
// of which [WithRetryHook] is told.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus returns the status as it came, with its details.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Retryable says whether the same call, with the same request id, may succeed later. Where it may
// not, something has to change first: the request, the token, or what the caller knows.
func (e *Error) Retryable() bool {
	switch e.Reason {
	case ReasonTurnInProgress, ReasonLeaseLost, ReasonAttemptLost, ReasonOverloaded, ReasonTurnLimitReached,
		ReasonBudgetExhausted, ReasonQueueFull:
		return true
	}
	return e.Code == codes.Unavailable || e.Code == codes.DeadlineExceeded
}

// LastSequence returns the conversation's last sequence, with ReasonSequenceMismatch and
// ReasonSequenceNotReached; otherwise 0.
func (e *Error) LastSequence() int64 { return e.number("last_sequence") }

// Revision returns the conversation's revision, with ReasonRevisionMismatch; otherwise 0.
func (e *Error) Revision() int64 { return e.number("revision") }

// PreviousBoundary returns the sequence up to which the conversation can be forked, with ReasonNotATurnBoundary;
// otherwise, or if there is none, 0.
func (e *Error) PreviousBoundary() int64 { return e.number("previous_boundary") }

// OldestTime returns since when the feed keeps turns, with ReasonCursorExpired; otherwise the zero time.
func (e *Error) OldestTime() time.Time {
	oldest, err := time.Parse(time.RFC3339, e.Metadata["oldest_time"])
	if err != nil {
		return time.Time{} // the reason has none
	}
	return oldest
}

func (e *Error) number(name string) int64 {
	number, err := strconv.ParseInt(e.Metadata[name], 10, 64)
	if err != nil {
		return 0 // the reason has none
	}
	return number
}

// errorFrom returns the typed error that a failed call stands for, or that the client was closed under it.
func (c *Client) errorFrom(ctx context.Context, failure error, trailer metadata.MD, requestID string) *Error {
	if c.life.Err() != nil && ctx.Err() == nil {
		return closedError(requestID)
	}
	known := statusOf(failure)
	err := &Error{
		Code:       known.Code(),
		Message:    known.Message(),
		PushedBack: isPushedBack(trailer),
		RequestID:  requestID,
		status:     known,
	}
	if err.Message == "" {
		err.Message = err.Code.String()
	}
	for _, detail := range known.Details() {
		err.read(detail)
	}
	err.cause = err.causeIn(ctx)
	return err
}

// causeIn returns the end of the context, if that is what the call ended with.
func (e *Error) causeIn(ctx context.Context) error {
	isTold := e.Reason != "" && e.Reason != ReasonCallerLost
	switch {
	case isTold || (e.Code != codes.Canceled && e.Code != codes.DeadlineExceeded):
		return nil
	case e.Code == codes.DeadlineExceeded: // which the server may see before this side does
		return context.DeadlineExceeded
	default:
		return ctx.Err()
	}
}

// statusOf returns the status that the server told: gRPC wraps it when it has tried often enough. An interceptor's error
// may have none, such as the end of the context.
func statusOf(failure error) *status.Status {
	var told interface{ GRPCStatus() *status.Status }
	if errors.As(failure, &told) {
		return told.GRPCStatus()
	}
	return status.FromContextError(failure)
}

// read takes what one of the status' details says. One that is unknown, or mangled, says nothing.
func (e *Error) read(detail any) {
	switch detail := detail.(type) {
	case *errdetails.ErrorInfo:
		if detail.GetDomain() == domain {
			e.Reason, e.Metadata = Reason(detail.GetReason()), detail.GetMetadata()
		}
	case *errdetails.RetryInfo:
		e.RetryAfter = detail.GetRetryDelay().AsDuration()
	case *errdetails.RequestInfo:
		e.CallID = detail.GetRequestId()
	case *errdetails.BadRequest:
		for _, wrong := range detail.GetFieldViolations() {
			e.Violations = append(e.Violations,
				Violation{wrong.GetField(), wrong.GetReason(), wrong.GetDescription()})
		}
	}
}

// isPushedBack says whether the server asks that nothing be retried: the pushback is negative, or no
// number (gRFC A6).
func isPushedBack(trailer metadata.MD) bool {
	wanted := trailer.Get(pushback)
	if len(wanted) == 0 {
		return false
	}
	_, err := strconv.ParseUint(wanted[0], 10, 32)
	return err != nil
}

// ownError returns an error that is this client's and no server's.
func ownError(code codes.Code, reason Reason, requestID, text string) *Error {
	return &Error{
		Code: code, Reason: reason, Message: text, RequestID: requestID, status: status.New(code, text),
	}
}

// text is what a caller gave for a field.
type text struct{ field, value string }

// utf8Error names the fields that are not UTF-8, which gRPC cannot send; nil: all are.
func utf8Error(requestID string, texts ...text) error {
	wrong := []string{}
	for _, each := range texts {
		if !utf8.ValidString(each.value) && !slices.Contains(wrong, each.field) {
			wrong = append(wrong, each.field)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	message := "not UTF-8: " + strings.Join(wrong, ", ")
	err := ownError(codes.InvalidArgument, ReasonInvalidRequest, requestID, message)
	for _, field := range wrong {
		err.Violations = append(err.Violations, Violation{field, "NOT_UTF8", "has to be UTF-8"})
	}
	return err
}

// closedError returns the error of a call whose client was closed under it.
func closedError(requestID string) *Error {
	return ownError(codes.Canceled, "", requestID, "the client was closed")
}

// endedError returns the error of a call whose context ended while nothing was under way.
func endedError(ended error, requestID, text string) *Error {
	err := ownError(status.FromContextError(ended).Code(), "", requestID, text)
	err.cause = ended
	return err
}

package dev.parley.client;

import dev.parley.v1.Approval;
import dev.parley.v1.CallResult;
import dev.parley.v1.Denial;
import dev.parley.v1.PendingCall;

/** What a pending call is given; see {@link ParleyClient#resumeTurn(TurnKey, java.util.List, ResumeOptions)}. */
public final class CallResults {

    private CallResults() {}

    /** Gives a call of PENDING_CALL_KIND_RESULT what its tool returned: text or JSON, at most 65,536 bytes. */
    public static CallResult result(PendingCall call, String result) {
        return of(call).setResult(Texts.checked("result", result)).build();
    }

    /** Gives a call of PENDING_CALL_KIND_RESULT how its tool failed, as text for the model: 1 to 65,536 bytes. */
    public static CallResult error(PendingCall call, String text) {
        return of(call).setError(Texts.checked("error", text)).build();
    }

    /** Lets the server run a call of PENDING_CALL_KIND_APPROVAL, once, with the arguments that the call has here. */
    public static CallResult approval(PendingCall call) {
        return of(call).setApproval(Approval.newBuilder().setArguments(call.getArguments())).build();
    }

    /** Keeps the server from running a call of PENDING_CALL_KIND_APPROVAL. The model is told the reason. */
    public static CallResult denial(PendingCall call, String reason) {
        return of(call).setDenial(Denial.newBuilder().setReason(Texts.checked("reason", reason))).build();
    }

    private static CallResult.Builder of(PendingCall call) {
        return CallResult.newBuilder().setCallKey(call.getCallKey());
    }
}

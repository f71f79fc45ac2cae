package dev.parley.client.support;

import com.google.protobuf.Any;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.HashMap;
import java.util.Map;

/** An error as Parley tells it, or as something else does: without a reason, of another domain, mangled. */
public final class Refusal {

    public static final String TEXT = "because the test says so";

    private final Status.Code code;
    private final String reason;
    private final Map<String, String> metadata = new HashMap<>();
    private String domain = "parley.v1";
    private String pushback = "";
    private long retryMs = -1;
    private boolean isMangled;
    private String violation = "";

    private Refusal(Status.Code code, String reason) {
        this.code = code;
        this.reason = reason;
    }

    public static Refusal of(Status.Code code, String reason) {
        return new Refusal(code, reason);
    }

    public static Refusal unavailable(String reason) {
        return of(Status.Code.UNAVAILABLE, reason).retryMs(10);
    }

    public Refusal retryMs(long ms) {
        retryMs = ms;
        return this;
    }

    public Refusal pushback(String value) {
        pushback = value;
        return this;
    }

    public Refusal domain(String name) {
        domain = name;
        return this;
    }

    public Refusal metadata(String name, String value) {
        metadata.put(name, value);
        return this;
    }

    public Refusal violation(String field) {
        violation = field;
        return this;
    }

    public Refusal mangled() {
        isMangled = true;
        return this;
    }

    StatusRuntimeException asException() {
        var status = com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage(TEXT);
        if (!reason.isEmpty()) {
            status.addDetails(Any.pack(ErrorInfo.newBuilder()
                    .setReason(reason).setDomain(domain).putAllMetadata(metadata).build()));
            status.addDetails(Any.pack(RequestInfo.newBuilder().setRequestId("call-1").build()));
        }
        if (!violation.isEmpty()) {
            status.addDetails(Any.pack(BadRequest.newBuilder().addFieldViolations(
                    BadRequest.FieldViolation.newBuilder()
                            .setField(violation).setReason("REQUIRED").setDescription("say something")).build()));
        }
        Metadata trailers = new Metadata();
        if (retryMs >= 0) {
            var delay = com.google.protobuf.Duration.newBuilder()
                    .setSeconds(retryMs / 1000).setNanos((int) (retryMs % 1000) * 1_000_000);
            status.addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()));
            pushback = pushback.isEmpty() ? Long.toString(retryMs) : pushback;
        }
        if (!pushback.isEmpty()) {
            trailers.put(Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER), pushback);
        }
        byte[] details = isMangled ? new byte[] {1, 2, 3} : status.build().toByteArray();
        trailers.put(Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER), details);
        return code.toStatus().withDescription(TEXT).asRuntimeException(trailers);
    }
}

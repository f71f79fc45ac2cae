package dev.parley.client;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.concurrent.Executor;
import java.util.function.Supplier;

/** Sends a token with every try of a call. */
final class BearerToken extends CallCredentials {

    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final Supplier<String> token;

    BearerToken(Supplier<String> token) {
        this.token = token;
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
        executor.execute(() -> {
            Metadata headers = new Metadata();
            try {
                String found = checked(token.get());
                if (!found.isEmpty()) {
                    headers.put(AUTHORIZATION, "Bearer " + found);
                }
            } catch (Throwable failure) { // errors as well, or the call would wait until its deadline
                applier.fail(Status.UNAUTHENTICATED.withDescription("no token could be had").withCause(failure));
                return;
            }
            applier.apply(headers);
        });
    }

    /** Whether a call has failed because its supplier gave no token, which it may do later. */
    static boolean isMissing(ParleyException error) {
        return error instanceof ParleyException.Unauthenticated && error.getCause() instanceof Exception;
    }

    /** Returns a token without the white space around it; empty: there is none. */
    static String checked(String token) {
        String stripped = token == null ? "" : token.strip();
        if (!stripped.chars().allMatch(each -> each > ' ' && each < 0x7f)) {
            throw new IllegalArgumentException("a token is printable ASCII on one line, and this one is not");
        }
        return stripped;
    }
}

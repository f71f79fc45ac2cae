package dev.parley.client;

import com.google.protobuf.Timestamp;
import dev.parley.v1.ListConversationsRequest;
import java.time.Instant;
import java.util.Map;

/** How conversations are listed. Immutable: every method returns new options. */
public final class ListOptions {

    private static final ListOptions DEFAULTS = new ListOptions(ListConversationsRequest.getDefaultInstance());

    private final ListConversationsRequest request;

    private ListOptions(ListConversationsRequest request) {
        this.request = request;
    }

    /** All conversations. */
    public static ListOptions defaults() {
        return DEFAULTS;
    }

    /** How many conversations a page has at most, up to 1,000. Default: 50. */
    public ListOptions pageSize(int size) {
        return new ListOptions(request.toBuilder().setPageSize(size).build());
    }

    /** The page to begin with: {@code next_page_token} of the one before. Default: the first one. */
    public ListOptions pageToken(String token) {
        return new ListOptions(request.toBuilder().setPageToken(token).build());
    }

    /**
     * Only conversations that have all of these labels, at most 16; they replace those given before. Default: all
     * conversations.
     *
     * @throws IllegalArgumentException one cannot be sent
     */
    public ListOptions labels(Map<String, String> labels) {
        return new ListOptions(request.toBuilder().clearLabels().addAllLabels(Texts.written(labels)).build());
    }

    /** Only conversations whose {@code update_time} is later than this. Default: all conversations. */
    public ListOptions updatedAfter(Instant time) {
        Timestamp.Builder sent = Timestamp.newBuilder().setSeconds(time.getEpochSecond()).setNanos(time.getNano());
        return new ListOptions(request.toBuilder().setUpdatedAfter(sent).build());
    }

    String pageToken() {
        return request.getPageToken();
    }

    ListConversationsRequest request() {
        return request;
    }
}

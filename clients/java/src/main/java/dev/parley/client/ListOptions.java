package dev.parley.client;

import dev.parley.v1.ListConversationsRequest;

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

    String pageToken() {
        return request.getPageToken();
    }

    ListConversationsRequest request() {
        return request;
    }
}

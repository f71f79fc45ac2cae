package dev.parley.client;

import dev.parley.v1.GetHistoryRequest;
import dev.parley.v1.Order;
import java.util.function.UnaryOperator;

/** Which messages of a conversation are read. Immutable: every method returns new options. */
public final class HistoryOptions {

    private static final HistoryOptions DEFAULTS = new HistoryOptions(GetHistoryRequest.getDefaultInstance());

    private final GetHistoryRequest request;

    private HistoryOptions(GetHistoryRequest request) {
        this.request = request;
    }

    /** All messages, the oldest first. */
    public static HistoryOptions defaults() {
        return DEFAULTS;
    }

    /** Which end to begin at. Default: ORDER_OLDEST_FIRST. */
    public HistoryOptions order(Order order) {
        return with(builder -> builder.setOrder(order));
    }

    /** Only messages with a higher sequence than this, in both orders. */
    public HistoryOptions afterSequence(long sequence) {
        return with(builder -> builder.setAfterSequence(sequence));
    }

    /** Never answers from data older than this sequence. */
    public HistoryOptions minSequence(long sequence) {
        return with(builder -> builder.setMinSequence(sequence));
    }

    /** How many messages a page has at most, up to 1,000. Default: 50. */
    public HistoryOptions pageSize(int size) {
        return with(builder -> builder.setPageSize(size));
    }

    /** The page to begin with: {@code next_page_token} of the one before. Default: the first one. */
    public HistoryOptions pageToken(String token) {
        return with(builder -> builder.setPageToken(token));
    }

    String pageToken() {
        return request.getPageToken();
    }

    GetHistoryRequest request(String conversationId) {
        return request.toBuilder().setConversationId(conversationId).build();
    }

    private HistoryOptions with(UnaryOperator<GetHistoryRequest.Builder> change) {
        return new HistoryOptions(change.apply(request.toBuilder()).build());
    }
}

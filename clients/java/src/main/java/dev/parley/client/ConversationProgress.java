package dev.parley.client;

import dev.parley.v1.ConversationServiceGrpc;
import dev.parley.v1.StreamChatResponse;
import dev.parley.v1.TurnState;
import dev.parley.v1.WatchConversationRequest;
import dev.parley.v1.WatchConversationResponse;
import dev.parley.v1.WatchDeleted;
import java.time.Duration;
import java.util.Optional;

/** One conversation, watched: a lost watch is asked for again behind the last message seen. */
final class ConversationProgress extends Progress<WatchConversationRequest, WatchConversationResponse> {

    private static final WatchConversationResponse DELETED =
            WatchConversationResponse.newBuilder().setDeleted(WatchDeleted.getDefaultInstance()).build();

    private record ToldTurn(String turnId, int attempt, TurnState state) {}

    private record ToldEvent(String turnId, int attempt, long index) {}

    private final WatchConversationRequest.Builder request;
    private ToldTurn turn = new ToldTurn("", 0, TurnState.TURN_STATE_UNSPECIFIED);
    private ToldEvent event = new ToldEvent("", 0, -1);
    private boolean isOver;

    ConversationProgress(WatchConversationRequest request) {
        super(ConversationServiceGrpc.getWatchConversationMethod(), new Tries(Tries.Kind.WATCH, Duration.ZERO));
        this.request = request.toBuilder();
    }

    @Override
    WatchConversationRequest request() {
        return request.build();
    }

    @Override
    String requestId() {
        return "";
    }

    /**
     * {@inheritDoc} A call that continues a watch starts with the open turn's state and with its
     * first event: of these, what was told before is no news.
     */
    @Override
    boolean takes(WatchConversationResponse update) {
        cameFurther();
        switch (update.getUpdateCase()) {
            case MESSAGE:
                request.setAfterSequence(update.getMessage().getSequence());
                return true;
            case TURN:
                ToldTurn before = turn;
                turn = new ToldTurn(
                        update.getTurn().getTurnId(), update.getTurn().getAttempt(), update.getTurn().getState());
                return !turn.equals(before);
            case EVENT:
                return !update.getEvent().hasIndex() || takes(update.getEvent());
            case DELETED:
                isOver = true; // the NOT_FOUND that follows says the same
                return true;
            default:
                return true;
        }
    }

    private boolean takes(StreamChatResponse piece) {
        ToldEvent now = new ToldEvent(turn.turnId(), piece.getAttempt(), piece.getIndex());
        boolean isLater = now.attempt() > event.attempt()
                || now.attempt() == event.attempt() && now.index() > event.index();
        if (now.turnId().equals(event.turnId()) && !isLater) {
            return false;
        }
        event = now;
        return true;
    }

    /** {@inheritDoc} A conversation may have been deleted between two calls. */
    @Override
    Optional<WatchConversationResponse> lastEvent(ParleyException error) {
        boolean isDeleted = isUnderWay() && error instanceof ParleyException.ConversationNotFound;
        return isDeleted ? Optional.of(DELETED) : Optional.empty();
    }

    @Override
    boolean isOver() {
        return isOver;
    }
}

package dev.parley.client;

import dev.parley.v1.StreamChatResponse;
import io.grpc.Status;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.Flow;

/**
 * One turn, streamed while the agent writes it: {@code started} (first in every call, and so again after a loss),
 * {@code chunk} (text), {@code tool_call} (with its result), and last {@code completed}: the answer, which replaces
 * what was collected, since the last pieces may arrive only there.
 *
 * <p>If an event's {@code attempt} is higher than before, the agent started over, and what was collected until
 * then is void. With ON_DISCONNECT_CONTINUE a lost connection alone never causes that.
 */
public final class TurnStream extends EventStream<StreamChatResponse> {

    private final String requestId;

    TurnStream(Flow.Publisher<StreamChatResponse> events, String requestId) {
        super(events, requestId);
        this.requestId = requestId;
    }

    /** The turn's key, given or made: the same one attaches to the turn again, also from another process. */
    public String requestId() {
        return requestId;
    }

    /**
     * Waits for the end.
     *
     * @return the answer, as {@code chat} returns it
     * @throws ParleyException there is none
     * @throws NoSuchElementException the stream was closed, or gone through, before
     */
    public Answer answer() {
        StreamChatResponse event;
        do {
            event = next();
        } while (!event.hasCompleted());
        return new Answer(event.getCompleted(), requestId);
    }

    /**
     * Returns the turn's text alone, each piece once, while the agent writes it.
     *
     * <p>Its iterator throws {@link ParleyException.AttemptLost} if the agent started over, so that the text so
     * far is void: {@code chat} with the same request id gets the answer. It throws {@link ParleyException.ActionRequired}
     * at the end if the turn waits for its caller.
     */
    public Iterable<String> texts() {
        return Texts::new;
    }

    private final class Texts implements Iterator<String> {
        private final StringBuilder told = new StringBuilder();
        private int attempt;
        private String next = "";
        private boolean isWaiting;

        @Override
        public boolean hasNext() {
            while (next.isEmpty() && TurnStream.this.hasNext()) {
                next = addedBy(TurnStream.this.next());
            }
            if (next.isEmpty() && isWaiting) {
                String text = "the turn waits for its caller, and turn tells for what: resumeTurn lets it go on";
                throw new ParleyException.ActionRequired(
                        Failure.ofOurs(Status.Code.FAILED_PRECONDITION, text, requestId, null));
            }
            return !next.isEmpty();
        }

        @Override
        public String next() {
            if (!hasNext()) {
                throw new NoSuchElementException("the answer has ended");
            }
            String text = next;
            next = "";
            return text;
        }

        private String addedBy(StreamChatResponse event) {
            if (event.hasCompleted()) {
                isWaiting = new Answer(event.getCompleted(), requestId).isWaiting();
                String whole = event.getCompleted().getResponse();
                if (!whole.startsWith(told.toString())) {
                    throw isVoid();
                }
                return whole.substring(told.length());
            }
            if (!told.isEmpty() && event.getAttempt() != attempt) {
                throw isVoid();
            }
            attempt = event.getAttempt();
            told.append(event.getChunk().getText());
            return event.getChunk().getText();
        }

        private ParleyException isVoid() {
            close();
            String text = "the agent started over, and the text so far is void: ask for the answer with chat";
            return new ParleyException.AttemptLost(Failure.ofOurs(Status.Code.ABORTED, text, requestId, null));
        }
    }
}

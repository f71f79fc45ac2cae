package dev.parley.client;

import dev.parley.v1.ChatRequest;
import dev.parley.v1.ConversationServiceGrpc;
import dev.parley.v1.ResumeTurnRequest;
import dev.parley.v1.StreamChatRequest;
import dev.parley.v1.StreamChatResponse;
import dev.parley.v1.StreamResumeTurnRequest;
import dev.parley.v1.StreamResumeTurnResponse;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.concurrent.Flow;
import java.util.function.Function;

/** One turn, made or resumed, as it comes: a lost stream is asked for again behind the last text or tool call seen. */
final class TurnProgress<Q, R> extends Progress<Q, R> {

    private final String requestId;
    private final Function<StreamChatResponse, Q> behind;
    private final Function<R, StreamChatResponse> eventOf;
    private StreamChatResponse last = StreamChatResponse.getDefaultInstance(); // without index: nothing has been seen
    private boolean isOver;

    private TurnProgress(
            MethodDescriptor<Q, R> method, String requestId, Duration timeout,
            Function<StreamChatResponse, Q> behind, Function<R, StreamChatResponse> eventOf) {
        super(method, new Tries(Tries.Kind.TURN_STREAM, timeout));
        this.requestId = requestId;
        this.behind = behind;
        this.eventOf = eventOf;
    }

    /** Begins with a turn that is made. */
    static TurnProgress<StreamChatRequest, StreamChatResponse> of(ChatRequest chat, Duration timeout) {
        return new TurnProgress<>(
                ConversationServiceGrpc.getStreamChatMethod(), chat.getRequestId(), timeout,
                last -> {
                    var request = StreamChatRequest.newBuilder().setChat(chat).setAfterAttempt(last.getAttempt());
                    return last.hasIndex() ? request.setAfterIndex(last.getIndex()).build() : request.build();
                },
                event -> event);
    }

    /** Begins with a turn that is resumed. */
    static TurnProgress<StreamResumeTurnRequest, StreamResumeTurnResponse> of(
            ResumeTurnRequest resume, Duration timeout) {
        return new TurnProgress<>(
                ConversationServiceGrpc.getStreamResumeTurnMethod(), resume.getRequestId(), timeout,
                last -> {
                    var request = StreamResumeTurnRequest.newBuilder()
                            .setResume(resume).setAfterAttempt(last.getAttempt());
                    return last.hasIndex() ? request.setAfterIndex(last.getIndex()).build() : request.build();
                },
                StreamResumeTurnResponse::getEvent);
    }

    /** Returns the events of a turn that was resumed, as those of a turn. */
    static Flow.Publisher<StreamChatResponse> events(Flow.Publisher<StreamResumeTurnResponse> resumed) {
        return subscriber -> resumed.subscribe(new Flow.Subscriber<>() {
            @Override
            public void onSubscribe(Flow.Subscription subscription) {
                subscriber.onSubscribe(subscription);
            }

            @Override
            public void onNext(StreamResumeTurnResponse response) {
                subscriber.onNext(response.getEvent());
            }

            @Override
            public void onError(Throwable error) {
                subscriber.onError(error);
            }

            @Override
            public void onComplete() {
                subscriber.onComplete();
            }
        });
    }

    @Override
    Q request() {
        return behind.apply(last);
    }

    @Override
    String requestId() {
        return requestId;
    }

    @Override
    boolean takes(R response) {
        StreamChatResponse event = eventOf.apply(response);
        if (event.hasIndex()) {
            last = event;
            cameFurther();
        }
        isOver = event.hasCompleted();
        return true;
    }

    @Override
    boolean isOver() {
        return isOver;
    }
}

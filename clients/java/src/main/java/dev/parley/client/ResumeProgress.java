package dev.parley.client;

import dev.parley.v1.ConversationServiceGrpc;
import dev.parley.v1.ResumeTurnRequest;
import dev.parley.v1.StreamChatResponse;
import dev.parley.v1.StreamResumeTurnRequest;
import dev.parley.v1.StreamResumeTurnResponse;
import java.time.Duration;
import java.util.concurrent.Flow;

/** One turn that was resumed, as it comes: a lost stream is asked for again behind the last text or tool call seen. */
final class ResumeProgress extends Progress<StreamResumeTurnRequest, StreamResumeTurnResponse> {

    private final StreamResumeTurnRequest.Builder request;
    private boolean isOver;

    ResumeProgress(ResumeTurnRequest resume, Duration timeout) {
        super(ConversationServiceGrpc.getStreamResumeTurnMethod(), new Tries(Tries.Kind.TURN_STREAM, timeout));
        this.request = StreamResumeTurnRequest.newBuilder().setResume(resume);
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
    StreamResumeTurnRequest request() {
        return request.build();
    }

    @Override
    String requestId() {
        return request.getResume().getRequestId();
    }

    @Override
    boolean takes(StreamResumeTurnResponse response) {
        StreamChatResponse event = response.getEvent();
        if (event.hasIndex()) {
            request.setAfterAttempt(event.getAttempt()).setAfterIndex(event.getIndex());
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

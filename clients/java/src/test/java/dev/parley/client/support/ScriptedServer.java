package dev.parley.client.support;

import com.google.protobuf.Message;
import dev.parley.v1.AppendMessagesRequest;
import dev.parley.v1.AppendMessagesResponse;
import dev.parley.v1.CancelTurnRequest;
import dev.parley.v1.CancelTurnResponse;
import dev.parley.v1.ChatRequest;
import dev.parley.v1.ChatResponse;
import dev.parley.v1.ConversationServiceGrpc;
import dev.parley.v1.CreateConversationRequest;
import dev.parley.v1.CreateConversationResponse;
import dev.parley.v1.DeleteConversationRequest;
import dev.parley.v1.DeleteConversationResponse;
import dev.parley.v1.EraseOwnerRequest;
import dev.parley.v1.EraseOwnerResponse;
import dev.parley.v1.ExplainTurnRequest;
import dev.parley.v1.ExplainTurnResponse;
import dev.parley.v1.ExportConversationsRequest;
import dev.parley.v1.ExportConversationsResponse;
import dev.parley.v1.ForkConversationRequest;
import dev.parley.v1.ForkConversationResponse;
import dev.parley.v1.GetConversationRequest;
import dev.parley.v1.GetConversationResponse;
import dev.parley.v1.GetHistoryRequest;
import dev.parley.v1.GetHistoryResponse;
import dev.parley.v1.GetUsageRequest;
import dev.parley.v1.GetUsageResponse;
import dev.parley.v1.ListAgentsRequest;
import dev.parley.v1.ListAgentsResponse;
import dev.parley.v1.ListConversationsRequest;
import dev.parley.v1.ListConversationsResponse;
import dev.parley.v1.RehearseTurnRequest;
import dev.parley.v1.RehearseTurnResponse;
import dev.parley.v1.ResumeTurnRequest;
import dev.parley.v1.ResumeTurnResponse;
import dev.parley.v1.StartTurnRequest;
import dev.parley.v1.StartTurnResponse;
import dev.parley.v1.StreamChatRequest;
import dev.parley.v1.StreamChatResponse;
import dev.parley.v1.StreamResumeTurnRequest;
import dev.parley.v1.StreamResumeTurnResponse;
import dev.parley.v1.UndeleteConversationRequest;
import dev.parley.v1.UndeleteConversationResponse;
import dev.parley.v1.UpdateConversationRequest;
import dev.parley.v1.UpdateConversationResponse;
import dev.parley.v1.WatchConversationRequest;
import dev.parley.v1.WatchConversationResponse;
import dev.parley.v1.WatchTurnsRequest;
import dev.parley.v1.WatchTurnsResponse;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Deadline;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * A real gRPC server that takes its next step at every call, the last one again when there are no more, and remembers
 * how it was asked.
 */
public final class ScriptedServer extends ConversationServiceGrpc.ConversationServiceImplBase
        implements AutoCloseable {

    private static final Context.Key<Metadata> HEADERS = Context.key("headers");

    /** What the server does with one call: it sends, then refuses, hangs, or ends well. */
    public record Step(List<? extends Message> sends, Refusal refusal, boolean hangs) {
        public static Step sends(Message... messages) {
            return new Step(List.of(messages), null, false);
        }

        public static Step refuses(Refusal refusal) {
            return new Step(List.of(), refusal, false);
        }

        public Step thenRefuses(Refusal refusal) {
            return new Step(sends, refusal, false);
        }

        public Step thenHangs() {
            return new Step(sends, null, true);
        }
    }

    /** How the server was asked; {@code timeLeftMs} is -1 without a deadline. */
    public record Asked(Message request, Metadata headers, long atNs, long timeLeftMs) {
        public String token() {
            return header("authorization");
        }

        /** What came under this name; without it, "null". */
        public String header(String name) {
            return String.valueOf(headers.get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER)));
        }
    }

    private final Queue<Step> steps;
    private final Server server;
    private final int port;
    private final List<Asked> asked = new CopyOnWriteArrayList<>();
    private final BlockingQueue<Message> gone = new LinkedBlockingQueue<>();

    private ScriptedServer(ServerCredentials credentials, int wanted, Step... steps) {
        this.steps = new ArrayDeque<>(List.of(steps));
        try {
            this.server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", wanted), credentials)
                    .addService(this).intercept(new Keeping()).build().start();
            this.port = server.getPort();
        } catch (IOException broken) {
            throw new UncheckedIOException(broken);
        }
    }

    public static ScriptedServer start(Step... steps) {
        return startAt(0, steps);
    }

    public static ScriptedServer startAt(int port, Step... steps) {
        return new ScriptedServer(InsecureServerCredentials.create(), port, steps);
    }

    public static ScriptedServer startWith(ServerCredentials credentials, Step... steps) {
        return new ScriptedServer(credentials, 0, steps);
    }

    public int port() {
        return port;
    }

    public String address() {
        return "127.0.0.1:" + port();
    }

    public List<Asked> asked() {
        return asked;
    }

    /** Waits until a caller has left a call that hangs. */
    public void awaitCallerGone() throws InterruptedException {
        if (gone.poll(30, TimeUnit.SECONDS) == null) {
            throw new AssertionError("the call goes on, and its caller has left");
        }
    }

    @Override
    public void close() {
        server.shutdownNow();
        try {
            server.awaitTermination();
        } catch (InterruptedException broken) {
            throw new IllegalStateException(broken);
        }
    }

    @Override
    public void chat(ChatRequest request, StreamObserver<ChatResponse> responses) {
        take(request, responses);
    }

    @Override
    public void getHistory(GetHistoryRequest request, StreamObserver<GetHistoryResponse> responses) {
        take(request, responses);
    }

    @Override
    public void createConversation(
            CreateConversationRequest request, StreamObserver<CreateConversationResponse> responses) {
        take(request, responses);
    }

    @Override
    public void getConversation(GetConversationRequest request, StreamObserver<GetConversationResponse> responses) {
        take(request, responses);
    }

    @Override
    public void updateConversation(
            UpdateConversationRequest request, StreamObserver<UpdateConversationResponse> responses) {
        take(request, responses);
    }

    @Override
    public void deleteConversation(
            DeleteConversationRequest request, StreamObserver<DeleteConversationResponse> responses) {
        take(request, responses);
    }

    @Override
    public void undeleteConversation(
            UndeleteConversationRequest request, StreamObserver<UndeleteConversationResponse> responses) {
        take(request, responses);
    }

    @Override
    public void listConversations(
            ListConversationsRequest request, StreamObserver<ListConversationsResponse> responses) {
        take(request, responses);
    }

    @Override
    public void cancelTurn(CancelTurnRequest request, StreamObserver<CancelTurnResponse> responses) {
        take(request, responses);
    }

    @Override
    public void streamChat(StreamChatRequest request, StreamObserver<StreamChatResponse> responses) {
        take(request, responses);
    }

    @Override
    public void watchConversation(
            WatchConversationRequest request, StreamObserver<WatchConversationResponse> responses) {
        take(request, responses);
    }

    @Override
    public void appendMessages(AppendMessagesRequest request, StreamObserver<AppendMessagesResponse> responses) {
        take(request, responses);
    }

    @Override
    public void forkConversation(ForkConversationRequest request, StreamObserver<ForkConversationResponse> responses) {
        take(request, responses);
    }

    @Override
    public void exportConversations(
            ExportConversationsRequest request, StreamObserver<ExportConversationsResponse> responses) {
        take(request, responses);
    }

    @Override
    public void eraseOwner(EraseOwnerRequest request, StreamObserver<EraseOwnerResponse> responses) {
        take(request, responses);
    }

    @Override
    public void getUsage(GetUsageRequest request, StreamObserver<GetUsageResponse> responses) {
        take(request, responses);
    }

    @Override
    public void listAgents(ListAgentsRequest request, StreamObserver<ListAgentsResponse> responses) {
        take(request, responses);
    }

    @Override
    public void explainTurn(ExplainTurnRequest request, StreamObserver<ExplainTurnResponse> responses) {
        take(request, responses);
    }

    @Override
    public void rehearseTurn(RehearseTurnRequest request, StreamObserver<RehearseTurnResponse> responses) {
        take(request, responses);
    }

    @Override
    public void startTurn(StartTurnRequest request, StreamObserver<StartTurnResponse> responses) {
        take(request, responses);
    }

    @Override
    public void resumeTurn(ResumeTurnRequest request, StreamObserver<ResumeTurnResponse> responses) {
        take(request, responses);
    }

    @Override
    public void streamResumeTurn(
            StreamResumeTurnRequest request, StreamObserver<StreamResumeTurnResponse> responses) {
        take(request, responses);
    }

    @Override
    public void watchTurns(WatchTurnsRequest request, StreamObserver<WatchTurnsResponse> responses) {
        take(request, responses);
    }

    @SuppressWarnings("unchecked")
    private <R> void take(Message request, StreamObserver<R> responses) {
        Deadline deadline = Context.current().getDeadline();
        long leftMs = deadline == null ? -1 : deadline.timeRemaining(TimeUnit.MILLISECONDS);
        asked.add(new Asked(request, HEADERS.get(), System.nanoTime(), leftMs));
        Step step = next();
        if (step.hangs()) {
            ((ServerCallStreamObserver<R>) responses).setOnCancelHandler(() -> gone.add(request));
        }
        step.sends().forEach(each -> responses.onNext((R) each));
        if (step.refusal() != null) {
            responses.onError(step.refusal().asException());
        } else if (!step.hangs()) {
            responses.onCompleted();
        }
    }

    private synchronized Step next() {
        return steps.size() > 1 ? steps.remove() : steps.element();
    }

    /** Keeps the headers of every call for {@link Asked}. */
    private static final class Keeping implements ServerInterceptor {
        @Override
        public <Q, R> ServerCall.Listener<Q> interceptCall(
                ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
            return Contexts.interceptCall(Context.current().withValue(HEADERS, headers), call, headers, next);
        }
    }
}

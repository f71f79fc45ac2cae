import com.google.common.util.concurrent.ListenableFuture;
import com.google.gson.Gson;
import dev.parley.v1.ChatRequest;
import dev.parley.v1.ChatResponse;
import dev.parley.v1.ConversationServiceGrpc;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.stub.MetadataUtils;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/** The same as plain.mjs: java -cp CLASSES Plain.java ADDRESS TOKEN SECONDS SERVICE_CONFIG */
public class Plain {
    @SuppressWarnings("unchecked")
    public static void main(String[] arguments) throws Exception {
        Map<String, ?> config = new Gson().fromJson(Files.readString(Path.of(arguments[3])), Map.class);
        var channel =
                ManagedChannelBuilder.forTarget(arguments[0])
                        .usePlaintext()
                        .defaultServiceConfig(config)
                        .enableRetry()
                        .build();
        var metadata = new Metadata();
        metadata.put(
                Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER),
                "Bearer " + arguments[1]);
        var stub =
                ConversationServiceGrpc.newFutureStub(channel)
                        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata));
        List<ListenableFuture<ChatResponse>> calls = new ArrayList<>();
        for (int number = 0; number < 50 * Integer.parseInt(arguments[2]); number++) {
            var request =
                    ChatRequest.newBuilder().setMessage("hello").setRequestId("java-" + number).build();
            calls.add(stub.withDeadlineAfter(15, TimeUnit.SECONDS).chat(request));
            Thread.sleep(20);
        }
        Map<String, Integer> ends = new TreeMap<>();
        for (var call : calls) {
            String end = "OK";
            try {
                call.get();
            } catch (ExecutionException error) {
                end = Status.fromThrowable(error.getCause()).getCode().name();
            }
            ends.merge(end, 1, Integer::sum);
        }
        System.out.println(new Gson().toJson(ends));
        channel.shutdownNow();
    }
}

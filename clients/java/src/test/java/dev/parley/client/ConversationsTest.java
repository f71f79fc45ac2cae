package dev.parley.client;

import static dev.parley.client.support.Messages.aConversation;
import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.FieldMask;
import com.google.protobuf.Message;
import com.google.protobuf.Timestamp;
import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.v1.CreateConversationRequest;
import dev.parley.v1.CreateConversationResponse;
import dev.parley.v1.DeleteConversationRequest;
import dev.parley.v1.DeleteConversationResponse;
import dev.parley.v1.GetConversationRequest;
import dev.parley.v1.GetConversationResponse;
import dev.parley.v1.ListConversationsRequest;
import dev.parley.v1.ListConversationsResponse;
import dev.parley.v1.UndeleteConversationRequest;
import dev.parley.v1.UndeleteConversationResponse;
import dev.parley.v1.UpdateConversationRequest;
import dev.parley.v1.UpdateConversationResponse;
import io.grpc.Status;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The life of a conversation: what is sent, what comes back, and what a lost try changes. */
class ConversationsTest {

    private static final Refusal LOST = Refusal.unavailable("STORE_UNAVAILABLE");
    private static final Refusal MISSING = Refusal.of(Status.Code.NOT_FOUND, "CONVERSATION_NOT_FOUND");
    private static final Refusal MISMATCH =
            Refusal.of(Status.Code.ABORTED, "REVISION_MISMATCH").metadata("revision", "7");
    private static final CreateConversationResponse CREATED =
            CreateConversationResponse.newBuilder().setConversation(aConversation("new")).setReplayed(true).build();
    private static final DeleteConversationResponse DELETED = DeleteConversationResponse.newBuilder()
            .setPurgeTime(Timestamp.newBuilder().setSeconds(1_800_000_000)).build();
    private static final String HALF = "half \ud800";

    private static ParleyClient clientOf(ScriptedServer server) {
        return ParleyClient.builder().address(server.address()).build();
    }

    private static List<Message> requests(ScriptedServer server) {
        return server.asked().stream().map(ScriptedServer.Asked::request).toList();
    }

    private static UpdateConversationRequest.Builder anUpdate(String... fields) {
        return UpdateConversationRequest.newBuilder()
                .setConversationId("c").setUpdateMask(FieldMask.newBuilder().addAllPaths(List.of(fields)));
    }

    @Test
    void aCreationSendsWhatItIsGiven() {
        try (var server = ScriptedServer.start(sends(CREATED)); var client = clientOf(server)) {
            var options = CreateOptions.defaults()
                    .conversationId("c").requestId("order-7").title("Order 7").instructions("Be brief.")
                    .labels(Map.of("gone", "")).labels(Map.of("team", "support", "vip", ""));
            assertEquals(CREATED, client.createConversation(options));
            var expected = CreateConversationRequest.newBuilder()
                    .setConversationId("c").setRequestId("order-7").setTitle("Order 7").setInstructions("Be brief.")
                    .putLabels("team", "support").putLabels("vip", "").build();
            assertEquals(List.of(expected), requests(server));
            long leftMs = server.asked().get(0).timeLeftMs();
            assertTrue(3_000 < leftMs && leftMs <= 10_001, leftMs + " ms");
        }
    }

    /** Fails when a try has an id of its own, or when not the first one alone tells proxies that it has one. */
    @Test
    void aCreationIsRetriedUnderOneRequestId() {
        try (var server = ScriptedServer.start(refuses(LOST), refuses(LOST), sends(CREATED));
                var client = clientOf(server)) {
            client.createConversation(CreateOptions.defaults());
            client.createConversation(CreateOptions.defaults());
            List<String> ids = requests(server).stream()
                    .map(each -> ((CreateConversationRequest) each).getRequestId()).toList();
            assertTrue(ids.get(0).matches("[0-9a-f-]{36}"), ids.get(0));
            assertEquals(Collections.nCopies(3, ids.get(0)), ids.subList(0, 3));
            assertEquals(2, Set.copyOf(ids).size());
            assertEquals(
                    List.of("safe", "null", "null", "safe"),
                    server.asked().stream().map(each -> each.header("parley-retry")).toList());
        }
    }

    @Test
    void aConversationThatIsThereIsNotCreated() {
        var exists = Refusal.of(Status.Code.ALREADY_EXISTS, "CONVERSATION_EXISTS").metadata("conversation_id", "c");
        try (var server = ScriptedServer.start(refuses(exists)); var client = clientOf(server)) {
            var error = assertThrows(
                    ParleyException.ConversationExists.class,
                    () -> client.createConversation(CreateOptions.defaults().conversationId("c").requestId("order-7")));
            assertEquals(List.of("c", "order-7"), List.of(error.conversationId(), error.requestId()));
            assertFalse(error.isRetryable());
        }
    }

    @Test
    void aConversationIsReadAndBroughtBack() {
        try (var server = ScriptedServer.start(
                        refuses(LOST),
                        sends(GetConversationResponse.newBuilder().setConversation(aConversation("read")).build()),
                        refuses(LOST),
                        sends(UndeleteConversationResponse.newBuilder().setConversation(aConversation("back")).build()),
                        refuses(MISSING));
                var client = clientOf(server)) {
            assertEquals(aConversation("read"), client.conversation("c"));
            assertEquals(aConversation("back"), client.undeleteConversation("c"));
            assertThrows(ParleyException.ConversationNotFound.class, () -> client.conversation("c"));
            var read = GetConversationRequest.newBuilder().setConversationId("c").build();
            var back = UndeleteConversationRequest.newBuilder().setConversationId("c").build();
            assertEquals(List.of(read, read, back, back, read), requests(server));
        }
    }

    record Change(UpdateOptions options, UpdateConversationRequest expected) {}

    static Stream<Change> changes() {
        UpdateOptions none = UpdateOptions.defaults();
        return Stream.of(
                new Change(none, UpdateConversationRequest.newBuilder().setConversationId("c").build()),
                new Change(none.title("new"), anUpdate("title").setTitle("new").build()),
                new Change(none.title("old").title(""), anUpdate("title").build()),
                new Change(none.instructions(""), anUpdate("instructions").build()),
                new Change(none.labels(Map.of()), anUpdate("labels").build()),
                new Change(
                        none.labels(Map.of("gone", "")).labels(Map.of("team", "a")).expectedRevision(3),
                        anUpdate("labels").putLabels("team", "a").setExpectedRevision(3).build()),
                new Change(
                        none.title("new").labels(Map.of()).instructions("Be brief."),
                        anUpdate("title", "labels", "instructions")
                                .setTitle("new").setInstructions("Be brief.").build()));
    }

    /** Fails when an empty value is taken for one that is not given, or the other way round. */
    @ParameterizedTest
    @MethodSource("changes")
    void anUpdateNamesWhatItIsGiven(Change change) {
        var response = UpdateConversationResponse.newBuilder().setConversation(aConversation("new")).build();
        try (var server = ScriptedServer.start(refuses(LOST), sends(response)); var client = clientOf(server)) {
            assertEquals(aConversation("new"), client.updateConversation("c", change.options()));
            assertEquals(Collections.nCopies(2, change.expected()), requests(server));
        }
    }

    @Test
    void anUpdateOfAnotherRevisionIsNotRetried() {
        try (var server = ScriptedServer.start(refuses(MISMATCH)); var client = clientOf(server)) {
            var error = assertThrows(
                    ParleyException.RevisionMismatch.class,
                    () -> client.updateConversation("c", UpdateOptions.defaults().title("x").expectedRevision(3)));
            assertEquals(7, error.revision());
            assertFalse(error.isRetryable());
            assertEquals(1, server.asked().size());
        }
    }

    @Test
    void aDeletionSaysUntilWhenItCanBeUndone() {
        try (var server = ScriptedServer.start(sends(DELETED)); var client = clientOf(server)) {
            assertEquals(DELETED, client.deleteConversation("c"));
            client.deleteConversation("c", DeleteOptions.defaults().allowMissing());
            var plain = DeleteConversationRequest.newBuilder().setConversationId("c");
            assertEquals(List.of(plain.build(), plain.setAllowMissing(true).build()), requests(server));
        }
    }

    /** Fails when the deletion that a lost try made is reported as that of a conversation that never was. */
    @Test
    void aDeletionThatALostTryMadeIsASuccess() {
        try (var server = ScriptedServer.start(refuses(LOST), refuses(LOST), refuses(MISSING));
                var client = clientOf(server)) {
            assertEquals(DeleteConversationResponse.getDefaultInstance(), client.deleteConversation("c"));
            assertEquals(3, server.asked().size());
        }
    }

    /** Fails when a first try, another call's loss, or another error counts. */
    @Test
    void aDeletionWithoutALostTryIsAnError() {
        try (var server = ScriptedServer.start(
                        refuses(MISSING), refuses(LOST), refuses(MISSING), refuses(MISSING),
                        refuses(LOST), refuses(MISMATCH), refuses(LOST), refuses(MISSING));
                var client = clientOf(server)) {
            assertThrows(ParleyException.ConversationNotFound.class, () -> client.deleteConversation("c"));
            client.deleteConversation("c"); // lost, and then not there
            assertThrows(ParleyException.ConversationNotFound.class, () -> client.deleteConversation("c"));
            assertThrows(ParleyException.RevisionMismatch.class, () -> client.deleteConversation("c"));
            assertThrows(ParleyException.ConversationNotFound.class, () -> client.undeleteConversation("c"));
        }
    }

    @Test
    void aListIsOfWhatHasTheLabelsAndIsRecent() {
        try (var server = ScriptedServer.start(
                        sends(ListConversationsResponse.newBuilder()
                                .addConversations(aConversation("one")).setNextPageToken("p2").build()),
                        sends(ListConversationsResponse.newBuilder().setNextPageToken("p3").build()),
                        sends(ListConversationsResponse.newBuilder().addConversations(aConversation("two")).build()));
                var client = clientOf(server)) {
            var options = ListOptions.defaults()
                    .labels(Map.of("gone", "")).labels(Map.of("vip", "", "team", "a=b", "app", "x"))
                    .updatedAfter(Instant.parse("2026-01-02T03:04:05.000006Z"));
            List<String> titles = new ArrayList<>();
            client.conversations(options).forEach(each -> titles.add(each.getTitle()));
            assertEquals(List.of("one", "two"), titles);
            var first = ListConversationsRequest.newBuilder()
                    .addLabels("app=x").addLabels("team=a=b").addLabels("vip=")
                    .setUpdatedAfter(Timestamp.newBuilder().setSeconds(1_767_323_045).setNanos(6_000));
            assertEquals(
                    List.of(first.build(), first.setPageToken("p2").build(), first.setPageToken("p3").build()),
                    requests(server));
        }
    }

    @Test
    void futuresEndWithTheSame() {
        try (var server = ScriptedServer.start(
                        sends(CREATED),
                        sends(GetConversationResponse.newBuilder().setConversation(aConversation("read")).build()),
                        sends(UpdateConversationResponse.newBuilder().setConversation(aConversation("new")).build()),
                        sends(DELETED),
                        refuses(LOST), refuses(MISSING),
                        sends(UndeleteConversationResponse.newBuilder().setConversation(aConversation("back")).build()),
                        refuses(MISSING));
                var client = AsyncParleyClient.builder().address(server.address()).build()) {
            assertEquals(CREATED, client.createConversation(CreateOptions.defaults()).join());
            assertEquals(aConversation("read"), client.conversation("c").join());
            UpdateOptions change = UpdateOptions.defaults().title("new");
            assertEquals(aConversation("new"), client.updateConversation("c", change).join());
            assertEquals(DELETED, client.deleteConversation("c").join());
            assertEquals(
                    DeleteConversationResponse.getDefaultInstance(),
                    client.deleteConversation("c", DeleteOptions.defaults()).join());
            assertEquals(aConversation("back"), client.undeleteConversation("c").join());
            CompletableFuture<?> missing = client.deleteConversation("c");
            var error = assertThrows(CompletionException.class, missing::join).getCause();
            assertEquals(ParleyException.ConversationNotFound.class, error.getClass());
        }
    }

    @Test
    void cancellingADeletionCancelsItsCall() throws InterruptedException {
        try (var server = ScriptedServer.start(sends().thenHangs());
                var client = AsyncParleyClient.builder().address(server.address()).build()) {
            var deleting = client.deleteConversation("c");
            while (server.asked().isEmpty()) {
                Thread.onSpinWait();
            }
            deleting.cancel(true);
            server.awaitCallerGone();
        }
    }

    @Test
    void whatCannotBeSentIsRefusedAtOnce() {
        CreateOptions create = CreateOptions.defaults();
        UpdateOptions update = UpdateOptions.defaults();
        assertThrows(IllegalArgumentException.class, () -> create.title(HALF));
        assertThrows(IllegalArgumentException.class, () -> create.instructions(HALF));
        assertThrows(IllegalArgumentException.class, () -> create.labels(Map.of("team", HALF)));
        assertThrows(IllegalArgumentException.class, () -> update.title(HALF));
        assertThrows(IllegalArgumentException.class, () -> update.instructions(HALF));
        assertThrows(IllegalArgumentException.class, () -> update.labels(Map.of(HALF, "")));
        assertThrows(IllegalArgumentException.class, () -> ListOptions.defaults().labels(Map.of("team", HALF)));
        assertThrows(IllegalArgumentException.class, () -> ListOptions.defaults().labels(Map.of("a=b", "c")));
    }
}

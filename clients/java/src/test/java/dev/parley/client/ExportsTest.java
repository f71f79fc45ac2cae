package dev.parley.client;

import static dev.parley.client.support.Messages.aConversation;
import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.client.support.ScriptedServer.Step;
import dev.parley.client.support.Wire;
import dev.parley.v1.ExportConversationsRequest;
import dev.parley.v1.ExportConversationsResponse;
import dev.parley.v1.ExportDone;
import dev.parley.v1.Message;
import io.grpc.Status;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Exporting what a caller has stored: every part once, whatever gets lost. */
class ExportsTest {

    private static final Refusal EXPIRED = Refusal.unavailable("WATCH_EXPIRED");
    private static final Refusal DRAINED = Refusal.unavailable("WORKER_DRAINED");
    private static final Refusal FULL = Refusal.of(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED").retryMs(10);
    private static final Refusal RESTED = Refusal.of(Status.Code.DEADLINE_EXCEEDED, "").retryMs(10);
    private static final Refusal WRONG = Refusal.of(Status.Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN");

    private static ParleyClient clientAt(String address) {
        return ParleyClient.builder().address(address).build();
    }

    private static ExportConversationsResponse aConversationPart(String cursor) {
        return ExportConversationsResponse.newBuilder()
                .setConversation(aConversation("c")).setCursor(cursor).setConversationId("c").build();
    }

    private static ExportConversationsResponse aMessagePart(String cursor) {
        return ExportConversationsResponse.newBuilder()
                .setMessage(Message.newBuilder().setContent("one")).setCursor(cursor).setConversationId("c").build();
    }

    private static ExportConversationsResponse theEnd() {
        return ExportConversationsResponse.newBuilder()
                .setDone(ExportDone.getDefaultInstance()).setCursor("end").build();
    }

    private static List<String> cursorsOf(List<ExportConversationsResponse> parts) {
        return parts.stream().map(ExportConversationsResponse::getCursor).toList();
    }

    private static List<String> askedFrom(ScriptedServer server) {
        return server.asked().stream()
                .map(each -> ((ExportConversationsRequest) each.request()).getCursor()).toList();
    }

    /** Fails when it goes on from anything but the last part delivered, or gives up while it comes further. */
    @Test
    void anExportBringsEveryPartOnceThroughLosses() {
        List<ParleyException> losses = Collections.synchronizedList(new ArrayList<>());
        List<ExportConversationsResponse> parts = new ArrayList<>();
        try (var server = ScriptedServer.start(
                        refuses(DRAINED),
                        sends(aConversationPart("c1"), aMessagePart("c2")).thenRefuses(EXPIRED),
                        refuses(FULL),
                        sends(aMessagePart("c3")), // cut short
                        sends(aConversationPart("c4")).thenRefuses(RESTED),
                        sends(aMessagePart("c5"), theEnd()));
                var client = clientAt(server.address());
                var export = client.exportConversations(
                        ExportOptions.defaults().cursor("c0").onRetry(losses::add))) {
            export.forEachRemaining(parts::add);
            assertEquals(List.of("c0", "c0", "c2", "c2", "c3", "c4"), askedFrom(server));
        }
        assertEquals(
                List.of(
                        aConversationPart("c1"), aMessagePart("c2"), aMessagePart("c3"), aConversationPart("c4"),
                        aMessagePart("c5"), theEnd()),
                parts);
        assertEquals(5, losses.size());
    }

    @Test
    void anExportGoesOnAfterACutConnection() throws IOException {
        List<ExportConversationsResponse> parts = new ArrayList<>();
        try (var server = ScriptedServer.start(
                        sends(aConversationPart("c1")).thenHangs(), sends(aMessagePart("c2"), theEnd()));
                var wire = new Wire(server.address());
                var client = clientAt(wire.address());
                var export = client.exportConversations()) {
            for (ExportConversationsResponse part : export) {
                parts.add(part);
                if (parts.size() == 1) {
                    wire.cut();
                }
            }
            assertEquals(List.of("", "c1"), askedFrom(server));
        }
        assertEquals(List.of("c1", "c2", "end"), cursorsOf(parts));
    }

    static Stream<Step> ends() {
        return Stream.of(sends(theEnd()), sends(theEnd()).thenRefuses(DRAINED));
    }

    /** Fails when what follows the last part is an error, and when it is asked for again. */
    @ParameterizedTest
    @MethodSource("ends")
    void anExportEndsWithItsLastPart(Step step) {
        try (var server = ScriptedServer.start(step);
                var client = clientAt(server.address());
                var export = client.exportConversations()) {
            assertEquals(theEnd(), export.next());
            assertFalse(export.hasNext());
            assertEquals(1, server.asked().size());
        }
    }

    @Test
    void anExportFromAnotherCursorIsAnError() {
        try (var server = ScriptedServer.start(
                        refuses(WRONG), sends(aMessagePart("c1")).thenRefuses(EXPIRED), refuses(WRONG));
                var client = clientAt(server.address())) {
            try (var export = client.exportConversations(ExportOptions.defaults().cursor("nonsense"))) {
                assertThrows(ParleyException.InvalidPageToken.class, export::hasNext);
            }
            try (var export = client.exportConversations()) {
                assertEquals(aMessagePart("c1"), export.next());
                assertThrows(ParleyException.InvalidPageToken.class, export::hasNext);
            }
        }
    }

    @Test
    void triesOfAnExportThatDoesNotBeginAreBounded() {
        try (var server = ScriptedServer.start(refuses(DRAINED));
                var client = clientAt(server.address());
                var export = client.exportConversations()) {
            assertThrows(ParleyException.WorkerDrained.class, export::hasNext);
            assertEquals(5, server.asked().size());
        }
    }

    @Test
    void closingAnExportEndsItsCall() throws InterruptedException {
        try (var server = ScriptedServer.start(sends(aMessagePart("c1")).thenHangs());
                var client = clientAt(server.address())) {
            try (var export = client.exportConversations()) {
                export.next();
            }
            server.awaitCallerGone();
        }
    }
}

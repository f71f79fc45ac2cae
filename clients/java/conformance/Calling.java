package dev.parley.conformance;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.ToNumberPolicy;
import com.google.gson.reflect.TypeToken;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import dev.parley.client.EventStream;
import dev.parley.client.ParleyClient;
import dev.parley.client.ParleyException;
import dev.parley.client.TurnStream;
import dev.parley.conformance.Runner.Step;
import dev.parley.v1.ExportConversationsResponse;
import dev.parley.v1.RehearseTurnResponse;
import dev.parley.v1.StreamChatResponse;
import dev.parley.v1.WatchConversationResponse;
import dev.parley.v1.WatchTurnsResponse;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;

/** One call of a scenario, made through the client library in a thread of its own, and what it comes to as JSON. */
final class Calling {

    private static final JsonFormat.Printer PRINTER = JsonFormat.printer().preservingProtoFieldNames();
    private static final Gson JSON =
            new GsonBuilder().setObjectToNumberStrategy(ToNumberPolicy.LONG_OR_DOUBLE).create();
    private static final Map<String, String> LISTS = Map.of(
            "message", "messages", "turn", "turns", "event", "events", "progress", "progress", "deleted", "deleted");
    private static final Map<String, String> PARTS =
            Map.of("conversation", "conversations", "message", "messages", "done", "done");

    private final ParleyClient client;
    private final Map<String, Integer> until;
    private final Arguments with;
    private final Map<String, Object> result = new LinkedHashMap<>();
    private final CompletableFuture<Void> begun = new CompletableFuture<>();
    private final CompletableFuture<Map<String, Object>> ended = new CompletableFuture<>();
    private Thread thread;

    private Calling(ParleyClient client, Map<String, Integer> until, Arguments with) {
        this.client = client;
        this.until = until;
        this.with = with;
    }

    static Calling start(ParleyClient client, Step step, Map<String, Object> with) {
        var calling = new Calling(client, step.until() == null ? Map.of() : step.until(), new Arguments(with));
        if (step.call().equals("chat") || step.call().equals("resume_turn")) { // they tell nothing before their end
            calling.begun.complete(null);
        }
        calling.thread = new Thread(() -> calling.run(step.call()));
        calling.thread.setDaemon(true);
        calling.thread.start();
        return calling;
    }

    /** Ends when the next step may begin. */
    CompletableFuture<Void> begun() {
        return begun;
    }

    /** Ends with the call. */
    CompletableFuture<Map<String, Object>> result() {
        return ended;
    }

    /** Ends the call if it still runs: whoever interrupts a thread cancels its call. */
    void close() {
        thread.interrupt();
    }

    private void run(String call) {
        try {
            make(call);
            ended.complete(result);
        } catch (ParleyException error) {
            result.put("error", told(error));
            ended.complete(result);
        } catch (RuntimeException defect) {
            ended.completeExceptionally(defect);
        } finally {
            begun.complete(null);
        }
    }

    private void make(String call) {
        switch (call) {
            case "chat" -> keep(client.chat(with.text("message"), with.chat()).response());
            case "start_turn" -> keep(client.startTurn(with.text("message"), with.chat()));
            case "stream" -> {
                try (TurnStream events = client.stream(with.text("message"), with.chat())) {
                    keepAll(events);
                }
            }
            case "resume_turn" -> keep(client.resumeTurn(with.turn(), with.results(), with.resume()).response());
            case "stream_resume_turn" -> {
                try (TurnStream events = client.streamResumeTurn(with.turn(), with.results(), with.resume())) {
                    keepAll(events);
                }
            }
            case "history" -> keepAll("messages", client.history(with.text("conversation_id"), with.history()));
            case "history_page" -> keep(client.historyPage(with.text("conversation_id"), with.history()));
            case "create_conversation" -> keep(client.createConversation(with.create()));
            case "conversation" -> keep(client.conversation(with.text("conversation_id")));
            case "update_conversation" ->
                keep(client.updateConversation(with.text("conversation_id"), with.update()));
            case "delete_conversation" ->
                keep(client.deleteConversation(with.text("conversation_id"), with.delete()));
            case "undelete_conversation" -> keep(client.undeleteConversation(with.text("conversation_id")));
            case "conversations" -> keepAll("conversations", client.conversations(with.list()));
            case "conversations_page" -> keep(client.conversationsPage(with.list()));
            case "append_messages" -> keep(
                    client.appendMessages(with.text("conversation_id"), with.messages(), with.append()));
            case "fork_conversation" -> keep(client.forkConversation(with.text("conversation_id"), with.fork()));
            case "export" -> {
                try (var parts = client.exportConversations(with.export())) {
                    keepParts(parts);
                }
            }
            case "erase_owner" -> keep(client.eraseOwner(with.text("request_id")));
            case "usage" -> keep(client.usage(with.usage()));
            case "turn" -> keep(client.turn(with.turn()));
            case "cancel_turn" -> keep(client.cancelTurn(with.turn()));
            case "list_agents" -> keep(client.listAgents());
            case "explain_turn" -> keep(client.explainTurn(with.turn()));
            case "rehearse_turn" -> {
                try (var events = client.rehearseTurn(with.turn(), with.rehearse())) {
                    keepRehearsal(events);
                }
            }
            case "watch" -> {
                try (var updates = client.watch(with.text("conversation_id"), with.watch())) {
                    keepUpdates(updates);
                }
            }
            case "watch_turns" -> {
                try (var updates = client.watchTurns(with.feed())) {
                    keepTurns(updates);
                }
            }
            default -> throw new IllegalArgumentException("this runner cannot call " + call);
        }
    }

    private void keep(Message message) {
        result.putAll(asJson(message));
    }

    private void keepAll(String name, Iterable<? extends Message> messages) {
        List<Object> list = list(name);
        messages.forEach(each -> list.add(asJson(each)));
    }

    private void keepAll(TurnStream stream) {
        List<Object> events = list("events");
        List<Object> started = list("started");
        List<Object> indexes = list("indexes");
        List<Object> attempts = list("attempts");
        result.put("text", "");
        for (StreamChatResponse event : stream) {
            events.add(asJson(event));
            if (event.hasStarted()) {
                started.add(asJson(event.getStarted()));
            }
            if (event.hasCompleted()) {
                result.put("completed", asJson(event.getCompleted()));
            }
            if (!event.hasIndex()) {
                continue;
            }
            result.merge("text", event.getChunk().getText(), (one, other) -> one + (String) other);
            indexes.add(event.getIndex());
            if (!attempts.contains((long) event.getAttempt())) {
                attempts.add((long) event.getAttempt());
            }
            begun.complete(null);
            if (until.getOrDefault("events", 0) == indexes.size()) {
                return;
            }
        }
    }

    private void keepRehearsal(EventStream<RehearseTurnResponse> stream) {
        List<Object> events = list("events");
        List<Object> toolCalls = list("tool_calls");
        result.put("text", "");
        for (RehearseTurnResponse event : stream) {
            Map<String, Object> came = asJson(event);
            events.add(came);
            if (event.hasStarted() || event.hasCompleted()) {
                result.putAll(came);
                continue;
            }
            if (event.hasToolCall()) {
                toolCalls.add(came.get("tool_call"));
            }
            result.merge("text", event.getChunk().getText(), (one, other) -> one + (String) other);
            if (until.getOrDefault("events", 0) == events.size() - 1) { // started does not count
                return;
            }
        }
    }

    private void keepTurns(EventStream<WatchTurnsResponse> updates) {
        List<Object> turns = list("turns");
        List<Object> cursors = list("cursors");
        List<Object> users = list("users");
        List<Object> progress = list("progress");
        for (WatchTurnsResponse update : updates) {
            if (update.hasTurn()) {
                turns.add(asJson(update.getTurn()));
                cursors.add(update.getCursor());
                users.add(update.getUser());
            } else {
                progress.add(update.getCursor());
                begun.complete(null);
            }
            if (isEnough()) {
                return;
            }
        }
    }

    private void keepUpdates(EventStream<WatchConversationResponse> updates) {
        LISTS.values().forEach(this::list);
        for (WatchConversationResponse update : updates) {
            asJson(update).forEach((kind, came) -> castList(result.get(LISTS.get(kind))).add(came));
            if (update.hasProgress()) {
                begun.complete(null);
            }
            if (isEnough()) {
                return;
            }
        }
    }

    private void keepParts(EventStream<ExportConversationsResponse> parts) {
        PARTS.values().forEach(this::list);
        List<Object> cursors = list("cursors");
        List<Object> ids = list("conversation_ids");
        for (ExportConversationsResponse part : parts) {
            Map<String, Object> came = asJson(part);
            PARTS.forEach((kind, list) -> {
                if (came.containsKey(kind)) {
                    castList(result.get(list)).add(came.get(kind));
                }
            });
            cursors.add(part.getCursor());
            ids.add(part.getConversationId());
        }
    }

    /** Whether as much has come as the step wants. */
    private boolean isEnough() {
        return until.entrySet().stream()
                .anyMatch(each -> castList(result.get(each.getKey())).size() == each.getValue());
    }

    private List<Object> list(String name) {
        List<Object> list = new ArrayList<>();
        result.put(name, list);
        return list;
    }

    @SuppressWarnings("unchecked")
    private static List<Object> castList(Object list) {
        return (List<Object>) list;
    }

    private static Map<String, Object> asJson(MessageOrBuilder message) {
        try {
            return JSON.fromJson(PRINTER.print(message), new TypeToken<Map<String, Object>>() {}.getType());
        } catch (InvalidProtocolBufferException defect) {
            throw new IllegalStateException(defect); // the contract has no field of any kind
        }
    }

    private static Map<String, Object> told(ParleyException error) {
        List<Object> violations = new ArrayList<>();
        error.violations().forEach(each -> violations.add(Map.of("field", each.field(), "reason", each.reason())));
        Map<String, Object> told = new LinkedHashMap<>();
        told.put("code", error.code().name());
        told.put("reason", error.reason());
        told.put("message", error.text());
        told.put("metadata", error.metadata());
        told.put("violations", violations);
        told.put("retry_after_s", error.retryAfter().map(each -> each.toMillis() / 1000.0).orElse(null));
        told.put("request_id", error.requestId());
        return told;
    }
}

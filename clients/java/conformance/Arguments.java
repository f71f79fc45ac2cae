package dev.parley.conformance;

import dev.parley.client.ChatOptions;
import dev.parley.client.CreateOptions;
import dev.parley.client.DeleteOptions;
import dev.parley.client.HistoryOptions;
import dev.parley.client.ListOptions;
import dev.parley.client.TurnKey;
import dev.parley.client.UpdateOptions;
import dev.parley.client.WatchOptions;
import dev.parley.v1.OnBusy;
import dev.parley.v1.OnDisconnect;
import dev.parley.v1.Order;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.BiFunction;

/** A step's arguments, as the client's options. What is not given is left to the client. */
record Arguments(Map<String, Object> given) {

    String text(String name) {
        return given.get(name) == null ? "" : String.valueOf(given.get(name));
    }

    ChatOptions chat() {
        ChatOptions options = ChatOptions.defaults();
        options = with(options, "conversation_id", (all, id) -> all.conversationId(id));
        options = with(options, "request_id", (all, id) -> all.requestId(id));
        options = with(options, "allow_missing", (all, is) -> is.equals("true") ? all.allowMissing() : all);
        options = with(options, "expected_sequence", (all, n) -> all.expectedSequence(Long.parseLong(n)));
        options = with(options, "on_busy", (all, word) -> all.onBusy(OnBusy.valueOf(upper("ON_BUSY", word))));
        options = with(options, "on_disconnect", (all, word) ->
                all.onDisconnect(OnDisconnect.valueOf(upper("ON_DISCONNECT", word))));
        options = with(options, "agent", (all, agent) -> all.agent(agent));
        return with(options, "timeout_s", (all, s) ->
                all.timeout(Duration.ofMillis((long) (1000 * Double.parseDouble(s)))));
    }

    HistoryOptions history() {
        HistoryOptions options = HistoryOptions.defaults();
        options = with(options, "order", (all, word) -> all.order(Order.valueOf(upper("ORDER", word))));
        options = with(options, "after_sequence", (all, n) -> all.afterSequence(Long.parseLong(n)));
        options = with(options, "min_sequence", (all, n) -> all.minSequence(Long.parseLong(n)));
        options = with(options, "page_size", (all, n) -> all.pageSize(Integer.parseInt(n)));
        return with(options, "page_token", (all, token) -> all.pageToken(token));
    }

    CreateOptions create() {
        CreateOptions options = CreateOptions.defaults();
        options = with(options, "conversation_id", (all, id) -> all.conversationId(id));
        options = with(options, "request_id", (all, id) -> all.requestId(id));
        options = with(options, "title", (all, title) -> all.title(title));
        options = with(options, "instructions", (all, text) -> all.instructions(text));
        return given.containsKey("labels") ? options.labels(labels()) : options;
    }

    /** A key that is there counts as given, whatever its value. */
    UpdateOptions update() {
        UpdateOptions options = UpdateOptions.defaults();
        options = with(options, "expected_revision", (all, n) -> all.expectedRevision(Long.parseLong(n)));
        options = given.containsKey("title") ? options.title(text("title")) : options;
        options = given.containsKey("instructions") ? options.instructions(text("instructions")) : options;
        return given.containsKey("labels") ? options.labels(labels()) : options;
    }

    DeleteOptions delete() {
        return with(DeleteOptions.defaults(), "allow_missing", (all, is) ->
                is.equals("true") ? all.allowMissing() : all);
    }

    ListOptions list() {
        ListOptions options = ListOptions.defaults();
        options = with(options, "updated_after", (all, time) -> all.updatedAfter(Instant.parse(time)));
        options = given.containsKey("labels") ? options.labels(labels()) : options;
        options = with(options, "page_size", (all, n) -> all.pageSize(Integer.parseInt(n)));
        return with(options, "page_token", (all, token) -> all.pageToken(token));
    }

    WatchOptions watch() {
        WatchOptions options = WatchOptions.defaults();
        options = with(options, "after_sequence", (all, n) -> all.afterSequence(Long.parseLong(n)));
        return with(options, "include_events", (all, is) -> is.equals("true") ? all.includeEvents() : all);
    }

    TurnKey turn() {
        return new TurnKey(text("request_id"), text("conversation_id"), text("turn_id"));
    }

    /** Labels as create and update have them, an object, or as lists do: "KEY=VALUE". */
    private Map<String, String> labels() {
        Map<String, String> labels = new HashMap<>();
        if (given.get("labels") instanceof Map<?, ?> map) {
            map.forEach((key, value) -> labels.put((String) key, String.valueOf(value)));
        }
        if (given.get("labels") instanceof List<?> list) {
            list.stream().map(each -> String.valueOf(each).split("=", 2)).forEach(each -> labels.put(each[0], each[1]));
        }
        return labels;
    }

    private <T> T with(T options, String name, BiFunction<T, String, T> change) {
        return given.get(name) == null ? options : change.apply(options, text(name));
    }

    private static String upper(String prefix, String word) {
        return prefix + "_" + word.toUpperCase(Locale.ROOT);
    }
}

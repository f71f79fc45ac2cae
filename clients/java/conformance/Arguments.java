package dev.parley.conformance;

import dev.parley.client.ChatOptions;
import dev.parley.client.HistoryOptions;
import dev.parley.client.ListOptions;
import dev.parley.client.TurnKey;
import dev.parley.client.WatchOptions;
import dev.parley.v1.OnBusy;
import dev.parley.v1.OnDisconnect;
import dev.parley.v1.Order;
import java.time.Duration;
import java.util.Locale;
import java.util.Map;
import java.util.function.BiFunction;

/** A step's arguments, as the client's options. What is not given is left to the client. */
record Arguments(Map<String, Object> given) {

    String text(String name) {
        return String.valueOf(given.getOrDefault(name, ""));
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

    ListOptions list() {
        ListOptions options = ListOptions.defaults();
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

    private <T> T with(T options, String name, BiFunction<T, String, T> change) {
        return given.get(name) == null ? options : change.apply(options, text(name));
    }

    private static String upper(String prefix, String word) {
        return prefix + "_" + word.toUpperCase(Locale.ROOT);
    }
}

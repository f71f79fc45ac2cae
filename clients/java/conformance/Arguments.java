package dev.parley.conformance;

import com.google.gson.Gson;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import dev.parley.client.AppendOptions;
import dev.parley.client.ChatOptions;
import dev.parley.client.CreateOptions;
import dev.parley.client.DeleteOptions;
import dev.parley.client.ExportOptions;
import dev.parley.client.FeedOptions;
import dev.parley.client.ForkOptions;
import dev.parley.client.HistoryOptions;
import dev.parley.client.ListOptions;
import dev.parley.client.RehearseOptions;
import dev.parley.client.ResumeOptions;
import dev.parley.client.TurnKey;
import dev.parley.client.UpdateOptions;
import dev.parley.client.UsageOptions;
import dev.parley.client.WatchOptions;
import dev.parley.v1.CallResult;
import dev.parley.v1.Message;
import dev.parley.v1.OnBusy;
import dev.parley.v1.OnDisconnect;
import dev.parley.v1.Order;
import dev.parley.v1.Tool;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.BiFunction;
import java.util.function.Function;
import java.util.function.Supplier;

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
        options = given.containsKey("tools") ? options.tools(all("tools", Tool::newBuilder, Tool.Builder::build)) : options;
        return with(options, "timeout_s", (all, s) -> all.timeout(seconds(s)));
    }

    ResumeOptions resume() {
        ResumeOptions options = ResumeOptions.defaults();
        options = with(options, "on_disconnect", (all, word) ->
                all.onDisconnect(OnDisconnect.valueOf(upper("ON_DISCONNECT", word))));
        return with(options, "timeout_s", (all, s) -> all.timeout(seconds(s)));
    }

    RehearseOptions rehearse() {
        RehearseOptions options = RehearseOptions.defaults();
        options = with(options, "agent", (all, agent) -> all.agent(agent));
        return with(options, "timeout_s", (all, s) -> all.timeout(seconds(s)));
    }

    /** What a turn is given. */
    List<CallResult> results() {
        return all("results", CallResult::newBuilder, CallResult.Builder::build);
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
        options = with(options, "agent", (all, agent) -> all.agent(agent));
        return given.containsKey("labels") ? options.labels(labels()) : options;
    }

    /** A key that is there counts as given, whatever its value. */
    UpdateOptions update() {
        UpdateOptions options = UpdateOptions.defaults();
        options = with(options, "expected_revision", (all, n) -> all.expectedRevision(Long.parseLong(n)));
        options = given.containsKey("title") ? options.title(text("title")) : options;
        options = given.containsKey("instructions") ? options.instructions(text("instructions")) : options;
        options = given.containsKey("agent") ? options.agent(text("agent")) : options;
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

    FeedOptions feed() {
        FeedOptions options = FeedOptions.defaults();
        options = with(options, "after_cursor", (all, cursor) -> all.afterCursor(cursor));
        options = with(options, "only_new", (all, is) -> is.equals("true") ? all.onlyNew() : all);
        options = with(options, "all_owners", (all, is) -> is.equals("true") ? all.allOwners() : all);
        return given.containsKey("labels") ? options.labels(labels()) : options;
    }

    AppendOptions append() {
        AppendOptions options = AppendOptions.defaults();
        options = with(options, "request_id", (all, id) -> all.requestId(id));
        options = with(options, "allow_missing", (all, is) -> is.equals("true") ? all.allowMissing() : all);
        options = with(options, "expected_sequence", (all, n) -> all.expectedSequence(Long.parseLong(n)));
        return with(options, "on_busy", (all, word) -> all.onBusy(OnBusy.valueOf(upper("ON_BUSY", word))));
    }

    ForkOptions fork() {
        ForkOptions options = ForkOptions.defaults();
        options = with(options, "new_conversation_id", (all, id) -> all.newConversationId(id));
        options = with(options, "request_id", (all, id) -> all.requestId(id));
        return with(options, "up_to_sequence", (all, n) -> all.upToSequence(Long.parseLong(n)));
    }

    ExportOptions export() {
        return with(ExportOptions.defaults(), "cursor", (all, cursor) -> all.cursor(cursor));
    }

    UsageOptions usage() {
        UsageOptions options = UsageOptions.defaults();
        options = with(options, "start_date", (all, day) -> all.startDate(day));
        options = with(options, "end_date", (all, day) -> all.endDate(day));
        options = with(options, "by_agent", (all, is) -> is.equals("true") ? all.byAgent() : all);
        options = with(options, "by_label", (all, key) -> all.byLabel(key));
        return given.containsKey("labels") ? options.labels(labels()) : options;
    }

    /** The messages to be added. */
    List<Message> messages() {
        return ((List<?>) given.get("messages")).stream().map(each -> message((Map<?, ?>) each)).toList();
    }

    /** Reads a message as the contract's JSON, but for the words of its enums. */
    private static Message message(Map<?, ?> given) {
        Map<Object, Object> spelled = new HashMap<>(given);
        spelled.computeIfPresent("role", (name, word) -> upper("ROLE", (String) word));
        spelled.computeIfPresent("finish_reason", (name, word) -> upper("FINISH_REASON", (String) word));
        return filled(Message.newBuilder(), spelled).build();
    }

    /** Reads a list of messages as the contract's JSON. */
    private <B extends com.google.protobuf.Message.Builder, M> List<M> all(
            String name, Supplier<B> builder, Function<B, M> build) {
        return ((List<?>) given.get(name)).stream().map(each -> build.apply(filled(builder.get(), each))).toList();
    }

    private static <B extends com.google.protobuf.Message.Builder> B filled(B builder, Object given) {
        try {
            JsonFormat.parser().merge(new Gson().toJson(given), builder);
        } catch (InvalidProtocolBufferException defect) {
            throw new IllegalStateException(defect); // the schema of the scenarios does not let this be
        }
        return builder;
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

    private static Duration seconds(String given) {
        return Duration.ofMillis((long) (1000 * Double.parseDouble(given)));
    }

    private static String upper(String prefix, String word) {
        return prefix + "_" + word.toUpperCase(Locale.ROOT);
    }
}

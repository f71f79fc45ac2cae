package dev.parley.client;

import dev.parley.v1.GetUsageRequest;
import java.time.LocalDate;
import java.util.Map;
import java.util.function.UnaryOperator;

/** Which usage is summed up, and how. Immutable: every method returns new options. */
public final class UsageOptions {

    private static final UsageOptions DEFAULTS = new UsageOptions(GetUsageRequest.getDefaultInstance());

    private final GetUsageRequest request;

    private UsageOptions(GetUsageRequest request) {
        this.request = request;
    }

    /** Of the last 30 days, a row for each. */
    public static UsageOptions defaults() {
        return DEFAULTS;
    }

    /** The first day, in UTC. Default: 30 days before the last one. */
    public UsageOptions startDate(LocalDate day) {
        return startDate(day.toString());
    }

    /** The first day, {@code 2026-11-28}, in UTC. */
    public UsageOptions startDate(String day) {
        return with(builder -> builder.setStartDate(day));
    }

    /** The last day, included, in UTC; at most 366 days after the first one. Default: today. */
    public UsageOptions endDate(LocalDate day) {
        return endDate(day.toString());
    }

    /** The last day, {@code 2026-11-28}, included, in UTC. */
    public UsageOptions endDate(String day) {
        return with(builder -> builder.setEndDate(day));
    }

    /** A row for each agent. Default: all agents together. */
    public UsageOptions byAgent() {
        return with(builder -> builder.setByAgent(true));
    }

    /** The key of a label: a row for each of its values. Default: all together. */
    public UsageOptions byLabel(String key) {
        return with(builder -> builder.setByLabel(key));
    }

    /**
     * Only conversations that had all of these labels, at most 16; they replace those given before. Default: all
     * conversations.
     *
     * @throws IllegalArgumentException one cannot be sent
     */
    public UsageOptions labels(Map<String, String> labels) {
        return with(builder -> builder.clearLabels().addAllLabels(Texts.written(labels)));
    }

    GetUsageRequest request() {
        return request;
    }

    private UsageOptions with(UnaryOperator<GetUsageRequest.Builder> change) {
        return new UsageOptions(change.apply(request.toBuilder()).build());
    }
}

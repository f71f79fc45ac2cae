package dev.parley.client;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Which texts can be sent. protobuf-java would send a question mark in place of what UTF-8 cannot hold. */
final class Texts {

    private Texts() {}

    /**
     * Returns the text as it is.
     *
     * @param name what it is, for the error's text
     * @throws IllegalArgumentException UTF-8 cannot hold it
     */
    static String checked(String name, String text) {
        if (!StandardCharsets.UTF_8.newEncoder().canEncode(text)) {
            throw new IllegalArgumentException(
                    "the %s holds half of a surrogate pair, which UTF-8 cannot hold".formatted(name));
        }
        return text;
    }

    /** Returns the labels as they are; throws as {@link #checked(String, String)} does. */
    static Map<String, String> checked(Map<String, String> labels) {
        labels.forEach((key, value) -> {
            checked("key of a label", key);
            checked("value of a label", value);
        });
        return labels;
    }

    /**
     * Returns labels as lists ask for them, {@code KEY=VALUE}. They are sorted, because a page token holds for one
     * request: maps of the JDK's change their order with each start.
     *
     * @throws IllegalArgumentException one cannot be sent
     */
    static List<String> written(Map<String, String> labels) {
        return new TreeMap<>(checked(labels))
                .entrySet().stream().map(each -> written(each.getKey(), each.getValue())).toList();
    }

    private static String written(String key, String value) {
        if (key.contains("=")) {
            throw new IllegalArgumentException("a label's key has no =, which would end it: " + key);
        }
        return key + "=" + value;
    }
}

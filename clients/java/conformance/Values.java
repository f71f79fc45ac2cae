package dev.parley.conformance;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.function.BiPredicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/** What a scenario says of values: variables, paths, and what a result is compared with. */
final class Values {

    private static final Pattern VARIABLE = Pattern.compile("\\$\\{([^}]+)\\}");
    private static final Pattern DIGITS = Pattern.compile("-?[0-9]+");
    private static final int SHOWN = 300;
    private static final Gson JSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

    private static final Map<String, BiPredicate<Object, Object>> MATCHERS = Map.of(
            "not", (found, wanted) -> !areEqual(found, wanted),
            "one_of", (found, wanted) -> listOf(wanted).stream().anyMatch(each -> areEqual(found, each)),
            "present", (found, wanted) -> isNothing(found) != (Boolean) wanted,
            "matches", (found, wanted) -> Pattern.compile((String) wanted).matcher(textOf(found)).find(),
            "length", (found, wanted) -> listOf(found).size() == ((Number) wanted).intValue(),
            "same_items", (found, wanted) -> sorted(found).equals(sorted(wanted)),
            "counts_from", (found, wanted) -> IntStream.range(0, listOf(found).size())
                    .allMatch(n -> areEqual(listOf(found).get(n), ((Number) wanted).longValue() + n)),
            "prefix_of", (found, wanted) -> textOf(wanted).startsWith(textOf(found)));

    private final Map<String, Object> known = new HashMap<>();
    private final Map<String, String> ids = new HashMap<>();

    /** Makes a scenario's variables from its {@code let}. */
    Values(Map<String, Object> texts) {
        texts.forEach((name, given) -> known.put(name, given instanceof Map<?, ?> repeated
                ? textOf(repeated.get("repeat")).repeat(((Number) repeated.get("times")).intValue())
                : given));
    }

    void set(String name, Object value) {
        known.put(name, value);
    }

    /** Returns a step's arguments or expectations with their variables put in. */
    @SuppressWarnings("unchecked")
    Map<String, Object> resolved(Map<String, Object> given) {
        return (Map<String, Object>) resolve(given);
    }

    private Object resolve(Object given) {
        if (given instanceof Map<?, ?> map) {
            Map<String, Object> resolved = new HashMap<>();
            map.forEach((name, value) -> resolved.put((String) name, resolve(value)));
            return resolved;
        }
        if (given instanceof List<?> list) {
            List<Object> resolved = new ArrayList<>();
            list.forEach(each -> resolved.add(resolve(each)));
            return resolved;
        }
        if (!(given instanceof String text)) {
            return given;
        }
        Matcher variable = VARIABLE.matcher(text);
        return variable.matches()
                ? value(variable.group(1))
                : variable.replaceAll(found -> Matcher.quoteReplacement(textOf(value(found.group(1)))));
    }

    private Object value(String path) {
        String[] parts = path.split("\\.", 2);
        String rest = parts.length == 1 ? "" : parts[1];
        if (parts[0].equals("id")) {
            return ids.computeIfAbsent(rest, name -> UUID.randomUUID().toString());
        }
        if (!known.containsKey(parts[0])) {
            throw new Playing.Failed("there is no ${" + parts[0] + "} yet");
        }
        return find(known.get(parts[0]), rest);
    }

    /** Returns what is at a path; null: nothing is. */
    private static Object find(Object value, String path) {
        if (path.isEmpty()) {
            return value;
        }
        String[] parts = path.split("\\.", 2);
        String rest = parts.length == 1 ? "" : parts[1];
        if (value instanceof Map<?, ?> map) {
            return find(map.get(parts[0]), rest);
        }
        if (!(value instanceof List<?> list)) {
            return null;
        }
        if (parts[0].equals("*")) {
            List<Object> found = new ArrayList<>();
            list.forEach(each -> found.add(find(each, rest)));
            return found;
        }
        int place = Integer.parseInt(parts[0]);
        int index = place < 0 ? place + list.size() : place;
        return 0 <= index && index < list.size() ? find(list.get(index), rest) : null;
    }

    /** Throws what a result has that is not as expected. */
    static void compare(Map<String, Object> result, Map<String, Object> expectations) {
        expectations.forEach((path, expected) -> {
            Object found = find(result, path);
            if (!fits(found, expected)) {
                throw new Playing.Failed(
                        "%s: expected %s, found %s".formatted(path, shortened(expected), shortened(found)));
            }
        });
    }

    private static boolean fits(Object found, Object expected) {
        if (expected instanceof Map<?, ?> map && map.size() == 1) {
            var only = map.entrySet().iterator().next();
            BiPredicate<Object, Object> matcher = MATCHERS.get(only.getKey());
            if (matcher != null) {
                return matcher.test(found, only.getValue());
            }
        }
        return areEqual(found, expected);
    }

    private static boolean areEqual(Object one, Object other) {
        if (isNumberAndDigits(one, other) || isNumberAndDigits(other, one)) {
            return textOf(one).equals(textOf(other)); // JSON has 64-bit numbers as text
        }
        if (isNothing(one) || isNothing(other)) {
            return isNothing(one) && isNothing(other);
        }
        if (one instanceof Number number && other instanceof Number another) {
            return number.doubleValue() == another.doubleValue();
        }
        if (one instanceof Map<?, ?> map && other instanceof Map<?, ?> another) {
            Set<Object> names = new HashSet<>(map.keySet());
            names.addAll(another.keySet());
            return names.stream().allMatch(name -> areEqual(map.get(name), another.get(name)));
        }
        if (one instanceof List<?> list && other instanceof List<?> another) {
            return list.size() == another.size()
                    && IntStream.range(0, list.size()).allMatch(n -> areEqual(list.get(n), another.get(n)));
        }
        return one.equals(other);
    }

    private static boolean isNumberAndDigits(Object number, Object text) {
        return number instanceof Number && text instanceof String digits && DIGITS.matcher(digits).matches();
    }

    private static boolean isNothing(Object value) {
        return value == null
                || value instanceof String text && (text.isEmpty() || text.endsWith("_UNSPECIFIED"))
                || value instanceof Number number && number.doubleValue() == 0
                || value instanceof Boolean is && !is
                || value instanceof List<?> list && list.isEmpty();
    }

    private static List<?> listOf(Object value) {
        return value instanceof List<?> list ? list : List.of(); // nothing is an empty list
    }

    private static List<String> sorted(Object value) {
        return listOf(value).stream().map(Values::textOf).sorted().toList();
    }

    private static String textOf(Object value) {
        return value == null ? "" : String.valueOf(value);
    }

    private static String shortened(Object value) {
        String text = JSON.toJson(value);
        return text.length() <= SHOWN ? text : "%s… (%d characters)".formatted(text.substring(0, SHOWN), text.length());
    }
}

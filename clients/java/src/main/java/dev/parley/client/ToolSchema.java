package dev.parley.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/** JSON Schemas of records, as far as they are sure, and whether arguments fit them. */
final class ToolSchema {

    private static final Set<Type> INTEGERS = Set.of(
            byte.class, short.class, int.class, long.class, Byte.class, Short.class, Integer.class, Long.class,
            BigInteger.class);
    private static final Set<Type> NUMBERS =
            Set.of(float.class, double.class, Float.class, Double.class, BigDecimal.class);
    private static final int DEEPEST = 16; // a type that is deeper contains itself

    private ToolSchema() {}

    /**
     * Derives the schema of a tool's arguments. It is the same text every time: it is part of what makes a request the
     * same.
     *
     * @throws IllegalArgumentException the type, or one within, has no sure schema
     */
    static JsonObject of(Class<?> arguments) {
        if (!arguments.isRecord()) {
            throw new IllegalArgumentException("a tool's arguments have to be a record: " + arguments.getName());
        }
        return of(arguments, 0);
    }

    private static JsonObject of(Type type, int depth) {
        if (depth > DEEPEST) {
            throw new IllegalArgumentException("a tool's arguments must not contain themselves: " + type.getTypeName());
        }
        if (type == boolean.class || type == Boolean.class) {
            return ofType("boolean");
        }
        if (INTEGERS.contains(type)) {
            return ofType("integer");
        }
        if (NUMBERS.contains(type)) {
            return ofType("number");
        }
        if (type == String.class) {
            return ofType("string");
        }
        if (type instanceof Class<?> kind && kind.isEnum()) {
            return ofEnum(kind);
        }
        if (type instanceof Class<?> kind && kind.isRecord()) {
            return ofRecord(kind, depth);
        }
        if (type instanceof ParameterizedType generic && generic.getRawType() == List.class) {
            JsonObject schema = ofType("array");
            schema.add("items", of(generic.getActualTypeArguments()[0], depth + 1));
            return schema;
        }
        if (type instanceof ParameterizedType generic && generic.getRawType() == Map.class
                && generic.getActualTypeArguments()[0] == String.class) {
            JsonObject schema = ofType("object");
            schema.add("additionalProperties", of(generic.getActualTypeArguments()[1], depth + 1));
            return schema;
        }
        throw new IllegalArgumentException("there is no schema for an argument of " + type.getTypeName()
                + ": use texts, numbers, booleans, enums, records, List, Map, or give the schema yourself");
    }

    private static JsonObject ofType(String name) {
        JsonObject schema = new JsonObject();
        schema.addProperty("type", name);
        return schema;
    }

    private static JsonObject ofEnum(Class<?> kind) {
        JsonObject schema = ofType("string");
        JsonArray names = new JsonArray();
        for (Object each : kind.getEnumConstants()) {
            names.add(((Enum<?>) each).name());
        }
        schema.add("enum", names);
        return schema;
    }

    private static JsonObject ofRecord(Class<?> kind, int depth) {
        JsonObject schema = ofType("object");
        JsonObject properties = new JsonObject();
        JsonArray required = new JsonArray();
        for (RecordComponent each : kind.getRecordComponents()) {
            JsonObject property = of(each.getGenericType(), depth + 1);
            ToolArgument told = each.getAnnotation(ToolArgument.class);
            if (told != null && !told.value().isEmpty()) {
                property.addProperty("description", told.value());
            }
            properties.add(each.getName(), property);
            if (told == null || !told.optional()) {
                required.add(each.getName());
            }
        }
        schema.add("properties", properties);
        schema.add("required", required);
        schema.addProperty("additionalProperties", false);
        return schema;
    }

    /** Returns what is wrong with a value, as text for the model. Empty: it fits. */
    static Optional<String> mismatch(JsonObject schema, JsonElement value, String path) {
        String type = schema.get("type").getAsString();
        boolean fits = switch (type) {
            case "boolean" -> value instanceof JsonPrimitive primitive && primitive.isBoolean();
            case "string" -> value instanceof JsonPrimitive primitive && primitive.isString()
                    && (!schema.has("enum") || schema.getAsJsonArray("enum").contains(primitive));
            case "number" -> value instanceof JsonPrimitive primitive && primitive.isNumber();
            case "integer" -> value instanceof JsonPrimitive primitive && primitive.isNumber()
                    && new BigDecimal(primitive.getAsString()).stripTrailingZeros().scale() <= 0;
            case "array" -> value.isJsonArray();
            default -> value.isJsonObject();
        };
        if (!fits) {
            if (path.isEmpty()) {
                return Optional.of("The arguments have to be an object.");
            }
            String wanted = schema.has("enum") ? "one of " + schema.get("enum") : "of type " + type;
            return Optional.of("%s has to be %s.".formatted(path, wanted));
        }
        if (value.isJsonArray()) {
            JsonObject items = schema.getAsJsonObject("items");
            return value.getAsJsonArray().asList().stream()
                    .flatMap(each -> mismatch(items, each, path + "[]").stream()).findFirst();
        }
        return value.isJsonObject() ? mismatch(schema, value.getAsJsonObject(), path) : Optional.empty();
    }

    private static Optional<String> mismatch(JsonObject schema, JsonObject value, String path) {
        JsonObject properties = schema.has("properties") ? schema.getAsJsonObject("properties") : new JsonObject();
        String before = path.isEmpty() ? "" : path + ".";
        Set<String> required = schema.has("required")
                ? Set.copyOf(schema.getAsJsonArray("required").asList().stream().map(JsonElement::getAsString).toList())
                : Set.of();
        for (String name : required) {
            if (!value.has(name) || value.get(name).isJsonNull()) {
                return Optional.of("%s%s is missing.".formatted(before, name));
            }
        }
        for (var each : value.entrySet()) {
            JsonElement of = properties.has(each.getKey())
                    ? properties.get(each.getKey()) : schema.get("additionalProperties");
            if (!of.isJsonObject()) {
                return Optional.of("There is no argument %s%s.".formatted(before, each.getKey()));
            }
            boolean isLeftOut = each.getValue().isJsonNull() && properties.has(each.getKey());
            Optional<String> wrong = isLeftOut
                    ? Optional.empty() : mismatch(of.getAsJsonObject(), each.getValue(), before + each.getKey());
            if (wrong.isPresent()) {
                return wrong;
            }
        }
        return Optional.empty();
    }
}

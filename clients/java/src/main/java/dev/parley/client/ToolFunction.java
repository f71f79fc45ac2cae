package dev.parley.client;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import dev.parley.v1.PendingCall;
import dev.parley.v1.Tool;

/**
 * A tool that this process runs; see {@link ParleyClient#runWithTools}.
 *
 * @param tool what the model is told
 * @param body what runs a call; its arguments are a JSON object as the model wrote it
 */
public record ToolFunction(Tool tool, Body<String> body) {

    private static final Gson JSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

    /**
     * What runs a call. It may be called by several threads at once.
     *
     * @param <A> its arguments
     */
    @FunctionalInterface
    public interface Body<A> {

        /**
         * Runs a call.
         *
         * @param call the call; what acts should use its {@code getCallKey()} as its idempotency key: a call that is
         *     repeated, such as after a crash, has the same one
         * @return the result: a text as it is, anything else as JSON
         * @throws Exception the tool failed: the model is told the text of a {@link ToolException}, and of any other the
         *     class
         */
        Object run(A arguments, PendingCall call) throws Exception;
    }

    /**
     * Makes a tool whose JSON Schema is derived from a record: every component is required unless its
     * {@link ToolArgument} says otherwise. Arguments that do not fit do not reach the body: the model is told what is wrong
     * with them.
     *
     * @throws IllegalArgumentException a component has a type for which there is no schema
     */
    public static <A extends Record> ToolFunction of(
            String name, String description, Class<A> arguments, Body<A> body) {
        JsonObject schema = ToolSchema.of(arguments);
        Tool tool = Tool.newBuilder()
                .setName(name).setDescription(description).setParametersSchema(schema.toString()).build();
        return new ToolFunction(tool, (text, call) -> body.run(read(schema, text, arguments), call));
    }

    private static <A> A read(JsonObject schema, String text, Class<A> arguments) {
        try {
            ToolSchema.mismatch(schema, JsonParser.parseString(text), "").ifPresent(wrong -> {
                throw new ToolException(wrong);
            });
            return JSON.fromJson(text, arguments); // of a tree, it would cut numbers that are too large
        } catch (JsonParseException | ArithmeticException | NumberFormatException wrong) { // such as a number too large
            throw new ToolException("The arguments do not fit the tool's schema.");
        }
    }

    /** Runs a call. Returns its result as text. */
    String run(PendingCall call) throws Exception {
        Object result = body.run(call.getArguments(), call);
        return result instanceof String text ? text : JSON.toJson(result);
    }
}

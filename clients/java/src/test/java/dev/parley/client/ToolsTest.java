package dev.parley.client;

import static dev.parley.client.support.Messages.anAnswer;
import static dev.parley.client.support.ScriptedServer.Step.refuses;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.parley.client.support.LiveServer;
import dev.parley.client.support.Refusal;
import dev.parley.client.support.ScriptedServer;
import dev.parley.v1.ChatRequest;
import dev.parley.v1.ChatResponse;
import dev.parley.v1.FinishReason;
import dev.parley.v1.OnDisconnect;
import dev.parley.v1.PendingCall;
import dev.parley.v1.PendingCallKind;
import dev.parley.v1.ResumeTurnRequest;
import dev.parley.v1.ResumeTurnResponse;
import dev.parley.v1.Tool;
import dev.parley.v1.ToolCall;
import io.grpc.Status;
import java.io.FileNotFoundException;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Tools that are functions of the caller's. */
class ToolsTest {

    record Place(@ToolArgument("The place.") String word) {}

    private static ParleyClient aClient() {
        String token = LiveServer.tokenOf(UUID.randomUUID().toString());
        return ParleyClient.builder().address(LiveServer.toolUser().address()).token(token).build();
    }

    private static ParleyClient clientOf(ScriptedServer server) {
        return ParleyClient.builder().address(server.address()).build();
    }

    private static ToolFunction telling(String name, ToolFunction.Body<Place> body) {
        return ToolFunction.of(name, "Tells something about a place.", Place.class, body);
    }

    private static List<String> results(Answer answer) {
        return answer.response().getToolCallsList().stream().map(ToolCall::getResult).toList();
    }

    @Test
    void functionsAreRunUntilThereIsAnAnswer() {
        var both = new CountDownLatch(2);
        var weather = telling("weather", (in, call) -> {
            both.countDown();
            both.await(); // the calls of one step run at the same time, or this never ends
            return in.word() + " is clear, says " + UUID.fromString(call.getCallKey()).version();
        });
        var count = telling("count", (in, call) -> Map.of("letters", in.word().length()));
        try (var parley = aClient()) {
            String message = "script\ncall weather:Turin weather:Rome\ntold\ncall count:Rome\ntold";
            Answer answer = parley.runWithTools(message, ChatOptions.defaults(), Tools.of(weather, count));
            assertEquals(
                    List.of("Turin is clear, says 5", "Rome is clear, says 5", "{\"letters\":4}"), results(answer));
        }
    }

    @Test
    void theModelIsToldNoTextOfAnException() {
        var told = new AtomicInteger();
        var tools = Tools.of(
                telling("broken", (in, call) -> {
                    throw new FileNotFoundException("/secret");
                }),
                telling("unknown_place", (in, call) -> {
                    throw new ToolException("Nobody knows " + in.word() + ".");
                }),
                telling("endless", (in, call) -> "x".repeat(65_537)),
                telling("half", (in, call) -> "\ud800")).onError((call, error) -> told.incrementAndGet());
        try (var parley = aClient()) {
            var options = ChatOptions.defaults().tools(List.of(Tool.newBuilder().setName("lost").build()));
            Answer answer = parley.runWithTools(
                    "script\ncall broken:x unknown_place:Atlantis endless:x half:x lost:x\ntold", options, tools);
            assertEquals(
                    List.of(
                            "The tool failed (FileNotFoundException).", "Nobody knows Atlantis.",
                            "The tool's result has 65537 bytes, and 65536 are the most.",
                            "The tool's result is not text.", "There is no tool \"lost\"."),
                    results(answer));
            assertTrue(answer.response().getToolCallsList().stream().allMatch(ToolCall::getIsError));
            assertEquals(4, told.get());
        }
    }

    @Test
    void approvalsAreAskedFor() {
        String message = "script\ncall send:hello send:insult\ntold";
        try (var parley = aClient()) {
            var asking = Tools.of().approve(call ->
                    call.getArguments().contains("hello") ? Decision.approve() : Decision.deny("be kind"));
            assertEquals(
                    List.of("hello is sent", "be kind"),
                    results(parley.runWithTools(message, ChatOptions.defaults(), asking)));
            assertEquals(
                    "Nobody can approve calls here.",
                    results(parley.runWithTools(message, ChatOptions.defaults(), Tools.of())).get(0));
        }
    }

    /**
     * Fails when an undecided approval keeps the results of its step from being given, or when a result that was given
     * is asked for again.
     */
    @Test
    void anotherRunGoesOnWithWhatIsPending() {
        var runs = new AtomicInteger();
        var tools = Tools.of(telling("weather", (in, call) -> {
            runs.incrementAndGet();
            return "clear";
        }));
        var undecided = new IllegalStateException("she is at lunch");
        String message = "script\ncall weather:Turin send:hello\ntold";
        var options = ChatOptions.defaults().requestId(UUID.randomUUID().toString());
        try (var parley = aClient()) {
            assertSame(undecided, assertThrows(IllegalStateException.class, () ->
                    parley.runWithTools(message, options, tools.approve(call -> {
                        throw undecided;
                    }))));
            Answer answer = parley.runWithTools(message, options, tools.approve(call -> Decision.approve()));
            assertEquals("clear\nhello is sent", answer.text());
            assertTrue(parley.runWithTools(message, options, tools).isReplayed());
            assertEquals(1, runs.get());
        }
    }

    private static ChatResponse waits(PendingCall... calls) {
        return ChatResponse.newBuilder()
                .setFinishReason(FinishReason.FINISH_REASON_ACTION_REQUIRED).addAllPendingCalls(List.of(calls)).build();
    }

    private static PendingCall aCall(String key, String arguments) {
        return PendingCall.newBuilder()
                .setCallKey(key).setName("weather").setArguments(arguments)
                .setKind(PendingCallKind.PENDING_CALL_KIND_RESULT).build();
    }

    /** Fails when a result that another run gave first ends this one, or when a function runs again for it. */
    @Test
    void aRunThatIsOvertakenGoesOn() {
        var given = Refusal.of(Status.Code.ALREADY_EXISTS, "RESULT_ALREADY_GIVEN");
        PendingCall broken = aCall("k1", "[]");
        PendingCall fine = aCall("k2", "{\"word\": \"Rome\"}");
        var runs = new AtomicInteger();
        var tools = Tools.of(telling("weather", (in, call) -> runs.incrementAndGet()));
        var options = ChatOptions.defaults().onDisconnect(OnDisconnect.ON_DISCONNECT_CONTINUE);
        try (var server = ScriptedServer.start(
                sends(waits(broken, fine)), refuses(given), sends(waits(fine)),
                sends(ResumeTurnResponse.newBuilder().setChat(anAnswer("clear")).build()));
                var client = clientOf(server)) {
            Answer answer = client.runWithTools("x", options, tools);
            assertEquals("clear", answer.text());
            assertEquals(1, runs.get());
            var first = (ResumeTurnRequest) server.asked().get(1).request();
            assertEquals(answer.requestId(), first.getRequestId());
            assertEquals(OnDisconnect.ON_DISCONNECT_CONTINUE, first.getOnDisconnect());
            assertEquals("The arguments have to be an object.", first.getResults(0).getError());
            assertEquals("1", first.getResults(1).getResult());
            var second = (ResumeTurnRequest) server.asked().get(3).request();
            assertEquals(first.getResultsList().subList(1, 2), second.getResultsList());
            assertEquals(server.asked().get(0).request(), server.asked().get(2).request());
            var sent = (ChatRequest) server.asked().get(0).request();
            assertEquals("weather", sent.getTools(0).getName());
        }
        var gone = Refusal.of(Status.Code.FAILED_PRECONDITION, "CALL_NOT_PENDING");
        try (var server = ScriptedServer.start(sends(waits(fine)), refuses(gone)); var client = clientOf(server)) {
            assertThrows(
                    ParleyException.CallNotPending.class, () -> client.runWithTools("x", options, tools));
        }
    }

    /** Fails when all are in one request: servers take 2 MiB. */
    @Test
    void largeResultsAreGivenInSeveralRequests() {
        var tools = Tools.of(telling("large", (in, call) -> "x".repeat(65_536)));
        try (var parley = aClient()) {
            String message = "script\ncall" + " large:x".repeat(33) + "\nsay done";
            Answer answer = parley.runWithTools(message, ChatOptions.defaults(), tools);
            // An answer has 1 MiB of calls.
            assertEquals(FinishReason.FINISH_REASON_LENGTH, answer.response().getFinishReason());
        }
    }

    @Test
    void interruptingARunInterruptsItsFunctionsAndGivesNothing() throws InterruptedException {
        var began = new CountDownLatch(1);
        var interrupted = new CountDownLatch(1);
        var tools = Tools.of(telling("weather", (in, call) -> {
            began.countDown();
            try {
                Thread.sleep(60_000);
            } catch (InterruptedException expected) {
                interrupted.countDown();
            }
            return "clear";
        }));
        try (var server = ScriptedServer.start(sends(waits(aCall("k", "{\"word\": \"\"}"))));
                var client = clientOf(server)) {
            var thread = new Thread(() ->
                    assertThrows(ParleyException.class, () -> client.runWithTools("x", ChatOptions.defaults(), tools)));
            thread.start();
            began.await();
            thread.interrupt();
            thread.join();
            interrupted.await();
            assertEquals(1, server.asked().size());
        }
    }

    enum Colour { RED, BLUE }

    record Line(String article, @ToolArgument(optional = true) double price) {}

    record Order(
            @ToolArgument("What is ordered.") List<Line> lines,
            @ToolArgument(optional = true) Map<String, Boolean> notes,
            int count,
            Colour colour) {}

    private static final ToolFunction ORDER = ToolFunction.of("order", "Orders.", Order.class, (in, call) -> in);

    @Test
    void theSchemaIsThatOfTheRecord() {
        assertEquals("""
                {"type":"object","properties":{"lines":{"type":"array","items":{"type":"object","properties":{\
                "article":{"type":"string"},"price":{"type":"number"}},"required":["article"],\
                "additionalProperties":false},"description":"What is ordered."},"notes":{"type":"object",\
                "additionalProperties":{"type":"boolean"}},"count":{"type":"integer"},\
                "colour":{"type":"string","enum":["RED","BLUE"]}},"required":["lines","count","colour"],\
                "additionalProperties":false}""", ORDER.tool().getParametersSchema());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            {"lines": [{"article": "pen"}], "count": 2.0, "colour": "RED"} | {"lines":[{"article":"pen","price":0.0}],"notes":null,"count":2,"colour":"RED"}
            {"lines": [], "count": 1, "colour": "RED", "notes": null}      | {"lines":[],"notes":null,"count":1,"colour":"RED"}
            {"lines": [], "count": 1}                                      | colour is missing.
            {"lines": [], "count": 1, "colour": null}                      | colour is missing.
            {"lines": [], "count": 1, "colour": "GREEN"}                   | colour has to be one of ["RED","BLUE"].
            {"lines": [], "count": 1.5, "colour": "RED"}                   | count has to be of type integer.
            {"lines": [], "count": "1", "colour": "RED"}                   | count has to be of type integer.
            {"lines": [], "count": 9999999999, "colour": "RED"}            | The arguments do not fit the tool's schema.
            {"lines": [{}], "count": 1, "colour": "RED"}                   | lines[].article is missing.
            {"lines": [7], "count": 1, "colour": "RED"}                    | lines[] has to be of type object.
            {"lines": [], "count": 1, "colour": "RED", "n": 1}             | There is no argument n.
            {"lines": [], "count": 1, "colour": "RED", "notes": {"a": 1}}  | notes.a has to be of type boolean.
            {"lines": [                                                    | The arguments do not fit the tool's schema.
            """, quoteCharacter = '`')
    void argumentsAreChecked(String arguments, String told) throws Exception {
        String result;
        try {
            result = ORDER.run(PendingCall.newBuilder().setArguments(arguments).build());
        } catch (ToolException wrong) {
            result = wrong.getMessage();
        }
        assertEquals(told, result);
    }

    record Endless(List<Endless> more) {}

    record Anything(Object any) {}

    @Test
    void toolsThatCannotBeAreRefusedAtOnce() {
        ToolFunction weather = telling("weather", (in, call) -> "clear");
        assertThrows(IllegalArgumentException.class, () -> Tools.of(weather, weather));
        assertThrows(
                IllegalArgumentException.class,
                () -> ToolFunction.of("f", "", Endless.class, (in, call) -> "never"));
        assertThrows(
                IllegalArgumentException.class,
                () -> ToolFunction.of("f", "", Anything.class, (in, call) -> "never"));
    }
}

/** A caller's tools as functions: what the model is told of them, and what happens when a process goes away. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PendingCall } from "../src/gen/parley/v1/conversation.js";
import {
  ActionRequired,
  CallNotPending,
  newRequestId,
  ParleyClient,
  ResultAlreadyGiven,
  ToolFailed,
  type ToolFunction,
} from "../src/index.js";
import { thrown } from "./support/collecting.js";
import { aToken, LiveServer } from "./support/live.js";
import { anAnswer, ScriptedServer } from "./support/scripted.js";

const ASKS_WEATHER = "script\ncall weather:Turin\ntold";
const WORD = { type: "object", properties: { word: { type: "string" } } };

/** Its agent calls the tools that a message names, with a word each, and says what it was told. */
let live: LiveServer;
before(async () => {
  const settings = { AGENT: "python:scripted_agent:agent" };
  live = await LiveServer.start(settings, "../conformance");
});
after(() => live[Symbol.asyncDispose]());

function callerOf(user: string): ParleyClient {
  return new ParleyClient({ address: live.address, token: aToken(user) });
}

function aTool(run: ToolFunction["run"]): ToolFunction {
  return { description: "A tool of these tests.", parametersSchema: WORD, run };
}

/** Something that is awaited until so many have come. */
function gateFor(count: number): () => Promise<void> {
  let come = 0;
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return () => {
    come += 1;
    if (come === count) open();
    return opened;
  };
}

/** Fails when the functions run one after another: each waits for the other one. */
test("the functions of one response run at the same time, those of the next after it", async () => {
  using client = callerOf("running");
  const both = gateFor(2);
  const run: string[] = [];
  const answer = await client.runWithTools(
    "script\ncall weather:Turin time:Rome\ntold\ncall weather:Oslo\ntold",
    {
      tools: {
        weather: aTool(async ({ word }: { word: string }) => {
          run.push(word);
          if (word === "Turin") await both();
          return { city: word, sky: "clear" };
        }),
        time: aTool(async ({ word }) => {
          run.push(word);
          await both();
          return `noon in ${word}`;
        }),
      },
    },
  );
  assert.deepEqual(run, ["Turin", "Rome", "Oslo"]);
  assert.deepEqual(
    answer.toolCalls.map(({ result, isError }) => [result, isError]),
    [
      ['{"city":"Turin","sky":"clear"}', false],
      ["noon in Rome", false],
      ['{"city":"Oslo","sky":"clear"}', false],
    ],
  );
  assert.match(answer.response, /noon in Rome/);
  assert.deepEqual([answer.finishReason, answer.pendingCalls], ["FINISH_REASON_STOP", []]);
});

/** Fails when the model is told an error's text. */
test("of a tool that throws, the model is told the error's name, or what was written for it", async () => {
  using client = callerOf("failing");
  const errors: [unknown, string][] = [];
  const answer = await client.runWithTools(
    "script\ncall secret:a failed:b endless:c nothing:d huge:e thrown:f nul:g\nsay Done.",
    {
      tools: {
        secret: aTool(() => {
          throw new RangeError("the password is 1234");
        }),
        failed: aTool(async () => {
          throw new ToolFailed("There is no such city.");
        }),
        endless: aTool(() => 1n),
        nothing: aTool(() => undefined),
        huge: aTool(() => "x".repeat(65_537)),
        thrown: aTool(() => Promise.reject("a secret")),
        nul: aTool(() => "a\0b"),
      },
      onToolError: (error, { name }) => errors.push([error, name]),
    },
  );
  assert.deepEqual(
    answer.toolCalls.map(({ result, isError }) => [result, isError]),
    [
      ["The tool failed: RangeError.", true],
      ["There is no such city.", true],
      ["The tool failed: TypeError.", true],
      ["", false],
      ["The tool ran, but its result is too long to be told.", true],
      ["The tool failed: string.", true],
      ["The tool ran, but its result has the character NUL.", true],
    ],
  );
  const named = new Map(errors.map(([error, name]) => [name, error]));
  assert.ok(named.get("secret") instanceof RangeError);
  assert.deepEqual([...named.keys()].sort(), [
    "endless",
    "failed",
    "huge",
    "nul",
    "secret",
    "thrown",
  ]);
});

test("the server's own tools run when they are approved, and not when they are denied", async () => {
  using client = callerOf("approving");
  const asked: [string, string][] = [];
  let isAsked = false;
  const answer = await client.runWithTools(
    "script\ncall send:one send:two weather:Ulm\nsay Done.",
    {
      tools: { weather: aTool(() => "clear") },
      approve: async ({ name, arguments: given }) => {
        assert.ok(!isAsked, "two questions at the same time");
        isAsked = true;
        await new Promise((next) => setTimeout(next, 50));
        isAsked = false;
        asked.push([name, given]);
        return given.includes("one") ? "approve" : { deny: "Two is too many." };
      },
    },
  );
  assert.deepEqual(asked, [
    ["send", '{"word": "one"}'],
    ["send", '{"word": "two"}'],
  ]);
  const told = answer.toolCalls.map(({ result, isError }) => [result, isError]);
  assert.deepEqual(told[0], ["one is sent", false]);
  assert.ok(told[1]?.[1] === true && /Two is too many/.test(`${told[1]?.[0]}`), `${told[1]}`);
  assert.deepEqual(told[2], ["clear", false]);
});

test("without anybody to approve it, a call is denied", async () => {
  using client = callerOf("nobody");
  const answer = await client.runWithTools("script\ncall send:one\nsay Done.", { tools: {} });
  const [call] = answer.toolCalls;
  assert.ok(call?.isError && /Nobody can approve/.test(call.result), `${call?.result}`);
});

/** Fails when a wrong answer of `approve` counts as an approval, or when the other results are lost with it. */
test("what approve throws ends the run, and the turn goes on waiting", async () => {
  using client = callerOf("undecided");
  const requestId = newRequestId();
  const message = "script\ncall send:one weather:Turin\ntold";
  let runs = 0;
  const weather = aTool(() => {
    runs += 1;
    return "clear";
  });
  const wrong = true as unknown as "approve";
  const run = (approve: () => "approve") =>
    client.runWithTools(message, { requestId, tools: { weather }, approve });
  await thrown(
    TypeError,
    run(() => wrong),
  );
  await thrown(
    RangeError,
    run(() => {
      throw new RangeError("closed");
    }),
  );
  const turn = await client.turn({ requestId });
  assert.deepEqual(
    [turn.state, turn.pendingCalls.map(({ name }) => name)],
    ["TURN_STATE_WAITING", ["send"]],
  );
  const answer = await run(() => "approve");
  assert.deepEqual([answer.toolCalls[0]?.result, runs], ["one is sent", 1]);
});

/** Fails when a result that was given is asked for again, or a call has another key in another process. */
test("another process goes on with what is pending, under the same keys", async () => {
  const requestId = newRequestId();
  const message = "script\ncall weather:Turin\ncall weather:Rome\ntold";
  const keys: [string, string][] = [];
  const dying = new AbortController();
  using first = callerOf("dying");
  const cut = first.runWithTools(message, {
    requestId,
    signal: dying.signal,
    tools: {
      weather: aTool(({ word }, { callKey }) => {
        keys.push([word, callKey]);
        if (word === "Turin") return "clear";
        dying.abort(new Error("the process dies"));
        return new Promise(() => {}); // and it is never heard of again
      }),
    },
  });
  assert.equal((await thrown(Error, cut)).message, "the process dies");

  using second = callerOf("dying");
  const answer = await second.runWithTools(message, {
    requestId,
    tools: {
      weather: aTool(({ word }, { callKey }) => {
        keys.push([word, callKey]);
        return "foggy";
      }),
    },
  });
  assert.deepEqual(
    keys.map(([word]) => word),
    ["Turin", "Rome", "Rome"],
  );
  assert.equal(keys[1]?.[1], keys[2]?.[1]);
  assert.notEqual(keys[0]?.[1], keys[1]?.[1]);
  assert.deepEqual(
    answer.toolCalls.map(({ result }) => result),
    ["clear", "foggy"],
  );
  assert.ok(
    (await second.runWithTools(message, { requestId, tools: { weather: NEVER } })).replayed,
  );
});

/** Fails when the results of a tool that its signal has stopped are given as failures. */
test("a tool that ends because of the signal gives no result", async () => {
  using client = callerOf("stopping");
  const requestId = newRequestId();
  const signal = AbortSignal.timeout(1_000);
  const weather = aTool(
    (_, call) =>
      new Promise((_resolve, reject) => {
        call.signal?.addEventListener("abort", () => reject(new Error("stopped")));
      }),
  );
  const run = client.runWithTools(ASKS_WEATHER, { requestId, signal, tools: { weather } });
  await assert.rejects(run, { name: "TimeoutError" });
  assert.equal((await client.turn({ requestId })).pendingCalls.length, 1);
});

/** Fails when the one whose result came second throws ResultAlreadyGiven. */
test("two processes run one turn, and both get its answer", async () => {
  using client = callerOf("twice");
  const requestId = newRequestId();
  const both = gateFor(2);
  const run = (result: string) =>
    client.runWithTools(ASKS_WEATHER, {
      requestId,
      tools: {
        weather: aTool(async () => {
          await both();
          return result;
        }),
      },
    });
  const [one, other] = await Promise.all([run("clear"), run("foggy")]);
  assert.equal(one.turnId, other.turnId);
  assert.deepEqual(one.toolCalls, other.toolCalls);
  assert.ok(["clear", "foggy"].includes(one.toolCalls[0]?.result ?? ""));
});

test("a turn that is cancelled while a tool runs ends with what was said so far", async () => {
  using client = callerOf("cancelling");
  const requestId = newRequestId();
  const answer = await client.runWithTools(`script\nsay Wait.\n${ASKS_WEATHER.slice(7)}`, {
    requestId,
    tools: {
      weather: aTool(async () => {
        await client.cancelTurn({ requestId });
        return "clear";
      }),
    },
  });
  assert.deepEqual([answer.finishReason, answer.response], ["FINISH_REASON_CANCELLED", "Wait."]);
});

test("other results, and results for other calls, are refused", async () => {
  using client = callerOf("refused");
  const requestId = newRequestId();
  const tools = [{ name: "weather", parametersSchema: WORD }];
  const waiting = await client.chat("script\ncall weather:a weather:b", { requestId, tools });
  assert.equal(waiting.finishReason, "FINISH_REASON_ACTION_REQUIRED");
  const [callKey = "", another = ""] = waiting.pendingCalls.map((call) => call.callKey);
  const rest = await client.resumeTurn({ requestId }, [{ callKey, result: "clear" }]);
  assert.deepEqual(
    rest.pendingCalls.map((call) => call.callKey),
    [another],
  );
  const again = client.resumeTurn({ requestId }, [{ callKey, result: "foggy" }]);
  const given = await thrown(ResultAlreadyGiven, again);
  assert.deepEqual([given.callKey, given.requestId], [callKey, requestId]);
  const unknown = newRequestId();
  const wrong = client.resumeTurn({ requestId }, [{ callKey: unknown, error: "none" }]);
  const refused = await thrown(CallNotPending, wrong);
  assert.deepEqual([refused.callKey, refused.isRetryable], [unknown, false]);
});

/** Fails when the text so far looks like a whole answer. */
test("a text whose turn waits ends with an error", async () => {
  using client = callerOf("reading");
  const tools = [{ name: "weather", parametersSchema: WORD }];
  const text = client.streamText("script\nsay Wait.\ncall weather:a\nsay Done.", { tools });
  const pieces: string[] = [];
  const reading = (async () => {
    for await (const piece of text) pieces.push(piece);
  })();
  const error = await thrown(ActionRequired, reading);
  assert.deepEqual([pieces.join(""), error.requestId], ["Wait.", text.requestId]);
  const turn = await client.turn({ requestId: text.requestId });
  assert.equal(turn.pendingCalls.length, 1);
});

test("a tool without a function is a TypeError, and nothing is called", async () => {
  using server = await ScriptedServer.start([{ answer: anAnswer() }]);
  using client = new ParleyClient({ address: server.address });
  const tools = { weather: {} as ToolFunction };
  await thrown(TypeError, client.runWithTools("hello", { tools }));
  assert.equal(server.asked.length, 0);
});

/** Fails when all are given at once: the server would refuse so long a request, again and again. */
test("what does not fit into one request is given in several, each tool run once", async () => {
  const calls = Array.from({ length: 20 }, (_, n) => aPendingCall(`key-${n}`, "weather", "{}"));
  const given: string[] = [];
  // biome-ignore lint/suspicious/noExplicitAny: it is a ResumeTurnRequest
  const resumed = async ({ results }: any) => {
    given.push(...results.map(({ callKey }: { callKey: string }) => callKey));
    return {
      answer: { chat: waitingFor(calls.filter(({ callKey }) => !given.includes(callKey))) },
    };
  };
  using server = await ScriptedServer.start([
    { answer: waitingFor(calls) },
    resumed,
    async (request) => {
      await resumed(request);
      return { answer: { chat: anAnswer() } };
    },
  ]);
  using client = new ParleyClient({ address: server.address });
  let runs = 0;
  const weather = aTool(() => {
    runs += 1;
    return "x".repeat(60_000);
  });
  assert.equal((await client.runWithTools("hello", { tools: { weather } })).response, "HELLO");
  assert.deepEqual([runs, given.length, new Set(given).size], [20, 20, 20]);
});

test("arguments that are no JSON, and a tool that is not known, become failures", async () => {
  const calls = [aPendingCall("key-1", "weather", "{"), aPendingCall("key-2", "toString", "{}")];
  using server = await ScriptedServer.start([
    { answer: waitingFor(calls) },
    { answer: { chat: anAnswer() } },
  ]);
  using client = new ParleyClient({ address: server.address });
  await client.runWithTools("hello", { tools: { weather: NEVER } });
  assert.deepEqual(server.asked[1]?.request.results, [
    { callKey: "key-1", outcome: { $case: "error", value: "The arguments are no valid JSON." } },
    { callKey: "key-2", outcome: { $case: "error", value: "There is no tool toString." } },
  ]);
});

/** Fails when such a call is run as a tool, or the loop never ends. */
test("a turn that waits for what this client does not know is returned as it is", async () => {
  const newer = {
    ...aPendingCall("key-1", "weather", "{}"),
    kind: "PENDING_CALL_KIND_UNSPECIFIED",
  };
  using server = await ScriptedServer.start([{ answer: waitingFor([newer as PendingCall]) }]);
  using client = new ParleyClient({ address: server.address });
  const answer = await client.runWithTools("hello", { tools: { weather: NEVER } });
  assert.deepEqual([answer.pendingCalls.length, server.asked.length], [1, 1]);
});

/** Fails when the loop never ends: nothing has changed since the call was refused. */
test("a refusal that nothing explains is thrown", async () => {
  const waiting = { answer: waitingFor([aPendingCall("key-1", "weather", "{}")]) };
  const refuse = { code: "FAILED_PRECONDITION", reason: "CALL_NOT_PENDING" } as const;
  using server = await ScriptedServer.start([waiting, { refuse }, waiting]);
  using client = new ParleyClient({ address: server.address });
  const tools = { weather: aTool(() => "clear") };
  await thrown(CallNotPending, client.runWithTools("hello", { tools }));
});

const NEVER = aTool(() => assert.fail("it is not to be run"));

function aPendingCall(callKey: string, name: string, json: string): PendingCall {
  return PendingCall.fromPartial({
    callKey,
    name,
    arguments: json,
    kind: "PENDING_CALL_KIND_RESULT",
  });
}

function waitingFor(pendingCalls: PendingCall[]) {
  return { ...anAnswer(""), pendingCalls, finishReason: "FINISH_REASON_ACTION_REQUIRED" };
}

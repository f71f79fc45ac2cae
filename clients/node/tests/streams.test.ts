/** Answers as they come: attached again when lost, finished from `completed`. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  AgentRefused,
  AttemptLost,
  ConversationNotFound,
  InvalidRequest,
  newRequestId,
  ParleyClient,
  type ParleyError,
  StoreUnavailable,
  type TurnEvent,
  Unavailable,
} from "../src/index.js";
import { collected, thrown } from "./support/collecting.js";
import { aToken, LiveServer } from "./support/live.js";
import {
  chunk,
  completed,
  type Refusal,
  ScriptedServer,
  type Step,
  started,
} from "./support/scripted.js";
import { Wire } from "./support/wire.js";

const DRAINED: Refusal = { reason: "WORKER_DRAINED", retryMs: 10 };
const LONG = "one two three four five six seven eight nine ten. ".repeat(20).trim();

let live: LiveServer;
before(async () => {
  live = await LiveServer.start({ AGENT: "echo:1" });
});
after(() => live[Symbol.asyncDispose]());

async function eventsOf(steps: Step[], options = {}): Promise<[TurnEvent[], ScriptedServer]> {
  using server = await ScriptedServer.start(steps);
  using client = new ParleyClient({ address: server.address });
  return [await collected(client.stream("hello", options)), server];
}

function textOf(events: TurnEvent[]): string {
  return events.map((event) => (event.type === "chunk" ? event.text : "")).join("");
}

test("a stream brings started, pieces, and last the answer", async () => {
  using client = new ParleyClient({ address: live.address, token: aToken() });
  const stream = client.stream(LONG);
  const events = await collected(stream);

  const [first] = events;
  const end = events.at(-1);
  assert.ok(first?.type === "started" && end?.type === "completed");
  assert.deepEqual([first.attempt, first.userSequence], [1, 1]);
  assert.equal(end.answer.response, LONG);
  assert.equal(end.answer.turnId, first.turnId);
  assert.equal(end.answer.requestId, stream.requestId);
  assert.ok(LONG.startsWith(textOf(events)));
  const again = await client.chat(LONG, { requestId: stream.requestId });
  assert.ok(again.replayed);
});

for (const how of ["reset", "end"] as const) {
  /** Fails when a lost stream is not asked for again, or under another request id. */
  test(`a stream whose connection is cut by a ${how} goes on with the same turn`, async () => {
    using wire = await Wire.to(Number(live.address.split(":")[1]));
    using client = new ParleyClient({ address: wire.address, token: aToken(how) });
    const losses: ParleyError[] = [];
    const onRetry = (error: ParleyError) => losses.push(error);
    const events: TurnEvent[] = [];
    for await (const event of client.stream(LONG, { onDisconnect: "continue", onRetry })) {
      if (events.length === 0) wire.cut(how);
      events.push(event);
    }
    const end = events.at(-1);
    assert.ok(end?.type === "completed");
    assert.deepEqual([end.answer.response, end.attempt], [LONG, 1]);
    assert.ok(losses.length >= 1 && losses.every((error) => error instanceof Unavailable));
    assert.equal((await collected(client.conversations())).length, 1);
  });

  test(`a chat whose connection is cut by a ${how} gets its turn's answer`, async () => {
    using wire = await Wire.to(Number(live.address.split(":")[1]));
    using client = new ParleyClient({ address: wire.address, token: aToken(`chat-${how}`) });
    const requestId = newRequestId();
    const chatting = client.chat("hello", { requestId });
    using direct = new ParleyClient({ address: live.address, token: aToken(`chat-${how}`) });
    for (;;) {
      const listed = await direct.conversationsPage();
      if (listed.conversations.length > 0) break;
    }
    wire.cut(how);
    assert.equal((await chatting).response, "hello");
    assert.equal((await direct.turn({ requestId })).userSequence, 1);
  });
}

test("a lost stream is asked for behind the last piece seen", async () => {
  const [events, server] = await eventsOf([
    { events: [started(), chunk("one ", 0), chunk("two ", 1)], last: DRAINED },
    { refuse: DRAINED },
    { events: [started(), chunk("three", 2), completed("one two three", 1)] },
  ]);
  const asked = server.asked.map(({ request }) => [request.afterAttempt, request.afterIndex]);
  assert.deepEqual(asked, [
    [0, undefined],
    [1, 1],
    [1, 1],
  ]);
  assert.equal(new Set(server.asked.map(({ request }) => request.chat.requestId)).size, 1);
  assert.equal(textOf(events), "one two three");
});

test("the answer is taken from completed", async () => {
  const [events] = await eventsOf([{ events: [started(), completed("whole", 1)] }]);
  const end = events.at(-1);
  assert.ok(end?.type === "completed");
  assert.equal(end.answer.response, "whole");
});

test("an error after completed changes nothing", async () => {
  const [events, server] = await eventsOf([{ events: [completed("whole", 1)], last: DRAINED }]);
  assert.deepEqual([events.length, server.asked.length], [1, 1]);
});

test("a tool call comes with its result", async () => {
  const toolCall = {
    id: "c1",
    name: "weather",
    arguments: '{"city": "Ulm"}',
    result: "12 °C",
    isError: false,
    step: 1,
  };
  const event = { $case: "toolCall", value: toolCall };
  const [events] = await eventsOf([
    { events: [{ attempt: 1, index: 0, event }, completed("", 1)] },
  ]);
  assert.deepEqual(events[0], { type: "toolCall", attempt: 1, index: 0, toolCall });
});

test("a stream that never begins is given up after five tries", async () => {
  using server = await ScriptedServer.start([{ refuse: { reason: "STORE_UNAVAILABLE" } }]);
  using client = new ParleyClient({ address: server.address });
  const losses: ParleyError[] = [];
  const stream = client.stream("x", { onRetry: (error) => losses.push(error) });
  const error = await thrown(StoreUnavailable, collected(stream));
  assert.deepEqual([server.asked.length, losses.length], [5, 4]);
  assert.equal(error.requestId, stream.requestId);
});

for (const refuse of [
  { code: "FAILED_PRECONDITION", reason: "AGENT_REFUSED" },
  { code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED" },
  { reason: "AGENT_UNAVAILABLE", pushback: "-1" },
] satisfies Refusal[]) {
  test(`a stream that is refused with ${refuse.reason} is not asked for again`, async () => {
    using server = await ScriptedServer.start([{ refuse }]);
    using client = new ParleyClient({ address: server.address });
    await assert.rejects(collected(client.stream("x")), { reason: refuse.reason });
    assert.equal(server.asked.length, 1);
  });
}

test("an error under way that time does not mend is thrown", async () => {
  const last: Refusal = { code: "FAILED_PRECONDITION", reason: "AGENT_REFUSED" };
  await assert.rejects(eventsOf([{ events: [started(), chunk("one", 0)], last }]), AgentRefused);
});

test("a stream of nothing is an error", async () => {
  using client = new ParleyClient({ address: live.address, token: aToken() });
  const conversationId = newRequestId();
  await assert.rejects(collected(client.stream("x", { conversationId })), ConversationNotFound);
  await assert.rejects(collected(client.stream(" ")), InvalidRequest);
});

test("leaving a stream cancels the call", async () => {
  using server = await ScriptedServer.start([{ events: [started(), chunk("one", 0)], open: true }]);
  using client = new ParleyClient({ address: server.address });
  for await (const event of client.stream("hello")) if (event.type === "chunk") break;
  await until(() => server.cancelled === 1);
});

test("a stream ends at its deadline", async () => {
  const options = { timeoutMs: 400 };
  await assert.rejects(eventsOf([{ events: [started()], open: true }], options), {
    name: "DeadlineExceeded",
  });
});

test("text alone comes once, the last piece included", async () => {
  using server = await ScriptedServer.start([
    { events: [started(), chunk("one ", 0)], last: DRAINED },
    { events: [started(), chunk("two ", 1), completed("one two three", 1)] },
  ]);
  using client = new ParleyClient({ address: server.address });
  const texts = await collected(client.streamText("hello", { requestId: "order-7" }));
  assert.deepEqual(texts, ["one ", "two ", "three"]);
});

/** Fails when the second attempt's text follows the first one's. */
test("text alone ends when the agent started over", async () => {
  const second = { events: [started(2), chunk("anew", 0, 2), completed("anew", 2)] };
  using server = await ScriptedServer.start([
    { events: [started(), chunk("first", 0)], last: DRAINED },
    second,
  ]);
  using client = new ParleyClient({ address: server.address });
  const texts = client.streamText("hello");
  const seen: string[] = [];
  const error = await thrown(
    AttemptLost,
    (async () => {
      for await (const text of texts) seen.push(text);
    })(),
  );
  assert.deepEqual(seen, ["first"]);
  assert.equal(error.requestId, texts.requestId);
});

test("a cancelled turn's stream gets what was said", async () => {
  using client = new ParleyClient({ address: live.address, token: aToken() });
  const stream = client.stream("hello");
  const events: TurnEvent[] = [];
  for await (const event of stream) {
    events.push(event);
    if (event.type === "started") {
      const { state } = await client.cancelTurn({ requestId: stream.requestId });
      assert.equal(state, "TURN_STATE_CANCELLED");
    }
  }
  const end = events.at(-1);
  assert.ok(end?.type === "completed");
  assert.equal(end.answer.finishReason, "FINISH_REASON_CANCELLED");
});

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((next) => setImmediate(next));
}

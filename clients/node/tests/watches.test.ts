/** Watching a conversation: every message once, whatever gets lost. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Message, Turn } from "../src/gen/parley/v1/conversation.js";
import {
  ConversationNotFound,
  newRequestId,
  ParleyClient,
  type ParleyError,
  ScopeMissing,
  type TurnState,
  type Update,
} from "../src/index.js";
import { collected, thrown } from "./support/collecting.js";
import { aToken, LiveServer } from "./support/live.js";
import { chunk, type Refusal, ScriptedServer, type Step } from "./support/scripted.js";
import { Wire } from "./support/wire.js";

const EXPIRED: Refusal = { reason: "WATCH_EXPIRED", retryMs: 10 };
const DRAINED: Refusal = { reason: "WORKER_DRAINED", retryMs: 10 };
const OVERLOADED: Refusal = { code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED", retryMs: 10 };
const GONE: Refusal = { code: "NOT_FOUND", reason: "CONVERSATION_NOT_FOUND" };
const STOP: Refusal = { code: "PERMISSION_DENIED", reason: "SCOPE_MISSING" };

let live: LiveServer;
before(async () => {
  live = await LiveServer.start();
});
after(() => live[Symbol.asyncDispose]());

const aMessage = (sequence: number) => ({
  update: { $case: "message", value: Message.fromPartial({ sequence }) },
});
const aTurn = (state: TurnState, attempt = 1) => ({
  update: { $case: "turn", value: Turn.fromPartial({ turnId: "t", state, attempt }) },
});
const anEvent = (index: number, attempt = 1) => ({
  update: { $case: "event", value: chunk(`${attempt}.${index}`, index, attempt) },
});
const progress = (lastSequence: number) => ({
  update: { $case: "progress", value: { lastSequence } },
});
const deleted = { update: { $case: "deleted", value: {} } };

/** Watch until the server refuses for good; return what came. */
async function taken(steps: Step[], options = {}): Promise<[Update[], ScriptedServer]> {
  using server = await ScriptedServer.start(steps);
  using client = new ParleyClient({ address: server.address });
  const updates: Update[] = [];
  try {
    for await (const update of client.watch("c", options)) updates.push(update);
  } catch (error) {
    assert.ok(error instanceof ScopeMissing, `${error}`);
    return [updates, server];
  }
  throw new Error("a watch has no end");
}

/** Fails when it goes on from anything but the last message delivered. */
test("a watch sees every message once through cuts", async () => {
  using direct = new ParleyClient({ address: live.address, token: aToken() });
  const { conversationId } = await direct.chat("m0");
  using wire = await Wire.to(Number(live.address.split(":")[1]));
  using client = new ParleyClient({ address: wire.address, token: aToken() });
  const losses: ParleyError[] = [];
  const sequences: number[] = [];
  const turns: string[] = [];
  for await (const update of client.watch(conversationId, { onRetry: (e) => losses.push(e) })) {
    if (update.type === "turn") turns.push(`${update.turn.turnId} ${update.turn.state}`);
    if (update.type !== "message") continue;
    sequences.push(update.message.sequence);
    if (sequences.length === 40) break;
    if (sequences.length % 8 === 0) wire.cut(sequences.length % 16 ? "reset" : "end");
    if (sequences.length % 2 === 0) await direct.chat("more", { conversationId });
  }
  assert.deepEqual(
    sequences,
    Array.from({ length: 40 }, (_, n) => n + 1),
  );
  assert.ok(losses.length >= 4, `${losses}`);
  assert.equal(new Set(turns).size, turns.length);
});

/** Fails when a watch gives up on a server that is away. */
test("a watch goes on when its server was stopped and is there again", async () => {
  await using server = await LiveServer.start();
  using client = new ParleyClient({ address: server.address, token: aToken() });
  const { conversationId } = await client.chat("before");
  const again = async () => {
    await server.end();
    await server.serve();
    // The watch's own channel may still be waiting before it connects again.
    using direct = new ParleyClient({ address: server.address, token: aToken() });
    await direct.chat("after", { conversationId });
  };
  let talking: Promise<void> | undefined;
  const texts: string[] = [];
  for await (const update of client.watch(conversationId)) {
    if (update.type === "progress") talking ??= again();
    if (update.type === "message") texts.push(update.message.content);
    if (texts.length === 4) break;
  }
  await talking;
  assert.deepEqual(texts, ["before", "before", "after", "after"]);
});

test("a watch goes on behind the last message", async () => {
  const steps: Step[] = [
    { events: [aMessage(5), aMessage(6), progress(6)], last: EXPIRED },
    { refuse: DRAINED },
    { refuse: OVERLOADED },
    { events: [progress(6), aMessage(7)], last: DRAINED },
    { refuse: STOP },
  ];
  const [updates, server] = await taken(steps, { afterSequence: 4, includeEvents: true });

  const asked = server.asked.map(({ request }) => request);
  assert.deepEqual(
    asked.map(({ afterSequence }) => afterSequence),
    [4, 6, 6, 6, 7],
  );
  assert.ok(asked.every((one) => one.conversationId === "c" && one.includeEvents));
  const sequences = updates.flatMap((one) => (one.type === "message" ? one.message.sequence : []));
  assert.deepEqual(sequences, [5, 6, 7]);
});

/** A new call tells the open turn's state and its pieces from the first one again. */
test("a watch repeats no state and no piece", async () => {
  const running = aTurn("TURN_STATE_RUNNING");
  const retried = aTurn("TURN_STATE_RUNNING", 2);
  const [updates] = await taken([
    { events: [aMessage(1), running, anEvent(0), anEvent(1)], last: EXPIRED },
    { events: [running, anEvent(0), anEvent(1), anEvent(2)], last: DRAINED },
    { events: [retried, anEvent(0, 2)], last: DRAINED },
    { events: [retried, anEvent(0, 2), anEvent(1, 2)], last: STOP },
  ]);
  const pieces = updates.flatMap((one) =>
    one.type === "event" && one.event.type === "chunk" ? one.event.text : [],
  );
  assert.deepEqual(pieces, ["1.0", "1.1", "1.2", "2.0", "2.1"]);
  const attempts = updates.flatMap((one) => (one.type === "turn" ? one.turn.attempt : []));
  assert.deepEqual(attempts, [1, 2]);
});

/** Return the kinds of a watch's updates until it ends, and how often the server was asked. */
async function kinds(steps: Step[]): Promise<[string[], number]> {
  using server = await ScriptedServer.start(steps);
  using client = new ParleyClient({ address: server.address });
  const updates = await collected(client.watch("c"));
  return [updates.map((update) => update.type), server.asked.length];
}

test("a watch ends with the news that its conversation was deleted", async () => {
  const told = await kinds([{ events: [aMessage(1), progress(1), deleted], last: GONE }]);
  assert.deepEqual(told, [["message", "progress", "deleted"], 1]);
});

/** For a slow reader, grpc-js drops the update when the status behind it comes. */
test("a watch tells of the deletion when the status alone does", async () => {
  const expected = ["message", "progress", "deleted"];
  const told = await kinds([{ events: [aMessage(1), progress(1)], last: GONE }]);
  assert.deepEqual(told, [expected, 1]);
  const between = await kinds([
    { events: [aMessage(1), progress(1)], last: EXPIRED },
    { refuse: DRAINED },
    { refuse: GONE },
  ]);
  assert.deepEqual(between, [expected, 3]);
});

test("a watch that nothing has come of tells of no deletion", async () => {
  await assert.rejects(kinds([{ refuse: GONE }]), ConversationNotFound);
  await assert.rejects(kinds([{ refuse: DRAINED }, { refuse: GONE }]), ConversationNotFound);
});

/** Fails when only the next update tells that the server is gone: the call would wait for it for five minutes. */
test("a server that vanishes without a word is noticed", { timeout: 60_000 }, async () => {
  using server = await ScriptedServer.start([
    { events: [aMessage(1)], open: true },
    { events: [deleted] },
  ]);
  using wire = await Wire.to(server.port);
  using client = new ParleyClient({ address: wire.address });
  const began = performance.now();
  const kinds: string[] = [];
  for await (const update of client.watch("c")) {
    kinds.push(update.type);
    if (kinds.length === 1) wire.fallSilent();
  }
  assert.deepEqual(kinds, ["message", "deleted"]);
  assert.ok(performance.now() - began < 45_000);
});

/** Fails when a token that cannot be got for a moment ends what would have waited for a server. */
test("a watch under way waits for its token", async () => {
  using server = await ScriptedServer.start([
    { events: [aMessage(1), progress(1)], last: EXPIRED },
    { events: [deleted] },
  ]);
  const sealed = new Error("the vault is sealed");
  let asked = 0;
  const token = () => {
    asked += 1;
    if (asked === 2 || asked === 3) throw sealed;
    return "token";
  };
  using client = new ParleyClient({ address: server.address, token });
  const causes: unknown[] = [];
  const updates = await collected(client.watch("c", { onRetry: (e) => causes.push(e.cause) }));
  assert.deepEqual(
    updates.map(({ type }) => type),
    ["message", "progress", "deleted"],
  );
  assert.deepEqual(causes.slice(1), [sealed, sealed]);
  assert.equal(server.asked.length, 2);
});

test("a token function that fails at once, or for long, ends what asks for it", async () => {
  const sealed = new Error("the vault is sealed");
  let left = 0;
  const token = () => {
    left -= 1;
    if (left < 0) throw sealed;
    return "token";
  };
  using server = await ScriptedServer.start([{ events: [chunk("a", 0)], last: DRAINED }]);
  using client = new ParleyClient({ address: server.address, token });
  assert.equal(await thrown(Error, client.watch("c").next()), sealed);
  assert.equal(left, -1);
  left = 1;
  assert.equal(await thrown(Error, collected(client.stream("x", { timeoutMs: 1000 }))), sealed);
  assert.ok(left < -1);
});

test("a watch of nothing is an error", async () => {
  using client = new ParleyClient({ address: live.address, token: aToken() });
  await assert.rejects(client.watch(newRequestId()).next(), ConversationNotFound);
});

test("leaving a watch ends the call", async () => {
  using server = await ScriptedServer.start([{ events: [progress(0)], open: true }]);
  using client = new ParleyClient({ address: server.address });
  for await (const _ of client.watch("c")) break;
  while (server.cancelled === 0) await new Promise((next) => setImmediate(next));
});

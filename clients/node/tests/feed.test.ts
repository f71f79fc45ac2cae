/** Watching the feed of turns that ended: every end once, whatever gets lost. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Turn } from "../src/gen/parley/v1/conversation.js";
import { WatchTurnsResponse } from "../src/gen/parley/v1/conversation_service.js";
import {
  CursorExpired,
  type FeedUpdate,
  InvalidPageToken,
  ParleyClient,
  type ParleyError,
  ScopeMissing,
  WorkerDrained,
} from "../src/index.js";
import { collected, thrown } from "./support/collecting.js";
import { aToken, LiveServer } from "./support/live.js";
import { type Refusal, ScriptedServer, type Step } from "./support/scripted.js";
import { Wire } from "./support/wire.js";

const EXPIRED: Refusal = { reason: "WATCH_EXPIRED", retryMs: 10 };
const DRAINED: Refusal = { reason: "WORKER_DRAINED", retryMs: 10 };
const OVERLOADED: Refusal = { code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED", retryMs: 10 };
const RESTED: Refusal = { code: "DEADLINE_EXCEEDED", retryMs: 10 };
const STOP: Refusal = { code: "PERMISSION_DENIED", reason: "SCOPE_MISSING" };
const GONE: Refusal = {
  code: "FAILED_PRECONDITION",
  reason: "CURSOR_EXPIRED",
  metadata: { oldest_time: "2026-11-21T10:00:00.123456+00:00" },
};

let live: LiveServer;
before(async () => {
  live = await LiveServer.start();
});
after(() => live[Symbol.asyncDispose]());

function callerOf(user: string, claims = {}): ParleyClient {
  return new ParleyClient({ address: live.address, token: aToken(user, claims) });
}

const aTurn = (cursor: string, user = "") => {
  const value = Turn.fromPartial({ turnId: `turn of ${cursor}`, attempt: 1 });
  return WatchTurnsResponse.fromPartial({ cursor, user, update: { $case: "turn", value } });
};
const progress = (cursor: string) =>
  WatchTurnsResponse.fromPartial({ cursor, update: { $case: "progress", value: {} } });

/** Watch until the server refuses for good; return what came, and what the server was asked. */
async function taken(steps: Step[], options = {}) {
  using server = await ScriptedServer.start(steps);
  using client = new ParleyClient({ address: server.address });
  const updates: FeedUpdate[] = [];
  const watching = async () => {
    for await (const update of client.watchTurns(options)) updates.push(update);
  };
  await thrown(ScopeMissing, watching());
  return { updates, asked: server.asked.map(({ request }) => request) };
}

/** Watch until all is told that had ended; return the turns. */
async function ended(client: ParleyClient, options = {}): Promise<Turn[]> {
  const turns: Turn[] = [];
  for await (const update of client.watchTurns(options)) {
    if (update.type === "progress") break;
    turns.push(update.turn);
  }
  return turns;
}

test("the feed tells turns, whose they are, and how far it has come", async () => {
  const { updates } = await taken([{ events: [aTurn("c1", "ada"), progress("c2")], last: STOP }]);
  const turn = Turn.fromPartial({ turnId: "turn of c1", attempt: 1 });
  assert.deepEqual(updates, [
    { type: "turn", turn, user: "ada", cursor: "c1" },
    { type: "progress", cursor: "c2" },
  ]);
});

test("the feed is asked for as the options say", async () => {
  const labels = { team: "billing", "parley.dev/kind": "" };
  const given = { afterCursor: "c0", onlyNew: true, labels, allOwners: true };
  const { asked } = await taken([{ refuse: STOP }], given);
  const filters = ["team=billing", "parley.dev/kind="];
  assert.deepEqual(asked, [{ ...given, labels: filters }]);
  const plain = await taken([{ refuse: STOP }]);
  const nothing = { afterCursor: "", onlyNew: false, labels: [], allOwners: false };
  assert.deepEqual(plain.asked, [nothing]);
});

/** Fails when it goes on from anything but the last cursor delivered, progress included. */
test("the feed tells every end once through losses", async () => {
  const losses: ParleyError[] = [];
  const { updates, asked } = await taken(
    [
      { refuse: DRAINED },
      { events: [aTurn("c1"), aTurn("c2")], last: EXPIRED },
      { refuse: DRAINED },
      { refuse: OVERLOADED },
      { events: [aTurn("c3")] }, // cut short
      { events: [progress("c4")], last: RESTED },
      { events: [aTurn("c5")], last: DRAINED },
      { refuse: STOP },
    ],
    { afterCursor: "c0", labels: { a: "b" }, onRetry: (error: ParleyError) => losses.push(error) },
  );
  assert.deepEqual(
    updates.map(({ cursor }) => cursor),
    ["c1", "c2", "c3", "c4", "c5"],
  );
  assert.deepEqual(
    asked.map(({ afterCursor }) => afterCursor),
    ["c0", "c0", "c2", "c2", "c2", "c3", "c4", "c5"],
  );
  assert.ok(asked.every(({ labels }) => labels.length === 1));
  assert.equal(losses.length, 7);
});

/** Fails when an update that this client does not know is told, or its cursor is not kept. */
test("the feed goes on behind an update that is newer than this client", async () => {
  const { updates, asked } = await taken([
    { events: [WatchTurnsResponse.fromPartial({ cursor: "c1" })], last: EXPIRED },
    { refuse: STOP },
  ]);
  assert.deepEqual(updates, []);
  assert.deepEqual(
    asked.map(({ afterCursor }) => afterCursor),
    ["", "c1"],
  );
});

/** Fails when gRPC begins it again by itself: it knows no cursor, so that turns would be told twice. */
test("gRPC does not repeat a watch of the feed", async () => {
  const losses: ParleyError[] = [];
  const onRetry = (error: ParleyError) => losses.push(error);
  const { asked } = await taken([{ refuse: DRAINED }, { refuse: STOP }], { onRetry });
  assert.deepEqual([losses.length, asked.length], [1, 2]);
});

test("tries of a feed that does not begin are bounded", async () => {
  using server = await ScriptedServer.start([{ refuse: DRAINED }]);
  using client = new ParleyClient({ address: server.address });
  await thrown(WorkerDrained, collected(client.watchTurns()));
  assert.equal(server.asked.length, 5);
});

/** Fails when a watch begins anew behind its caller's back: turns would be missing without a word. */
test("an expired cursor is the caller's business, also in the midst of a watch", async () => {
  const midst: Step[] = [{ events: [aTurn("c1")], last: EXPIRED }, { refuse: GONE }];
  for (const steps of [[{ refuse: GONE }], midst]) {
    using server = await ScriptedServer.start(steps);
    using client = new ParleyClient({ address: server.address });
    const watching = collected(client.watchTurns({ afterCursor: "c0" }));
    const error = await thrown(CursorExpired, watching);
    assert.deepEqual([error.code, error.isRetryable], ["FAILED_PRECONDITION", false]);
    assert.deepEqual(error.oldestTime, new Date("2026-11-21T10:00:00.123Z"));
    assert.equal(server.asked.length, steps.length);
  }
  assert.equal(new CursorExpired("", { code: "FAILED_PRECONDITION" }).oldestTime, undefined);
});

test("leaving a watch of the feed ends the call, and so does its signal", async () => {
  using server = await ScriptedServer.start([{ events: [progress("c1")], open: true }]);
  using client = new ParleyClient({ address: server.address });
  for await (const _ of client.watchTurns()) break;
  while (server.cancelled < 1) await new Promise((next) => setImmediate(next));

  const controller = new AbortController();
  const { signal } = controller;
  const watching = async () => {
    for await (const _ of client.watchTurns({ signal })) controller.abort(new RangeError("enough"));
  };
  await thrown(RangeError, watching());
  while (server.cancelled < 2) await new Promise((next) => setImmediate(next));
});

test("the feed tells what ended before, and then what ends", async () => {
  using client = callerOf("reader");
  const before = await client.chat("before");
  let started: ReturnType<ParleyClient["startTurn"]> | undefined;
  const told: [string, string][] = [];
  for await (const update of client.watchTurns()) {
    if (update.type === "progress") started ??= client.startTurn("later");
    if (update.type === "turn") told.push([update.turn.turnId, update.turn.state]);
    if (told.length === 2) break;
  }
  const later = await started;
  assert.deepEqual(told, [
    [before.turnId, "TURN_STATE_COMPLETED"],
    [later?.turn.turnId, "TURN_STATE_COMPLETED"],
  ]);
});

test("only new turns are told where the caller asks for that", async () => {
  using client = callerOf("newcomer");
  await client.chat("old");
  let talking: ReturnType<ParleyClient["chat"]> | undefined;
  for await (const update of client.watchTurns({ onlyNew: true })) {
    if (update.type === "progress") talking ??= client.chat("new");
    if (update.type !== "turn") continue;
    assert.equal(update.turn.turnId, (await talking)?.turnId);
    return;
  }
});

test("the feed keeps to labels", async () => {
  using client = callerOf("labeller");
  await client.chat("without");
  const { conversation } = await client.createConversation({ labels: { case: "a=b" } });
  const { conversationId } = conversation;
  const { turnId } = await client.chat("with", { conversationId });
  const turns = await ended(client, { labels: { case: "a=b" } });
  assert.deepEqual(
    turns.map((turn) => turn.turnId),
    [turnId],
  );
});

test("the feed of all users needs its scope, and says whose a turn is", async () => {
  using writer = callerOf("writer", { tenant: "acme" });
  const { turnId } = await writer.chat("hello");
  using observer = callerOf("observer", { tenant: "acme", scope: "parley.observe" });
  for await (const update of observer.watchTurns({ allOwners: true })) {
    if (update.type !== "turn" || update.turn.turnId !== turnId) continue;
    assert.equal(update.user, "writer");
    break;
  }
  const error = await thrown(ScopeMissing, collected(writer.watchTurns({ allOwners: true })));
  assert.equal(error.scope, "parley.observe");
});

/** Fails when it goes on from anything but the last update taken: grpc-js drops what a reader has not taken. */
test("the feed tells every end once through cuts", async () => {
  using direct = callerOf("cut");
  const { conversationId } = await direct.chat("0");
  using wire = await Wire.to(Number(live.address.split(":")[1]));
  using client = new ParleyClient({ address: wire.address, token: aToken("cut") });
  const losses: ParleyError[] = [];
  const told: string[] = [];
  let cuts = 0;
  for await (const update of client.watchTurns({ onRetry: (error) => losses.push(error) })) {
    if (update.type !== "turn") continue;
    told.push(update.turn.turnId);
    if (losses.length === 6) break;
    for (const text of ["one", "two"]) await direct.startTurn(text, { conversationId });
    const isNoticed = losses.length === cuts; // what was on its way may come after a cut
    if (!isNoticed || told.length % 2) continue;
    wire.cut(cuts % 2 ? "reset" : "end");
    cuts += 1;
  }
  const all = (await ended(direct)).map(({ turnId }) => turnId);
  assert.deepEqual(told, all.slice(0, told.length));
  assert.equal(new Set(told).size, told.length);
  assert.ok(told.length > 10, `${told}`);
});

/** Fails when a watch gives up on a server that is away. */
test("the feed goes on when its server was stopped, and is not that of another database", async () => {
  await using server = await LiveServer.start();
  using client = new ParleyClient({ address: server.address, token: aToken("reader") });
  const first = await client.chat("before");
  const again = async () => {
    await server.end();
    await server.serve();
    // The watch's own channel may still be waiting before it connects again.
    using direct = new ParleyClient({ address: server.address, token: aToken("reader") });
    return await direct.startTurn("after");
  };
  let starting: ReturnType<typeof again> | undefined;
  const told: string[] = [];
  let afterCursor = "";
  const signal = AbortSignal.timeout(120_000);
  for await (const update of client.watchTurns({ signal })) {
    afterCursor = update.cursor;
    if (update.type === "progress") starting ??= again();
    if (update.type === "turn") told.push(update.turn.turnId);
    if (told.length === 2) break;
  }
  assert.deepEqual(told, [first.turnId, (await starting)?.turn.turnId]);

  using other = callerOf("reader");
  const error = await thrown(CursorExpired, collected(other.watchTurns({ afterCursor })));
  assert.ok(error.oldestTime && error.oldestTime.getTime() <= Date.now() + 60_000);
  using bob = callerOf("bob");
  await thrown(InvalidPageToken, collected(bob.watchTurns({ afterCursor })));
});

/** Exporting what a caller has stored: every part once, whatever gets lost. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ExportConversationsResponse } from "../src/gen/parley/v1/conversation_service.js";
import {
  type Exported,
  InvalidPageToken,
  ParleyClient,
  type ParleyError,
  WorkerDrained,
} from "../src/index.js";
import { ExportTries } from "../src/retries.js";
import { collected, thrown } from "./support/collecting.js";
import {
  aConversation,
  CONVERSATION_ID,
  type Refusal,
  ScriptedServer,
  type Step,
} from "./support/scripted.js";
import { Wire } from "./support/wire.js";

const EXPIRED: Refusal = { reason: "WATCH_EXPIRED", retryMs: 10 };
const DRAINED: Refusal = { reason: "WORKER_DRAINED", retryMs: 10 };
const OVERLOADED: Refusal = { code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED", retryMs: 10 };
const RESTED: Refusal = { code: "DEADLINE_EXCEEDED", retryMs: 10 };
const WRONG: Refusal = { code: "INVALID_ARGUMENT", reason: "INVALID_PAGE_TOKEN" };

type Item = NonNullable<ExportConversationsResponse["item"]>;

function part(cursor: string, item: Item, conversationId = CONVERSATION_ID): object {
  return ExportConversationsResponse.fromPartial({ cursor, item, conversationId });
}

const aConversationPart = (cursor: string) =>
  part(cursor, { $case: "conversation", value: aConversation() });
const aMessagePart = (cursor: string, content = "one") =>
  ExportConversationsResponse.fromPartial({
    cursor,
    conversationId: CONVERSATION_ID,
    item: { $case: "message", value: { content, sequence: 1 } },
  });
const theEnd = part("end", { $case: "done", value: {} }, "");

/** Export until the end; return the parts, and from which cursors the server was asked. */
async function exported(steps: Step[], options = {}): Promise<[Exported[], string[]]> {
  using server = await ScriptedServer.start(steps);
  using client = new ParleyClient({ address: server.address });
  const parts = await collected(client.exportConversations(options));
  return [parts, server.asked.map(({ request }) => request.cursor)];
}

test("an export brings conversations, their messages, and its end", async () => {
  const [parts] = await exported([
    { events: [aConversationPart("c1"), aMessagePart("c2"), theEnd] },
  ]);
  const [first, second, last] = parts;
  assert.deepEqual(first, {
    type: "conversation",
    conversation: aConversation(),
    cursor: "c1",
    conversationId: CONVERSATION_ID,
  });
  assert.ok(second?.type === "message");
  assert.deepEqual([second.message.content, second.conversationId], ["one", CONVERSATION_ID]);
  assert.deepEqual(last, { type: "done", cursor: "end", conversationId: "" });
});

/** Fails when an export goes on from anything but the last part delivered, or gives up while it comes further. */
test("an export brings every part once through losses", async () => {
  const losses: ParleyError[] = [];
  const [parts, from] = await exported(
    [
      { refuse: DRAINED },
      { events: [aConversationPart("c1"), aMessagePart("c2")], last: EXPIRED },
      { refuse: OVERLOADED },
      { events: [aMessagePart("c3")] }, // cut short
      { events: [aConversationPart("c4")], last: RESTED },
      { events: [aMessagePart("c5"), theEnd] },
    ],
    { cursor: "c0", onRetry: (error: ParleyError) => losses.push(error) },
  );
  assert.deepEqual(
    parts.map(({ cursor }) => cursor),
    ["c1", "c2", "c3", "c4", "c5", "end"],
  );
  assert.deepEqual(from, ["c0", "c0", "c2", "c2", "c3", "c4"]);
  assert.equal(losses.length, 5);
});

/** Fails when gRPC begins an export again by itself: it knows no cursor, so that parts would come twice. */
test("gRPC does not repeat an export", async () => {
  const losses: ParleyError[] = [];
  const onRetry = (error: ParleyError) => losses.push(error);
  const [, from] = await exported([{ refuse: DRAINED }, { events: [theEnd] }], { onRetry });
  assert.deepEqual([losses.length, from.length], [1, 2]);
});

/**
 * Fails when parts that the reader had not taken count as delivered: grpc-js drops them when the connection
 * breaks.
 */
test("an export goes on after a cut connection", async () => {
  const many = Array.from({ length: 50 }, (_, n) => aMessagePart(`${n}`));
  const rest = (request: object) => {
    const { cursor } = request as { cursor: string };
    return Promise.resolve({ events: [...many.slice(Number(cursor) + 1), theEnd] });
  };
  using server = await ScriptedServer.start([{ events: many, open: true }, rest]);
  using wire = await Wire.to(server.port);
  using client = new ParleyClient({ address: wire.address });
  const cursors: string[] = [];
  for await (const { cursor } of client.exportConversations()) {
    cursors.push(cursor);
    if (cursors.length === 3) wire.cut();
  }
  assert.deepEqual(cursors, [...many.map((_, n) => `${n}`), "end"]);
  assert.equal(server.asked.length, 2);
});

test("an export ends with its last part", async () => {
  for (const step of [{ events: [theEnd] }, { events: [theEnd], last: DRAINED }]) {
    const [parts, from] = await exported([step]);
    assert.deepEqual([parts.length, from.length], [1, 1]);
  }
});

test("an export from another cursor is an error", async () => {
  await thrown(InvalidPageToken, exported([{ refuse: WRONG }], { cursor: "nonsense" }));
  const later: Step[] = [{ events: [aMessagePart("c1")], last: EXPIRED }, { refuse: WRONG }];
  await thrown(InvalidPageToken, exported(later));
});

test("tries of an export that does not begin are bounded", async () => {
  using server = await ScriptedServer.start([{ refuse: DRAINED }]);
  using client = new ParleyClient({ address: server.address });
  await thrown(WorkerDrained, collected(client.exportConversations()));
  assert.equal(server.asked.length, 5);
});

/** Fails when an export of which no more comes has no end, as a watch has none. */
test("tries of an export are counted anew after each part", () => {
  const lost = new WorkerDrained("lost", { code: "UNAVAILABLE" });
  const tries = new ExportTries();
  for (const _ of [1, 2]) {
    tries.cameFurther();
    const pauses = Array.from({ length: 8 }, () => tries.pauseMs(lost));
    assert.equal(pauses.indexOf(undefined), 7);
  }
});

test("leaving an export ends the call", async () => {
  using server = await ScriptedServer.start([{ events: [aMessagePart("c1")], open: true }]);
  using client = new ParleyClient({ address: server.address });
  for await (const _ of client.exportConversations()) break;
  while (server.cancelled === 0) await new Promise((next) => setImmediate(next));
});

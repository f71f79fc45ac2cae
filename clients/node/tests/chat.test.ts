/** Turns and reads, through a real server on a real Postgres. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import {
  ConversationNotFound,
  InvalidPageToken,
  InvalidRequest,
  ParleyClient,
  ParleyError,
  RequestIdReused,
  ScopeMissing,
  SequenceMismatch,
  SequenceNotReached,
  TurnNotFound,
  Unauthenticated,
} from "../src/index.js";
import { collected, thrown } from "./support/collecting.js";
import { aToken, LiveServer } from "./support/live.js";

let server: LiveServer;
let parley: ParleyClient;

before(async () => {
  server = await LiveServer.start();
  parley = new ParleyClient({ address: server.address, token: aToken() });
});

after(async () => {
  parley.close();
  await server[Symbol.asyncDispose]();
});

test("chat goes on with the conversation", async () => {
  const first = await parley.chat("hello");
  const second = await parley.chat("more", { conversationId: first.conversationId });

  assert.equal(first.response, "hello");
  assert.equal(second.conversationId, first.conversationId);
  assert.equal(second.responseSequence, 4);
  assert.equal(second.finishReason, "FINISH_REASON_STOP");
  assert.deepEqual(second.context, { firstSequence: 1, messageCount: 3, omittedCount: 0 });
});

test("chat with the same request id is replayed, and shows the id", async () => {
  const requestId = randomUUID();
  const first = await parley.chat("hello", { requestId });
  const again = await parley.chat("hello", { requestId });

  assert.deepEqual(again, { ...first, replayed: true });
  assert.equal(again.requestId, requestId);
});

test("chat makes a request id that finds its turn", async () => {
  const answer = await parley.chat("hello");
  const turn = await parley.turn({ requestId: answer.requestId });

  assert.equal(turn.turnId, answer.turnId);
  assert.equal(turn.state, "TURN_STATE_COMPLETED");
  assert.ok(turn.createTime instanceof Date);
  const { conversationId, turnId } = answer;
  assert.deepEqual(await parley.turn({ conversationId, turnId }), turn);
});

test("chat creates a missing conversation when told to", async () => {
  const conversationId = randomUUID();
  const answer = await parley.chat("hello", { conversationId, allowMissing: true });
  assert.equal(answer.conversationId, conversationId);
});

test("history spans pages in both orders", async () => {
  const { conversationId } = await parley.chat("one");
  for (const text of ["two", "three"]) await parley.chat(text, { conversationId });

  const oldest = await collected(parley.history(conversationId, { pageSize: 2 }));
  const newest = await collected(
    parley.history(conversationId, { order: "newest_first", afterSequence: 1, pageSize: 2 }),
  );
  const texts = ["one", "one", "two", "two", "three", "three"];
  assert.deepEqual(
    oldest.map((message) => message.content),
    texts,
  );
  assert.deepEqual(
    newest.map((message) => message.sequence),
    [6, 5, 4, 3, 2],
  );
});

test("history page goes on where the last ended", async () => {
  const { conversationId } = await parley.chat("one");
  const first = await parley.historyPage(conversationId, { pageSize: 1 });
  const pageToken = first.nextPageToken;
  const second = await parley.historyPage(conversationId, { pageSize: 1, pageToken });

  assert.deepEqual(
    [first, second].map((page) => page.messages[0]?.content),
    ["one", "one"],
  );
  assert.equal(second.lastSequence, 2);
  await assert.rejects(parley.conversationsPage({ pageToken }), InvalidPageToken);
});

test("conversations span pages", async () => {
  using own = new ParleyClient({ address: server.address, token: aToken("lister") });
  const made: string[] = [];
  for (let n = 0; n < 5; n += 1) made.unshift((await own.chat(`number ${n}`)).conversationId);

  const listed = await collected(own.conversations({ pageSize: 2 }));
  const page = await own.conversationsPage({ pageSize: 3 });
  const ids = (found: { conversationId: string }[]) => found.map((one) => one.conversationId);
  assert.deepEqual(ids(listed), made);
  assert.deepEqual(ids(page.conversations), made.slice(0, 3));
});

test("errors of a real server are typed", async () => {
  const missing = randomUUID();
  const notFound = await thrown(
    ConversationNotFound,
    parley.chat("x", { conversationId: missing }),
  );
  assert.equal(notFound.conversationId, missing);
  assert.deepEqual([notFound.name, notFound.code], ["ConversationNotFound", "NOT_FOUND"]);
  assert.equal(notFound.reason, "CONVERSATION_NOT_FOUND");
  assert.ok(notFound instanceof ParleyError);

  const invalid = await thrown(InvalidRequest, parley.chat(" ", { conversationId: "nonsense" }));
  assert.deepEqual(
    invalid.violations.map((violation) => violation.field),
    ["conversation_id", "message"],
  );
  assert.equal(invalid.violations[0]?.reason, "NOT_A_UUID");

  const { conversationId, requestId } = await parley.chat("hello");
  const reused = await thrown(RequestIdReused, parley.chat("something else", { requestId }));
  assert.equal(reused.requestId, requestId);

  const options = { conversationId, expectedSequence: 7 };
  const mismatch = await thrown(SequenceMismatch, parley.chat("hello", options));
  assert.equal(mismatch.lastSequence, 2);

  const early = await thrown(
    SequenceNotReached,
    parley.historyPage(conversationId, { minSequence: 9 }),
  );
  assert.equal(early.lastSequence, 2);

  const lost = await thrown(TurnNotFound, parley.cancelTurn({ requestId: missing }));
  assert.equal(lost.requestId, missing);
});

test("a sequence of 0 is expected of a new conversation", async () => {
  const options = { conversationId: randomUUID(), allowMissing: true, expectedSequence: 0 };
  assert.equal((await parley.chat("first", options)).userSequence, 1);
  await assert.rejects(parley.chat("second", options), SequenceMismatch);
});

test("a caller without a good token is told", async () => {
  for (const token of [undefined, "nonsense", aToken("ada", { exp: 1 })]) {
    using client = new ParleyClient({ address: server.address, token });
    await assert.rejects(client.chat("hello"), Unauthenticated);
  }
  const token = aToken("reader", { scope: "parley.read" });
  using reader = new ParleyClient({ address: server.address, token });
  assert.deepEqual(await collected(reader.conversations()), []);
  const missing = await thrown(ScopeMissing, reader.chat("hello"));
  assert.equal(missing.scope, "parley.write");
});

/** Fails when the user is not named, or not percent-encoded. */
test("a backend acts for its users, on one channel", async () => {
  const scope = "parley.read parley.write parley.act";
  using backend = new ParleyClient({
    address: server.address,
    token: aToken("backend", { scope }),
  });
  const acting = backend.actingFor("Jürgen");
  const { conversationId } = await acting.chat("hello");
  acting.close();
  assert.equal((await collected(acting.history(conversationId))).length, 2);
  const events = await collected(acting.stream("more", { conversationId }));
  assert.equal(events.at(-1)?.type, "completed");

  using user = new ParleyClient({ address: server.address, token: aToken("Jürgen") });
  assert.equal((await collected(user.history(conversationId))).length, 4);
  await assert.rejects(collected(backend.history(conversationId)), ParleyError);
  const refused = await thrown(ScopeMissing, parley.actingFor("Jürgen").chat("hello"));
  assert.equal(refused.scope, "parley.act");
  await assert.rejects(backend.actingFor(" ").chat("hello"), InvalidRequest);
  assert.throws(() => backend.actingFor("\ud83d"), TypeError);
});

test("an answer can be written as JSON", async () => {
  const answer = await parley.chat("hello");
  assert.deepEqual(JSON.parse(JSON.stringify(answer)), {
    ...answer,
    usage: { ...answer.usage },
  });
});

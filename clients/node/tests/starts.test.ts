/** Turns that are stored at once and run without a caller: one for a request id, whatever gets lost. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Turn } from "../src/gen/parley/v1/conversation.js";
import {
  type Accepted,
  newRequestId,
  ParleyClient,
  ParleyError,
  QueueFull,
  RequestIdReused,
  StoreUnavailable,
  TurnSuperseded,
} from "../src/index.js";
import { collected, thrown } from "./support/collecting.js";
import { aToken, LiveServer } from "./support/live.js";
import { CONVERSATION_ID, type Refusal, ScriptedServer, TURN_ID } from "./support/scripted.js";

const STORE_UNAVAILABLE: Refusal = { reason: "STORE_UNAVAILABLE", retryMs: 10 };
const AN_ACCEPTANCE: Accepted = {
  turn: Turn.fromPartial({ turnId: TURN_ID, requestId: "order-7", state: "TURN_STATE_QUEUED" }),
  replayed: true,
};

let live: LiveServer;
/** Its turns take a minute, and an owner may have two. */
let slow: LiveServer;
before(async () => {
  live = await LiveServer.start();
  slow = await LiveServer.start({ AGENT: "echo:60", MAX_QUEUED_TURNS: "2" });
});
after(async () => {
  await live[Symbol.asyncDispose]();
  await slow[Symbol.asyncDispose]();
});

function callerOf(server: LiveServer, user: string): ParleyClient {
  return new ParleyClient({ address: server.address, token: aToken(user) });
}

test("a turn is started with all that it is given", async () => {
  using server = await ScriptedServer.start([{ answer: AN_ACCEPTANCE }]);
  using client = new ParleyClient({ address: server.address });
  const accepted = await client.startTurn("hello", {
    conversationId: CONVERSATION_ID,
    requestId: "order-7",
    allowMissing: true,
    expectedSequence: 0,
    agent: "clerk",
    tools: [{ name: "weather" }],
  });
  const [asked] = server.asked;
  assert.deepEqual(asked?.request.chat, {
    conversationId: CONVERSATION_ID,
    message: "hello",
    requestId: "order-7",
    allowMissing: true,
    expectedSequence: 0,
    onBusy: "ON_BUSY_UNSPECIFIED",
    onDisconnect: "ON_DISCONNECT_UNSPECIFIED",
    agent: "clerk",
    tools: [{ name: "weather", description: "", parametersSchema: "" }],
  });
  assert.ok(asked && 5_000 < asked.timeLeftMs && asked.timeLeftMs <= 10_001);
  assert.deepEqual(accepted, AN_ACCEPTANCE);
});

/** Fails with a new id at each try, which could make two turns. */
test("a start is retried with the request id that it always has", async () => {
  using server = await ScriptedServer.start([
    { refuse: STORE_UNAVAILABLE },
    { answer: AN_ACCEPTANCE },
  ]);
  using client = new ParleyClient({ address: server.address });
  await client.startTurn("hello");
  await client.startTurn("hello", { requestId: "" });

  const [first, second, third] = server.asked.map(({ request }) => request.chat.requestId);
  assert.match(first, /^[0-9a-f-]{36}$/);
  assert.equal(second, first);
  assert.notEqual(third, first);
  const told = server.asked.map(({ metadata }) => metadata.get("parley-retry"));
  assert.deepEqual(told, [["safe"], ["safe"], ["safe"]]); // gRPC repeats a call as it is
});

test("an error of a start has the request id that was made for it", async () => {
  using server = await ScriptedServer.start([{ refuse: STORE_UNAVAILABLE }]);
  using client = new ParleyClient({ address: server.address });
  const error = await thrown(StoreUnavailable, client.startTurn("hello"));
  const ids = server.asked.map(({ request }) => request.chat.requestId);
  assert.deepEqual(ids, Array(5).fill(error.requestId));
});

test("an answer without a turn is an error", async () => {
  using server = await ScriptedServer.start([{ answer: {} }]);
  using client = new ParleyClient({ address: server.address });
  assert.equal((await thrown(ParleyError, client.startTurn("hello"))).code, "INTERNAL");
});

/** The turn is stored at the first try, whose answer is lost twice. */
test("a start whose answer is lost makes one turn", async () => {
  using direct = callerOf(live, "losing");
  // biome-ignore lint/suspicious/noExplicitAny: it is a StartTurnRequest
  const forwarded = ({ chat: { message, requestId } }: any) =>
    direct.startTurn(message, { requestId });
  // biome-ignore lint/suspicious/noExplicitAny: it is a StartTurnRequest
  const answerLost = async (request: any) => {
    await forwarded(request);
    return { refuse: STORE_UNAVAILABLE };
  };
  using server = await ScriptedServer.start([
    answerLost,
    answerLost,
    async (request) => ({ answer: await forwarded(request) }),
  ]);
  using client = new ParleyClient({ address: server.address, token: aToken("losing") });
  const { turn, replayed } = await client.startTurn("hello");

  assert.ok(replayed);
  const { requestId } = turn;
  assert.equal((await direct.chat("hello", { requestId })).turnId, turn.turnId);
  const messages = await collected(direct.history(turn.conversationId));
  assert.deepEqual(
    messages.map(({ content }) => content),
    ["hello", "hello"],
  );
  assert.equal((await collected(direct.conversations())).length, 1);
});

test("a started turn is run, and its request id gets the answer", async () => {
  using client = callerOf(live, "starting");
  const conversationId = newRequestId();
  const first = await client.startTurn("one", { conversationId, allowMissing: true });
  const second = await client.startTurn("two", { conversationId });
  assert.deepEqual([first.replayed, second.replayed], [false, false]);

  const { requestId } = second.turn;
  const texts = await collected(client.streamText("two", { conversationId, requestId }));
  assert.equal(texts.join(""), "two");
  const again = await client.startTurn("two", { conversationId, requestId });
  assert.deepEqual([again.replayed, again.turn.state], [true, "TURN_STATE_COMPLETED"]);
  assert.deepEqual(again.turn, await client.turn({ requestId }));
  const messages = await collected(client.history(conversationId));
  assert.deepEqual(
    messages.map(({ content }) => content),
    ["one", "one", "two", "two"],
  );
  await thrown(RequestIdReused, client.startTurn("three", { conversationId, requestId }));
});

test("a turn that waits is queued, can be cancelled, and leaves no message", async () => {
  using client = callerOf(slow, "waiting");
  const { turn } = await client.startTurn("runs for a minute");
  const { conversationId } = turn;
  const waiting = await client.startTurn("waits", { conversationId });
  const { requestId } = waiting.turn;
  assert.deepEqual([waiting.turn.state, waiting.turn.userSequence], ["TURN_STATE_QUEUED", 0]);

  const cancelled = await client.cancelTurn({ requestId });
  assert.equal(cancelled.state, "TURN_STATE_CANCELLED");
  await thrown(TurnSuperseded, client.chat("waits", { conversationId, requestId }));
  const contents = (await collected(client.history(conversationId))).map(({ content }) => content);
  assert.ok(!contents.includes("waits"), `${contents}`);
});

test("no more turns are queued than the server allows", async () => {
  using client = callerOf(slow, "filling");
  const { turn } = await client.startTurn("one");
  const { conversationId } = turn;
  await client.startTurn("two", { conversationId });
  const error = await thrown(QueueFull, client.startTurn("three", { conversationId }));
  assert.deepEqual(
    [error.maxQueuedTurns, error.retryAfterMs, error.isRetryable, error.code],
    [2, 1000, true, "RESOURCE_EXHAUSTED"],
  );
});

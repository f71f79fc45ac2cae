/** Turns that wait for their caller, and what they are given. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ResumeTurnResponse } from "../src/gen/parley/v1/conversation_service.js";
import { type CallResult, ParleyClient, ParleyError, StoreUnavailable } from "../src/index.js";
import { collected, thrown } from "./support/collecting.js";
import {
  anAnswer,
  CONVERSATION_ID,
  chunk,
  completed,
  type Refusal,
  ScriptedServer,
  started,
  TURN_ID,
} from "./support/scripted.js";

const STORE_UNAVAILABLE: Refusal = { reason: "STORE_UNAVAILABLE", retryMs: 10 };
const DRAINED: Refusal = { reason: "WORKER_DRAINED", retryMs: 10 };
const KEY = "018f0000-0000-5000-8000-000000000003";
const RESUMED = ResumeTurnResponse.fromPartial({ chat: anAnswer() });
const OF_TURN = { conversationId: CONVERSATION_ID, turnId: TURN_ID };

test("tools are sent with a message, their schemas as text", async () => {
  using server = await ScriptedServer.start([
    { answer: anAnswer() },
    { events: [completed("HELLO")] },
  ]);
  using client = new ParleyClient({ address: server.address });
  const schema = { type: "object", properties: { city: { type: "string" } } };
  const tools = [
    { name: "weather", description: "Tells the weather.", parametersSchema: schema },
    { name: "time", parametersSchema: '{"type":"object"}' },
  ];
  await client.chat("hello", { tools, onBusy: "replace" });
  await collected(client.stream("hello", { tools }));
  const sent = [
    {
      name: "weather",
      description: "Tells the weather.",
      parametersSchema: JSON.stringify(schema),
    },
    { name: "time", description: "", parametersSchema: '{"type":"object"}' },
  ];
  const [first, second] = server.asked.map(({ request }) => request);
  assert.deepEqual([first.tools, second.chat.tools], [sent, sent]);
  assert.equal(first.onBusy, "ON_BUSY_REPLACE");
});

test("a turn is given results, errors, approvals and denials", async () => {
  using server = await ScriptedServer.start([{ answer: RESUMED }]);
  using client = new ParleyClient({ address: server.address });
  const results: CallResult[] = [
    { callKey: KEY, result: "" },
    { callKey: KEY, error: "none" },
    { callKey: KEY, approval: {} },
    { callKey: KEY, approval: { arguments: "{}" } },
    { callKey: KEY, denial: { reason: "no" } },
  ];
  const answer = await client.resumeTurn({ requestId: "order-7" }, results, {
    onDisconnect: "continue",
  });
  assert.deepEqual(answer, { ...anAnswer(), requestId: "order-7" });
  const [asked] = server.asked;
  assert.deepEqual(asked?.request, {
    conversationId: "",
    turnId: "",
    requestId: "order-7",
    onDisconnect: "ON_DISCONNECT_CONTINUE",
    results: [
      { callKey: KEY, outcome: { $case: "result", value: "" } },
      { callKey: KEY, outcome: { $case: "error", value: "none" } },
      { callKey: KEY, outcome: { $case: "approval", value: { arguments: "" } } },
      { callKey: KEY, outcome: { $case: "approval", value: { arguments: "{}" } } },
      { callKey: KEY, outcome: { $case: "denial", value: { reason: "no" } } },
    ],
  });
  assert.ok(asked && 100_000 < asked.timeLeftMs && asked.timeLeftMs <= 120_200);
});

/** Fails when a proxy is not told that it may repeat a resume, which needs no request id for that. */
test("a resume is retried, however the turn is named", async () => {
  using server = await ScriptedServer.start([{ refuse: STORE_UNAVAILABLE }, { answer: RESUMED }]);
  using client = new ParleyClient({ address: server.address });
  const answer = await client.resumeTurn(OF_TURN, [{ callKey: KEY, result: "clear" }]);
  assert.equal(answer.requestId, "");
  const told = server.asked.map(({ metadata }) => metadata.get("parley-retry"));
  assert.deepEqual(told, [["safe"], ["safe"]]);
});

/** LEASE_LOST is the client's own to retry, as for a chat. */
test("a resume that another worker took over is made again", async () => {
  const lost: Refusal = { code: "ABORTED", reason: "LEASE_LOST", retryMs: 10 };
  using server = await ScriptedServer.start([{ refuse: lost }, { answer: RESUMED }]);
  using client = new ParleyClient({ address: server.address });
  const given = [{ callKey: KEY, result: "clear" }];
  assert.equal((await client.resumeTurn({ requestId: "r" }, given)).response, "HELLO");
  assert.deepEqual(server.asked[0]?.request, server.asked[1]?.request);
});

test("what cannot be sent is a TypeError, and nothing is called", async () => {
  using server = await ScriptedServer.start([{ answer: RESUMED }]);
  using client = new ParleyClient({ address: server.address });
  const wrong = [
    { callKey: KEY },
    { callKey: KEY, result: "one", error: "two" },
    { callKey: KEY, result: { sky: "clear" } },
  ] as unknown as CallResult[];
  for (const one of wrong) {
    const resumed = client.resumeTurn({ requestId: "r" }, [one]);
    assert.match((await thrown(TypeError, resumed)).message, /^results\[0\]/);
  }
  assert.throws(() => client.streamResumeTurn({ requestId: "r" }, wrong), TypeError);
  assert.equal(server.asked.length, 0);
});

test("a resume without an answer is an error", async () => {
  using server = await ScriptedServer.start([{ answer: {} }]);
  using client = new ParleyClient({ address: server.address });
  const given = [{ callKey: KEY, result: "clear" }];
  const error = await thrown(ParleyError, client.resumeTurn({ requestId: "r" }, given));
  assert.equal(error.code, "INTERNAL");
});

test("a lost stream of a resume goes on behind the last piece seen, with the same results", async () => {
  const told = (...events: object[]) => events.map((event) => ({ event }));
  using server = await ScriptedServer.start([
    { events: told(started(), chunk("one ", 0), chunk("two ", 1)), last: DRAINED },
    { refuse: DRAINED },
    { events: told(started(), chunk("three", 2), completed("one two three", 1)) },
  ]);
  using client = new ParleyClient({ address: server.address });
  const given = [{ callKey: KEY, result: "clear" }];
  const losses: ParleyError[] = [];
  const onRetry = (error: ParleyError) => losses.push(error);
  const events = await collected(client.streamResumeTurn({ requestId: "r" }, given, { onRetry }));

  const places = server.asked.map(({ request }) => [request.afterAttempt, request.afterIndex]);
  assert.deepEqual(places, [
    [0, undefined],
    [1, 1],
    [1, 1],
  ]);
  const resumes = server.asked.map(({ request }) => request.resume);
  assert.deepEqual(resumes[0].results, [
    { callKey: KEY, outcome: { $case: "result", value: "clear" } },
  ]);
  assert.deepEqual(resumes, Array(3).fill(resumes[0]));
  const texts = events.map((event) => (event.type === "chunk" ? event.text : ""));
  assert.equal(texts.join(""), "one two three");
  const end = events.at(-1);
  assert.ok(end?.type === "completed");
  assert.deepEqual([end.answer.requestId, losses.length], ["r", 2]);
});

/** Fails with gRPC's own retries, which would make 25 calls. */
test("a stream of a resume that never begins is given up after five tries", async () => {
  using server = await ScriptedServer.start([{ refuse: STORE_UNAVAILABLE }]);
  using client = new ParleyClient({ address: server.address });
  const events = client.streamResumeTurn(OF_TURN, [{ callKey: KEY, error: "none" }]);
  await thrown(StoreUnavailable, collected(events));
  assert.equal(server.asked.length, 5);
});

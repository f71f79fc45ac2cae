/** Messages that are added, conversations that are copied, owners that are erased, and what turns used. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BudgetExhausted,
  ErasureState,
  type NewMessage,
  NotATurnBoundary,
  Overloaded,
  ParleyClient,
  ParleyError,
  RequestIdReused,
  ScopeMissing,
} from "../src/index.js";
import { collected, thrown } from "./support/collecting.js";
import {
  aConversation,
  CONVERSATION_ID,
  type Refusal,
  ScriptedServer,
  TURN_ID,
} from "./support/scripted.js";

const LOST: Refusal = { reason: "STORE_UNAVAILABLE", retryMs: 10 };
const ADDED = {
  conversationId: CONVERSATION_ID,
  firstSequence: 3,
  lastSequence: 4,
  replayed: true,
};
const FORKED = { conversation: aConversation(), replayed: true };
const RUNNING = {
  state: ErasureState.RUNNING,
  startTime: new Date(5000),
  endTime: undefined,
  conversations: 1,
  messages: 2,
  turns: 3,
};

type Steps = Parameters<typeof ScriptedServer.start>[0];

/** Make a call; return what it came to, and how the server was asked. */
async function made<T>(steps: Steps, call: (parley: ParleyClient) => Promise<T>) {
  using server = await ScriptedServer.start(steps);
  using parley = new ParleyClient({ address: server.address });
  const result = await call(parley).catch((error: unknown) => {
    assert.ok(error instanceof ParleyError, `${error}`);
    return error;
  });
  return { result, asked: server.asked, requests: server.asked.map(({ request }) => request) };
}

test("messages are added as they are given", async () => {
  const createTime = new Date("2024-02-29T23:59:59.250Z");
  const toolCalls = [{ id: "c1", name: "distance", arguments: "{}" }];
  const usage = { inputTokens: 5 };
  const given: NewMessage[] = [
    { role: "user", content: "How far is Rome?", turnId: TURN_ID, createTime },
    { role: "assistant", toolCalls, usage, model: "m", finishReason: "length" },
    { role: "system", content: "The user has left." },
  ];
  const { result, requests } = await made([{ answer: ADDED }], (parley) =>
    parley.appendMessages(CONVERSATION_ID, given, {
      requestId: "import-7",
      allowMissing: true,
      expectedSequence: 0,
      onBusy: "wait",
    }),
  );
  const blank = {
    sequence: 0,
    content: "",
    toolCalls: [],
    turnId: "",
    createTime: undefined,
    usage: undefined,
    model: "",
    finishReason: "FINISH_REASON_UNSPECIFIED",
  };
  const sent = { ...toolCalls[0], result: "", isError: false, step: 0 };
  const used = { inputTokens: 5, outputTokens: 0, cachedInputTokens: 0, modelRequests: 0 };
  assert.deepEqual(requests, [
    {
      conversationId: CONVERSATION_ID,
      requestId: "import-7",
      allowMissing: true,
      expectedSequence: 0,
      onBusy: "ON_BUSY_WAIT",
      messages: [
        { ...blank, role: "ROLE_USER", content: "How far is Rome?", turnId: TURN_ID, createTime },
        {
          ...blank,
          role: "ROLE_ASSISTANT",
          toolCalls: [sent],
          usage: used,
          model: "m",
          finishReason: "FINISH_REASON_LENGTH",
        },
        { ...blank, role: "ROLE_SYSTEM", content: "The user has left." },
      ],
    },
  ]);
  assert.deepEqual(result, ADDED);
});

/** Fails when what a history or an export has brought is refused, or loses something. */
test("messages of a history can be added as they are", async () => {
  const page = {
    messages: [
      {
        sequence: 7,
        role: "ROLE_ASSISTANT",
        content: "Far.",
        toolCalls: [{ id: "c1", name: "d", arguments: "{}", result: "r", isError: true, step: 2 }],
        turnId: TURN_ID,
        createTime: new Date(5000),
        usage: { inputTokens: 1, outputTokens: 2, cachedInputTokens: 3, modelRequests: 4 },
        model: "m",
        finishReason: "FINISH_REASON_STOP",
      },
    ],
    nextPageToken: "",
    lastSequence: 7,
  };
  const { requests } = await made([{ answer: page }, { answer: ADDED }], async (parley) =>
    parley.appendMessages(CONVERSATION_ID, await collected(parley.history(CONVERSATION_ID))),
  );
  assert.deepEqual(requests[1].messages, [{ ...page.messages[0], sequence: 0 }]);
});

test("a conversation is forked up to where the caller says", async () => {
  const given = { newConversationId: TURN_ID, requestId: "fork-7", upToSequence: 4 };
  const { result, requests } = await made([{ answer: FORKED }], (parley) =>
    parley.forkConversation(CONVERSATION_ID, given),
  );
  assert.deepEqual(requests, [{ conversationId: CONVERSATION_ID, ...given }]);
  assert.deepEqual(result, FORKED);
});

/** Fails with a new id at each try, which could add or copy twice. */
test("adding and forking are retried with the request id that they always have", async () => {
  const message: NewMessage = { role: "user", content: "one" };
  const calls: [object, (parley: ParleyClient) => Promise<unknown>][] = [
    [ADDED, (parley) => parley.appendMessages(CONVERSATION_ID, [message])],
    [FORKED, (parley) => parley.forkConversation(CONVERSATION_ID)],
  ];
  for (const [answer, call] of calls) {
    const { result, requests, asked } = await made([{ refuse: LOST }, { answer }], call);
    assert.deepEqual(result, answer);
    const [first, second] = requests.map((request) => request.requestId);
    assert.match(first, /^[0-9a-f-]{36}$/);
    assert.equal(second, first);
    assert.deepEqual(asked[0]?.metadata.get("parley-retry"), ["safe"]);
    const other = await made([{ answer }], call);
    assert.notEqual(other.requests[0].requestId, first);
  }
});

test("what writes much at once has a minute", async () => {
  const calls: ((parley: ParleyClient) => Promise<unknown>)[] = [
    (parley) => parley.appendMessages(CONVERSATION_ID, []),
    (parley) => parley.forkConversation(CONVERSATION_ID),
    (parley) => parley.eraseOwner("erase-7"),
  ];
  for (const call of calls) {
    const { asked } = await made([{ refuse: { code: "NOT_FOUND" } }], call);
    assert.equal(asked.length, 1);
    assert.ok(asked.every(({ timeLeftMs }) => timeLeftMs > 50_000 && timeLeftMs <= 60_001));
  }
});

test("a refusal says what a caller has to know, under its request id", async () => {
  const metadata = { up_to_sequence: "3", previous_boundary: "2" };
  const within: Refusal = { code: "FAILED_PRECONDITION", reason: "NOT_A_TURN_BOUNDARY", metadata };
  const forked = await made([{ refuse: within }], (parley) =>
    parley.forkConversation(CONVERSATION_ID, { requestId: "fork-7", upToSequence: 3 }),
  );
  assert.ok(forked.result instanceof NotATurnBoundary);
  assert.equal(forked.result.previousBoundary, 2);
  assert.deepEqual([forked.result.requestId, forked.result.isRetryable], ["fork-7", false]);

  const reused: Refusal = { code: "ALREADY_EXISTS", reason: "REQUEST_ID_REUSED" };
  const added = await made([{ refuse: reused }], (parley) =>
    parley.appendMessages(CONVERSATION_ID, [], { requestId: "import-7" }),
  );
  assert.ok(added.result instanceof RequestIdReused);
  assert.equal(added.result.requestId, "import-7");
});

/** Fails when the next try begins another erasure. */
test("an erasure is retried under its request id, and shows its receipt", async () => {
  const { result, requests, asked } = await made(
    [{ refuse: LOST }, { answer: RUNNING }],
    (parley) => parley.eraseOwner("erase-7"),
  );
  assert.deepEqual(requests, [{ requestId: "erase-7" }, { requestId: "erase-7" }]);
  assert.deepEqual(asked[0]?.metadata.get("parley-retry"), ["safe"]);
  assert.deepEqual(result, RUNNING);
});

test("an erasure is waited for, unless its caller leaves", async () => {
  const done = { ...RUNNING, state: ErasureState.DONE, endTime: new Date(9000) };
  const { result, requests } = await made([{ answer: RUNNING }, { answer: done }], (parley) =>
    parley.eraseOwner("erase-7", { wait: true }),
  );
  assert.deepEqual(result, done);
  assert.deepEqual(requests, [{ requestId: "erase-7" }, { requestId: "erase-7" }]);

  using server = await ScriptedServer.start([{ answer: RUNNING }]);
  using parley = new ParleyClient({ address: server.address });
  const signal = AbortSignal.timeout(300);
  await assert.rejects(parley.eraseOwner("erase-7", { wait: true, signal }), {
    name: "TimeoutError",
  });
});

test("an erasure needs its scope", async () => {
  const metadata = { scope: "parley.erase" };
  const refuse: Refusal = { code: "PERMISSION_DENIED", reason: "SCOPE_MISSING", metadata };
  const { result } = await made([{ refuse }], (parley) => parley.eraseOwner("erase-7"));
  assert.ok(result instanceof ScopeMissing);
  assert.deepEqual([result.scope, result.requestId], ["parley.erase", "erase-7"]);
});

test("usage is asked for by day, agent and label", async () => {
  const row = {
    date: "2026-11-28",
    agent: "quick",
    labelValue: "blue",
    usage: { inputTokens: 5, outputTokens: 6, cachedInputTokens: 0, modelRequests: 2 },
    turns: 1,
    attempts: 2,
    failedAttempts: 1,
  };
  const dates = { startDate: "2026-11-01", endDate: "2026-11-28" };
  const { result, requests } = await made([{ answer: { rows: [row] } }], async (parley) => {
    await parley.usage();
    return parley.usage({ ...dates, byAgent: true, byLabel: "team", labels: { kind: "a=b" } });
  });
  assert.deepEqual(requests, [
    { startDate: "", endDate: "", byAgent: false, byLabel: "", labels: [] },
    { ...dates, byAgent: true, byLabel: "team", labels: ["kind=a=b"] },
  ]);
  assert.deepEqual(result, { rows: [row] });
});

/** Fails when a turn waits for midnight by itself. */
test("a budget that is used up needs a decision", async () => {
  const metadata = { max_tokens_per_day: "100", used_tokens: "101", retry_after_s: "18000" };
  const refuse: Refusal = {
    code: "RESOURCE_EXHAUSTED",
    reason: "BUDGET_EXHAUSTED",
    metadata,
    retryMs: 18_000_000,
    pushback: "-1",
  };
  const calls: ((parley: ParleyClient) => Promise<unknown>)[] = [
    (parley) => parley.chat("Hello!"),
    (parley) => collected(parley.stream("Hello!")),
  ];
  for (const call of calls) {
    const { result, asked } = await made([{ refuse }], call);
    assert.ok(result instanceof BudgetExhausted);
    assert.ok(!(result instanceof Overloaded));
    assert.deepEqual([result.maxTokensPerDay, result.usedTokens], [100, 101]);
    assert.deepEqual([result.retryAfterMs, result.isRetryable], [18_000_000, true]);
    assert.equal(asked.length, 1);
  }
});

test("what cannot be said is not sent", async () => {
  using server = await ScriptedServer.start(["never"]);
  using parley = new ParleyClient({ address: server.address });
  const wrong: [string, object][] = [
    ["role", { role: "agent" }],
    ["content", { content: "\ud83d" }],
    ["turnId", { turnId: 7 }],
    ["createTime", { createTime: new Date("nonsense") }],
    ["usage.inputTokens", { usage: { inputTokens: 1.5 } }],
    ["model", { model: "\ud83d" }],
    ["finishReason", { finishReason: "bored" }],
    ["toolCalls[0].result", { toolCalls: [{ id: "", name: "", arguments: "", result: "\ud83d" }] }],
    ["toolCalls[0].step", { toolCalls: [{ id: "", name: "", arguments: "", step: 2 ** 40 }] }],
  ];
  for (const [field, message] of wrong) {
    const given = [{ role: "user" }, message] as NewMessage[];
    const error = await thrown(TypeError, parley.appendMessages("c", given));
    assert.ok(error.message.startsWith(`messages[1].${field} `), error.message);
  }
  const calls = [
    () => parley.appendMessages("c", [], { onBusy: "never" as "wait" }),
    () => parley.forkConversation("c", { upToSequence: 0.5 }),
    () => parley.eraseOwner("\ud83d"),
    () => parley.usage({ labels: { "a=b": "c" } }),
    () => parley.usage({ byLabel: "\ud83d" }),
  ];
  for (const call of calls) await thrown(TypeError, call());
  assert.throws(() => parley.exportConversations({ cursor: "\ud83d" }), TypeError);
  assert.equal(server.asked.length, 0);
});

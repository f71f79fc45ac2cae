/** What is sent again, when, and that it makes no second turn. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  type Answer,
  AttemptLost,
  AttemptsExhausted,
  DeadlineExceeded,
  InternalError,
  InvalidRequest,
  LeaseLost,
  newRequestId,
  Overloaded,
  ParleyClient,
  ParleyError,
  RevisionMismatch,
  SequenceMismatch,
  StoreUnavailable,
  TurnInProgress,
  Unavailable,
} from "../src/index.js";
import {
  ExportTries,
  MAX_TRIES,
  MAX_TRIES_UNDER_WAY,
  StreamTries,
  Tries,
  WatchTries,
} from "../src/retries.js";
import { collected, thrown } from "./support/collecting.js";
import { aToken, LiveServer } from "./support/live.js";
import { anAnswer, completed, type Refusal, ScriptedServer } from "./support/scripted.js";

const STORE_UNAVAILABLE: Refusal = { reason: "STORE_UNAVAILABLE" };
const LEASE_LOST: Refusal = { code: "ABORTED", reason: "LEASE_LOST", retryMs: 10 };

let live: LiveServer;
before(async () => {
  live = await LiveServer.start();
});
after(() => live[Symbol.asyncDispose]());

function requestIds(server: ScriptedServer): string[] {
  return server.asked.map(({ request }) => request.requestId);
}

/** Fails when every try asks for it: proxies would repeat repeated calls. */
test("the first try of a chat tells proxies that it may be sent again", async () => {
  using server = await ScriptedServer.start([
    async () => ({ refuse: LEASE_LOST }),
    async () => ({ answer: anAnswer("HELLO") }),
  ]);
  using client = new ParleyClient({ address: server.address, token: "secret" });
  await client.chat("hello");

  const told = server.asked.map(({ metadata }) => metadata.get("parley-retry"));
  assert.deepEqual(told, [["safe"], []]);
});

for (const refuse of [STORE_UNAVAILABLE, LEASE_LOST]) {
  /**
   * The turn is made at the first try, and its answer is lost twice.
   *
   * Fails without the retry policy, without LEASE_LOST's own retry, and with a new id at each try.
   */
  test(`retries after ${refuse.reason} keep the request id and make one turn`, async () => {
    const token = aToken(refuse.reason);
    using direct = new ParleyClient({ address: live.address, token });
    // biome-ignore lint/suspicious/noExplicitAny: it is a ChatRequest
    const forwarded = ({ message, requestId }: any) => direct.chat(message, { requestId });
    // biome-ignore lint/suspicious/noExplicitAny: it is a ChatRequest
    const answerLost = async (request: any) => {
      await forwarded(request);
      return { refuse };
    };
    using server = await ScriptedServer.start([
      answerLost,
      answerLost,
      async (request) => ({ answer: await forwarded(request) }),
    ]);
    using client = new ParleyClient({ address: server.address, token });
    const answer = await client.chat("hello");

    assert.deepEqual(requestIds(server), Array(3).fill(answer.requestId));
    assert.deepEqual([answer.response, answer.replayed], ["hello", true]);
    const messages = await collected(direct.history(answer.conversationId));
    assert.deepEqual(
      messages.map(({ content }) => content),
      ["hello", "hello"],
    );
    assert.equal((await collected(direct.conversations())).length, 1);
  });
}

async function chat(server: ScriptedServer, options = {}): Promise<Answer> {
  using client = new ParleyClient({ address: server.address });
  return await client.chat("hello", options);
}

/** gRPC's own first backoff is 0.24 s at most. */
test("the server's pushback goes before the backoff", async () => {
  const refuse = { reason: "WORKER_DRAINED", retryMs: 800 };
  using server = await ScriptedServer.start([{ refuse }, { answer: anAnswer() }]);
  await chat(server);

  const [first, second] = server.asked;
  assert.ok(first && second && second.atMs - first.atMs > 700);
});

/** gRPC by itself repeats nothing from 1 MiB on, and keeps 16 MiB of all requests together. */
test("requests of any size, and any number of them, are retried", async () => {
  const refuse = { reason: "STORE_UNAVAILABLE", retryMs: 10 };
  const answer = { firstSequence: 1, lastSequence: 1, replayed: false };
  let count = 0;
  using server = await ScriptedServer.start([
    async () => {
      count += 1;
      if (count > 20) return { answer };
      await new Promise((resolve) => setTimeout(resolve, 300)); // until all are under way
      return { refuse };
    },
  ]);
  using client = new ParleyClient({ address: server.address });
  const messages = [{ role: "user", content: "x".repeat(2 ** 20) }] as const;
  await Promise.all(Array.from({ length: 20 }, () => client.appendMessages("c", messages)));
  assert.equal(server.asked.length, 40);
});

/** Fails with the time as it is given: gRPC cannot write it down, and throws where nothing catches it. */
test("a call without end has a deadline that gRPC can write down", async () => {
  for (const timeoutMs of [Number.MAX_SAFE_INTEGER, Number.POSITIVE_INFINITY]) {
    using server = await ScriptedServer.start([{ answer: anAnswer() }]);
    await chat(server, { timeoutMs });
  }
});

test("tries end after the fifth", async () => {
  const refuse = { reason: "STORE_UNAVAILABLE", retryMs: 10 };
  using server = await ScriptedServer.start([{ refuse }]);
  const error = await thrown(StoreUnavailable, chat(server));

  assert.deepEqual(requestIds(server), Array(5).fill(error.requestId));
  assert.equal(error.retryAfterMs, 10);
  assert.ok(error.isRetryable);
});

const DECISIONS: [Refusal, typeof ParleyError][] = [
  [{ code: "ABORTED", reason: "TURN_IN_PROGRESS", retryMs: 10 }, TurnInProgress],
  [{ code: "ABORTED", reason: "SEQUENCE_MISMATCH" }, SequenceMismatch],
  [{ code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED", retryMs: 10 }, Overloaded],
  [{ reason: "STORE_UNAVAILABLE", pushback: "-1" }, StoreUnavailable],
];
for (const [refuse, kind] of DECISIONS) {
  test(`${refuse.reason} is not retried when it needs a decision`, async () => {
    using server = await ScriptedServer.start([{ refuse }]);
    const error = await thrown(kind, chat(server));
    assert.equal(server.asked.length, 1);
    assert.equal(error.isPushedBack, refuse.pushback !== undefined);
  });
}

test("no try begins after the deadline", async () => {
  const refuse: Refusal = { code: "ABORTED", reason: "LEASE_LOST", retryMs: 5000 };
  using server = await ScriptedServer.start([{ refuse }]);
  await assert.rejects(chat(server, { timeoutMs: 2000 }), LeaseLost);
  assert.equal(server.asked.length, 1);
});

test("later tries have what is left of the deadline", async () => {
  const refuse: Refusal = { code: "ABORTED", reason: "LEASE_LOST", retryMs: 1000 };
  using server = await ScriptedServer.start([{ refuse }, { answer: anAnswer() }]);
  await chat(server, { timeoutMs: 10_000 });
  const [first, second] = server.asked;
  assert.ok(first && second && second.timeLeftMs < first.timeLeftMs - 900);
});

test("a server that comes back is found again", async () => {
  const earlier = await ScriptedServer.start([{ answer: anAnswer() }]);
  using client = new ParleyClient({ address: earlier.address });
  await client.chat("before");
  earlier[Symbol.dispose]();
  let later: Promise<ScriptedServer> | undefined;
  const onRetry = () => {
    later ??= ScriptedServer.start([{ answer: completed("BACK") }], earlier);
  };
  const texts = await collected(client.streamText("meanwhile", { onRetry }));
  using _ = await later;
  assert.deepEqual(texts, ["BACK"]);
});

test("a server that is away is unavailable", async () => {
  const gone = await ScriptedServer.start([{ answer: anAnswer() }]);
  gone[Symbol.dispose]();
  const error = await thrown(Unavailable, chat(gone, { requestId: "order-7" }));
  assert.deepEqual(
    [error.reason, error.code, error.requestId],
    [undefined, "UNAVAILABLE", "order-7"],
  );
  assert.ok(error.isRetryable);
});

test("every chat carries a request id of its own", async () => {
  using server = await ScriptedServer.start([{ answer: anAnswer() }]);
  using client = new ParleyClient({ address: server.address });
  const answers = [
    await client.chat("one"),
    await client.chat("two", { requestId: "" }),
    await client.chat("three", { requestId: "order-7" }),
  ];
  const ids = answers.map((answer) => answer.requestId);
  assert.deepEqual(requestIds(server), ids);
  assert.equal(new Set(ids).size, 3);
  assert.match(ids[0] ?? "", /^[0-9a-f-]{36}$/);
  assert.equal(ids[2], "order-7");
});

test("every call has a deadline", async () => {
  using server = await ScriptedServer.start([{ answer: anAnswer() }, { answer: page() }]);
  using client = new ParleyClient({ address: server.address });
  await client.chat("hello");
  await client.historyPage("x");
  await client.historyPage("x", { timeoutMs: 3000 });

  const [chat, read, short] = server.asked.map((asked) => asked.timeLeftMs);
  assert.ok(chat && 100_000 < chat && chat <= 120_001, `${chat}`);
  assert.ok(read && 5000 < read && read <= 10_001, `${read}`);
  assert.ok(short && 0 < short && short <= 3001, `${short}`);
});

test("a call that nobody answers ends at its deadline", async () => {
  using server = await ScriptedServer.start(["never"]);
  const error = await thrown(DeadlineExceeded, chat(server, { timeoutMs: 300 }));
  assert.deepEqual([error.code, error.reason], ["DEADLINE_EXCEEDED", undefined]);
});

test("what a status says is in the error", async () => {
  const violation = { field: "message", reason: "EMPTY", description: "say something" };
  const refuse: Refusal = {
    code: "INVALID_ARGUMENT",
    reason: "INVALID_REQUEST",
    text: "message is empty",
    metadata: { fields: "message" },
    violations: [violation],
    callId: "call-1",
  };
  using server = await ScriptedServer.start([{ refuse }]);
  const error = await thrown(InvalidRequest, chat(server));
  assert.equal(error.message, "message is empty");
  assert.deepEqual(error.violations, [violation]);
  assert.deepEqual(error.metadata, { fields: "message" });
  assert.equal(error.callId, "call-1");
  assert.equal(error.isRetryable, false);
  assert.ok(error.stack?.includes("InvalidRequest: message is empty"));
});

const STRANGERS: [Refusal, typeof ParleyError, string | undefined][] = [
  [{ code: "INTERNAL", reason: "INTERNAL" }, InternalError, "INTERNAL"],
  [{ code: "INVALID_ARGUMENT", reason: "NEWER" }, InvalidRequest, "NEWER"],
  [{ code: "PERMISSION_DENIED" }, ParleyError, undefined],
  [
    { code: "INVALID_ARGUMENT", reason: "INTERNAL", domain: "else.where" },
    InvalidRequest,
    undefined,
  ],
  [{ code: "INVALID_ARGUMENT", reason: "AGENT_UNKNOWN", mangled: true }, InvalidRequest, undefined],
  [{ code: "ABORTED", reason: "toString" }, ParleyError, "toString"],
];
for (const [refuse, kind, reason] of STRANGERS) {
  test(`a status of ${JSON.stringify(refuse)} is a ${kind.name}`, async () => {
    using server = await ScriptedServer.start([{ refuse }]);
    const error = await thrown(ParleyError, chat(server));
    assert.deepEqual([error.constructor, error.reason], [kind, reason]);
  });
}

test("a number that is mangled is no number", () => {
  const metadata = { last_sequence: "many", revision: "", attempts: "1.5" };
  const details = { code: "ABORTED", metadata } as const;
  assert.equal(new SequenceMismatch("", details).lastSequence, 0);
  assert.equal(new RevisionMismatch("", details).revision, 0);
  assert.equal(new AttemptsExhausted("", details).attempts, 0);
  const known = { code: "ABORTED", metadata: { last_sequence: "7" } } as const;
  assert.equal(new SequenceMismatch("", known).lastSequence, 7);
});

test("tries wait as long as they are asked to", () => {
  let now = 100;
  const tries = new Tries(10_000, () => now);
  assert.equal(tries.pauseMs(lost(2500)), 2500);
  now += 8000;
  assert.equal(tries.timeLeftMs, 2000);
  assert.equal(tries.pauseMs(lost(2500)), undefined);
  assert.equal(tries.pauseMs(lost()), 200);
  now += 8000;
  assert.equal(tries.timeLeftMs, 0);
  assert.throws(() => new Tries(0), RangeError);
  // biome-ignore lint/suspicious/noExplicitAny: as a caller without types may give it
  assert.throws(() => new Tries("5000" as any), RangeError);
});

test("tries are counted", () => {
  const tries = new Tries(1_000_000);
  const pauses = Array.from({ length: 6 }, () => tries.pauseMs(lost(0)));
  assert.deepEqual(pauses, [0, 0, 0, 0, undefined, undefined]);
});

test("a stream under way has more patience, and waits longer each time", () => {
  const tries = new StreamTries(1_000_000);
  tries.cameFurther();
  const pauses = Array.from({ length: 8 }, () => tries.pauseMs(down()));
  assert.deepEqual(
    pauses.map((pause) => pause === undefined),
    [...Array(7).fill(false), true],
  );
  for (const [n, pause] of pauses.slice(0, 7).entries()) {
    const wanted = Math.min(3000, 200 * 2 ** n);
    assert.ok(pause && wanted * 0.8 <= pause && pause <= wanted * 1.2, `${n}: ${pause}`);
  }
});

test("a watch that never began is given up", () => {
  const tries = new WatchTries();
  const pauses = Array.from({ length: MAX_TRIES }, () => tries.pauseMs(down()));
  assert.equal(pauses.indexOf(undefined), MAX_TRIES - 1);
  const full = new Overloaded("", { code: "RESOURCE_EXHAUSTED" });
  assert.equal(new WatchTries().pauseMs(full), undefined);
});

test("a watch that began is gone on with for ever, and not too often", () => {
  const tries = new WatchTries();
  tries.cameFurther();
  const errors = [
    down(),
    new Overloaded("", { code: "RESOURCE_EXHAUSTED" }),
    new DeadlineExceeded("", { code: "DEADLINE_EXCEEDED" }),
  ];
  for (let n = 0; n < 2000; n += 1) {
    const pause = tries.pauseMs(errors[n % 3] ?? down());
    assert.ok(pause !== undefined && pause <= 3600 && (n < 10 || pause >= 2400));
  }
  const asked = new Unavailable("", { code: "UNAVAILABLE", retryAfterMs: 7000 });
  assert.equal(tries.pauseMs(asked), 7000);
  assert.equal(tries.pauseMs(new AttemptLost("", { code: "ABORTED" })), undefined);
});

/** A proxy resets a stream whose server it has lost; one that gets no further will not get further. */
test("a stream that was reset is tried again, and a watch not for ever", () => {
  const reset = new ParleyError("", { code: "INTERNAL" });
  const defect = new InternalError("", { code: "INTERNAL", reason: "INTERNAL" });
  for (const tries of [new StreamTries(1_000_000), new ExportTries(), new WatchTries()]) {
    tries.cameFurther();
    assert.equal(tries.pauseMs(defect), undefined);
    const pauses = Array.from({ length: MAX_TRIES_UNDER_WAY }, () => tries.pauseMs(reset));
    assert.equal(pauses.indexOf(undefined), MAX_TRIES_UNDER_WAY - 1);
  }
  assert.equal(new Tries(1_000_000).pauseMs(reset), undefined);
});

test("request ids are made", () => {
  assert.notEqual(newRequestId(), newRequestId());
});

function lost(retryAfterMs?: number): LeaseLost {
  return new LeaseLost("", { code: "ABORTED", retryAfterMs });
}

function down(): Unavailable {
  return new Unavailable("", { code: "UNAVAILABLE" });
}

function page() {
  return { messages: [], nextPageToken: "", lastSequence: 0 };
}

/** Agents, what one was shown, and rehearsals: of which nothing is stored, so that none is begun again behind its caller's back. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as gen from "../src/gen/parley/v1/conversation_service.js";
import {
  AgentUnavailable,
  AgentUnknown,
  DeadlineExceeded,
  NoRehearsal,
  OmissionReason,
  Overloaded,
  ParleyClient,
  ParleyError,
  type RehearsalEvent,
  StoreUnavailable,
  TurnNotFound,
  Unavailable,
  WindowIncomplete,
  WorkerDrained,
} from "../src/index.js";
import { collected, thrown } from "./support/collecting.js";
import { aToken, LiveServer } from "./support/live.js";
import { type Refusal, ScriptedServer, type Step, TURN_ID } from "./support/scripted.js";

const DRAINED: Refusal = { reason: "WORKER_DRAINED", retryMs: 10 };
const AGENT_DOWN: Refusal = { reason: "AGENT_UNAVAILABLE", retryMs: 10 };
const OVERLOADED: Refusal = { code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED", retryMs: 10 };

let live: LiveServer;
before(async () => {
  live = await LiveServer.start();
});
after(() => live[Symbol.asyncDispose]());

function callerOf(user: string): ParleyClient {
  return new ParleyClient({ address: live.address, token: aToken(user) });
}

const event = (event: Parameters<typeof gen.RehearseTurnResponse.fromPartial>[0]["event"]) =>
  gen.RehearseTurnResponse.fromPartial({ event });
const STARTED = event({ $case: "started", value: { agent: "echo", context: { messageCount: 1 } } });
const PIECE = event({ $case: "chunk", value: { text: "Hel" } });
const CALLED = event({ $case: "toolCall", value: { id: "1", name: "look_up" } });
const COMPLETED = event({ $case: "completed", value: { response: "Hello", model: "m" } });

/** Rehearse to the end; return what came, what it ended with, and how the server was asked. */
async function rehearsed(steps: Step[], options = {}) {
  using server = await ScriptedServer.start(steps);
  using client = new ParleyClient({ address: server.address });
  const events: RehearsalEvent[] = [];
  let error: unknown;
  try {
    for await (const one of client.rehearseTurn({ requestId: "r" }, options)) events.push(one);
  } catch (failure) {
    error = failure;
  }
  return { types: events.map(({ type }) => type), events, error, asked: server.asked };
}

test("a turn is explained and rehearsed, and nothing is stored", async () => {
  using client = callerOf("explaining");
  const { agents } = await client.listAgents();
  assert.deepEqual(
    agents.map(({ isDefault, canRehearse }) => [isDefault, canRehearse]),
    [[true, true]],
  );
  const { requestId, turnId, conversationId, response } = await client.chat("Hello!");
  for (const name of [{ requestId }, { conversationId, turnId }]) {
    const { turn, messages, attempts } = await client.explainTurn(name);
    assert.deepEqual([turn.turnId, messages[0]?.preview, attempts.length], [turnId, "Hello!", 1]);
  }
  const agent = agents[0]?.name;
  const events = await collected(client.rehearseTurn({ requestId }, { agent }));
  const [first, last] = [events.at(0), events.at(-1)];
  assert.ok(first?.type === "started" && first.agent === agent);
  assert.ok(last?.type === "completed" && last.answer.response === response);
  assert.equal((await collected(client.history(conversationId))).length, 2);
});

test("a conversation has an agent", async () => {
  using client = callerOf("naming");
  const name = (await client.listAgents()).agents[0]?.name;
  const { conversation } = await client.createConversation({ agent: name });
  assert.equal(conversation.agent, name);
  const id = conversation.conversationId;
  assert.equal((await client.updateConversation(id, { title: "A title" })).agent, name);
  assert.equal((await client.updateConversation(id, { agent: "" })).agent, "");
  assert.equal((await client.updateConversation(id, { agent: name })).agent, name);
  await thrown(AgentUnknown, client.createConversation({ agent: "nobody" }));
  await thrown(AgentUnknown, client.updateConversation(id, { agent: "nobody" }));
});

/** Fails without the service config: a read is not retried then. */
test("agents and explanations are retried within the time of a read", async () => {
  const agents = { agents: [{ name: "echo", description: "Repeats.", isDefault: true }] };
  using listing = await ScriptedServer.start([
    { refuse: DRAINED },
    { refuse: DRAINED },
    { answer: gen.ListAgentsResponse.fromPartial(agents) },
  ]);
  using lister = new ParleyClient({ address: listing.address });
  assert.deepEqual(await lister.listAgents(), gen.ListAgentsResponse.fromPartial(agents));

  const omitted = [{ firstSequence: 1, lastSequence: 2, reason: OmissionReason.OLDER }];
  const answer = gen.ExplainTurnResponse.fromPartial({ turn: { turnId: TURN_ID }, omitted });
  using explaining = await ScriptedServer.start([{ refuse: DRAINED }, { answer }]);
  using explainer = new ParleyClient({ address: explaining.address });
  assert.deepEqual(await explainer.explainTurn({ requestId: "r" }), answer);
  const asked = [...listing.asked, ...explaining.asked];
  assert.equal(asked.length, 5);
  assert.ok(asked.every(({ timeLeftMs }) => 5_000 < timeLeftMs && timeLeftMs <= 10_200));
  assert.deepEqual(explaining.asked[1]?.request, {
    conversationId: "",
    turnId: "",
    requestId: "r",
  });
});

test("a turn that there is not is not explained", async () => {
  using server = await ScriptedServer.start([
    { refuse: { code: "NOT_FOUND", reason: "TURN_NOT_FOUND" } },
    { answer: gen.ExplainTurnResponse.create() },
  ]);
  using client = new ParleyClient({ address: server.address });
  const error = await thrown(TurnNotFound, client.explainTurn({ requestId: "r" }));
  assert.equal(error.requestId, "r");
  await thrown(ParleyError, client.explainTurn({ requestId: "r" })); // it answers without a turn
});

test("a rehearsal brings its events in order", async () => {
  const { events, asked } = await rehearsed([{ events: [STARTED, PIECE, CALLED, COMPLETED] }], {
    agent: "echo",
  });
  const [context, toolCall, answer] = [STARTED, CALLED, COMPLETED].map(({ event }) => event?.value);
  assert.deepEqual(events, [
    { type: "started", agent: "echo", context: (context as gen.RehearsalStarted).context },
    { type: "chunk", text: "Hel" },
    { type: "toolCall", toolCall },
    { type: "completed", answer },
  ]);
  const request = { conversationId: "", turnId: "", requestId: "r", agent: "echo" };
  assert.deepEqual(
    asked.map((one) => one.request),
    [request],
  );
  const [{ timeLeftMs } = { timeLeftMs: 0 }] = asked;
  assert.ok(110_000 < timeLeftMs && timeLeftMs <= 120_200);
});

/** Fails when the tries go on as those of a turn do: the agent would be asked again. */
test("a rehearsal begins again only before anything has come", async () => {
  const losses: unknown[] = [];
  const onRetry = (error: ParleyError) => losses.push(error.constructor);
  const whole = { events: [STARTED, COMPLETED] };
  const begun = await rehearsed([{ refuse: DRAINED }, { refuse: AGENT_DOWN }, whole], { onRetry });
  assert.deepEqual([begun.types, begun.error], [["started", "completed"], undefined]);
  assert.deepEqual(losses, [WorkerDrained, AgentUnavailable]);

  for (const [last, kind] of [
    [DRAINED, WorkerDrained],
    [AGENT_DOWN, AgentUnavailable],
    [OVERLOADED, Overloaded],
  ] as const) {
    const lost = await rehearsed([{ events: [STARTED], last }, whole], { onRetry });
    assert.ok(lost.error instanceof kind);
    assert.deepEqual([lost.types, lost.asked.length], [["started"], 1]);
  }
  assert.equal(losses.length, 2);
});

test("a rehearsal that ends without its last event is lost", async () => {
  const { types, error, asked } = await rehearsed([{ events: [STARTED, PIECE] }]);
  assert.ok(error instanceof Unavailable);
  assert.deepEqual([types, asked.length], [["started", "chunk"], 1]);
});

/** Fails when gRPC repeats the call as well: it is asked more often then. */
test("a rehearsal that never began is given up", async () => {
  const often = await rehearsed([{ refuse: DRAINED }]);
  assert.ok(often.error instanceof WorkerDrained);
  const late = { reason: "STORE_UNAVAILABLE", retryMs: 90_000, pushback: "-1" };
  const once = await rehearsed([{ refuse: late }]);
  assert.ok(once.error instanceof StoreUnavailable);
  assert.deepEqual([often.asked.length, once.asked.length], [5, 1]);
});

test("a rehearsal that cannot be says why", async () => {
  const code = "FAILED_PRECONDITION";
  const [window, agent] = [{ turn_id: TURN_ID }, { agent: "acting" }];
  const gone = await rehearsed([
    { refuse: { code, reason: "WINDOW_INCOMPLETE", metadata: window } },
  ]);
  assert.ok(gone.error instanceof WindowIncomplete && gone.error.turnId === TURN_ID);
  const acting = await rehearsed([{ refuse: { code, reason: "NO_REHEARSAL", metadata: agent } }]);
  assert.ok(acting.error instanceof NoRehearsal && acting.error.agent === "acting");
  assert.deepEqual([acting.error.isRetryable, acting.error.requestId], [false, undefined]);
  assert.deepEqual([gone.asked.length, acting.asked.length], [1, 1]);
});

test("a rehearsal ends at its deadline, with the loop and with the signal", async () => {
  const late = await rehearsed([{ events: [STARTED], open: true }], { timeoutMs: 500 });
  assert.ok(late.error instanceof DeadlineExceeded);
  assert.deepEqual([late.types, late.asked.length], [["started"], 1]);

  using server = await ScriptedServer.start([{ events: [STARTED], open: true }]);
  using client = new ParleyClient({ address: server.address });
  for await (const _ of client.rehearseTurn({ requestId: "r" })) break;
  while (server.cancelled < 1) await new Promise((next) => setImmediate(next));

  const controller = new AbortController();
  const aborted = async () => {
    const { signal } = controller;
    for await (const _ of client.rehearseTurn({ requestId: "r" }, { signal })) controller.abort();
  };
  assert.equal((await thrown(Error, aborted())).name, "AbortError");
  while (server.cancelled < 2) await new Promise((next) => setImmediate(next));
});

test("a wrong argument is thrown at once", () => {
  using client = new ParleyClient();
  const agent = "\ud800";
  assert.throws(() => client.rehearseTurn({ requestId: "r" }, { agent }), TypeError);
  assert.throws(() => client.rehearseTurn({ requestId: "r" }, { timeoutMs: 0 }), RangeError);
});

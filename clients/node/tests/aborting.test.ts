/** An AbortSignal ends whatever the client is doing, and the call at the server. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ChatResponse,
  EraseOwnerResponse,
  GetHistoryResponse,
  ListConversationsResponse,
} from "../src/gen/parley/v1/conversation_service.js";
import { DeadlineExceeded, ParleyClient, ParleyError } from "../src/index.js";
import { collected, thrown } from "./support/collecting.js";
import { anAnswer, ScriptedServer, type Step, started } from "./support/scripted.js";

class Enough extends Error {}

async function aborted(
  steps: Step[],
  call: (client: ParleyClient, signal: AbortSignal) => Promise<unknown>,
): Promise<ScriptedServer> {
  using server = await ScriptedServer.start(steps);
  using client = new ParleyClient({ address: server.address });
  const controller = new AbortController();
  const calling = thrown(Enough, call(client, controller.signal));
  await until(() => server.asked.length > 0);
  controller.abort(new Enough());
  await calling;
  await until(() => steps[0] !== "never" || server.cancelled === 1);
  return server;
}

/** Fails when abort only leaves the promise and not the call. */
test("an aborted chat cancels the call and throws the signal's reason", async () => {
  await aborted(["never"], (client, signal) => client.chat("hello", { signal }));
  await aborted(["never"], (client, signal) => client.startTurn("hello", { signal }));
});

test("reads are aborted as well", async () => {
  await aborted(["never"], (client, signal) => client.turn({ requestId: "r" }, { signal }));
  await aborted(["never"], (client, signal) => client.cancelTurn({ requestId: "r" }, { signal }));
  await aborted(["never"], (client, signal) => collected(client.history("c", { signal })));
  await aborted(["never"], (client, signal) => collected(client.conversations({ signal })));
  await aborted(["never"], (client, signal) => client.conversation("c", { signal }));
});

test("calls for one conversation are aborted as well", async () => {
  await aborted(["never"], (client, signal) => client.createConversation({ signal }));
  await aborted(["never"], (client, signal) => client.updateConversation("c", { signal }));
  await aborted(["never"], (client, signal) => client.deleteConversation("c", { signal }));
  await aborted(["never"], (client, signal) => client.undeleteConversation("c", { signal }));
});

test("an aborted stream or watch cancels the call", async () => {
  await aborted(["never"], (client, signal) => collected(client.stream("hello", { signal })));
  await aborted(["never"], (client, signal) => collected(client.streamText("hello", { signal })));
  await aborted(["never"], (client, signal) => collected(client.watch("c", { signal })));
  await aborted(["never"], (client, signal) => collected(client.watchTurns({ signal })));
});

test("a stream under way is aborted", async () => {
  using server = await ScriptedServer.start([{ events: [started()], open: true }]);
  using client = new ParleyClient({ address: server.address });
  const controller = new AbortController();
  const { signal } = controller;
  await assert.rejects(
    (async () => {
      for await (const _ of client.stream("hello", { signal })) controller.abort(new Enough());
    })(),
    Enough,
  );
  await until(() => server.cancelled === 1);
});

test("a wait between two tries is aborted", async () => {
  const refuse = { code: "ABORTED", reason: "LEASE_LOST", retryMs: 60_000 } as const;
  const server = await aborted([{ refuse }], (client, signal) => client.chat("x", { signal }));
  assert.equal(server.asked.length, 1);
  await aborted([{ refuse }], (client, signal) => collected(client.stream("x", { signal })));
});

test("what was aborted before is not sent", async () => {
  using server = await ScriptedServer.start(["never"]);
  using client = new ParleyClient({ address: server.address });
  const signal = AbortSignal.abort();
  const error = await thrown(Error, client.chat("hello", { signal }));
  assert.equal(error, signal.reason);
  await assert.rejects(client.stream("hello", { signal }).next(), { name: "AbortError" });
  assert.equal(server.asked.length, 0);
});

test("a signal that lives long keeps nothing of the calls that it was given to", async () => {
  const { signal } = new AbortController();
  let listening = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    listening += 1;
    addEventListener.apply(signal, args);
  };
  signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    listening -= 1;
    removeEventListener.apply(signal, args);
  };
  const refuse = { reason: "STORE_UNAVAILABLE", pushback: "-1" };
  using server = await ScriptedServer.start([{ refuse }]);
  using client = new ParleyClient({ address: server.address, token: async () => "t" });
  await assert.rejects(client.chat("hello", { signal }));
  await assert.rejects(collected(client.stream("hello", { signal })));
  assert.equal(listening, 0);
});

/** Fails when the signal is only listened to: it has been aborted by then, and says so no more. */
test("a call that is aborted when its token has just come ends", { timeout: 20_000 }, async () => {
  using server = await ScriptedServer.start(["never"]);
  for (let steps = 0; steps < 12; steps += 1) {
    const controller = new AbortController();
    const abortAfter = (left: number) =>
      queueMicrotask(() => (left > 0 ? abortAfter(left - 1) : controller.abort(new Enough())));
    const token = async () => {
      abortAfter(steps);
      return "token";
    };
    using client = new ParleyClient({ address: server.address, token });
    const { signal } = controller;
    await thrown(Enough, client.chat("hello", { signal }));
    await thrown(Enough, collected(client.stream("hello", { signal })));
  }
  await until(() => server.cancelled === server.asked.length);
});

/** Fails when Node is not told that many calls may share a signal. */
test("no leak is warned of when many calls share a signal", async () => {
  const warnings: string[] = [];
  const warned = (warning: Error) => warnings.push(warning.message);
  process.on("warning", warned);
  using server = await ScriptedServer.start([{ answer: anAnswer() }]);
  using client = new ParleyClient({ address: server.address });
  const { signal } = new AbortController();
  await Promise.all(Array.from({ length: 20 }, () => client.chat("hello", { signal })));
  await new Promise((resolve) => setImmediate(resolve)); // a warning comes later
  process.off("warning", warned);
  assert.deepEqual(warnings, []);
});

test("a token function that hangs is aborted, and ends at the deadline", async () => {
  using client = new ParleyClient({ token: () => new Promise<string>(() => {}) });
  const controller = new AbortController();
  const calling = thrown(Enough, client.chat("hello", { signal: controller.signal }));
  controller.abort(new Enough());
  await calling;
  const late = client.chat("hello", { timeoutMs: 100, requestId: "order-7" });
  assert.equal((await thrown(DeadlineExceeded, late)).requestId, "order-7");
});

test("closing the client ends its calls, and a later call opens it again", async () => {
  using server = await ScriptedServer.start(["never"]);
  using client = new ParleyClient({ address: server.address });
  const calling = assert.rejects(client.chat("hello", { timeoutMs: 30_000 }));
  await until(() => server.asked.length === 1);
  client.close();
  const again = assert.rejects(client.chat("again", { timeoutMs: 300 }), DeadlineExceeded);
  await until(() => server.asked.length === 2);
  await Promise.all([calling, again]);
});

/** Fails when the wait goes on: a process would not end for as long as the server has asked to wait. */
test("closing the client ends waits between two tries, and what is under way", async () => {
  const requestId = "r";
  const lost = { code: "ABORTED", reason: "LEASE_LOST", retryMs: 60_000 } as const;
  const drained = { reason: "WORKER_DRAINED", retryMs: 60_000 } as const; // gRPC itself waits
  const running = { answer: EraseOwnerResponse.fromPartial({ state: "ERASURE_STATE_RUNNING" }) };
  const chat = (client: ParleyClient) => client.chat("hello", { requestId });
  const stream = (client: ParleyClient) => collected(client.stream("hello", { requestId }));
  const erase = (client: ParleyClient) => client.eraseOwner(requestId, { wait: true });
  for (const [step, call] of [
    ["never", chat],
    ["never", stream],
    [{ refuse: lost }, chat],
    [{ refuse: drained }, chat],
    [{ refuse: lost }, stream],
    [running, erase],
  ] as [Step, (client: ParleyClient) => Promise<unknown>][]) {
    using server = await ScriptedServer.start([step]);
    using client = new ParleyClient({ address: server.address });
    const calling = thrown(ParleyError, call(client.actingFor("eve")));
    await until(() => server.asked.length > 0);
    await new Promise((next) => setTimeout(next, 100)); // it waits for what comes next
    client.close();
    const late = new Promise<never>((_, reject) => {
      setTimeout(reject, 10_000, "it still waits").unref();
    });
    const error = await Promise.race([calling, late]);
    assert.deepEqual(
      [error.code, error.message, error.requestId],
      ["CANCELLED", "the client was closed", "r"],
    );
    assert.equal(server.asked.length, 1);
  }
});

/** Fails when the next call opens a channel that nothing closes. */
test("closing the client between two calls that belong together ends them", async () => {
  const waiting = ChatResponse.fromPartial({
    finishReason: "FINISH_REASON_ACTION_REQUIRED",
    pendingCalls: [
      { callKey: "k", name: "leave", arguments: "{}", kind: "PENDING_CALL_KIND_RESULT" },
    ],
  });
  const messages = GetHistoryResponse.fromPartial({ messages: [{}], nextPageToken: "more" });
  const listed = { conversations: [{}], nextPageToken: "more" };
  const conversations = ListConversationsResponse.fromPartial(listed);
  const leave = async (client: ParleyClient) => {
    const run = () => client.close();
    return client.runWithTools("hello", { tools: { leave: { parametersSchema: {}, run } } });
  };
  const history = async (client: ParleyClient) => {
    for await (const _ of client.history("c")) client.close();
  };
  const list = async (client: ParleyClient) => {
    for await (const _ of client.conversations()) client.close();
  };
  for (const [answer, call] of [
    [waiting, leave],
    [messages, history],
    [conversations, list],
  ] as [object, (client: ParleyClient) => Promise<unknown>][]) {
    using server = await ScriptedServer.start([{ answer }]);
    using client = new ParleyClient({ address: server.address });
    const error = await thrown(ParleyError, call(client));
    assert.deepEqual([error.code, error.message], ["CANCELLED", "the client was closed"]);
    assert.equal(server.asked.length, 1);
  }
});

test("a call whose token comes after the client was closed is not made", async () => {
  using server = await ScriptedServer.start(["never"]);
  let comes = (_: string) => {};
  const token = () =>
    new Promise<string>((resolve) => {
      comes = resolve;
    });
  using client = new ParleyClient({ address: server.address, token });
  const calling = thrown(ParleyError, client.chat("hello"));
  client.close();
  comes("token");
  assert.equal((await calling).code, "CANCELLED");
  assert.equal(server.asked.length, 0);
});

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((next) => setImmediate(next));
}

/** The life of a conversation: what is sent for it, what comes back, and what is sent again. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ConversationExists,
  ConversationNotFound,
  ParleyClient,
  ParleyError,
  RevisionMismatch,
  StoreUnavailable,
} from "../src/index.js";
import { collected, thrown } from "./support/collecting.js";
import {
  aConversation,
  CONVERSATION_ID,
  type Refusal,
  ScriptedServer,
} from "./support/scripted.js";

const STORE_UNAVAILABLE: Refusal = { reason: "STORE_UNAVAILABLE", retryMs: 10 };
const GONE: Refusal = { code: "NOT_FOUND", reason: "CONVERSATION_NOT_FOUND" };
const FOUND = { answer: { conversation: aConversation() } };

type Steps = Parameters<typeof ScriptedServer.start>[0];

/** Make a call; return what it came to, and what the server was asked. */
async function made<T>(steps: Steps, call: (parley: ParleyClient) => Promise<T>) {
  using server = await ScriptedServer.start(steps);
  using parley = new ParleyClient({ address: server.address });
  const result = await call(parley).catch((error: unknown) => {
    assert.ok(error instanceof ParleyError, `${error}`);
    return error;
  });
  return { result, asked: server.asked, requests: server.asked.map(({ request }) => request) };
}

test("a conversation is created with all that it is given", async () => {
  const given = {
    conversationId: CONVERSATION_ID,
    requestId: "order-7",
    title: "Invoices",
    labels: { team: "billing", "parley.dev/kind": "" },
    instructions: "Be brief.",
    agent: "quick",
  };
  const answer = { conversation: aConversation({ labels: given.labels }), replayed: true };
  const { result, requests } = await made([{ answer }], (parley) =>
    parley.createConversation(given),
  );
  assert.deepEqual(requests, [given]);
  assert.deepEqual(result, answer);
});

/** Fails with a new id at each try, which could create two. */
test("a creation is retried with the request id that it always has", async () => {
  const { requests, asked } = await made([{ refuse: STORE_UNAVAILABLE }, FOUND], (parley) =>
    parley.createConversation(),
  );
  const [first, second] = requests.map((request) => request.requestId);
  assert.match(first, /^[0-9a-f-]{36}$/);
  assert.equal(second, first);
  assert.deepEqual(
    asked.map(({ metadata }) => metadata.get("parley-retry")),
    [["safe"], ["safe"]],
  );
  const other = await made([FOUND], (parley) => parley.createConversation({ requestId: "" }));
  assert.notEqual(other.requests[0].requestId, first);
});

test("a conversation is read, and brought back", async () => {
  const conversation = aConversation({ instructions: "Be brief.", createTime: new Date(5000) });
  const answer = { conversation };
  for (const name of ["conversation", "undeleteConversation"] as const) {
    const { result, requests } = await made([{ answer }], (parley) =>
      parley[name](CONVERSATION_ID),
    );
    assert.deepEqual(result, conversation);
    assert.deepEqual(requests, [{ conversationId: CONVERSATION_ID }]);
  }
});

/** Fails when what is empty counts as not given, or what is not given is cleared. */
test("an update changes what it is given", async () => {
  const masks: [object, string[]][] = [
    [{}, []],
    [{ title: "" }, ["title"]],
    [{ title: undefined, labels: {} }, ["labels"]],
    [{ labels: { team: "billing" }, instructions: "" }, ["labels", "instructions"]],
    [{ agent: "" }, ["agent"]],
    [{ title: "New", agent: "quick" }, ["title", "agent"]],
  ];
  for (const [given, updateMask] of masks) {
    const { result, requests } = await made([FOUND], (parley) =>
      parley.updateConversation(CONVERSATION_ID, given),
    );
    const cleared = { title: "", labels: {}, instructions: "", agent: "" };
    const named = Object.fromEntries(Object.entries(given).filter(([, value]) => value));
    assert.deepEqual(requests, [
      {
        conversationId: CONVERSATION_ID,
        updateMask,
        ...cleared,
        ...named,
        expectedRevision: undefined,
      },
    ]);
    assert.deepEqual(result, aConversation());
  }
});

test("an update of another revision is refused", async () => {
  const refuse: Refusal = {
    code: "ABORTED",
    reason: "REVISION_MISMATCH",
    metadata: { revision: "7" },
  };
  const { result, requests } = await made([{ refuse }], (parley) =>
    parley.updateConversation(CONVERSATION_ID, { title: "New", expectedRevision: 3 }),
  );
  assert.equal(requests[0].expectedRevision, 3);
  assert.ok(result instanceof RevisionMismatch);
  assert.deepEqual([result.revision, result.isRetryable], [7, false]);
});

test("a conversation that exists is not created", async () => {
  const metadata = { conversation_id: CONVERSATION_ID };
  const refuse: Refusal = { code: "ALREADY_EXISTS", reason: "CONVERSATION_EXISTS", metadata };
  const { result } = await made([{ refuse }], (parley) =>
    parley.createConversation({ conversationId: CONVERSATION_ID, requestId: "order-7" }),
  );
  assert.ok(result instanceof ConversationExists);
  assert.equal(result.conversationId, CONVERSATION_ID);
  assert.deepEqual([result.requestId, result.isRetryable], ["order-7", false]);
});

test("a delete says until when the conversation can be brought back", async () => {
  const answer = { purgeTime: new Date("2030-01-02T03:04:05.678Z") };
  const { result, requests } = await made([{ answer }], (parley) =>
    parley.deleteConversation(CONVERSATION_ID, { allowMissing: true }),
  );
  assert.deepEqual(requests, [{ conversationId: CONVERSATION_ID, allowMissing: true }]);
  assert.deepEqual(result, answer);
});

/** Fails when gRPC makes the retries, which hides the first try, and without the rule itself. */
test("a delete whose outcome was lost finds nothing, and has succeeded", async () => {
  const { result, asked } = await made(
    [{ refuse: STORE_UNAVAILABLE }, { refuse: STORE_UNAVAILABLE }, { refuse: GONE }],
    (parley) => parley.deleteConversation(CONVERSATION_ID),
  );
  assert.deepEqual(result, { purgeTime: undefined });
  assert.equal(asked.length, 3);
  // A proxy that repeats it hides tries as well.
  assert.ok(asked.every(({ metadata }) => metadata.get("parley-retry").length === 0));
});

test("a delete that finds nothing at first is an error", async () => {
  const { result, asked } = await made([{ refuse: GONE }], (parley) =>
    parley.deleteConversation(CONVERSATION_ID),
  );
  assert.ok(result instanceof ConversationNotFound);
  assert.equal(asked.length, 1);
});

test("other calls that find nothing after a loss are errors", async () => {
  const { result, asked } = await made(
    [{ refuse: STORE_UNAVAILABLE }, { refuse: GONE }],
    (parley) => parley.undeleteConversation(CONVERSATION_ID),
  );
  assert.ok(result instanceof ConversationNotFound);
  assert.equal(asked.length, 2);
});

test("a delete is retried as other calls are", async () => {
  const answer = { purgeTime: new Date(5000) };
  const { result } = await made([{ refuse: STORE_UNAVAILABLE }, { answer }], (parley) =>
    parley.deleteConversation(CONVERSATION_ID),
  );
  assert.deepEqual(result, answer);

  const down = await made([{ refuse: STORE_UNAVAILABLE }], (parley) =>
    parley.deleteConversation(CONVERSATION_ID),
  );
  assert.ok(down.result instanceof StoreUnavailable);
  assert.equal(down.asked.length, 5);

  const refuse: Refusal = { reason: "STORE_UNAVAILABLE", pushback: "-1" };
  const pushedBack = await made([{ refuse }], (parley) =>
    parley.deleteConversation(CONVERSATION_ID),
  );
  assert.ok(pushedBack.result instanceof StoreUnavailable);
  assert.equal(pushedBack.asked.length, 1);
});

test("every page of a list is asked for with the same labels and time", async () => {
  const page = (nextPageToken: string) => ({
    answer: { conversations: [aConversation()], nextPageToken },
  });
  const updatedAfter = new Date("2026-01-02T03:04:05.678Z");
  const labels = { team: "billing", kind: "a=b" };
  const empty = { answer: { conversations: [], nextPageToken: "still more" } };
  const { result, requests } = await made([page("more"), empty, page("")], (parley) =>
    collected(parley.conversations({ labels, updatedAfter, pageSize: 1 })),
  );
  const asked = { labels: ["team=billing", "kind=a=b"], updatedAfter, pageSize: 1 };
  assert.deepEqual(requests, [
    { ...asked, pageToken: "" },
    { ...asked, pageToken: "more" },
    { ...asked, pageToken: "still more" },
  ]);
  assert.deepEqual(result, [aConversation(), aConversation()]);
});

test("what cannot be said is not sent", async () => {
  using server = await ScriptedServer.start(["never"]);
  using parley = new ParleyClient({ address: server.address });
  const missing = { team: undefined } as unknown as Record<string, string>;
  const calls = [
    () => parley.createConversation({ labels: missing }),
    () => parley.createConversation({ labels: { team: "\ud83d" } }),
    () => parley.createConversation({ title: "\ud83d" }),
    () => parley.updateConversation("c", { labels: missing }),
    () => parley.updateConversation("c", { expectedRevision: 1.5 }),
    () => parley.conversationsPage({ labels: missing }),
    () => parley.conversationsPage({ labels: { "a=b": "c" } }),
    () => parley.conversationsPage({ updatedAfter: new Date("nonsense") }),
    () => parley.conversationsPage({ updatedAfter: new Date(-1) }),
  ];
  for (const call of calls) await thrown(TypeError, call());
  assert.equal(server.asked.length, 0);
});

test("an answer without its conversation is an error", async () => {
  const { result } = await made([{ answer: { conversation: undefined } }], (parley) =>
    parley.conversation(CONVERSATION_ID),
  );
  assert.ok(result instanceof ParleyError);
  assert.deepEqual([result.code, result.reason], ["INTERNAL", undefined]);
});

/** How servers are reached, and who calls: TLS, tokens, and what cannot be sent. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { credentials, ServerCredentials } from "@grpc/grpc-js";
import {
  type ClientOptions,
  ParleyClient,
  type Token,
  tokenFile,
  Unavailable,
} from "../src/index.js";
import { channelOptions, credentialsFor, isOnThisMachine } from "../src/security.js";
import { collected } from "./support/collecting.js";
import { anAnswer, ScriptedServer } from "./support/scripted.js";

const ANSWER = [{ answer: anAnswer() }];
let folder: string;

/** Make an authority and a certificate by it; return their files. */
function certificates(name: string) {
  const made = join(folder, name);
  const python = resolve("../../.venv/bin/python");
  const script =
    "import sys, trustme, pathlib; d = pathlib.Path(sys.argv[1]); d.mkdir(); ca = trustme.CA();" +
    "c = ca.issue_cert('127.0.0.1', 'localhost'); ca.cert_pem.write_to_path(d / 'ca.pem');" +
    "c.private_key_pem.write_to_path(d / 'key.pem');" +
    "c.cert_chain_pems[0].write_to_path(d / 'cert.pem')";
  execFileSync(python, ["-c", script, made]);
  return {
    caFile: join(made, "ca.pem"),
    keyFile: join(made, "key.pem"),
    certFile: join(made, "cert.pem"),
  };
}

function serverCredentials(own: ReturnType<typeof certificates>, clientCa?: string) {
  const pair = { private_key: readFileSync(own.keyFile), cert_chain: readFileSync(own.certFile) };
  const trusted = clientCa === undefined ? null : readFileSync(clientCa);
  return ServerCredentials.createSsl(trusted, [pair], trusted !== null);
}

async function chat(options: ClientOptions): Promise<string> {
  using client = new ParleyClient(options);
  return (await client.chat("hello", { timeoutMs: 5000 })).response;
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), "parley-node-"));
});
after(() => rmSync(folder, { recursive: true }));

test("TLS trusts the authority that it is given, and no other", async () => {
  const own = certificates("tls");
  using server = await ScriptedServer.start(ANSWER, { credentials: serverCredentials(own) });
  const address = `localhost:${server.port}`;
  assert.equal(await chat({ address, tls: { caFile: own.caFile }, token: "secret" }), "HELLO");
  assert.deepEqual(server.asked[0]?.metadata.get("authorization"), ["Bearer secret"]);
  const given = credentials.createSsl(readFileSync(own.caFile));
  assert.equal(await chat({ address, tls: given }), "HELLO");

  await assert.rejects(chat({ address, tls: {} }), Unavailable);
  const other = certificates("other");
  await assert.rejects(chat({ address, tls: { caFile: other.caFile } }), Unavailable);
  await assert.rejects(chat({ address, plaintext: true }), Unavailable);
  assert.equal(server.asked.length, 2);
});

test("a client certificate says which machine calls", async () => {
  const own = certificates("server");
  const { caFile: clientCa, keyFile, certFile } = certificates("client");
  const serving = { credentials: serverCredentials(own, clientCa) };
  using server = await ScriptedServer.start(ANSWER, serving);
  const address = `localhost:${server.port}`;
  assert.equal(await chat({ address, tls: { caFile: own.caFile, keyFile, certFile } }), "HELLO");
  await assert.rejects(chat({ address, tls: { caFile: own.caFile } }), Unavailable);
});

test("this machine is spoken to in plaintext, another one with TLS unless told", () => {
  for (const address of [
    "127.0.0.1:50051",
    "127.8.0.1:1",
    "localhost:50051",
    "localhost",
    "[::1]:50051",
    "ipv4:127.0.0.1:50051",
    "dns:///localhost:50051",
    "dns:localhost:50051",
    "unix:/run/parley.sock",
    "unix:///run/parley.sock",
  ]) {
    assert.ok(isOnThisMachine(address), address);
    assert.ok(!credentialsFor(address, {})._isSecure(), address);
  }
  for (const address of [
    "parley.internal:443",
    "dns:///parley.internal:443",
    "10.0.0.7:50051",
    "[2001:db8::1]:50051",
    "localhost.example.com:50051",
    "127.0.0.1.example.com:50051",
    "dns://127.0.0.1/parley.internal:443",
  ]) {
    assert.ok(!isOnThisMachine(address), address);
    assert.ok(credentialsFor(address, {})._isSecure(), address);
    assert.ok(!credentialsFor(address, { plaintext: true })._isSecure(), address);
  }
  assert.ok(credentialsFor("localhost:1", { tls: {} })._isSecure());
});

test("options that contradict each other make no client", () => {
  assert.throws(() => new ParleyClient({ plaintext: true, tls: {} }), TypeError);
  assert.throws(() => new ParleyClient({ tls: { keyFile: "key.pem" } }), TypeError);
  assert.throws(() => new ParleyClient({ tls: { caFile: "/no/such.pem" } }), /ENOENT/);
});

test("gRPC retries single calls that end UNAVAILABLE, and no streams and deletes", () => {
  const config = JSON.parse(String(channelOptions()["grpc.service_config"]));
  const [methods, streams, deletes] = config.methodConfig;
  assert.deepEqual(methods.name, [{ service: "parley.v1.ConversationService" }]);
  assert.deepEqual(methods.retryPolicy.retryableStatusCodes, ["UNAVAILABLE"]);
  const names = streams.name.map((name: { method: string }) => name.method);
  assert.deepEqual(names, [
    "StreamChat",
    "StreamResumeTurn",
    "WatchConversation",
    "ExportConversations",
    "WatchTurns",
    "RehearseTurn",
  ]);
  assert.equal(streams.retryPolicy, undefined);
  const method = "DeleteConversation";
  assert.deepEqual(deletes, { name: [{ service: "parley.v1.ConversationService", method }] });
});

async function told(token: Token | undefined): Promise<unknown> {
  using server = await ScriptedServer.start(ANSWER);
  await chat({ address: server.address, token });
  return server.asked[0]?.metadata.get("authorization");
}

test("a token is a string or what a function returns", async () => {
  assert.deepEqual(await told(undefined), []);
  assert.deepEqual(await told(" secret\n"), ["Bearer secret"]);
  assert.deepEqual(await told(() => "asked"), ["Bearer asked"]);
  assert.deepEqual(await told(async () => "awaited"), ["Bearer awaited"]);
  await assert.rejects(told("two\nlines"), TypeError);
  await assert.rejects(told("sécret"), TypeError);
  await assert.rejects(
    told(() => Promise.reject(new RangeError("no token today"))),
    /no token today/,
  );
});

/** Fails when the token is asked for once only. */
test("a token function is asked before every try", async () => {
  const refuse = { code: "ABORTED", reason: "LEASE_LOST", retryMs: 1 } as const;
  using server = await ScriptedServer.start([{ refuse }, { answer: anAnswer() }]);
  let count = 0;
  const token = () => {
    count += 1;
    return `token-${count}`;
  };
  using client = new ParleyClient({ address: server.address, token });
  await client.chat("hello");
  await assert.rejects(collected(client.stream("x", { timeoutMs: 300 })));
  const seen = server.asked.map((asked) => asked.metadata.get("authorization")[0]);
  assert.deepEqual(seen.slice(0, 3), ["Bearer token-1", "Bearer token-2", "Bearer token-3"]);
});

/** Fails when the file is read once only. */
test("a token file is read again when it has changed", async () => {
  const path = join(folder, "token");
  writeFileSync(path, "one\n");
  const token = tokenFile(path);
  assert.deepEqual(await told(token), ["Bearer one"]);
  writeFileSync(`${path}.new`, "two\n");
  renameSync(`${path}.new`, path);
  assert.deepEqual(await told(token), ["Bearer two"]);
  rmSync(path);
  await assert.rejects(told(token), /ENOENT/);
});

test("what cannot be sent is not sent as something else", async () => {
  using server = await ScriptedServer.start(ANSWER);
  using client = new ParleyClient({ address: server.address });
  const half = "\ud83d";
  await assert.rejects(client.chat(half), /message holds half of a surrogate pair/);
  assert.throws(() => client.stream("x", { requestId: half }), TypeError);
  await assert.rejects(client.chat("x", { expectedSequence: 1.5 }), /has to be a whole number/);
  await assert.rejects(client.chat("x", { expectedSequence: 2 ** 53 }), TypeError);
  await assert.rejects(client.historyPage("c", { pageSize: Number.NaN }), TypeError);
  await assert.rejects(client.historyPage("c", { pageSize: 2 ** 31 }), TypeError);
  await assert.rejects(client.chat("x", { timeoutMs: 0 }), RangeError);
  // @ts-expect-error: callers without types make such mistakes
  await assert.rejects(client.chat("x", { onBusy: "queue" }), /"queue" and has to be "reject" or/);
  // @ts-expect-error: the same
  await assert.rejects(client.chat(7), /message has to be a string/);
  // @ts-expect-error: the same
  await assert.rejects(client.deleteConversation("c", { allowMissing: "false" }), /true or false/);
  // @ts-expect-error: the same
  assert.throws(() => client.watchTurns({ allOwners: "false" }), /allOwners has to be true or/);
  assert.equal(server.asked.length, 0);

  await client.chat("x", { onBusy: "wait", onDisconnect: "continue", agent: "poet" });
  const { onBusy, onDisconnect, agent, expectedSequence } = server.asked[0]?.request ?? {};
  assert.deepEqual(
    [onBusy, onDisconnect, agent, expectedSequence],
    ["ON_BUSY_WAIT", "ON_DISCONNECT_CONTINUE", "poet", undefined],
  );
});

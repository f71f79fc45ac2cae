/** Proxies that variables name: none gets to see what has to go straight to the server. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { ParleyClient, Unavailable } from "../src/index.js";
import { anAnswer, ScriptedServer } from "./support/scripted.js";

const VARIABLES = ["grpc_proxy", "https_proxy", "http_proxy"];
const asked: string[] = [];
let proxy: Server;

/** Record what is asked for, and pass nothing on. */
function refuse(socket: Socket): void {
  socket.on("error", () => {});
  socket.once("data", (data) => {
    asked.push(data.toString("latin1").split("\r\n")[0] ?? "");
    socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
  });
}

before(async () => {
  proxy = createServer(refuse).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const place = proxy.address();
  assert(place !== null && typeof place === "object");
  for (const name of VARIABLES) process.env[name] = `http://127.0.0.1:${place.port}`;
});
after(() => {
  for (const name of VARIABLES) delete process.env[name];
  proxy.close();
});

test("no proxy stands between a client and a server on this machine", async () => {
  using server = await ScriptedServer.start([{ answer: anAnswer() }]);
  for (const host of ["127.0.0.1", "localhost"]) {
    using client = new ParleyClient({ address: `${host}:${server.port}`, token: "t" });
    assert.ok((await client.chat("hello", { timeoutMs: 5000 })).response);
  }
  assert.deepEqual(asked, []);
});

test("no proxy is sent plaintext for another machine", async () => {
  using client = new ParleyClient({ address: "parley.invalid:50051", token: "t", plaintext: true });
  await assert.rejects(client.chat("hello", { timeoutMs: 5000 }), Unavailable);
  assert.deepEqual(asked, []);
});

test("TLS to another machine goes through the proxy", async () => {
  using client = new ParleyClient({ address: "parley.invalid:443", token: "t" });
  await assert.rejects(client.chat("hello", { timeoutMs: 5000 }), Unavailable);
  assert.equal(asked[0], "CONNECT parley.invalid:443 HTTP/1.1");
});

/** What the README shows works. */

import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { aToken, LiveServer } from "./support/live.js";

const README = readFileSync("README.md", "utf8");
/** Inside the package, so that its own name leads to it, as it is installed. */
const FOLDER = resolve("build/readme");

let server: LiveServer;
before(async () => {
  mkdirSync(FOLDER, { recursive: true });
  server = await LiveServer.start();
});
after(async () => {
  rmSync(FOLDER, { recursive: true, force: true });
  await server[Symbol.asyncDispose]();
});

function snippets(language: string): string[] {
  const found = README.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "gs"));
  return [...found].map(([, code = ""]) => code);
}

/** Run a program of the README as it is, at a server. Returns: what it prints, line by line. */
async function printed(program: string, address: string): Promise<string[]> {
  const path = join(FOLDER, "program.mjs");
  writeFileSync(path, program.replace("{ token", `{ address: "${address}", token`));
  const env = { ...process.env, PARLEY_TOKEN: aToken() };
  const { stdout, stderr } = await promisify(execFile)("node", [path], { env, timeout: 60_000 });
  assert.equal(stderr, "");
  return stdout.trim().split("\n");
}

test("the quick start runs as it is", async () => {
  const [program = ""] = snippets("js");
  assert.equal(program.trim().split("\n").length, 10);
  assert.deepEqual(await printed(program, server.address), [
    "What is my name?",
    "1 My name is Ada.",
    "2 My name is Ada.",
    "3 What is my name?",
    "4 What is my name?",
  ]);
});

/** Its model calls every tool once, with "a" for a text, and says what it was told. */
const ASKING_AGENT = `from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

agent = Agent(TestModel())
`;

test("the program with a tool runs as it is", async () => {
  const [, program = "", ...others] = snippets("js");
  assert.equal(others.length, 0);
  writeFileSync(join(FOLDER, "asking_agent.py"), ASKING_AGENT);
  await using asking = await LiveServer.start({ AGENT: "python:asking_agent:agent" }, FOLDER);
  const [line = "", ...lines] = await printed(program, asking.address);
  assert.equal(lines.length, 0);
  const { weather } = JSON.parse(line);
  const { city, sky, callKey } = typeof weather === "string" ? JSON.parse(weather) : weather;
  assert.deepEqual([city, sky], ["a", "clear"]);
  assert.match(callKey, /^[0-9a-f-]{36}$/);
});

/** Fails when a path that is no URL ends the process, and with it every other answer. */
test("the endpoint of the examples stays there whatever it is sent", async () => {
  const port = await freePort();
  const program = readFileSync("build/examples/server_sent_events.js", "utf8");
  const path = join(FOLDER, "endpoint.mjs");
  writeFileSync(path, program.replace("{ token", `{ address: "${server.address}", token`));
  const env = { ...process.env, PORT: String(port), PARLEY_TOKEN: aToken() };
  const endpoint = spawn("node", [path], { env, stdio: "inherit" });
  try {
    assert.match(await answerTo("//", port), /^event: failed\ndata: .*"INVALID_REQUEST"/m);
    assert.match(await answerTo("/chat?message=Hello", port), /^event: completed\ndata: /m);
  } finally {
    endpoint.kill();
  }
});

/** Fails when a snippet uses what the library does not have. */
test("the other snippets are of the right types", () => {
  const codes = snippets("ts");
  assert.ok(codes.length >= 11);
  const named = [...new Set(codes.join("").match(/\b(tokenFile|[A-Z]\w+)\b/g))].filter((name) =>
    /^(tokenFile|ParleyClient|ParleyError|TurnInProgress|SequenceMismatch)$/.test(name),
  );
  const given =
    "conversationId: string, requestId: string, text: string, seen: number, " +
    "signal: AbortSignal, order: { id: string }, yesterday: Date, afterCursor: string";
  for (const [n, code] of codes.entries()) {
    const own = code.includes("new ParleyClient(") ? "" : "const parley = new ParleyClient();";
    const wrapped = `import { ${named.join(", ")} } from "parley-client";
      export const all = [${named.join(", ")}];
      export async function snippet(${given}): Promise<unknown> {
        void [conversationId, requestId, text, seen, signal, order, yesterday, afterCursor];
        ${own}\n${code}\nreturn parley;\n}`;
    writeFileSync(join(FOLDER, `snippet${n}.ts`), wrapped);
  }
  const config = {
    extends: "../../tsconfig.json",
    compilerOptions: { noEmit: true, noUnusedLocals: false, allowUnreachableCode: true },
    include: ["*.ts"],
    exclude: [],
  };
  writeFileSync(join(FOLDER, "tsconfig.json"), JSON.stringify(config));
  execFileSync("node_modules/.bin/tsc", ["-p", FOLDER], {
    stdio: ["ignore", "inherit", "inherit"],
  });
});

async function freePort(): Promise<number> {
  const holder = createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  const { port } = holder.address() as AddressInfo;
  holder.close();
  return port;
}

/** Send a request, once somebody listens. Returns: what is answered; empty: nothing. */
async function answerTo(path: string, port: number): Promise<string> {
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    try {
      await once(socket, "connect");
    } catch {
      await new Promise((next) => setTimeout(next, 50));
      continue;
    }
    socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    return text(socket);
  }
}

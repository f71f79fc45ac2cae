/** A real server, in a process of its own, on a database of its own. */

import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const SERVER = resolve("../../.venv/bin/parley-server");
const SECRET = "a secret of this test run, thirty-two bytes and more";
const NAME = "parley-test";

/** Mint a token that the live server takes. */
export function aToken(user = "ada", claims: Record<string, unknown> = {}): string {
  const now = Math.floor(Date.now() / 1000);
  const said = { sub: user, iss: NAME, aud: NAME, iat: now, exp: now + 600, ...claims };
  const signed = [{ alg: "HS256", typ: "JWT" }, said]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

export class LiveServer {
  #process: ChildProcess | undefined;
  #port = 0;
  readonly #output: string[] = [];

  private constructor(
    private readonly folder: string,
    private readonly settings: Record<string, string>,
    private readonly cwd: string,
  ) {}

  /**
   * Start one.
   *
   * @param settings without PARLEY_ in front.
   * @param cwd where it runs, and so where it finds an agent of Python.
   */
  static async start(settings: Record<string, string> = {}, cwd = "."): Promise<LiveServer> {
    const folder = await mkdtemp(join(tmpdir(), "parley-node-"));
    const server = new LiveServer(folder, settings, cwd);
    await server.serve();
    return server;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** Serve, at the second time on the same port. */
  async serve(): Promise<void> {
    const settings: Record<string, string> = {
      LISTEN: this.address,
      AGENT: "echo",
      DATA_DIR: this.folder,
      AUTH_HS256_SECRET: SECRET,
      AUTH_ISSUER: NAME,
      AUTH_AUDIENCE: NAME,
      LOG_FORMAT: "json",
      ...this.settings,
    };
    const named = Object.entries(settings).map(([name, value]) => [`PARLEY_${name}`, value]);
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("PARLEY_"));
    this.#process = spawn(SERVER, ["serve"], {
      cwd: this.cwd,
      env: Object.fromEntries([...inherited, ...named]),
      stdio: ["ignore", "ignore", "pipe"],
    });
    const { stderr } = this.#process;
    if (stderr === null) throw new Error("standard error is piped");
    const lines = createInterface({ input: stderr });
    for await (const line of on(lines)) {
      this.#output.push(line);
      const found = /serves on \S*:(\d+)/.exec(line);
      if (found) {
        this.#port = Number(found[1]);
        stderr.resume();
        return;
      }
    }
    throw new Error(`the server did not start: ${this.#output.join("\n")}`);
  }

  /** Let it end as the system asks for it, or at once. */
  async end(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const process = this.#process;
    if (process === undefined || process.exitCode !== null || process.signalCode !== null) return;
    const ended = once(process, "exit");
    process.kill(signal);
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Iterate over lines until the stream ends, without closing it when the loop is left. */
async function* on(lines: ReturnType<typeof createInterface>): AsyncGenerator<string> {
  const seen: string[] = [];
  let wake = () => {};
  let isOver = false;
  lines.on("line", (line) => {
    seen.push(line);
    wake();
  });
  lines.on("close", () => {
    isOver = true;
    wake();
  });
  for (;;) {
    const line = seen.shift();
    if (line !== undefined) yield line;
    else if (isOver) return;
    else
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
  }
}

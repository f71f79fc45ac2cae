/** Plays one scenario: its steps, one after another, and what they leave in the background. */

import { setTimeout as sleep } from "node:timers/promises";
import type { ParleyClient } from "parley-client";
import { made } from "./calls.js";
import { type Fields, mismatch, Variables } from "./values.js";

const STEP_MS = 60_000;
const EVENTUALLY_MS = 30_000;
const AGAIN_MS = 100;
/** Calls that tell nothing before they have ended. */
const ANSWERS = new Set(["chat", "resume_turn"]);

export interface Step {
  call: string;
  client?: string;
  with?: Fields;
  until?: Record<string, number>;
  background?: true;
  eventually?: true;
  wait?: string;
  as?: string;
  expect?: Fields;
}

export interface Scenario {
  name: string;
  let?: Fields;
  steps: Step[];
}

/** A call under way. */
interface Calling {
  begun: Promise<unknown>;
  result: Promise<Fields>;
}

/** Play a scenario. Throws: an error that says step and reason. */
export async function play(
  scenario: Scenario,
  clients: (name: string) => ParleyClient,
): Promise<void> {
  const over = new AbortController();
  const player = new Player(clients, new Variables(scenario.let ?? {}), over.signal);
  try {
    for (const [place, step] of scenario.steps.entries()) {
      try {
        await player.take(step);
      } catch (error) {
        const what = step.wait === undefined ? step.call : `wait ${step.wait}`;
        throw new Error(`step ${place + 1} (${what}), ${(error as Error).message}`);
      }
    }
  } finally {
    over.abort(); // ends what still runs in the background
  }
}

class Player {
  readonly #clients: (name: string) => ParleyClient;
  readonly #variables: Variables;
  readonly #signal: AbortSignal;
  readonly #background = new Map<string, Calling>();

  constructor(clients: (name: string) => ParleyClient, variables: Variables, signal: AbortSignal) {
    this.#clients = clients;
    this.#variables = variables;
    this.#signal = signal;
  }

  async take(step: Step): Promise<void> {
    if (step.wait !== undefined) {
      const calling = this.#background.get(step.wait);
      if (calling === undefined) throw new Error("no such call");
      this.#keep(step.wait, await inTime(calling.result), step);
    } else if (step.background && step.as !== undefined) {
      const calling = this.#start(step);
      this.#background.set(step.as, calling);
      await inTime(calling.begun);
    } else if (step.eventually) {
      this.#keep(step.as, await this.#awaited(step), step);
    } else {
      this.#keep(step.as, await inTime(this.#start(step).result), step);
    }
  }

  #start(step: Step): Calling {
    const client = this.#clients(step.client ?? "ada");
    const given = this.#variables.resolved(step.with ?? {}) as Fields;
    let hasBegun = () => {};
    const came = new Promise<void>((resolve) => {
      hasBegun = resolve;
    });
    if (ANSWERS.has(step.call)) hasBegun();
    const following = { until: step.until ?? {}, hasBegun, signal: this.#signal };
    const result = made(client, step.call, given, following);
    result.catch(() => {}); // whoever waits for it is told; at the end of a scenario nobody does
    return { begun: Promise.race([came, result]), result };
  }

  /** Make a call until its result is as expected, or time is up. */
  async #awaited(step: Step): Promise<Fields> {
    const expected = this.#variables.resolved(step.expect ?? {}) as Fields;
    const endsAtMs = performance.now() + EVENTUALLY_MS;
    for (;;) {
      const result = await inTime(this.#start(step).result);
      if (mismatch(result, expected) === undefined || performance.now() > endsAtMs) return result;
      await sleep(AGAIN_MS);
    }
  }

  #keep(name: string | undefined, result: Fields, step: Step): void {
    if (name !== undefined) this.#variables.set(name, result);
    const expected = step.expect ?? {};
    const isErrorExpected = Object.keys(expected).some((path) => path.split(".")[0] === "error");
    if (result.error !== undefined && !isErrorExpected) {
      const { code, reason, message } = result.error as Fields;
      throw new Error(`ended with ${code} ${reason}: ${message}`);
    }
    const wrong = mismatch(result, this.#variables.resolved(expected) as Fields);
    if (wrong !== undefined) throw new Error(wrong);
  }
}

async function inTime<T>(promise: Promise<T>): Promise<T> {
  const over = new AbortController();
  const late = sleep(STEP_MS, undefined, { signal: over.signal }).then(() => {
    throw new Error(`no end within ${STEP_MS / 1000} s`);
  });
  late.catch(() => {}); // it has lost the race
  try {
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
  }
}

/**
 * The Node client's runner: plays the scenarios of `clients/conformance`, as its README says.
 *
 *     PARLEY_CONFORMANCE=/path/of/parameters.json npm run --silent conformance
 */

import { readFileSync } from "node:fs";
import { ParleyClient } from "parley-client";
import { play, type Scenario } from "./playing.js";

interface Parameters {
  scenarios: string;
  clients: Record<string, { address: string; token: string }>;
}

async function main(path: string): Promise<void> {
  const parameters = read<Parameters>(path);
  const made = new Map<string, ParleyClient>();

  function client(name: string): ParleyClient {
    const who = parameters.clients[name];
    if (who === undefined) throw new Error(`there is no client ${name}`);
    const { address, token } = who;
    const found = made.get(name) ?? new ParleyClient({ address, token, plaintext: true });
    made.set(name, found);
    return found;
  }

  for (const scenario of read<{ scenarios: Scenario[] }>(parameters.scenarios).scenarios) {
    const began = performance.now();
    const why = await play(scenario, client).then(
      () => "",
      (error: Error) => error.message,
    );
    const ms = Math.round(performance.now() - began);
    console.log(JSON.stringify({ name: scenario.name, ok: why === "", why, ms }));
  }
  for (const one of made.values()) one.close();
}

function read<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8")) as T;
}

const path = process.env.PARLEY_CONFORMANCE;
if (path === undefined) throw new Error("PARLEY_CONFORMANCE has to name the parameters' file");
await main(path);

/** What is asked about agents, and how far a rehearsal has come. Nothing here does I/O. */

import type { MethodDefinition } from "@grpc/grpc-js";
import { text } from "./arguments.js";
import { type Call, CHAT_TIMEOUT_MS, READ_TIMEOUT_MS, turnName } from "./calls.js";
import { type RehearsalEvent, rehearsalEvent } from "./events.js";
import type * as gen from "./gen/parley/v1/conversation_service.js";
import { ConversationServiceService as rpcs } from "./gen/parley/v1/conversation_service.js";
import type { CallOptions, RehearseOptions, TurnName } from "./options.js";
import { RehearsalTries } from "./retries.js";
import type { Stream } from "./streams.js";

/** Build a ListAgents call. */
export function listAgents(
  options: CallOptions,
): Call<gen.ListAgentsRequest, gen.ListAgentsResponse> {
  return { method: rpcs.listAgents, request: {}, timeoutMs: options.timeoutMs ?? READ_TIMEOUT_MS };
}

/**
 * Build an ExplainTurn call.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function explainTurn(
  name: TurnName,
  options: CallOptions,
): Call<gen.ExplainTurnRequest, gen.ExplainTurnResponse> {
  const request: gen.ExplainTurnRequest = turnName(name);
  const timeoutMs = options.timeoutMs ?? READ_TIMEOUT_MS;
  return { method: rpcs.explainTurn, request, timeoutMs, requestId: request.requestId };
}

/** One rehearsal, as it comes. Its request id names the turn, and is no key of its own. */
export class RehearsalProgress
  implements Stream<gen.RehearseTurnRequest, gen.RehearseTurnResponse, RehearsalEvent>
{
  readonly method: MethodDefinition<gen.RehearseTurnRequest, gen.RehearseTurnResponse> =
    rpcs.rehearseTurn;
  readonly request: gen.RehearseTurnRequest;
  isOver = false;
  readonly tries: RehearsalTries;

  /** @throws TypeError an argument cannot be sent. */
  constructor(name: TurnName, options: RehearseOptions) {
    this.request = { ...turnName(name), agent: text("agent", options.agent) };
    this.tries = new RehearsalTries(options.timeoutMs ?? CHAT_TIMEOUT_MS);
  }

  get timeLeftMs(): number {
    return this.tries.timeLeftMs;
  }

  takes(response: gen.RehearseTurnResponse): RehearsalEvent | undefined {
    this.tries.cameFurther();
    this.isOver = response.event?.$case === "completed";
    return rehearsalEvent(response);
  }
}

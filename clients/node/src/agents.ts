/** What the client asks about agents: which there are, what one was shown and did, what it would answer. */

import type { Explained, RehearsalEvent } from "./events.js";
import type { ListAgentsResponse } from "./gen/parley/v1/conversation_service.js";
import type { CallOptions, RehearseOptions, TurnName } from "./options.js";
import { held, Reads } from "./reads.js";
import { explainTurn, listAgents, RehearsalProgress } from "./rehearsals.js";

/** The calls that show agents, and compare them. They change nothing. */
export class Agents extends Reads {
  /**
   * Return the agents that a caller can name, by name: at least one, and exactly one of them `isDefault`.
   *
   * @throws Unavailable, DeadlineExceeded.
   */
  async listAgents(options: CallOptions = {}): Promise<ListAgentsResponse> {
    return this.connection.made(listAgents(options), options.signal);
  }

  /**
   * Return what a turn's agent was shown and what it did: the `messages`, those that were `omitted` and why, a
   * digest of its instructions, its `toolCalls` and the `attempts`.
   *
   * Of a turn without an answer, it is what the next attempt would be shown.
   *
   * @throws TurnNotFound, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async explainTurn(name: TurnName, options: CallOptions = {}): Promise<Explained> {
    const response = await this.connection.made(explainTurn(name, options), options.signal);
    return { ...response, turn: held(response.turn, "turn") };
  }

  /**
   * Give a turn's window and message to an agent again, and iterate over what it answers.
   *
   * Yields `started` (the first), `chunk`, `toolCall` (with its result), and last `completed`: the whole answer, with
   * its tokens. Nothing is stored, and no tool is run: a call that the turn itself made, with the same arguments, gets
   * the result that it got then, any other one an error.
   *
   * The client tries up to 5 times, within `timeoutMs` from this call, as long as no event has come. Once one has, a
   * lost rehearsal is not begun again: it would use the tokens again, and answer differently. Leaving the loop ends it.
   *
   * @throws while iterating: TurnNotFound, AgentUnknown, WindowIncomplete, NoRehearsal, AgentRefused,
   *   TurnLimitReached, BudgetExhausted, InvalidRequest, Unavailable, DeadlineExceeded: what arrived before is not an
   *   answer.
   */
  rehearseTurn(
    name: TurnName,
    options: RehearseOptions = {},
  ): AsyncGenerator<RehearsalEvent, void, undefined> {
    return this.connection.followed(new RehearsalProgress(name, options), options);
  }
}

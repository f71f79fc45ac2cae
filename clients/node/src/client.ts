/** The client: its turns; the calls about conversations and what it reads are in the files beside it. */

import * as calls from "./calls.js";
import { Changes } from "./changes.js";
import { type ClientOptions, Connection, Line } from "./connection.js";
import type { Accepted, Answer, TurnEvent } from "./events.js";
import type { Turn } from "./gen/parley/v1/conversation.js";
import type {
  CallOptions,
  CallResult,
  ChatOptions,
  ResumeOptions,
  StartOptions,
  StreamOptions,
  StreamResumeOptions,
  ToolsOptions,
  TurnName,
} from "./options.js";
import { held } from "./reads.js";
import { ResumeProgress, TextOnly, TurnProgress } from "./streams.js";
import { answered } from "./tools.js";

/** An iterator over a turn, which knows the turn's request id before the first event. */
export type OfTurn<Event> = AsyncGenerator<Event, void, undefined> & { readonly requestId: string };

/**
 * Parley, for a Node service.
 *
 *     const parley = new ParleyClient({ address: "parley.internal:443", token: fetchToken });
 *     const first = await parley.chat("Hello!");
 *     const second = await parley.chat("And?", { conversationId: first.conversationId });
 *
 * One client serves a whole process: it keeps one channel, opened at its first call.
 *
 * What answers is the contract's own messages, as plain objects. What fails throws a `ParleyError`.
 * Unreachable servers and lost workers are retried under the call's deadline, with the same request id.
 * An aborted signal cancels the call, which then throws the signal's reason. A TypeError or RangeError
 * means that an argument cannot be sent.
 */
export class ParleyClient extends Changes {
  /**
   * Make a client. Nothing is connected yet.
   *
   * @throws TypeError the options contradict each other; Error: a TLS file cannot be read.
   */
  constructor(options?: ClientOptions);
  /** @internal */
  constructor(connection: Connection);
  constructor(given: ClientOptions | Connection = {}) {
    super(given instanceof Connection ? given : new Connection(new Line(given), given.token));
  }

  /**
   * Return a client that acts for a user and calls for the user's conversations.
   *
   * Cheap enough for each request of a web server: it uses this client's channel, which stays open when
   * the returned client is closed. The token stays what it is, and needs the scope `parley.act` beside
   * those of the calls.
   *
   * @param user the `sub` of the user's own tokens.
   */
  actingFor(user: string): ParleyClient {
    return new ParleyClient(this.connection.actingFor(user));
  }

  /**
   * Close the channel; calls under way, and those that wait between two tries, end with a ParleyError whose code is
   * CANCELLED. A later call opens it again.
   */
  close(): void {
    this.connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Make one turn and return its answer.
   *
   * There is one turn for one request id, however often it is sent. When this returns, message and
   * answer are stored; `replayed` is true if the turn had been answered before. If `finishReason` is
   * FINISH_REASON_ACTION_REQUIRED, the turn waits for what `pendingCalls` name: `resumeTurn` gives it.
   *
   * @param message 1 to 262,144 bytes of UTF-8 unless the server is set otherwise, not only white
   *   space.
   * @throws ConversationNotFound, TurnInProgress, SequenceMismatch, RequestIdReused, TurnSuperseded,
   *   AttemptsExhausted, AgentRefused, Unavailable, DeadlineExceeded, and what any call may throw: InvalidRequest,
   *   Unauthenticated, ScopeMissing, Overloaded, InternalError.
   */
  async chat(message: string, options: ChatOptions = {}): Promise<Answer> {
    const call = calls.chat(message, options);
    const response = await this.connection.made(call, options.signal);
    return { ...response, requestId: call.requestId };
  }

  /**
   * Make one turn and iterate over its answer while the agent writes it.
   *
   * Yields `started` (first in every call, and so again after a loss), `chunk`, `toolCall`, and last
   * `completed`, whose `answer` replaces what was collected: the last pieces may arrive only there. If an
   * event's `attempt` is higher than before, the agent started over, and what was collected until then is
   * void; with `onDisconnect: "continue"` a lost connection alone never causes that.
   *
   * The client restarts a lost stream by itself, with the same request id and after the last piece
   * received, on any worker: up to 5 failed tries, 8 once pieces have arrived, within `timeoutMs` from
   * this call. Leaving the loop cancels the call; `onDisconnect` decides what happens to the turn.
   *
   * @throws while iterating, as `chat`: what arrived before is not an answer.
   */
  stream(message: string, options: StreamOptions = {}): OfTurn<TurnEvent> {
    const progress = new TurnProgress(calls.chat(message, options));
    const events = this.connection.followed(progress, options);
    return Object.assign(events, { requestId: progress.requestId });
  }

  /**
   * Make one turn and iterate over its text while the agent writes it, each piece once.
   *
   * @throws while iterating, as `stream`; AttemptLost: the agent started over, so that the text so far is
   *   void, and the same request id gets the whole answer; ActionRequired: the turn waits for `resumeTurn`.
   */
  streamText(message: string, options: StreamOptions = {}): OfTurn<string> {
    const events = this.stream(message, options);
    return Object.assign(textOf(events), { requestId: events.requestId });
  }

  /**
   * Store a turn and return at once: the server runs it without a caller.
   *
   * When this returns, the turn is stored and will be run, whatever happens to workers and connections.
   * Turns of one conversation begin in the order in which they were accepted. There is one turn for one
   * request id, however often it is sent; `replayed` is true if an earlier call had stored it, and `turn`
   * is as it is then. A turn that failed is queued again. `watchTurns` tells when it has ended, `turn` where
   * it stands; `chat` and `stream` with the same arguments and request id get its answer.
   *
   * @param message as for `chat`.
   * @throws QueueFull, TurnLimitReached, BudgetExhausted, ConversationNotFound, RequestIdReused,
   *   TurnSuperseded, AttemptsExhausted, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async startTurn(message: string, options: StartOptions = {}): Promise<Accepted> {
    const call = calls.startTurn(message, options);
    const response = await this.connection.made(call, options.signal);
    return { ...response, turn: held(response.turn, "turn") };
  }

  /**
   * Give a waiting turn what it waits for, and return what becomes of it.
   *
   * A result counts once, however often it is given; when this returns, all are stored. If some calls are still
   * pending, or the model calls others, the answer's `finishReason` is FINISH_REASON_ACTION_REQUIRED again.
   *
   * @param results one for each pending call, or for some of them: 1 to 64.
   * @throws TurnNotFound, ResultAlreadyGiven, CallNotPending, TurnSuperseded, AttemptsExhausted, AgentRefused,
   *   InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async resumeTurn(
    name: TurnName,
    results: readonly CallResult[],
    options: ResumeOptions = {},
  ): Promise<Answer> {
    const call = calls.resumeTurn(name, results, options);
    const response = await this.connection.made(call, options.signal);
    return { ...held(response.chat, "chat"), requestId: call.requestId };
  }

  /**
   * Give a waiting turn what it waits for, and iterate over the turn, from its beginning on, as `stream` does.
   *
   * @throws while iterating, as `resumeTurn`: what arrived before is not an answer.
   */
  streamResumeTurn(
    name: TurnName,
    results: readonly CallResult[],
    options: StreamResumeOptions = {},
  ): AsyncGenerator<TurnEvent, void, undefined> {
    const progress = new ResumeProgress(calls.resumeTurn(name, results, options));
    return this.connection.followed(progress, options);
  }

  /**
   * Make one turn with tools that are functions of this process, and return its answer.
   *
   * Whenever the turn waits, the functions that it waits for are run, those of one response at the same time, and
   * it is given what they return; `approve` decides on calls that need approval. With the same arguments, tools
   * and request id, another process goes on with what is pending: no result that was given is asked for again, and
   * a function that was cut short runs again under the same `callKey`.
   *
   * @throws as `chat` and `resumeTurn`; what `approve` throws; a tool's own error never.
   */
  async runWithTools(message: string, options: ToolsOptions): Promise<Answer> {
    return answered(new ParleyClient(this.connection.whileOpen()), message, options);
  }

  /**
   * Stop a turn; the text written so far becomes its final answer.
   *
   * Callers that stream the turn or wait for it get that answer. Returns the turn: cancelled, or as it
   * had ended before; still running if it has not stopped within 2 seconds.
   *
   * @throws TurnNotFound, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async cancelTurn(name: TurnName, options: CallOptions = {}): Promise<Turn> {
    const call = calls.cancelTurn(name, options.timeoutMs);
    const response = await this.connection.made(call, options.signal);
    return held(response.turn, "turn");
  }
}

async function* textOf(events: OfTurn<TurnEvent>): AsyncGenerator<string, void, undefined> {
  const text = new TextOnly(events.requestId);
  for await (const event of events) {
    const added = text.addedBy(event);
    if (added !== "") yield added;
    text.checkEnd(event);
  }
}

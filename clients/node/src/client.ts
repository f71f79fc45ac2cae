/** The client: what it says, and what it reads. */

import * as calls from "./calls.js";
import { type ClientOptions, Connection, Line } from "./connection.js";
import { ParleyError } from "./errors.js";
import type { Answer, TurnEvent, Update } from "./events.js";
import type { Conversation, Message, Turn } from "./gen/parley/v1/conversation.js";
import type {
  CancelTurnResponse,
  GetHistoryResponse,
  GetTurnResponse,
  ListConversationsResponse,
} from "./gen/parley/v1/conversation_service.js";
import type {
  CallOptions,
  ChatOptions,
  HistoryOptions,
  ListOptions,
  PageToken,
  StreamOptions,
  TurnName,
  WatchOptions,
} from "./options.js";
import { TextOnly, TurnProgress, WatchProgress } from "./streams.js";

/** What iterates over a turn knows the turn's request id before anything has come. */
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
export class ParleyClient {
  readonly #connection: Connection;

  /**
   * Make a client. Nothing is connected yet.
   *
   * @throws TypeError the options contradict each other; Error: a TLS file cannot be read.
   */
  constructor(options?: ClientOptions);
  /** @internal */
  constructor(connection: Connection);
  constructor(given: ClientOptions | Connection = {}) {
    this.#connection =
      given instanceof Connection ? given : new Connection(new Line(given), given.token);
  }

  /**
   * Return this client as one whose calls are about a user's conversations.
   *
   * Cheap enough for each request of a web server: it uses this client's channel, which stays open when
   * the returned client is closed. The token stays what it is, and needs the scope `parley.act` beside
   * those of the calls.
   *
   * @param user what the user's own tokens have as `sub`.
   */
  actingFor(user: string): ParleyClient {
    return new ParleyClient(this.#connection.actingFor(user));
  }

  /** Close the channel; calls under way end as cancelled. A later call opens it again. */
  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Make one turn and return its answer.
   *
   * One turn for one request id, however often it is sent. When it returns, message and answer are
   * stored; `replayed` if the turn had been answered before.
   *
   * @param message 1 to 262,144 bytes of UTF-8 unless the server is set otherwise, not only white
   *   space.
   * @throws ConversationNotFound, TurnInProgress, SequenceMismatch, RequestIdReused, TurnSuperseded,
   *   AttemptsExhausted, AgentRefused, Unavailable, DeadlineExceeded, and what any call may throw: InvalidRequest,
   *   Unauthenticated, ScopeMissing, Overloaded, InternalError.
   */
  async chat(message: string, options: ChatOptions = {}): Promise<Answer> {
    const call = calls.chat(message, options);
    const response = await this.#connection.made(call, options.signal);
    return { ...response, requestId: call.requestId };
  }

  /**
   * Make one turn and iterate over its answer as it comes.
   *
   * Yields `started` (first in every call, and so again after a loss), `chunk`, `toolCall`, and last
   * `completed`, whose `answer` replaces what was gathered: the last pieces may come only there. If an
   * event's `attempt` is higher than before, the agent began anew, and what was gathered until then is
   * void; with `onDisconnect: "continue"` a lost connection alone does not make it so.
   *
   * A stream that is lost is begun again by itself, under the same request id and behind the last piece
   * seen, on any worker: 5 tries in vain, 8 once pieces have come, within `timeoutMs`, which counts from
   * here. Leaving the loop cancels the call; `onDisconnect` decides what becomes of the turn.
   *
   * @throws while iterating, as `chat`: what had come before is not an answer.
   */
  stream(message: string, options: StreamOptions = {}): OfTurn<TurnEvent> {
    const progress = new TurnProgress(calls.chat(message, options));
    const events = this.#connection.followed(progress, options);
    return Object.assign(events, { requestId: progress.requestId });
  }

  /**
   * Make one turn and iterate over its text as it comes, each piece once, the last included.
   *
   * @throws while iterating, as `stream`; AttemptLost: the agent began anew, so that the text so far is
   *   void. The same request id gets the whole answer.
   */
  streamText(message: string, options: StreamOptions = {}): OfTurn<string> {
    const events = this.stream(message, options);
    return Object.assign(textOf(events), { requestId: events.requestId });
  }

  /**
   * Stop a turn and keep what was said so far as its answer, for good.
   *
   * Whoever streams or waits for the turn gets that answer. Returns the turn as it stands: cancelled, or
   * however it ended before; still running if it has not stopped within 2 seconds.
   *
   * @throws TurnNotFound, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async cancelTurn(name: TurnName, options: CallOptions = {}): Promise<Turn> {
    const call = calls.cancelTurn(name, options.timeoutMs);
    return turnIn(await this.#connection.made(call, options.signal));
  }

  /**
   * Return where a turn stands.
   *
   * @throws TurnNotFound, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async turn(name: TurnName, options: CallOptions = {}): Promise<Turn> {
    const call = calls.turn(name, options.timeoutMs);
    return turnIn(await this.#connection.made(call, options.signal));
  }

  /**
   * Iterate over a conversation's messages; pages are fetched as they are needed.
   *
   * @throws while iterating: ConversationNotFound, SequenceNotReached, Unavailable, DeadlineExceeded.
   */
  async *history(
    conversationId: string,
    options: HistoryOptions = {},
  ): AsyncGenerator<Message, void, undefined> {
    let pageToken = "";
    do {
      const page = await this.historyPage(conversationId, { ...options, pageToken });
      yield* page.messages;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /**
   * Return one page of a conversation's messages.
   *
   * @throws ConversationNotFound, SequenceNotReached, InvalidPageToken, Unavailable, DeadlineExceeded.
   */
  async historyPage(
    conversationId: string,
    options: HistoryOptions & PageToken = {},
  ): Promise<GetHistoryResponse> {
    return this.#connection.made(calls.historyPage(conversationId, options), options.signal);
  }

  /**
   * Iterate over the caller's conversations, the most recently active first.
   *
   * One that becomes active meanwhile may be missing; none comes twice.
   *
   * @throws while iterating: Unavailable, DeadlineExceeded.
   */
  async *conversations(options: ListOptions = {}): AsyncGenerator<Conversation, void, undefined> {
    let pageToken = "";
    do {
      const page = await this.conversationsPage({ ...options, pageToken });
      yield* page.conversations;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /**
   * Return one page of the caller's conversations, the most recently active first.
   *
   * @throws InvalidPageToken, Unavailable, DeadlineExceeded.
   */
  async conversationsPage(
    options: ListOptions & PageToken = {},
  ): Promise<ListConversationsResponse> {
    return this.#connection.made(calls.conversationsPage(options), options.signal);
  }

  /**
   * Iterate over what happens in a conversation: what is there, then live, without an end.
   *
   * Every message once, in order, through restarts of the server and lost connections; each new call
   * waits longer than the one before, at most 3 seconds unless the server asks for more. Leaving the
   * loop ends the watch.
   *
   * @throws while iterating: ConversationNotFound, Overloaded, Unavailable (only as long as nothing has
   *   come), Unauthenticated, ScopeMissing.
   */
  watch(
    conversationId: string,
    options: WatchOptions = {},
  ): AsyncGenerator<Update, void, undefined> {
    return this.#connection.followed(new WatchProgress(conversationId, options), options);
  }
}

async function* textOf(events: OfTurn<TurnEvent>): AsyncGenerator<string, void, undefined> {
  const text = new TextOnly(events.requestId);
  for await (const event of events) {
    const added = text.addedBy(event);
    if (added !== "") yield added;
  }
}

function turnIn({ turn }: GetTurnResponse | CancelTurnResponse): Turn {
  if (turn === undefined) {
    throw new ParleyError("the server answered without a turn", { code: "INTERNAL" });
  }
  return turn;
}

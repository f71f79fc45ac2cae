/** The client: its turns, its conversations and its reads. */

import * as calls from "./calls.js";
import { type ClientOptions, Connection, Line } from "./connection.js";
import { ParleyError } from "./errors.js";
import type { Answer, Created, Exported, Forked, TurnEvent, Update } from "./events.js";
import type { Conversation, Message, Turn } from "./gen/parley/v1/conversation.js";
import type {
  AppendMessagesResponse,
  DeleteConversationResponse,
  EraseOwnerResponse,
  GetHistoryResponse,
  GetUsageResponse,
  ListConversationsResponse,
} from "./gen/parley/v1/conversation_service.js";
import { ErasureState } from "./gen/parley/v1/conversation_service.js";
import type {
  AppendOptions,
  CallOptions,
  ChatOptions,
  CreateOptions,
  DeleteOptions,
  EraseOptions,
  ExportOptions,
  ForkOptions,
  HistoryOptions,
  ListOptions,
  NewMessage,
  PageToken,
  StreamOptions,
  TurnName,
  UpdateOptions,
  UsageOptions,
  WatchOptions,
} from "./options.js";
import { ExportProgress, TextOnly, TurnProgress, WatchProgress } from "./streams.js";
import { pause } from "./waiting.js";

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
   * Return a client that acts for a user and calls for the user's conversations.
   *
   * Cheap enough for each request of a web server: it uses this client's channel, which stays open when
   * the returned client is closed. The token stays what it is, and needs the scope `parley.act` beside
   * those of the calls.
   *
   * @param user the `sub` of the user's own tokens.
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
   * There is one turn for one request id, however often it is sent. When this returns, message and
   * answer are stored; `replayed` is true if the turn had been answered before.
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
    const events = this.#connection.followed(progress, options);
    return Object.assign(events, { requestId: progress.requestId });
  }

  /**
   * Make one turn and iterate over its text while the agent writes it, each piece once.
   *
   * @throws while iterating, as `stream`; AttemptLost: the agent started over, so that the text so far is
   *   void. The same request id gets the whole answer.
   */
  streamText(message: string, options: StreamOptions = {}): OfTurn<string> {
    const events = this.stream(message, options);
    return Object.assign(textOf(events), { requestId: events.requestId });
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
    const response = await this.#connection.made(call, options.signal);
    return held(response.turn, "turn");
  }

  /**
   * Return the state of a turn.
   *
   * @throws TurnNotFound, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async turn(name: TurnName, options: CallOptions = {}): Promise<Turn> {
    const call = calls.turn(name, options.timeoutMs);
    const response = await this.#connection.made(call, options.signal);
    return held(response.turn, "turn");
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
   * Create an empty conversation, to give it labels, instructions or a title before its first message.
   *
   * `chat` creates conversations as well. There is one conversation for one request id or conversation
   * id, however often it is sent; `replayed` is true if an earlier call had created it.
   *
   * @throws ConversationExists, RequestIdReused, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async createConversation(options: CreateOptions = {}): Promise<Created> {
    const call = calls.createConversation(options);
    const response = await this.#connection.made(call, options.signal);
    return { ...response, conversation: held(response.conversation, "conversation") };
  }

  /**
   * Return one conversation, without its messages.
   *
   * @throws ConversationNotFound, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async conversation(conversationId: string, options: CallOptions = {}): Promise<Conversation> {
    const call = calls.conversation(conversationId, options);
    const response = await this.#connection.made(call, options.signal);
    return held(response.conversation, "conversation");
  }

  /**
   * Change the title, the labels or the instructions of a conversation; return it as it is then.
   *
   * What is not given stays as it is, and an empty value clears. A turn that is open keeps the
   * instructions that it began with. With `expectedRevision` the change is made once: a retry that
   * finds exactly its own change, at the next revision, returns the conversation. Without, a retry
   * after a lost answer makes the change again.
   *
   * @throws ConversationNotFound, RevisionMismatch, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async updateConversation(conversationId: string, options: UpdateOptions): Promise<Conversation> {
    const call = calls.updateConversation(conversationId, options);
    const response = await this.#connection.made(call, options.signal);
    return held(response.conversation, "conversation");
  }

  /**
   * Delete a conversation with everything that was said in it.
   *
   * An open turn is stopped, and watches end. Until `purgeTime`, `undeleteConversation` brings it back;
   * undefined: nothing does. If a try was lost and a later one finds no conversation, the call has done
   * its work: it returns without a `purgeTime`. Over several calls, `allowMissing` does the same.
   *
   * @throws ConversationNotFound (unless `allowMissing`), InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async deleteConversation(
    conversationId: string,
    options: DeleteOptions = {},
  ): Promise<DeleteConversationResponse> {
    const call = calls.deleteConversation(conversationId, options);
    return this.#connection.made(call, options.signal);
  }

  /**
   * Bring a deleted conversation back, as it was when it was deleted; return it.
   *
   * A turn that was open then is failed and can be retried. A conversation that is not deleted is
   * returned as it is.
   *
   * @throws ConversationNotFound (there is none, or it can no longer be brought back), InvalidRequest,
   *   Unavailable, DeadlineExceeded.
   */
  async undeleteConversation(
    conversationId: string,
    options: CallOptions = {},
  ): Promise<Conversation> {
    const call = calls.undeleteConversation(conversationId, options);
    const response = await this.#connection.made(call, options.signal);
    return held(response.conversation, "conversation");
  }

  /**
   * Iterate over the caller's conversations, the most recently active first.
   *
   * One that becomes active meanwhile may be missing; none appears twice.
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
   * Iterate over a conversation's messages and turn states: first the stored ones, then new ones, until
   * the conversation is deleted: `deleted` is the last update.
   *
   * Every message arrives once, in order, through restarts of the server and lost connections; each new
   * call waits longer than the one before, at most 3 seconds unless the server asks for more. Leaving
   * the loop ends the watch.
   *
   * @throws while iterating: ConversationNotFound and Unavailable (only as long as nothing has come),
   *   Overloaded, Unauthenticated, ScopeMissing.
   */
  watch(
    conversationId: string,
    options: WatchOptions = {},
  ): AsyncGenerator<Update, void, undefined> {
    return this.#connection.followed(new WatchProgress(conversationId, options), options);
  }

  /**
   * Add messages to a conversation without running an agent: all of them, or none.
   *
   * The agent sees them in the next turn. They are added once for one request id, however often it is
   * sent; `replayed` is true if an earlier call had added them.
   *
   * @param messages 1 to 1,000, in order, with at most 1 MiB of texts; those of a `history` as they are.
   * @throws ConversationNotFound (unless `allowMissing`), TurnInProgress, SequenceMismatch,
   *   RequestIdReused, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async appendMessages(
    conversationId: string,
    messages: readonly NewMessage[],
    options: AppendOptions = {},
  ): Promise<AppendMessagesResponse> {
    const call = calls.appendMessages(conversationId, messages, options);
    return this.#connection.made(call, options.signal);
  }

  /**
   * Create a conversation with the messages of another one, up to the end of a turn.
   *
   * It has the same title, labels and instructions; from then on both change apart. There is one fork for
   * one request id, however often it is sent; `replayed` is true if an earlier call had created it.
   *
   * @throws ConversationNotFound, ConversationExists, NotATurnBoundary, SequenceNotReached,
   *   RequestIdReused, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async forkConversation(conversationId: string, options: ForkOptions = {}): Promise<Forked> {
    const call = calls.forkConversation(conversationId, options);
    const response = await this.#connection.made(call, options.signal);
    return { ...response, conversation: held(response.conversation, "conversation") };
  }

  /**
   * Iterate over everything that the caller has stored: each conversation, followed by its messages, and
   * last `done`.
   *
   * Every part arrives once, in order, through restarts of the server and lost connections: up to 5 failed
   * tries, 8 once parts have arrived. To continue after a crash of the caller, pass the last `cursor`.
   * Leaving the loop ends the export.
   *
   * @throws while iterating: InvalidPageToken (the cursor is not one of the caller's), Unavailable,
   *   Overloaded, DeadlineExceeded, Unauthenticated, ScopeMissing.
   */
  exportConversations(options: ExportOptions = {}): AsyncGenerator<Exported, void, undefined> {
    return this.#connection.followed(new ExportProgress(options), options);
  }

  /**
   * Erase everything that the caller has stored; the token has to name the scope `parley.erase`.
   *
   * When this returns, no call finds any of it. `state` says whether rows are still being removed: with
   * `wait` this returns when none is left; without, call again with the same request id to see it.
   *
   * @param requestId the erasure's key, 1 to 128 of [A-Za-z0-9._:-]. Another one begins another erasure, so
   *   store it before the first call. It is kept with the receipt: no personal data.
   * @throws ScopeMissing, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async eraseOwner(requestId: string, options: EraseOptions = {}): Promise<EraseOwnerResponse> {
    const call = calls.eraseOwner(requestId, options);
    for (;;) {
      const receipt = await this.#connection.made(call, options.signal);
      if (!options.wait || receipt.state === ErasureState.DONE) return receipt;
      await pause(calls.ERASURE_PAUSE_MS, options.signal);
    }
  }

  /**
   * Return what the caller's turns used: a row for each day and, if asked for, agent and value of a label.
   *
   * @throws InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async usage(options: UsageOptions = {}): Promise<GetUsageResponse> {
    return this.#connection.made(calls.usage(options), options.signal);
  }
}

async function* textOf(events: OfTurn<TurnEvent>): AsyncGenerator<string, void, undefined> {
  const text = new TextOnly(events.requestId);
  for await (const event of events) {
    const added = text.addedBy(event);
    if (added !== "") yield added;
  }
}

/** Return what a response has to hold. */
function held<T>(found: T | undefined, name: string): T {
  if (found === undefined) {
    throw new ParleyError(`the server answered without a ${name}`, { code: "INTERNAL" });
  }
  return found;
}

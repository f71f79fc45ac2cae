/** What the client reads: conversations, messages, turns, usage. */

import * as calls from "./calls.js";
import type { Connection } from "./connection.js";
import { ParleyError } from "./errors.js";
import type { Exported, FeedUpdate, Update } from "./events.js";
import type { Conversation, Message, Turn } from "./gen/parley/v1/conversation.js";
import type {
  GetHistoryResponse,
  GetUsageResponse,
  ListConversationsResponse,
} from "./gen/parley/v1/conversation_service.js";
import type {
  CallOptions,
  ExportOptions,
  FeedOptions,
  HistoryOptions,
  ListOptions,
  PageToken,
  TurnName,
  UsageOptions,
  WatchOptions,
} from "./options.js";
import { ExportProgress, FeedProgress, WatchProgress } from "./streams.js";

/** The calls that change nothing. */
export class Reads {
  /** @internal */
  protected readonly connection: Connection;

  /** @internal */
  constructor(connection: Connection) {
    this.connection = connection;
  }

  /**
   * Return the state of a turn.
   *
   * @throws TurnNotFound, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async turn(name: TurnName, options: CallOptions = {}): Promise<Turn> {
    const call = calls.turn(name, options.timeoutMs);
    const response = await this.connection.made(call, options.signal);
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
    const reads = new Reads(this.connection.whileOpen());
    let pageToken = "";
    do {
      const page = await reads.historyPage(conversationId, { ...options, pageToken });
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
    return this.connection.made(calls.historyPage(conversationId, options), options.signal);
  }

  /**
   * Return one conversation, without its messages.
   *
   * @throws ConversationNotFound, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async conversation(conversationId: string, options: CallOptions = {}): Promise<Conversation> {
    const call = calls.conversation(conversationId, options);
    const response = await this.connection.made(call, options.signal);
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
    const reads = new Reads(this.connection.whileOpen());
    let pageToken = "";
    do {
      const page = await reads.conversationsPage({ ...options, pageToken });
      yield* page.conversations;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /**
   * Return one page of the caller's conversations, the most recently active first.
   *
   * With labels, it may have fewer than `pageSize`, even none, and a `nextPageToken`: only an empty one says
   * that the list has ended.
   *
   * @throws InvalidPageToken, Unavailable, DeadlineExceeded.
   */
  async conversationsPage(
    options: ListOptions & PageToken = {},
  ): Promise<ListConversationsResponse> {
    return this.connection.made(calls.conversationsPage(options), options.signal);
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
    return this.connection.followed(new WatchProgress(conversationId, options), options);
  }

  /**
   * Iterate over the feed: every turn that ended, those of the last days first, then each that ends.
   *
   * Every end comes once, in an order in which a cursor misses none, through restarts of the server and
   * lost connections: the client goes on behind the last cursor by itself, for ever once the feed has begun,
   * and each new call waits longer than the one before, at most 3 seconds unless the server asks for more.
   * A turn that failed and is run again is told each time that it ends, with its `attempt`.
   *
   * To go on after a crash of the caller, handle an update, then store its `cursor`, and pass the last one as
   * `afterCursor`. Leaving the loop ends the watch.
   *
   * @throws while iterating: CursorExpired (turns may be missing behind the cursor), InvalidPageToken (it is
   *   not one of this feed's), Unavailable (only as long as nothing has come), Overloaded, Unauthenticated,
   *   ScopeMissing.
   */
  watchTurns(options: FeedOptions = {}): AsyncGenerator<FeedUpdate, void, undefined> {
    return this.connection.followed(new FeedProgress(options), options);
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
    return this.connection.followed(new ExportProgress(options), options);
  }

  /**
   * Return what the caller's turns used: a row for each day and, if asked for, agent and value of a label.
   *
   * @throws InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async usage(options: UsageOptions = {}): Promise<GetUsageResponse> {
    return this.connection.made(calls.usage(options), options.signal);
  }
}

/** Return what a response has to hold. */
export function held<T>(found: T | undefined, name: string): T {
  if (found === undefined) {
    throw new ParleyError(`the server answered without a ${name}`, { code: "INTERNAL" });
  }
  return found;
}

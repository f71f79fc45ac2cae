/**
 * How far a stream has come: what to ask for next, and whether to ask again.
 *
 * Nothing here does I/O. A stream that was lost is asked for again, from where it was lost: a turn
 * behind the last text or tool call seen, a watch behind the last message, the feed and an export behind their
 * last cursor.
 */

import type { MethodDefinition } from "@grpc/grpc-js";
import { flag, labelFilters, text, whole } from "./arguments.js";
import type { ChatCall, ResumeCall } from "./calls.js";
import { ActionRequired, AttemptLost, ConversationNotFound, type ParleyError } from "./errors.js";
import {
  type Exported,
  exportedOf,
  type FeedUpdate,
  feedUpdateOf,
  type TurnEvent,
  turnEvent,
  type Update,
  updateOf,
} from "./events.js";
import { FinishReason, type TurnState } from "./gen/parley/v1/conversation.js";
import * as gen from "./gen/parley/v1/conversation_service.js";
import type { ExportOptions, FeedOptions, WatchOptions } from "./options.js";
import { ExportTries, StreamTries, WatchTries } from "./retries.js";

/** How long one call of a watch or an export may last: the server ends it sooner, unless it is lost. */
const WATCH_CALL_MS = 300_000;

/** One stream, over all calls that it takes. */
export interface Stream<Request, Response, Event> {
  readonly method: MethodDefinition<Request, Response>;
  /** What to ask for in the next call. */
  readonly request: Request;
  readonly requestId?: string;
  readonly tries: StreamTries;
  /** The last event has come. */
  readonly isOver: boolean;
  /** How long the next call may last. */
  readonly timeLeftMs: number;

  /** Note an event. Returns: what the iteration yields for it; undefined: nothing new. */
  takes(response: Response): Event | undefined;

  /** Return the last event, if an error stands for it. Undefined: it does not. */
  lastEvent?(error: ParleyError): Event | undefined;
}

/** What asks for a turn's events from a place on. */
interface FromPlace {
  afterAttempt: number;
  afterIndex?: number | undefined;
}

/** How far a turn has come. */
class TurnPlace<Request extends FromPlace> {
  isOver = false;
  readonly tries: StreamTries;

  constructor(
    readonly request: Request,
    readonly requestId: string,
    timeoutMs: number,
  ) {
    this.tries = new StreamTries(timeoutMs);
  }

  get timeLeftMs(): number {
    return this.tries.timeLeftMs;
  }

  protected moved(response: gen.StreamChatResponse): TurnEvent | undefined {
    if (response.index !== undefined) {
      this.request.afterAttempt = response.attempt;
      this.request.afterIndex = response.index;
      this.tries.cameFurther();
    }
    this.isOver = response.event?.$case === "completed";
    return turnEvent(response, this.requestId);
  }
}

/** One turn, as it comes. */
export class TurnProgress
  extends TurnPlace<gen.StreamChatRequest>
  implements Stream<gen.StreamChatRequest, gen.StreamChatResponse, TurnEvent>
{
  readonly method = gen.ConversationServiceService.streamChat;

  constructor({ request, requestId, timeoutMs }: ChatCall) {
    super({ chat: request, afterAttempt: 0, afterIndex: undefined }, requestId, timeoutMs);
  }

  takes(response: gen.StreamChatResponse): TurnEvent | undefined {
    return this.moved(response);
  }
}

/** One turn that is resumed, as it comes. */
export class ResumeProgress
  extends TurnPlace<gen.StreamResumeTurnRequest>
  implements Stream<gen.StreamResumeTurnRequest, gen.StreamResumeTurnResponse, TurnEvent>
{
  readonly method = gen.ConversationServiceService.streamResumeTurn;

  constructor({ request, requestId, timeoutMs }: ResumeCall) {
    super({ resume: request, afterAttempt: 0, afterIndex: undefined }, requestId, timeoutMs);
  }

  takes({ event }: gen.StreamResumeTurnResponse): TurnEvent | undefined {
    return event && this.moved(event);
  }
}

/** One conversation, watched. */
export class WatchProgress
  implements Stream<gen.WatchConversationRequest, gen.WatchConversationResponse, Update>
{
  readonly method = gen.ConversationServiceService.watchConversation;
  readonly request: gen.WatchConversationRequest;
  isOver = false;
  readonly tries = new WatchTries();
  /** The last turn told. */
  #turn: { turnId: string; attempt: number; state?: TurnState } = { turnId: "", attempt: 0 };
  /** The last event told. */
  #event = { turnId: "", attempt: 0, index: -1 };

  constructor(conversationId: string, options: WatchOptions) {
    this.request = {
      conversationId: text("conversationId", conversationId),
      afterSequence: whole("afterSequence", options.afterSequence),
      includeEvents: flag("includeEvents", options.includeEvents),
    };
  }

  get timeLeftMs(): number {
    return WATCH_CALL_MS;
  }

  /**
   * Take note of an update.
   *
   * A call that continues a watch starts with the open turn's state and with its first
   * event: of these, what was told before is no news.
   */
  takes(response: gen.WatchConversationResponse): Update | undefined {
    this.tries.cameFurther();
    const update = updateOf(response);
    switch (update?.type) {
      case "message":
        this.request.afterSequence = update.message.sequence;
        return update;
      case "turn":
        return this.#isNewTurn(update) ? update : undefined;
      case "event":
        return this.#isNewEvent(update) ? update : undefined;
      case "deleted":
        this.isOver = true;
        return update;
      default:
        return update;
    }
  }

  /**
   * Say that the conversation was deleted, where no update says so.
   *
   * It may have been deleted between two calls; and grpc-js drops what a slow reader has not taken when
   * an error comes, such as the one right behind the update.
   */
  lastEvent(error: ParleyError): Update | undefined {
    const isDeleted = this.tries.isUnderWay && error instanceof ConversationNotFound;
    return isDeleted ? { type: "deleted" } : undefined;
  }

  #isNewTurn({ turn: { turnId, attempt, state } }: Update & { type: "turn" }): boolean {
    const told = this.#turn;
    this.#turn = { turnId, attempt, state };
    return turnId !== told.turnId || attempt !== told.attempt || state !== told.state;
  }

  #isNewEvent({ event }: Update & { type: "event" }): boolean {
    if (event.type === "started") return true;
    const told = this.#event;
    const { turnId } = this.#turn;
    const { attempt, index } = event;
    const isBehind = attempt < told.attempt || (attempt === told.attempt && index <= told.index);
    if (turnId === told.turnId && isBehind) return false;
    this.#event = { turnId, attempt, index };
    return true;
  }
}

/** The feed of turns that ended, watched. */
export class FeedProgress
  implements Stream<gen.WatchTurnsRequest, gen.WatchTurnsResponse, FeedUpdate>
{
  readonly method = gen.ConversationServiceService.watchTurns;
  readonly request: gen.WatchTurnsRequest;
  readonly timeLeftMs = WATCH_CALL_MS;
  readonly isOver = false;
  readonly tries = new WatchTries();

  constructor(options: FeedOptions) {
    this.request = {
      afterCursor: text("afterCursor", options.afterCursor),
      onlyNew: flag("onlyNew", options.onlyNew),
      labels: labelFilters(options.labels),
      allOwners: flag("allOwners", options.allOwners),
    };
  }

  takes(response: gen.WatchTurnsResponse): FeedUpdate | undefined {
    this.tries.cameFurther();
    this.request.afterCursor = response.cursor;
    return feedUpdateOf(response);
  }
}

/** One export. */
export class ExportProgress
  implements Stream<gen.ExportConversationsRequest, gen.ExportConversationsResponse, Exported>
{
  readonly method = gen.ConversationServiceService.exportConversations;
  readonly request: gen.ExportConversationsRequest;
  readonly timeLeftMs = WATCH_CALL_MS;
  isOver = false;
  readonly tries = new ExportTries();

  constructor({ cursor }: ExportOptions) {
    this.request = { cursor: text("cursor", cursor) };
  }

  takes(response: gen.ExportConversationsResponse): Exported | undefined {
    this.tries.cameFurther();
    this.request.cursor = response.cursor;
    this.isOver = response.item?.$case === "done";
    return exportedOf(response);
  }
}

/** Takes the text out of one turn's events. */
export class TextOnly {
  readonly #requestId: string;
  #attempt = 0;
  #text = "";

  constructor(requestId: string) {
    this.#requestId = requestId;
  }

  /**
   * Return what an event adds to the text; empty: nothing.
   *
   * @throws AttemptLost text that was returned before is void.
   */
  addedBy(event: TurnEvent): string {
    if (event.type === "completed") {
      const whole = event.answer.response;
      if (!whole.startsWith(this.#text)) throw this.#void();
      return whole.slice(this.#text.length);
    }
    if (this.#text !== "" && event.attempt !== this.#attempt) throw this.#void();
    this.#attempt = event.attempt;
    const added = event.type === "chunk" ? event.text : "";
    this.#text += added;
    return added;
  }

  /**
   * Look at an event whose text is told.
   *
   * @throws ActionRequired it is the last one, and the turn waits.
   */
  checkEnd(event: TurnEvent): void {
    if (event.type !== "completed") return;
    if (event.answer.finishReason !== FinishReason.ACTION_REQUIRED) return;
    const sentence = "the turn waits for its caller: `turn` tells for what";
    throw new ActionRequired(sentence, {
      code: "FAILED_PRECONDITION",
      requestId: this.#requestId,
    });
  }

  #void(): AttemptLost {
    const sentence =
      "the agent started over, and the text so far is void: ask for the answer with `chat`";
    return new AttemptLost(sentence, { code: "ABORTED", requestId: this.#requestId });
  }
}

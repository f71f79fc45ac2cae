/** What streams bring, told apart by `type`. */

import type {
  Context,
  Conversation,
  Message,
  ToolCall,
  Turn,
} from "./gen/parley/v1/conversation.js";
import type * as gen from "./gen/parley/v1/conversation_service.js";

/**
 * A turn's answer, stored, and the request id that gets it again.
 *
 * If its `finishReason` is FINISH_REASON_ACTION_REQUIRED, the turn waits: give `resumeTurn` what `pendingCalls` wait for.
 */
export interface Answer extends gen.ChatResponse {
  /** Empty: the turn was resumed by its two ids. */
  requestId: string;
}

/** First in every call to a turn that runs, and so again after a loss. */
export interface Started {
  type: "started";
  /** Which run of the agent this is of, from 1. Higher than before: what was gathered is void. */
  attempt: number;
  conversationId: string;
  turnId: string;
  userSequence: number;
}

/** A piece of text. */
export interface Chunk {
  type: "chunk";
  attempt: number;
  /** The event's place within its attempt, from 0. */
  index: number;
  /** Never empty. */
  text: string;
}

/** A tool call, with its result. */
export interface ToolCalled {
  type: "toolCall";
  attempt: number;
  /** The event's place within its attempt, from 0. */
  index: number;
  toolCall: ToolCall;
}

/** Last: the answer as `chat` returns it. It replaces what was gathered from the pieces. */
export interface Completed {
  type: "completed";
  /** 0 if the turn had ended before. */
  attempt: number;
  answer: Answer;
}

/** A piece of a turn under way. */
export type TurnEvent = Started | Chunk | ToolCalled | Completed;

/** A conversation that was created, now or by an earlier call: then `replayed` is true. */
export interface Created extends gen.CreateConversationResponse {
  conversation: Conversation;
}

/** Something that happened in a conversation. */
export type Update =
  /** The next message. */
  | { type: "message"; message: Message }
  /** A turn whose state changed. States between two updates may be skipped. */
  | { type: "turn"; turn: Turn }
  /** A piece of the open turn, with `includeEvents`. */
  | { type: "event"; event: Exclude<TurnEvent, Completed> }
  /** All there was has come; also every minute. */
  | { type: "progress"; lastSequence: number }
  /** The conversation was deleted. Last. */
  | { type: "deleted" };

/** A conversation that was copied, now or by an earlier call: then `replayed` is true. */
export interface Forked extends gen.ForkConversationResponse {
  conversation: Conversation;
}

/** One part of an export. `cursor` continues behind it; `conversationId` is empty in `done`. */
export type Exported = { cursor: string; conversationId: string } & (
  | /** The next conversation, with its instructions. Its messages follow. */
  { type: "conversation"; conversation: Conversation }
  /** The next message of that conversation. */
  | { type: "message"; message: Message }
  /** Everything has come. Last. */
  | { type: "done" }
);

/** A turn that was stored, now or by an earlier call: then `replayed` is true. `turn.requestId` names it. */
export interface Accepted extends gen.StartTurnResponse {
  turn: Turn;
}

/** What the feed tells. `cursor` continues behind it. */
export type FeedUpdate = { cursor: string } & (
  | /** A turn that ended. `user` says whose it is, with `allOwners`; else it is empty. */
  { type: "turn"; turn: Turn; user: string }
  /** All turns that had ended have come; also every minute. */
  | { type: "progress" }
);

/** What a turn's agent was shown and did. */
export interface Explained extends gen.ExplainTurnResponse {
  turn: Turn;
}

/** A piece of a rehearsal. */
export type RehearsalEvent =
  /** The agent that is asked, and the part of the conversation that it is shown. First. */
  | { type: "started"; agent: string; context: Context | undefined }
  /** A piece of text, never empty. */
  | { type: "chunk"; text: string }
  /** A tool call, with the result that the turn's own call got, or an error. */
  | { type: "toolCall"; toolCall: ToolCall }
  /** The whole answer. Last. */
  | { type: "completed"; answer: gen.RehearsalCompleted };

/** Return a turn's event; undefined: one that this client does not know. */
export function turnEvent(
  response: gen.StreamChatResponse,
  requestId: string,
): TurnEvent | undefined {
  if (response.event?.$case === "completed") {
    const answer = { ...response.event.value, requestId };
    return { type: "completed", attempt: response.attempt, answer };
  }
  return piece(response);
}

/** Return a watch's update; undefined: one that this client does not know. */
export function updateOf({ update }: gen.WatchConversationResponse): Update | undefined {
  switch (update?.$case) {
    case "message":
      return { type: "message", message: update.value };
    case "turn":
      return { type: "turn", turn: update.value };
    case "event": {
      const event = piece(update.value);
      return event && { type: "event", event };
    }
    case "progress":
      return { type: "progress", lastSequence: update.value.lastSequence };
    case "deleted":
      return { type: "deleted" };
    default:
      return undefined;
  }
}

/** Return a rehearsal's event; undefined: one that this client does not know. */
export function rehearsalEvent({ event }: gen.RehearseTurnResponse): RehearsalEvent | undefined {
  switch (event?.$case) {
    case "started":
      return { type: "started", agent: event.value.agent, context: event.value.context };
    case "chunk":
      return { type: "chunk", text: event.value.text };
    case "toolCall":
      return { type: "toolCall", toolCall: event.value };
    case "completed":
      return { type: "completed", answer: event.value };
    default:
      return undefined;
  }
}

/** Return an export's part; undefined: one that this client does not know. */
export function exportedOf(part: gen.ExportConversationsResponse): Exported | undefined {
  const { item, cursor, conversationId } = part;
  const place = { cursor, conversationId };
  switch (item?.$case) {
    case "conversation":
      return { type: "conversation", conversation: item.value, ...place };
    case "message":
      return { type: "message", message: item.value, ...place };
    case "done":
      return { type: "done", ...place };
    default:
      return undefined;
  }
}

/** Return an update of the feed; undefined: one that this client does not know. */
export function feedUpdateOf({
  update,
  cursor,
  user,
}: gen.WatchTurnsResponse): FeedUpdate | undefined {
  switch (update?.$case) {
    case "turn":
      return { type: "turn", turn: update.value, user, cursor };
    case "progress":
      return { type: "progress", cursor };
    default:
      return undefined;
  }
}

function piece(response: gen.StreamChatResponse): Exclude<TurnEvent, Completed> | undefined {
  const { attempt, index = 0, event } = response;
  switch (event?.$case) {
    case "started":
      return { type: "started", attempt, ...event.value };
    case "chunk":
      return { type: "chunk", attempt, index, text: event.value.text };
    case "toolCall":
      return { type: "toolCall", attempt, index, toolCall: event.value };
    default:
      return undefined;
  }
}

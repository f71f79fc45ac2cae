/** What callers may say beside the one thing that each call is about. */

import type { ParleyError } from "./errors.js";
import type { FinishReason, PendingCall, Role, Usage } from "./gen/parley/v1/conversation.js";

/** For every call. */
export interface CallOptions {
  /**
   * For everything, waits and retries included. Default: 120,000 for turns and rehearsals; 60,000 for what may write much at once
   * (`appendMessages`, `forkConversation`, `eraseOwner`); 10,000 for other calls.
   */
  timeoutMs?: number | undefined;
  /** Aborting cancels the call, which then fails with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** A tool that the caller runs itself. */
export interface Tool {
  /** What the model calls it by: 1 to 64 of [A-Za-z0-9_-]. */
  name: string;
  /** What it does, for the model. */
  description?: string | undefined;
  /** A JSON Schema of its arguments, as an object or as JSON text. Undefined: no arguments. */
  parametersSchema?: object | string | undefined;
}

/** For a turn. */
export interface ChatOptions extends CallOptions {
  /** The conversation to continue, a UUID. Undefined: a new one. */
  conversationId?: string | undefined;
  /**
   * The turn's key, 1 to 128 of [A-Za-z0-9._:-]. Undefined: a new UUID, which the answer and every
   * error show. Pass one that is stored to repeat the turn after a crash of the caller.
   */
  requestId?: string | undefined;
  /** Create the conversation under `conversationId` if there is none. */
  allowMissing?: boolean | undefined;
  /** Refuse unless this is the conversation's last sequence; 0: new or empty. */
  expectedSequence?: number | undefined;
  /**
   * While another turn of the conversation is open: fail (the default), wait for its end, or, if that turn waits
   * for its caller, cancel it and take its place.
   */
  onBusy?: "reject" | "wait" | "replace" | undefined;
  /** When this call is lost or its deadline comes: cancel the turn (the default), or continue it. */
  onDisconnect?: "cancel" | "continue" | undefined;
  /** An agent's name, one of `listAgents`. Undefined: the conversation's agent, or the default one. */
  agent?: string | undefined;
  /** Tools that the caller runs itself, at most 64: when the model calls one, the turn waits for `resumeTurn`. */
  tools?: readonly Tool[] | undefined;
}

/** For a turn without a caller. */
export interface StartOptions extends CallOptions {
  /** The conversation that it belongs to, a UUID. Undefined: a new one. */
  conversationId?: string | undefined;
  /**
   * The turn's key, 1 to 128 of [A-Za-z0-9._:-]. Undefined: a new UUID, which the turn and every error
   * show. Pass one that is stored to repeat the call after a crash of the caller.
   */
  requestId?: string | undefined;
  /** Create the conversation under `conversationId` if there is none. */
  allowMissing?: boolean | undefined;
  /**
   * When the turn begins, this has to be the conversation's last sequence; 0: new or empty. If it is not,
   * the turn fails with SEQUENCE_MISMATCH.
   */
  expectedSequence?: number | undefined;
  /** An agent's name, one of `listAgents`. Undefined: the conversation's agent, or the default one. */
  agent?: string | undefined;
  /** Tools that the caller runs itself, at most 64: when the model calls one, the turn waits for `resumeTurn`. */
  tools?: readonly Tool[] | undefined;
}

/** Told of every failure that is about to be retried, such as to log it. */
export type OnRetry = (error: ParleyError) => void;

/** For a turn as it comes. */
export interface StreamOptions extends ChatOptions {
  /** Told of every error after which the stream is begun again. */
  onRetry?: OnRetry | undefined;
}

/** For messages. With an iterator, `timeoutMs` is for each page. */
export interface HistoryOptions extends CallOptions {
  /** Which end to begin at. Default: "oldest_first". */
  order?: "oldest_first" | "newest_first" | undefined;
  /** Only messages with a higher sequence, in both orders. */
  afterSequence?: number | undefined;
  /** Never answer from a copy of the data older than this. */
  minSequence?: number | undefined;
  /** How many at most in a page. Default: 50. Above 1,000: 1,000. */
  pageSize?: number | undefined;
}

/**
 * Labels by their keys: at most 16. A key has 1 to 63 of [a-z0-9._/-] and begins and ends with a letter
 * or digit; a value has 0 to 63 bytes of UTF-8 without control characters.
 */
export type Labels = Record<string, string>;

/** For a conversation to be created. */
export interface CreateOptions extends CallOptions {
  /** The id that it is to have, a UUID. Undefined: the server chooses one. */
  conversationId?: string | undefined;
  /**
   * The call's key, 1 to 128 of [A-Za-z0-9._:-], apart from those of turns. Undefined: a new UUID, which
   * every error shows. Pass one that is stored to repeat the call after a crash of the caller.
   */
  requestId?: string | undefined;
  /** For lists: at most 512 bytes of UTF-8. Undefined or empty: the beginning of the first message. */
  title?: string | undefined;
  /** By which to find it. Undefined: none. */
  labels?: Labels | undefined;
  /**
   * What the agent is told in it, after the server's own instructions: at most 8,192 bytes of UTF-8.
   * Undefined: nothing.
   */
  instructions?: string | undefined;
  /** The agent that answers the turns whose callers name none, one of `listAgents`. Undefined: the default one. */
  agent?: string | undefined;
}

/** What to change of a conversation. What is undefined stays as it is; what is empty is cleared. */
export interface UpdateOptions extends CallOptions {
  /** The new title: at most 512 bytes of UTF-8. */
  title?: string | undefined;
  /** The new labels. They replace all that it has. */
  labels?: Labels | undefined;
  /** The new instructions: at most 8,192 bytes of UTF-8. */
  instructions?: string | undefined;
  /** The agent that answers the turns whose callers name none from now on; empty: the server's default one. */
  agent?: string | undefined;
  /** Refuse unless this is the conversation's revision. */
  expectedRevision?: number | undefined;
}

/** For a conversation to be deleted. */
export interface DeleteOptions extends CallOptions {
  /** A conversation that does not exist is no error. Default: it is. */
  allowMissing?: boolean | undefined;
}

/** A tool call of a message to be added, with its result. */
export interface NewToolCall {
  /** Unique in its message. */
  id: string;
  /** The tool's name. */
  name: string;
  /** JSON text, at most 32 KiB. */
  arguments: string;
  /** What the tool returned, at most 64 KiB. Undefined: an empty text. */
  result?: string | undefined;
  /** The tool failed. Default: it did not. */
  isError?: boolean | undefined;
  /** The number of the model response that asked for it, from 1. */
  step?: number | undefined;
}

/** A message to be added. A `Message` of a history is one as well; its `sequence` is not sent. */
export interface NewMessage {
  /** Who wrote it. */
  role: "user" | "assistant" | "system" | Role;
  /** The text. An answer may do without, if it has tool calls or a `finishReason`. */
  content?: string | undefined;
  /** Tool calls, for answers only. */
  toolCalls?: readonly NewToolCall[] | undefined;
  /**
   * A UUID that no turn of the conversation has. A user's message with one counts as unanswered, and agents are not
   * shown it, unless the next message is an answer with the same `turnId`.
   */
  turnId?: string | undefined;
  /** When it was written. Undefined: at the time of the call. It must not be later by more than a minute. */
  createTime?: Date | undefined;
  /** The tokens that it used, for answers only. */
  usage?: Partial<Usage> | undefined;
  /** Which model wrote it, for answers only. */
  model?: string | undefined;
  /** Why it ended, for answers only. */
  finishReason?: "stop" | "length" | "cancelled" | "content_filter" | FinishReason | undefined;
}

/** For messages to be added. */
export interface AppendOptions extends CallOptions {
  /**
   * The call's key, 1 to 128 of [A-Za-z0-9._:-], apart from those of turns and creations. Undefined: a new UUID,
   * which every error shows. Pass one that is stored to repeat the call after a crash of the caller.
   */
  requestId?: string | undefined;
  /** Create the conversation if there is none. */
  allowMissing?: boolean | undefined;
  /** Refuse unless this is the conversation's last sequence; 0: new or empty. */
  expectedSequence?: number | undefined;
  /** While a turn of the conversation is open: fail (the default), or wait for its end. */
  onBusy?: "reject" | "wait" | undefined;
}

/** For a conversation to be copied. */
export interface ForkOptions extends CallOptions {
  /** The id that the copy is to have, a UUID. Undefined: the server chooses one. */
  newConversationId?: string | undefined;
  /** The call's key, as for `createConversation`, which shares its space. Undefined: a new UUID. */
  requestId?: string | undefined;
  /** The last message to copy, at the end of a turn. Undefined: up to the end of the newest turn that has ended. */
  upToSequence?: number | undefined;
}

/** For an erasure. `timeoutMs` is for each call. */
export interface EraseOptions extends CallOptions {
  /** Call again every second until everything is removed, however long that takes. Default: call once. */
  wait?: boolean | undefined;
}

/** For an export. */
export interface ExportOptions {
  /** The last cursor received, to continue behind it. Undefined: from the beginning. */
  cursor?: string | undefined;
  /** Told of every error after which the export is begun again. */
  onRetry?: OnRetry | undefined;
  /** Aborting ends the export, which then fails with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** For what turns used. */
export interface UsageOptions extends CallOptions {
  /** The first day, "2026-11-28", in UTC. Undefined: 30 days before `endDate`. */
  startDate?: string | undefined;
  /** The last day, included, in UTC; at most 366 days after `startDate`. Undefined: today. */
  endDate?: string | undefined;
  /** A row for each agent. Default: all together. */
  byAgent?: boolean | undefined;
  /** The key of a label: a row for each of its values. Undefined: all together. */
  byLabel?: string | undefined;
  /** Only conversations that had all of these labels. */
  labels?: Labels | undefined;
}

/** For lists. With an iterator, `timeoutMs` is for each page. */
export interface ListOptions extends CallOptions {
  /** Only conversations that have all of these labels. */
  labels?: Labels | undefined;
  /**
   * Only conversations whose `updateTime` is later. A Date has whole milliseconds and the server's times
   * have more, so that one whose own `updateTime` is given may come again.
   */
  updatedAfter?: Date | undefined;
  /** How many at most in a page. Default: 50. Above 1,000: 1,000. */
  pageSize?: number | undefined;
}

/** For one page. */
export interface PageToken {
  /** `nextPageToken` of the page before. Undefined or empty: the first page. */
  pageToken?: string | undefined;
}

/** Names a turn: what it was asked for with, or its two ids. */
export type TurnName =
  | { requestId: string; conversationId?: undefined; turnId?: undefined }
  | { conversationId: string; turnId: string; requestId?: undefined };

/** What a pending call is given: `result` or `error` for a tool of the caller, else `approval` or `denial`. */
export type CallResult = { callKey: string } & (
  | /** What the tool returned, as text or JSON: at most 65,536 bytes. */
  { result: string }
  /** How it failed, for the model: 1 to 65,536 bytes. */
  | { error: string }
  /** The server may run the call; with `arguments`, only with exactly these. */
  | { approval: { arguments?: string | undefined } }
  /** The server does not run it. The reason is for the model, at most 8,192 bytes. */
  | { denial: { reason?: string | undefined } }
);

/** For a waiting turn that is given something. */
export interface ResumeOptions extends CallOptions {
  /** When this call is lost or its deadline comes: cancel the attempt (the default), or continue it. */
  onDisconnect?: "cancel" | "continue" | undefined;
}

/** For such a turn as it comes. */
export interface StreamResumeOptions extends ResumeOptions {
  /** Told of every error after which the stream is begun again. */
  onRetry?: OnRetry | undefined;
}

/** For a rehearsal of a turn. */
export interface RehearseOptions extends CallOptions {
  /** The agent to ask, one of `listAgents` that can rehearse. Undefined: the turn's own. */
  agent?: string | undefined;
  /** Told of every error after which the rehearsal is begun again. */
  onRetry?: OnRetry | undefined;
}

/** A tool of the caller as a function. */
export interface ToolFunction {
  /** What it does, for the model. */
  description?: string | undefined;
  /** A JSON Schema of its arguments, as an object or as JSON text. Undefined: no arguments. */
  parametersSchema?: object | string | undefined;
  /**
   * Run it. Its arguments are as the model wrote them: they may not fit the schema.
   *
   * A text that it returns is told to the model as it is, anything else as JSON: at most 65,536 bytes. If it throws
   * a `ToolFailed`, the model is told the message; of any other error its name alone.
   */
  // biome-ignore lint/suspicious/noExplicitAny: each tool says itself what it takes
  run(given: any, call: RunningCall): unknown;
}

/** A call of a tool that runs. */
export interface RunningCall {
  /** The same whenever this call is run again: the tool's idempotency key. */
  callKey: string;
  /** The tool's name. */
  name: string;
  /** The signal that was given to `runWithTools`. */
  signal: AbortSignal | undefined;
}

/** What becomes of a call that needs approval. The reason is for the model. */
export type Decision = "approve" | { deny: string };

/** For a turn that is run with tools. `timeoutMs` is for each call, without the time that tools and approvals take. */
export interface ToolsOptions extends Omit<ChatOptions, "tools"> {
  /** The caller's tools, by the names that the model calls them by. */
  tools: Readonly<Record<string, ToolFunction>>;
  /**
   * Decide on a call of the server's own tools that needs approval, by its name and arguments. It is asked about one
   * call after the other. What it throws ends `runWithTools`, and the turn goes on waiting. Undefined: every such
   * call is denied.
   */
  approve?: ((call: PendingCall) => Decision | Promise<Decision>) | undefined;
  /** Told of every error that a tool throws, such as to log it. */
  onToolError?: ((error: unknown, call: RunningCall) => void) | undefined;
}

/** For a watch. */
export interface WatchOptions {
  /** Only messages with a higher sequence; 0, the default: from the beginning. */
  afterSequence?: number | undefined;
  /** Also text and tool calls of the open turn, from its first one. Only streamed turns have them. */
  includeEvents?: boolean | undefined;
  /** Told of every error after which the watch is begun again. */
  onRetry?: OnRetry | undefined;
  /** Aborting ends the watch, which then fails with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** For a watch of the feed. */
export interface FeedOptions {
  /** The last cursor received, to continue behind it. Undefined: from the oldest turn that is kept. */
  afterCursor?: string | undefined;
  /** Without `afterCursor`: only turns that end from now on. Default: all that are kept. */
  onlyNew?: boolean | undefined;
  /** Only turns of conversations that have all of these labels. */
  labels?: Labels | undefined;
  /**
   * The turns of all users of the caller's tenant; the token has to name the scope `parley.observe`.
   * Default: the caller's own.
   */
  allOwners?: boolean | undefined;
  /** Told of every error after which the watch is begun again. */
  onRetry?: OnRetry | undefined;
  /** Aborting ends the watch, which then fails with the signal's reason. */
  signal?: AbortSignal | undefined;
}

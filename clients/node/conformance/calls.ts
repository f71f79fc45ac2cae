/** A scenario's calls, made through the client library, and what they come to as the contract's JSON. */

import {
  type AppendOptions,
  type CallResult,
  type ChatOptions,
  type DeleteOptions,
  type Exported,
  type ExportOptions,
  type FeedOptions,
  type FeedUpdate,
  type ForkOptions,
  type HistoryOptions,
  type ListOptions,
  type NewMessage,
  type ParleyClient,
  ParleyError,
  type RehearsalEvent,
  type RehearseOptions,
  type StartOptions,
  type TurnEvent,
  type TurnName,
  type Update,
  type UpdateOptions,
  type UsageOptions,
  type WatchOptions,
} from "parley-client";
import type { Fields, Json } from "./values.js";

/** How a call is followed: until when, and who is to know that it has begun. */
export interface Following {
  until: Record<string, number>;
  hasBegun: () => void;
  signal: AbortSignal;
}

/** What the library takes beside what a call names. */
type Options = ChatOptions &
  HistoryOptions &
  ListOptions &
  UpdateOptions &
  DeleteOptions &
  AppendOptions &
  ForkOptions &
  ExportOptions &
  UsageOptions &
  StartOptions &
  RehearseOptions &
  FeedOptions &
  WatchOptions;

/** Lists of messages. */
const WITH_FIELDS = new Set(["messages", "tools", "results"]);
const NUMBERS = new Set([
  "expected_sequence",
  "expected_revision",
  "after_sequence",
  "min_sequence",
  "up_to_sequence",
  "page_size",
]);

/** Make a call and return its result, or the error that it ended with beside what had come. */
export async function made(
  client: ParleyClient,
  call: string,
  given: Fields,
  following: Following,
): Promise<Fields> {
  const result: Fields = {};
  try {
    Object.assign(result, await called(client, call, given, following, result));
  } catch (error) {
    if (!(error instanceof ParleyError)) throw error;
    result.error = errorOf(error);
  }
  return result;
}

async function called(
  client: ParleyClient,
  call: string,
  given: Fields,
  following: Following,
  result: Fields,
): Promise<Fields> {
  const { message, messages, results, conversationId, ...rest } = argumentsOf(given);
  const id = conversationId as string;
  const { signal } = following;
  const options = { ...rest, signal } as Options;
  const chat = { ...options, conversationId: id };
  const name = { conversationId, ...rest } as unknown as TurnName;
  switch (call) {
    case "chat":
      return json(await client.chat(message as string, chat));
    case "stream":
      await streamed(client.stream(message as string, chat), following, result);
      return result;
    case "start_turn":
      return json(await client.startTurn(message as string, chat));
    case "resume_turn":
      return json(await client.resumeTurn(name, results as CallResult[], options));
    case "stream_resume_turn": {
      const events = client.streamResumeTurn(name, results as CallResult[], options);
      await streamed(events, following, result);
      return result;
    }
    case "history":
      return { messages: await all(client.history(id, options)) };
    case "history_page":
      return json(await client.historyPage(id, options));
    case "create_conversation":
      return json(await client.createConversation(chat));
    case "conversation":
      return json(await client.conversation(id, options));
    case "update_conversation":
      return json(await client.updateConversation(id, options));
    case "delete_conversation":
      return json(await client.deleteConversation(id, options));
    case "undelete_conversation":
      return json(await client.undeleteConversation(id, options));
    case "conversations":
      return { conversations: await all(client.conversations(options)) };
    case "conversations_page":
      return json(await client.conversationsPage(options));
    case "append_messages":
      return json(await client.appendMessages(id, messages as NewMessage[], options));
    case "fork_conversation":
      return json(await client.forkConversation(id, options));
    case "export":
      await exported(client.exportConversations(options), result);
      return result;
    case "erase_owner":
      return json(await client.eraseOwner(rest.requestId as string, { signal }));
    case "usage":
      return json(await client.usage(options));
    case "turn":
      return json(await client.turn(name, { signal }));
    case "cancel_turn":
      return json(await client.cancelTurn(name, { signal }));
    case "list_agents":
      return json(await client.listAgents({ signal }));
    case "explain_turn":
      return json(await client.explainTurn(name, { signal }));
    case "rehearse_turn":
      await rehearsed(client.rehearseTurn(name, options), following, result);
      return result;
    case "watch":
      await watched(client.watch(id, options), following, result);
      return result;
    case "watch_turns":
      await fed(client.watchTurns(options), following, result);
      return result;
    default:
      throw new Error(`there is no call ${call}`);
  }
}

async function streamed(
  events: AsyncIterable<TurnEvent>,
  { until, hasBegun }: Following,
  result: Fields,
): Promise<void> {
  const told = { events: [] as Json[], started: [] as Json[], indexes: [] as number[] };
  const attempts: number[] = [];
  Object.assign(result, told, { attempts, text: "" });
  for await (const event of events) {
    const asJson = eventJson(event);
    told.events.push(asJson);
    if (event.type === "started") told.started.push(asJson.started ?? null);
    if (event.type === "completed") result.completed = asJson.completed ?? null;
    if (event.type === "started" || event.type === "completed") continue;
    if (event.type === "chunk") result.text += event.text;
    told.indexes.push(event.index);
    if (!attempts.includes(event.attempt)) attempts.push(event.attempt);
    hasBegun();
    if (told.indexes.length === until.events) return;
  }
}

async function rehearsed(
  events: AsyncIterable<RehearsalEvent>,
  { until }: Following,
  result: Fields,
): Promise<void> {
  const told = { events: [] as Json[], tool_calls: [] as Json[] };
  Object.assign(result, told, { text: "" });
  for await (const event of events) {
    const asJson = rehearsalJson(event);
    told.events.push(asJson);
    if (event.type === "started" || event.type === "completed") {
      Object.assign(result, asJson);
      continue;
    }
    if (event.type === "chunk") result.text += event.text;
    else told.tool_calls.push(json(event.toolCall));
    if (told.events.length - 1 === until.events) return; // `started` does not count
  }
}

async function watched(
  updates: AsyncIterable<Update>,
  { until, hasBegun }: Following,
  result: Fields,
): Promise<void> {
  const told: Record<string, Json[]> = {
    messages: [],
    turns: [],
    events: [],
    progress: [],
    deleted: [],
  };
  Object.assign(result, told);
  const [[kind = "", count] = []] = Object.entries(until);
  for await (const update of updates) {
    if (update.type === "message") told.messages?.push(json(update.message));
    if (update.type === "turn") told.turns?.push(json(update.turn));
    if (update.type === "event") told.events?.push(eventJson(update.event));
    if (update.type === "deleted") told.deleted?.push({});
    if (update.type === "progress") {
      told.progress?.push({ last_sequence: update.lastSequence });
      hasBegun();
    }
    if (count !== undefined && told[kind]?.length === count) return;
  }
}

async function fed(
  updates: AsyncIterable<FeedUpdate>,
  { until, hasBegun }: Following,
  result: Fields,
): Promise<void> {
  const told = { turns: [] as Json[], cursors: [] as string[], users: [] as string[] };
  const progress: string[] = [];
  Object.assign(result, told, { progress });
  for await (const update of updates) {
    if (update.type === "turn") {
      told.turns.push(json(update.turn));
      told.cursors.push(update.cursor);
      told.users.push(update.user);
    } else {
      progress.push(update.cursor);
      hasBegun();
    }
    if (told.turns.length === until.turns || progress.length === until.progress) return;
  }
}

async function exported(parts: AsyncIterable<Exported>, result: Fields): Promise<void> {
  const told = { conversations: [] as Json[], messages: [] as Json[], done: [] as Json[] };
  const places = { cursors: [] as string[], conversation_ids: [] as string[] };
  Object.assign(result, told, places);
  for await (const part of parts) {
    if (part.type === "conversation") told.conversations.push(json(part.conversation));
    if (part.type === "message") told.messages.push(json(part.message));
    if (part.type === "done") told.done.push({});
    places.cursors.push(part.cursor);
    places.conversation_ids.push(part.conversationId);
  }
}

/** Return an event as the contract has it: with a oneof. */
function eventJson(event: TurnEvent): Fields {
  const { attempt } = event;
  switch (event.type) {
    case "started": {
      const { conversationId, turnId, userSequence } = event;
      return { attempt, started: json({ conversationId, turnId, userSequence }) };
    }
    case "chunk":
      return { attempt, index: event.index, chunk: { text: event.text } };
    case "toolCall":
      return { attempt, index: event.index, tool_call: json(event.toolCall) };
    case "completed":
      return { attempt, completed: json(event.answer) };
  }
}

function rehearsalJson(event: RehearsalEvent): Fields {
  switch (event.type) {
    case "started":
      return { started: json({ agent: event.agent, context: event.context }) };
    case "chunk":
      return { chunk: { text: event.text } };
    case "toolCall":
      return { tool_call: json(event.toolCall) };
    case "completed":
      return { completed: json(event.answer) };
  }
}

function errorOf(error: ParleyError): Fields {
  return {
    code: error.code,
    reason: error.reason ?? "",
    message: error.message,
    metadata: { ...error.metadata },
    violations: error.violations.map(({ field, reason }) => ({ field, reason })),
    retry_after_s: error.retryAfterMs === undefined ? null : error.retryAfterMs / 1000,
    request_id: error.requestId ?? "",
  };
}

/** Return what the library takes for what the contract calls otherwise. */
function argumentsOf(given: Fields): Record<string, unknown> {
  const entries = Object.entries(given).map(([name, value]) => {
    if (name === "timeout_s") return ["timeoutMs", Number(value) * 1000];
    if (name === "updated_after") return ["updatedAfter", new Date(value as string)];
    if (WITH_FIELDS.has(name)) return [name, (value as Fields[]).map(messageOf)];
    if (name === "labels" && Array.isArray(value)) return ["labels", labelsOf(value as string[])];
    const camel = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
    return [camel, NUMBERS.has(name) ? Number(value) : value];
  });
  return Object.fromEntries(entries);
}

/** Return a message, a tool or a result, and what it is made of, as the library takes them. */
function messageOf(given: Fields): Record<string, unknown> {
  const entries = Object.entries(given).map(([name, value]) => {
    const camel = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
    if (name === "create_time") return [camel, new Date(value as string)];
    if (name === "tool_calls") return [camel, (value as Fields[]).map(messageOf)];
    return [camel, name === "usage" ? messageOf(value as Fields) : value];
  });
  return Object.fromEntries(entries);
}

/** Return "KEY=VALUE" texts as the library takes them. */
function labelsOf(texts: string[]): Record<string, string> {
  const entries = texts.map((text) => {
    const [key = "", ...rest] = text.split("=");
    return [key, rest.join("=")];
  });
  return Object.fromEntries(entries);
}

async function all(items: AsyncIterable<object>): Promise<Json[]> {
  const found: Json[] = [];
  for await (const item of items) found.push(json(item));
  return found;
}

/** Return a message with the contract's names. */
function json(message: object): Fields {
  const plain = JSON.parse(JSON.stringify(message, withoutEmptyMs)) as Json;
  return renamed(plain) as Fields;
}

/** Write a time as the contract's JSON does: a whole second has no milliseconds. */
function withoutEmptyMs(this: Record<string, unknown>, name: string, value: unknown): unknown {
  return this[name] instanceof Date ? String(value).replace(".000Z", "Z") : value;
}

function renamed(value: Json): Json {
  if (Array.isArray(value)) return value.map(renamed);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([name, one]) => [
    name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    renamed(one),
  ]);
  return Object.fromEntries(entries);
}

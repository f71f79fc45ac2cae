/** What is sent: one function for each RPC. Nothing here does I/O. */

import { randomUUID } from "node:crypto";
import type { MethodDefinition } from "@grpc/grpc-js";
import * as gen from "./gen/parley/v1/conversation_service.js";
import { ConversationServiceService as rpcs } from "./gen/parley/v1/conversation_service.js";
import type {
  CallOptions,
  ChatOptions,
  CreateOptions,
  DeleteOptions,
  HistoryOptions,
  Labels,
  ListOptions,
  PageToken,
  TurnName,
  UpdateOptions,
} from "./options.js";

export const CHAT_TIMEOUT_MS = 120_000;
export const READ_TIMEOUT_MS = 10_000;

/** A generated message, as far as it is needed here. */
export interface MessageType<T> {
  decode(bytes: Uint8Array): T;
}

/** One RPC to be made, and made again if need be. */
export interface Call<Request, Response> {
  method: MethodDefinition<Request, Response>;
  request: Request;
  /** For all tries together. */
  timeoutMs: number;
  requestId?: string | undefined;
  /**
   * What the call comes to if a try finds nothing after another one may have done the work. All tries of
   * such a call are the client's own: gRPC would not tell of those before the last.
   */
  ifGone?: Response | undefined;
}

/** A call that makes a turn. It always has a request id: without, a retry could make a second turn. */
export interface ChatCall extends Call<gen.ChatRequest, gen.ChatResponse> {
  requestId: string;
}

const MAX_INT32 = 2 ** 31 - 1;
const ON_BUSY = { reject: gen.OnBusy.REJECT, wait: gen.OnBusy.WAIT };
const ON_DISCONNECT = { cancel: gen.OnDisconnect.CANCEL, continue: gen.OnDisconnect.CONTINUE };
const CHANGEABLE = ["title", "labels", "instructions"] as const;
const ORDER = { oldest_first: gen.Order.OLDEST_FIRST, newest_first: gen.Order.NEWEST_FIRST };

/** Return a new request id. */
export function newRequestId(): string {
  return randomUUID();
}

/**
 * Build a Chat call.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function chat(message: string, options: ChatOptions): ChatCall {
  const requestId = text("requestId", options.requestId) || newRequestId();
  const request: gen.ChatRequest = {
    conversationId: text("conversationId", options.conversationId),
    message: text("message", message),
    requestId,
    allowMissing: options.allowMissing ?? false,
    expectedSequence:
      options.expectedSequence === undefined
        ? undefined
        : whole("expectedSequence", options.expectedSequence),
    onBusy: choice("onBusy", ON_BUSY, options.onBusy) ?? gen.OnBusy.UNSPECIFIED,
    onDisconnect:
      choice("onDisconnect", ON_DISCONNECT, options.onDisconnect) ?? gen.OnDisconnect.UNSPECIFIED,
    agent: text("agent", options.agent),
  };
  return { method: rpcs.chat, request, timeoutMs: options.timeoutMs ?? CHAT_TIMEOUT_MS, requestId };
}

/**
 * Build a GetHistory call.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function historyPage(
  conversationId: string,
  options: HistoryOptions & PageToken,
): Call<gen.GetHistoryRequest, gen.GetHistoryResponse> {
  const request: gen.GetHistoryRequest = {
    conversationId: text("conversationId", conversationId),
    order: choice("order", ORDER, options.order) ?? gen.Order.UNSPECIFIED,
    afterSequence: whole("afterSequence", options.afterSequence),
    minSequence: whole("minSequence", options.minSequence),
    pageSize: whole("pageSize", options.pageSize, MAX_INT32),
    pageToken: text("pageToken", options.pageToken),
  };
  return { method: rpcs.getHistory, request, timeoutMs: options.timeoutMs ?? READ_TIMEOUT_MS };
}

/**
 * Build a CreateConversation call. It always has a request id: without, a retry could create another one.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function createConversation(
  options: CreateOptions,
): Call<gen.CreateConversationRequest, gen.CreateConversationResponse> {
  const requestId = text("requestId", options.requestId) || newRequestId();
  const request: gen.CreateConversationRequest = {
    conversationId: text("conversationId", options.conversationId),
    requestId,
    title: text("title", options.title),
    labels: labels(options.labels),
    instructions: text("instructions", options.instructions),
  };
  const timeoutMs = options.timeoutMs ?? READ_TIMEOUT_MS;
  return { method: rpcs.createConversation, request, timeoutMs, requestId };
}

/**
 * Build a GetConversation call.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function conversation(
  conversationId: string,
  options: CallOptions,
): Call<gen.GetConversationRequest, gen.GetConversationResponse> {
  const request = { conversationId: text("conversationId", conversationId) };
  return { method: rpcs.getConversation, request, timeoutMs: options.timeoutMs ?? READ_TIMEOUT_MS };
}

/**
 * Build an UpdateConversation call. It changes what is given, an empty value included.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function updateConversation(
  conversationId: string,
  options: UpdateOptions,
): Call<gen.UpdateConversationRequest, gen.UpdateConversationResponse> {
  const request: gen.UpdateConversationRequest = {
    conversationId: text("conversationId", conversationId),
    updateMask: CHANGEABLE.filter((field) => options[field] !== undefined),
    title: text("title", options.title),
    labels: labels(options.labels),
    instructions: text("instructions", options.instructions),
    expectedRevision:
      options.expectedRevision === undefined
        ? undefined
        : whole("expectedRevision", options.expectedRevision),
  };
  const timeoutMs = options.timeoutMs ?? READ_TIMEOUT_MS;
  return { method: rpcs.updateConversation, request, timeoutMs };
}

/**
 * Build a DeleteConversation call. Its own success, unseen, makes it find nothing when it is repeated.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function deleteConversation(
  conversationId: string,
  options: DeleteOptions,
): Call<gen.DeleteConversationRequest, gen.DeleteConversationResponse> {
  const request: gen.DeleteConversationRequest = {
    conversationId: text("conversationId", conversationId),
    allowMissing: options.allowMissing ?? false,
  };
  const timeoutMs = options.timeoutMs ?? READ_TIMEOUT_MS;
  const ifGone = gen.DeleteConversationResponse.create();
  return { method: rpcs.deleteConversation, request, timeoutMs, ifGone };
}

/**
 * Build an UndeleteConversation call.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function undeleteConversation(
  conversationId: string,
  options: CallOptions,
): Call<gen.UndeleteConversationRequest, gen.UndeleteConversationResponse> {
  const request = { conversationId: text("conversationId", conversationId) };
  const timeoutMs = options.timeoutMs ?? READ_TIMEOUT_MS;
  return { method: rpcs.undeleteConversation, request, timeoutMs };
}

/**
 * Build a ListConversations call.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function conversationsPage(
  options: ListOptions & PageToken,
): Call<gen.ListConversationsRequest, gen.ListConversationsResponse> {
  const request: gen.ListConversationsRequest = {
    pageSize: whole("pageSize", options.pageSize, MAX_INT32),
    pageToken: text("pageToken", options.pageToken),
    labels: labelFilters(options.labels),
    updatedAfter: time("updatedAfter", options.updatedAfter),
  };
  const timeoutMs = options.timeoutMs ?? READ_TIMEOUT_MS;
  return { method: rpcs.listConversations, request, timeoutMs };
}

/**
 * Build a GetTurn call.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function turn(
  name: TurnName,
  timeoutMs: number = READ_TIMEOUT_MS,
): Call<gen.GetTurnRequest, gen.GetTurnResponse> {
  const request = turnName(name);
  return { method: rpcs.getTurn, request, timeoutMs, requestId: request.requestId };
}

/**
 * Build a CancelTurn call.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function cancelTurn(
  name: TurnName,
  timeoutMs: number = READ_TIMEOUT_MS,
): Call<gen.CancelTurnRequest, gen.CancelTurnResponse> {
  const request = turnName(name);
  return { method: rpcs.cancelTurn, request, timeoutMs, requestId: request.requestId };
}

function turnName(name: TurnName): gen.GetTurnRequest {
  return {
    conversationId: text("conversationId", name.conversationId),
    turnId: text("turnId", name.turnId),
    requestId: text("requestId", name.requestId),
  };
}

/** Check a text: what is no text, or cannot be written as UTF-8, must not be sent as another one. */
export function text(name: string, value: string | undefined): string {
  if (value === undefined) return "";
  if (typeof value !== "string") throw new TypeError(`${name} has to be a string`);
  if (!value.isWellFormed()) throw new TypeError(`${name} holds half of a surrogate pair`);
  return value;
}

/** Check a time: one that the contract cannot say must not be sent as another one. */
function time(name: string, value: Date | undefined): Date | undefined {
  if (value === undefined) return undefined;
  if (!(value instanceof Date && value.getTime() >= 0)) {
    throw new TypeError(`${name} has to be a valid Date, of 1970 or later`);
  }
  return value;
}

/** Check labels: a value that is missing must not be sent as an empty one. */
function labels(given: Labels = {}): Labels {
  for (const [key, value] of Object.entries(given)) {
    text("a label's key", key);
    if (value === undefined) throw new TypeError(`the label ${key} has no value`);
    text(`the label ${key}`, value);
  }
  return { ...given };
}

/** Return labels as a list asks for them. */
function labelFilters(given: Labels | undefined): string[] {
  return Object.entries(labels(given)).map(([key, value]) => {
    // It would be read as another label.
    if (key.includes("=")) throw new TypeError(`the label ${key} has a "=" in its key`);
    return `${key}=${value}`;
  });
}

/** Check a number: one that is not whole, or not exact, must not be sent as another one. */
export function whole(
  name: string,
  value: number | undefined,
  max = Number.MAX_SAFE_INTEGER,
): number {
  if (value === undefined) return 0;
  if (!Number.isInteger(value) || Math.abs(value) > max) {
    throw new TypeError(`${name} has to be a whole number, at most ${max}`);
  }
  return value;
}

/** Return an enum's value by its short name: "wait" is ON_BUSY_WAIT. */
function choice<V>(
  name: string,
  known: Record<string, V>,
  word: string | undefined,
): V | undefined {
  if (word === undefined) return undefined;
  if (!Object.hasOwn(known, word)) {
    const words = Object.keys(known).map((one) => `"${one}"`);
    throw new TypeError(`${name} is "${word}" and has to be ${words.join(" or ")}`);
  }
  return known[word];
}

/** What is sent: one function for each RPC. Nothing here does I/O. */

import { randomUUID } from "node:crypto";
import type { MethodDefinition } from "@grpc/grpc-js";
import * as gen from "./gen/parley/v1/conversation_service.js";
import { ConversationServiceService as rpcs } from "./gen/parley/v1/conversation_service.js";
import type { ChatOptions, HistoryOptions, ListOptions, PageToken, TurnName } from "./options.js";

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
}

/** A call that makes a turn. It always has a request id: without, a retry could make a second turn. */
export interface ChatCall extends Call<gen.ChatRequest, gen.ChatResponse> {
  requestId: string;
}

const MAX_INT32 = 2 ** 31 - 1;
const ON_BUSY = { reject: gen.OnBusy.REJECT, wait: gen.OnBusy.WAIT };
const ON_DISCONNECT = { cancel: gen.OnDisconnect.CANCEL, continue: gen.OnDisconnect.CONTINUE };
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

/** What is sent: one function for each RPC. Nothing here does I/O. */

import { randomUUID } from "node:crypto";
import type { MethodDefinition } from "@grpc/grpc-js";
import { choice, flag, labelFilters, labels, MAX_INT32, text, time, whole } from "./arguments.js";
import * as gen from "./gen/parley/v1/conversation_service.js";
import { ConversationServiceService as rpcs } from "./gen/parley/v1/conversation_service.js";
import { newMessages } from "./messages.js";
import type {
  AppendOptions,
  CallOptions,
  CallResult,
  ChatOptions,
  CreateOptions,
  DeleteOptions,
  ForkOptions,
  HistoryOptions,
  ListOptions,
  NewMessage,
  PageToken,
  ResumeOptions,
  StartOptions,
  TurnName,
  UpdateOptions,
  UsageOptions,
} from "./options.js";
import { callResults, tools } from "./pending.js";

export const CHAT_TIMEOUT_MS = 120_000;
export const READ_TIMEOUT_MS = 10_000;
/** For calls that may write much at once. */
export const CHANGE_TIMEOUT_MS = 60_000;
/** How long to wait before an erasure is asked for again. */
export const ERASURE_PAUSE_MS = 1_000;

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
  /** Repeating it is safe, though it has no request id of its own. */
  isRepeatable?: true;
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

/** A call that resumes a turn. The request id is the turn's; empty: its two ids name it. */
export interface ResumeCall extends Call<gen.ResumeTurnRequest, gen.ResumeTurnResponse> {
  requestId: string;
}

const ON_BUSY = {
  reject: gen.OnBusy.REJECT,
  wait: gen.OnBusy.WAIT,
  replace: gen.OnBusy.REPLACE,
};
const ON_DISCONNECT = { cancel: gen.OnDisconnect.CANCEL, continue: gen.OnDisconnect.CONTINUE };
const CHANGEABLE = ["title", "labels", "instructions", "agent"] as const;
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
    allowMissing: flag("allowMissing", options.allowMissing),
    expectedSequence: expectedSequence(options),
    onBusy: choice("onBusy", ON_BUSY, options.onBusy) ?? gen.OnBusy.UNSPECIFIED,
    onDisconnect: onDisconnect(options),
    agent: text("agent", options.agent),
    tools: tools(options.tools),
  };
  return { method: rpcs.chat, request, timeoutMs: options.timeoutMs ?? CHAT_TIMEOUT_MS, requestId };
}

/**
 * Build a StartTurn call. It always has a request id: without, a retry could make a second turn.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function startTurn(
  message: string,
  options: StartOptions,
): Call<gen.StartTurnRequest, gen.StartTurnResponse> {
  const requestId = text("requestId", options.requestId) || newRequestId();
  const chat: gen.ChatRequest = {
    conversationId: text("conversationId", options.conversationId),
    message: text("message", message),
    requestId,
    allowMissing: flag("allowMissing", options.allowMissing),
    expectedSequence: expectedSequence(options),
    onBusy: gen.OnBusy.UNSPECIFIED,
    onDisconnect: gen.OnDisconnect.UNSPECIFIED,
    agent: text("agent", options.agent),
    tools: tools(options.tools),
  };
  const timeoutMs = options.timeoutMs ?? READ_TIMEOUT_MS;
  return { method: rpcs.startTurn, request: { chat }, timeoutMs, requestId };
}

/**
 * Build a ResumeTurn call. A result counts once, however often it is given.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function resumeTurn(
  name: TurnName,
  results: readonly CallResult[],
  options: ResumeOptions,
): ResumeCall {
  const request: gen.ResumeTurnRequest = {
    ...turnName(name),
    results: callResults(results),
    onDisconnect: onDisconnect(options),
  };
  const timeoutMs = options.timeoutMs ?? CHAT_TIMEOUT_MS;
  const { requestId } = request;
  return { method: rpcs.resumeTurn, request, timeoutMs, requestId, isRepeatable: true };
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
    agent: text("agent", options.agent),
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
    agent: text("agent", options.agent),
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
    allowMissing: flag("allowMissing", options.allowMissing),
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
 * Build an AppendMessages call. It always has a request id: without, a retry could add the messages twice.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function appendMessages(
  conversationId: string,
  messages: readonly NewMessage[],
  options: AppendOptions,
): Call<gen.AppendMessagesRequest, gen.AppendMessagesResponse> {
  const requestId = text("requestId", options.requestId) || newRequestId();
  const request: gen.AppendMessagesRequest = {
    conversationId: text("conversationId", conversationId),
    requestId,
    messages: newMessages(messages),
    allowMissing: flag("allowMissing", options.allowMissing),
    expectedSequence: expectedSequence(options),
    onBusy: choice("onBusy", ON_BUSY, options.onBusy) ?? gen.OnBusy.UNSPECIFIED,
  };
  const timeoutMs = options.timeoutMs ?? CHANGE_TIMEOUT_MS;
  return { method: rpcs.appendMessages, request, timeoutMs, requestId };
}

/**
 * Build a ForkConversation call. It always has a request id: without, a retry could make another copy.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function forkConversation(
  conversationId: string,
  options: ForkOptions,
): Call<gen.ForkConversationRequest, gen.ForkConversationResponse> {
  const requestId = text("requestId", options.requestId) || newRequestId();
  const request: gen.ForkConversationRequest = {
    conversationId: text("conversationId", conversationId),
    newConversationId: text("newConversationId", options.newConversationId),
    requestId,
    upToSequence: whole("upToSequence", options.upToSequence),
  };
  const timeoutMs = options.timeoutMs ?? CHANGE_TIMEOUT_MS;
  return { method: rpcs.forkConversation, request, timeoutMs, requestId };
}

/**
 * Build an EraseOwner call. Its request id is the caller's: another one would begin another erasure.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function eraseOwner(
  requestId: string,
  options: CallOptions,
): Call<gen.EraseOwnerRequest, gen.EraseOwnerResponse> {
  const request = { requestId: text("requestId", requestId) };
  const timeoutMs = options.timeoutMs ?? CHANGE_TIMEOUT_MS;
  return { method: rpcs.eraseOwner, request, timeoutMs, requestId: request.requestId };
}

/**
 * Build a GetUsage call.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function usage(options: UsageOptions): Call<gen.GetUsageRequest, gen.GetUsageResponse> {
  const request: gen.GetUsageRequest = {
    startDate: text("startDate", options.startDate),
    endDate: text("endDate", options.endDate),
    byAgent: flag("byAgent", options.byAgent),
    byLabel: text("byLabel", options.byLabel),
    labels: labelFilters(options.labels),
  };
  return { method: rpcs.getUsage, request, timeoutMs: options.timeoutMs ?? READ_TIMEOUT_MS };
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

/**
 * Return what names a turn, as every call about one takes it.
 *
 * @throws TypeError an argument cannot be sent.
 */
export function turnName(name: TurnName): gen.GetTurnRequest {
  return {
    conversationId: text("conversationId", name.conversationId),
    turnId: text("turnId", name.turnId),
    requestId: text("requestId", name.requestId),
  };
}

function onDisconnect(options: ResumeOptions): gen.OnDisconnect {
  const chosen = choice("onDisconnect", ON_DISCONNECT, options.onDisconnect);
  return chosen ?? gen.OnDisconnect.UNSPECIFIED;
}

/** Return the check that an option asks for; undefined: none. */
function expectedSequence(options: { expectedSequence?: number | undefined }): number | undefined {
  if (options.expectedSequence === undefined) return undefined;
  return whole("expectedSequence", options.expectedSequence);
}

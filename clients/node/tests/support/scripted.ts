/** A real gRPC server that answers as a test says, and remembers how it was asked. */

import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import type { Any } from "../../src/gen/google/protobuf/any.js";
import {
  BadRequest,
  ErrorInfo,
  RequestInfo,
  RetryInfo,
} from "../../src/gen/google/rpc/error_details.js";
import { Status } from "../../src/gen/google/rpc/status.js";
import { Conversation } from "../../src/gen/parley/v1/conversation.js";
import * as gen from "../../src/gen/parley/v1/conversation_service.js";

/** An error as Parley tells it, or as something else does if it has no reason. */
export interface Refusal {
  code?: keyof typeof status;
  reason?: string;
  text?: string;
  domain?: string;
  metadata?: Record<string, string>;
  retryMs?: number;
  pushback?: string;
  violations?: { field: string; reason: string; description: string }[];
  callId?: string;
  mangled?: boolean;
}

type Part = object;
/** What a call is answered with: a refusal, a response, or for streams several, and maybe a refusal last. */
export type Step =
  | { refuse: Refusal }
  | { answer: Part }
  | { events: Part[]; last?: Refusal; open?: true }
  | Never;
type Never = "never";

/** One call as it arrived. */
// biome-ignore lint/suspicious/noExplicitAny: a test knows what it has asked for
export type Asked = { request: any; metadata: Metadata; timeLeftMs: number; atMs: number };

type Unary = ServerUnaryCall<object, object>;
type Streamed = ServerWritableStream<object, object>;

export class ScriptedServer {
  readonly asked: Asked[] = [];
  cancelled = 0;
  #port = 0;
  readonly #server = new Server();
  readonly #steps: (Step | ((request: object) => Promise<Step>))[];

  private constructor(steps: (Step | ((request: object) => Promise<Step>))[]) {
    this.#steps = [...steps];
    const unary = (call: Unary, answer: sendUnaryData<object>) => void this.#answer(call, answer);
    const stream = (call: Streamed) => void this.#send(call);
    this.#server.addService(gen.ConversationServiceService, {
      chat: unary,
      streamChat: stream,
      startTurn: unary,
      resumeTurn: unary,
      streamResumeTurn: stream,
      getHistory: unary,
      createConversation: unary,
      getConversation: unary,
      updateConversation: unary,
      deleteConversation: unary,
      undeleteConversation: unary,
      listConversations: unary,
      getTurn: unary,
      cancelTurn: unary,
      watchConversation: stream,
      appendMessages: unary,
      forkConversation: unary,
      exportConversations: stream,
      eraseOwner: unary,
      getUsage: unary,
      watchTurns: stream,
      listAgents: unary,
      explainTurn: unary,
      rehearseTurn: stream,
    });
  }

  /** Serve. It takes its next step at every call; the last one again when there are no more. */
  static async start(
    steps: (Step | ((request: object) => Promise<Step>))[],
    { credentials = ServerCredentials.createInsecure(), port = 0 } = {},
  ): Promise<ScriptedServer> {
    const server = new ScriptedServer(steps);
    server.#port = await new Promise((resolve, reject) => {
      server.#server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    return server;
  }

  get port(): number {
    return this.#port;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  [Symbol.dispose](): void {
    this.#server.forceShutdown();
  }

  async #step(call: Unary | Streamed): Promise<Step> {
    call.on("cancelled", () => {
      this.cancelled += 1;
    });
    this.asked.push({
      request: call.request,
      metadata: call.metadata,
      timeLeftMs: Number(call.getDeadline()) - Date.now(),
      atMs: performance.now(),
    });
    const step = this.#steps.length > 1 ? this.#steps.shift() : this.#steps[0];
    if (step === undefined) throw new Error("a script has at least one step");
    return typeof step === "function" ? step(call.request) : step;
  }

  async #answer(call: Unary, answer: sendUnaryData<object>): Promise<void> {
    const step = await this.#step(call);
    if (step === "never") return;
    if ("refuse" in step) answer(failure(step.refuse));
    else if ("answer" in step) answer(null, step.answer);
    else throw new Error("events answer streams");
  }

  async #send(call: Streamed): Promise<void> {
    const step = await this.#step(call);
    if (step === "never") return;
    if ("refuse" in step) {
      call.emit("error", failure(step.refuse));
      return;
    }
    for (const event of "events" in step ? step.events : [step.answer]) call.write(event);
    if ("last" in step && step.last) {
      await settled();
      call.emit("error", failure(step.last));
    } else if (!("open" in step)) call.end();
  }
}

/**
 * Let what was written arrive: grpc-js drops what its reader has not taken when an error comes.
 *
 * Both ends live in this event loop, and each of its turns moves bytes and messages on.
 */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 100; turns += 1) await new Promise((next) => setImmediate(next));
}

function failure(refusal: Refusal) {
  const { code = "UNAVAILABLE", text = "because the test says so", reason, retryMs } = refusal;
  const metadata = new Metadata();
  const pushback = refusal.pushback ?? retryMs?.toString();
  if (pushback !== undefined) metadata.set("grpc-retry-pushback-ms", pushback);
  const details: Any[] = [];
  const pack = (name: string, value: Uint8Array) =>
    details.push({ typeUrl: `type.googleapis.com/google.rpc.${name}`, value: Buffer.from(value) });
  if (reason !== undefined) {
    const { domain = "parley.v1", metadata: told = {} } = refusal;
    pack("ErrorInfo", ErrorInfo.encode({ reason, domain, metadata: told }).finish());
  }
  if (retryMs !== undefined) {
    const retryDelay = { seconds: Math.floor(retryMs / 1000), nanos: (retryMs % 1000) * 1e6 };
    pack("RetryInfo", RetryInfo.encode({ retryDelay }).finish());
  }
  if (refusal.violations) {
    pack(
      "BadRequest",
      BadRequest.encode(BadRequest.fromPartial({ fieldViolations: refusal.violations })).finish(),
    );
  }
  if (refusal.callId) {
    pack(
      "RequestInfo",
      RequestInfo.encode({ requestId: refusal.callId, servingData: "" }).finish(),
    );
  }
  const packed = Status.encode({ code: status[code], message: text, details }).finish();
  metadata.set(
    "grpc-status-details-bin",
    Buffer.from(refusal.mangled ? packed.subarray(0, -3) : packed),
  );
  return { code: status[code], details: text, metadata };
}

export const CONVERSATION_ID = "018f0000-0000-7000-8000-000000000001";
export const TURN_ID = "018f0000-0000-7000-8000-000000000002";

export function anAnswer(response = "HELLO"): gen.ChatResponse {
  return gen.ChatResponse.fromPartial({
    conversationId: CONVERSATION_ID,
    turnId: TURN_ID,
    response,
    userSequence: 1,
    responseSequence: 2,
  });
}

export function aConversation(
  said: Parameters<typeof Conversation.fromPartial>[0] = {},
): Conversation {
  return Conversation.fromPartial({ conversationId: CONVERSATION_ID, revision: 1, ...said });
}

export function started(attempt = 1): gen.StreamChatResponse {
  const value = { conversationId: CONVERSATION_ID, turnId: TURN_ID, userSequence: 1 };
  return { attempt, index: undefined, event: { $case: "started", value } };
}

export function chunk(text: string, index: number, attempt = 1): gen.StreamChatResponse {
  return { attempt, index, event: { $case: "chunk", value: { text } } };
}

export function completed(response: string, attempt = 0): gen.StreamChatResponse {
  return { attempt, index: undefined, event: { $case: "completed", value: anAnswer(response) } };
}

/** A caller's tools as functions: runs what a waiting turn asks for, until there is an answer. */

import { newRequestId } from "./calls.js";
import { CallNotPending, ResultAlreadyGiven } from "./errors.js";
import type { Answer } from "./events.js";
import { FinishReason, type PendingCall, PendingCallKind } from "./gen/parley/v1/conversation.js";
import type {
  CallResult,
  ChatOptions,
  Decision,
  ResumeOptions,
  Tool,
  ToolsOptions,
  TurnName,
} from "./options.js";
import { unlessAborted } from "./waiting.js";

/** What the server takes of one result. */
const MAX_RESULT_BYTES = 65_536;
/** What this client can give; the rest stays pending. */
const KINDS = new Set<PendingCallKind>([PendingCallKind.RESULT, PendingCallKind.APPROVAL]);
const NOBODY: Decision = { deny: "Nobody can approve calls here." };
/** Of one request; the server takes 2 MiB, unless it is set otherwise. */
const MAX_BATCH_BYTES = 1_000_000;

/**
 * A tool throws it to tell the model how it failed: the model sees the message.
 *
 * Of any other error that a tool throws, the model sees the name alone.
 */
export class ToolFailed extends Error {
  override readonly name = "ToolFailed";
}

/** What of the client is needed here. */
interface Caller {
  chat(message: string, options: ChatOptions): Promise<Answer>;
  resumeTurn(
    name: TurnName,
    results: readonly CallResult[],
    options: ResumeOptions,
  ): Promise<Answer>;
}

/** Make a turn, and run what it waits for, until there is an answer. */
export async function answered(
  parley: Caller,
  message: string,
  options: ToolsOptions,
): Promise<Answer> {
  const { tools, approve: _approve, onToolError: _onToolError, ...rest } = options;
  const requestId = options.requestId || newRequestId();
  const chat = { ...rest, requestId, tools: definitions(tools) };
  const outcomes = new Outcomes(options);
  let answer = await parley.chat(message, chat);
  while (answer.finishReason === FinishReason.ACTION_REQUIRED) {
    const results = await outcomes.of(answer.pendingCalls);
    if (results.length === 0) return answer;
    try {
      answer = await parley.resumeTurn({ requestId }, results, rest);
    } catch (error) {
      if (!(error instanceof ResultAlreadyGiven || error instanceof CallNotPending)) throw error;
      // Somebody else resumed or cancelled the turn: go on with what is pending now.
      const now = await parley.chat(message, chat);
      if (keysOf(now) === keysOf(answer)) throw error;
      answer = now;
    }
  }
  return answer;
}

function definitions(tools: ToolsOptions["tools"]): Tool[] {
  return Object.entries(tools).map(([name, { run, description, parametersSchema }]) => {
    if (typeof run !== "function") throw new TypeError(`the tool ${name} has no function run`);
    return { name, description, parametersSchema };
  });
}

function keysOf({ pendingCalls }: Answer): string {
  return pendingCalls.map(({ callKey }) => callKey).join();
}

/** What has come of the calls that a turn waits for: each is run, or asked about, once. */
class Outcomes {
  readonly #options: ToolsOptions;
  readonly #byKey = new Map<string, Promise<CallResult>>();
  /** The last question. */
  #asked: Promise<unknown> = Promise.resolve();

  constructor(options: ToolsOptions) {
    this.#options = options;
  }

  /**
   * Return what calls are given, as much of it as fits into a request.
   *
   * @throws what `approve` throws, if there is nothing else to give; the signal's reason.
   */
  async of(calls: readonly PendingCall[]): Promise<CallResult[]> {
    const { signal } = this.#options;
    const known = calls.filter(({ kind }) => KINDS.has(kind));
    const all = Promise.allSettled(known.map((call) => this.#outcome(call)));
    const settled = await unlessAborted(all, signal);
    const results = settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    const failed = settled.find((one) => one.status === "rejected");
    if (results.length === 0 && failed !== undefined) throw failed.reason;
    return batchOf(results);
  }

  #outcome(call: PendingCall): Promise<CallResult> {
    const known = this.#byKey.get(call.callKey);
    if (known !== undefined) return known;
    const isApproval = call.kind === PendingCallKind.APPROVAL;
    const outcome = isApproval ? this.#decidedInTurn(call) : this.#run(call);
    this.#byKey.set(call.callKey, outcome);
    return outcome;
  }

  /** Ask about one call after the other, and about nothing more after an error. */
  #decidedInTurn(call: PendingCall): Promise<CallResult> {
    const decided = this.#asked.then(() => this.#decided(call));
    this.#asked = decided;
    return decided;
  }

  async #decided(call: PendingCall): Promise<CallResult> {
    const { approve = () => NOBODY } = this.#options;
    const { callKey } = call;
    const decision = await approve(call);
    if (decision === "approve") return { callKey, approval: { arguments: call.arguments } };
    if (typeof decision?.deny === "string") return { callKey, denial: { reason: decision.deny } };
    throw new TypeError('approve has to return "approve" or { deny: a reason }');
  }

  async #run({ callKey, name, arguments: json }: PendingCall): Promise<CallResult> {
    const { tools, signal, onToolError } = this.#options;
    const tool = Object.hasOwn(tools, name) ? tools[name] : undefined;
    if (tool === undefined) return { callKey, error: `There is no tool ${name}.` };
    try {
      const result = textOf(await tool.run(parsed(json), { callKey, name, signal }));
      return { callKey, result };
    } catch (error) {
      if (!signal?.aborted) onToolError?.(error, { callKey, name, signal });
      return { callKey, error: sentenceOf(error) };
    }
  }
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new ToolFailed("The arguments are no valid JSON.");
  }
}

/** Return what a tool returned, as it is told to the model. */
function textOf(returned: unknown): string {
  const text = typeof returned === "string" ? returned : (JSON.stringify(returned) ?? "");
  const wrong = unfit(text);
  if (wrong !== undefined) throw new ToolFailed(`The tool ran, but its result ${wrong}.`);
  return text.toWellFormed();
}

function sentenceOf(error: unknown): string {
  const isForModel = error instanceof ToolFailed && error.message !== "";
  const name = error instanceof Error ? error.name : typeof error;
  const sentence = isForModel ? error.message : `The tool failed: ${name}.`;
  return unfit(sentence) === undefined ? sentence.toWellFormed() : "The tool failed.";
}

/** Say why the server would refuse a text. Undefined: it would not. */
function unfit(text: string): string | undefined {
  if (Buffer.byteLength(text) > MAX_RESULT_BYTES) return "is too long to be told";
  return text.includes("\0") ? "has the character NUL" : undefined;
}

/** Return the first results, as many as fit into one request. */
function batchOf(results: CallResult[]): CallResult[] {
  let bytes = 0;
  return results.filter((one) => {
    bytes += Buffer.byteLength(JSON.stringify(one));
    return bytes <= MAX_BATCH_BYTES || one === results[0];
  });
}

/** Tools of the caller, and what pending calls are given, as the contract has them. Nothing here does I/O. */

import { text } from "./arguments.js";
import type * as parts from "./gen/parley/v1/conversation.js";
import type * as gen from "./gen/parley/v1/conversation_service.js";
import type { CallResult, Tool } from "./options.js";

/**
 * Return tools as they are sent.
 *
 * @throws TypeError one cannot be sent; it says which, and what is wrong.
 */
export function tools(given: readonly Tool[] = []): parts.Tool[] {
  return given.map(({ name, description, parametersSchema: schema }, n) => ({
    name: text(`tools[${n}].name`, name),
    description: text(`tools[${n}].description`, description),
    parametersSchema: text(
      `tools[${n}].parametersSchema`,
      typeof schema === "object" ? JSON.stringify(schema) : schema,
    ),
  }));
}

/**
 * Return what pending calls are given as it is sent.
 *
 * @throws TypeError one cannot be sent; it says which, and what is wrong.
 */
export function callResults(given: readonly CallResult[]): gen.CallResult[] {
  return given.map((one, n) => ({
    callKey: text(`results[${n}].callKey`, one.callKey),
    outcome: outcome(one, `results[${n}]`),
  }));
}

interface Outcomes {
  result: string;
  error: string;
  approval: { arguments?: string | undefined };
  denial: { reason?: string | undefined };
}

function outcome(given: CallResult, name: string): gen.CallResult["outcome"] {
  const { result, error, approval, denial } = given as Partial<Outcomes>;
  // Of two outcomes, one would be sent and the other forgotten.
  const found = [result, error, approval, denial].filter((one) => one !== undefined);
  if (found.length !== 1) {
    throw new TypeError(`${name} has to have one of result, error, approval and denial`);
  }
  if (result !== undefined) return { $case: "result", value: text(`${name}.result`, result) };
  if (error !== undefined) return { $case: "error", value: text(`${name}.error`, error) };
  if (approval !== undefined) {
    const approved = text(`${name}.approval.arguments`, approval.arguments);
    return { $case: "approval", value: { arguments: approved } };
  }
  return { $case: "denial", value: { reason: text(`${name}.denial.reason`, denial?.reason) } };
}

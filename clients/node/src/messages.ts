/** Messages that a caller adds, as the contract has them. Nothing here does I/O. */

import { choice, flag, MAX_INT32, text, time, whole } from "./arguments.js";
import {
  FinishReason,
  type Message,
  Role,
  type ToolCall,
  type Usage,
} from "./gen/parley/v1/conversation.js";
import type { NewMessage, NewToolCall } from "./options.js";

/** Words for roles, and the contract's own, which messages of a history have. */
const ROLES: Readonly<Record<string, Role>> = {
  user: Role.USER,
  assistant: Role.ASSISTANT,
  system: Role.SYSTEM,
  [Role.USER]: Role.USER,
  [Role.ASSISTANT]: Role.ASSISTANT,
  [Role.SYSTEM]: Role.SYSTEM,
};
/** The same for the ends of answers. */
const FINISH_REASONS: Readonly<Record<string, FinishReason>> = {
  stop: FinishReason.STOP,
  length: FinishReason.LENGTH,
  cancelled: FinishReason.CANCELLED,
  content_filter: FinishReason.CONTENT_FILTER,
  [FinishReason.UNSPECIFIED]: FinishReason.UNSPECIFIED,
  [FinishReason.STOP]: FinishReason.STOP,
  [FinishReason.LENGTH]: FinishReason.LENGTH,
  [FinishReason.CANCELLED]: FinishReason.CANCELLED,
  [FinishReason.CONTENT_FILTER]: FinishReason.CONTENT_FILTER,
};

/**
 * Return messages as they are sent.
 *
 * @throws TypeError one cannot be sent; it says which, and what is wrong.
 */
export function newMessages(given: readonly NewMessage[]): Message[] {
  return given.map((message, n) => {
    const named = (field: string) => `messages[${n}].${field}`;
    return {
      sequence: 0,
      role: choice(named("role"), ROLES, message.role) ?? Role.UNSPECIFIED,
      content: text(named("content"), message.content),
      toolCalls: (message.toolCalls ?? []).map((call, k) =>
        newToolCall(call, named(`toolCalls[${k}]`)),
      ),
      turnId: text(named("turnId"), message.turnId),
      createTime: time(named("createTime"), message.createTime),
      usage: newUsage(message.usage, named("usage")),
      model: text(named("model"), message.model),
      finishReason:
        choice(named("finishReason"), FINISH_REASONS, message.finishReason) ??
        FinishReason.UNSPECIFIED,
    };
  });
}

function newToolCall(given: NewToolCall, name: string): ToolCall {
  return {
    id: text(`${name}.id`, given.id),
    name: text(`${name}.name`, given.name),
    arguments: text(`${name}.arguments`, given.arguments),
    result: text(`${name}.result`, given.result),
    isError: flag(`${name}.isError`, given.isError),
    step: whole(`${name}.step`, given.step, MAX_INT32),
  };
}

function newUsage(given: Partial<Usage> | undefined, name: string): Usage | undefined {
  return (
    given && {
      inputTokens: whole(`${name}.inputTokens`, given.inputTokens),
      outputTokens: whole(`${name}.outputTokens`, given.outputTokens),
      cachedInputTokens: whole(`${name}.cachedInputTokens`, given.cachedInputTokens),
      modelRequests: whole(`${name}.modelRequests`, given.modelRequests, MAX_INT32),
    }
  );
}

/** Parley for Node services. */

export { newRequestId } from "./calls.js";
export { type OfTurn, ParleyClient } from "./client.js";
export type { ClientOptions } from "./connection.js";
export * from "./errors.js";
export type {
  Answer,
  Chunk,
  Completed,
  Created,
  Started,
  ToolCalled,
  TurnEvent,
  Update,
} from "./events.js";
export {
  type Context,
  type Conversation,
  FinishReason,
  type Message,
  Role,
  type ToolCall,
  type Turn,
  TurnState,
  type Usage,
} from "./gen/parley/v1/conversation.js";
export type {
  DeleteConversationResponse as Deleted,
  GetHistoryResponse as HistoryPage,
  ListConversationsResponse as ConversationsPage,
} from "./gen/parley/v1/conversation_service.js";
export { ErrorReason as TurnErrorReason } from "./gen/parley/v1/error_reason.js";
export { SERVICE_CONFIG } from "./gen/service_config.js";
export type {
  CallOptions,
  ChatOptions,
  CreateOptions,
  DeleteOptions,
  HistoryOptions,
  Labels,
  ListOptions,
  OnRetry,
  PageToken,
  StreamOptions,
  TurnName,
  UpdateOptions,
  WatchOptions,
} from "./options.js";
export type { Security, Tls } from "./security.js";
export { type Token, tokenFile } from "./tokens.js";

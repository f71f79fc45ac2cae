/** Parley for Node services. */

export { newRequestId } from "./calls.js";
export { type OfTurn, ParleyClient } from "./client.js";
export type { ClientOptions } from "./connection.js";
export * from "./errors.js";
export type {
  Accepted,
  Answer,
  Chunk,
  Completed,
  Created,
  Explained,
  Exported,
  FeedUpdate,
  Forked,
  RehearsalEvent,
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
  type PendingCall,
  PendingCallKind,
  Role,
  type ToolCall,
  type Turn,
  TurnState,
  type Usage,
} from "./gen/parley/v1/conversation.js";
export type {
  Agent,
  Attempt,
  DeleteConversationResponse as Deleted,
  GetHistoryResponse as HistoryPage,
  GetUsageResponse as UsageReport,
  ListAgentsResponse as AgentList,
  ListConversationsResponse as ConversationsPage,
  OmittedMessages,
  RehearsalCompleted,
  ShownMessage,
} from "./gen/parley/v1/conversation_service.js";
export {
  type AppendMessagesResponse as Appended,
  type EraseOwnerResponse as Erasure,
  ErasureState,
  OmissionReason,
  type UsageRow,
} from "./gen/parley/v1/conversation_service.js";
export { ErrorReason as TurnErrorReason } from "./gen/parley/v1/error_reason.js";
export { SERVICE_CONFIG } from "./gen/service_config.js";
export type {
  AppendOptions,
  CallOptions,
  CallResult,
  ChatOptions,
  CreateOptions,
  Decision,
  DeleteOptions,
  EraseOptions,
  ExportOptions,
  FeedOptions,
  ForkOptions,
  HistoryOptions,
  Labels,
  ListOptions,
  NewMessage,
  NewToolCall,
  OnRetry,
  PageToken,
  RehearseOptions,
  ResumeOptions,
  RunningCall,
  StartOptions,
  StreamOptions,
  StreamResumeOptions,
  Tool,
  ToolFunction,
  ToolsOptions,
  TurnName,
  UpdateOptions,
  UsageOptions,
  WatchOptions,
} from "./options.js";
export type { Security, Tls } from "./security.js";
export { type Token, tokenFile } from "./tokens.js";
export { ToolFailed } from "./tools.js";

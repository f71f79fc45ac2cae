// Generated from the service config that all clients share. DO NOT EDIT.

/** How channels to Parley balance and retry (gRFC A6), as gRPC takes it. */
export const SERVICE_CONFIG = `{
  "loadBalancingConfig": [{ "round_robin": {} }],
  "methodConfig": [
    {
      "name": [{ "service": "parley.v1.ConversationService" }],
      "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "3s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"]
      }
    },
    {
      "name": [
        { "service": "parley.v1.ConversationService", "method": "StreamChat" },
        { "service": "parley.v1.ConversationService", "method": "StreamResumeTurn" },
        { "service": "parley.v1.ConversationService", "method": "WatchConversation" },
        { "service": "parley.v1.ConversationService", "method": "ExportConversations" },
        { "service": "parley.v1.ConversationService", "method": "WatchTurns" },
        { "service": "parley.v1.ConversationService", "method": "RehearseTurn" }
      ]
    }
  ]
}
`;

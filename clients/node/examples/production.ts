/** A client as a service would make it: TLS, a mounted token, deadlines, and errors that are told apart. */

import {
  type Answer,
  ConversationNotFound,
  ParleyClient,
  ParleyError,
  SequenceMismatch,
  TurnInProgress,
  tokenFile,
} from "parley-client";

const parley = new ParleyClient({
  address: "dns:///parley.internal:443",
  token: tokenFile("/run/secrets/parley-token"),
  tls: { caFile: "/etc/ssl/internal-ca.pem" },
});

/** Book what an order asks for. However often this is called for an order, the agent books once. */
export async function book(
  order: { id: string; conversationId: string; text: string; seen: number },
  signal: AbortSignal,
): Promise<Answer | "busy" | "stale" | "gone"> {
  const { conversationId } = order;
  try {
    return await parley.chat(order.text, {
      conversationId,
      requestId: `${order.id}-book`,
      expectedSequence: order.seen,
      timeoutMs: 30_000,
      signal,
    });
  } catch (error) {
    if (error instanceof TurnInProgress) return "busy";
    if (error instanceof SequenceMismatch) return "stale";
    if (error instanceof ConversationNotFound) return "gone";
    if (error instanceof ParleyError && error.isRetryable) {
      console.warn(`not booked yet: ${error.message}`, { requestId: error.requestId });
    }
    throw error;
  }
}

/** Follow a conversation from where one was, for as long as there is one. */
export async function follow(
  conversationId: string,
  seen: number,
  signal: AbortSignal,
): Promise<void> {
  const onRetry = (error: ParleyError) => console.info(`watching again: ${error.message}`);
  const options = { afterSequence: seen, onRetry, signal };
  for await (const update of parley.watch(conversationId, options)) {
    switch (update.type) {
      case "message":
        console.log(update.message.sequence, update.message.content);
        break;
      case "turn":
        console.log(update.turn.turnId, update.turn.state);
        break;
      case "deleted":
        console.log("the conversation was deleted"); // the last update
        break;
      case "event":
      case "progress":
        break;
    }
  }
}

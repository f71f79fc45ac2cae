/**
 * An HTTP endpoint that hands an answer on as it comes, as server-sent events.
 *
 *     curl -N 'http://127.0.0.1:8080/chat?message=Hello'
 *
 * The browser that goes away takes its call with it; the same `request_id` again attaches to the turn,
 * which `onDisconnect: "continue"` keeps alive, or brings its answer.
 */

import { createServer } from "node:http";
import { ParleyClient, ParleyError } from "parley-client";

const parley = new ParleyClient({ token: () => process.env.PARLEY_TOKEN ?? "" });

const server = createServer(async (request, response) => {
  const [, query] = (request.url ?? "").split("?", 2); // as a URL, what anybody sends may be none
  const searchParams = new URLSearchParams(query);
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  response.setHeader("content-type", "text/event-stream");

  const send = (event: string, data: unknown) =>
    response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  try {
    const events = parley.stream(searchParams.get("message") ?? "", {
      conversationId: searchParams.get("conversation_id") ?? undefined,
      requestId: searchParams.get("request_id") ?? undefined,
      onDisconnect: "continue",
      signal: gone.signal,
    });
    for await (const event of events) send(event.type, event);
  } catch (error) {
    if (gone.signal.aborted) return;
    if (!(error instanceof ParleyError)) throw error;
    const { code, reason, message, requestId, isRetryable } = error;
    send("failed", { code, reason, message, requestId, isRetryable });
  }
  response.end();
});

server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1");
process.once("SIGTERM", () => {
  server.close();
  parley.close();
});

/** How single calls are made with grpc-js. */

import type { Client, Metadata } from "@grpc/grpc-js";
import type { Call } from "./calls.js";
import { ParleyError } from "./errors.js";
import type { Stream } from "./streams.js";
import { onAbort, pause } from "./waiting.js";

/** Return the error of a call whose client was closed under it. */
export function closed(requestId: string | undefined, cause?: unknown): ParleyError {
  return new ParleyError("the client was closed", { code: "CANCELLED", requestId, cause });
}

/** An open channel, and the calls under way on it. */
export class Channel {
  readonly #client: Client;
  readonly #underWay = new Set<() => void>();
  #isClosed = false;

  constructor(client: Client) {
    this.#client = client;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Close it; calls under way end as cancelled, which grpc-js alone would wait for. */
  close(): void {
    this.#isClosed = true;
    for (const cancel of this.#underWay) cancel();
    this.#client.close();
  }

  /** Send one request. Rejects with what grpc-js ends the call with. */
  sent<Request, Response>(
    { method, request }: Call<Request, Response>,
    metadata: Metadata,
    timeLeftMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted(); // perhaps while the token was waited for
      const rpc = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        metadata,
        { deadline: Date.now() + timeLeftMs },
        (failure, response) => {
          forget();
          if (failure) reject(failure);
          else resolve(response as Response);
        },
      );
      const forget = this.#follow(() => rpc.cancel(), signal);
    });
  }

  /** Receive a stream. Throws what grpc-js ends it with; leaving the loop cancels the call. */
  async *received<Request, Response>(
    { method, request, timeLeftMs }: Stream<Request, Response, unknown>,
    metadata: Metadata,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Response, void, undefined> {
    signal?.throwIfAborted();
    const rpc = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadata,
      { deadline: Date.now() + timeLeftMs },
    );
    const forget = this.#follow(() => rpc.cancel(), signal);
    rpc.on("error", () => {}); // the loop below throws it; this is for when the loop has been left
    try {
      for await (const response of rpc) yield response as Response;
    } finally {
      forget();
      rpc.cancel(); // the iteration was left, or the call has ended and this changes nothing
    }
  }

  /**
   * Wait for a time.
   *
   * @throws the signal's reason if it is aborted meanwhile; ParleyError: the channel was closed.
   */
  async rested(
    ms: number,
    signal: AbortSignal | undefined,
    requestId: string | undefined,
  ): Promise<void> {
    const woken = new AbortController();
    const forget = this.#follow(() => woken.abort(), signal);
    if (!this.#isClosed) await pause(ms, woken.signal).catch(() => {}); // it was woken
    forget();
    signal?.throwIfAborted();
    if (this.#isClosed) throw closed(requestId);
  }

  /** Cancel a call when its caller aborts or the channel is closed, until it has ended. */
  #follow(cancel: () => void, signal: AbortSignal | undefined): () => void {
    this.#underWay.add(cancel);
    const forget = onAbort(signal, cancel);
    return () => {
      this.#underWay.delete(cancel);
      forget();
    };
  }
}

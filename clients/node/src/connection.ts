/** The client's channel, and how calls are made on it. */

import { type ChannelOptions, Client, type Metadata } from "@grpc/grpc-js";
import type { Call } from "./calls.js";
import { channelOptions, credentialsFor, DEFAULT_ADDRESS, type Security } from "./channels.js";
import { DeadlineExceeded, type ParleyError, Unavailable } from "./errors.js";
import type { OnRetry } from "./options.js";
import { Tries } from "./retries.js";
import { errorFrom, isFailure } from "./statuses.js";
import type { Stream } from "./streams.js";
import { metadataFrom, type Token } from "./tokens.js";
import { pause, within } from "./waiting.js";

/** Where the server is, and who calls. */
export interface ClientOptions extends Security {
  /** host:port, or any gRPC target. Default: 127.0.0.1:50051. */
  address?: string | undefined;
  /** A JWT, a function that returns one and may be asynchronous, or a `tokenFile`. */
  token?: Token | undefined;
  /** What else grpc-js takes for a channel, such as "grpc.keepalive_time_ms". */
  channelOptions?: ChannelOptions | undefined;
}

/** What every try of a call needs to know. */
interface Caller {
  signal?: AbortSignal | undefined;
  requestId?: string | undefined;
  timeLeftMs: number;
}

/** One channel, opened at the first call. */
export class Connection {
  readonly #open: () => Client;
  readonly #token: Token | undefined;
  #client: Client | undefined;

  constructor(options: ClientOptions) {
    const address = options.address ?? DEFAULT_ADDRESS;
    const credentials = credentialsFor(address, options);
    const all = { ...channelOptions(), ...options.channelOptions };
    this.#open = () => new Client(address, credentials, all);
    this.#token = options.token;
  }

  /** Close the channel; calls under way end as cancelled. A later call opens it again. */
  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  /** Make a call, with every try that it takes. */
  async made<Request, Response>(
    call: Call<Request, Response>,
    signal: AbortSignal | undefined,
  ): Promise<Response> {
    const tries = new Tries(call.timeoutMs);
    for (;;) {
      signal?.throwIfAborted();
      const { requestId } = call;
      const metadata = await this.#metadata({ signal, requestId, timeLeftMs: tries.timeLeftMs });
      try {
        return await this.#sent(call, metadata, tries.timeLeftMs, signal);
      } catch (failure) {
        signal?.throwIfAborted();
        if (!isFailure(failure)) throw failure;
        const error = errorFrom(failure, requestId);
        const pauseMs = tries.pauseMs(error);
        if (pauseMs === undefined) throw error;
        await pause(pauseMs, signal);
      }
    }
  }

  /** Iterate over a stream's events, with every call that it takes. */
  async *followed<Request, Response, Event>(
    stream: Stream<Request, Response, Event>,
    { signal, onRetry }: { signal?: AbortSignal | undefined; onRetry?: OnRetry | undefined },
  ): AsyncGenerator<Event, void, undefined> {
    for (;;) {
      signal?.throwIfAborted();
      const { requestId, timeLeftMs } = stream;
      const metadata = await this.#metadata({ signal, requestId, timeLeftMs });
      let error: ParleyError;
      try {
        for await (const response of this.#received(stream, metadata, signal)) {
          const event = stream.takes(response);
          if (event !== undefined) yield event;
          signal?.throwIfAborted();
        }
        error = new Unavailable("the stream ended before its last event", {
          code: "UNAVAILABLE",
          requestId,
        });
      } catch (failure) {
        signal?.throwIfAborted();
        if (!isFailure(failure)) throw failure;
        error = errorFrom(failure, requestId);
      }
      if (stream.isOver) return;
      const pauseMs = stream.pauseMs(error);
      if (pauseMs === undefined) throw error;
      onRetry?.(error);
      await pause(pauseMs, signal);
    }
  }

  /** Ask for the token. However long that takes, the call ends in time. */
  async #metadata({ signal, requestId, timeLeftMs }: Caller): Promise<Metadata> {
    const late = () =>
      new DeadlineExceeded("the token function gave no token in time", {
        code: "DEADLINE_EXCEEDED",
        requestId,
      });
    return within(metadataFrom(this.#token), timeLeftMs, signal, late);
  }

  #sent<Request, Response>(
    { method, request }: Call<Request, Response>,
    metadata: Metadata,
    timeLeftMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      const cancel = () => rpc.cancel();
      const rpc = this.#connected().makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        metadata,
        { deadline: Date.now() + timeLeftMs },
        (failure, response) => {
          signal?.removeEventListener("abort", cancel);
          if (failure) reject(failure);
          else resolve(response as Response);
        },
      );
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  async *#received<Request, Response>(
    { method, request, timeLeftMs }: Stream<Request, Response, unknown>,
    metadata: Metadata,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Response, void, undefined> {
    const rpc = this.#connected().makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadata,
      { deadline: Date.now() + timeLeftMs },
    );
    const cancel = () => rpc.cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    rpc.on("error", () => {}); // the loop below throws it; this is for when the loop has been left
    try {
      for await (const response of rpc) yield response as Response;
    } finally {
      signal?.removeEventListener("abort", cancel);
      rpc.cancel(); // whoever iterated has had enough, or it has ended and this changes nothing
    }
  }

  #connected(): Client {
    this.#client ??= this.#open();
    return this.#client;
  }
}

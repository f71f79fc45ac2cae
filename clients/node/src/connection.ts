/** The client's channel, and how calls are made on it. */

import { type ChannelOptions, Client, type Metadata } from "@grpc/grpc-js";
import { text } from "./arguments.js";
import type { Call } from "./calls.js";
import { Channel, closed } from "./channel.js";
import { DeadlineExceeded, type ParleyError, Unavailable } from "./errors.js";
import type { OnRetry } from "./options.js";
import { OwnTries, Tries } from "./retries.js";
import {
  channelOptions,
  credentialsFor,
  DEFAULT_ADDRESS,
  proxyOptions,
  type Security,
} from "./security.js";
import { errorFrom, isFailure } from "./statuses.js";
import type { Stream } from "./streams.js";
import { metadataFrom, type Token } from "./tokens.js";
import { within } from "./waiting.js";

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

/** What calls are made on. */
interface Calling {
  /** Return the channel; if need be, open it. */
  connected(): Channel;
  close(): void;
}

/** One channel, opened at the first call, and perhaps again after it was closed. */
export class Line implements Calling {
  readonly #open: () => Channel;
  #channel: Channel | undefined;

  constructor(options: ClientOptions) {
    const address = options.address ?? DEFAULT_ADDRESS;
    const credentials = credentialsFor(address, options);
    const all = {
      ...channelOptions(),
      ...proxyOptions(address, options),
      ...options.channelOptions,
    };
    this.#open = () => new Channel(new Client(address, credentials, all));
  }

  connected(): Channel {
    this.#channel ??= this.#open();
    return this.#channel;
  }

  close(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }
}

/** A line, and who calls on it. */
export class Connection {
  readonly #line: Calling;
  readonly #token: Token | undefined;
  readonly #user: string | undefined;

  /** Make one. Args: user: whom the caller acts for. */
  constructor(line: Calling, token: Token | undefined, user?: string) {
    this.#line = line;
    this.#token = token;
    this.#user = user;
  }

  /** Return this connection as one whose calls are about a user's conversations. */
  actingFor(user: string): Connection {
    return new Connection(this.#line, this.#token, text("user", user));
  }

  /** Return this connection for calls that belong together: once it is closed, none of them opens it again. */
  whileOpen(): Connection {
    const channel = this.#line.connected();
    const line = { connected: () => channel, close: () => this.#line.close() };
    return new Connection(line, this.#token, this.#user);
  }

  /** Close the line, unless it is another one's; a later call opens it again. */
  close(): void {
    if (this.#user === undefined) this.#line.close();
  }

  /** Make a call, with every try that it takes. */
  async made<Request, Response>(
    call: Call<Request, Response>,
    signal: AbortSignal | undefined,
  ): Promise<Response> {
    const { ifGone } = call;
    const tries = new (ifGone === undefined ? Tries : OwnTries)(call.timeoutMs);
    const channel = this.#line.connected();
    for (;;) {
      signal?.throwIfAborted();
      const { requestId } = call;
      const metadata = await this.#metadata({ signal, requestId, timeLeftMs: tries.timeLeftMs });
      // Proxies cannot see the request id. The further tries are this client's own.
      if ((requestId || call.isRepeatable) && tries.isFirst) metadata.set("parley-retry", "safe");
      try {
        return await channel.sent(call, metadata, tries.timeLeftMs, signal);
      } catch (failure) {
        signal?.throwIfAborted();
        const error = errorOf(failure, channel, requestId);
        if (ifGone !== undefined && !tries.isFirst && error.code === "NOT_FOUND") return ifGone;
        const pauseMs = tries.pauseMs(error);
        if (pauseMs === undefined) throw error;
        await channel.rested(pauseMs, signal, requestId);
      }
    }
  }

  /** Iterate over a stream's events, with every call that it takes. */
  async *followed<Request, Response, Event>(
    stream: Stream<Request, Response, Event>,
    { signal, onRetry }: { signal?: AbortSignal | undefined; onRetry?: OnRetry | undefined },
  ): AsyncGenerator<Event, void, undefined> {
    const channel = this.#line.connected();
    for (;;) {
      signal?.throwIfAborted();
      const { requestId, timeLeftMs } = stream;
      let metadata: Metadata;
      try {
        metadata = await this.#metadata({ signal, requestId, timeLeftMs });
      } catch (failure) {
        signal?.throwIfAborted();
        const error = tokenless(failure, requestId);
        const pauseMs = stream.tries.pauseForTokenMs(error);
        if (pauseMs === undefined) throw failure;
        onRetry?.(error);
        await channel.rested(pauseMs, signal, requestId);
        continue;
      }
      let error: ParleyError;
      try {
        for await (const response of channel.received(stream, metadata, signal)) {
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
        error = errorOf(failure, channel, requestId);
      }
      if (stream.isOver) return;
      const last = stream.lastEvent?.(error);
      if (last !== undefined) {
        yield last;
        return;
      }
      const pauseMs = stream.tries.pauseMs(error);
      if (pauseMs === undefined) throw error;
      onRetry?.(error);
      await channel.rested(pauseMs, signal, requestId);
    }
  }

  /**
   * Wait between two calls.
   *
   * @throws the signal's reason if it is aborted meanwhile; ParleyError: the client was closed.
   */
  async rested(ms: number, signal: AbortSignal | undefined, requestId: string): Promise<void> {
    await this.#line.connected().rested(ms, signal, requestId);
  }

  /** Ask for the token. However long that takes, the call ends in time. */
  async #metadata({ signal, requestId, timeLeftMs }: Caller): Promise<Metadata> {
    const late = () =>
      new DeadlineExceeded("the token function gave no token in time", {
        code: "DEADLINE_EXCEEDED",
        requestId,
      });
    return within(metadataFrom(this.#token, this.#user), timeLeftMs, signal, late);
  }
}

/** Return the error that a call has ended with. Throws what is no failure of a call. */
function errorOf(failure: unknown, channel: Channel, requestId: string | undefined): ParleyError {
  if (channel.isClosed) return closed(requestId, failure);
  if (!isFailure(failure)) throw failure;
  return errorFrom(failure, requestId);
}

/** Return what a token that cannot be had is told as, while a stream waits for it. */
function tokenless(failure: unknown, requestId: string | undefined): Unavailable {
  const what = failure instanceof Error ? failure.message : String(failure);
  return new Unavailable(`no token: ${what}`, { code: "UNAVAILABLE", requestId, cause: failure });
}

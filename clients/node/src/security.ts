/** How a channel to the server is set up. */

import { readFileSync } from "node:fs";
import { ChannelCredentials, type ChannelOptions, credentials } from "@grpc/grpc-js";
import { ConversationServiceService as rpcs } from "./gen/parley/v1/conversation_service.js";
import { SERVICE_CONFIG } from "./gen/service_config.js";

/** gRPC repeats no request that is longer, and by itself only those below 1 MiB: a server can be set to take so much. */
const RETRY_BUFFER_BYTES = 64 * 2 ** 20;
/** The same for all requests under way, of which gRPC by itself keeps 16 MiB. */
const ALL_RETRY_BUFFERS_BYTES = 2 ** 30;

export const DEFAULT_ADDRESS = "127.0.0.1:50051";

/** Whom TLS trusts, and who it says is calling. Files are PEM and read when the client is made. */
export interface Tls {
  /** The authorities to trust. Undefined: those that Node trusts, `NODE_EXTRA_CA_CERTS` included. */
  caFile?: string | URL | undefined;
  /** The client's own certificate, for servers that ask for one; goes with `keyFile`. */
  certFile?: string | URL | undefined;
  keyFile?: string | URL | undefined;
}

/** How the server is trusted. */
export interface Security {
  /** Undefined: TLS as Node does it, but plaintext on this machine. */
  tls?: Tls | ChannelCredentials | undefined;
  /** True: use no TLS, wherever the server is. An attacker on the way can read the token. */
  plaintext?: boolean | undefined;
}

/**
 * Return the credentials to open a channel with.
 *
 * An attacker who reads a token can use it, so plaintext to another machine has to be asked for.
 *
 * @throws TypeError the options contradict each other; Error: a file cannot be read.
 */
export function credentialsFor(address: string, { tls, plaintext }: Security): ChannelCredentials {
  if (plaintext && tls) throw new TypeError("give either tls or plaintext, not both");
  if (tls instanceof ChannelCredentials) return tls;
  if (plaintext || (!tls && isOnThisMachine(address))) return credentials.createInsecure();
  if (!tls?.certFile !== !tls?.keyFile) {
    throw new TypeError("tls.certFile and tls.keyFile go together");
  }
  return credentials.createSsl(read(tls?.caFile), read(tls?.keyFile), read(tls?.certFile));
}

/** Say whether an address, `host:port` or a gRPC target, leads to this machine only. */
export function isOnThisMachine(address: string): boolean {
  const [, scheme = "", rest = ""] = /^([a-z0-9-]+):(.*)$/.exec(address) ?? [];
  if (scheme === "unix" || scheme === "unix-abstract") return true;
  const target = ["dns", "ipv4", "ipv6"].includes(scheme)
    ? rest.slice(rest.lastIndexOf("/") + 1)
    : address;
  const host = target.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/**
 * Return the options that keep a channel away from proxies, where it has to be kept away.
 *
 * A proxy that a variable names (`https_proxy`, `http_proxy`, `grpc_proxy`) would see the token of a
 * plaintext call, and has no business on this machine.
 */
export function proxyOptions(address: string, { plaintext }: Security): ChannelOptions {
  return plaintext || isOnThisMachine(address) ? { "grpc.enable_http_proxy": 0 } : {};
}

/**
 * Return the channel's options. gRPC makes the retries of single calls, as the service config says.
 *
 * Source: gRFC A6 (client retries); the server's `grpc-retry-pushback-ms` goes before the backoff.
 */
export function channelOptions(): ChannelOptions {
  return {
    "grpc.enable_retries": 1,
    "grpc.service_config": serviceConfig(),
    "grpc.per_rpc_retry_buffer_size": RETRY_BUFFER_BYTES,
    "grpc.retry_buffer_size": ALL_RETRY_BUFFERS_BYTES,
    // A server that restarts is found again in good time; gRPC's own waits grow to two minutes.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 5000,
    // A server that vanished without a word is noticed within 40 s, while a call is under way. Parley allows a ping
    // every 20 s (PARLEY_GRPC_MIN_PING_S).
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
  };
}

/** Return the service config that all clients share, with deletes left to the client's own retries. */
function serviceConfig(): string {
  const config = JSON.parse(SERVICE_CONFIG);
  const [, service, method] = rpcs.deleteConversation.path.split("/");
  config.methodConfig.push({ name: [{ service, method }] });
  return JSON.stringify(config);
}

function read(path: string | URL | undefined): Buffer | null {
  return path === undefined ? null : readFileSync(path);
}

/** Waiting that ends when the caller has had enough. */

import { setMaxListeners } from "node:events";

const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Wait for a time. Throws the signal's reason if it is aborted meanwhile. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return ended(signal, (resolve) => timer(ms, resolve));
}

/**
 * Wait for something that may take for ever.
 *
 * @param late makes the error to throw when the time is over.
 * @throws the signal's reason if it is aborted meanwhile; whatever the promise is rejected with.
 */
export function within<T>(
  promise: Promise<T>,
  timeLeftMs: number,
  signal: AbortSignal | undefined,
  late: () => Error,
): Promise<T> {
  return ended<T>(signal, (resolve, reject) => {
    promise.then(resolve, reject);
    return timer(timeLeftMs, () => reject(late()));
  });
}

/** Wait for something for as long as it takes. Throws the signal's reason if it is aborted meanwhile. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  return ended<T>(signal, (resolve, reject) => {
    promise.then(resolve, reject);
    return undefined;
  });
}

/**
 * Be told when a signal is aborted, at once if it is already. Returns: what ends that.
 *
 * Any number of calls may share a signal; Node warns of a leak when more than ten listen to it.
 */
export function onAbort(signal: AbortSignal | undefined, then: () => void): () => void {
  if (signal === undefined) return () => {};
  if (signal.aborted) {
    then();
    return () => {};
  }
  if (signal instanceof EventTarget) setMaxListeners(0, signal); // another library's may be none
  signal.addEventListener("abort", then, { once: true });
  return () => signal.removeEventListener("abort", then);
}

/** Wait for the first of what `begin` starts and the signal, then leave nothing behind. */
function ended<T>(
  signal: AbortSignal | undefined,
  begin: (
    resolve: (value: T) => void,
    reject: (reason: unknown) => void,
  ) => NodeJS.Timeout | undefined,
): Promise<T> {
  let running: NodeJS.Timeout | undefined;
  let forget = () => {};
  return new Promise<T>((resolve, reject) => {
    forget = onAbort(signal, () => reject(signal?.reason));
    running = begin(resolve, reject);
  }).finally(() => {
    clearTimeout(running);
    forget();
  });
}

function timer(ms: number, then: () => void): NodeJS.Timeout {
  return setTimeout(then, Math.min(ms, LONGEST_TIMER_MS));
}

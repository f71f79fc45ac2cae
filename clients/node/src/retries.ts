/**
 * What the client retries by itself, beyond what gRPC retries for it.
 *
 * gRPC repeats a call that ended UNAVAILABLE before anything had come (the service config). A turn
 * that another worker took over ends ABORTED: gRPC may not repeat that, since most of what is ABORTED
 * needs a decision, but LEASE_LOST needs none. Both are safe because of the request id: the server
 * makes one turn for it.
 *
 * A stream is lost in its middle, where gRPC cannot help, so that all of its tries are made here. A proxy
 * resets one whose server it has lost, which gRPC calls INTERNAL. All tries are made here, too, of a delete, which has to know whether an earlier try may have done its work.
 */

import {
  DeadlineExceeded,
  LeaseLost,
  Overloaded,
  type ParleyError,
  Unavailable,
} from "./errors.js";

export const MAX_TRIES = 5;
/** Of a turn or an export that has begun to arrive: patience for a server that restarts. */
export const MAX_TRIES_UNDER_WAY = 8;
/** A year. gRPC cannot write down a deadline that is much later, and then ends the process. */
const LONGEST_CALL_MS = 365 * 86_400_000;
/**
 * Of a watch whose token function fails: about five minutes. The server may be away for longer, but of a function that
 * fails for so long, its owner has to know.
 */
export const MAX_TRIES_FOR_TOKEN = 100;
const DEFAULT_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 3000;

/** Milliseconds that only ever grow. */
export type Clock = () => number;

/** The tries of one call, under one deadline. */
export class Tries {
  protected count = 1;
  readonly #clock: Clock;
  readonly #endsAtMs: number;

  /**
   * Start the call's time.
   *
   * @param timeoutMs for all tries together.
   * @throws RangeError it is no number above 0.
   */
  constructor(timeoutMs: number, clock: Clock = () => performance.now()) {
    if (!(typeof timeoutMs === "number" && timeoutMs > 0)) {
      throw new RangeError(`timeoutMs is ${timeoutMs} and has to be a number above 0`);
    }
    this.#clock = clock;
    this.#endsAtMs = clock() + timeoutMs;
  }

  /** Whether nothing has been tried in vain. */
  get isFirst(): boolean {
    return this.count === 1;
  }

  /** Until the deadline, at most a year; 0 when it has passed. */
  get timeLeftMs(): number {
    return Math.min(Math.max(0, this.#endsAtMs - this.#clock()), LONGEST_CALL_MS);
  }

  /** Say how long to wait before the next try. Undefined: the error stands. */
  pauseMs(error: ParleyError): number | undefined {
    const pauseMs = this.wantedPauseMs(error);
    if (!this.isWorthIt(error) || pauseMs >= this.timeLeftMs) return undefined;
    this.count += 1;
    return pauseMs;
  }

  protected wantedPauseMs(error: ParleyError): number {
    return error.retryAfterMs ?? DEFAULT_PAUSE_MS;
  }

  protected isWorthIt(error: ParleyError): boolean {
    return error instanceof LeaseLost && this.count < MAX_TRIES;
  }
}

/** The tries of a call that gRPC does not repeat. */
export class OwnTries extends Tries {
  /** Return no less than the server asks for, and more with every try in vain. */
  protected override wantedPauseMs(error: ParleyError): number {
    const doublings = Math.min(this.count - 1, 9); // a watch has no end of tries
    const backoffMs = Math.min(LONGEST_PAUSE_MS, DEFAULT_PAUSE_MS * 2 ** doublings);
    const spreadMs = backoffMs * (0.8 + 0.4 * Math.random());
    return Math.max(spreadMs, error.retryAfterMs ?? 0);
  }

  protected override isWorthIt(error: ParleyError): boolean {
    return error instanceof Unavailable && !error.isPushedBack && this.count < MAX_TRIES;
  }
}

/** The tries of one streamed turn, counted from zero whenever it has come further. */
export class StreamTries extends OwnTries {
  /** Whether anything has come. */
  isUnderWay = false;
  /** How often there was no token since something has come. */
  #tokenless = 0;

  /** Take note that something new has come. */
  cameFurther(): void {
    this.isUnderWay = true;
    this.count = 1;
    this.#tokenless = 0;
  }

  /**
   * Say how long to wait before the token is asked for again. Undefined: what went wrong with it stands.
   *
   * Before anything has come it does: the caller learns at once what is wrong with the token.
   */
  pauseForTokenMs(error: Unavailable): number | undefined {
    this.#tokenless += 1;
    const waits = this.isUnderWay && this.#tokenless < MAX_TRIES_FOR_TOKEN;
    return waits ? this.pauseMs(error) : undefined;
  }

  protected override isWorthIt(error: ParleyError): boolean {
    if (error.isPushedBack) return false;
    if (!this.isUnderWay) return isLost(error) && this.count < MAX_TRIES;
    // The worker that drains hands all its streams to the others, all at once.
    return (isLost(error) || error instanceof Overloaded) && this.count < MAX_TRIES_UNDER_WAY;
  }
}

/** The tries of a rehearsal: none once anything has come, which no other try would bring. */
export class RehearsalTries extends StreamTries {
  protected override isWorthIt(error: ParleyError): boolean {
    return !this.isUnderWay && super.isWorthIt(error);
  }
}

/**
 * The tries of a watch: for ever, once it has begun.
 *
 * But for resets: one that always comes at the same place is no loss, and has to be known.
 */
export class WatchTries extends StreamTries {
  constructor() {
    super(Number.POSITIVE_INFINITY);
  }

  protected override isWorthIt(error: ParleyError): boolean {
    if (!this.isUnderWay || isReset(error)) return super.isWorthIt(error);
    return (
      error instanceof Unavailable ||
      error instanceof Overloaded ||
      error instanceof DeadlineExceeded
    );
  }
}

/** The tries of an export, counted from zero whenever a part has come. */
export class ExportTries extends WatchTries {
  protected override isWorthIt(error: ParleyError): boolean {
    return super.isWorthIt(error) && this.count < MAX_TRIES_UNDER_WAY;
  }
}

/** Say whether a stream was lost on its way, or with its worker. */
function isLost(error: ParleyError): boolean {
  return isReset(error) || error instanceof Unavailable || error instanceof LeaseLost;
}

/**
 * Say whether a proxy has reset a stream, as it does when it has lost the stream's server.
 *
 * gRPC tells that as INTERNAL. Parley's own errors have a reason.
 */
function isReset(error: ParleyError): boolean {
  return error.code === "INTERNAL" && error.reason === undefined;
}

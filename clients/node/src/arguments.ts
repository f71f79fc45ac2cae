/** Which arguments can be sent. What cannot is a TypeError: it must not be sent as something else. */

import type { Labels } from "./options.js";

export const MAX_INT32 = 2 ** 31 - 1;

/** Check a text: what is no text, or cannot be written as UTF-8, must not be sent as another one. */
export function text(name: string, value: string | undefined): string {
  if (value === undefined) return "";
  if (typeof value !== "string") throw new TypeError(`${name} has to be a string`);
  if (!value.isWellFormed()) throw new TypeError(`${name} holds half of a surrogate pair`);
  return value;
}

/** Check a time: one that the contract cannot say must not be sent as another one. */
export function time(name: string, value: Date | undefined): Date | undefined {
  if (value === undefined) return undefined;
  if (!(value instanceof Date && value.getTime() >= 0)) {
    throw new TypeError(`${name} has to be a valid Date, of 1970 or later`);
  }
  return value;
}

/** Check labels: a value that is missing must not be sent as an empty one. */
export function labels(given: Labels = {}): Labels {
  for (const [key, value] of Object.entries(given)) {
    text("a label's key", key);
    if (value === undefined) throw new TypeError(`the label ${key} has no value`);
    text(`the label ${key}`, value);
  }
  return { ...given };
}

/** Return labels as a list asks for them. */
export function labelFilters(given: Labels | undefined): string[] {
  return Object.entries(labels(given)).map(([key, value]) => {
    // It would be read as another label.
    if (key.includes("=")) throw new TypeError(`the label ${key} has a "=" in its key`);
    return `${key}=${value}`;
  });
}

/** Check a choice of two: a text such as "false" would be sent as true. */
export function flag(name: string, value: boolean | undefined): boolean {
  const given = value ?? false;
  if (typeof given !== "boolean") throw new TypeError(`${name} has to be true or false`);
  return given;
}

/** Check a number: one that is not whole, or not exact, must not be sent as another one. */
export function whole(
  name: string,
  value: number | undefined,
  max = Number.MAX_SAFE_INTEGER,
): number {
  if (value === undefined) return 0;
  if (!Number.isInteger(value) || Math.abs(value) > max) {
    throw new TypeError(`${name} has to be a whole number, at most ${max}`);
  }
  return value;
}

/** Return an enum's value by its short name: "wait" is ON_BUSY_WAIT. */
export function choice<V>(
  name: string,
  known: Record<string, V>,
  word: string | undefined,
): V | undefined {
  if (word === undefined) return undefined;
  if (!Object.hasOwn(known, word)) {
    const words = Object.keys(known).map((one) => `"${one}"`);
    throw new TypeError(`${name} is "${word}" and has to be ${words.join(" or ")}`);
  }
  return known[word];
}

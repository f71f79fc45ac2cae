/** What an iterator yields, and what a promise ends with. */

import assert from "node:assert/strict";

/** Return all that an iterator yields. */
export async function collected<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** Return the error of a kind that a promise is rejected with. */
export async function thrown<E extends Error>(
  // biome-ignore lint/suspicious/noExplicitAny: whatever an error is made of
  kind: abstract new (...args: any[]) => E,
  promise: Promise<unknown>,
): Promise<E> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof kind, `expected ${kind.name}, got ${error}`);
    return error;
  }
  throw new assert.AssertionError({ message: `expected ${kind.name}, and nothing was thrown` });
}

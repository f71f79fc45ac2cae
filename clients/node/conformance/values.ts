/** What a scenario says of values: variables, paths, and what a result is compared with. */

import { randomUUID } from "node:crypto";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Fields = { [name: string]: Json };
/** What is found in a result; undefined: nothing. */
type Found = Json | undefined;

const VARIABLE = /\$\{([^}]+)\}/g;
const WHOLE = /^\$\{([^}]+)\}$/;

/** What `${…}` stands for in one scenario. */
export class Variables {
  readonly #values = new Map<string, Json>();
  readonly #ids: Fields = {};

  /** Make them. Args: the scenario's `let`. */
  constructor(texts: Fields) {
    for (const [name, text] of Object.entries(texts)) {
      const repeated = text as { repeat: string; times: number };
      this.set(name, typeof text === "string" ? text : repeated.repeat.repeat(repeated.times));
    }
  }

  set(name: string, value: Json): void {
    this.#values.set(name, value);
  }

  /** Return a value with its variables put in. What they hold is not looked at again. */
  resolved(value: Json): Json {
    if (Array.isArray(value)) return value.map((one) => this.resolved(one));
    if (isFields(value)) {
      const entries = Object.entries(value).map(([name, one]) => [name, this.resolved(one)]);
      return Object.fromEntries(entries);
    }
    if (typeof value !== "string") return value;
    const [, path] = WHOLE.exec(value) ?? [];
    if (path !== undefined) return this.#at(path) ?? null;
    return value.replace(VARIABLE, (_, inside: string) => String(this.#at(inside) ?? ""));
  }

  #at(path: string): Found {
    const [name = "", ...rest] = path.split(".");
    if (name === "id") {
      const [key = ""] = rest;
      this.#ids[key] ??= randomUUID();
      return this.#ids[key];
    }
    const value = this.#values.get(name);
    if (value === undefined) throw new Error(`nothing is named ${name}`);
    return found(value, rest);
  }
}

/** Say which expectation of a result does not hold. Undefined: all do. */
export function mismatch(result: Json, expected: Fields): string | undefined {
  for (const [path, wanted] of Object.entries(expected)) {
    const value = found(result, path.split("."));
    if (!fits(value, wanted)) {
      return `${path}: expected ${JSON.stringify(wanted)}, found ${JSON.stringify(value)}`;
    }
  }
  return undefined;
}

function found(value: Found, path: string[]): Found {
  const [name, ...rest] = path;
  if (name === undefined) return value;
  if (Array.isArray(value)) {
    if (name === "*") return value.map((item) => found(item, rest) ?? null);
    return found(value.at(Number(name)), rest);
  }
  return isFields(value) && Object.hasOwn(value, name) ? found(value[name], rest) : undefined;
}

function fits(value: Found, wanted: Json): boolean {
  if (!isFields(wanted)) return isEqual(value, wanted);
  const [[matcher, operand] = ["", null]] = Object.entries(wanted);
  const test = MATCHERS[matcher];
  // What a variable holds may be an object, such as a usage: it is no matcher.
  return test === undefined ? isEqual(value, wanted) : test(value, operand);
}

const MATCHERS: Readonly<Record<string, (value: Found, operand: Json) => boolean>> = {
  not: (value, operand) => !isEqual(value, operand),
  one_of: (value, operand) => list(operand).some((one) => isEqual(value, one)),
  present: (value, operand) => isNothing(value) !== operand,
  matches: (value, operand) => new RegExp(String(operand), "u").test(String(value ?? "")),
  length: (value, operand) => list(value).length === operand,
  same_items: (value, operand) => areSameItems(list(value), list(operand)),
  counts_from: (value, operand) =>
    list(value).every((one, place) => isEqual(one, Number(operand) + place)),
  prefix_of: (value, operand) => String(operand).startsWith(String(value ?? "")),
};

function isEqual(one: Found, other: Found): boolean {
  if (isNothing(one) || isNothing(other)) {
    return (isNothing(one) && isNothing(other)) || String(one) === String(other);
  }
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((item, place) => isEqual(item, other[place]));
  }
  if (isFields(one) && isFields(other)) {
    const names = new Set([...Object.keys(one), ...Object.keys(other)]);
    return [...names].every((name) => isEqual(one[name], other[name]));
  }
  const isNumber = typeof one === "number" || typeof other === "number";
  return isNumber ? String(one) === String(other) : one === other;
}

function areSameItems(some: Json[], others: Json[]): boolean {
  const left = [...others];
  for (const one of some) {
    const place = left.findIndex((other) => isEqual(one, other));
    if (place < 0) return false;
    left.splice(place, 1);
  }
  return left.length === 0;
}

function isNothing(value: Found): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (isFields(value)) return Object.values(value).every(isNothing);
  return !value || (typeof value === "string" && value.endsWith("_UNSPECIFIED"));
}

function list(value: Found): Json[] {
  return Array.isArray(value) ? value : [];
}

function isFields(value: Found): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

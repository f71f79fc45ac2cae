/** Where a call's bearer token comes from: a string, a function, or a file. */

import { readFile, stat } from "node:fs/promises";
import { Metadata } from "@grpc/grpc-js";

/**
 * A token, or a function that is asked for one before every call; it may be asynchronous.
 *
 * What it throws ends the call. A stream that has begun to arrive asks it again, as often as it would try a server that is
 * away, and a watch for about five minutes.
 */
export type Token = string | (() => string | Promise<string>);

/**
 * Take the token from a file, such as a mounted secret. It is read again whenever it changes.
 *
 * A call fails with the file system's error when the file cannot be read.
 */
export function tokenFile(path: string | URL): () => Promise<string> {
  let seen = "";
  let token = "";
  return async () => {
    const { mtimeNs, size, ino } = await stat(path, { bigint: true });
    const found = `${mtimeNs} ${size} ${ino}`;
    if (found !== seen) {
      token = await readFile(path, "utf8");
      seen = found;
    }
    return token;
  };
}

/**
 * Return the metadata that says who calls; without a token, none.
 *
 * @param user the user that the caller acts for, if any.
 * @throws TypeError it cannot be a token; whatever the function throws.
 */
export async function metadataFrom(token: Token | undefined, user?: string): Promise<Metadata> {
  const found = typeof token === "function" ? await token() : token;
  const metadata = new Metadata();
  const stripped = (found ?? "").trim();
  if (!/^[\x20-\x7e]*$/.test(stripped)) {
    throw new TypeError("a token is printable ASCII on one line, and this one is not");
  }
  if (stripped !== "") metadata.set("authorization", `Bearer ${stripped}`);
  if (user !== undefined) metadata.set("parley-user", encodeURIComponent(user));
  return metadata;
}

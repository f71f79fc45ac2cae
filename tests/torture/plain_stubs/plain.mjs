// Calls Chat 50 times a second with a plain generated stub, and prints how many calls ended how.
// node plain.mjs ADDRESS TOKEN SECONDS SERVICE_CONFIG

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const client = new URL("../../../clients/node/", import.meta.url);
const grpc = createRequire(client)("@grpc/grpc-js");
const { ConversationServiceClient, ChatRequest } = await import(
  new URL("dist/gen/parley/v1/conversation_service.js", client)
);
const [address, token, seconds, config] = process.argv.slice(2);
const stub = new ConversationServiceClient(address, grpc.credentials.createInsecure(), {
  "grpc.service_config": await readFile(config, "utf8"),
});
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${token}`);

const ends = {};
function call(number) {
  const request = ChatRequest.fromPartial({ message: "hello", requestId: `node-${number}` });
  return new Promise((done) => {
    stub.chat(request, metadata, { deadline: Date.now() + 15_000 }, (error) => {
      const end = error ? grpc.status[error.code] : "OK";
      ends[end] = (ends[end] ?? 0) + 1;
      done();
    });
  });
}

const calls = [];
for (let number = 0; number < 50 * Number(seconds); number++) {
  calls.push(call(number));
  await new Promise((done) => setTimeout(done, 20));
}
await Promise.all(calls);
console.log(JSON.stringify(ends));

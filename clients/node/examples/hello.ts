/** Two turns and what is stored of them: `make run`, then `PARLEY_TOKEN=… node hello.js`. */

import { ParleyClient } from "parley-client";

using parley = new ParleyClient({ token: process.env.PARLEY_TOKEN });

const first = await parley.chat("My name is Ada.");
const { conversationId } = first;
const second = await parley.chat("What is my name?", { conversationId });
console.log(second.response);

for await (const message of parley.history(conversationId)) {
  console.log(message.sequence, message.role, message.content);
}

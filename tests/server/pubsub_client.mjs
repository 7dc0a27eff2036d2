// Restate's own client of streams: prints what it pulls, until the event of an id.
// node pubsub_client.mjs INGRESS STREAM SESSION LAST [OFFSET]

import { createPubsubClient } from "@restatedev/pubsub-client";

const [url, name, topic, last, offset] = process.argv.slice(2);
const client = createPubsubClient({ url, name, pullInterval: { milliseconds: 20 } });
console.log("pulls");
for await (const event of client.pull({
  topic,
  offset: offset === undefined ? undefined : Number(offset),
})) {
  console.log(JSON.stringify(event));
  if (event.id >= Number(last)) process.exit(0);
}

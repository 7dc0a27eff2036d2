// Talks to the agent from outside of Restate, over its ingress:
// node dist/talk.js SESSION say|steer|queue|reject TEXT | attach [MESSAGE] | cancel | status | history

import { HttpCallError, connect } from "@restatedev/restate-sdk-clients";
import { draftAgent, type Message } from "./agent.js";

const url = process.env.RESTATE_INGRESS_URL ?? "http://localhost:8080";
const [session = "ada", what = "status", said = ""] = process.argv.slice(2);
const agent = connect({ url }).objectClient(draftAgent, session);

const say = (policy?: Message["policy"]) => agent.message({ content: said, policy });
const ways: Record<string, () => PromiseLike<unknown>> = {
  say: () => say(),
  steer: () => say("steer"),
  queue: () => say("queue"),
  reject: () => say("reject"),
  attach: () => agent.attach(said ? { message: Number(said) } : null),
  cancel: () => agent.cancel(null),
  status: () => agent.get_status(),
  history: () => agent.get_history(),
};

try {
  const way = ways[what];
  if (!way) throw new Error(`there is no ${what}, but ${Object.keys(ways).join(", ")}`);
  console.log(JSON.stringify(await way()));
} catch (error) {
  // What the agent refuses is an error with its status; the text is the agent's.
  console.error(error instanceof HttpCallError ? error.responseText : error);
  process.exitCode = 1;
}

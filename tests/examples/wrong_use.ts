// What must not compile, and why not.

import { connect } from "@restatedev/restate-sdk-clients";
import { draftAgent } from "./agent.js";

const agent = connect({ url: "" }).objectClient(draftAgent, "ada");

await agent.message({ content: "Hello", policy: "interupt" }); // TS2820: Did you mean '"interrupt"'?
await agent.message({ contents: "Hello" }); // TS2561: Did you mean to write 'content'?
await agent.message({ content: 1 }); // TS2322: Type 'number' is not assignable
await agent.message({}); // TS2741: Property 'content' is missing
await agent.message(); // TS2554: Expected 1-2 arguments
await agent.cancel({ turn: "1" }); // TS2322: Type 'string' is not assignable
await agent.settle(); // TS2339: Property 'settle' does not exist
(await agent.message({ content: "Hello" })).tern; // TS2339: does not exist on type 'Receipt'
(await agent.attach(null)).messages; // TS2339: Property 'messages' does not exist on type 'Outcome | TakenBack'
(await agent.get_status()).status === "done"; // TS2367: have no overlap

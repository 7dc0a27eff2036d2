// Serves the services of the example so that they are sent nothing once they run, and so suspend
// at each await, and replay.

import http2 from "node:http2";
import { createEndpointHandler } from "@restatedev/restate-sdk";
import { editor } from "./dist/editor.js";
import { writer } from "./dist/writer.js";

const handler = createEndpointHandler({ services: [editor, writer], bidirectional: false });
const server = http2.createServer(handler);
server.listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));

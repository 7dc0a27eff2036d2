// Serves the services of the example over HTTP/1.1, over which they replay at every await.

import http from "node:http";
import { createEndpointHandler } from "@restatedev/restate-sdk";
import { editor } from "./dist/editor.js";
import { writer } from "./dist/writer.js";

const server = http.createServer(createEndpointHandler({ services: [editor, writer] }));
server.listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));

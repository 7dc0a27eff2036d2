// Serves both services: PORT=9081 node dist/serve.js

import * as restate from "@restatedev/restate-sdk";
import { editor } from "./editor.js";
import { writer } from "./writer.js";

const port = await restate.serve({ services: [editor, writer] });
console.log(`listening on ${port}`);

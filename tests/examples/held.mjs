// For `node --import`: what the writer deletes waits while there is a file `hold` beside it. That it has
// come to it is told by a file `clearing`. The process ends when its input does, so with the tests.

import { existsSync, writeFileSync } from "node:fs";
import files from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { setTimeout } from "node:timers/promises";

const { rm } = files;
files.rm = async (...what) => {
  writeFileSync(`${tmpdir()}/clearing`, "");
  while (existsSync(`${tmpdir()}/hold`)) await setTimeout(10);
  await rm(...what);
};
syncBuiltinESMExports();

process.stdin.on("end", () => process.exit()).resume();

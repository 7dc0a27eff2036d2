// The agent as TypeScript sees it: its name, and what its handlers take and give.

import type { VirtualObjectDefinition } from "@restatedev/restate-sdk";
import type { DraftAgent } from "./agent.gen.js";

export type * from "./agent.gen.js";

export type Handlers = {
  [Name in keyof DraftAgent]: (
    ctx: unknown,
    body: DraftAgent[Name]["takes"],
  ) => Promise<DraftAgent[Name]["gives"]>;
};

/** For `objectClient`, of a handler's context and of the client of the ingress. */
export const draftAgent: VirtualObjectDefinition<"DraftAgent", Handlers> = { name: "DraftAgent" };

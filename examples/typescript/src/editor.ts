// A service that has an agent work for it: it sends, attaches, steers and cancels.

import * as restate from "@restatedev/restate-sdk";
import { draftAgent, type Cancelled, type Outcome, type Receipt, type TakenBack } from "./agent.js";

type Order = { session: string; text: string };

export const editor = restate.service({
  name: "Editor",
  handlers: {
    /** Have something written, and wait for it. If this is cancelled, so is the agent's turn. */
    order: async (ctx: restate.Context, { session, text }: Order): Promise<Outcome | TakenBack> => {
      const agent = ctx.objectClient(draftAgent, session);
      const { turn, message } = await agent.message({ content: text });
      try {
        return await agent.attach({ message });
      } catch (error) {
        if (error instanceof restate.CancelledError) await agent.cancel({ turn });
        throw error;
      }
    },

    /** Add a detail, which the turn at work reads before its next step. */
    add: async (ctx: restate.Context, { session, text }: Order): Promise<Receipt> =>
      ctx.objectClient(draftAgent, session).message({ content: text, policy: "steer" }),

    /** Stop all work of a session. */
    stop: async (ctx: restate.Context, session: string): Promise<Cancelled> =>
      ctx.objectClient(draftAgent, session).cancel({ reason: "the editor stopped it" }),
  },
});

// A service that has the agent work for it: it sends, attaches, steers and cancels.

import * as restate from "@restatedev/restate-sdk";
import { draftAgent, type Cancelled, type Receipt } from "./agent.js";

type Order = { session: string; text: string };

/** Have something written, and wait for it. If this is cancelled, so is the agent's turn. */
async function order(ctx: restate.Context, { session, text }: Order) {
  const agent = ctx.objectClient(draftAgent, session);
  const { turn, message } = await agent.message({ content: text });
  try {
    return await agent.attach({ message });
  } catch (error) {
    if (error instanceof restate.CancelledError) await agent.cancel({ turn });
    throw error;
  }
}

/** Add a detail, which the turn at work reads before its next step. */
async function add(ctx: restate.Context, { session, text }: Order): Promise<Receipt> {
  return ctx.objectClient(draftAgent, session).message({ content: text, policy: "steer" });
}

/** Stop all work of a session. */
async function stop(ctx: restate.Context, session: string): Promise<Cancelled> {
  return ctx.objectClient(draftAgent, session).cancel({ reason: "the editor stopped it" });
}

export const editor = restate.service({ name: "Editor", handlers: { order, add, stop } });

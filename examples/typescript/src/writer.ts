// The work of the agent: one step of its turns, which cleans up when it is cancelled with its turn.

import { mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as restate from "@restatedev/restate-sdk";

export type Said = { role: string; content?: unknown };

export const writer = restate.service({
  name: "Writer",
  handlers: {
    write: async (ctx: restate.Context, messages: Said[]): Promise<string> => {
      const desk = join(tmpdir(), `desk-${ctx.request().id}`);
      const hangUp = new AbortController();
      try {
        await ctx.run("set up desk", () => setUp(desk));
        return await ctx.run("ask model", () => ask(messages, hangUp.signal));
      } catch (error) {
        // The turn was interrupted. Restate says so once: what is awaited below runs to its end.
        if (error instanceof restate.CancelledError) hangUp.abort();
        throw error;
      } finally {
        await ctx.run("clear desk", () => clear(desk));
      }
    },
  },
});

async function setUp(desk: string): Promise<void> {
  await mkdir(desk, { recursive: true });
}

async function clear(desk: string): Promise<void> {
  await rm(desk, { recursive: true, force: true });
}

async function ask(messages: Said[], signal: AbortSignal): Promise<string> {
  const { OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL } = process.env;
  try {
    const answer = await fetch(`${OPENAI_BASE_URL ?? "https://api.openai.com/v1"}/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${OPENAI_API_KEY}`, "content-type": "application/json" },
      body: JSON.stringify({ model: OPENAI_MODEL ?? "gpt-4o-mini", messages }),
      signal,
    });
    if (!answer.ok) throw new Error(`the model said ${answer.status}: ${await answer.text()}`);
    const { choices } = (await answer.json()) as { choices: [{ message: { content: string } }] };
    return choices[0].message.content;
  } catch (error) {
    throw signal.aborted ? new restate.TerminalError("hung up") : error; // and Restate tries again
  }
}

// The work of the agent: one step of its turns, which cleans up when it is cancelled with its turn.

import { mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as restate from "@restatedev/restate-sdk";

type Said = { role: string; content?: unknown };

/** Write on. When the turn that waits for it is interrupted, hang up, and clear the desk. */
async function write(ctx: restate.Context, messages: Said[]): Promise<string> {
  const desk = join(tmpdir(), `desk-${ctx.request().id}`);
  const hangUp = new AbortController();
  let inFlight = Promise.resolve("");
  try {
    return await ctx.run("ask model", () => (inFlight = ask(messages, desk, hangUp.signal)));
  } catch (error) {
    if (error instanceof restate.CancelledError) {
      hangUp.abort();
      await inFlight.catch(() => {}); // Restate does not wait for it
    }
    throw error;
  } finally {
    await shielded(() => ctx.run("clear desk", () => clear(desk)));
  }
}

/** Do what has to be done: once more, if the interruption comes only now. It comes once. */
async function shielded(step: () => Promise<void>): Promise<void> {
  try {
    await step();
  } catch (error) {
    if (!(error instanceof restate.CancelledError)) throw error;
    await step();
    throw error;
  }
}

async function clear(desk: string): Promise<void> {
  await rm(desk, { recursive: true, force: true });
}

async function ask(messages: Said[], desk: string, signal: AbortSignal): Promise<string> {
  const { OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL } = process.env;
  await mkdir(desk, { recursive: true });
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

export const writer = restate.service({ name: "Writer", handlers: { write } });

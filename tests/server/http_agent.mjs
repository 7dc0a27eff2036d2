// AG-UI's own client: says what it is told to, line by line on stdin, and prints what it has then.
// node http_agent.mjs URL THREAD
// A line: {"run": …, "say": … | null, "mode": …, "resume": …, "hangUp": words after which it hangs up}

import { createInterface } from "node:readline";
import { HttpAgent } from "@ag-ui/client";

const [url, threadId] = process.argv.slice(2);
const agent = new HttpAgent({ url, threadId });
const complaints = [];
for (const level of ["warn", "error"]) console[level] = (...x) => complaints.push(x.map(String).join(" "));

for await (const line of createInterface({ input: process.stdin })) {
  const { run, say, mode, resume, hangUp } = JSON.parse(line);
  if (say) agent.addMessage({ id: `${run}-said`, role: "user", content: say });
  let outcome = null, failed = null;
  const subscriber = {
    onRunFinishedEvent: ({ event }) => { outcome = event.outcome; },
    onRunErrorEvent: ({ event }) => { outcome = { type: "error", code: event.code, message: event.message }; },
    onTextMessageContentEvent: ({ event, textMessageBuffer }) => {
      if (hangUp && (textMessageBuffer + event.delta).includes(hangUp)) agent.abortRun();
    },
  };
  const parameters = { runId: run, resume, forwardedProps: mode ? { mode } : {} };
  await agent.runAgent(parameters, subscriber).catch((error) => { failed = String(error); });
  const messages = agent.messages.filter((x) => x.role !== "reasoning");
  console.log(JSON.stringify({ run, outcome, failed: hangUp ? null : failed, messages, complaints }));
}

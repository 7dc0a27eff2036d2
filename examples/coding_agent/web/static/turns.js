// What is known of the turns, as items to show: from the record, or, while a turn is live, from the
// stream. The record wins.
//
//   {kind: "user", text, steered}
//   {kind: "text", text, state: "streams" | "done" | "cut off", why}
//   {kind: "tool", call, name, arguments, output, state}
//      state: "waits" | "runs" | "done" | "failed" | "not run" | "cut off" | "not begun"
//   {kind: "note", text}

const MOST_OUTPUT = 100_000; // characters of a command's output that are shown

export function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => (typeof part?.text === "string" ? part.text : `[${part?.type}]`)).join("\n");
}

export function askedOf(turn) {
  return turn.input.map((message) => textOf(message.content)).join("\n\n");
}

export function isText(turn) {
  return turn.input.every((message) => typeof message.content === "string");
}

export function fromRecord(turn) {
  const items = [];
  const tools = new Map();
  const cut = turn.messages.length - (turn.partial ?? 0);
  turn.messages.forEach((message, place) => {
    const text = textOf(message.content);
    if (message.role === "tool") {
      const tool = tools.get(message.tool_call_id);
      if (tool) Object.assign(tool, { output: text, state: stateOf(tool.name, text) });
      if (tool && turn.not_begun?.includes(tool.call)) Object.assign(tool, { output: "", state: "not begun" });
      if (tool && turn.cut_off?.includes(tool.call)) Object.assign(tool, { output: printedOf(text), state: "cut off" });
    } else if (message.role === "user") {
      items.push({ kind: "user", text, steered: true });
    } else {
      const state = place >= cut ? "cut off" : "done";
      if (text) items.push({ kind: "text", text, state });
      for (const each of message.tool_calls ?? []) {
        const { name, arguments: given } = each.function ?? {};
        const tool = { kind: "tool", call: each.id, name, arguments: given, output: "", state: "cut off" };
        tools.set(each.id, tool);
        items.push(tool);
      }
    }
  });
  if (turn.error) items.push({ kind: "note", text: `It failed: ${turn.error}` });
  return items;
}

// A result in brackets says what became of the call; what else there is follows in lines of its own.
function stateOf(name, result) {
  if (result.startsWith("[Not run:")) return "not run";
  if (/^\[(Exit code 0 |Wrote |Overwrote |Edited |There are no files|Not found)/.test(result)) return "done";
  const fails = name === "run_command" ? /^\[/ : /^\[[^\n]*\]$/;
  return fails.test(result) ? "failed" : "done";
}

// What a command that was cut off had printed: all before the note that says so.
function printedOf(result) {
  const at = result.lastIndexOf("[Interrupted:");
  return (at < 0 ? result : result.slice(0, at)).trimEnd();
}

// What the stream has told of one turn.
export class Live {
  constructor(whole) {
    this.items = whole ? [] : [{ kind: "note", text: "What it did before is shown when this turn ends." }];
    this.models = new Map();
    this.tools = new Map();
    this.steered = 0;
    this.doing = "begins";
  }

  apply(event) {
    if (event.type === "model") this.model(event);
    else if (event.type === "token") this.begun(event.model).text += event.text;
    else if (event.type === "tool") this.tool(event);
    else if (event.type === "output") {
      const tool = this.tools.get(event.call);
      if (tool) tool.output = (tool.output + event.text).slice(-MOST_OUTPUT);
    }
  }

  model({ model, state, text }) {
    const item = this.begun(model);
    if (state === "begins") {
      Object.assign(item, { text: "", state: "streams", why: "" });
      this.doing = "asks the model";
    } else {
      item.state = state === "ends" ? "done" : "cut off";
      item.why = state === "fails" ? `The model's endpoint failed, it is tried again: ${text}` : "";
    }
  }

  begun(model) {
    if (!this.models.has(model)) {
      this.models.set(model, { kind: "text", text: "", state: "streams", why: "" });
      this.items.push(this.models.get(model));
    }
    return this.models.get(model);
  }

  tool({ call, name, arguments: given, state, text }) {
    let item = this.tools.get(call);
    if (!item) {
      item = { kind: "tool", call, name, arguments: given, output: "", state: "runs" };
      this.tools.set(call, item);
      this.items.push(item);
    }
    if (state === "begins") {
      Object.assign(item, { state: "runs", output: "" });
      this.doing = `runs ${name}`;
    } else if (state === "waits") {
      item.state = "waits";
      this.doing = "waits for your yes";
    } else if (state === "ends") Object.assign(item, { state: stateOf(name, text), output: text });
    else item.state = "cut off";
  }

  // Steered messages come from the record; each stays where it was first seen.
  withSteered(messages) {
    for (; this.steered < messages.length; this.steered += 1) {
      const text = textOf(messages[this.steered].content);
      this.items.push({ kind: "user", text, steered: true });
    }
    return this.items;
  }
}

// What became of a turn: a word for its looks, and one for people.
export function fateOf(turn, status, approvals) {
  const live = status.live.find((each) => each.turn === turn.turn);
  if (turn.discarded) return ["rolled-back", turn.status === "running" ? "rolling back" : "rolled back"];
  if (turn.status !== "running") {
    const stopped = turn.status === "interrupted" && (turn.reason ?? "").startsWith("cancelled");
    return [turn.status, stopped ? "stopped" : turn.status];
  }
  if (live?.cancelled) return ["stopping", "stopping"];
  if (approvals.some((each) => each.turn === turn.turn)) return ["asks", "asks you"];
  return status.turn === null || status.turn === turn.turn ? ["running", "at work"] : ["waiting", "waits"];
}

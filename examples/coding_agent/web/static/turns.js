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
  const said = turn.input.length ? turn.input : (turn.withdrawn ?? []); // also what somebody has taken back
  return said.map((message) => textOf(message.content)).join("\n\n");
}

export function isText(turn) {
  return turn.input.length > 0 && turn.input.every((message) => typeof message.content === "string");
}

// What messages say. A call of which nobody has said yet how far it is has no state.
class Said {
  constructor() {
    this.items = [];
    this.tools = new Map();
  }

  add(message, state = "done") {
    const text = textOf(message.content);
    if (message.role === "user") this.items.push({ kind: "user", text, steered: true });
    else if (message.role === "tool") {
      const tool = this.tools.get(message.tool_call_id);
      if (tool) Object.assign(tool, { output: text, state: stateOf(tool.name, text) });
    } else {
      if (text) this.items.push({ kind: "text", text, state });
      for (const each of message.tool_calls ?? []) {
        const { name, arguments: given } = each.function ?? {};
        const tool = { kind: "tool", call: each.id, name, arguments: given, output: "", state: "" };
        this.tools.set(each.id, tool);
        this.items.push(tool);
      }
    }
  }
}

export function fromRecord(turn) {
  const said = new Said();
  const cut = turn.messages.length - (turn.partial ?? 0);
  const isCut = (place) => place >= cut || turn.cut_short?.includes(place);
  turn.messages.forEach((message, place) => said.add(message, isCut(place) ? "cut off" : "done"));
  for (const [call, tool] of said.tools) {
    if (turn.not_begun?.includes(call)) Object.assign(tool, { output: "", state: "not begun" });
    else if (turn.cut_off?.includes(call) || !tool.state) Object.assign(tool, { output: printedOf(tool.output), state: "cut off" });
  }
  if (turn.error) said.items.push({ kind: "note", text: `It failed: ${turn.error}` });
  return said.items;
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
export class Live extends Said {
  constructor() {
    super();
    this.doing = "begins";
    this.begin();
  }

  begin() {
    this.words = { kind: "text", text: "", state: "streams", why: "" };
  }

  apply(event) {
    const { type, state } = event;
    const tool = this.tools.get(event.call);
    if (type === "text") this.words.text += event.text;
    else if (type === "output" && tool) tool.output = (tool.output + event.text).slice(-MOST_OUTPUT);
    else if (type === "message" || type === "steered") {
      this.add(event.message, this.words.state === "cut off" ? "cut off" : "done");
      if (event.message.role === "assistant") this.begin();
    } else if (type === "model" && state === "begins") {
      this.begin();
      this.doing = "asks the model";
    } else if (type === "model") {
      this.words.state = "cut off";
      if (state === "fails") this.words.why = `The model's endpoint failed, it is tried again: ${event.text}`;
    } else if (type === "tool" && tool && state !== "ends") {
      tool.state = state === "begins" ? "runs" : state;
      if (state !== "cut off") this.doing = state === "begins" ? `runs ${tool.name}` : "waits for your yes";
    }
  }

  // With the messages that were steered at it, as the record has them: those not read yet come last.
  itemsWith(steered) {
    const read = this.items.filter((item) => item.steered).length;
    const unread = steered.slice(read).map((message) => ({ kind: "user", text: textOf(message.content), steered: true }));
    const words = this.words.text || this.words.state === "cut off" ? [this.words] : [];
    return [...this.items.filter((item) => item.state !== ""), ...words, ...unread];
  }
}

const GONE = { withdrawn: "taken back", promoted: "said in another turn" }; // by why it was cancelled

// What became of a turn: a word for its looks, and one for people.
export function fateOf(turn, status) {
  const live = status.live.find((each) => each.turn === turn.turn);
  if (turn.discarded) return ["rolled-back", GONE[turn.reason] ?? (turn.status === "running" ? "rolling back" : "rolled back")];
  if (turn.status !== "running") {
    const stopped = turn.status === "interrupted" && /^(cancelled|stopped)/.test(turn.reason ?? "");
    return [turn.status, stopped ? "stopped" : turn.status];
  }
  if (live?.cancelled) return ["stopping", live.after_step ? "stops after this step" : "stopping"];
  if (status.waiting_for.some((each) => each.turn === turn.turn)) return ["asks", "asks you"];
  return status.turn === null || status.turn === turn.turn ? ["running", "at work"] : ["waiting", "waits"];
}

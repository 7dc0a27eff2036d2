// What becomes of the turns: events are reduced to them, as the table in docs/how-to/show-tokens.md says. The record
// is the truth; the stream only says what a live turn is doing meanwhile. Knows no element of the page.
// A turn consists of items: {kind: "user", text, steered}, {kind: "text", text, state: "streams" | "done" | "cut off", why},
// {kind: "tool", name, arguments, output, state: "waits" | "runs" | "done" | "failed" | "not run" | "cut off" | "not begun"}
// and {kind: "note", text}.

const MOST_OUTPUT = 100_000; // characters of a command's output that are shown
const IDLE = { status: "idle", turn: null, live: [], steered: 0, pending: [], waiting_for: [] };
const GONE = { withdrawn: "taken back", promoted: "said in another turn" }; // by why a turn was cancelled

// All that is known of a session.
export class Known {
  turns = []; // as the record has them, oldest first
  before = null; // which are earlier
  status = IDLE;
  isRead = false;
  live = new Map(); // what is told of those at work

  // Takes what is on record, and says which turns have ended since it was last looked at.
  read({ turns, before }, status) {
    const ended = turns.filter((turn) => turn.status !== "running");
    const over = ended.filter(({ turn }) => this.isRead && !this.isOver(turn));
    for (const { turn } of ended) this.live.delete(turn);
    Object.assign(this, { turns, before, status, isRead: true });
    return over;
  }

  // Takes an event, and says what is to be looked at because of it: the record, the files, how the turn ends.
  take(event) {
    const { type, state, turn } = event;
    if (type === "gap") this.live.clear();
    if (["gap", "pending", "approval", "discarded"].includes(type)) return { record: true, files: type === "gap" };
    const isNew = this.turns.every((each) => each.turn !== turn);
    if (this.isOver(turn) || (isNew && this.turns.at(-1)?.turn > turn)) return {}; // its end is on record, or it is gone
    const begins = type === "turn" && state === "begins";
    if (begins || !this.live.has(turn)) this.live.set(turn, new Told());
    this.live.get(turn).take(event);
    const record = isNew || begins || type === "steered" || state === "cut off";
    return { record, files: type === "tool" && state === "ends", end: type === "turn" && state === "ends" };
  }

  isOver(number) {
    return this.turns.some(({ turn, status }) => turn === number && status !== "running");
  }

  itemsOf(turn) {
    if (turn.status === "running") return (this.live.get(turn.turn) ?? new Told()).itemsWith(turn.messages);
    turn.items ??= recordedOf(turn);
    return turn.items;
  }

  // What became of a turn: a word for its looks, and one for people.
  fateOf({ turn, status, reason, discarded }) {
    const mine = this.status.live.find((each) => each.turn === turn);
    if (discarded) return ["rolled-back", GONE[reason] ?? (status === "running" ? "rolling back" : "rolled back")];
    if (status === "interrupted" && /^(cancelled|stopped)/.test(reason ?? "")) return [status, "stopped"];
    if (status !== "running") return [status, status];
    if (mine?.cancelled) return ["stopping", mine.after_step ? "stops after this step" : "stopping"];
    if (this.status.waiting_for.some((each) => each.turn === turn)) return ["asks", "asks you"];
    return [null, turn].includes(this.status.turn) ? ["running", "at work"] : ["waiting", "waits"];
  }
}

export function textOf(content) {
  const parts = Array.isArray(content) ? content : [{ text: content ?? "" }];
  return parts.map((part) => (typeof part?.text === "string" ? part.text : `[${part?.type}]`)).join("\n");
}

export function askedOf(turn) {
  const said = turn.input.length ? turn.input : (turn.withdrawn ?? []); // also what somebody has taken back
  return said.map((message) => textOf(message.content)).join("\n\n");
}

// What is told of one turn. A call of which nobody has said yet how far it is has no state.
class Told {
  items = [];
  tools = new Map();
  words = newWords();
  doing = "begins";

  add({ role, content, tool_calls: calls, tool_call_id: call }, state) {
    const text = textOf(content);
    if (role === "user") this.items.push({ kind: "user", text, steered: true });
    if (role === "assistant" && text) this.items.push({ kind: "text", text, state });
    const tool = this.tools.get(call);
    if (tool) Object.assign(tool, { output: text, state: stateOf(tool.name, text) });
    for (const { id, function: asked } of calls ?? []) {
      this.tools.set(id, { kind: "tool", name: asked?.name, arguments: asked?.arguments, output: "", state: "" });
      this.items.push(this.tools.get(id));
    }
  }

  take({ type, state, text, call, message }) {
    const tool = this.tools.get(call);
    if (type === "text") this.words.text += text;
    else if (type === "output" && tool) tool.output = (tool.output + text).slice(-MOST_OUTPUT);
    else if (type === "message" || type === "steered") {
      this.add(message, this.words.state === "cut off" ? "cut off" : "done");
      if (message.role === "assistant") this.words = newWords();
    } else if (type === "model" && state === "begins") {
      this.words = newWords();
      this.doing = "asks the model";
    } else if (type === "model") {
      this.words.state = "cut off";
      if (state === "fails") this.words.why = `The model's endpoint failed, it is tried again: ${text}`;
    } else if (type === "tool" && tool && state !== "ends") {
      tool.state = state === "begins" ? "runs" : state;
      if (state !== "cut off") this.doing = state === "begins" ? `runs ${tool.name}` : "waits for your yes";
    }
  }

  // With the messages that were steered at it, as the record has them: those not read yet come last.
  itemsWith(steered) {
    const read = this.items.filter((item) => item.steered).length;
    const unread = steered.slice(read).map(({ content }) => ({ kind: "user", text: textOf(content), steered: true }));
    const words = this.words.text || this.words.state === "cut off" ? [this.words] : [];
    return [...this.items.filter((item) => item.state !== ""), ...words, ...unread];
  }
}

const newWords = () => ({ kind: "text", text: "", state: "streams", why: "" });

function recordedOf(turn) {
  const told = new Told();
  const cut = turn.messages.length - (turn.partial ?? 0);
  const isCut = (place) => place >= cut || turn.cut_short?.includes(place);
  turn.messages.forEach((message, place) => told.add(message, isCut(place) ? "cut off" : "done"));
  for (const [call, tool] of told.tools) {
    if (turn.not_begun?.includes(call)) Object.assign(tool, { output: "", state: "not begun" });
    else if (turn.cut_off?.includes(call) || !tool.state) {
      const printed = tool.output.replace(/^([^]*)\[Interrupted:[^]*$/, "$1"); // all before the note that says so
      Object.assign(tool, { output: printed.trimEnd(), state: "cut off" });
    }
  }
  return turn.error ? [...told.items, { kind: "note", text: `It failed: ${turn.error}` }] : told.items;
}

// A result in brackets says what became of the call; what else there is follows in lines of its own.
function stateOf(name, result) {
  if (result.startsWith("[Not run:")) return "not run";
  if (/^\[(Exit code 0 |Wrote |Overwrote |Edited |There are no files|Not found)/.test(result)) return "done";
  const fails = name === "run_command" ? /^\[/ : /^\[[^\n]*\]$/;
  return fails.test(result) ? "failed" : "done";
}

// How one turn looks: its head, and its items.

import { button, h, setProse, setText } from "./dom.js";
import { edit } from "./editor.js";
import { askedOf, isText } from "./turns.js";

const STATES = { waits: "waits for your yes", runs: "runs", done: "done", failed: "failed", "not run": "not run", "cut off": "cut off", "not begun": "not begun" };

export class TurnView {
  constructor(number, actions) {
    this.number = number;
    this.actions = actions;
    this.title = h("h2", { id: `turn-${number}-title` }, `Turn ${number}`);
    this.fate = h("span", { class: "fate" });
    this.why = h("span", { class: "quiet why" });
    this.link = h("a", { target: "_blank", rel: "noopener noreferrer", hidden: true }, "Restate ↗");
    this.link.setAttribute("aria-label", `Turn ${number} in Restate's UI`);
    this.show = button("Show", () => this.open(!this.opened));
    this.edit = button("Edit", () => this.beginEdit());
    this.again = button("Regenerate", () => actions.regenerate(number));
    this.goOn = button("Continue", () => actions.resume(number), { title: "Goes on where it stopped; what is done is not done again." });
    this.cancel = button("Cancel", () => actions.cancel(number));
    for (const [each, what] of [[this.show, "Show"], [this.edit, "Edit the message of"], [this.again, "Regenerate"], [this.goOn, "Continue"], [this.cancel, "Cancel"]])
      each.setAttribute("aria-label", `${what} turn ${number}`);
    this.items = h("div", { class: "items", id: `turn-${number}-items` });
    this.show.setAttribute("aria-controls", this.items.id);
    this.asked = h("div", { class: "asked" });
    this.editor = h("div");
    const head = h("header", {}, this.title, this.fate, this.why, h("span", { class: "gap" }), this.link);
    this.tools = h("div", { class: "turn-tools" }, this.goOn, this.edit, this.again);
    head.append(this.show, this.cancel);
    this.element = h("article", { class: "turn", id: `turn-${number}`, tabindex: "-1" }, head);
    this.element.setAttribute("aria-labelledby", this.title.id);
    this.body = h("div", { class: "turn-body" }, this.asked, this.editor, this.items, this.tools);
    this.element.append(this.body);
    this.opened = false;
  }

  open(opened) {
    this.opened = opened;
    this.element.classList.toggle("opened", opened);
    this.show.setAttribute("aria-expanded", String(opened));
    setText(this.show, opened ? "Hide" : "Show");
  }

  update(turn, [state, fate], items, why, isLast) {
    const focused = this.element.contains(document.activeElement) ? document.activeElement : null;
    this.turn = turn;
    this.element.dataset.fate = state;
    this.fate.dataset.fate = state;
    setText(this.fate, fate);
    setText(this.why, why);
    this.link.hidden = !turn.link;
    if (turn.link) this.link.href = turn.link;
    this.show.hidden = !turn.discarded;
    this.cancel.hidden = state !== "waiting";
    this.goOn.hidden = !isLast || !["interrupted", "failed", "killed"].includes(turn.status);
    this.edit.hidden = Boolean(turn.discarded) || !isText(turn);
    this.again.hidden = Boolean(turn.discarded) || turn.status === "running";
    const goesOn = turn.resumes ? [{ kind: "note", text: `Goes on where turn ${turn.resumes} stopped.` }] : [];
    const asked = askedOf(turn) ? [{ kind: "user", text: askedOf(turn) }] : goesOn;
    renderItems(this.asked, asked);
    renderItems(this.items, items);
    if (focused && !focused.checkVisibility()) this.element.focus({ preventScroll: true });
  }

  beginEdit() {
    if (this.editor.childElementCount) {
      this.editor.querySelector("textarea").focus();
      return;
    }
    this.asked.hidden = true;
    edit(this.editor, askedOf(this.turn), {
      label: `Message of turn ${this.number}`,
      hint: `Takes back turn ${this.number} and all after it, with what they did to the files.`,
      send: "Send again",
      submit: (text) => this.actions.edit(this.number, text),
      end: () => {
        this.asked.hidden = false;
        this.edit.focus();
      },
    });
  }
}

// One element for each item, in order; what is the same stays.
function renderItems(parent, items) {
  items.forEach((item, place) => {
    let element = parent.children[place];
    if (element?.dataset.kind !== item.kind) {
      const made = MAKE[item.kind]();
      made.dataset.kind = item.kind;
      if (element) element.replaceWith(made);
      else parent.append(made);
      element = made;
    }
    const sign = signOf(item);
    if (element.sign !== sign) {
      UPDATE[item.kind](element, item);
      element.sign = sign;
    }
  });
  while (parent.children.length > items.length) parent.lastElementChild.remove();
}

function signOf(item) {
  return [item.state, item.text, item.name, item.arguments, item.output, item.why, item.steered].join("\0");
}

const MAKE = {
  user: () => h("div", { class: "item user" }, h("span", { class: "who" }), h("p", { class: "text" })),
  text: () => h("div", { class: "item text" }, h("span", { class: "hidden" }, "Agent: "), h("div", { class: "prose" }), h("p", { class: "mark" })),
  tool: () => h("details", { class: "item tool" }, h("summary", {}, h("span", { class: "state" }), h("code", { class: "name" }), h("code", { class: "what" })), h("div", { class: "inside" })),
  note: () => h("p", { class: "item note" }),
};

const UPDATE = {
  user(element, item) {
    setText(element.firstChild, item.state ?? (item.steered ? "You, while it worked" : "You"));
    setText(element.lastChild, item.text);
  },
  text(element, item) {
    element.dataset.state = item.state;
    element.hidden = !item.text && item.state === "done";
    setProse(element.children[1], item.text);
    setText(element.lastChild, item.state === "cut off" ? item.why || "cut off here" : "");
  },
  tool(element, item) {
    const [state, name, what] = element.firstChild.children;
    element.dataset.state = item.state;
    setText(state, STATES[item.state]);
    const given = argumentsOf(item.arguments);
    setText(name, item.name ?? "");
    setText(what, String(given?.command ?? given?.path ?? given?.text ?? ""));
    const parts = [];
    for (const [key, value] of Object.entries(given ?? { arguments: item.arguments }))
      if (key !== "command" && key !== "path") parts.push([key, typeof value === "string" ? value : JSON.stringify(value)]);
    if (item.output) parts.push([item.state === "runs" ? "output so far" : "result", item.output]);
    const inside = element.lastChild;
    parts.forEach(([label, text], place) => {
      if (!inside.children[place]) inside.append(h("div", {}, h("h3"), h("pre", { tabindex: "0" })));
      const pre = inside.children[place].lastChild;
      setText(inside.children[place].firstChild, label);
      pre.setAttribute("aria-label", label);
      setText(pre, String(text));
      if (item.state === "runs") pre.scrollTop = pre.scrollHeight;
    });
    while (inside.children.length > parts.length) inside.lastElementChild.remove();
    if (item.name === "run_command" && !element.touched) {
      element.touched = true; // once: what somebody closes stays closed
      element.open = true;
    }
  },
  note(element, item) {
    setText(element, item.text);
  },
};

function argumentsOf(given) {
  try {
    const values = JSON.parse(given || "{}");
    return values && typeof values === "object" ? values : null;
  } catch {
    return null;
  }
}

// A message that no model has read yet: it can be changed, taken back, or said before its time.

import { button, h, setText } from "./dom.js";
import { edit } from "./editor.js";
import { textOf } from "./turns.js";

const KINDS = {
  queued: (turn) => `waits, as turn ${turn}`,
  joined: (turn) => `waits, with turn ${turn}`,
  steered: (turn) => `for turn ${turn}, at its next step`,
};

export class PendingView {
  constructor(id, actions) {
    this.id = id;
    this.actions = actions;
    this.says = h("p", { class: "says", id: `message-${id}` });
    this.kind = h("p", { class: "quiet" });
    this.change = button("Edit", () => this.beginEdit(), { title: "Say something else instead." });
    this.buttons = h(
      "div", { class: "buttons" },
      button("Say now", this.once(() => actions.promote(id, true)), { title: "The turn at work reads it at once." }),
      button("Run next", this.once(() => actions.promote(id, false)), { title: "Interrupts what is at work; this comes next." }),
      this.change,
      button("Take back", this.once(() => actions.withdraw(id)), { title: "No model will read it." }),
    );
    for (const each of this.buttons.children) {
      each.setAttribute("aria-label", `${each.textContent}: message ${id}`);
      each.setAttribute("aria-describedby", this.says.id);
    }
    this.editor = h("div");
    this.head = h("div", { class: "pending-head" }, h("div", { class: "pending-says" }, this.says, this.kind), this.buttons);
    this.element = h("li", {}, this.head, this.editor);
  }

  get editing() {
    return this.editor.childElementCount > 0;
  }

  update({ turn, kind, content }) {
    this.content = content;
    setText(this.says, textOf(content));
    setText(this.kind, KINDS[kind](turn));
    this.change.hidden = typeof content !== "string";
  }

  // Whoever presses a button twice wants it once.
  once(does) {
    let running = false;
    return async () => {
      if (running) return;
      running = true;
      await does();
      running = false;
    };
  }

  beginEdit() {
    this.head.hidden = true;
    edit(this.editor, this.content, {
      label: "What the message is to say",
      hint: "Its place stays.",
      send: "Change it",
      submit: (text) => this.actions.replace(this.id, text),
      end: () => {
        this.head.hidden = false;
        this.change.focus();
        this.actions.closed();
      },
    });
    this.element.scrollIntoView({ block: "nearest" });
  }
}

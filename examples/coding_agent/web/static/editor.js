// Text that is changed in place: Enter sends it, Escape leaves it as it is.

import { button, h } from "./dom.js";

// `submit` says whether it is done; `end` is called when the editor is gone.
export function edit(parent, text, { label, hint, send, submit, end }) {
  const box = h("textarea", { "aria-label": label, rows: String(Math.min(8, Math.max(3, text.split("\n").length))) });
  box.value = text;
  const close = () => {
    parent.replaceChildren();
    end();
  };
  const go = async () => {
    if (!box.value.trim()) return box.focus();
    sends.disabled = true;
    const done = await submit(box.value);
    sends.disabled = false;
    return done && close();
  };
  const sends = h("button", { type: "submit", class: "main" }, send);
  const form = h(
    "form", { class: "editor" }, box, h("p", { class: "quiet" }, hint),
    h("div", { class: "buttons" }, button("Leave as it is", close), sends),
  );
  form.addEventListener("submit", (event) => { event.preventDefault(); go(); });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.preventDefault(); event.stopPropagation(); close(); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === box) { event.preventDefault(); go(); }
  });
  parent.replaceChildren(form);
  box.focus();
}

// How things look: each is a template of what is known, and preact changes what is different. Text is always set as text:
// what an agent says is nobody's markup.

import { askedOf, textOf } from "./turns.js";
import htm from "./node_modules/htm/dist/htm.mjs";
import { Component, h } from "./node_modules/preact/dist/preact.mjs";

export const html = htm.bind(h);
const { ui } = document.documentElement.dataset;
const LINES = { "+": "added", "-": "removed", " ": "same" };
const KINDS = { queued: "waits, as turn ", joined: "waits, with turn ", steered: "for turn " };

const Button = ({ label, children, ...others }) => html`<button type="button" aria-label=${label} ...${others}>${children}</button>`;

// -- a turn ------------------------------------------------------------------------------------

// One that is over looks as it did, until there is something else to show.
export class Turn extends Component {
  shouldComponentUpdate(next) {
    return next.it.status === "running" || Object.keys(next).some((key) => next[key] !== this.props[key]);
  }

  render({ it, known, isLast, isOpen, isEdited, actions }) {
    const { turn, status, discarded } = it;
    const [id, asked, [state, fate]] = [`turn-${turn}`, askedOf(it), known.fateOf(it)];
    const isText = it.input.length > 0 && it.input.every(({ content }) => typeof content === "string");
    const said = asked ? { kind: "user", text: asked } : { kind: "note", text: `Goes on where turn ${it.resumes} stopped.` };
    return html`
      <article class=${isOpen ? "turn opened" : "turn"} id=${id} data-place=${id} data-fate=${state} tabindex="-1" aria-labelledby=${`${id}-title`}>
        <header>
          <h2 id=${`${id}-title`}>Turn ${turn}</h2>
          <span class="fate" data-fate=${state}>${fate}</span>
          <span class="quiet why">${whyOf(it)}</span>
          <span class="gap"></span>
          <${Link} it=${it} />
          ${discarded && html`<${Button} label=${`Show turn ${turn}`} aria-expanded=${isOpen} aria-controls=${`${id}-items`} onClick=${() => actions.open(turn, !isOpen)}>${isOpen ? "Hide" : "Show"}<//>`}
          ${state === "waiting" && html`<${Button} label=${`Cancel turn ${turn}`} onClick=${() => actions.cancel(turn)}>Cancel<//>`}
        </header>
        <div class="turn-body">
          ${isEdited && html`<${Editor} label=${`Message of turn ${turn}`} text=${asked} send="Send again" hint=${`Takes back turn ${turn} and all after it, with what they did to the files.`}
            submit=${(text) => actions.edit(turn, text)} close=${() => actions.close(id)} />`}
          <div class="asked" hidden=${isEdited}>${(asked || it.resumes) && html`<${Items} items=${[said]} />`}</div>
          <div class="items" id=${`${id}-items`}><${Items} items=${known.itemsOf(it)} /></div>
          <div class="turn-tools">
            ${isLast && ["interrupted", "failed", "killed"].includes(status) && html`<${Button} label=${`Continue turn ${turn}`} title="Goes on where it stopped; what is done is not done again." onClick=${() => actions.resume(turn)}>Continue<//>`}
            ${!discarded && isText && html`<${Button} class="edit" label=${`Edit the message of turn ${turn}`} onClick=${() => actions.write(id)}>Edit<//>`}
            ${!discarded && status !== "running" && html`<${Button} label=${`Regenerate turn ${turn}`} onClick=${() => actions.regenerate(turn)}>Regenerate<//>`}
          </div>
        </div>
      </article>`;
  }
}

function whyOf({ reason, accepted_at: from, ended_at: to }) {
  const why = reason?.replace(/^(interrupted|rolled back) (?=by turn \d+$)|^(cancelled|stopped|withdrawn|promoted|rolled back)(: )?/, "");
  return [why, to && from && `${((to - from) / 1000).toFixed(1)} s`].filter(Boolean).join(" · ");
}

const Link = ({ it: { turn, task_id: task } }) =>
  task && html`<a class="link" href=${`${ui}/ui/invocations/${encodeURIComponent(task)}`} target="_blank" rel="noopener noreferrer" aria-label=${`Turn ${turn} in Restate's UI`}>Restate ↗</a>`;

export const Card = ({ it, known, actions }) => {
  const [state, fate] = known.fateOf(it);
  const asked = askedOf(it).slice(0, 80) || (it.resumes ? `goes on with turn ${it.resumes}` : "…");
  return html`
    <li data-fate=${state}>
      <${Button} class="jump" onClick=${() => actions.jump(it)}><b>Turn ${it.turn}</b><span class="asked-short">${asked}</span><span class="fate" data-fate=${state}>${fate}</span><//>
      <${Link} it=${it} />
    </li>`;
};

// -- what it consists of -----------------------------------------------------------------------

const Items = ({ items }) => items.map((item, place) => html`<${ITEMS[item.kind]} key=${`${place} ${item.kind}`} ...${item} />`);

const ITEMS = {
  user: ({ text, steered }) => html`<div class="item user"><span class="who">${steered ? "You, while it worked" : "You"}</span><p class="text" ref=${says(text)}></p></div>`,
  note: ({ text }) => html`<p class="item note">${text}</p>`,
  text: ({ text, state, why }) => html`
    <div class="item text" data-state=${state} hidden=${!text && state === "done"}>
      <span class="hidden">Agent: </span>
      <div class="prose">${text.split(/^(?:```.*)$\n?/m).map(paragraph)}</div>
      <p class="mark">${state === "cut off" && (why || "cut off here")}</p>
    </div>`,
  tool: ({ name, state, output, arguments: given }) => {
    const { command, path, ...others } = argumentsOf(given);
    const parts = Object.entries(others);
    if (output) parts.push([state === "runs" ? "output so far" : "result", output]);
    return html`
      <details class="item tool" data-state=${state} open=${name === "run_command"}>
        <summary><span class="state">${state === "waits" ? "waits for your yes" : state}</span><code class="name">${name}</code><code class="what">${String(command ?? path ?? others.text ?? "")}</code></summary>
        <div class="inside">
          ${parts.map(([label, value]) => html`<div><h3>${label}</h3><pre tabindex="0" aria-label=${label} ref=${says(value, state === "runs")}></pre></div>`)}
        </div>
      </details>`;
  },
};

// Prose with fenced code, as paragraphs and blocks of code.
function paragraph(text, place) {
  const said = text.replace(/^\n+|\n+$/g, "");
  return html`<${place % 2 ? "pre" : "p"} hidden=${!said.trim()} ref=${says(said)} />`;
}

function argumentsOf(given) {
  try {
    const values = JSON.parse(given || "{}");
    return Object(values) === values ? values : { arguments: given };
  } catch {
    return { arguments: given };
  }
}

// Sets the text of an element, and adds to what is there where it can: a selection in it stays.
function says(value, toEnd = false) {
  const text = typeof value === "string" ? value : String(JSON.stringify(value));
  return (element) => {
    const said = element?.firstChild;
    if (!element || said?.data === text) return;
    if (said && text.startsWith(said.data)) said.appendData(text.slice(said.data.length));
    else element.textContent = text;
    if (toEnd) element.scrollTop = element.scrollHeight;
  };
}

// -- what is not read yet, what waits for a yes, what has changed ------------------------------

export const Mine = ({ it: { text } }) => html`<div class="item user pending"><span class="who">You, on its way</span><p class="text">${text}</p></div>`;

export const Pending = ({ it: { id, turn, kind, content }, isEdited, actions }) => {
  const place = `message-${id}`;
  const offer = (name, title, onClick, more) => html`<${Button} title=${title} label=${`${name}: message ${id}`} aria-describedby=${place} onClick=${onClick} ...${more}>${name}<//>`;
  return html`
    <li data-place=${place}>
      <div class="pending-head" hidden=${isEdited}>
        <div class="pending-says"><p class="says" id=${place}>${textOf(content)}</p><p class="quiet">${KINDS[kind]}${turn}${kind === "steered" && ", at its next step"}</p></div>
        <div class="buttons">
          ${offer("Say now", "The turn at work reads it at once.", () => actions.promote(id, "steer"))}
          ${offer("Run next", "Interrupts what is at work; this comes next.", () => actions.promote(id, "interrupt"))}
          ${typeof content === "string" && offer("Edit", "Say something else instead.", () => actions.write(place), { class: "edit" })}
          ${offer("Take back", "No model will read it.", () => actions.withdraw(id))}
        </div>
      </div>
      ${isEdited && html`<${Editor} label="What the message is to say" text=${content} send="Change it" hint="Its place stays."
        submit=${(text) => actions.replace(id, text)} close=${() => actions.close(place)} />`}
    </li>`;
};

export const Approval = ({ it: { id, value }, actions }) => html`
  <div class="approval" role="alert">
    <p>It wants to run <code>${value.command}</code></p>
    <fieldset class="buttons">
      <${Button} onClick=${(event) => actions.answer(id, false, event.target.parentElement)}>No<//>
      <${Button} class="main" onClick=${(event) => actions.answer(id, true, event.target.parentElement)}>Yes, run it<//>
    </fieldset>
  </div>`;

// Called once, when it is there.
const begin = (box) => {
  box?.focus();
  box?.form.scrollIntoView({ block: "nearest" });
};

// Text that is changed in place; `submit` says whether it is done.
const Editor = ({ text, label, hint, send, submit, close }) => {
  const go = async (event) => {
    event.preventDefault();
    const { value } = event.target.elements[0];
    if (value.trim() && (await submit(value))) close();
  };
  return html`
    <form class="editor" onSubmit=${go}>
      <textarea aria-label=${label} rows="3" defaultValue=${text} ref=${begin}></textarea>
      <p class="quiet">${hint}</p>
      <div class="buttons"><button type="button" name="leave" onClick=${close}>Leave as it is</button><button type="submit" class="main">${send}</button></div>
    </form>`;
};

// git's diff of one file, coloured line by line.
export const Diff = ({ it }) => {
  const name = it.replace(/^(?:"?a\/.*?"?) (?="?b\/)"?b\/(.*?)"?\n[^]*$/, "$1");
  const [head, ...hunks] = it.split(/\n(?=@@)/);
  const about = head.split("\n").slice(1).filter((line) => line && !/^(index|---|\+\+\+) /.test(line));
  const lines = hunks.join("\n").split("\n").filter(Boolean);
  const count = (sign) => lines.filter((line) => line.startsWith(sign)).length;
  return html`
    <details open>
      <summary><code>${name}</code><span class="counts"><ins>+${count("+")}</ins> <del>−${count("-")}</del></span></summary>
      <pre tabindex="0" aria-label=${`Differences of ${name}`}>${[...about, ...lines].map((line) => html`<span class=${`line ${LINES[line[0]] ?? "hunk"}`}>${line}${"\n"}</span>`)}</pre>
    </details>`;
};

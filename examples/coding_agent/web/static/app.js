// The page. The record is the truth; the stream only shows what a live turn is doing meanwhile.

import { change, changeOnce, read, session, watch } from "./calls.js";
import { showDiff } from "./diff.js";
import { button, h, setText } from "./dom.js";
import { PendingView } from "./pending.js";
import { askedOf, fateOf, fromRecord, Live } from "./turns.js";
import { TurnView } from "./view.js";

const PAGE = 20; // turns that are read at a time
const LOOK_BUSY = 5_000; // milliseconds, for what others do: the stream tells of the rest
const LOOK_IDLE = 30_000;

const $ = (id) => document.getElementById(id);
const log = $("log");
const box = $("box");
const scroller = $("conversation");

let record = { turns: [], before: null, status: { status: "idle", turn: null, live: [], steered: 0, pending: [], waiting_for: [] } };
let known = false;
let oldest = null; // the oldest turn that somebody wanted to see
const live = new Map();
const views = new Map();
const waits = new Map(); // messages that are not read yet
const pending = []; // messages on their way
let connection = "lost";
let away = false; // whether Restate or the worker does not answer

setText($("session"), session);
$("new").href = `/c/${Math.random().toString(36).slice(2, 8)}`;

// -- the record --------------------------------------------------------------------------------

let retry = 0;
const refresh = oneAtATime(async () => {
  try {
    await readRecord();
    away = false;
    trouble("");
    lookLater();
  } catch (error) {
    away = error.status >= 500;
    renderSoon();
    trouble(error.message);
    clearTimeout(retry);
    retry = setTimeout(refresh, 2000);
  }
});

// Whoever asks while it runs has it run once more: without a worker, a call takes until there is one.
function oneAtATime(does) {
  let running = null;
  let again = false;
  return () => {
    again = true;
    running ??= (async () => {
      while (again) {
        again = false;
        await does();
      }
      running = null;
    })();
    return running;
  };
}

async function readRecord() {
  const accepted = pending.filter((each) => each.accepted); // a record that is read from now on has them
  const newest = await read("record", { limit: PAGE });
  while (newest.before !== null && oldest !== null && newest.before > oldest) {
    const page = await read("record", { before: newest.before, limit: PAGE });
    newest.turns.unshift(...page.turns);
    newest.before = page.before;
  }
  const ended = (turns) => new Set(turns.filter((turn) => turn.status !== "running").map((turn) => turn.turn));
  const before = ended(record.turns);
  const now = ended(newest.turns);
  const over = known ? newest.turns.filter((turn) => now.has(turn.turn) && !before.has(turn.turn)) : [];
  record = newest;
  known = true;
  accepted.forEach(arrived);
  for (const turn of now) live.delete(turn);
  for (const turn of over) announce(turn);
  // One that was cancelled before it began ends without a word in the stream.
  for (const each of record.status.live) if (each.cancelled) settled(each.turn);
  if (over.length) lookAtFiles();
  render();
}

let looking = 0;
function lookLater() {
  clearTimeout(looking);
  const wait = record.status.status === "running" ? LOOK_BUSY : LOOK_IDLE;
  looking = setTimeout(() => (document.hidden ? lookLater() : refresh()), wait);
}

// -- the stream --------------------------------------------------------------------------------

function onEvent(event) {
  if (event.type === "gap") {
    live.clear();
    lookAtFiles();
  }
  if (["gap", "pending", "approval", "discarded"].includes(event.type)) {
    refresh();
    return;
  }
  const turn = record.turns.find((each) => each.turn === event.turn);
  const begins = event.type === "turn" && event.state === "begins";
  if (begins || !live.has(event.turn)) live.set(event.turn, new Live());
  if (turn ? turn.status !== "running" : known && !(record.turns.at(-1)?.turn < event.turn || !record.turns.length)) {
    live.delete(event.turn); // the record has its end, or it is one that was removed
    return;
  }
  live.get(event.turn).apply(event);
  if (!turn || begins || event.type === "steered" || event.state === "cut off") refresh();
  if (event.type === "turn" && event.state === "ends") settled(event.turn);
  if (event.type === "tool" && event.state === "ends") lookAtFiles();
  renderSoon();
}

const awaited = new Set();
async function settled(turn) {
  if (awaited.has(turn)) return;
  awaited.add(turn);
  try {
    await read("attach", { turn });
  } catch {
    // it was removed, or nobody answers: the record is looked at all the same
  }
  awaited.delete(turn);
  refresh();
}

watch({
  onEvent,
  onState(state) {
    const again = state === "open" && connection !== "open";
    connection = state;
    if (again) refresh();
    renderSoon();
  },
});
lookLater();

// -- showing -----------------------------------------------------------------------------------

let frame = 0;
function renderSoon() {
  frame ||= requestAnimationFrame(render);
}

function render() {
  cancelAnimationFrame(frame);
  frame = 0;
  const follow = atEnd();
  const first = log.firstElementChild;
  const top = first?.getBoundingClientRect().top;
  const { turns, status } = record;
  const last = turns.findLast((turn) => !turn.discarded);
  for (const [number, view] of views) {
    if (turns.some((turn) => turn.turn === number)) continue;
    view.element.remove();
    views.delete(number);
  }
  let place = log.firstElementChild;
  for (const turn of turns) {
    if (!views.has(turn.turn)) views.set(turn.turn, new TurnView(turn.turn, actions));
    const view = views.get(turn.turn);
    if (view.turn !== turn || turn.status === "running")
      view.update(turn, fateOf(turn, status), itemsOf(turn), whyOf(turn), turn === last);
    if (view.element === place) place = place.nextElementSibling;
    else log.insertBefore(view.element, place);
  }
  renderPending();
  renderCards();
  renderApprovals();
  renderWaiting();
  renderStatus();
  $("earlier").hidden = record.before === null;
  $("empty").hidden = !known || turns.length > 0 || pending.length > 0;
  // Where earlier turns come in above, what was there stays where it is.
  if (first?.isConnected && first !== log.firstElementChild) scroller.scrollTop += first.getBoundingClientRect().top - top;
  else if (follow) scroller.scrollTop = scroller.scrollHeight;
  $("newest").hidden = atEnd();
}

function itemsOf(turn) {
  const told = live.get(turn.turn);
  if (turn.status !== "running") return cached(turn);
  return (told ?? new Live()).itemsWith(turn.messages);
}

const items = new WeakMap();
function cached(turn) {
  if (!items.has(turn)) items.set(turn, fromRecord(turn));
  return items.get(turn);
}

function whyOf(turn) {
  const why = turn.reason ?? "";
  const by = /^(?:interrupted|rolled back) (by turn \d+)$/.exec(why);
  const said = by ? by[1] : why.replace(/^(cancelled|stopped|withdrawn|promoted|rolled back)(: )?/, "");
  const took = turn.ended_at && turn.accepted_at ? `${((turn.ended_at - turn.accepted_at) / 1000).toFixed(1)} s` : "";
  return [said, took].filter(Boolean).join(" · ");
}

function renderPending() {
  for (const each of pending) {
    each.element ??= h("div", { class: "item user pending" }, h("span", { class: "who" }, "You, on its way"), h("p", { class: "text" }, each.text));
    log.append(each.element);
  }
}

function arrived(mine) {
  if (pending.includes(mine)) pending.splice(pending.indexOf(mine), 1);
  mine.element?.remove();
}

function renderCards() {
  const cards = $("cards");
  const strip = $("strip");
  const follow = strip.scrollLeft + strip.clientWidth > strip.scrollWidth - 60;
  strip.hidden = !record.turns.length;
  record.turns.forEach((turn, place) => {
    if (!cards.children[place]) cards.append(newCard());
    const card = cards.children[place];
    const [state, fate] = fateOf(turn, record.status);
    const [jump, link] = card.children;
    card.dataset.fate = state;
    jump.dataset.turn = turn.turn;
    const [number, asked, became] = jump.children;
    setText(number, `Turn ${turn.turn}`);
    setText(asked, askedOf(turn).slice(0, 80) || (turn.resumes ? `goes on with turn ${turn.resumes}` : "…"));
    became.dataset.fate = state;
    setText(became, fate);
    link.hidden = !turn.link;
    link.setAttribute("aria-label", `Turn ${turn.turn} in Restate's UI`);
    if (turn.link) link.href = turn.link;
  });
  while (cards.children.length > record.turns.length) cards.lastElementChild.remove();
  if (follow) strip.scrollLeft = strip.scrollWidth;

  const since = $("since");
  const numbers = record.turns.filter((turn) => !turn.discarded).map((turn) => String(turn.turn)).reverse();
  const wanted = ["", ...numbers];
  if (wanted.join() !== [...since.options].map((each) => each.value).join()) {
    const chosen = since.value;
    since.replaceChildren(...wanted.map((value) => h("option", { value }, value ? `turn ${value}` : "the newest turn")));
    since.value = wanted.includes(chosen) ? chosen : "";
  }
}

function newCard() {
  const jump = h("button", { type: "button", class: "jump" }, h("b"), h("span", { class: "asked-short" }), h("span", { class: "fate" }));
  jump.onclick = () => {
    const view = views.get(Number(jump.dataset.turn));
    if (!view) return;
    if (view.turn.discarded) view.open(true);
    view.element.scrollIntoView({ block: "start" });
    view.element.focus({ preventScroll: true });
  };
  return h("li", {}, jump, h("a", { class: "link", target: "_blank", rel: "noopener noreferrer" }, "Restate ↗"));
}

function renderApprovals() {
  const parent = $("approvals");
  const wanted = new Map(record.status.waiting_for.map((each) => [String(each.id), each]));
  for (const element of [...parent.children]) {
    if (!wanted.delete(element.dataset.name)) element.remove();
  }
  for (const [key, each] of wanted) {
    const answer = (yes) => async () => {
      element.querySelectorAll("button").forEach((one) => (one.disabled = true));
      await attempt(() => once("answer", { approval: each.id, yes }), "It was answered, or is over.");
      element.querySelectorAll("button").forEach((one) => (one.disabled = false));
      box.focus();
    };
    const element = h(
      "div", { class: "approval", role: "alert" },
      h("p", {}, "It wants to run ", h("code", {}, each.value.command)),
      h("div", { class: "buttons" }, button("No", answer(false)), button("Yes, run it", answer(true), { class: "main" })),
    );
    element.dataset.name = key;
    parent.append(element);
  }
}

function renderWaiting() {
  const list = $("pending").lastElementChild;
  const { pending: messages } = record.status;
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const near = focused?.closest("li").nextElementSibling;
  messages.forEach(({ id }, place) => {
    if (!waits.has(id)) waits.set(id, new PendingView(id, actions));
    waits.get(id).update(messages[place]);
  });
  for (const [id, view] of waits) {
    if (view.editing || messages.some((each) => each.id === id)) continue; // what is being written stays
    view.element.remove();
    waits.delete(id);
  }
  const wanted = [...waits.values()].sort((a, b) => placeOf(a) - placeOf(b));
  if (wanted.some((view, place) => list.children[place] !== view.element)) list.append(...wanted.map((view) => view.element));
  $("pending").hidden = !waits.size;
  if (!focused || focused === document.activeElement) return;
  if (focused.isConnected) focused.focus();
  else (near?.querySelector("button:not([hidden])") ?? box).focus();

  function placeOf(view) {
    return messages.findIndex((each) => each.id === view.id);
  }
}

function renderStatus() {
  const { status } = record;
  const busy = status.status === "running";
  const goesOn = status.live.some((each) => !each.cancelled);
  const inOrder = !goesOn && status.live.some((each) => each.after_step);
  if (!busy) stopped = false;
  let state = busy ? "running" : "idle";
  let text = known ? "Idle" : "Connecting …";
  if (busy && !goesOn) [state, text] = ["stopping", `Turn ${status.turn} ${inOrder ? "stops after this step" : "is stopping"}`];
  else if (busy && status.waiting_for.length) [state, text] = ["asks", `Turn ${status.waiting_for[0].turn} waits for your yes`];
  else if (busy) text = `Turn ${status.turn} ${live.get(status.turn)?.doing ?? "is at work"}`;
  const more = status.live.filter((each) => !each.cancelled).length - 1;
  if (goesOn && more > 0) text += `, ${more} more wait${more > 1 ? "" : "s"}`;
  if (busy && status.steered) text += `, ${status.steered} message${status.steered > 1 ? "s" : ""} not read yet`;
  if (known && (away || connection !== "open")) [state, text] = ["lost", "Connection lost; trying again …"];
  $("status").dataset.state = state;
  setText($("status"), text);
  const hadFocus = $("stop") === document.activeElement;
  $("stop").disabled = !goesOn && !inOrder;
  if (hadFocus && $("stop").disabled) box.focus();
  setText($("stop"), inOrder || (goesOn && stopped) ? "Stop now" : "Stop");
  document.title = `${{ running: "● ", asks: "? ", stopping: "◌ " }[state] ?? ""}${session} · Coding agent`;
}

// For who hears the page: what is added is read out.
function announce(turn) {
  const [, fate] = fateOf(turn, record.status);
  const answer = cached(turn).filter((item) => item.kind === "text").at(-1);
  const said = $("said");
  said.append(h("p", {}, `Turn ${turn.turn} ${fate}. ${answer && fate === "completed" ? answer.text.slice(0, 600) : ""}`));
  if (said.childElementCount > 9) said.firstElementChild.remove();
}

function atEnd() {
  return scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 40;
}

function trouble(text) {
  $("trouble").hidden = !text;
  setText($("trouble"), text);
}

// What is no trouble: it goes by itself.
let noteTimer = 0;
function note(text) {
  setText($("note"), text);
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => setText($("note"), ""), 8_000);
}

// -- what the person does ----------------------------------------------------------------------

// With `late`, what came too late is no trouble, and that is said.
async function attempt(does, late = "") {
  note("");
  try {
    await does();
    await refresh();
    return true;
  } catch (error) {
    await refresh();
    if (late && [410, 412].includes(error.status)) note(`Too late. ${late}`);
    else trouble(error.message);
    return false;
  }
}

const once = (name, body) => changeOnce(name, body, (error) => trouble(error.message));
const READ = "It was just read.";

const lastSeen = () => record.turns.at(-1)?.turn ?? null; // what came after it is not taken back unseen

const actions = {
  regenerate(turn) {
    const body = { turn, last: lastSeen() };
    return attempt(() => once("regenerate", body));
  },
  resume: (turn) => attempt(() => once("resume", { turn })),
  cancel: (turn) => attempt(() => change("cancel", { turn })),
  edit(turn, content) {
    const body = { turn, content, last: lastSeen() };
    return attempt(() => once("edit", body));
  },
  withdraw: (message) => attempt(() => once("withdraw", { message }), READ),
  promote: (message, now) => attempt(() => once("promote", { message, now }), READ),
  async replace(message, content) {
    let refused = 0;
    const changes = () => once("replace", { message, content }).catch((error) => {
      refused = error.status;
      throw error;
    });
    const done = await attempt(changes, `${READ} What you wrote is in the box.`);
    if (refused === 412) giveBack(content);
    return done || refused === 412;
  },
  closed: render,
};

function giveBack(text) {
  box.value = [text, box.value].filter(Boolean).join("\n");
  grow();
}

let sending = Promise.resolve(); // one after the other: they are to arrive in order

function send() {
  const text = box.value;
  if (!text.trim()) return;
  const policy = document.querySelector("input[name=policy]:checked").value;
  const mine = { text };
  stopped = false;
  pending.push(mine);
  box.value = "";
  grow();
  render();
  scroller.scrollTop = scroller.scrollHeight;
  sending = sending.then(async () => {
    const done = await attempt(async () => {
      await once("send", { content: text, policy });
      mine.accepted = true;
    });
    arrived(mine);
    if (!done) giveBack(text);
    render();
  });
}

let stopped = false; // whether somebody has pressed it for what is at work: the second time cuts

function stop() {
  if ($("stop").disabled) return;
  const cuts = stopped || !record.status.live.some((each) => !each.cancelled);
  stopped = true;
  renderStatus();
  attempt(() => change("cancel", { after_step: !cuts }));
}

function grow() {
  box.rows = Math.min(8, Math.max(1, box.value.split("\n").length));
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
box.addEventListener("input", grow);
box.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) stop();
});
$("stop").addEventListener("click", stop);
$("earlier").addEventListener("click", async () => {
  oldest = Math.max(1, record.before - PAGE);
  await refresh();
  if ($("earlier").hidden) log.firstElementChild.focus({ preventScroll: true });
});
$("newest").addEventListener("click", () => {
  scroller.scrollTop = scroller.scrollHeight;
  box.focus();
});
scroller.addEventListener("scroll", () => ($("newest").hidden = atEnd()));

// -- the files ---------------------------------------------------------------------------------

const wide = matchMedia("(min-width: 1000px)");
let filesTimer = 0;

function showFiles(shown) {
  document.body.classList.toggle("with-files", shown);
  $("show-files").setAttribute("aria-expanded", String(shown));
  if (shown) lookAtFiles();
}

function lookAtFiles() {
  if (!document.body.classList.contains("with-files")) return;
  clearTimeout(filesTimer);
  filesTimer = setTimeout(readFiles, 300);
}

const readFiles = oneAtATime(async () => {
  const turn = $("since").value;
  try {
    const { diff } = await read("diff", turn ? { turn } : {});
    const count = showDiff($("diff"), diff);
    setText($("show-files"), count ? `Changes (${count})` : "Changes");
  } catch (error) {
    setText($("diff"), error.message);
  }
});

$("show-files").addEventListener("click", () => showFiles(!document.body.classList.contains("with-files")));
$("since").addEventListener("change", lookAtFiles);
wide.addEventListener("change", () => showFiles(wide.matches));
showFiles(wide.matches);
if (wide.matches) box.focus();

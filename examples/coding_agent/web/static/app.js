// What ties it together: what is read when, what is drawn where, and what the person does.

import { call, callOnce, follow, session } from "./calls.js";
import { Known } from "./turns.js";
import { render } from "./node_modules/preact/dist/preact.mjs";
import { Approval, Card, Diff, html, Mine, Pending, Turn } from "./view.js";

const PAGE = 20; // turns that are read at a time
const [AGAIN, LOOK_BUSY, LOOK_IDLE] = [2_000, 5_000, 30_000]; // milliseconds, for what others do: the stream tells of the rest
const $ = (id) => document.getElementById(id);
const [box, log, scroller, stop] = ["box", "log", "conversation", "stop"].map($);

const known = new Known();
const opened = new Set(); // turns that were rolled back, and that somebody wants to see
const editing = new Map(); // by the place of what is written anew, the message if it is pending
let sent = []; // messages on their way
let oldest = Infinity; // the oldest turn that somebody wanted to see
let isOpen = false; // whether the stream is there
let isAway = false; // whether Restate or the worker does not answer
let isStopped = false; // whether somebody has pressed it for what is at work: the second time cuts

// -- what is read ------------------------------------------------------------------------------

const lookLater = timer(() => document.hidden || look()); // whoever comes back has the stream opened
const look = oneAtATime(async () => {
  try {
    const [page, status] = await Promise.all([readTurns(), call("get_status")]);
    const over = known.read(page, status);
    over.forEach(announce);
    if (over.length) lookAtFiles();
    // One that was cancelled before it began ends without a word in the stream.
    for (const each of status.live) if (each.cancelled) doOnce("attach", { turn: each.turn });
    isAway = false;
    trouble("");
    lookLater(status.status === "running" ? LOOK_BUSY : LOOK_IDLE);
  } catch (error) {
    isAway = error.status >= 500;
    trouble(error.message);
    lookLater(AGAIN);
  }
  draw();
});

async function readTurns(before) {
  const page = await call("get_turns", { limit: PAGE, before });
  if (page.before === null || page.before <= oldest) return page;
  const earlier = await readTurns(page.before);
  return { turns: [...earlier.turns, ...page.turns], before: earlier.before };
}

function onEvent(event) {
  const { record, files, end } = known.take(event);
  if (record) look();
  if (files) lookAtFiles();
  if (end) doOnce("attach", { turn: event.turn }); // until the record has it
  drawSoon();
}

function onLine(isThere) {
  isOpen = isThere;
  look();
}

// -- what is drawn -----------------------------------------------------------------------------

let frame = 0;
const drawSoon = () => (frame ||= requestAnimationFrame(() => draw()));

function draw(follows = true) {
  cancelAnimationFrame(frame);
  frame = 0;
  const { turns, status, isRead } = known;
  const [isFollowed, first, strip, focused] = [follows && atEnd(scroller), log.firstElementChild, $("strip"), document.activeElement];
  const [top, isStripFollowed] = [first?.getBoundingClientRect().top, atEnd(strip)];
  const near = focused.closest(".turn") ?? focused.closest("li")?.nextElementSibling;
  const last = turns.findLast((turn) => !turn.discarded);
  const pending = [...editing.values()].filter((mine) => mine && status.pending.every((each) => each.id !== mine.id)); // it stays
  pending.push(...status.pending);

  const all = (Each, those) => those.map((it) => {
    const more = Each === Turn && { isLast: it === last, isOpen: opened.has(it.turn) };
    const isEdited = editing.has(Each === Turn ? `turn-${it.turn}` : `message-${it.id}`);
    return html`<${Each} key=${it.id ?? it.turn} it=${it} known=${known} actions=${actions} isEdited=${isEdited} ...${more} />`;
  });
  render([...all(Turn, turns), ...all(Mine, sent)], log);
  render(all(Card, turns), $("cards"));
  render(all(Approval, status.waiting_for), $("approvals"));
  render(all(Pending, pending), $("pending").lastElementChild);
  render([html`<option value="">the newest turn</option>`, ...all(Since, turns.filter((turn) => !turn.discarded).reverse())], $("since"));
  $("earlier").hidden = known.before === null;
  $("empty").hidden = !isRead || turns.length > 0 || sent.length > 0;
  drawStatus();

  if (isStripFollowed) strip.scrollLeft = strip.scrollWidth;
  // Where earlier turns come in above, what was there stays where it is.
  if (first?.isConnected && first !== log.firstElementChild) scroller.scrollTop += first.getBoundingClientRect().top - top;
  else if (isFollowed) toEnd();
  $("newest").hidden = atEnd(scroller);
  // What had the focus and cannot have it any more passes it on to what is near.
  const isPassedOn = ![focused, document.body].includes(document.activeElement);
  if (isPassedOn || (focused.checkVisibility() && !focused.matches(":disabled"))) return;
  ((near?.isConnected && (near.matches(".turn") ? near : near.querySelector("button"))) || box).focus({ preventScroll: true });
}

const Since = ({ it }) => html`<option value=${it.turn}>turn ${it.turn}</option>`;

function drawStatus() {
  const { status, live, isRead } = known;
  const busy = status.status === "running";
  const goesOn = status.live.filter((each) => !each.cancelled).length;
  const inOrder = !goesOn && status.live.some((each) => each.after_step);
  if (!busy) isStopped = false;
  let [state, text] = ["idle", isRead ? "Idle" : "Connecting …"];
  if (busy && !goesOn) [state, text] = ["stopping", `Turn ${status.turn} ${inOrder ? "stops after this step" : "is stopping"}`];
  else if (busy && status.waiting_for.length) [state, text] = ["asks", `Turn ${status.waiting_for[0].turn} waits for your yes`];
  else if (busy) [state, text] = ["running", `Turn ${status.turn} ${live.get(status.turn)?.doing ?? "is at work"}`];
  if (goesOn > 1) text += `, ${goesOn - 1} more wait${goesOn > 2 ? "" : "s"}`;
  if (busy && status.steered) text += `, ${status.steered} message${status.steered > 1 ? "s" : ""} not read yet`;
  if (isRead && (isAway || !isOpen)) [state, text] = ["lost", "Connection lost; trying again …"];
  $("status").dataset.state = state;
  setText("status", text);
  stop.disabled = !goesOn && !inOrder;
  setText("stop", inOrder || (goesOn && isStopped) ? "Stop now" : "Stop");
  document.title = `${{ running: "● ", asks: "? ", stopping: "◌ " }[state] ?? ""}${session} · Coding agent`;
}

// For who hears the page: what is added is read out.
const read = [];
function announce(turn) {
  const [, fate] = known.fateOf(turn);
  const answer = known.itemsOf(turn).findLast((item) => item.kind === "text");
  read.push(html`<p key=${turn.turn}>${`Turn ${turn.turn} ${fate}. ${answer && fate === "completed" ? answer.text.slice(0, 600) : ""}`}</p>`);
  render(read.slice(-9), $("said"));
}

const toEnd = () => (scroller.scrollTop = scroller.scrollHeight);
const atEnd = (it) => it.scrollTop + it.clientHeight > it.scrollHeight - 40 && it.scrollLeft + it.clientWidth > it.scrollWidth - 60;

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text; // what is the same is not read out again
}

const trouble = (text) => setText("trouble", text);
const forget = timer(() => setText("note", ""));
function note(text) {
  setText("note", text);
  forget(8_000); // what is no trouble goes by itself
}

// -- what the person does ----------------------------------------------------------------------

// Does it once, however often it is asked for meanwhile, and looks at what has come of it. Answers with a refusal, or null.
const doing = new Set();
async function doOnce(handler, body, how = call) {
  const what = handler + JSON.stringify(body);
  if (doing.has(what)) return undefined;
  doing.add(what);
  const error = await how(handler, body).then(() => null, (refused) => refused);
  doing.delete(what);
  await look();
  return error;
}

// Does what somebody has asked for. With `late`, what came too late is no trouble.
async function act(handler, body, late = "", how = once) {
  note("");
  const error = await doOnce(handler, body, how);
  const isLate = late && [410, 412].includes(error?.status);
  if (isLate) note(`Too late. ${late}`);
  else if (error) trouble(error.message);
  return error === null ? "done" : isLate && "late";
}

const once = (handler, body) => callOnce(handler, body, (error) => trouble(error.message));
const seen = () => ({ if_last: known.turns.at(-1)?.turn }); // what came after it is not taken back unseen
const READ = "It was just read.";

const actions = {
  regenerate: (turn) => act("regenerate", { turn, ...seen() }),
  edit: (turn, content) => act("edit", { turn, content, ...seen() }),
  resume: (turn) => act("resume", { turn }),
  cancel: (turn) => act("cancel", { turn }, "", call),
  withdraw: (message) => act("withdraw", { message }, READ),
  promote: (message, policy) => act("promote", { message, policy, now: policy === "steer" }, READ),
  async replace(message, content) {
    const done = await act("replace", { message, content }, `${READ} What you wrote is in the box.`);
    if (done === "late") giveBack(content);
    return done;
  },
  async answer(approval, approved, buttons) {
    buttons.disabled = true;
    box.focus();
    await act("answer", { approval, approved }, "It was answered, or is over.");
    buttons.disabled = false;
  },
  write(place) {
    const message = known.status.pending.find(({ id }) => place === `message-${id}`);
    editing.set(place, message);
    draw(Boolean(message));
  },
  close(place) {
    editing.delete(place);
    draw(false);
    document.querySelector(`[data-place=${place}] .edit`)?.focus();
  },
  open(turn, isWanted) {
    opened[isWanted ? "add" : "delete"](turn);
    draw(false);
  },
  jump({ turn, discarded }) {
    if (discarded) actions.open(turn, true);
    $(`turn-${turn}`).scrollIntoView({ block: "start" });
    $(`turn-${turn}`).focus({ preventScroll: true });
  },
};

const giveBack = (text) => (box.value = [text, box.value].filter(Boolean).join("\n"));

let saying = Promise.resolve();
// One after the other: messages are to arrive in order, and what is stopped is what was said before.
const inOrder = (say) => (saying = saying.then(say));

function send(event) {
  event.preventDefault();
  const message = { content: box.value, policy: $("composer").elements.policy.value };
  if (!message.content.trim()) return;
  const mine = { id: `mine-${performance.now()}`, text: message.content };
  isStopped = false;
  sent.push(mine);
  box.value = "";
  draw();
  toEnd();
  inOrder(async () => {
    if (!(await act("message", message))) giveBack(mine.text);
    sent = sent.filter((each) => each !== mine);
    draw();
  });
}

stop.onclick = () => {
  const isLast = isStopped || known.status.live.every((each) => each.cancelled);
  isStopped = true;
  drawStatus();
  inOrder(() => act("cancel", { after_step: !isLast }, "", call));
};

$("composer").onsubmit = send;
document.addEventListener("keydown", (event) => {
  const { key, shiftKey, isComposing, target } = event;
  if (key === "Escape" && !isComposing) (target.form?.elements.leave ?? stop).click();
  if (key !== "Enter" || shiftKey || isComposing || !target.matches("textarea")) return;
  event.preventDefault();
  target.form.requestSubmit();
});
$("earlier").onclick = async () => {
  oldest = Math.max(1, known.before - PAGE);
  await look();
  if ($("earlier").hidden) log.firstElementChild.focus({ preventScroll: true });
};
$("newest").onclick = () => {
  toEnd();
  box.focus();
};
scroller.onscroll = () => ($("newest").hidden = atEnd(scroller));

// -- the files ---------------------------------------------------------------------------------

const wide = matchMedia("(min-width: 1000px)");
const lookAtFilesIn = timer(oneAtATime(async () => {
  try {
    const { diff } = await call("get_diff", { turn: Number($("since").value) || null });
    const files = `\n${diff}`.split("\ndiff --git ").slice(1);
    render(files.length ? files.map((it) => html`<${Diff} key=${it.split("\n", 1)[0]} it=${it} />`) : html`<p class="quiet">Nothing has changed.</p>`, $("diff"));
    setText("show-files", files.length ? `Changes (${files.length})` : "Changes");
  } catch (error) {
    render(error.message, $("diff"));
  }
}));
const areShown = () => $("show-files").ariaExpanded === "true";
const lookAtFiles = () => areShown() && lookAtFilesIn(300);
const showFiles = (shown) => {
  $("show-files").ariaExpanded = String(shown);
  lookAtFiles();
};

$("show-files").onclick = () => showFiles(!areShown());
$("since").onchange = lookAtFiles;
wide.onchange = () => showFiles(wide.matches);

// Whoever asks while it runs has it run once more: without a worker, a call takes until there is one.
function oneAtATime(does) {
  let [last, next] = [Promise.resolve(), null];
  return () => (next ??= last = last.then(() => ((next = null), does())));
}

// Does it later; who asks again puts it off.
function timer(does, handle = 0) {
  return (wait) => {
    clearTimeout(handle);
    handle = setTimeout(does, wait);
  };
}

setText("session", session);
$("new").href = `/c/${Math.random().toString(36).slice(2, 8)}`;
showFiles(wide.matches);
if (wide.matches) box.focus();
follow({ onEvent, onLine });

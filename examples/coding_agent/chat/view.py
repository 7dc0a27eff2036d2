"""How a conversation looks, in lines: no terminal is needed to make them, and none to test them.

The marks of this program, each in front of what it is about:

» a message            ✓ a call that went well     │ what a command printed
+ a message steered    ✗ one that failed           ╌ a note; what was cut off
  what the model said  ● one at work               ■ how the turn ended
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from examples.coding_agent.chat.turns import IDLE, JSON, Conversation

BOLD, GREY, NOTE, ASKS = "bold", "ansibrightblack", "ansiyellow", "ansiyellow bold"
BUSY, WRONG, RIGHT = "ansicyan", "ansired", "ansigreen"
LONG = 400  # characters of a command that is printed, since it might not fit above the prompt
PRINTED = 6  # rows of what a command printed
CALLS = {
    "at work": (BUSY, "● ", "at work"),
    "waits": (ASKS, "? ", "asks you"),
    "cut off": (NOTE, "╌ ", "cut off"),
    "not begun": (NOTE, "╌ ", "not begun"),
}
STOPPED = ("interrupted", "failed", "killed")  # these can go on
WELL = re.compile(r"\[(Exit code 0 |Wrote |Overwrote |Edited |There are no files|Not found)")
KNOWN = re.compile(r"Exit code (-?\d+) after|(Wrote|Overwrote|Edited) [^,]*(?=$|, \d+ lines$)")


class Line(NamedTuple):
    """A mark of this program's, and text that somebody else may have said.

    With an `end` it is one row: of the text, as much as there is room for before that.
    """

    style: str
    mark: str
    text: str
    end: str | None = None
    text_style: str | None = None


BLANK = Line("", "", "")


def note(text: str) -> Line:
    return Line(NOTE, "╌ ", text, "")


def columns(facts: Mapping[str, str]) -> list[Line]:
    """Names, and what there is to say to each."""
    wide = max(map(len, facts)) + 2
    return [*(Line(GREY, f"  {x:<{wide}}", facts[x], text_style="") for x in facts), BLANK]


def news(news: Iterable[JSON | str]) -> Iterator[Line]:
    """What is on record for good, as it is shown for good."""
    for it in news:
        said = [Line(NOTE, it[:2], it[2:], ""), BLANK] if isinstance(it, str) else turn(it, IDLE)
        yield from said


def live(conversation: Conversation, unsent: Iterable[str], trouble: str) -> Iterator[Line]:
    """What is not for good yet."""
    for it in conversation.open:
        yield from turn(it, conversation.status)
    for text in unsent:
        yield from (Line(BOLD, "» ", text), Line(NOTE, "○ ", "on its way", ""), BLANK)
    for asked in conversation.status["waiting_for"][:1]:
        words = f"turn {asked['turn']} waits for your yes to a long command, which is above"
        yield from [Line(ASKS, "? ", words, ""), BLANK] if is_long(asked) else question(asked)
    if trouble:
        yield from (Line(WRONG, "✗ ", trouble), BLANK)


def turn(it: JSON, status: JSON) -> Iterator[Line]:
    """One turn: what it was asked for, what it did, and what became of it."""
    if asked := it["input"] or it.get("withdrawn"):
        yield Line(BOLD, "» ", "\n\n".join(text_of(x) for x in asked))
    elif it.get("resumes"):
        yield note(f"goes on where turn {it['resumes']} stopped")
    if not it.get("discarded") or it["status"] == "running":
        yield from _done(it, [x["id"] for x in status["pending"]])
    style, mark, words = fate(it, status)
    if mark != "● ":
        words = f"turn {it['turn']} · {words}"
        if mark == "○ ":
            words += "".join(f" · message {x['id']}" for x in it["input"] if "id" in x)
        if it.get("ended_at") and it.get("accepted_at"):
            words += f" · {(it['ended_at'] - it['accepted_at']) / 1000:.1f} s"
        yield Line(style, mark, words, "")
    yield BLANK


def fate(it: JSON, status: JSON) -> tuple[str, str, str]:
    """What became of a turn, or what it is at: a style, a mark, and words."""
    how, gone, why = it["status"], it.get("discarded"), it.get("reason") or ""
    live: JSON = next((x for x in status["live"] if x["turn"] == it["turn"]), {})
    table = (
        (gone and how == "running", NOTE, "◌ ", "is being taken back"),
        (gone and "rolled back by" in why, NOTE, "■ ", why),
        (gone and why == "promoted", NOTE, "■ ", "said in another turn"),
        (gone, NOTE, "■ ", "taken back"),
        (how == "interrupted", NOTE, "■ ", re.sub("^cancelled", "stopped", why) or how),
        (how == "completed", GREY, "■ ", how),
        (how != "running", WRONG, "■ ", how),
        (it.get("given_up"), NOTE, "■ ", "was stopped, and has not ended"),
        (live.get("cancelled") and live.get("after_step"), NOTE, "◌ ", "stops after this step"),
        (live.get("cancelled"), NOTE, "◌ ", "stops, and cleans up"),
        (status["turn"] not in (it["turn"], None), NOTE, "○ ", "waits"),
        (True, BUSY, "● ", it["live"].doing),
    )
    return next((style, mark, words) for holds, style, mark, words in table if holds)


def _done(it: JSON, pending: Sequence[int]) -> Iterator[Line]:
    results = {x["tool_call_id"]: text_of(x) for x in it["messages"] if x["role"] == "tool"}
    cut_short = it["live"].cut_short or it.get("cut_short", ())
    whole = len(it["messages"]) - it.get("partial", 0)
    for place, message in enumerate(it["messages"]):
        if message["role"] != "tool":
            yield from _said(message, cut_off=place >= whole or place in cut_short)
        for call in message.get("tool_calls") or ():
            yield from _call(it, call, results.get(call["id"]))
    yield from _said({"role": "assistant", "content": it["live"].words}, cut_off=it["live"].cut_off)
    for message in it["unread"]:
        yield from _said(message)
        if message.get("id") in pending:
            yield note(f"message {message['id']}, not read yet")
    if it.get("error"):
        yield Line(NOTE, "╌ ", f"it failed: {it['error']}")


def _said(message: JSON, *, cut_off: bool = False) -> Iterator[Line]:
    text = text_of(message)
    if message["role"] == "user":
        yield Line(BOLD, "+ ", text)
    elif text.strip():
        yield from [Line("", "  ", text), *[note("cut off")] * cut_off]


def _call(it: JSON, call: JSON, result: str | None) -> Iterator[Line]:
    """One call, its state, and the end of what it printed."""
    name, given, key = call["function"]["name"], call["function"]["arguments"], call["id"]
    state, printed = it["live"].calls.get(key, ""), it["live"].output.get(key, "")
    if key in it.get("not_begun", ()):
        state = "not begun"
    elif it["status"] != "running" and (result is None or key in it.get("cut_off", ())):
        state, printed = "cut off", (result or "").rsplit("[Interrupted:", 1)[0].rstrip()
    elif result is not None:
        state, (said, _, printed) = "", result.partition("\n")
        fails = r"\[" if name == "run_command" else r"\[[^\n]*\]$"
        bad = re.match(fails, result) and not WELL.match(result)
        looks = WRONG if bad else RIGHT, "✗ " if bad else "✓ ", _short(said, printed)
    elif not state:
        return  # nobody has said so far that it was begun
    style, mark, words = CALLS[state] if state else looks
    yield Line(style, mark, f"{name} {_argument(given)}".rstrip(), f" · {words}", "")
    if name == "run_command" and printed:
        lines = printed.replace("\r\n", "\n").strip("\n").split("\n")
        if len(lines) > PRINTED:
            lines = [f"… {len(lines) - PRINTED} lines before", *lines[-PRINTED:]]
        yield from (Line(GREY, "│ ", x, "") for x in lines if x or len(lines) > 1)


def _short(said: str, rest: str) -> str:
    """A result without what the row of its call says already."""
    if not said.startswith("["):
        return f"{len(rest.splitlines()) + 1} lines" if rest else "1 line"
    words = " ".join(said.split()).strip("[].")
    return KNOWN.sub(lambda x: f"exit {x[1]}," if x[1] else x[2].lower(), words, count=1)


def _argument(given: str) -> str:
    """The argument of a call that says most."""
    try:
        values = json.loads(given or "{}")
        return next((str(values[x]) for x in ("command", "text", "path") if values.get(x)), "")
    except (ValueError, RecursionError, AttributeError):  # they are as the model gave them
        return given


def text_of(message: JSON) -> str:
    """The text of a message."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or f"[{part.get('type')}]") for part in content)


def diff(answer: JSON) -> list[Line]:
    """What a turn has done to the files."""
    styles = {"+": RIGHT, "-": WRONG, "@": NOTE}
    lines = answer["diff"].strip("\n").split("\n")
    shown = [Line(styles.get(x[:1], GREY), "  ", x) for x in lines]
    return [note(f"the files, against those at the start of turn {answer['turn']}"), *shown, BLANK]


def pending(status: JSON) -> list[Line]:
    """The messages that no model has read yet, each with its number."""
    if not status["pending"]:
        return [note("all messages are read"), BLANK]
    says = ((x, " ".join(text_of(x).split())) for x in status["pending"])
    facts = {str(x["id"]): f"{x['kind']}, turn {x['turn']}: {text}" for x, text in says}
    return [note("not read yet"), *columns(facts)]


def question(asked: JSON) -> list[Line]:
    """The whole of a command that waits for a person's yes."""
    words = f"turn {asked['turn']} wants to run, and waits for your yes:"
    lines = [words, *asked["value"]["command"].split("\n")]
    return [*(Line(ASKS, "? ", x) for x in lines), BLANK]


def is_long(asked: JSON) -> bool:
    """Whether a question is printed: it might not fit between what is live and the prompt."""
    command = asked["value"]["command"]
    return len(command) > LONG or command.count("\n") > PRINTED


def status(conversation: Conversation, typed: str) -> tuple[Line, Sequence[str]]:
    """What stands below the prompt: what is at work, and what the keys do now."""
    status, it, last = conversation.status, conversation.at_work, conversation.last
    style, mark, words = fate(it, status) if it else (GREY, "○ ", "idle")
    words = f"turn {it['turn']} {words}" if it else words
    if asked := status["waiting_for"]:
        style, mark, words = ASKS, "? ", f"turn {asked[0]['turn']} waits for you"
        hints = ["y runs it, n does not", "Esc stops"]
    elif not it:
        hints = ["/continue goes on"] * (last.get("status") in STOPPED) + ["/help", "Ctrl-D ends"]
    elif mark != "● ":
        hints = ["Esc stops it at once", "/help"]
    else:
        hints = ["Esc stops", "/help", "text interrupts", "+text adds", ">text queues"]
        if since := it.get("accepted_at"):
            words += f" · {max(0, round(time.time() - since / 1000))} s"
        if status["steered"]:
            words += f" · {status['steered']} added, not read yet"
    if it and typed[:1] in ("+", ">"):
        adds = f"Enter adds this to turn {it['turn']}"
        hints = [adds if typed[0] == "+" else "Enter queues this"]
    elif typed.startswith("/"):
        hints = ["/help", "/stop /again /back /diff", "/pending /now /continue"]
    elif typed.strip():
        hints = ["Enter interrupts", "+ in front adds, > queues"] if it else ["Enter sends"]
    return Line(style, mark, words, ""), hints

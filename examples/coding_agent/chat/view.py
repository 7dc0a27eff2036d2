"""How a conversation looks, in rows: no terminal is needed to make them, and none to test them.

The first two cells of a row are this program's own. What others have said begins after them, also
where it is broken into rows; so nothing that a model says can pass for a row that says what it did.

    » a message            ✓ a call that went well     │ what a command printed
    + a message steered    ✗ one that failed           ╌ a note; what was cut off
      what the model said  ● one at work               ■ how the turn ended
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from examples.coding_agent.chat.text import cells, cut, line, plain, wrap
from examples.coding_agent.chat.turns import (
    Conversation,
    Earlier,
    Fate,
    Item,
    News,
    TakenBack,
    Told,
    asked_of,
    text_of,
)

Row = list[tuple[str, str]]
"""Pieces of text, each with its style."""

PROMPT = "» "
MOST_ASKED = 8  # rows of a command that waits for a yes
PRINTED = 6  # rows of what a command printed
MARKS = {
    "at work": "●",
    "waits": "?",
    "done": "✓",
    "failed": "✗",
    "cut off": "╌",
    "not begun": "╌",
}
FATES = {"waits": "○", "stops": "◌"}
HELP = {
    "Enter": "sends; what is at work is interrupted",
    "+text": "adds text to what is at work, which goes on",
    ">text": "queues text behind what is at work",
    "y, n": "answers a command that waits for your yes",
    "Esc, Ctrl-C": "stops all after this step, and once more at once; also /stop, /stop 3",
    "/continue": "goes on where the newest turn stopped",
    "/pending": "lists the messages that are not read yet, with their numbers",
    "/withdraw 3": "takes message 3 back",
    "/replace 3 text": "says text in its place",
    "/promote 3": "interrupts what is at work: message 3 is next",
    "/now text": "adds text, to be read at once; /now 3 does that with message 3",
    "/again": "has the newest turn answered again; also /again 3",
    "/back": "takes the newest turn back, and its files; also /back 3, with all after it",
    "/diff": "shows what the newest turn has done to the files; also /diff 3",
    "/quit, Ctrl-D": "ends this program",
    "Alt-Enter": "begins a new line",
    "a space": "in front sends +, > or / as it stands",
}


def greeting(facts: Mapping[str, str], width: int) -> list[Row]:
    """What there is to know at the beginning."""
    words = "A coding agent in your terminal. Ctrl-D ends it; then its conversation is gone."
    rows: list[Row] = [[], *([("class:user", row)] for row in wrap(words, width)), []]
    return [*rows, *columns(facts, width)]


def columns(facts: Mapping[str, str], width: int) -> list[Row]:
    """Names, and what there is to say to each."""
    wide = max(map(len, facts)) + 2
    rows: list[Row] = []
    for name, fact in facts.items():
        first, *rest = wrap(plain(fact), max(width - 2 - wide, 12))
        rows.append([("class:hint", f"  {name:<{wide}}"), ("", first)])
        rows += [[("", f"{'':{wide + 2}}{row}")] for row in rest]
    return [*rows, []]


def news_rows(news: News, width: int) -> list[Row]:
    """What is on record for good, as it is shown for good."""
    if isinstance(news, Earlier):
        return [note("there are turns before these", width), []]
    if isinstance(news, TakenBack):
        first, last = news.numbers[0], news.numbers[-1]
        which = f"turn {first}" if first == last else f"turns {first} to {last}"
        return [[("class:cut", cut(f"■ {which} · taken back", width))], []]
    return [*turn_rows(news, width), []]


def turn_rows(told: Told, width: int) -> list[Row]:
    """One turn: what it was asked for, what it did, and what became of it."""
    turn, fate, items = told
    if asked := asked_of(turn):
        rows = said(PROMPT, "class:user", asked, width)
    else:
        goes_on = turn.get("resumes")
        rows = [note(f"goes on where turn {goes_on} stopped", width)] if goes_on else []
    if fate.kind != "taken back":
        for item in items:
            rows += item_rows(item, width)
    if fate.kind != "at work":
        rows.append(fate_row(turn, fate, width))
    return rows


def fate_row(turn: Mapping[str, Any], fate: Fate, width: int) -> Row:
    """The row that says what became of a turn."""
    words = f"{FATES.get(fate.kind, '■')} turn {turn['turn']} · {line(fate.words)}"
    if fate.kind == "waits":
        words += "".join(f" · message {x['id']}" for x in turn["input"] if "id" in x)
    if turn.get("ended_at") and turn.get("accepted_at"):
        words += f" · {(turn['ended_at'] - turn['accepted_at']) / 1000:.1f} s"
    style = {"completed": "class:end", "failed": "class:failed", "killed": "class:failed"}
    return [(style.get(fate.kind, "class:cut"), cut(words, width))]


def item_rows(item: Item, width: int) -> list[Row]:
    """Something that was said or done."""
    if item.kind == "note":
        return [note(each, width) for each in wrap(plain(item.text), width - 2)]
    if item.kind == "steered":
        rows = said("+ ", "class:user", item.text, width)
        unread = note(f"message {item.unread}, not read yet", width)
        return [*rows, unread] if item.unread else rows
    if item.kind == "tool":
        return [tool_row(item, width), *printed_rows(item, width)]
    rows = said("  ", "", item.text, width) if item.text.strip() else []
    return [*rows, note("cut off", width)] if item.state == "cut off" else rows


def said(mark: str, style: str, text: str, width: int) -> list[Row]:
    """What somebody said, behind a mark."""
    rows = wrap(plain(text).strip("\n"), width - 2)
    return [[(style, f"{'  ' if n else mark}{row}")] for n, row in enumerate(rows)]


def note(text: str, width: int) -> Row:
    """Something that this program says."""
    return [("class:cut", cut(f"╌ {line(text)}", width))]


def tool_row(item: Item, width: int) -> Row:
    """One call, and its state."""
    what = f"{line(item.name)} {line(argument_of(item.arguments))}".rstrip()
    room = max(width - 5, 2)
    state = cut(state_of(item), max(room * 3 // 5, room - cells(what)))
    what = cut(what, room - cells(state))
    style = f"class:{item.state.replace(' ', '-')}"
    return [(style, f"{MARKS[item.state]} "), ("class:tool", what), (style, f" · {state}")]


def state_of(item: Item) -> str:
    """The state of a call, in words."""
    if item.state == "waits":
        return "asks you"
    if item.state in ("at work", "cut off", "not begun"):
        return item.state
    first, _, rest = item.text.partition("\n")
    if first.startswith("["):
        return short(line(first).strip("[]."))
    lines = len(rest.split("\n")) + 1 if rest else 1
    return f"{lines} line{'s' if lines > 1 else ''}"


def short(result: str) -> str:
    """A result without what the row of its call says already."""
    if found := re.match(r"Exit code (-?\d+) after ([\d.]+ s)(.*)", result):
        return f"exit {found[1]}, {found[2]}{found[3]}"
    if found := re.match(r"(Wrote|Overwrote|Edited) [^,]*(, \d+ lines)?$", result):
        return f"{found[1].lower()}{found[2] or ''}"
    return result


def argument_of(arguments: str) -> str:
    """The argument of a call that says most."""
    try:
        values = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments
    if not isinstance(values, dict):
        return arguments
    return next((str(values[x]) for x in ("command", "text", "path") if values.get(x)), "")


def printed_rows(item: Item, width: int) -> list[Row]:
    """The end of what a command printed."""
    text = item.text
    if item.name != "run_command" or not text:
        return []
    if item.state in ("done", "failed"):
        _, _, text = text.partition("\n")  # the first line is its state
    lines = plain(text).strip("\n").split("\n")
    left_out = len(lines) - PRINTED
    rows = [f"… {left_out} lines before"] if left_out > 0 else []
    rows += [x for x in lines[-PRINTED:] if x or left_out > 0 or len(lines) > 1]
    return [[("class:printed", cut(f"│ {row}", width))] for row in rows]


def diff_rows(answer: Mapping[str, Any], width: int) -> list[Row]:
    """What a turn has done to the files."""
    rows: list[Row] = [
        note(f"the files, against those at the start of turn {answer['turn']}", width)
    ]
    styles = {"+": "class:done", "-": "class:failed", "@": "class:cut"}
    lines = plain(answer["diff"]).strip("\n").split("\n")
    for each in lines:
        rows += said("  ", styles.get(each[:1], "class:printed"), each, width)
    return [*rows, []]


def pending_rows(pending: Sequence[Mapping[str, Any]], width: int) -> list[Row]:
    """The messages that no model has read yet, each with its number."""
    if not pending:
        return [note("all messages are read", width), []]
    says = {
        str(x["id"]): f"{x['kind']}, turn {x['turn']}: {line(text_of(x['content']))}"
        for x in pending
    }
    return [note("not read yet", width), *columns(says, width)]


def question_rows(asked: Mapping[str, Any], width: int) -> list[Row]:
    """The whole of a command that waits for a person's yes."""
    rows = [*wrap(f"turn {asked['turn']} wants to run, and waits for your yes:", width - 2)]
    rows += wrap(plain(asked["value"]["command"]), width - 2)
    return [[("class:waits", f"? {row}")] for row in rows]


def is_long(question: Sequence[Row]) -> bool:
    """Whether a question is printed: it might not fit between what is live and the prompt."""
    return len(question) > MOST_ASKED


def live_rows(
    conversation: Conversation, unsent: Sequence[str], trouble: str, width: int, height: int
) -> list[Row]:
    """What is not for good yet: the end of it, if it is more than fits."""
    rows = [row for told in conversation.open for row in [*turn_rows(told, width), []]]
    for text in unsent:
        rows += [*said(PROMPT, "class:user", text, width), [("class:cut", "○ on its way")], []]
    for asked in conversation.record.approvals[:1]:
        question = question_rows(asked, width)
        if is_long(question):
            words = f"? turn {asked['turn']} waits for your yes to a long command, which is above"
            question = [[("class:waits", cut(words, width))]]
        rows += [*question, []]
    if trouble:
        rows += [*said("✗ ", "class:failed", trouble, width), []]
    if len(rows) <= height:
        return rows
    left_out = len(rows) - height + 1
    return [note(f"{left_out} rows above, shown when the turn ends", width), *rows[left_out:]]


def rule(label: str, width: int) -> Row:
    """The line above the prompt."""
    label = cut(f" {line(label)} ", max(width - 4, 1))
    return [("class:rule", f"──{label}{'─' * (width - 2 - cells(label))}")]


def status_row(conversation: Conversation, typed: str, width: int) -> Row:
    """The line below the prompt: what is at work, and what the keys do now."""
    style, words = _status(conversation)
    words = cut(words, width)
    hints = ""
    for hint in _hints(conversation, typed):
        longer = f"{hints} · {hint}" if hints else hint
        if cells(words) + 3 + cells(longer) > width:
            break
        hints = longer
    between = " " * (width - cells(words) - cells(hints))
    return [(style, words), ("class:hint", between + hints)]


def _status(conversation: Conversation) -> tuple[str, str]:
    record, turn = conversation.record, conversation.at_work
    if record.status["status"] == "idle" or turn is None:
        return "class:end", "○ idle"
    fate = conversation.fate(turn)
    if record.approvals:
        return "class:waits", f"? turn {record.approvals[0]['turn']} waits for you"
    if fate.kind == "stops":
        return "class:cut", f"◌ turn {turn['turn']} {fate.words}"
    words = f"● turn {turn['turn']} {line(conversation.doing)}"
    if turn.get("accepted_at"):
        words += f" · {max(0, round(time.time() - turn['accepted_at'] / 1000))} s"
    if count := record.status["steered"]:
        words += f" · {count} added, not read yet"
    return "class:at-work", words


def _hints(conversation: Conversation, typed: str) -> Iterator[str]:
    turn = conversation.at_work
    busy = conversation.record.status["status"] == "running" and turn is not None
    if typed.startswith("+") and turn is not None and busy:
        yield f"Enter adds this to turn {turn['turn']}"
    elif typed.startswith(">") and busy:
        yield "Enter queues this"
    elif typed.startswith("/"):
        yield from ("/help", "/stop /again /back /diff", "/pending /now /continue")
    elif typed.strip():
        yield "Enter interrupts" if busy else "Enter sends"
        if busy:
            yield "+ in front adds, > queues"
    elif conversation.record.approvals:
        yield from ("y runs it, n does not", "Esc stops")
    elif busy and conversation.stops():
        yield from ("Esc stops it at once", "/help")
    elif busy:
        yield from ("Esc stops", "/help", "text interrupts", "+text adds", ">text queues")
    elif conversation.can_go_on:
        yield from ("/continue goes on", "/help", "Ctrl-D ends")
    else:
        yield from ("/help", "Ctrl-D ends")

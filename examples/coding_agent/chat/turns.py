"""What is known of a conversation: the record, and what the stream tells of turns that are live.

The record wins. What a turn did is told by the stream for as long as it is live; from the moment
that the record has its end, by the record alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

MOST_OUTPUT = 100_000  # characters of a command's output that are kept while it runs
WELL = re.compile(r"\[(Exit code 0 |Wrote |Overwrote |Edited |There are no files|Not found)")


@dataclass
class Item:
    """Something that was said or done in a turn.

    Attributes:
        kind: A text of the model's, a call of a tool, a message that was steered at the turn, or a
            note of this program's.
        text: What was said; of a tool, its result, or what it has printed so far.
        state: Of a text and of a tool: how far it is.
        name: Of a tool.
        arguments: Of a tool, as the model gave them.
    """

    kind: Literal["text", "tool", "steered", "note"]
    text: str = ""
    state: Literal["at work", "waits", "done", "failed", "cut off", "not begun"] = "done"
    name: str = ""
    arguments: str = ""


class Fate(NamedTuple):
    """What became of a turn: a word for its looks, and some for people."""

    kind: str
    words: str


class Told(NamedTuple):
    """A turn, and what is known of it."""

    turn: Mapping[str, Any]
    fate: Fate
    items: list[Item]


class TakenBack(NamedTuple):
    """Turns that were shown with their end, and were discarded or removed afterwards."""

    numbers: list[int]


class Earlier(NamedTuple):
    """There are turns before these, which are not shown."""


News = Told | TakenBack | Earlier


@dataclass
class Record:
    """What Restate has on record: turns, oldest first, and what the session is doing.

    Attributes:
        turns: The newest turns.
        complete: Whether there are none before these.
        status: What `get_status` answers.
        approvals: What `get_approvals` answers: the commands that wait for a person's yes.
    """

    turns: Sequence[Mapping[str, Any]] = ()
    complete: bool = True
    status: Mapping[str, Any] = field(
        default_factory=lambda: {"status": "idle", "turn": None, "live": [], "steered": 0}
    )
    approvals: Sequence[Mapping[str, Any]] = ()


class Conversation:
    """What is known. `read` takes what the record says, `hear` what the stream says."""

    def __init__(self) -> None:
        self.record = Record()
        self._shown: dict[int, bool] = {}  # turns shown with their end, and whether as discarded
        self._live: dict[int, Live] = {}
        self._first_read = True
        self._gap = True

    def read(self, record: Record) -> list[News]:
        """Take what the record says now; returns what it has for good since it was last read."""
        news: list[News] = [Earlier()] if self._first_read and not record.complete else []
        self._first_read = False
        self.record = record
        if gone := self._gone():
            self._shown.update(dict.fromkeys(gone, True))
            news.append(TakenBack(gone))
        for turn in self._open():
            if turn["status"] == "running" and not turn.get("given_up"):
                break  # those after it have their turn when it has
            news.append(Told(turn, self.fate(turn), of_record(turn)))
            self._shown[turn["turn"]] = bool(turn.get("discarded"))
        for number in [x for x in self._live if self._has_ended(x)]:
            del self._live[number]
        return news

    def hear(self, event: Mapping[str, Any]) -> bool:
        """Take an event of the stream; returns whether the record may have changed, too."""
        if event["type"] == "gap":
            self._live.clear()
            self._gap = True
            return True
        number, state = event.get("turn"), event.get("state")
        if number is None or self._has_ended(number):
            return False
        begins = event["type"] == "turn" and state == "begins"
        if begins or number not in self._live:
            self._live[number] = Live(whole=begins or not self._gap)
        self._gap = False
        self._live[number].hear(event)
        unknown = all(turn["turn"] != number for turn in self.record.turns)
        asks = event["type"] == "tool" and (state == "waits" or bool(self.record.approvals))
        return unknown or asks or event["type"] == "turn"

    @property
    def open(self) -> list[Told]:
        """The turns that are still to be shown for good, and what is known of them now."""
        return [Told(turn, self.fate(turn), self._items(turn)) for turn in self._open()]

    @property
    def last(self) -> int | None:
        """The newest turn of the conversation."""
        stand = [x["turn"] for x in self.record.turns if not x.get("discarded")]
        return stand[-1] if stand else None

    @property
    def at_work(self) -> Mapping[str, Any] | None:
        """The turn at work, if there is one."""
        number = self.record.status["turn"]
        return next((turn for turn in self.record.turns if turn["turn"] == number), None)

    @property
    def doing(self) -> str:
        """What the turn at work does, in words."""
        live = self._live.get(self.record.status["turn"])
        return live.doing if live else "begins"

    @property
    def settled(self) -> bool:
        """Whether the record says all that is known; if not, it will soon.

        Its parts are read one after the other, and the stream tells of a question before it is
        asked.
        """
        running = {turn["turn"] for turn in self.record.turns if turn["status"] == "running"}
        asked = {(x["turn"], x["call"]) for x in self.record.approvals}
        waits = {(n, call) for n, live in self._live.items() for call in live.waiting}
        return running == {x["turn"] for x in self.record.status["live"]} and waits <= asked

    def needs_before(self, first: Mapping[str, Any]) -> bool:
        """Whether the record has to be read further back than to this turn."""
        number, open_turns = first["turn"], self._open()
        wanted = open_turns[0]["turn"] if open_turns else max(self._shown, default=number) + 1
        return number > wanted or first["status"] == "running" or self._is_gone(first)

    def fate(self, turn: Mapping[str, Any]) -> Fate:  # noqa: PLR0911
        """What became of a turn, or what it is at."""
        number, status = turn["turn"], turn["status"]
        cancelled = any(x["turn"] == number and x["cancelled"] for x in self.record.status["live"])
        why = turn.get("reason") or ""
        if turn.get("discarded"):
            if status == "running":
                return Fate("stops", "is being taken back")
            return Fate("taken back", why if "rolled back by" in why else "taken back")
        if status == "interrupted":
            return Fate(status, re.sub("^cancelled", "stopped", why) or status)
        if status != "running":
            return Fate(status, status)
        if turn.get("given_up"):
            return Fate("interrupted", "was stopped, and has not ended")
        if cancelled:
            return Fate("stops", "stops, and cleans up")
        if self.record.status["turn"] not in (number, None):
            return Fate("waits", "waits")
        return Fate("at work", "at work")

    def _items(self, turn: Mapping[str, Any]) -> list[Item]:
        live = self._live.get(turn["turn"])
        if turn["status"] != "running" or live is None:
            return of_record(turn)
        return live.with_steered([x for x in turn["messages"] if x["role"] == "user"])

    def _has_ended(self, number: int) -> bool:
        ends = (x["status"] != "running" for x in self.record.turns if x["turn"] == number)
        return number in self._shown or next(ends, False)

    def _open(self) -> list[Mapping[str, Any]]:
        return [turn for turn in self.record.turns if turn["turn"] not in self._shown]

    def _is_gone(self, turn: Mapping[str, Any]) -> bool:
        return bool(turn.get("discarded")) and self._shown.get(turn["turn"]) is False

    def _gone(self) -> list[int]:
        """Turns that were shown, and are discarded or removed since."""
        there = [turn["turn"] for turn in self.record.turns]
        first = there[0] if there and not self.record.complete else 0
        gone = [turn["turn"] for turn in self.record.turns if self._is_gone(turn)]
        gone += [x for x, was in self._shown.items() if x >= first and x not in there and not was]
        return sorted(gone)


class Live:
    """What the stream has told of one turn.

    Args:
        whole: Whether from its beginning.
    """

    def __init__(self, *, whole: bool) -> None:
        self.doing = "begins"
        self._items = [] if whole else [Item("note", "what it did before is shown as it ends")]
        self._models: dict[int, Item] = {}
        self._tools: dict[str, Item] = {}
        self._steered = 0

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take an event of this turn; `begins` voids what was told of the same thing before."""
        kind, state = event["type"], event.get("state")
        if kind == "token":
            self._model(event["model"]).text += event["text"]
        elif kind == "output":
            tool = self._tools.get(event["call"])
            if tool:
                tool.text = (tool.text + event["text"])[-MOST_OUTPUT:]
        elif kind == "model":
            item = self._model(event["model"])
            if state == "begins":
                item.text, item.state = "", "at work"
                self.doing = "asks the model"
            elif state == "fails":
                item.state = "cut off"
                self.doing = f"the model's endpoint failed, and is asked again: {event['text']}"
            else:
                item.state = "done" if state == "ends" else "cut off"
        elif kind == "tool":
            self._tool(event)

    @property
    def waiting(self) -> list[str]:
        """The calls that wait for a yes."""
        return [call for call, item in self._tools.items() if item.state == "waits"]

    def with_steered(self, messages: Sequence[Mapping[str, Any]]) -> list[Item]:
        """What it did, with the messages steered at it, each where it was first seen."""
        for message in messages[self._steered :]:
            self._items.append(Item("steered", text_of(message["content"])))
        self._steered = max(self._steered, len(messages))
        return self._items

    def _model(self, number: int) -> Item:
        if number not in self._models:
            self._models[number] = Item("text", state="at work")
            self._items.append(self._models[number])
        return self._models[number]

    def _tool(self, event: Mapping[str, Any]) -> None:
        call, state = event["call"], event["state"]
        item = self._tools.get(call)
        if item is None:
            item = Item("tool", name=event["name"], arguments=event["arguments"])
            self._tools[call] = item
            self._items.append(item)
        if state == "begins":
            item.state, item.text = "at work", ""
            self.doing = f"runs {event['name']}"
        elif state == "waits":
            item.state, self.doing = "waits", "asks you"
        elif state == "ends":
            item.state, item.text = result_state(item.name, event["text"]), event["text"]
        else:
            item.state = "cut off"


def of_record(turn: Mapping[str, Any]) -> list[Item]:
    """What the record says that was said and done in a turn."""
    items: list[Item] = []
    tools: dict[str, Item] = {}
    whole = len(turn["messages"]) - turn.get("partial", 0)
    for place, message in enumerate(turn["messages"]):
        text = text_of(message.get("content"))
        if message["role"] == "tool":
            call = message["tool_call_id"]
            if tool := tools.get(call):
                tool.text, tool.state = text, result_state(tool.name, text)
                if call in turn.get("not_begun", ()):
                    tool.text, tool.state = "", "not begun"
                elif call in turn.get("cut_off", ()):
                    tool.text, tool.state = printed_of(text), "cut off"
        elif message["role"] == "user":
            items.append(Item("steered", text))
        else:
            if text:
                items.append(Item("text", text, "done" if place < whole else "cut off"))
            for call in message.get("tool_calls") or ():
                name, given = call["function"]["name"], call["function"]["arguments"]
                tools[call["id"]] = Item("tool", "", "cut off", name, given)
                items.append(tools[call["id"]])
    if turn.get("error"):
        items.append(Item("note", f"it failed: {turn['error']}"))
    return items


def result_state(name: str, result: str) -> Literal["done", "failed"]:
    """How a call ended; a result in brackets says so, and what else there is follows it."""
    if WELL.match(result):
        return "done"
    fails = r"\[" if name == "run_command" else r"\[[^\n]*\]$"
    return "failed" if re.match(fails, result) else "done"


def printed_of(result: str) -> str:
    """What a command that was cut off had printed: all before the note that says so."""
    return result.rsplit("[Interrupted:", 1)[0].rstrip()


def text_of(content: Any) -> str:
    """The text of a message."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text") or f"[{part.get('type')}]") for part in parts)


def asked_of(turn: Mapping[str, Any]) -> str:
    """What a turn was asked for."""
    return "\n\n".join(text_of(message["content"]) for message in turn["input"])

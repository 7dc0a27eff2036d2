"""What is known of a conversation: the record, and what the stream tells of turns that are live.

The record wins. What a turn did is told by the stream for as long as it is live; from the moment
that the record has its end, by the record alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

MOST_OUTPUT = 100_000  # characters of a command's output that are kept while it runs
TAKEN_BACK = {"promoted": "said in another turn"}  # what else becomes of a discarded turn
WELL = re.compile(r"\[(Exit code 0 |Wrote |Overwrote |Edited |There are no files|Not found)")


@dataclass
class Item:
    """Something that was said or done in a turn.

    Attributes:
        kind: A text of the model's, a call of a tool, a message that was steered at the turn, or a
            note of this program's.
        text: What was said; of a tool, its result, or what it has printed so far.
        state: Of a text and of a tool: how far it is; empty, if nobody has said yet.
        name: Of a tool.
        arguments: Of a tool, as the model gave them.
        unread: Of a steered message: its number, if it is still to be read.
    """

    kind: Literal["text", "tool", "steered", "note"]
    text: str = ""
    state: Literal["at work", "waits", "done", "failed", "cut off", "not begun", ""] = "done"
    name: str = ""
    arguments: str = ""
    unread: int = 0


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
    """

    turns: Sequence[Mapping[str, Any]] = ()
    complete: bool = True
    status: Mapping[str, Any] = field(
        default_factory=lambda: {
            "status": "idle",
            "turn": None,
            "live": [],
            "steered": 0,
            "pending": [],
            "waiting_for": [],
        }
    )

    @property
    def approvals(self) -> Sequence[Mapping[str, Any]]:
        """The commands that wait for a person's yes."""
        waits: Sequence[Mapping[str, Any]] = self.status["waiting_for"]
        return waits

    @property
    def pending(self) -> Sequence[Mapping[str, Any]]:
        """The messages that no model has read yet."""
        messages: Sequence[Mapping[str, Any]] = self.status["pending"]
        return messages


class Conversation:
    """What is known. `read` takes what the record says, `hear` what the stream says."""

    def __init__(self) -> None:
        self.record = Record()
        self._shown: dict[int, bool] = {}  # turns shown with their end, and whether as discarded
        self._live: dict[int, Live] = {}
        self._first_read = True

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
        kind, number, state = event["type"], event["turn"], event.get("state")
        if kind == "gap":
            self._live.clear()
        if kind in ("gap", "pending", "approval", "discarded"):
            return True
        if self._has_ended(number):
            return False
        if number not in self._live or (kind == "turn" and state == "begins"):
            self._live[number] = Live()
        self._live[number].hear(event)
        unknown = all(turn["turn"] != number for turn in self.record.turns)
        return unknown or kind in ("turn", "steered") or state == "cut off"

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
    def can_go_on(self) -> bool:
        """Whether the newest turn of the conversation has stopped before its end."""
        stand = [x for x in self.record.turns if not x.get("discarded")]
        return bool(stand) and stand[-1]["status"] in ("interrupted", "failed", "killed")

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

        Its parts are read one after the other.
        """
        running = {turn["turn"] for turn in self.record.turns if turn["status"] == "running"}
        return running == {x["turn"] for x in self.record.status["live"]}

    def stops(self, turn: int | None = None) -> bool:
        """Whether all that is live, or a turn of it, is to stop already."""
        live = [x for x in self.record.status["live"] if turn in (None, x["turn"])]
        return bool(live) and all(x["cancelled"] for x in live)

    def needs_before(self, first: Mapping[str, Any]) -> bool:
        """Whether the record has to be read further back than to this turn."""
        number, open_turns = first["turn"], self._open()
        wanted = open_turns[0]["turn"] if open_turns else max(self._shown, default=number) + 1
        return number > wanted or first["status"] == "running" or self._is_gone(first)

    def fate(self, turn: Mapping[str, Any]) -> Fate:  # noqa: PLR0911
        """What became of a turn, or what it is at."""
        number, status = turn["turn"], turn["status"]
        live: Mapping[str, Any] = next(
            (x for x in self.record.status["live"] if x["turn"] == number), {}
        )
        why = turn.get("reason") or ""
        if turn.get("discarded"):
            if status == "running":
                return Fate("stops", "is being taken back")
            said = why if "rolled back by" in why else TAKEN_BACK.get(why, "taken back")
            return Fate("taken back", said)
        if status == "interrupted":
            return Fate(status, re.sub("^cancelled", "stopped", why) or status)
        if status != "running":
            return Fate(status, status)
        if turn.get("given_up"):
            return Fate("interrupted", "was stopped, and has not ended")
        if live.get("cancelled"):
            gently = live.get("after_step")
            return Fate("stops", "stops after this step" if gently else "stops, and cleans up")
        if self.record.status["turn"] not in (number, None):
            return Fate("waits", "waits")
        return Fate("at work", "at work")

    def _items(self, turn: Mapping[str, Any]) -> list[Item]:
        live = self._live.get(turn["turn"])
        if turn["status"] != "running" or live is None:
            return of_record(turn)
        pending = {x["id"] for x in self.record.pending}
        return live.items([x for x in turn["messages"] if x["role"] == "user"], pending)

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


class Said:
    """What was said and done in a turn, from its messages.

    Attributes:
        done: All of it.
        calls: The calls among that, by their ids.
    """

    def __init__(self) -> None:
        self.done: list[Item] = []
        self.calls: dict[str, Item] = {}

    def add(self, message: Mapping[str, Any], *, whole: bool = True) -> None:
        """Add what a message says; one of the model's may not be whole."""
        text = text_of(message.get("content"))
        if message["role"] == "user":
            self.done.append(Item("steered", text))
        elif message["role"] == "tool":
            if call := self.calls.get(message["tool_call_id"]):
                call.text, call.state = text, result_state(call.name, text)
        else:
            if text:
                self.done.append(Item("text", text, "done" if whole else "cut off"))
            for each in message.get("tool_calls") or ():
                name, given = each["function"]["name"], each["function"]["arguments"]
                self.calls[each["id"]] = Item("tool", "", "", name, given)
                self.done.append(self.calls[each["id"]])


class Live(Said):
    """What the stream has told of one turn."""

    def __init__(self) -> None:
        super().__init__()
        self.doing = "begins"
        self._words = Item("text", state="at work")

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take an event of this turn."""
        kind, state = event["type"], event.get("state")
        if kind == "text":
            self._words.text += event["text"]
        elif kind == "output" and event["call"] in self.calls:
            call = self.calls[event["call"]]
            call.text = (call.text + event["text"])[-MOST_OUTPUT:]
        elif kind in ("message", "steered"):
            self.add(event["message"], whole=self._words.state != "cut off")
            if event["message"]["role"] == "assistant":
                self._words = Item("text", state="at work")
        elif kind == "model" and state == "begins":
            self._words, self.doing = Item("text", state="at work"), "asks the model"
        elif kind == "model":
            self._words.state = "cut off"
            if state == "fails":
                self.doing = f"the model's endpoint failed, and is asked again: {event['text']}"
        elif kind == "tool" and event["call"] in self.calls:
            self._tool(self.calls[event["call"]], state)

    def items(
        self, steered: Sequence[Mapping[str, Any]], pending: Collection[int] = ()
    ) -> list[Item]:
        """What it did, and what of the messages that were steered at it is still to be read."""
        read = sum(item.kind == "steered" for item in self.done)
        unread = [Item("steered", text_of(message["content"])) for message in steered[read:]]
        for item, message in zip(unread, steered[read:], strict=True):
            item.unread = message["id"] if message.get("id") in pending else 0
        return [*(item for item in self.done if item.state), self._words, *unread]

    def _tool(self, item: Item, state: str | None) -> None:
        if state == "begins":
            item.state, self.doing = "at work", f"runs {item.name}"
        elif state == "waits":
            item.state, self.doing = "waits", "asks you"
        elif state == "cut off":
            item.state = "cut off"


def of_record(turn: Mapping[str, Any]) -> list[Item]:
    """What the record says that was said and done in a turn."""
    said = Said()
    whole = len(turn["messages"]) - turn.get("partial", 0)
    for place, message in enumerate(turn["messages"]):
        said.add(message, whole=place < whole and place not in turn.get("cut_short", ()))
    for call, item in said.calls.items():
        if call in turn.get("not_begun", ()):
            item.text, item.state = "", "not begun"
        elif call in turn.get("cut_off", ()) or not item.state:
            item.text, item.state = printed_of(item.text), "cut off"
    if turn.get("error"):
        said.done.append(Item("note", f"it failed: {turn['error']}"))
    return said.done


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
    """What a turn was asked for, also if somebody has taken that back."""
    messages = turn["input"] or turn.get("withdrawn", ())
    return "\n\n".join(text_of(message["content"]) for message in messages)

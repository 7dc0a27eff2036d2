"""What every follower keeps: the record, and what the stream tells of turns that are not over.

The record wins. What a turn does is told by the stream for as long as it is live; from the moment
that the record has its end, by the record alone. What is told gets the shape of the record, so one
view shows both, and what is shown in the end is what is on record, whatever broke in between.
docs/how-to/show-tokens.md has what `hear` does with each event as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

JSON = Mapping[str, Any]
MOST_OUTPUT = 100_000  # characters of a command's output that are kept while it runs
IDLE: JSON = {"turn": None, "live": [], "steered": 0, "pending": [], "waiting_for": []}


@dataclass
class Live:
    """What the stream has told of a turn: its messages, and what is no message yet."""

    messages: list[JSON] = field(default_factory=list)
    cut_short: list[int] = field(default_factory=list)  # the places of those that were
    words: str = ""
    cut_off: bool = False  # the words
    calls: dict[str, str] = field(default_factory=dict)  # what each is at
    output: dict[str, str] = field(default_factory=dict)  # what each has printed
    doing: str = "begins"
    ended: bool = False

    def hear(self, event: JSON) -> None:
        """Take an event of this turn."""
        match event:
            case {"type": "text", "text": text}:
                self.words += text
            case {"type": "message" | "steered", "message": message}:
                if message["role"] == "assistant":
                    self.cut_short += [len(self.messages)] * self.cut_off
                    self.words, self.cut_off = "", False
                self.messages.append(message)
            case {"type": "tool", "call": call, "name": name, "state": state} if state != "ends":
                self.calls[call] = "at work" if state == "begins" else state
                self.doing = f"runs {name}" if state == "begins" else self.doing
            case {"type": "output", "call": call, "text": text}:
                self.output[call] = (self.output.get(call, "") + text)[-MOST_OUTPUT:]
            case {"type": "turn", "state": "ends"}:
                self.ended = True
            case {"type": "model", "state": "begins"}:  # of `model.py`, and this agent's own
                self.words, self.cut_off, self.doing = "", False, "asks the model"
            case {"type": "model"}:
                self.cut_off = True
                if why := event.get("text"):
                    self.doing = f"the model's endpoint failed, and is asked again: {why}"


class Conversation:
    """What is known: `read` takes what the record says, `hear` what the stream says."""

    def __init__(self) -> None:
        self.status = IDLE  # what `get_status` answers
        self._live: dict[int, Live] = {}
        self._shown: dict[int, bool] = {}  # turns shown with their end, and whether as discarded
        self.read((), IDLE, complete=True)

    def hear(self, event: JSON) -> bool:
        """Take an event of the stream; returns whether the record may have changed, too."""
        kind, number = event["type"], event["turn"]
        if kind == "gap":
            self._live.clear()
        if kind in ("gap", "pending", "approval", "discarded"):
            return True
        if self._is_over(number):
            return False
        self._live.setdefault(number, Live()).hear(event)
        return kind in ("turn", "steered") or event.get("state") == "cut off"

    def read(self, turns: Sequence[JSON], status: JSON, *, complete: bool) -> list[JSON | str]:
        """Take what the record says now: the newest turns, whether those are all, and the status.

        Returns:
            What is to be shown for good: turns that are over now, and what else is to be said.
        """
        first, self.turns, self.status = self.status is IDLE, turns, status
        self.last = next((x for x in reversed(turns) if not x.get("discarded")), {})
        news: list[JSON | str] = ["╌ there are turns before these"] * (first and not complete)
        there = {turn["turn"] for turn in turns if not self._is_gone(turn)}
        oldest = 0 if complete else turns[0]["turn"]
        stood = {x for x, discarded in self._shown.items() if x >= oldest and not discarded}
        if gone := stood - there:  # they are discarded, or removed
            self._shown.update(dict.fromkeys(gone, True))
            which = f"turns {min(gone)} to {max(gone)}" if len(gone) > 1 else f"turn {min(gone)}"
            news.append(f"■ {which} · taken back")
        for turn in self.open:
            if turn["status"] == "running" and not turn.get("given_up"):
                break  # those after it have their turn when it has
            news.append(turn)
            self._shown[turn["turn"]] = bool(turn.get("discarded"))
        self._live = {x: live for x, live in self._live.items() if not self._is_over(x)}
        return news

    @property
    def open(self) -> list[JSON]:
        """The turns that are still to be shown for good, with what is known of them now."""
        return [self.known(turn) for turn in self.turns if turn["turn"] not in self._shown]

    @property
    def at_work(self) -> JSON:
        """The turn at work, if there is one."""
        at_work = [self.known(x) for x in self.turns if x["turn"] == self.status["turn"]]
        return at_work[0] if at_work else {}

    def known(self, turn: JSON) -> JSON:
        """A turn of the record, with what is `live` of it, and what it has not yet read."""
        if turn["status"] != "running":
            return {**turn, "live": Live(), "unread": ()}
        live = self._live.get(turn["turn"], Live())
        taken = sum(message["role"] == "user" for message in live.messages)
        unread = [x for x in turn["messages"] if x["role"] == "user"][taken:]
        return {**turn, "messages": live.messages, "live": live, "unread": unread}

    @property
    def settled(self) -> bool:
        """Whether the record says all that is known; if not, it will soon."""
        running = {turn["turn"] for turn in self.turns if turn["status"] == "running"}
        live = {x["turn"] for x in self.status["live"]}  # it is read beside the turns
        return running == live and not any(x.ended for x in self._live.values())

    def stops(self, turn: int | None = None) -> bool:
        """Whether all that is live, or a turn of it, is to stop already."""
        live = [x["cancelled"] for x in self.status["live"] if turn in (None, x["turn"])]
        return bool(live) and all(live)

    def needs_before(self, first: JSON) -> bool:
        """Whether the record has to be read further back than to this turn."""
        next_one = max(self._shown, default=first["turn"]) + 1
        wanted = self.open[0]["turn"] if self.open else next_one
        return first["turn"] > wanted or first["status"] == "running" or self._is_gone(first)

    def _is_over(self, number: int) -> bool:
        over = {turn["turn"] for turn in self.turns if turn["status"] != "running"}
        return number in {*over, *self._shown}

    def _is_gone(self, turn: JSON) -> bool:
        return bool(turn.get("discarded")) and self._shown.get(turn["turn"]) is False

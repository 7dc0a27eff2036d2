"""What those who follow a session are told, and what they make of it: I12."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from .records import Told
from .view import SessionView, Violation

Event = dict[str, Any]


def followers_come_to_the_record(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I12: who follows a session is told of everything once and in order, and so has the record.

    Ids grow, also over what cuts a follower off; nothing comes twice unless a gap lies between; and
    whoever does with the events what the docs say has, when nothing more comes, the turns of the
    record: their ends, their messages, and which of them were discarded.
    """
    for number, told in view.followers.items():
        events = [x.event for x in told]
        for text in (*_grows(events), *_twice(events), *_converges(view, told, count)):
            yield Violation("I12", view.agent, view.session, f"follower {number}: {text}")


def _grows(events: Sequence[Event]) -> Iterator[str]:
    last = 0
    for event in events:
        if event["type"] == "record":
            continue
        if event["id"] <= last:
            yield f"after event {last} came {event}"
        last = event["id"]


def _twice(events: Sequence[Event]) -> Iterator[str]:
    """Words are told apart by who says them; they may come, and then the message with them."""
    seen: set[tuple[Any, ...]] = set()
    for event in events:
        kind, turn = event["type"], event.get("turn")
        if kind == "gap":
            seen.clear()
            continue
        new: list[tuple[Any, ...]] = []
        if kind == "turn":
            new = [(turn, event["state"])]
        elif kind in ("message", "steered"):
            content = str(event["message"]["content"])
            new = [(turn, event["message"]["role"], content)]
        elif kind == "text":
            new = [(turn, "word", word) for word in event["text"].split()]
        elif kind == "half":  # the agent's own
            new = [(turn, kind, event["by"])]
        if twice := seen.intersection(new):
            yield f"{twice} came twice: {event}"
        seen.update(new)
        if kind == "message":
            seen.update((turn, "word", word) for word in content.split())


class Fold:
    """What a follower shows: the record as it was last read, and the turns that came since."""

    def __init__(self) -> None:
        self._read: dict[int, Event] = {}
        self._live: dict[int, Event] = {}
        self._discarded: set[int] = set()
        """Also turns that have yet to begin, or to end."""

    @property
    def turns(self) -> dict[int, Event]:
        """By number: `messages`; `status`, if it has ended; and `discarded`, if it is that."""
        shown = {**self._read, **self._live}
        for number in self._discarded:
            shown[number] = {"messages": [], **shown.get(number, {}), "discarded": True}
        return shown

    def take(self, event: Event) -> None:
        """Do as the docs say."""
        kind = event["type"]
        if kind == "gap":
            self._live = {}
        elif kind == "record":
            self._read = {x["turn"]: x for x in event["turns"] if x["status"] != "running"}
            self._discarded = {x["turn"] for x in event["turns"] if x.get("discarded")}
        elif kind == "discarded":
            self._discarded.update(event["turns"])
        elif event["turn"] not in self._read:
            self._take_live(kind, event)

    def _take_live(self, kind: str, event: Event) -> None:
        turn: Event = self._live.get(event["turn"], {"messages": []})
        if kind == "turn" and event["state"] == "begins":
            turn = {"messages": []}
        elif kind == "turn":
            turn = {**turn, "status": event["status"]}
        elif kind in ("message", "steered"):
            turn = {**turn, "messages": [*turn["messages"], event["message"]]}
        else:
            return
        self._live[event["turn"]] = turn


def _converges(view: SessionView, told: Sequence[Told], count: Counter[str]) -> Iterator[str]:
    if view.final is None or view.final.turns is None:
        return
    fold = Fold()
    for each in told:
        fold.take(each.event)
    for number, turn in view.turns.items():
        if turn["status"] == "running":
            continue  # I5
        count["I12"] += 1
        shown = fold.turns.get(number)
        if shown is None:
            yield f"turn {number} was never told of"
        elif "status" not in shown and not turn.get("discarded"):
            yield f"the end of turn {number} was never told"
        elif not (turn.get("discarded") and shown.get("discarded")):
            yield from _differs(number, turn, shown)
    for number, shown in fold.turns.items():
        if number not in view.turns and not shown.get("discarded"):
            yield f"it shows turn {number}, which is not in the record: {shown}"


def _differs(number: int, turn: Event, shown: Event) -> Iterator[str]:
    if shown.get("status") != turn["status"]:
        yield f"turn {number} ended as {shown.get('status')}, and its record says {turn['status']}"
    if bool(shown.get("discarded")) != bool(turn.get("discarded")):
        yield f"turn {number} is discarded in one of both: {shown}, {turn}"
    if _said(shown["messages"]) != _said(turn["messages"]):
        yield (
            f"turn {number} shows {_said(shown['messages'])}, and its record says "
            f"{_said(turn['messages'])}"
        )


def _said(messages: Sequence[Event]) -> list[tuple[str, str]]:
    return [(x["role"], str(x["content"])) for x in messages]

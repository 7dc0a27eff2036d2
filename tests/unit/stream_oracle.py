"""What a stream is to hold, and what a follower is to see of it: said once more, in another way."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

Event = dict[str, Any]
BEGINS: Final[Event] = {"type": "turn", "state": "begins"}
MOST_UNRECORDED: Final = 3


class Delta(NamedTuple):
    """Something that a step has said, and that the stream has."""

    id: int
    event: Event
    step: int


def is_delta(event: Event) -> bool:
    return event["type"] in ("text", "reasoning", "output")


def is_message(event: Event) -> bool:
    return event["type"] in ("message", "steered")


def is_replaced(event: Event, by: Event) -> bool:
    """Whether an event takes the place of a delta of the same turn, by the table of the rules."""
    if by["type"] == "turn":
        return True
    if by["type"] != "message":
        return False
    role = by["message"]["role"]
    if event["type"] == "output":
        return bool(role == "tool" and by["message"]["tool_call_id"] == event["call"])
    return bool(role == "assistant")


def words(live: list[Delta]) -> dict[str | None, str]:
    """What of live deltas an interrupted turn keeps."""
    texts = [x for x in live if x.event["type"] == "text"]
    said: dict[str | None, str] = {}
    for x in live:
        of = x.event.get("call")
        if x.event["type"] == "output" or (x in texts and x.step == texts[-1].step):
            said[of] = said.get(of, "") + x.event["text"]
    return {of: text for of, text in said.items() if text.strip()}


@dataclass
class Seen:
    """What a follower, or the stream, knows of a turn that is not on record."""

    events: list[Event] = field(default_factory=list[Event])
    """All but deltas, from its beginning on."""
    deltas: list[Event] = field(default_factory=list[Event])

    @property
    def messages(self) -> list[Any]:
        return [x["message"] for x in self.events if is_message(x)]

    @property
    def status(self) -> str | None:
        return next((x["status"] for x in self.events[::-1] if "status" in x), None)


@dataclass
class Told:
    """What the stream was told of a turn that is not on record yet."""

    times: int = 0
    events: list[Event] = field(default_factory=lambda: [BEGINS])
    """What followers have of it, deltas apart."""
    replaced: list[tuple[int, Event]] = field(default_factory=list[tuple[int, Event]])
    """What replaces deltas, and the how manieth telling brought it."""
    is_behind: bool = False
    """Whether followers may have missed a message."""
    is_hurt: bool = False
    """Whether some of what it has told was truncated."""

    @property
    def end(self) -> tuple[str | None, int]:
        """How it ended, and how many messages it has."""
        ends = [x["status"] for x in self.events if "status" in x]
        return (ends[0] if ends else None, sum(map(is_message, self.events)))


Recorded = dict[int, tuple[str, list[Any]]]
"""The record: of each turn that has ended, its status and its messages."""


@dataclass
class Follower:
    """One who follows, by the rules for followers."""

    offset: int = 0
    owes: bool = False
    """Whether it still has to read the record."""
    gap: int = 0
    """The id of the last gap."""
    record: Recorded = field(default_factory=Recorded)
    live: defaultdict[int, Seen] = field(default_factory=lambda: defaultdict(Seen))
    discarded: set[int] = field(default_factory=set[int])
    waits: str | None = None
    """The awakeable by which it waits."""
    mail: Any = None
    """What came for it meanwhile."""

    def take(self, answer: Any) -> None:
        """Apply the answer of a pull."""
        for event in answer["messages"]:
            assert event["id"] > self.offset, "an event is given twice, or out of order"
            self.offset = event["id"]
            self.apply(dict(event))
        assert answer["nextOffset"] >= self.offset
        self.offset = answer["nextOffset"]

    def apply(self, event: Event) -> None:
        number, turn = event.pop("id"), event.pop("turn")
        if event["type"] == "gap":
            self.live.clear()
            self.discarded.clear()
            self.owes, self.gap = True, number
        elif event["type"] == "discarded":
            self.discarded |= {*event["turns"]}
        elif turn not in self.record:
            seen = self.live[turn]
            if event == BEGINS:
                seen = self.live[turn] = Seen()
            if is_delta(event):
                seen.deltas.append(event)
            else:
                seen.deltas = [x for x in seen.deltas if not is_replaced(x, event)]
                seen.events.append(event)

    def read(self, record: Recorded, discarded: set[int]) -> "Follower":
        """What it knows if it reads the record now."""
        return Follower(
            self.offset,
            gap=self.gap,
            record=dict(record),
            live=self.live,
            discarded=self.discarded | discarded,
            waits=self.waits,
            mail=self.mail,
        )

    def view(self, turn: int) -> tuple[str | None, list[Any]]:
        """A turn, as it shows it."""
        if turn in self.record:
            return self.record[turn]
        seen = self.live.get(turn, Seen())
        return seen.status, seen.messages

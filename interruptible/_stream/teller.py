"""Tells the stream what one attempt at a turn does.

What the turn *did* is told durably, by one-way sends in the task's journal: each attempt gives the
same ones, so each arrives once and in order. What its steps *say*, piece by piece, is published
past the journal, by the `Publisher`, and may be lost.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from interruptible._stream.deltas import replaces
from interruptible._stream.events import ToolState
from interruptible._stream.publisher import Publisher
from interruptible._wire.native import neutral
from interruptible._wire.said import as_shown, without_said
from interruptible._wire.types import Message, TaskOutcome

_OUTSIDE: Final = -1
"""What stands for a step where there is none."""

Send = Callable[[str, Any], Any]
"""Sends something to a handler of the stream."""


class Teller:
    """One attempt at a turn, as those who follow the session are told of it.

    Args:
        send: The way to the stream.
        turn: The turn.
        key: What publishes for it from outside.
        publisher: What publishes.
    """

    def __init__(self, send: Send, turn: int, key: str, publisher: Publisher) -> None:
        self._send, self._turn, self._publisher = send, turn, publisher
        self._told = 0
        self._has_ended = False
        self._names: dict[str, str] = {}
        """The tools of the calls that have begun."""
        self._messages: list[Message] = []
        """Those that were told, as they are stored."""
        send("begin", {"turn": turn, "key": key})

    def put(self, messages: Sequence[Message]) -> None:
        """The turn has put out messages."""
        for event in _as_events("message", messages):
            if (over := replaces(event)) is not None:
                self._publisher.forget(over)
        if messages:
            self._messages += messages
            self._tell(_as_events("message", messages))

    def took(self, messages: Sequence[Message]) -> None:
        """The turn has taken steered messages, as they are stored."""
        if messages:
            self._messages += map(without_said, messages)
            self._tell(_as_events("steered", messages))

    def tool(self, call: str, name: str, state: ToolState) -> None:
        """Say that a tool's call begins or ends.

        It is not told: of calls side by side, another attempt may find another order.
        """
        self._names[call] = name
        event = {"type": "tool", "call": call, "name": name, "state": state}
        self._publisher.say(event, self._told, _OUTSIDE, self)

    def tell(self, event: dict[str, Any]) -> None:
        """The agent says something of its own, outside of a step."""
        self._tell([event])

    def say(self, event: dict[str, Any], handle: int, run: object) -> None:
        """A step says something; see `Publisher.say`."""
        self._publisher.say(event, self._told, handle, run)

    def ends(self, outcome: TaskOutcome) -> None:
        """The turn has ended: tell what of its messages was not told yet, and how it ended."""
        messages, before = outcome["messages"], self._messages
        anew = messages[: len(before)] != before
        events = [
            {"type": "tool", "call": call, "name": self._names[call], "state": "cut off"}
            for call in outcome.get("cut_off", [])
            if call in self._names
        ]
        events += _as_events("message", messages if anew else messages[len(before) :])
        end = {"type": "turn", "state": "ends", "status": outcome["status"]}
        self._tell([*events, end], anew=anew)
        self._has_ended = True

    async def close(self) -> None:
        """The attempt is over."""
        await self._publisher.close(again=not self._has_ended)

    def _tell(self, events: Sequence[dict[str, Any]], *, anew: bool = False) -> None:
        self._told += 1
        more = {"anew": True} if anew else {}
        self._send("tell", {"turn": self._turn, "events": events, **more})


def _as_events(kind: str, messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [
        {"type": kind, "message": x} for x in neutral({"messages": messages}, as_shown)["messages"]
    ]

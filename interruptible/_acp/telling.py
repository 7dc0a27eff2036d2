"""What an ACP client is told of a session. Pure: events and the record in, updates out.

A client can only be told more. So it is told the pieces of a message as they come, then the rest of
it; and all of it once more, as a new paragraph, if it is not what the pieces had begun. `said` is
what the client has, and `heard` what the stream says: after a gap that begins again, and nothing is
told until it is more than what the client has.

| of a turn that        | the stream's events | its record or outcome                             |
| --------------------- | ------------------- | ------------------------------------------------- |
| is not over           | are told            | tells what was not told, and the turn is over     |
| is over               | are left out        | is left out                                       |
| is discarded          | are told            | ends it: nothing more of it is told               |
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from acp import (
    update_agent_message,
    update_agent_message_text,
    update_agent_thought_text,
    update_user_message,
)
from acp.schema import (
    AgentMessageChunk,
    AgentThoughtChunk,
    ToolCallProgress,
    ToolCallStart,
    UserMessageChunk,
)

from interruptible._acp.calls_told import CallsTold
from interruptible._acp.content import blocks_of_content, thoughts_in, words_and_more
from interruptible._stream.events import Event
from interruptible._wire.types import Message, Turn

Update: TypeAlias = (
    UserMessageChunk | AgentMessageChunk | AgentThoughtChunk | ToolCallStart | ToolCallProgress
)


@dataclass
class _Live:
    """What is said of a message that is not whole yet."""

    said: str = ""
    heard: str = ""


@dataclass
class _TurnTold:
    """A turn as the client knows it."""

    turn: int
    calls: CallsTold
    messages: list[Message] = field(default_factory=list[Message])
    """Those that were told whole."""
    place: int | None = None
    """Where the next message stands that the stream tells; that is known from its beginning on."""
    words: _Live = field(default_factory=_Live)
    thoughts: _Live = field(default_factory=_Live)
    knows_input: bool = False
    is_over: bool = False

    def hears_again(self) -> bool:
        """Whether the assistant's next message was told: then so was what comes before it."""
        again = [] if self.place is None else self.messages[self.place :]
        return any(x.get("role") == "assistant" for x in again)


class Retelling:
    """What one client has been told of a session, and what it is to be told next."""

    def __init__(self) -> None:
        self._turns: dict[int, _TurnTold] = {}
        self._said: set[int | tuple[int, int]] = set()
        """The users' messages that the client has: by id, or by turn and place."""
        self._speaks: int | None = None
        """The turn of which it was told words last, if nothing else has come since."""
        self._voice: int | None = None
        """The turn of which it was told words last."""

    # -- What the client does itself. --------------------------------------------------------------

    def prompted(self) -> None:
        """The client has shown what its own user says."""
        self._speaks = None

    def knows(self, message: int) -> None:
        """The client has this message: it was its own."""
        self._said.add(message)

    # -- What it is told. --------------------------------------------------------------------------

    def is_over(self, turn: int) -> bool:
        """Whether all was told of a turn."""
        return turn in self._turns and self._turns[turn].is_over

    def asks_for_input(self, event: Event) -> bool:
        """Whether a turn begins of which it is not known what its users said."""
        begins = event["type"] == "turn" and event["state"] == "begins"
        return begins and not (self._turn(event["turn"]).knows_input or self.is_over(event["turn"]))

    def asks_for_outcome(self, event: Event) -> bool:
        """Whether a turn has ended of which the stream did not tell all."""
        ends = event["type"] == "turn" and event["state"] == "ends"
        return ends and not self.is_over(event["turn"])

    def lags(self, turn: int) -> bool:
        """Whether something of a turn, or of one before it, is not told yet."""
        before = [x for x in self._turns.values() if x.turn < turn]
        return not self.is_over(turn) or not all(x.is_over for x in before)

    def settled(self) -> int:
        """The last turn of those, from the first on, of which all was told."""
        live = [x.turn for x in self._turns.values() if not x.is_over]
        return min(live) - 1 if live else max(self._turns, default=0)

    def event(self, event: Event) -> list[Update]:
        """The stream tells something."""
        if event["type"] == "gap":
            for told in self._turns.values():
                told.place = None
                told.words.heard = told.thoughts.heard = ""
                told.calls.hear_again()
            return []
        if event["type"] in ("pending", "discarded", "approval") or self.is_over(event["turn"]):
            return []
        return list(self._event(self._turn(event["turn"]), event))

    def input(self, turn: int, messages: Sequence[Message]) -> list[Update]:
        """What its users said in a turn, as the record has it."""
        told = self._turn(turn)
        if told.is_over:
            return []
        told.knows_input = True
        return [
            update
            for place, message in enumerate(messages)
            for update in self._user(message, (turn, -1 - place))
        ]

    def record(self, turn: Turn) -> list[Update]:
        """A turn as it is on record."""
        told, number = self._turn(turn["turn"]), turn["turn"]
        if told.is_over:
            return []
        if turn.get("discarded"):
            return list(self._end(told))
        if turn["status"] == "running":
            return []
        return [*self.input(number, turn["input"]), *self.outcome(number, turn["messages"])]

    def outcome(
        self, turn: int, messages: Sequence[Message], *, has_ids: bool = True
    ) -> list[Update]:
        """A turn has ended with these messages.

        Args:
            turn: Which.
            messages: What it put out.
            has_ids: Whether those of users have their ids. Without, nobody can say whose they are,
                and they are not told.
        """
        told = self._turn(turn)
        if told.is_over:
            return []
        updates = [
            update
            for place, message in enumerate(messages)
            for update in self._message(told, place, message, tells_users=has_ids)
        ]
        return [*updates, *self._end(told)]

    # -- How. --------------------------------------------------------------------------------------

    def _turn(self, turn: int) -> _TurnTold:
        return self._turns.setdefault(turn, _TurnTold(turn, CallsTold(turn)))

    def _event(self, told: _TurnTold, event: Event) -> Iterator[Update]:
        if event["type"] == "text":
            yield from self._piece(told, told.words, event["text"], self._words)
        elif event["type"] == "reasoning":
            yield from self._piece(told, told.thoughts, event["text"], self._thoughts)
        elif event["type"] in ("message", "steered"):
            if told.place is not None:
                yield from self._message(told, told.place, cast("Any", event)["message"])
                told.place += 1
        elif event["type"] in ("tool", "output"):
            yield from self._of_calls(told.calls.heard(cast("Any", event)))
        elif event["type"] == "turn":
            if event["state"] == "begins":
                told.place = 0
            elif told.place is not None:  # or else messages were left out
                yield from self._end(told)

    def _end(self, told: _TurnTold) -> Iterator[Update]:
        yield from self._of_calls(told.calls.end())
        # What is kept of a turn that is over is that it is.
        self._turns[told.turn] = _TurnTold(told.turn, CallsTold(told.turn), is_over=True)

    def _message(
        self, told: _TurnTold, place: int, message: Message, *, tells_users: bool = True
    ) -> Iterator[Update]:
        bare = {name: x for name, x in message.items() if name not in ("id", "metadata")}
        is_assistant = message.get("role") == "assistant"
        if place < len(told.messages):
            if told.messages[place] == bare:
                if is_assistant:
                    told.words.heard = told.thoughts.heard = ""
                return
            del told.messages[place:]
        told.messages.append(bare)
        if is_assistant:
            yield from self._assistant(told, message)
        else:
            yield from self._of_calls(told.calls.answered(message))
            if message.get("role") == "user" and tells_users:
                yield from self._user(message, (told.turn, place))

    def _assistant(self, told: _TurnTold, message: Message) -> Iterator[Update]:
        if thoughts := thoughts_in(message):
            yield from self._rest(told, told.thoughts, thoughts, self._thoughts)
        text, more = words_and_more(message.get("content"))
        yield from self._rest(told, told.words, text, self._words)
        for block in more:
            yield update_agent_message(block)
        told.words, told.thoughts = _Live(), _Live()
        yield from self._of_calls(told.calls.called(message))

    def _user(self, message: Message, place: tuple[int, int]) -> Iterator[Update]:
        known: Any = message.get("id")
        name = known if isinstance(known, int) else place
        if name in self._said:
            return
        self._said.add(name)
        for block in blocks_of_content(message.get("content")):
            self._speaks = None
            yield update_user_message(block)

    def _piece(
        self, told: _TurnTold, live: _Live, text: str, say: Callable[..., Iterator[Update]]
    ) -> Iterator[Update]:
        live.heard += text
        if live.said.startswith(live.heard) or told.hears_again():
            return
        goes_on = live.heard.startswith(live.said)
        new = live.heard[len(live.said) :] if goes_on else live.heard
        goes_on = goes_on and bool(live.said)
        yield from say(told, new, goes_on=goes_on)
        live.said = live.heard

    def _rest(
        self, told: _TurnTold, live: _Live, whole: str, say: Callable[..., Iterator[Update]]
    ) -> Iterator[Update]:
        if whole.startswith(live.said):
            yield from say(told, whole[len(live.said) :], goes_on=bool(live.said))
        elif whole.strip() != live.said.strip():
            yield from say(told, whole, goes_on=False)

    def _words(self, told: _TurnTold, text: str, *, goes_on: bool) -> Iterator[Update]:
        if not text:
            return
        if self._voice not in (None, told.turn) and (other := self._turns.get(self._voice or 0)):
            other.words.said = ""  # what it says next does not go on where it was
        apart = self._speaks is not None and not goes_on
        self._speaks = self._voice = told.turn
        yield update_agent_message_text(f"\n\n{text}" if apart else text)

    def _thoughts(self, told: _TurnTold, text: str, *, goes_on: bool) -> Iterator[Update]:
        if text:
            apart = bool(told.thoughts.said) and not goes_on
            self._speaks = None if not goes_on else self._speaks
            yield update_agent_thought_text(f"\n\n{text}" if apart else text)

    def _of_calls(self, updates: Iterator[ToolCallStart | ToolCallProgress]) -> Iterator[Update]:
        for update in updates:
            if isinstance(update, ToolCallStart):
                self._speaks = None
            yield update

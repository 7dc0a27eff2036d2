"""What a client of AG-UI is told of a run: the events of a session's stream in, AG-UI's out. Pure.

A run is about one message of the user, and so about the turn that answers it.

| what comes                        | what is told                                                 |
| --------------------------------- | ------------------------------------------------------------ |
| words, thoughts                   | a message that grows                                         |
| a message, whole                  | the rest of what grows, its calls; a tool's result           |
| a gap, which makes words void     | a snapshot without them; what is said anew has another name  |
|                                   | until the end, which corrects that by another snapshot       |
| the record of the turn at its end | what of it was not told; a snapshot if the client has others |
| all others                        | `CUSTOM`, named `interruptible.<type>`                       |

The client knows what it has sent: nothing of that is told again. A message is named by its turn and
its place there, so each run, and each gateway, names it alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ag_ui.core import (
    AssistantMessage,
    BaseEvent,
    CustomEvent,
    Message,
    MessagesSnapshotEvent,
    ReasoningEndEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    ToolMessage,
    UserMessage,
)

from interruptible._gateway.agui_events import Growing, begun, call_told, result_told, words_told
from interruptible._gateway.agui_messages import same, thoughts, to_messages
from interruptible._wire import types as wire

NAME: Final = "interruptible."
_OWN: Final = ("id", "turn", "type")
"""What an event has besides what it says."""


class Run:
    """One run, as the client knows it.

    Args:
        known: The messages that the client has.
    """

    def __init__(self, known: Sequence[Message]) -> None:
        self.turn: int | None = None
        """The turn that answers, once that is known."""
        self.answers = set[int]()
        """The turns that were known to answer, or to be about to."""
        self._known = _by_name(known)
        """What the client is to have, in order. It keeps thoughts that a snapshot leaves out."""
        self._right = set[str]()
        """Which of it has been told whole, or was found to be as it should be."""
        self._calls = set[str]()
        """The calls that were told in this run."""
        self._doubled = set[str]()
        """Those of them that there are several of."""
        self._used = set[str]()
        """What is called so in this run, and cannot begin once more."""
        self._place = 0
        """Which of the turn's messages is the next."""
        self._text: Growing | None = None
        self._thought: str | None = None
        """What the thoughts are called that grow."""
        self._has_thought = False
        """Whether thoughts of the next message were told."""
        self._thought_before = set[str]()
        """Thoughts that were told before a gap."""
        self._is_wrong = False
        """Whether the client has something that it should not have."""

    def begins(self, turn: int) -> None:
        """The turn is known that answers."""
        self.turn, self._place = turn, 0
        self.answers.add(turn)

    def knows(self, messages: Sequence[Message]) -> Iterator[BaseEvent]:
        """The client is to have these messages, in this order: it appends what it does not have."""
        self._known = {}
        yield self._snapshot()
        self._known = _by_name(messages)
        yield self._snapshot()

    def on(self, event: Mapping[str, Any]) -> Iterator[BaseEvent]:
        """The session's stream has an event of this turn, or a gap."""
        kind: str = event["type"]
        if kind == "gap":
            yield from self._forget()
        elif kind in ("text", "reasoning"):
            if self._name(self._place) not in self._right:  # or its message was told before a gap
                grow = self._grow if kind == "text" else self._think
                yield from grow(event["text"])
        elif kind in ("message", "steered"):
            yield from self._put(event["message"])
        elif kind != "turn":
            value = {key: x for key, x in event.items() if key not in _OWN}
            yield CustomEvent(name=f"{NAME}{kind}", value=value)

    def ends(self, messages: Sequence[wire.Message]) -> Iterator[BaseEvent]:
        """The record has what the turn has put out: tell what of it was not told."""
        self._place = 0
        names = {x.id for n, y in enumerate(messages) for x in to_messages(y, self._name(n))}
        for message in messages:
            yield from self._put(message)
        self._is_wrong |= self._text is not None
        yield from self.stops()
        for name in [x for x in self._of_turn() if x not in names]:
            del self._known[name]
            self._is_wrong = True
        if self._is_wrong:
            yield self._snapshot()

    def stops(self) -> Iterator[BaseEvent]:
        """The run ends here; its turn may go on."""
        yield from self._rest()
        if self._text is not None:
            yield TextMessageEndEvent(message_id=self._text.called)
            self._text = None

    def is_discarded(self, said: Sequence[str]) -> Iterator[BaseEvent]:
        """The turn is no part of the conversation any more, nor is what the user had said."""
        yield from self.stops()
        for name in [*self._of_turn(), *(x for x in said if x in self._known)]:
            del self._known[name]
        self.turn = None  # what it says from now on is of no interest
        yield self._snapshot()

    # -- How. --------------------------------------------------------------------------------------

    def _of_turn(self) -> list[str]:
        """What the client has of what the turn has put out itself."""
        ours = [x for x in self._known.values() if not isinstance(x, UserMessage)]
        return [x.id for x in ours if x.id.startswith(self._name(""))]

    def _name(self, place: int | str) -> str:
        return f"{self.turn}.{place}"

    def _snapshot(self) -> BaseEvent:
        self._is_wrong = False
        messages = list(self._known.values())
        if self._text is not None:
            messages.append(AssistantMessage(id=self._text.called, content=self._text.has))
        self._calls |= {
            x.id for y in messages if isinstance(y, AssistantMessage) for x in y.tool_calls or ()
        }
        return MessagesSnapshotEvent(messages=messages)

    def _forget(self) -> Iterator[BaseEvent]:
        """What is live is void, and the turn's messages come again."""
        was = self._text
        yield from self.stops()
        self._place, self._has_thought = 0, False
        self._thought_before |= self._used
        if was is not None:
            yield from self._take_back(was)

    def _take_back(self, text: Growing) -> Iterator[BaseEvent]:
        yield from self.stops()
        self._known.pop(text.name, None)
        yield self._snapshot()

    def _think(self, text: str) -> Iterator[BaseEvent]:
        name = f"{self._name(self._place)}.thoughts"
        if name in self._thought_before:  # no snapshot takes them back
            return
        if self._thought is None:
            self._thought = self._call(name)
            self._has_thought = True
            yield ReasoningStartEvent(message_id=self._thought)
            yield ReasoningMessageStartEvent(message_id=self._thought)
        if text:
            yield ReasoningMessageContentEvent(message_id=self._thought, delta=text)

    def _rest(self) -> Iterator[BaseEvent]:
        """The thoughts are over."""
        if self._thought is not None:
            yield ReasoningMessageEndEvent(message_id=self._thought)
            yield ReasoningEndEvent(message_id=self._thought)
            self._thought = None

    def _call(self, name: str) -> str:
        """What a message is called that grows: another one of this name may have, in this run."""
        called, again = name, 1
        while called in self._used:
            again += 1
            called = f"{name}-{again}"
        self._used.add(called)
        return called

    def _grow(self, text: str) -> Iterator[BaseEvent]:
        yield from self._rest()
        grown = self._text
        if grown is None:
            grown = self._open(self._name(self._place))
            yield begun(grown)
        grown.said += text
        yield from self._add(grown, grown.said)

    def _open(self, name: str) -> Growing:
        called, known = self._call(name), self._known.get(name)
        self._is_wrong |= called != name
        self._text = Growing(name, called)
        if called == name and isinstance(known, AssistantMessage):
            self._text.has = known.content or ""
        return self._text

    def _add(self, text: Growing, whole: str) -> Iterator[BaseEvent]:
        """Add what the client does not have of the words so far; it may have others."""
        if text.has.startswith(whole):
            return
        if not whole.startswith(text.has):
            yield from self._take_back(text)
            text = self._open(text.name)
            text.said = whole
            yield begun(text)
        yield TextMessageContentEvent(message_id=text.called, delta=whole[len(text.has) :])
        text.has = whole

    def _put(self, message: wire.Message) -> Iterator[BaseEvent]:
        """A message, whole."""
        name = self._name(self._place)
        if self._text is not None and message.get("role") != "assistant":
            yield from self._take_back(self._text)
        for made in to_messages(message, name):
            known = self._known.get(made.id)
            is_told = made.id in self._right
            if not is_told and isinstance(made, AssistantMessage):
                yield from self._say(made, message)
            elif known is None:
                yield from self._tell(made)
            elif not same(known, made) and not isinstance(known.content, list):
                self._known[made.id], self._is_wrong = made, True
            self._right.add(made.id)
        if message.get("role") == "assistant":
            self._has_thought = False
        self._place += 1

    def _say(self, made: AssistantMessage, message: wire.Message) -> Iterator[BaseEvent]:
        """The rest of what the assistant has said, and its calls."""
        known = self._known.get(made.id)
        text = made.content or ""
        is_new = known is None or not same(known, made)
        if is_new and not self._has_thought and (thought := thoughts(message)):
            yield from self._think(thought)
        yield from self._rest()
        if self._text is not None and self._text.name != made.id:
            self._is_wrong = True
            yield from self.stops()
        if self._text is None and not is_new:
            return
        grown = self._text
        if grown is None:
            grown = self._open(made.id)
            yield begun(grown)
        yield from self._add(grown, text)
        grown = self._text or grown  # it may be another one
        self._is_wrong |= grown.has != text
        self._known[made.id] = made
        yield TextMessageEndEvent(message_id=grown.called)
        self._text = None
        ids = {x.id for x in made.tool_calls or ()}
        if self._calls & ids or (isinstance(known, AssistantMessage) and known.tool_calls):
            self._doubled |= ids  # a call of this id was told, perhaps a part of it
            yield self._snapshot()
            return
        for call in made.tool_calls or ():
            self._calls.add(call.id)
            yield from call_told(call, grown.called)

    def _tell(self, made: Message) -> Iterator[BaseEvent]:
        """A message that the client does not have, and nobody has heard piece by piece."""
        self._known[made.id] = made
        told = words_told(made)
        if isinstance(made, ToolMessage) and made.tool_call_id in self._calls - self._doubled:
            told = iter([result_told(made)])
        if told is None or made.id in self._used:
            yield self._snapshot()  # it has images, or is the result of a call of another run
        else:
            self._used.add(made.id)
            yield from told


def _by_name(messages: Sequence[Message]) -> dict[str, Message]:
    return {x.id: x for x in messages if x.role not in ("reasoning", "activity")}

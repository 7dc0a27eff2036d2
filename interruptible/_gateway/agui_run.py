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
from dataclasses import dataclass
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
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
    ToolMessage,
)

from interruptible._gateway.agui_messages import same, thoughts, to_messages
from interruptible._wire import types as wire

NAME: Final = "interruptible."
_OWN: Final = ("id", "turn", "type")
"""What an event has besides what it says."""


@dataclass
class Growing:
    """Words that come piece by piece: how their message is named, and how it is called so far."""

    name: str
    called: str
    has: str = ""
    """What the client has of it."""
    said: str = ""
    """What has come of it; the client may have had more, from another run."""


class Run:
    """One run, as the client knows it.

    Args:
        known: The messages that the client has.
    """

    def __init__(self, known: Sequence[Message]) -> None:
        self.turn: int | None = None
        """The turn that answers, once that is known."""
        self._known = {x.id: x for x in known}
        """What the client is to have, in order."""
        self._right = set[str]()
        """Which of it has been told whole, or was found to be as it should be."""
        self._calls = set[str]()
        """The calls that were told in this run."""
        self._used = set[str]()
        """What is called so in this run, and cannot begin once more."""
        self._place = 0
        """Which of the turn's messages is the next."""
        self._text: Growing | None = None
        self._thought: str | None = None
        """What the thoughts are called that grow."""
        self._has_thought = False
        """Whether thoughts of the next message were told."""
        self._is_wrong = False
        """Whether the client has something that it should not have."""

    def begins(self, turn: int) -> None:
        """The turn is known that answers."""
        self.turn, self._place = turn, 0

    def knows(self, messages: Sequence[Message]) -> BaseEvent:
        """The client is to have these messages."""
        self._known = {x.id: x for x in messages}
        return self._snapshot()

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
        for name in [x for x in self._known if x.startswith(self._name("")) and x not in names]:
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
        gone = [x for x in self._known if x in said or x.startswith(self._name(""))]
        for name in gone:
            del self._known[name]
        yield self._snapshot()

    # -- How. --------------------------------------------------------------------------------------

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
        if was is not None:
            self._known.pop(was.name, None)
            yield self._snapshot()

    def _think(self, text: str) -> Iterator[BaseEvent]:
        if self._thought is None:
            self._thought = self._call(f"{self._name(self._place)}.thoughts")
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
            yield _started(grown)
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
            yield TextMessageEndEvent(message_id=text.called)
            self._text = None
            self._known.pop(text.name, None)
            yield self._snapshot()
            text = self._open(text.name)
            text.said = whole
            yield _started(text)
        yield TextMessageContentEvent(message_id=text.called, delta=whole[len(text.has) :])
        text.has = whole

    def _put(self, message: wire.Message) -> Iterator[BaseEvent]:
        """A message, whole."""
        name = self._name(self._place)
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
            yield _started(grown)
        yield from self._add(grown, text)
        grown = self._text or grown  # it may be another one
        self._is_wrong |= grown.has != text
        self._known[made.id] = made
        yield TextMessageEndEvent(message_id=grown.called)
        self._text = None
        if isinstance(known, AssistantMessage) and known.tool_calls:  # perhaps a part of them
            yield self._snapshot()
            return
        for call in made.tool_calls or ():
            self._calls.add(call.id)
            yield ToolCallStartEvent(
                tool_call_id=call.id,
                tool_call_name=call.function.name,
                parent_message_id=grown.called,
            )
            yield ToolCallArgsEvent(tool_call_id=call.id, delta=call.function.arguments)
            yield ToolCallEndEvent(tool_call_id=call.id)

    def _tell(self, made: Message) -> Iterator[BaseEvent]:
        """A message that the client does not have, and nobody has heard piece by piece."""
        self._known[made.id] = made
        if isinstance(made, ToolMessage) and made.tool_call_id in self._calls:
            yield ToolCallResultEvent(
                message_id=made.id,
                tool_call_id=made.tool_call_id,
                content=made.content,
                role="tool",
            )
        elif isinstance(made.content, str) and made.role in ("user", "system", "developer"):
            self._used.add(made.id)
            yield TextMessageStartEvent(message_id=made.id, role=made.role)
            if made.content:
                yield TextMessageContentEvent(message_id=made.id, delta=made.content)
            yield TextMessageEndEvent(message_id=made.id)
        else:  # a message with images, or the result of a call of another run
            yield self._snapshot()


def _started(text: Growing) -> BaseEvent:
    return TextMessageStartEvent(message_id=text.called, role="assistant")

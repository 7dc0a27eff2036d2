"""Makes what a turn put out fit to be sent to a model again, wherever the turn was cut off.

Providers refuse a conversation in which a tool's call has no result, and so all that is ever said
in it. What they ask for stands in `formats._dialects`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from interruptible._wire.native import without_native
from interruptible._wire.types import Message
from interruptible.formats import _calls, _dialects
from interruptible.formats._calls import Call, Place
from interruptible.formats._values import as_json, is_blank, is_blank_text, items, with_items

NOT_BEGUN: Final = "[Interrupted: this call was not begun. It has had no effect.]"
"""The result of a call that was not begun."""

INTERRUPTED: Final = (
    "[Interrupted: this call was cut off before it gave a result. It may have taken effect.]"
)
"""The result of a call that was cut off and has none."""

CUT_OFF: Final = "[Interrupted: this call was cut off here. It may have taken effect.]"
"""What stands after the part of a result that had come."""

STRAY: Final = "[The result of a call that is missing here:] "
"""What stands before a result, as JSON, that has no call."""

NOTHING: Final = "[It gave nothing.]"
"""What stands for a result without content where there has to be some."""


class CallNote(Protocol):
    """What the model is told as the result of a call that has none."""

    def __call__(self, name: str | None, *, begun: bool, output: str | None) -> str: ...


def call_note(name: str | None, *, begun: bool, output: str | None) -> str:
    """What it is told by default."""
    del name
    if output is not None:
        return f"{output.rstrip()}\n{CUT_OFF}"
    return INTERRUPTED if begun else NOT_BEGUN


class Repaired(NamedTuple):
    """What a turn put out, as providers accept it, and the ids of its calls that had no result."""

    messages: list[Message]
    cut_off: list[str]
    """Those that had begun, and may have had an effect."""
    not_begun: list[str]


def repaired(
    messages: Sequence[Message],
    outputs: Sequence[tuple[str, str]] = (),
    *,
    begun: Callable[[str], bool] = lambda _: True,
    note: CallNote = call_note,
) -> Repaired:
    """Make the messages that one turn put out acceptable to the provider whose dialect they have.

    Nothing that was said is lost; what stands between a call and its results comes after them. Of
    two results of one call the first is kept. A message that does not change is the same object.
    One that does loses its native form.

    Args:
        messages: What it put out.
        outputs: Calls that were cut off, and what had come of each; for those without a result.
        begun: Whether a call has begun, by its id; the id is empty where the dialect has none.
        note: The result of a call that has none.
    """
    turn = _Turn(begun, note)
    for message, lost in zip(messages, _dialects.lost_blocks(messages), strict=True):
        turn.add(message, lost)
    for call, output in outputs:
        turn.cut_off(call, output)
    done = [message for entry in turn.entries for message in turn.finish(entry)]
    return Repaired(done, list(turn.ends[True]), list(turn.ends[False]))


class _Entry:
    """A message, and what belongs directly after it: the results of its calls."""

    def __init__(self, message: Message, lost: Collection[Place] = ()) -> None:
        self.message = message
        self.lost = lost
        """The places of its blocks that go."""
        self.calls = _calls.calls_of(message)
        self.results: dict[Place, Message] = {}
        self.cut_off: set[Place] = set()
        """The calls of which some output is the result."""
        self.source: Message = {"role": "user"}
        """The user message that brought results."""
        self.rest: list[Any] = []
        """What else stands in the user message with the results."""

    def accepted(self) -> Message | None:
        calls = [call for call in self.calls if not call.half or call.place in self.results]
        return _dialects.accepted(self.message, calls, self.lost)

    def messages(self) -> Iterator[Message]:
        message = self.accepted()
        if message is not None:
            yield message
        results = list(self.results.values())
        if not all(call.id for call in self.calls):  # what has no id goes by its place
            results = [self.results[x.place] for x in self.calls if x.place in self.results]
        yield from (x for x in results if "role" in x)
        blocks = [x for x in results if "role" not in x]
        if blocks:
            yield with_items(self.source, blocks + self.rest)


class _Turn:
    """The messages so far, each with its results."""

    def __init__(self, begun: Callable[[str], bool], note: CallNote) -> None:
        self.entries: list[_Entry] = []
        self.ends: dict[bool, dict[str, None]] = {True: {}, False: {}}
        """The ids of calls without a result, in order: of those that had begun, and of the rest."""
        self._of_id: dict[str, list[_Entry]] = {}
        """Those with a call of an id: it may be used again."""
        self._begun, self._note = begun, note

    def add(self, message: Message, lost: Collection[Place]) -> None:
        match message.get("role"):
            case "user":
                self._user(message)
            case "tool" | "function":
                if not self._answer(message):
                    stray = STRAY + as_json(without_native(message))
                    self.entries.append(_Entry({"role": "user", "content": stray}))
            case _:
                entry = _Entry(message, lost)
                for call in filter(None, (call.id for call in entry.calls)):
                    self._of_id.setdefault(call, []).append(entry)
                if entry.calls or entry.accepted() is not None:
                    self.entries.append(entry)

    def cut_off(self, id_: str, output: str) -> None:
        """Make what had come of a call its result, if it has none."""
        given: Message = {"role": "tool", "tool_call_id": id_}
        if waiting := self._waiting(given):
            entry, call = waiting
            entry.cut_off.add(call.place)
            text = self._text(call.name, begun=True, output=output)
            entry.results[call.place] = _calls.result_for(call, text)
        elif id_ not in self._of_id:
            self.add({**given, "content": self._text("", begun=True, output=output)}, ())

    def finish(self, entry: _Entry) -> Iterator[Message]:
        """The messages of an entry, with a result for each of its calls."""
        for call in entry.calls:
            begun = True
            if call.place not in entry.cut_off:
                if call.half or call.place in entry.results:
                    continue
                begun = self._begun(call.id)
                text = self._text(call.name, begun=begun, output=None)
                entry.results[call.place] = _calls.result_for(call, text)
            if call.id:
                self.ends[begun][call.id] = None
        return entry.messages()

    def _user(self, message: Message) -> None:
        content = message.get("content")
        rest: list[Any] = []
        for block in items(content):
            if _calls.id_answered(block) is None:
                rest += [] if is_blank_text(block) else [block]
            elif not self._answer(block, message):
                stray = {"text": STRAY + as_json(block)}
                rest.append({"type": "text", **stray} if "type" in block else stray)
        if self.entries and self.entries[-1].source is message:  # nothing was said in between
            self.entries[-1].rest += rest
        elif rest:
            self.entries.append(_Entry(with_items(message, rest)))
        elif not items(content) and not is_blank(content):
            self.entries.append(_Entry(message))

    def _answer(self, given: Message, source: Message | None = None) -> bool:
        """Give a call its result, message or block; `False` if there is no such call.

        Of two results of one call the first is kept.
        """
        if waiting := self._waiting(given):
            entry, call = waiting
            entry.results[call.place] = _calls.fit(given, NOTHING)
            entry.source = source or entry.source
            return True
        return _calls.id_answered(given) in self._of_id

    def _waiting(self, given: Message) -> tuple[_Entry, Call] | None:
        """The call of a result: in the last message that has such, the first that has none yet."""
        id_ = _calls.id_answered(given)
        for entry in reversed(self._of_id.get(id_, []) if id_ else self.entries):
            for call in entry.calls:
                if call.place not in entry.results and _calls.answers(given, call):
                    return entry, call
        return None

    def _text(self, name: str, *, begun: bool, output: str | None) -> str:
        text = self._note(name or None, begun=begun, output=output)
        # Who forgot to return one is to get a result that the provider takes all the same.
        return text if (text or "").strip() else call_note(name, begun=begun, output=output)

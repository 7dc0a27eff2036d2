"""Makes what a turn put out fit to be sent to a model again, wherever the turn was cut off.

Providers refuse a conversation in which a tool's call has no result, and so all that is ever said
in it. What they ask for stands in `_dialects`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from interruptible._wire.types import Message
from interruptible.formats._dialects import (
    Call,
    answered_by,
    as_json,
    calls_of,
    changed,
    fit,
    is_blank,
    is_blank_text,
    items,
    lost_blocks,
    result,
    said,
    text_in,
    type_of,
)

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


class Note(Protocol):
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
    note: Note = call_note,
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
    for message, lost in zip(messages, lost_blocks(messages), strict=True):
        match message.get("role"):
            case "assistant":
                turn.assistant(message, lost)
            case "tool" | "function":
                turn.tool(message)
            case "user":
                turn.user(message)
            case _:
                turn.entries.append(_Entry(message))
    for call, output in outputs:
        turn.cut_off(call, output)
    done = [message for entry in turn.entries for message in turn.finish(entry)]
    return Repaired(done, _once(turn.ends[True]), _once(turn.ends[False]))


class _Entry:
    """A message, and what belongs directly after it: the results of its calls."""

    def __init__(self, message: Message, lost: set[int] | None = None) -> None:
        self.message = message
        self.lost = lost or set()
        self.calls = {} if lost is None else calls_of(message)
        self.is_said = lost is not None
        """Whether the assistant said it."""
        self.results: dict[str, Message] = {}
        self.cut_off: set[str] = set()
        """The calls of which some output is the result."""
        self.source: Message = {"role": "user"}
        """The user message that brought results."""
        self.rest: list[Any] = []
        """What else stands in the user message with the results."""

    def messages(self) -> Iterator[Message]:
        message = said(self.message, self.results, self.lost) if self.is_said else self.message
        if message is not None:
            yield message
        results = list(self.results.values())
        if not all(call.id for call in self.calls.values()):  # what has no id goes by its place
            results = [self.results[key] for key in self.calls if key in self.results]
        yield from (x for x in results if "role" in x)
        blocks = [x for x in results if "role" not in x]
        if blocks:
            yield _with_items(self.source, blocks + self.rest)


class _Turn:
    """The messages so far, and who waits for the result of a call."""

    def __init__(self, begun: Callable[[str], bool], note: Note) -> None:
        self.entries: list[_Entry] = []
        self.ends: dict[bool, list[str]] = {True: [], False: []}
        """The ids of the calls that had begun, and of those that had not."""
        self._begun, self._note = begun, note
        self._waiting: dict[tuple[int, str], tuple[_Entry, Call]] = {}
        self._of_id: dict[str, list[tuple[int, str]]] = {}
        """An id may be used again: the last one that waits is the nearest."""

    def assistant(self, message: Message, lost: set[int]) -> None:
        entry = _Entry(message, lost)
        if not entry.calls and said(message, (), lost) is None:
            return
        self.entries.append(entry)
        for key, call in entry.calls.items():
            self._waiting[id(entry), key] = (entry, call)
            self._of_id.setdefault(call.id, []).append((id(entry), key))

    def tool(self, message: Message) -> None:
        call = text_in(message, "tool_call_id")
        name = text_in(message, "tool_name") or text_in(message, "name")
        if message.get("role") == "function":
            waiting = self._take(lambda x: x.kind == "function" and x.name == name)
        elif call:
            waiting = self._by_id(call)
        else:
            waiting = self._take(
                lambda x: x.kind == "tool" and (x.name == name if name else not x.id)
            )
        if waiting is not None:
            entry, found = waiting
            entry.results[found.key] = fit(message, NOTHING)
        elif not call or call not in self._of_id:
            stray = {key: value for key, value in message.items() if key != "native"}
            self.entries.append(_Entry({"role": "user", "content": STRAY + as_json(stray)}))

    def cut_off(self, call: str, output: str) -> None:
        waiting = self._by_id(call)
        if waiting is not None:
            entry, found = waiting
            text = self._text(found.name, begun=True, output=output)
            entry.results[found.key] = result(found, entry.message, text)
            entry.cut_off.add(found.key)
        elif call not in self._of_id:
            text = self._text(None, begun=True, output=output)
            self.tool({"role": "tool", "tool_call_id": call, "content": text})

    def user(self, message: Message) -> None:
        content = message.get("content")
        rest: list[Any] = []
        answered: list[_Entry] = []
        for block in items(content):
            call = answered_by(block)
            if call is None:
                rest += [] if is_blank_text(block) else [block]
            elif waiting := self._by_id(call):
                entry, found = waiting
                answered.append(entry)
                entry.results[found.key] = fit(block, NOTHING)
                entry.source = message
            elif not call or call not in self._of_id:
                text = {"text": STRAY + as_json(block)}
                rest.append(text if type_of(block) == "toolResult" else {"type": "text", **text})
        if self.entries[-1:] and self.entries[-1] in answered:  # nothing was said in between
            self.entries[-1].rest += rest
        elif rest:
            self.entries.append(_Entry(_with_items(message, rest)))
        elif not items(content) and not is_blank(content):
            self.entries.append(_Entry(message))

    def finish(self, entry: _Entry) -> Iterator[Message]:
        """The messages of an entry, with a result for each of its calls."""
        for key, call in entry.calls.items():
            begun = True
            if key not in entry.cut_off:
                if call.half or key in entry.results:
                    continue
                begun = self._begun(call.id)
                text = self._text(call.name, begun=begun, output=None)
                entry.results[key] = result(call, entry.message, text)
            self.ends[begun] += [call.id] if call.id else []
        return entry.messages()

    def _by_id(self, call: str) -> tuple[_Entry, Call] | None:
        """The call that has this id, and waits."""
        keys = self._of_id.get(call, []) if call else []
        while keys:
            if waiting := self._waiting.pop(keys.pop(), None):
                return waiting
        return None

    def _take(self, wanted: Callable[[Call], bool]) -> tuple[_Entry, Call] | None:
        """The call that is meant: in the last message that has such, the first that waits."""
        found = [key for key, (_, call) in self._waiting.items() if wanted(call)]
        mine = next((key for key in found if key[0] == found[-1][0]), None)
        return self._waiting.pop(mine) if mine else None

    def _text(self, name: str | None, *, begun: bool, output: str | None) -> str:
        text = self._note(name or None, begun=begun, output=output)
        # Who forgot to return one is to get a result that the provider takes all the same.
        return text if (text or "").strip() else call_note(name, begun=begun, output=output)


def _with_items(message: Message, blocks: list[Any]) -> Message:
    if items(message.get("content")) == blocks:
        return message
    return changed(message, {**message, "content": blocks})


def _once(ids: list[str]) -> list[str]:
    return list(dict.fromkeys(ids))

"""Makes what a turn put out fit to be sent to a model again, wherever the turn was cut off.

Providers refuse a conversation in which a tool's call has no result, and so all that is ever said
in it. They ask for:

- OpenAI: a message with `tool_calls` "must be followed by tool messages responding to each
  'tool_call_id'" (github.com/evalstate/fast-agent/issues/314), each id once
  (github.com/agno-agi/agno/issues/5116), and "messages with role 'tool' must be a response to a
  preceeding message with 'tool_calls'" (github.com/miurla/morphic/issues/136). `tool_calls` is
  not empty (github.com/openai/openai-python/issues/2061).
- Anthropic: all `tool_result` blocks stand in the message after the one with their `tool_use`
  blocks, before all else in it
  (platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls), each id once
  (github.com/sipeed/picoclaw/pull/1793). Text is not empty
  (github.com/anthropics/anthropic-sdk-python/issues/461), nor only white space
  (github.com/anthropics/claude-code/issues/23369).
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias, cast

from interruptible._types import Message

INTERRUPTED: Final = (
    "[Interrupted: this call was cut off before it gave a result. It may have taken effect.]"
)
"""The result of a call that has none."""

CUT_OFF: Final = "[Interrupted: this call was cut off here. It may have taken effect.]"
"""What stands after the part of a result that had come."""

STRAY: Final = "[The result of a call that is missing here:] "
"""What stands before a result, as JSON, that has no call."""

_Wanted: TypeAlias = Literal["tool", "tool_result"]
"""What a call wants for a result: a message of this role, or a block of this type."""


def repaired(messages: Sequence[Message], cut_off: Sequence[tuple[str, str]] = ()) -> list[Message]:
    """The messages that one turn put out, as OpenAI and Anthropic accept them.

    Nothing that was said is lost; what stands between a call and its results comes after them. Of
    two results of one call the first is kept. A message that does not change is the same object.
    One that does loses its native form.

    Args:
        messages: What it put out.
        cut_off: Calls that were cut off, and what had come of each; for those without a result.
    """
    turn = _Turn()
    for message in messages:
        match message.get("role"):
            case "assistant":
                turn.assistant(message)
            case "tool":
                turn.tool(message)
            case "user":
                turn.user(message)
            case _:
                turn.entries.append(_Entry(message))
    for call, text in cut_off:
        turn.cut_off(call, f"{text.rstrip()}\n{CUT_OFF}")
    given = {id(message) for message in messages}
    fit = [message for entry in turn.entries for message in entry.messages()]
    return [message if id(message) in given else _without_native(message) for message in fit]


class _Entry:
    """A message, and what belongs directly after it: the results of its calls."""

    def __init__(self, message: Message, calls: dict[str, _Wanted] | None = None) -> None:
        self.message = message
        self.calls = calls or {}
        self.results: dict[str, Message] = {}
        self.source: Message = {"role": "user"}
        """The user message that brought results."""
        self.rest: list[Any] = []
        """What else stands in the user message with the results."""

    def messages(self) -> Iterator[Message]:
        yield self.message
        for call, wants in self.calls.items():
            self.results.setdefault(call, _interrupted(call, wants, INTERRUPTED))
        results = self.results.values()
        yield from (result for result in results if _type(result) != "tool_result")
        blocks = [result for result in results if _type(result) == "tool_result"]
        if blocks:
            yield _with_items(self.source, blocks + self.rest)


class _Turn:
    """The messages so far, and who waits for the result of a call."""

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self._waiting: dict[str, list[_Entry]] = {}
        """An id may be used again: the last one that waits is the nearest."""

    def assistant(self, message: Message) -> None:
        said, calls = _said(message)
        if calls or not _is_blank(said.get("content")) or any(map(said.get, _INSTEAD_OF_CONTENT)):
            self.entries.append(_Entry(said, calls))
            for call in calls:
                self._waiting.setdefault(call, []).append(self.entries[-1])

    def tool(self, message: Message) -> None:
        call, content = _id(message, "tool_call_id"), message.get("content")
        waiting = self._waiting.get(call)
        if waiting is None:
            self.entries.append(_Entry({"role": "user", "content": STRAY + _json(message)}))
        elif waiting:
            is_fit = _items(content) or isinstance(content, str)
            waiting.pop().results[call] = message if is_fit else _as_text(message)

    def cut_off(self, call: str, content: str) -> None:
        waiting = self._waiting.get(call)
        if waiting is None:
            self.tool(_interrupted(call, "tool", content))
        elif waiting:
            entry = waiting.pop()
            entry.results[call] = _interrupted(call, entry.calls[call], content)

    def user(self, message: Message) -> None:
        content = message.get("content")
        rest: list[Any] = []
        answered: list[_Entry] = []
        for block in _items(content):
            if _type(block) != "tool_result":
                rest += [] if _is_blank_text(block) else [block]
                continue
            call = _id(block, "tool_use_id")
            waiting = self._waiting.get(call)
            if waiting is None:
                rest.append({"type": "text", "text": STRAY + _json(block)})
            elif waiting:
                answered.append(entry := waiting.pop())
                is_fit = isinstance(block.get("content", ""), (str, list, tuple))
                entry.results[call] = block if is_fit else _as_text(block)
                entry.source = message
        if self.entries[-1:] and self.entries[-1] in answered:  # nothing was said in between
            self.entries[-1].rest += rest
        elif rest:
            self.entries.append(_Entry(_with_items(message, rest)))
        elif not _items(content) and not _is_blank(content):
            self.entries.append(_Entry(message))


_INSTEAD_OF_CONTENT: Final = ("function_call", "refusal", "audio")
"""What OpenAI takes of an assistant that says nothing (`ChatCompletionAssistantMessageParam`)."""


def _said(message: Message) -> tuple[Message, dict[str, _Wanted]]:
    """A message of the assistant without what is malformed or empty in it, and its calls."""
    calls: dict[str, _Wanted] = {}

    def is_call(item: Any, wants: _Wanted) -> bool:
        call = _id(item, "id")
        if not call or call in calls:
            return False
        calls[call] = wants
        return True

    said, content = dict(message), message.get("content")
    said["tool_calls"] = [x for x in _items(message.get("tool_calls")) if is_call(x, "tool")]
    if not said["tool_calls"]:
        del said["tool_calls"]
    if isinstance(content, (list, tuple)):
        said["content"] = [
            block
            for block in _items(content)
            if not _is_blank_text(block)
            and (_type(block) != "tool_use" or is_call(block, "tool_result"))
        ] or None
    return (message if said == message else said), calls


def _interrupted(call: str, wants: _Wanted, content: str) -> Message:
    if wants == "tool":
        return {"role": "tool", "tool_call_id": call, "content": content}
    return {"type": "tool_result", "tool_use_id": call, "content": content, "is_error": True}


def _without_native(message: Message) -> Message:
    return {key: value for key, value in message.items() if key != "native"}


def _as_text(result: Message) -> Message:
    return {**result, "content": _json(result.get("content"))}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _with_items(message: Message, items: list[Any]) -> Message:
    return message if _items(message.get("content")) == items else {**message, "content": items}


def _items(value: Any) -> list[Any]:
    return list(cast("Sequence[Any]", value)) if isinstance(value, (list, tuple)) else []


def _type(block: Any) -> Any:
    return cast("Message", block).get("type") if isinstance(block, dict) else None


def _id(item: Any, key: str) -> str:
    """The id, or an empty text where there is none that could be one."""
    name = cast("Message", item).get(key) if isinstance(item, dict) else None
    return name if isinstance(name, str) else ""


def _is_blank(content: Any) -> bool:
    return not (content.strip() if isinstance(content, str) else content)


def _is_blank_text(block: Any) -> bool:
    return _type(block) == "text" and _is_blank(block.get("text"))

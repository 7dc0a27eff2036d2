"""LangChain's messages.

They are those of langchain-core 1, which has to be installed.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast
from uuid import UUID

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    ToolMessage,
    convert_to_messages,
    convert_to_openai_messages,
    message_chunk_to_message,
    messages_from_dict,
)
from langchain_core.messages.base import BaseMessageChunk

from interruptible._wire.native import native, with_native
from interruptible._wire.types import Message
from interruptible.formats import _neutral
from interruptible.formats._values import items, value_in

__all__ = ["from_messages", "to_messages"]

FORMAT: Final = "langchain"


def to_messages(messages: Iterable[BaseMessage]) -> list[Message]:
    """Make messages of LangChain's, to be put out by a task.

    What a neutral message has no place for stays as the native form, as LangChain dumps messages.
    A tool's `artifact` goes, which may be anything, and so do ids that LangChain gave: they are
    others in each attempt.

    Args:
        messages: What a graph's state has in `messages`, for example.
    """
    return [_message(x) for x in messages if not isinstance(x, RemoveMessage)]


def from_messages(messages: Iterable[Message]) -> list[BaseMessage]:
    """Make LangChain's messages, for a graph's `messages`.

    A message comes back as it was, if it still has that as its native form; all others are made
    anew.

    Args:
        messages: `task.messages`, for example; of any provider.
    """
    made: list[BaseMessage] = []
    names: dict[str, str] = {}
    for message in messages:
        own = native(message, FORMAT)
        names |= {call.id: call.name for call in _neutral.calls(message)}
        made += _anew(message, names) if own is None else messages_from_dict([own])
    return made


# -- From LangChain's. -----------------------------------------------------------------------------


def _message(message: BaseMessage) -> Message:
    if isinstance(message, BaseMessageChunk):
        message = message_chunk_to_message(message)
    if isinstance(message, AIMessage):
        neutral = _said(message)
    elif isinstance(message, ToolMessage):
        text = _neutral.words(_content(message)) or " ".join(_others(message))
        neutral = {"role": "tool", "tool_call_id": message.tool_call_id, "content": text}
    else:
        neutral = _given(message)
    if isinstance(message, AIMessage) and message.invalid_tool_calls:
        return neutral  # they would be sent as calls, and have no results
    name = message.name if isinstance(message, ToolMessage) else None
    (again, *more) = _anew(neutral, {getattr(message, "tool_call_id", ""): name or ""})
    own = _dumped(message)
    is_same = not more and _dumped(again) == own
    return neutral if is_same else with_native(neutral, FORMAT, own)


def _said(message: AIMessage) -> Message:
    calls = [
        _neutral.function(x["id"] or x["name"], x["name"], json.dumps(x["args"]))
        for x in message.tool_calls
    ]
    others = [*_others(message), *(x["name"] or "a call" for x in message.invalid_tool_calls)]
    return _neutral.said(_neutral.words(_content(message)), calls, others)


def _given(message: BaseMessage) -> Message:
    """What somebody else said: a person, or a node of a graph."""
    role = "user" if isinstance(message, HumanMessage) else "system"
    try:
        given: Any = convert_to_openai_messages(message)
    except ValueError:  # a part that it does not know
        given = {"content": _neutral.parts(_content(message))}
    return {"role": given.get("role", role), "content": given["content"]}


def _content(message: BaseMessage) -> Any:
    content: Any = message.content
    if isinstance(content, str):
        return content
    return [{"type": "text", "text": x} if isinstance(x, str) else x for x in content]


def _others(message: BaseMessage) -> list[str]:
    kinds = (value_in(x, "type") for x in items(_content(message)))
    return [str(x) for x in kinds if x not in ("text", "thinking", "reasoning", "tool_use")]


def _dumped(message: BaseMessage) -> dict[str, Any]:
    left_out = {"artifact"} if _has_own_id(message) else {"artifact", "id"}
    data = message.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
    return {"type": message.type, "data": data}


def _has_own_id(message: BaseMessage) -> bool:
    """Whether a provider gave the id, and not LangChain, or the state of a graph."""
    try:
        UUID(message.id or "")
    except ValueError:
        return not (message.id or "").startswith(("lc_", "run-"))
    return False


# -- To LangChain's. -------------------------------------------------------------------------------


def _anew(message: Message, names: dict[str, str]) -> Iterator[BaseMessage]:
    content: Any = message.get("content") or ""
    role = message["role"]
    for call, result in _neutral.results(message):
        yield ToolMessage(result, tool_call_id=call, name=names.get(call) or None)
    if role == "assistant":
        calls = [
            {"name": x.name, "args": _arguments(x.arguments), "id": x.id, "type": "tool_call"}
            for x in _neutral.calls(message)
        ]
        said = content or message.get("refusal") or ""
        yield AIMessage(content=said, tool_calls=cast("Any", calls))
    elif role != "tool":
        rest = content
        if not isinstance(content, str):
            rest = [x for x in items(content) if x.get("type") != "tool_result"]
        if rest:
            yield from convert_to_messages([{"role": role, "content": rest}])


def _arguments(text: str) -> dict[str, Any]:
    """The arguments of a call; a custom tool's text is what LangChain calls `__arg1`."""
    try:
        given: Any = json.loads(text)
    except ValueError:
        given = text
    return cast("dict[str, Any]", given) if isinstance(given, dict) else {"__arg1": given}

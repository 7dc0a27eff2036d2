"""Neutral messages, as the chat APIs have them, taken apart: OpenAI's shape and Anthropic's."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from interruptible._wire.native import with_native
from interruptible._wire.text import brief
from interruptible._wire.types import Message
from interruptible.formats._values import as_json, items, text_in, value_in


class NeutralCall(NamedTuple):
    """A call of a tool; `arguments` is JSON, or for a custom tool text."""

    id: str
    name: str
    arguments: str
    custom: bool = False


def plain(item: Any, **options: Any) -> dict[str, Any]:
    """What an SDK hands out, as JSON.

    Args:
        item: A dict, or an object with `model_dump`.
        options: Those of `model_dump`.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(item, Mapping):
        return cast("dict[str, Any]", item)
    if not hasattr(item, "model_dump"):
        msg = f"This takes dicts, or objects with `model_dump`; not {brief(repr(item))}. Dump it."
        raise TypeError(msg)
    return cast("dict[str, Any]", item.model_dump(mode="json", by_alias=True, **options))


def kept(message: Message, format: str, own: Any, again: Any) -> Message:  # noqa: A002
    """A message with what it was made of, if it needs that to come back as it was.

    Args:
        message: The message.
        format: The format of what it was made of.
        own: What it was made of.
        again: What is made of the message: the same, perhaps, with its keys in the same order.
    """
    is_same = json.dumps(again) == json.dumps(own)
    return message if is_same else with_native(message, format, own)


def function(call: str, name: str, arguments: str) -> dict[str, Any]:
    """One of the `tool_calls` of a neutral message."""
    return {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}


def said(text: str, calls: list[dict[str, Any]], others: Sequence[str]) -> Message:
    """A neutral message of the assistant.

    Args:
        text: Its words.
        calls: Its `tool_calls`.
        others: What else it has, to be named if there is nothing that can be said.
    """
    if not calls and not text.strip():
        text = " ".join(f"[{name}]" for name in others)
    message: Message = {"role": "assistant", "content": text or None}
    return {**message, "tool_calls": calls} if calls else message


def calls(message: Message) -> Iterator[NeutralCall]:
    """The calls of a message of the assistant. One without an id goes by its function's name."""
    for call in items(message.get("tool_calls")):
        tool: dict[str, Any] = call.get("custom") or call.get("function") or {}
        name, given = tool.get("name") or "", tool.get("input", tool.get("arguments"))
        arguments = given if isinstance(given, str) else as_json(given or {})
        yield NeutralCall(call.get("id") or name, name, arguments, "custom" in call)
    for block in _blocks(message, "tool_use"):
        yield NeutralCall(block["id"], block["name"], as_json(block["input"]))


def results(message: Message) -> Iterator[tuple[str, Any]]:
    """The results that a message brings: the call's id, and the content."""
    if message["role"] == "tool":
        name = message.get("tool_name") or message.get("name") or ""
        yield message.get("tool_call_id") or name, message.get("content") or ""
    for block in _blocks(message, "tool_result"):
        yield block["tool_use_id"], block.get("content") or ""


def words(content: Any) -> str:
    """All text of a content."""
    if isinstance(content, str):
        return content
    return "".join(text_in(x, "text") or text_in(x, "refusal") for x in items(content))


def parts(content: Any) -> list[dict[str, Any]]:
    """The parts of a content, as OpenAI's chat API has them, but for those that agents put out.

    What neither API has becomes text.
    """
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [part for block in items(content) for part in _part(block)]


def text_of(messages: Iterable[Message]) -> str:
    """What is text in messages, each a paragraph."""
    texts = ("\n".join(_texts(message.get("content"))) for message in messages)
    return "\n\n".join(text for text in texts if text)


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = [x for x in items(content) if value_in(x, "type") in ("text", "input_text")]
    return [x["text"] for x in parts if isinstance(x.get("text"), str)]


def _blocks(message: Message, kind: str) -> list[dict[str, Any]]:
    return [x for x in items(message.get("content")) if x.get("type") == kind]


def _part(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kind: Any = block.get("type")
    source: dict[str, Any] = block.get("source") or {}
    url: str | None = source.get("url")
    if source.get("type") == "base64":
        url = f"data:{source['media_type']};base64,{source['data']}"
    if kind in ("text", "image_url", "file", "input_audio"):
        yield block
    elif kind == "image" and url:
        yield {"type": "image_url", "image_url": {"url": url}}
    elif kind == "document" and source.get("type") == "base64":
        yield {"type": "file", "file": {"filename": block.get("title") or "file", "file_data": url}}
    elif kind == "document" and source.get("type") == "text":
        yield {"type": "text", "text": source["data"]}
    elif kind not in ("tool_use", "tool_result", "thinking", "redacted_thinking"):
        yield {"type": "text", "text": as_json(block)}

"""Messages of which nothing is known yet: what does not fit counts as what is not there."""

import json
from collections.abc import Sequence
from typing import Any, Final, cast

from interruptible._wire.native import changed
from interruptible._wire.types import Message

_OF_CONVERSE: Final = ("toolUse", "toolResult", "reasoningContent", "text")
"""The blocks of Bedrock's Converse have no type; their only key says what they are."""


def items(value: Any) -> list[Any]:
    """A list as a list, anything else as an empty one."""
    return list(cast("Sequence[Any]", value)) if isinstance(value, (list, tuple)) else []


def value_in(item: Any, key: str) -> Any:
    """What is in a field, or `None`."""
    return cast("dict[str, Any]", item).get(key) if isinstance(item, dict) else None


def text_in(item: Any, key: str) -> str:
    """The text in a field, or an empty one."""
    value = value_in(item, key)
    return value if isinstance(value, str) else ""


def is_blank(content: Any) -> bool:
    """Whether content says nothing."""
    return not (content.strip() if isinstance(content, str) else content)


def as_json(value: Any) -> str:
    """Any value as text."""
    return json.dumps(value, ensure_ascii=False)


def type_of(block: Any) -> str:
    """What a block is, or nothing; those of Bedrock's Converse say it by their key."""
    if isinstance(block, dict) and "type" not in block:
        return next((key for key in _OF_CONVERSE if key in block), "")
    return text_in(block, "type")


def is_blank_text(block: Any) -> bool:
    """Whether it is a block of text that says nothing."""
    return type_of(block) == "text" and is_blank(block.get("text"))


def not_blank(content: Any) -> list[Any]:
    """The blocks of a content without those of text that say nothing."""
    return [block for block in items(content) if not is_blank_text(block)]


def with_items(message: Message, new: list[Any]) -> Message:
    """A message, or a result, with this content; the same if it has it already."""
    is_same = items(message.get("content")) == new
    return message if is_same else changed(message, {**message, "content": new})

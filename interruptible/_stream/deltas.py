"""Which events are deltas, and what replaces them. Pure."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from interruptible.formats._calls import id_answered

Told: TypeAlias = dict[str, Any]
"""An event without its id and turn."""

TEXT: Final = ""
"""What stands for the words of the model where else the id of a call stands."""


def delta_of(event: Told) -> str | None:
    """What an event is a delta of: the model's words, or a call; `None` if it stays."""
    if event["type"] in ("text", "reasoning"):
        return TEXT
    return str(event["call"]) if event["type"] == "output" else None


def replaces(event: Told) -> Callable[[str], bool] | None:
    """Which deltas an event replaces, if any."""
    if event["type"] == "turn":
        return lambda _: True
    if event["type"] != "message":
        return None
    calls = answered(event["message"])
    speaks = event["message"].get("role") == "assistant"
    return (lambda of: speaks if of == TEXT else of in calls) if speaks or calls else None


def answered(message: dict[str, Any]) -> list[str]:
    """The calls of which a message has the results."""
    content: Any = message.get("content")
    parts: list[Any] = [message, *(content if isinstance(content, list) else [])]
    return [call for x in parts if isinstance(x, dict) and (call := id_answered(x))]

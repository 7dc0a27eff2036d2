"""The messages in what the nodes and tools of LangGraph give."""

from collections.abc import Iterator
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    RemoveMessage,
    ToolMessage,
    convert_to_messages,
)
from langgraph.types import Command


def said_in(update: Any) -> Iterator[BaseMessage]:
    """What a node has said.

    What one says that removes messages as a person or the system is no new one: it rewrites the
    history that the model is told.
    """
    messages = [*messages_in(update)]
    rewrites = any(isinstance(x, RemoveMessage) for x in messages)
    return (x for x in messages if not rewrites or isinstance(x, (AIMessage, ToolMessage)))


def messages_in(value: Any) -> Iterator[BaseMessage]:
    """The messages in what a node or a tool returns, or in a state."""
    if isinstance(value, BaseMessage):
        yield value
    elif isinstance(value, Command):
        yield from messages_in(cast("Any", value).update)
    elif isinstance(value, (list, tuple)):
        for part in cast("list[Any]", value):
            yield from messages_in(part)
    else:
        own = cast("Any", value) if isinstance(value, dict) else getattr(value, "__dict__", {})
        given: Any = own.get("messages") or []
        yield from convert_to_messages(cast("Any", given if isinstance(given, list) else [given]))

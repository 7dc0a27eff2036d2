"""How AG-UI tells a message, event by event. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from ag_ui.core import (
    BaseEvent,
    Message,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCall,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
    ToolMessage,
)


@dataclass
class Growing:
    """Words that come piece by piece: how their message is named, and how it is called so far."""

    name: str
    called: str
    has: str = ""
    """What the client has of it."""
    said: str = ""
    """What has come of it; the client may have had more, from another run."""


def begun(text: Growing) -> BaseEvent:
    """The assistant begins to say something."""
    return TextMessageStartEvent(message_id=text.called, role="assistant")


def call_told(call: ToolCall, parent: str) -> Iterator[BaseEvent]:
    """A call of a tool, in a message of the assistant."""
    name = call.function.name
    yield ToolCallStartEvent(tool_call_id=call.id, tool_call_name=name, parent_message_id=parent)
    yield ToolCallArgsEvent(tool_call_id=call.id, delta=call.function.arguments)
    yield ToolCallEndEvent(tool_call_id=call.id)


def result_told(made: ToolMessage) -> BaseEvent:
    """What a tool has given."""
    return ToolCallResultEvent(
        message_id=made.id, tool_call_id=made.tool_call_id, content=made.content, role="tool"
    )


def words_told(made: Message) -> Iterator[BaseEvent] | None:
    """A message of a user, or of the system; `None` if it has more than words."""
    content, role = made.content, made.role
    if role not in ("user", "system", "developer") or not isinstance(content, str):
        return None
    whole = [TextMessageContentEvent(message_id=made.id, delta=content)] if content else []
    start = TextMessageStartEvent(message_id=made.id, role=role)
    return iter([start, *whole, TextMessageEndEvent(message_id=made.id)])

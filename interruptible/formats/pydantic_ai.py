"""Pydantic AI's messages: requests and responses, with their parts.

They are those of pydantic-ai-slim 2, which has to be installed.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import ValidationError
from pydantic_ai import messages as said

from interruptible._wire.native import native, with_native
from interruptible._wire.types import Message
from interruptible.formats import _neutral

__all__ = ["from_messages", "to_messages"]

FORMAT: Final = "pydantic-ai"
_CHANGING: Final = ("timestamp", "run_id", "conversation_id")
"""What is another in each attempt, or in each run."""

_FEEDBACK: Final = ("retry-feedback", "retry-prompt")
"""The parts, of newer and of older versions, that ask the model to try again."""


def to_messages(messages: Iterable[said.ModelMessage]) -> list[Message]:
    """Make messages of the framework's, to be put out by a task.

    Each response of a model is one message, and so is each part of a request. All have the
    framework's own as their native form, without what is another in each attempt.

    Args:
        messages: What `result.new_messages()` gives, for example.
    """
    made: list[Message] = []
    for message in messages:
        if isinstance(message, said.ModelResponse):
            made.append(with_native(_said(message), FORMAT, _dumped(message)))
            continue
        given = [(_given(part), _dumped(said.ModelRequest([part]))) for part in message.parts]
        made += [with_native(neutral, FORMAT, own) for neutral, own in given if neutral]
    return made


def from_messages(messages: Iterable[Message]) -> list[said.ModelMessage]:
    """Make the framework's messages, for a run's `message_history`.

    A message comes back as it was, if it still has that as its native form; all others are made
    anew.

    Args:
        messages: `task.messages`, for example; of any provider.
    """
    made: list[said.ModelMessage] = []
    names: dict[str, str] = {}
    for message in messages:
        own = _read(native(message, FORMAT))
        names |= {call.id: call.name for call in _neutral.calls(message)}
        if own is not None:
            made.append(own)
        elif message["role"] == "assistant":
            made.append(said.ModelResponse([*_response_parts(message)]))
        else:
            made.append(said.ModelRequest([*_request_parts(message, names)]))
    return [message for message in made if message.parts]


# -- From the framework's. -------------------------------------------------------------------------


def _said(message: said.ModelResponse) -> Message:
    calls = [
        _neutral.function(x.tool_call_id, x.tool_name, x.args_as_json_str())
        for x in message.tool_calls
    ]
    others = [x.part_kind for x in message.parts if x.part_kind not in ("text", "thinking")]
    return _neutral.said(message.text or "", calls, others)


def _given(part: said.ModelRequestPart) -> Message | None:
    """The neutral message of a part; none of what only the framework needs to know."""
    if isinstance(part, said.ToolReturnPart):
        text = part.model_response_str()
        return {"role": "tool", "tool_call_id": part.tool_call_id, "content": text}
    if part.part_kind in _FEEDBACK:
        return _feedback(part)
    if isinstance(part, said.UserPromptPart):
        given = part.content
        content = given if isinstance(given, str) else [*map(_part, given)]
        return {"role": "user", "content": content}
    return None


def _feedback(part: Any) -> Message:
    text: str = part.model_response()
    if getattr(part, "tool_name", None):
        return {"role": "tool", "tool_call_id": part.tool_call_id, "content": text}
    return {"role": "user", "content": text}


def _part(content: said.UserContent) -> dict[str, Any]:
    if isinstance(content, (str, said.TextContent)):
        text = content if isinstance(content, str) else content.content
        return {"type": "text", "text": text}
    if isinstance(content, said.ImageUrl):
        return {"type": "image_url", "image_url": {"url": content.url}}
    if isinstance(content, said.BinaryContent) and content.is_image:
        return {"type": "image_url", "image_url": {"url": content.data_uri}}
    if isinstance(content, said.BinaryContent):
        file = {"filename": content.identifier, "file_data": content.data_uri}
        return {"type": "file", "file": file}
    return {"type": "text", "text": f"[{getattr(content, 'url', None) or content.kind}]"}


def _dumped(message: said.ModelMessage) -> dict[str, Any]:
    whole: dict[str, Any] = said.ModelMessagesTypeAdapter.dump_python([message], mode="json")[0]
    lean = {**_lean(whole), "parts": [_lean(part) for part in whole["parts"]]}
    if "usage" in lean:
        lean["usage"] = {key: x for key, x in lean["usage"].items() if x}
    return lean


def _lean(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: x
        for key, x in value.items()
        # A result that is `None` is one all the same.
        if (x is not None or key == "content") and key not in _CHANGING
    }


# -- To the framework's. ---------------------------------------------------------------------------


def _read(own: Any) -> said.ModelMessage | None:
    """A message as it was; none if this version of the framework does not take it."""
    if own is None:
        return None
    try:
        [message] = said.ModelMessagesTypeAdapter.validate_python([own])
    except ValidationError:
        return None
    return message


def _response_parts(message: Message) -> Iterator[said.ModelResponsePart]:
    if text := _neutral.words(message.get("content")) or message.get("refusal"):
        yield said.TextPart(text)
    for call in _neutral.calls(message):
        yield said.ToolCallPart(call.name, call.arguments, call.id)


def _request_parts(message: Message, names: dict[str, str]) -> Iterator[said.ModelRequestPart]:
    for call, result in _neutral.results(message):
        content: Any = result
        if not isinstance(result, str):
            content = [*map(_content, _neutral.parts(result))]
        yield said.ToolReturnPart(names.get(call, "tool"), content, call)
    if message["role"] == "tool":
        return
    content = message.get("content")
    if message["role"] in ("system", "developer"):
        yield said.SystemPromptPart(_neutral.words(content))
    elif isinstance(content, str):
        yield said.UserPromptPart(content)
    elif parts := [*map(_content, _neutral.parts(content))]:
        yield said.UserPromptPart(parts)


def _content(part: dict[str, Any]) -> said.UserContent:
    if part["type"] == "text":
        return str(part["text"])
    url = part["image_url"]["url"] if part["type"] == "image_url" else None
    url = url or part.get("file", {}).get("file_data")
    if part["type"] == "input_audio":
        audio: dict[str, Any] = part["input_audio"]
        url = f"data:audio/{audio['format']};base64,{audio['data']}"
    if url is None:
        return f"[{part['type']}]"
    if not url.startswith("data:"):
        return said.ImageUrl(url)
    try:
        return said.BinaryContent.from_data_uri(url)
    except ValueError:  # whoever sends it is no reason to refuse all that is ever said after it
        return f"[{part['type']}]"

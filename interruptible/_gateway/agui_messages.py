"""Messages as AG-UI writes them, from and to neutral ones. Pure."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ag_ui.core import (
    AssistantMessage,
    AudioPart,
    ContentPart,
    DataSource,
    DeveloperMessage,
    DocumentPart,
    FileSource,
    FunctionCall,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UrlSource,
    UserMessage,
    VideoPart,
)

from interruptible._wire import types as wire
from interruptible.formats._neutral import NeutralCall, calls, parts, results, words
from interruptible.formats._values import as_json, items, text_in, type_of, value_in

AG_UI: Final = "ag-ui"
"""Under which the metadata of a session's message has what AG-UI calls it: `{"message": …}`."""
_OF_ROLE: Final = {"system": SystemMessage, "developer": DeveloperMessage}


def to_content(content: str | Sequence[ContentPart]) -> str | list[dict[str, Any]]:
    """What a user of AG-UI has said, as the content of a message to an agent.

    Raises:
        ValueError: There is something in it that no chat API takes; says what.
    """
    return content if isinstance(content, str) else [_to_part(x) for x in content]


def to_messages(message: wire.Message, id: str) -> list[Message]:  # noqa: A002
    """What AG-UI calls one message of a session: several, if it has the results of several calls.

    Args:
        message: The message, as the record or the stream shows it.
        id: What it is called, unless a client of AG-UI has said it, and named it.
    """
    content: Any = message.get("content")
    role = message.get("role")
    if isinstance(content, list):  # nobody has checked what is in it
        content = [x for x in items(content) if isinstance(x, dict)]
        message = {**message, "content": content}
    if role == "assistant":
        made = [ToolCall(id=x.id, function=_function(x)) for x in calls(message)]
        return [AssistantMessage(id=id, content=words(content) or None, tool_calls=made or None)]
    if plain := _OF_ROLE.get(role or ""):
        return [plain(id=id, content=words(content))]
    found = list(results({"role": role, **message}))
    answers: list[Message] = [
        ToolMessage(
            id=id if len(found) == 1 else f"{id}.{n}", tool_call_id=call, content=_content_shown(x)
        )
        for n, (call, x) in enumerate(found)
    ]
    if role == "tool" or (answers and not words(content)):
        return answers
    return [*answers, UserMessage(id=id_of_said(message) or id, content=_content_shown(content))]


def id_of_said(message: wire.Message) -> str | None:
    """What a client of AG-UI calls a message that it has sent, if it has."""
    if named := noted_of(message).get("message"):
        return named
    number = message.get("id")
    return f"said-{number}" if isinstance(number, int) else None


def noted_of(message: wire.Message) -> dict[str, str]:
    """What was noted of a message when a client of AG-UI sent it, if one has."""
    noted: Any = value_in(message.get("metadata"), AG_UI)
    told = {name: value_in(noted, name) for name in ("message", "sum", "run")}
    return {name: x for name, x in told.items() if isinstance(x, str)}


def thoughts(message: wire.Message) -> str:
    """What the assistant thought before it said this."""
    blocks = [x for x in items(message.get("content")) if type_of(x) == "thinking"]
    return "".join(text_in(x, "thinking") for x in blocks)


def same(one: Message, other: Message) -> bool:
    """Whether two messages say the same."""

    def told(x: Message) -> dict[str, Any]:
        dumped = x.model_dump(include={"role", "content", "tool_calls", "tool_call_id"})
        return {**dumped, "content": dumped.get("content") or ""}

    return told(one) == told(other)


def _to_part(part: ContentPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    source = part.source
    if isinstance(part, DocumentPart) and isinstance(source, FileSource):
        return {"type": "file", "file": {"file_id": source.value}}
    if isinstance(part, VideoPart) or isinstance(source, FileSource):
        raise ValueError(  # noqa: TRY004 - it is said to the client
            f"messages: the content has a {part.type} by its {source.type}, which models do not "
            "take in a message. Send text, images, audio or documents, as data."
        )
    if isinstance(source, UrlSource) and not isinstance(part, ImagePart):
        wrong = f"messages: the {part.type} is an address. Send what is there, as data."
        raise ValueError(wrong)  # noqa: TRY004 - it is said to the client
    if isinstance(part, AudioPart):
        kind = (source.mime_type or "").split("/")[-1]
        return {"type": "input_audio", "input_audio": {"data": source.value, "format": kind}}
    is_data = isinstance(source, DataSource)
    url = f"data:{source.mime_type};base64,{source.value}" if is_data else source.value
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": "document", "file_data": url}}


def _function(call: NeutralCall) -> FunctionCall:
    """A call, with JSON as its arguments: a custom tool's are text, and others may be half said."""
    given = call.arguments
    try:
        json.loads(given)
    except ValueError:
        given = json.dumps({"input": given}) if given else "{}"
    return FunctionCall(name=call.name, arguments=given)


def _content_shown(content: Any) -> str | list[ContentPart]:
    """The content of a user's message, or of a tool's result: text, if it is nothing else."""
    if not isinstance(content, list):
        return words(content)
    shown = list(_from_parts(items(content)))
    if all(isinstance(x, TextPart) for x in shown):
        return "".join(x.text for x in shown if isinstance(x, TextPart))
    return shown


def _from_parts(content: list[Any]) -> Iterator[ContentPart]:
    for block in content:
        try:
            yield from map(_from_part, parts([block]))
        except (KeyError, TypeError, AttributeError, ValueError):  # nobody has checked it
            yield TextPart(text=as_json(block))


def _from_part(part: dict[str, Any]) -> ContentPart:
    if part["type"] == "text":
        return TextPart(text=part.get("text") or "")
    if part["type"] == "image_url":
        return ImagePart(source=_source(part["image_url"]["url"]))
    if part["type"] == "input_audio":
        audio = part["input_audio"]
        return AudioPart(
            source=DataSource(value=audio["data"], mime_type=f"audio/{audio['format']}")
        )
    if data := part["file"].get("file_data"):
        return DocumentPart(source=_source(data))
    return DocumentPart(source=FileSource(value=part["file"]["file_id"]))


def _source(url: str) -> DataSource | UrlSource:
    head, comma, value = url.partition(";base64,")
    if comma and head.startswith("data:"):
        return DataSource(value=value, mime_type=head.removeprefix("data:"))
    return UrlSource(value=url)

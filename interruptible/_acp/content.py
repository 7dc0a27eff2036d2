"""ACP's content blocks as the parts of a message's content, and back. Pure."""

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from acp import (
    audio_block,
    embedded_blob_resource,
    embedded_text_resource,
    image_block,
    resource_block,
    resource_link_block,
    text_block,
)
from acp.schema import (
    AudioContentBlock,
    BlobResourceContents,
    EmbeddedResourceContentBlock,
    ImageContentBlock,
    ResourceContentBlock,
    TextContentBlock,
    TextResourceContents,
)

from interruptible.formats._neutral import parts, words
from interruptible.formats._values import items, text_in, type_of, value_in

Block: TypeAlias = (
    TextContentBlock
    | ImageContentBlock
    | AudioContentBlock
    | ResourceContentBlock
    | EmbeddedResourceContentBlock
)
PromptPart: TypeAlias = dict[str, Any]

_SOUND: Final = {"mp3": "mpeg"}
"""Formats of sound that the chat API calls otherwise than their media type."""
_RESOURCE: Final = re.compile(r'<resource uri="([^"\n]*)">\n(.*)\n</resource>', re.DOTALL)
_DATA: Final = re.compile(r"data:([^;,]*);base64,(.*)", re.DOTALL)


# -- What an editor says. --------------------------------------------------------------------------


def content_of_prompt(prompt: Sequence[Block]) -> str | list[PromptPart]:
    """What a user said, as a message's content: text alone is text."""
    if len(prompt) == 1 and isinstance(prompt[0], TextContentBlock):
        return prompt[0].text
    return [part_of_block(block) for block in prompt]


def part_of_block(block: Block) -> PromptPart:
    """A block as OpenAI's chat API has it; links and texts of resources become text."""
    if isinstance(block, TextContentBlock):
        return _text(block.text)
    if isinstance(block, ImageContentBlock):
        url = _data_url(block.mime_type, block.data) if block.data else block.uri or ""
        return {"type": "image_url", "image_url": {"url": url}}
    if isinstance(block, AudioContentBlock):
        kind = block.mime_type.partition("/")[2].removeprefix("x-")
        kind = next((name for name, x in _SOUND.items() if x == kind), kind)
        return {"type": "input_audio", "input_audio": {"data": block.data, "format": kind}}
    if isinstance(block, ResourceContentBlock):
        return _text(f"[{block.name}]({block.uri})")
    return _part_of_resource(block.resource)


def _part_of_resource(found: TextResourceContents | BlobResourceContents) -> PromptPart:
    if isinstance(found, TextResourceContents):
        return _text(f'<resource uri="{_escaped(found.uri)}">\n{found.text}\n</resource>')
    kind = found.mime_type or "application/octet-stream"
    url = _data_url(kind, found.blob)
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": _file_name(found.uri), "file_data": url}}


# -- What an editor is shown. ----------------------------------------------------------------------


def blocks_of_content(content: Any) -> list[Block]:
    """The content of a message as blocks; what has no block is left out."""
    if isinstance(content, str):
        return [text_block(content)] if content else []
    if isinstance(content, dict):
        return _blocks_of_part(content)  # pyright: ignore[reportUnknownArgumentType]
    return [block for part in items(content) for block in _blocks_of_part(part)]


def words_and_more(content: Any) -> tuple[str, list[Block]]:
    """What the assistant said in a message: its words, and what is no text."""
    blocks = blocks_of_content(content)
    more: list[Block] = [x for x in blocks if not isinstance(x, TextContentBlock)]
    return (words(content) if isinstance(content, (str, list)) else "", more)


def thoughts_in(message: PromptPart) -> str:
    """What the assistant thought, as far as a message says it."""
    blocks = items(message.get("content"))
    thought = [text_in(x, "thinking") for x in blocks if type_of(x) == "thinking"]
    return "".join(thought) or text_in(message, "reasoning_content")


def _blocks_of_part(given: Any) -> list[Block]:
    if isinstance(given, str):
        return [text_block(given)]
    kind = type_of(given)
    if kind in ("text", "input_text", "output_text", "refusal"):
        return _blocks_of_text(text_in(given, "text") or text_in(given, "refusal"))
    if kind not in ("image", "image_url", "document", "file", "input_audio"):
        return []
    try:
        return [block for part in parts([given]) for block in _block_of_media(part)]
    except (KeyError, TypeError, AttributeError, ValueError):  # nobody has checked what a tool gave
        return []


def _blocks_of_text(text: str) -> list[Block]:
    if found := _RESOURCE.fullmatch(text):
        return [resource_block(embedded_text_resource(_unescaped(found[1]), found[2]))]
    return [text_block(text)] if text else []


def _block_of_media(part: PromptPart) -> Iterator[Block]:
    if part["type"] == "text":
        yield text_block(part["text"])
    elif part["type"] == "image_url":
        url = text_in(part["image_url"], "url")
        data = _data_in(url)
        yield image_block(data[1], data[0]) if data else resource_link_block(url, url)
    elif part["type"] == "input_audio":
        sound = part["input_audio"]
        kind = sound["format"]
        yield audio_block(sound["data"], f"audio/{_SOUND.get(kind, kind)}")
    else:
        file = part["file"]
        name = text_in(file, "filename") or text_in(file, "file_id") or "file"
        if data := _data_in(value_in(file, "file_data")):
            contents = embedded_blob_resource(name, data[1], mime_type=data[0])
            yield resource_block(contents)
        else:
            yield resource_link_block(name, name)


def _text(text: str) -> PromptPart:
    return {"type": "text", "text": text}


def _data_url(kind: str, data: str) -> str:
    return f"data:{kind};base64,{data}"


def _data_in(url: Any) -> tuple[str, str] | None:
    """The media type and the data of a `data:` URL."""
    found = _DATA.fullmatch(url) if isinstance(url, str) else None
    if found is None:
        return None
    try:
        whole = b64encode(b64decode(found[2], validate=True)).decode()
    except (Error, ValueError):
        return None
    return found[1] or "application/octet-stream", whole


def _file_name(uri: str) -> str:
    return unquote(re.split(r"[?#]", uri)[0].rpartition("/")[2]) or "file"


def _escaped(uri: str) -> str:
    return uri.replace("&", "&amp;").replace('"', "&quot;").replace("\n", "&#10;")


def _unescaped(uri: str) -> str:
    return uri.replace("&#10;", "\n").replace("&quot;", '"').replace("&amp;", "&")

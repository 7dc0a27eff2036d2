"""How the dialects of chat APIs write a call and its result."""

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from interruptible._wire.checks import parse
from interruptible._wire.native import changed
from interruptible._wire.types import Message
from interruptible.formats._values import (
    as_json,
    items,
    not_blank,
    text_in,
    type_of,
    value_in,
    with_items,
)

Kind: TypeAlias = Literal["tool", "function", "tool_result", "toolResult"]
"""What answers a call: a message of this role, or a block of this type."""

Place: TypeAlias = tuple[str, int]
"""Where something stands in its message: in which field, and as which of its items."""


class Call(NamedTuple):
    """A call in a message of the assistant."""

    place: Place
    id: str
    """Empty where the dialect has none."""
    name: str
    kind: Kind
    by_name: bool
    """Whether its result tells its name, as Ollama's do."""
    half: bool
    """Whether its arguments are half said."""
    whole: Any
    """It, with its arguments as its provider takes them."""


class Form(NamedTuple):
    """How a dialect writes a call."""

    kind: Kind
    inside: tuple[str, ...]
    """The keys under one of which its name and arguments stand; none if it has them itself."""
    id: str
    """The key of its id, there or beside it; empty where the dialect has none."""
    arguments: str
    is_block: bool
    """A block has to have an id, and its arguments are an object; others have them as text."""


_FORMS: Final = {
    ("tool_calls", ""): Form("tool", ("function", "custom"), "id", "arguments", is_block=False),
    ("function_call", ""): Form("function", (), "", "arguments", is_block=False),
    ("content", "tool_use"): Form("tool_result", (), "id", "input", is_block=True),
    ("content", "toolUse"): Form("toolResult", ("toolUse",), "toolUseId", "input", is_block=True),
}
"""By the field of the message, and in its content by the type of the block."""
_SERVER_TOOLS: Final = ("server_tool_use", "mcp_tool_use")


def calls_of(message: Message) -> list[Call]:
    """The calls of a message, in order; what is malformed is none, nor is a second of one id."""
    calls: dict[str | Place, Call] = {}
    for place, item, form in in_places(message):
        if form is not None and (call := _call(place, item, form)):
            calls.setdefault(call.id or place, call)
    return list(calls.values())


def in_places(message: Message) -> Iterator[tuple[Place, Any, Form | None]]:
    """What the assistant said that may be a call: its place, and its form if it is meant as one."""
    for field in ("tool_calls", "content", "function_call"):
        value = message.get(field) if message.get("role") == "assistant" else None
        for index, item in enumerate([value] if field == "function_call" else items(value)):
            form = _FORMS.get((field, type_of(item) if field == "content" else ""))
            is_servers = form is not None and form.is_block and server_use(item) is not None
            yield (field, index), item, None if is_servers else form


def server_use(block: Any) -> str | None:
    """The id of a call of the provider's own tool, empty if it is malformed; `None` for no such."""
    is_converses = type_of(block) == "toolUse"
    use, key = (block["toolUse"], "toolUseId") if is_converses else (block, "id")
    if value_in(use, "type") not in _SERVER_TOOLS:
        return None
    return text_in(use, key) if isinstance(value_in(use, "input"), dict) else ""


def id_answered(given: Any) -> str | None:
    """The id of the call of a result, empty if it tells none; `None` if it is no result."""
    if value_in(given, "role") in ("tool", "function"):
        return text_in(given, "tool_call_id")
    if type_of(given) == "tool_result":
        return text_in(given, "tool_use_id")
    return text_in(given["toolResult"], "toolUseId") if type_of(given) == "toolResult" else None


def answers(given: Message, call: Call) -> bool:
    """Whether a result is that of a call: by its id, or else by its name."""
    if id_ := id_answered(given):
        return call.id == id_
    name = text_in(given, "tool_name") or text_in(given, "name")
    return given.get("role") == call.kind and (call.name == name if name else not call.id)


def result_for(call: Call, content: str) -> Message:
    """A result for a call that has none: a message, or a block."""
    match call.kind:
        case "tool":
            by_id = {"tool_call_id": call.id} if call.id else {}
            by_name = {"tool_name": call.name} if call.by_name else {}
            return {"role": "tool", **by_id, **by_name, "content": content}
        case "function":
            return {"role": "function", "name": call.name, "content": content}
        case "tool_result":
            block = {"type": "tool_result", "tool_use_id": call.id, "content": content}
            return {**block, "is_error": True}
        case "toolResult":
            text = [{"text": content}]
            return {"toolResult": {"toolUseId": call.id, "content": text, "status": "error"}}


def fit(given: Message, nothing: str) -> Message:
    """A result, message or block, with content that its provider takes.

    Args:
        given: The result; if it does not change, it is the same object.
        nothing: What stands for no content where there has to be some.
    """
    if type_of(given) == "toolResult":
        inner = given["toolResult"]
        content = inner.get("content")
        if not isinstance(content, (list, tuple)):
            content = [{"text": content if isinstance(content, str) else as_json(content)}]
        whole = with_items(inner, not_blank(content) or [{"text": nothing}])
        return given if whole is inner else {**given, "toolResult": whole}
    is_message = "role" in given
    content = given.get("content", None if is_message else "")
    if isinstance(content, str) or (is_message and items(content)):
        return given
    if isinstance(content, (list, tuple)) and not is_message:
        return with_items(given, not_blank(content))
    return changed(given, {**given, "content": as_json(content)})


def _call(place: Place, item: Any, form: Form) -> Call | None:
    key = next((key for key in form.inside if isinstance(value_in(item, key), dict)), "")
    body = item[key] if key else item
    id_, name = text_in(item, form.id) or text_in(body, form.id), text_in(body, "name")
    needs_name = form.kind != "tool" or value_in(item, "function") is not None
    needs_id = form.is_block or not name
    if (needs_name and not name) or (needs_id and not id_):
        return None
    given = value_in(body, form.arguments)
    arguments, half = _arguments(given, is_block=form.is_block)
    # Calls of Ollama's may have no arguments, and a custom tool has other ones.
    is_without = form.kind == "tool" and form.arguments not in body
    if given != arguments and not is_without:
        body = {**body, form.arguments: arguments}
        item = {**item, key: body} if key else body
    by_name = not id_ or isinstance(given, dict)
    return Call(place, id_, name, form.kind, by_name, half, item)


def _arguments(given: Any, *, is_block: bool) -> tuple[Any, bool]:
    """The arguments of a call as its provider takes them, and whether they are half said."""
    if isinstance(given, dict):
        return cast("Message", given), False
    parsed = given
    if isinstance(given, str):
        parsed = parse(given.strip().encode(errors="surrogatepass"))
    if isinstance(parsed, dict):
        return (cast("Message", parsed) if is_block else given), False
    half = bool(parsed) or isinstance(parsed, (int, float))
    whole = {"malformed": given} if half else {}
    return (whole if is_block else as_json(whole)), half

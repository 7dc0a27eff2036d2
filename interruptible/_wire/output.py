"""What a task puts out, as messages that can be stored and sent to a model again.

All that gets into the record otherwise than by `message` goes through here: it leaves as UTF-8
JSON, or it is refused at the call.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeGuard, cast

from restate import TerminalError
from typing_extensions import Never

from interruptible._wire.native import closed
from interruptible._wire.text import brief, mended
from interruptible._wire.types import MAX_DEPTH, Message

MAX_NESTING: Final = 2 * MAX_DEPTH
"""How deep a message that is put out may be nested: what came in fits, also within a result."""


class HasModelDump(Protocol):
    """What SDKs hand out: an object of OpenAI's, Anthropic's, or any other that Pydantic makes."""

    def model_dump(self, *, mode: str = ..., exclude_none: bool = ...) -> Any: ...


OutputMessage: TypeAlias = str | Mapping[str, Any] | HasModelDump
"""Text, which stands for a message of the assistant; a message; or what an SDK hands out as one."""

Output: TypeAlias = OutputMessage | Sequence[OutputMessage] | None
"""What a turn puts out: a message, a list of messages, or nothing."""


class WrongOutput(TerminalError, TypeError):
    """Something that a turn cannot put out: the mistake is the same in each attempt."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, 500)


class Conversation(list[Message]):
    """The messages of a task, to be read: what is added to them would be in no record."""

    def _refuse(self, *_: Any, **__: Any) -> None:
        raise WrongOutput(
            "`task.messages` cannot be changed, as that would be in no record. Put out messages "
            "with `task.append`; what the model alone is to see, in a list of your own: "
            "`[*task.messages, message]`."
        )

    if TYPE_CHECKING:

        def append(self, item: Never, /) -> None: ...  # type: ignore[override]
        def extend(self, items: Never, /) -> None: ...  # type: ignore[override]
        def insert(self, at: Never, item: Never, /) -> None: ...  # type: ignore[override]
        def __setitem__(self, at: Never, item: Never, /) -> None: ...  # type: ignore[override]
    else:
        append = extend = insert = remove = pop = clear = sort = reverse = _refuse
        __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def __reduce_ex__(self, _: Any) -> tuple[type[list[Any]], tuple[list[Message]]]:
        return list, (list(self),)  # a copy is one's own

    def grow(self, messages: Iterable[Message]) -> None:
        """Add what is in the record, too."""
        list[Message].extend(self, messages)


def output(value: Any) -> list[Message]:
    """What a body put out, as messages.

    Args:
        value: Nothing, text, a message, what an SDK hands out as one, or a list of these.

    Raises:
        WrongOutput: It is none of these, or no JSON.
    """
    return _all_messages(value, "assistant")


def new_output(value: Any, known: Sequence[Message]) -> list[Message]:
    """What a body put out, unless it is in the conversation already."""
    if any(said is message for said in _each(value) for message in known):
        raise WrongOutput(
            "A message that is put out is in the conversation already, and would be in it twice. "
            "Put out the new ones only."
        )
    return output(value)


def told(
    hook: str, value: Any, role: str = "assistant", known: Iterable[Message] = ()
) -> list[Message]:
    """What a method of the agent tells the model, as messages.

    Args:
        hook: The method.
        value: What it returned.
        role: Whose message text stands for.
        known: Messages of the record: they are what they have to be.

    Raises:
        WrongOutput: It is none of what can be put out.
    """
    recorded = {id(message) for message in known}
    try:
        return [
            message
            for said in _each(value)
            for message in ([said] if id(said) in recorded else _all_messages([said], role))
        ]
    except WrongOutput as error:
        msg = f"What `{hook}` returned cannot be told to the model. {error.message}"
        raise WrongOutput(msg) from None


def stored(value: Any) -> Any:
    """A value as UTF-8 JSON has it.

    Text is mended: two halves of a surrogate pair are joined, and what is half a pair becomes
    U+FFFD.

    Raises:
        WrongOutput: It has what is no JSON, or is nested too deep.
    """
    return _stored(value, ())


def text_of(messages: Iterable[Message]) -> str:
    """What is text in messages, each a paragraph."""
    texts = ["\n".join(_texts(message.get("content"))) for message in messages]
    return "\n\n".join(text for text in texts if text)


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = [part for part in _each(content) if _is_mapping(part)]
    texts = [part.get("text") for part in parts if part.get("type") in ("text", "input_text")]
    return [text for text in texts if isinstance(text, str)]


def _each(value: Any) -> Sequence[Any]:
    return value if _is_list(value) else (value,)


def _all_messages(value: Any, role: str) -> list[Message]:
    # One by one, so that where a message is makes no difference to how deep it may be nested.
    try:
        return [
            message for said in _each(value) for message in _messages(stored(closed(said)), role)
        ]
    except WrongOutput:
        raise
    except Exception as error:  # of the object's own making, or it contains itself
        reason = f"{type(error).__name__}: {error}"
        raise WrongOutput(f"What was put out cannot be read: {brief(mended(reason))}") from error


def _messages(value: Any, role: str) -> list[Message]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, list):
        return [message for said in _each(value) for message in _messages(said, role)]
    if not isinstance(value, dict):
        raise _no_message(value)
    message = cast("Message", value)
    content = "content" in message or any(map(message.get, INSTEAD_OF_CONTENT))
    if not isinstance(message.get("role"), str) or not content:
        msg = f"A message has a `role` and a `content`; this one is {brief(message)}."
        raise WrongOutput(msg)
    return [message]


def _no_message(value: Any) -> WrongOutput:
    return WrongOutput(
        "A turn puts out text, a message, a list of messages, or nothing; not "
        f"{type(value).__name__}. Return or append one of these."
    )


INSTEAD_OF_CONTENT: Final = ("tool_calls", "function_call", "refusal", "audio")
"""What OpenAI takes of an assistant that says nothing (`ChatCompletionAssistantMessageParam`)."""


# -- As JSON. --------------------------------------------------------------------------------------

_Place: TypeAlias = tuple[str | int, ...]


def _stored(value: Any, at: _Place) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return mended(str.__str__(value))
    if isinstance(value, (int, float)):
        return _number(value, at)
    if len(at) >= MAX_NESTING:
        raise _wrong(at[:1], f"is nested more than {MAX_NESTING} levels deep. Flatten it")
    if _is_mapping(value):
        return {_key(key, at): _stored(x, (*at, str(key))) for key, x in value.items()}
    if _is_list(value):
        return [_stored(x, (*at, index)) for index, x in enumerate(value)]
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return _stored(_sent_back(_dumped(value, dump)), at)
    if not at:
        raise _no_message(value)
    raise _wrong(
        at, f"is {_named(value)}, which is no JSON. Make it text, a number, a list, a dict"
    )


def _number(value: float, at: _Place) -> float:
    try:
        finite = math.isfinite(value)
    except OverflowError:  # JavaScript, for one, reads it as infinity
        finite = False
    if not finite:
        raise _wrong(at, "is a number that is not finite, or too large for JSON. Make it text")
    return int(value) if isinstance(value, int) else float(value)


def _key(key: Any, at: _Place) -> str:
    if isinstance(key, str):
        return mended(str.__str__(key))
    if isinstance(key, int) and not isinstance(key, bool):
        return str(_number(key, at))
    raise _wrong(at, f"has a key {_named(key)}, which is no JSON. Make it text")


def _named(value: Any) -> str:
    return f"of the type `{type(value).__name__}`"


def _wrong(at: _Place, what: str) -> WrongOutput:
    place = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in at[-8:])
    where = f"`{brief(mended(place.removeprefix('.')))[1:-1]}`" if place else "it"
    return WrongOutput(f"What was put out cannot be stored: {where} {what}.")


def _is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(
        value, (str, bytes, bytearray, memoryview)
    )


# -- What SDKs hand out. ---------------------------------------------------------------------------

_RESPONSE_ONLY: Final = {"annotations", "parsed", "parsed_arguments", "parsed_output"}
"""What SDKs add to an answer for whoever reads it, and providers refuse in a request."""


def _dumped(value: Any, dump: Callable[..., Any]) -> Any:
    try:
        return dump(mode="json", exclude_none=True)
    except Exception as error:
        raise WrongOutput(f"`{type(value).__name__}.model_dump` failed: {error}") from error


def _sent_back(dumped: Any) -> Any:
    """Of what an SDK handed out, that which may go back into a request."""
    if not isinstance(dumped, dict):
        return dumped
    answer = cast("Message", dumped)
    kept = {key: x for key, x in answer.items() if key not in _RESPONSE_ONLY}
    if kept.get("type") == "message":  # Anthropic's has its id, model, usage and more
        kept = {key: kept[key] for key in ("role", "content") if key in kept}
    for name in ("content", "tool_calls"):
        if isinstance(kept.get(name), list):
            kept[name] = [_sent_back(x) for x in kept[name]]
    if isinstance(kept.get("citations"), list):
        for citation in kept["citations"]:
            if isinstance(citation, dict):
                cast("Message", citation).pop("file_id", None)
    if isinstance(kept.get("function"), dict):
        kept["function"] = _sent_back(kept["function"])
    if isinstance(kept.get("audio"), dict) and "role" in kept:
        kept["audio"] = {"id": kept["audio"].get("id")}  # all that OpenAI takes of it
    if "role" in kept and not any(name in kept for name in ("content", *INSTEAD_OF_CONTENT)):
        kept["content"] = ""  # it was null, which not every provider takes
    return kept

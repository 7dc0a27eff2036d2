"""What a task puts out, as messages that can be stored and sent to a model again.

All that gets into the record otherwise than by `message` goes through here: it leaves as UTF-8
JSON, or it is refused at the call.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeGuard, cast

from restate import TerminalError
from typing_extensions import Never

from interruptible._wire.native import to_stored
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


class WrongPlace(TerminalError, RuntimeError):
    """Something called where it can do nothing: the mistake is the same in each attempt."""

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


def output(value: Any, role: str = "assistant", known: Iterable[Message] = ()) -> list[Message]:
    """What a body put out, as messages.

    Args:
        value: Nothing, text, a message, what an SDK hands out as one, or a list of these.
        role: Whose message text stands for.
        known: Messages of the record: they are what they have to be.

    Raises:
        WrongOutput: It is none of these, or no JSON.
    """
    try:
        return _messages(value, role, {id(message) for message in known})
    except WrongOutput:
        raise
    except Exception as error:  # of the object's own making, or it contains itself
        reason = f"{type(error).__name__}: {error}"
        raise WrongOutput(f"What was put out cannot be read: {brief(mended(reason))}") from error


def new_output(value: Any, known: Sequence[Message]) -> list[Message]:
    """What a body put out, unless it is in the conversation already."""
    given = value if _is_list(value) else (value,)
    if any(said is message for said in given for message in known):
        raise WrongOutput(
            "A message that is put out is in the conversation already, and would be in it twice. "
            "Put out the new ones only."
        )
    return output(value)


def last_output(
    value: Any, known: Sequence[Message], answer: Message | None, meant: Any = None
) -> list[Message]:
    """What `run` returned, unless it is the answer that the turn has put out already.

    Args:
        value: What it returned.
        known: The conversation.
        answer: The turn's answer, if that has been put out; as it is stored.
        meant: What the answer is to the program, if that is known.
    """
    is_known = answer is not None and (value is meant or is_said(value, answer))
    return [] if is_known else new_output(value, known)


def is_said(value: Any, message: Message) -> bool:
    """Whether a message of the assistant says this: the same text, or what its JSON stands for."""
    said: Any = message.get("content")
    if message["role"] != "assistant" or not isinstance(said, str) or message.get("tool_calls"):
        return False
    if isinstance(value, str):
        return said == mended(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    try:
        return bool(json.loads(said) == stored(value))
    except (ValueError, WrongOutput):
        return False


def told_to_model(
    hook: str, value: Any, role: str = "assistant", known: Iterable[Message] = ()
) -> list[Message]:
    """What a method of the agent, the hook, tells the model; all else as for `output`."""
    try:
        return output(value, role, known)
    except WrongOutput as error:
        msg = f"What `{hook}` returned cannot be told to the model. {error.message}"
        raise WrongOutput(msg) from None


def stored(value: Any, at: tuple[str | int, ...] = ()) -> Any:
    """A value as UTF-8 JSON has it.

    Text is mended: two halves of a surrogate pair are joined, and what is half a pair becomes
    U+FFFD.

    Args:
        value: The value.
        at: Where it is in what was put out, for the errors.

    Raises:
        WrongOutput: It has what is no JSON, or is nested too deep.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return mended(str.__str__(value))
    if isinstance(value, (int, float)):
        if not abs(value) <= sys.float_info.max:  # JavaScript, for one, reads more as infinity
            raise _wrong(at, "is a number that is not finite, or too large for JSON. Make it text")
        return int(value) if isinstance(value, int) else float(value)
    if len(at) >= MAX_NESTING:
        raise _wrong(at[:1], f"is nested more than {MAX_NESTING} levels deep. Flatten it")
    if _is_mapping(value):
        return {_key(key, at): stored(x, (*at, str(key))) for key, x in value.items()}
    if _is_list(value):
        return [stored(x, (*at, index)) for index, x in enumerate(value)]
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return stored(_sent_back(_dumped(value)), at)
    if not at:
        raise _no_message(value)
    raise _wrong(
        at, f"is {_named(value)}, which is no JSON. Make it text, a number, a list, a dict"
    )


# -- As messages. ----------------------------------------------------------------------------------

INSTEAD_OF_CONTENT: Final = ("tool_calls", "function_call", "refusal", "audio")
"""What OpenAI takes of an assistant that says nothing (`ChatCompletionAssistantMessageParam`)."""


def _messages(value: Any, role: str, known: set[int]) -> list[Message]:
    if id(value) in known:
        return [value]
    if _is_list(value):
        return [message for said in value for message in _messages(said, role, known)]
    given = stored(to_stored(value))
    if given is None or given == "":
        return []
    if isinstance(given, str):
        return [{"role": role, "content": given}]
    if _is_list(given):  # what an SDK handed out
        return _messages(given, role, known)
    if not isinstance(given, dict):
        raise _no_message(given)
    message = cast("Message", given)
    has_content = "content" in message or any(map(message.get, INSTEAD_OF_CONTENT))
    if not isinstance(message.get("role"), str) or not has_content:
        msg = f"A message has a `role` and a `content`; this one is {brief(message)}."
        raise WrongOutput(msg)
    return [message]


def _no_message(value: Any) -> WrongOutput:
    return WrongOutput(
        "A turn puts out text, a message, a list of messages, or nothing; not "
        f"{type(value).__name__}. Return or append one of these."
    )


# -- As JSON. --------------------------------------------------------------------------------------


def _key(key: Any, at: tuple[str | int, ...]) -> str:
    if isinstance(key, str):
        return mended(str.__str__(key))
    if isinstance(key, int) and not isinstance(key, bool):
        return str(stored(key, at))
    raise _wrong(at, f"has a key {_named(key)}, which is no JSON. Make it text")


def _named(value: Any) -> str:
    return f"of the type `{type(value).__name__}`"


def _wrong(at: tuple[str | int, ...], what: str) -> WrongOutput:
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

_RESPONSE_ONLY: Final = ("annotations", "parsed", "parsed_arguments", "parsed_output")
"""What SDKs add to an answer for whoever reads it, and providers refuse in a request."""
_PARTS: Final = ("content", "tool_calls", "citations")
"""The fields with a list of what may have such, too."""


def _dumped(value: HasModelDump) -> Any:
    try:
        return value.model_dump(mode="json", exclude_none=True)
    except Exception as error:
        raise WrongOutput(f"`{type(value).__name__}.model_dump` failed: {error}") from error


def _sent_back(dumped: Any, refused: Sequence[str] = _RESPONSE_ONLY) -> Any:
    """Of what an SDK handed out, that which may go back into a request."""
    if not isinstance(dumped, dict):
        return dumped
    kept = {key: x for key, x in cast("Message", dumped).items() if key not in refused}
    if kept.get("type") == "message":  # Anthropic's has its id, model, usage and more
        kept = {key: kept[key] for key in ("role", "content") if key in kept}
    for name in _PARTS:
        if isinstance(kept.get(name), list):
            inside = ("file_id",) if name == "citations" else _RESPONSE_ONLY
            kept[name] = [_sent_back(x, inside) for x in kept[name]]
    if isinstance(kept.get("function"), dict):
        kept["function"] = _sent_back(kept["function"])
    if "role" in kept:
        if isinstance(kept.get("audio"), dict):
            kept["audio"] = {"id": kept["audio"].get("id")}  # all that OpenAI takes of it
        if not any(name in kept for name in ("content", *INSTEAD_OF_CONTENT)):
            kept["content"] = ""  # it was null, which not every provider takes
    return kept

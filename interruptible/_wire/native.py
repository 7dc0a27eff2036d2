"""The native form of a message: what a framework or a provider gave, beside the neutral message.

In memory it is an attribute of the message, so that whoever asks for no native form has a plain
`dict`. Stored, it is a key of the message, `native`. Knows only what a message is.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

from interruptible._wire.said import without_said
from interruptible._wire.types import Message

R = TypeVar("R", bound=Mapping[str, Any])

NATIVE: Final = "native"
"""Where a stored message has its native form: `{"format": …, "value": …}`."""


_MESSAGES: Final = ("input", "messages", "withdrawn")
"""What a record has messages in."""


class _Native(dict[str, Any]):
    """A message with a native form. Its copies, and what is made of it, have none."""

    __slots__ = ("form", "print")

    def __init__(self, message: Message, form: Message) -> None:
        super().__init__(message)
        self.form = form
        self.print = _print(self)


def with_native(message: Mapping[str, Any], format: str, value: Any) -> Message:  # noqa: A002
    """Give a message its native form, to be put out with `task.append` or by `run`.

    It is as large as both together: each counts for the 8 MiB of a turn.

    Args:
        message: The neutral message: what everybody else sees. It stays as it is.
        format: The format's name, by which `native` finds it.
        value: What the framework or provider gave, as JSON.

    Returns:
        The message, still a `dict`. A copy of it has no native form; nor has it any more once it is
        changed.
    """
    return _Native({**message}, {"format": format, "value": value})


def native(message: Mapping[str, Any], format: str) -> Any:  # noqa: A002
    """The native form of a message in a format, or `None`.

    Args:
        message: One of `task.messages`, for example.
        format: The format's name.
    """
    form = _form(message) or {}
    return form.get("value") if form.get("format") == format else None


def to_stored(message: Any) -> Any:
    """A message that a body put out as it is stored; anything else is as it was."""
    form = _form(message)
    return message if form is None else {**message, NATIVE: form}


def from_stored(message: Message) -> Message:
    """A stored message as tasks have it."""
    message = without_said(message)
    return _Native(without_native(message), message[NATIVE]) if _has_native(message) else message


def as_tasks_have(record: R) -> R:
    """A turn's record as tasks have it."""
    return _with_messages(record, from_stored)


def neutral(record: R, said: Callable[[Message], Message] = without_said) -> R:
    """A turn's record, or an outcome, as everybody else has it: without native forms.

    Args:
        record: The record.
        said: What is made of a message beside that; by default, what a model may see.
    """
    return _with_messages(record, lambda x: said(without_native(x) if _has_native(x) else x))


def _with_messages(record: R, change: Callable[[Message], Message]) -> R:
    names = [name for name in _MESSAGES if name in record]
    return cast("R", {**record, **{name: [*map(change, record[name])] for name in names}})


def changed(old: Message, new: Message) -> Message:
    """A stored message made of another: that one if it is equal, or else without its native."""
    return old if new == old else without_native(new)


def without_native(message: Message) -> Message:
    """A stored message without its native form."""
    return {key: value for key, value in message.items() if key != NATIVE}


def _form(message: Any) -> Message | None:
    # One that was changed in place is another message, which its native form may not fit.
    is_whole = isinstance(message, _Native) and message.print == _print(message)
    return message.form if is_whole else None


def _print(message: Message) -> int:
    return zlib.crc32(json.dumps(message, default=repr).encode())


def _has_native(message: Message) -> bool:
    form: Any = message.get(NATIVE)
    return isinstance(form, dict) and cast("Message", form).keys() == {"format", "value"}

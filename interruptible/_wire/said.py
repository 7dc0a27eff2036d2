"""What a session knows of a message that was said to it: its id, and what the caller noted of it.

Stored, it is a key of the message, `said`, and goes with it wherever it goes. No model sees it: in
a task, and in all that leaves by a public handler, the message is without it; only `get_turns`,
`get_status` and the stream show what it has. Knows only what a message is.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from interruptible._wire.types import Message

SAID: Final = "said"
"""Where a stored message has it: `{"id": …, "metadata": …}`."""


def with_id(message: Message, number: int) -> Message:
    """A message with its id; it may have one already."""
    return {**message, SAID: {**_said(message), "id": number}}


def with_metadata(message: Message, metadata: Mapping[str, Any] | None) -> Message:
    """A message with what the caller noted of it, if anything."""
    return {**message, SAID: {**_said(message), "metadata": metadata}} if metadata else message


def said_again(message: Message, of: Message) -> Message:
    """A message with what is known of another one, in whose place it stands."""
    return {**message, SAID: of[SAID]} if SAID in of else message


def id_of(message: Message) -> int:
    """The id of a stored message; 0 if it has none."""
    number: Any = _said(message).get("id")
    return number if isinstance(number, int) else 0


def ids_of(messages: Iterable[Message]) -> list[int]:
    """The ids of those of these messages that have one."""
    return [x for x in map(id_of, messages) if x]


def metadata_of(message: Message) -> Mapping[str, Any]:
    """What the caller noted of a stored message; nothing if they noted nothing."""
    noted: Any = _said(message).get("metadata")
    return cast("Mapping[str, Any]", noted) if isinstance(noted, dict) else {}


def without_said(message: Message) -> Message:
    """A stored message as a model may see it."""
    return {key: x for key, x in message.items() if key != SAID} if SAID in message else message


def as_shown(message: Message) -> Message:
    """A stored message as it is shown to who looks at the record."""
    return {**without_said(message), **_said(message)} if SAID in message else message


def _said(message: Message) -> Message:
    said: Any = message.get(SAID)
    return cast("Message", said) if isinstance(said, dict) else {}

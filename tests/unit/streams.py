"""A stream without a server: its handlers work on a state that is a dictionary."""

import json
from collections.abc import Coroutine
from typing import Any

from interruptible._stream.handlers import STREAM_HANDLERS

from .given import Given


class Kept:
    """The context of a handler of one stream: what is stored, and whom it has told."""

    def __init__(self) -> None:
        self.state: dict[str, bytes] = {}
        self.resolved: list[tuple[str, Any]] = []
        self.sent: list[tuple[str, str, bytes]] = []

    def get(self, name: str, serde: Any) -> Given[Any]:
        stored = self.state.get(name)
        return Given(None if stored is None else serde.deserialize(stored))

    def set(self, name: str, value: Any, serde: Any) -> None:
        self.state[name] = serde.serialize(value)

    def clear(self, name: str) -> None:
        self.state.pop(name, None)

    def key(self) -> str:
        return "session"

    def resolve_awakeable(self, name: str, value: Any, serde: Any) -> None:
        self.resolved.append((name, serde.deserialize(serde.serialize(value))))

    def generic_send(self, service: str, handler: str, arg: bytes, **_: Any) -> None:
        self.sent.append((service, handler, arg))

    def stored(self, name: str) -> Any:
        return json.loads(self.state.get(name, b"null"))

    @property
    def pages(self) -> list[str]:
        return [name for name in self.state if name.startswith("page/")]


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """What comes of something that waits for nobody."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("It waits.")


def call(ctx: Kept, handler: str, body: Any) -> Any:
    """What a handler answers."""
    chosen = STREAM_HANDLERS[handler]
    does: Any = chosen.does
    return at_once(does("Stream", ctx, body if chosen.body is None else chosen.body(body)))

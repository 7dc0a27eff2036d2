"""The stream: tokens as they come, for every page that shows a session, from whichever worker.

```python
from interruptible import Agent
from interruptible.stream import Stream


class Poet(Agent):
    stream = Stream()  # Restate's ingress is where RESTATE_INGRESS_URL says
```

Followers get the events with `Session.follow`. Needs the extra `stream`.
"""

import json
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from restate import VirtualObject

from interruptible._stream.events import (
    ApprovalEvent,
    DiscardedEvent,
    Event,
    GapEvent,
    MessageEvent,
    OutputEvent,
    PendingEvent,
    ReasoningEvent,
    SteeredEvent,
    TextEvent,
    ToolEvent,
    TurnBeginsEvent,
    TurnEndsEvent,
)
from interruptible._stream.handlers import stream_object
from interruptible._stream.publisher import Post, Publisher
from interruptible._stream.teller import Send, Teller
from interruptible._task.body import Streaming

try:
    from interruptible._ingress import Ingress
except ImportError as error:
    raise ImportError(
        f"interruptible.stream needs what its extra installs ({error}). Run: pip install "
        "'restate-interruptible[stream]'",
        name=error.name,
        path=error.path,
    ) from error

__all__ = [
    "ApprovalEvent",
    "DiscardedEvent",
    "Event",
    "GapEvent",
    "MessageEvent",
    "OutputEvent",
    "PendingEvent",
    "ReasoningEvent",
    "SteeredEvent",
    "Stream",
    "TextEvent",
    "ToolEvent",
    "TurnBeginsEvent",
    "TurnEndsEvent",
]

_log = logging.getLogger("interruptible.stream")


class Stream(Streaming):
    """Has an agent stream what its turns do: `Agent(..., stream=Stream())`.

    Each session then has an object `<Agent>Stream` in Restate, from which followers pull. What a
    turn *did* goes there from its task, durably. What its steps *say*, piece by piece, goes there
    through Restate's ingress; where that does not answer, a warning says so once, and the turn goes
    on.

    Args:
        ingress: The address of Restate's ingress; by default that of the environment variable
            `RESTATE_INGRESS_URL`, when it is first needed.
        headers: What the ingress wants besides, such as an API key.
        every: How often a turn publishes while its steps speak. What is said meanwhile goes
            together: more often costs the server more.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument makes no sense.
    """

    def __init__(
        self,
        *,
        ingress: str | None = None,
        headers: Mapping[str, str] | None = None,
        every: timedelta = timedelta(milliseconds=50),
    ) -> None:
        kinds: tuple[tuple[str, Any, Any, str], ...] = (
            ("ingress", ingress, (str, type(None)), "text, such as `http://localhost:8080`"),
            ("headers", headers, (Mapping, type(None)), "a dict of text"),
            ("every", every, timedelta, "a `datetime.timedelta`"),
        )
        for name, given, kind, written in kinds:
            if not isinstance(given, kind):
                raise TypeError(f"Stream: {name} is {given!r}. Write it as {written}.")
        if every < timedelta(0):
            raise ValueError(f"Stream: every={every} is in the past. Make it positive.")
        try:
            self._ingress = Ingress(ingress, headers)
        except ValueError as error:
            raise ValueError(f"Stream: {error}") from None
        self.every = every
        self._has_warned = False

    def object_of(self, agent: str) -> VirtualObject:
        """The virtual object of an agent's streams."""
        return stream_object(f"{agent}Stream")

    def new_key(self) -> str:
        """What nobody can guess, for a new turn."""
        return secrets.token_urlsafe(16)

    def teller(self, agent: str, session: str, turn: int, key: str, send: Send) -> Teller:
        """What tells the followers of a session of one attempt at a turn."""

        @asynccontextmanager
        async def connect() -> AsyncGenerator[Post, None]:
            async with self._ingress.client() as client:

                async def post(batch: bytes) -> int:
                    answer = await client.generic_call(
                        f"{agent}Stream",
                        "publish",
                        batch,
                        key=quote(session, safe=""),
                        headers={"Content-Type": "application/json"},
                    )
                    return int(json.loads(answer)["taken"])

                yield post

        return Teller(send, turn, key, Publisher(connect, key, self.every, self._warn(agent)))

    def _warn(self, agent: str) -> Callable[[str], None]:
        def warn(why: str) -> None:
            if not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "%s streams no tokens for now: Restate's ingress%s %s. Its turns go on, and "
                    "are on record as always.",
                    agent,
                    f" at {url}" if (url := self._ingress.url) else "",
                    why,
                )

        return warn

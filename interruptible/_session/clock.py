"""When a request is worked on. That is asked for together with all else, and awaited last."""

import functools
import time
from typing import Any, NamedTuple

from restate import ObjectContext, RestateDurableFuture

from interruptible._cancel.shielding import shield
from interruptible._task.body import Streaming


class Now(NamedTuple):
    """When a request is worked on."""

    at: int
    """In milliseconds since 1970."""
    key: str | None = None
    """What publishes for the turn that it begins, if the agent streams."""


class Clock:
    """It was asked for the time, and the answer may be under way.

    (`ctx.time()` needs a thread, of which users' steps that block may have taken all.)

    Args:
        ctx: The handler's context.
        stream: The agent's, if it streams.
    """

    def __init__(self, ctx: ObjectContext, stream: Streaming | None) -> None:
        look = _time if stream is None else functools.partial(_time_and_key, stream)
        self.asked: RestateDurableFuture[Any] = ctx.run_typed("time", look)
        self._now: Now | None = None

    async def read(self) -> Now:
        """When it is. A cancellation of the handler waits for it, as something was done by now."""
        if self._now is None:
            now = await shield(self.asked)
            self._now = Now(*now) if isinstance(now, list) else Now(now)
        return self._now


async def _time() -> int:
    return int(time.time() * 1000)


async def _time_and_key(stream: Streaming) -> list[Any]:
    return [await _time(), stream.new_key()]

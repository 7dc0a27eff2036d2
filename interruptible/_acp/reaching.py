"""What is asked of Restate again for as long as its ingress cannot be reached."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import httpx
from restate import TerminalError

from interruptible._ingress import PASSES

PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds between two tries: first, and at most."""
NOT_REGISTERED: Final = "make sure to register"
"""What Restate says of a service that it does not know, or not yet: it has just come up."""
COMING_UP: Final = 8
"""Tries in a row that it may say so: some seconds."""

T = TypeVar("T")
_log = logging.getLogger("interruptible.acp")


async def reached(call: Callable[[], Awaitable[T]]) -> T:
    """What a call gives; it is made again as long as Restate's ingress cannot be reached.

    Args:
        call: Makes the call, of an agent that was there; made twice, it has to be the same as made
            once.
    """
    pause, unknown = PAUSE, 0
    while True:
        try:
            return await call()
        except TerminalError as error:
            unknown = unknown + 1 if NOT_REGISTERED in error.message else 0
            if error.status_code not in PASSES and not 0 < unknown <= COMING_UP:
                raise
            why: Exception = error
        except (httpx.TransportError, OSError, json.JSONDecodeError) as error:
            why, unknown = error, 0
        if pause == PAUSE:
            _log.warning("Restate's ingress does not answer (%r). It is asked again.", why)
        await asyncio.sleep(pause)
        pause = min(LONGEST_PAUSE, 2 * pause)

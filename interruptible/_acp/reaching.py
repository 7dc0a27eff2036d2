"""What is asked of Restate again for as long as its ingress cannot be reached."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import httpx
from restate import TerminalError

LONGEST_PAUSE: Final = 2.0
"""Seconds between two tries, at most."""
PASSES: Final = (408, 425, 500, 502, 503, 504)
"""HTTP's statuses that say that the server, or what is before it, does not answer for now."""

T = TypeVar("T")


async def reached(call: Callable[[], Awaitable[T]]) -> T:
    """What a call gives; it is made again as long as Restate's ingress cannot be reached.

    Args:
        call: Makes the call; made twice, it has to be the same as made once.
    """
    pause = 0.05
    while True:
        try:
            return await call()
        except TerminalError as error:
            if error.status_code not in PASSES:
                raise
        except (httpx.TransportError, OSError, json.JSONDecodeError):
            pass
        await asyncio.sleep(pause)
        pause = min(LONGEST_PAUSE, 2 * pause)

"""Where a turn and its client wait for each other: a cleanup ends when the client has its answers.

So a request that waits for the cleanup is never answered before it, however fast the machine is.
"""

import asyncio
import time
from pathlib import Path
from typing import Final

LIMIT: Final = 15.0
"""Seconds until the cleanup ends all the same."""
POLL: Final = 0.02


class Gate:
    """The files of one message: what has been reached so far."""

    def __init__(self, folder: Path, token: str) -> None:
        self._stem = folder / "gates" / token

    def reach(self, place: str) -> None:
        """Say that this place was reached; that lasts."""
        self._stem.parent.mkdir(exist_ok=True)
        self._stem.with_name(f"{self._stem.name}.{place}").touch()

    async def until(self, place: str, seconds: float = LIMIT) -> bool:
        """Wait until the other side has reached a place; whether it has, in that time."""
        deadline = time.monotonic() + seconds
        file = self._stem.with_name(f"{self._stem.name}.{place}")
        while not file.exists():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL)
        return True

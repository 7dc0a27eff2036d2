"""What is waited for side by side: the next event of a session, and what else comes."""

import asyncio
from typing import Any

from restate import TerminalError

from interruptible._stream.events import Event
from interruptible.client import Session


class Hearing:
    """The events of a session; the next one is waited for already."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._begin()

    def _begin(self) -> None:
        self._events = self._session.follow()
        self.next: asyncio.Future[Event] | None = asyncio.ensure_future(anext(self._events))

    def take(self) -> Event | None:
        """The next one, which has come; `None` if there are none, as the agent has no stream."""
        assert self.next is not None  # noqa: S101 - who takes has waited for it
        if isinstance(self.next.exception(), TerminalError):
            self.next = None
            return None
        event = self.next.result()
        self.next = asyncio.ensure_future(anext(self._events))
        return event

    async def begin_again(self) -> None:
        """Hear of everything once more."""
        await self.close()
        self._begin()

    async def close(self) -> None:
        """Hear of nothing any more."""
        await give_up(self.next)
        await self._events.aclose()


async def give_up(waited: "asyncio.Future[Any] | None") -> None:
    """Wait for something no more, and until that is so."""
    if waited is not None:
        waited.cancel()
        await asyncio.wait([waited])
        _ = waited.cancelled() or waited.exception()  # nobody asks any more

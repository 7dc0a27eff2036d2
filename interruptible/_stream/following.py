"""Follows a session's stream, over whatever breaks meanwhile."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, cast

from restate import TerminalError

from interruptible._stream.events import Event

PULL_WAIT: Final = 4.0
"""Seconds that one pull waits: the client of restate-sdk gives up after five silent seconds."""
PACE: Final = 0.05
"""Seconds between two pulls that found something: more often costs the server more."""
REST: Final = 2 * PACE
"""Seconds that it rests after such a pull, at most; and for as long as the pull took. By then there
is something new, most often. Who pulls before has to be waited for and woken, and that costs more
than to pull."""
PULL_BACKOFF: Final = 2.0
"""Seconds between two tries, at most."""
PULL_AGAIN: Final = (408, 409, 425, 429)
"""Of HTTP's statuses that say that the request is wrong, those that may pass."""

_log = logging.getLogger("interruptible.stream")

Pull = Callable[[dict[str, Any]], Awaitable[Any]]
"""Calls `pull` of a stream."""


async def follow(
    pull: Pull, after: int | None, *, durable: bool = False
) -> AsyncGenerator[Event, None]:
    """The events after one, as they come; it ends when it is closed.

    Args:
        pull: The way to the stream.
        after: The id of the last event that is known. Without it, a gap comes first, and then all
            there is.
        durable: Whether each pull is kept in a journal: what fails there is tried again by Restate.
    """
    offset, pause, found = after or 0, 0.0, False
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            body = {"offset": offset} if durable else {"offset": offset, "wait": PULL_WAIT}
            answer: Any = await pull(body)
        except TerminalError as error:
            # A server that has just come up says of what it knows that it is not there.
            passes = error.status_code in PULL_AGAIN or (found and error.status_code == 404)  # noqa: PLR2004
            if durable or (error.status_code < 500 and not passes):  # noqa: PLR2004
                raise
            answer = None
        except Exception as error:
            if durable or not _is_of_the_network(error):
                raise
            answer = None
        if answer is None:
            if not pause:
                _log.warning("A stream that is followed does not answer. It is asked again.")
            pause = min(PULL_BACKOFF, 2 * pause or PACE)
            await asyncio.sleep(pause)
            continue
        pause, found = 0.0, True
        for event in answer["messages"]:
            yield cast("Event", event)
        offset = answer["nextOffset"]
        if answer["messages"] and not durable:
            took = loop.time() - began
            await asyncio.sleep(max(PACE - took, min(took, REST)))


def _is_of_the_network(error: Exception) -> bool:
    """Whether the client could not talk to the server, or the answer was cut off."""
    of_httpx = {x.__name__ for x in type(error).__mro__ if x.__module__.startswith("httpx")}
    return "TransportError" in of_httpx or isinstance(error, (OSError, json.JSONDecodeError))

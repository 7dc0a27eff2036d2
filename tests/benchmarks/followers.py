"""Followers of sessions that speak: `python -m tests.benchmarks.followers INGRESS AGENT SESSIONS`.

Each session has two. They note `following` when all have their first answer; and, when all have
seen the end of a turn, `followed`, with what they saw, as JSON. A process of its own, so that it is
known what they cost. They have a client that costs little: that of restate-sdk takes two
milliseconds for a request, which the server and the worker would miss.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, cast

from restate import RestateClient

from interruptible import Session

from .events import note
from .wire import Wire

EACH: Final = 2
"""Followers of a session."""


class Client:
    """As much of a client of restate-sdk as a follower needs."""

    def __init__(self, url: str) -> None:
        self._wire = Wire(url)

    async def generic_call(
        self, service: str, handler: str, arg: bytes, *, key: str, **_: Any
    ) -> bytes:
        return await self._wire.call(f"/{service}/{key}/{handler}", arg)


class Follower:
    """What one follower has seen: each token with the time at which it was said."""

    def __init__(self, client: RestateClient, agent: str, session: str) -> None:
        self._session = Session(client, agent, session)
        self.follows = asyncio.Event()
        self.lags: list[tuple[int, float]] = []
        """When a token was said, in microseconds, and after how many milliseconds it was here."""
        self.wrong = 0
        """Tokens out of order, twice, or after one that is missing; and events that are so."""
        self.words = 0
        """Events that brought tokens."""
        self._live = ""

    async def follow(self) -> None:
        """Until the end of a turn."""
        last = 0
        async for event in self._session.follow():
            now = time.monotonic_ns() // 1000
            self.wrong += event["id"] <= last and event["type"] != "gap"
            last = event["id"]
            self.follows.set()
            if event["type"] == "text":
                self.words += 1
                self._live += event["text"]
                self._see(event["text"], now)
            elif event["type"] == "message" and event["message"]["role"] == "assistant":
                whole = str(event["message"]["content"])
                self.wrong += not whole.startswith(self._live)
                self._see(whole[len(self._live) :], now)
            elif event["type"] == "turn" and event["state"] == "ends":
                return

    def _see(self, text: str, now: int) -> None:
        for token in text.split():
            number, said = map(int, token.split(":"))
            self.wrong += number != len(self.lags)
            self.lags.append((said, (now - said) / 1e3))


def summary(followers: Sequence[Follower]) -> dict[str, Any]:
    """What all of them have seen, but for the first second: then they are all at it."""
    begun = min((x.lags[0][0] for x in followers if x.lags), default=0)
    lags = sorted((said - begun, lag) for x in followers for said, lag in x.lags)
    steady = [(said, lag) for said, lag in lags if said > 1e6] or lags or [(0, 0.0)]
    half = steady[len(steady) // 2][0]
    ends = [[lag for said, lag in steady if (said > half) is late] for late in (False, True)]
    return {
        "median": statistics.median(lag for _, lag in steady),
        "most": _at_95(lag for _, lag in steady),
        "halves": [_at_95(end) for end in ends],
        "longest": max(lag for _, lag in steady),
        "tokens": [len(x.lags) for x in followers],
        "wrong": sum(x.wrong for x in followers),
        "words": sum(x.words for x in followers),
    }


def _at_95(numbers: Any) -> float:
    ordered = sorted(numbers)
    return float(ordered[int(0.95 * (len(ordered) - 1))]) if ordered else 0.0


async def main() -> None:
    """Follow until all have seen the end of a turn, and then wait until the input ends."""
    url, agent, sessions = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    client = cast("RestateClient", Client(url))
    followers = [Follower(client, agent, session) for session in sorted(sessions * EACH)]
    following = [asyncio.ensure_future(x.follow()) for x in followers]
    await asyncio.gather(*(x.follows.wait() for x in followers))
    note("following", "")
    await asyncio.gather(*following)
    note("followed", "", json.dumps(summary(followers)))
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())

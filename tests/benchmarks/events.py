"""What happens in a worker or in the model server, and when; who measures waits for it."""

import asyncio
import json
import os
import time
from collections import defaultdict
from typing import NamedTuple


class Event(NamedTuple):
    """One thing that happened, at a time of the clock that all processes of a machine share."""

    at: float
    kind: str
    text: str
    more: tuple[str, ...] = ()


def note(kind: str, text: str, *more: str) -> None:
    """In a process that was started: print that something happened, as a line of JSON."""
    try:
        print(json.dumps([time.monotonic(), kind, text, *more]), flush=True)
    except BrokenPipeError:
        os._exit(1)  # nobody is there any more


def read(line: bytes) -> Event:
    """In the process that started it: what the line says."""
    at, kind, text, *more = json.loads(line)
    return Event(at, kind, text, tuple(more))


class Events:
    """What happened, each thing of a kind and text once: a repetition does not count."""

    def __init__(self) -> None:
        self._futures: dict[tuple[str, str], asyncio.Future[Event]] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._last: dict[str, float] = {}

    def note(self, event: Event) -> None:
        """It has happened."""
        self._counts[event.kind] += 1
        self._last[event.kind] = event.at
        future = self._future(event.kind, event.text)
        if not future.done():
            future.set_result(event)

    async def of(self, kind: str, text: str, seconds: float = 150) -> Event:
        """Wait for it."""
        return await asyncio.wait_for(asyncio.shield(self._future(kind, text)), seconds)

    async def at(self, kind: str, text: str) -> float:
        """Wait for it, and say when it was."""
        return (await self.of(kind, text)).at

    def seen(self, kind: str, text: str) -> bool:
        """Whether it has happened."""
        return self._future(kind, text).done()

    def count(self, kind: str) -> int:
        """How often, whatever the text."""
        return self._counts[kind]

    def last(self, kind: str) -> float:
        """When something of this kind happened last."""
        return self._last[kind]

    def forget(self, kind: str, text: str) -> None:
        """Let it be able to happen again."""
        self._futures.pop((kind, text), None)

    def _future(self, kind: str, text: str) -> "asyncio.Future[Event]":
        key = kind, text
        if key not in self._futures:
            self._futures[key] = asyncio.get_running_loop().create_future()
        return self._futures[key]

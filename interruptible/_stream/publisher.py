"""Publishes what the steps of one attempt say: through Restate's ingress, in batches.

| state     | what it does with what is said                                         |
| --------- | ---------------------------------------------------------------------- |
| `waits`   | publishes it, at once                                                  |
| `is busy` | keeps it; publishes it, all at once, after the publish that is under way |
| `is deaf` | drops it: there is no ingress, or the turn is not this attempt's any more |

Never are two publishes under way. One that fails is tried again with what has come since, later and
later: so a slow or dead server means larger batches. What does not fit into memory is dropped, and
the stream says that there is a gap.
"""

import asyncio
import contextlib
import re
import secrets
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final

from restate import HttpError

from interruptible._session.storage import compact
from interruptible._stream.deltas import Told, delta_of
from interruptible._wire.text import mended

MOST_KEPT: Final = 1 << 20
"""Characters that are kept while the server does not take them."""
MOST_AT_ONCE: Final = 64 << 10
"""Characters of one batch, about."""
MOST_SAID: Final = 16 << 20
"""Characters that one attempt streams; a turn puts out half of that, at most."""
PATIENCE: Final = 30.0
"""Seconds in which the stream has to learn that the turn has begun."""
PUBLISH_BACKOFF: Final = 2.0
"""Seconds between two tries, at most."""
LAST: Final = 1.0
"""Seconds in which an attempt that ends has to publish what it told of its own."""

AGAIN: Final = 0.01
"""Seconds after which it is tried again what comes too early."""
PUBLISH_AGAIN: Final = (403, 408, 429)
"""Of HTTP's statuses that say that the request is wrong, those that may pass."""

_ending: Final = set[asyncio.Task[None]]()
"""Those that are told to end, and hang up."""

Post = Callable[[bytes], Awaitable[int]]
Connect = Callable[[], AbstractAsyncContextManager[Post]]


class NoIngress(Exception):
    """There is no way to the stream; says why."""


class Publisher:
    """What one attempt at a turn says from within its steps.

    Args:
        connect: Opens the way to the stream. What it gives publishes a batch, and returns how many
            of its events were taken.
        key: What publishes for the turn.
        every: How often it publishes, at most, while there is something to say.
        warn: Is told why nothing can be published.
    """

    def __init__(
        self, connect: Connect, key: str, every: timedelta, warn: Callable[[str], None]
    ) -> None:
        self._connect, self._key, self._every = connect, key, every.total_seconds()
        self._warn = warn
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._voice, self._seq = secrets.token_hex(6), 0
        self._queue: list[dict[str, Any]] = []
        self._sent: tuple[str, list[dict[str, Any]], bytes] | None = None
        """The batch that has no answer yet, and its voice: it is sent again as it is."""
        self._size = self._said = 0
        self._gap = self._deaf = self._heard = False
        self._runs: dict[int, object] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def say(self, event: dict[str, Any], after: int, handle: int, run: object) -> None:
        """Say something; it may be called from any thread.

        Args:
            event: What.
            after: How often the task had told something by then.
            handle: Which step says it.
            run: What is another object if the step is run again in this attempt.
        """
        if threading.get_ident() == self._thread:
            self._add(event, after, handle, run)
        else:
            self._loop.call_soon_threadsafe(self._add, event, after, handle, run)

    def forget(self, over: Callable[[str], bool]) -> None:
        """Do not say what a message has replaced: see `deltas.replaces`."""
        self._keep([x for x in self._queue if (of := delta_of(x["event"])) is None or not over(of)])

    async def close(self, *, again: bool = False) -> None:
        """The attempt is over: what is not said yet counts no more.

        Args:
            again: Whether there is another: then what the agent tells of its own counts still, such
                as why a step has failed.
        """
        self._deaf = True
        if self._task is None or self._task.done():
            return
        _ending.add(self._task)
        self._task.add_done_callback(_ending.discard)
        self._task.cancel()
        if not again:  # the next turn waits for nobody who hangs up
            return
        await asyncio.wait([self._task])
        own = [x for x in self._queue if _is_own(x["event"])]
        if self._sent is not None and not any(_is_own(x["event"]) for x in self._sent[1]):
            self._sent = None
        self._keep(own)
        if own or self._sent:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._publish_last(), LAST)

    async def _publish_last(self) -> None:
        async with self._connect() as post:
            await self._publish_all(post, last=True)

    def _add(self, event: dict[str, Any], after: int, handle: int, run: object) -> None:
        if self._deaf or self._said > MOST_SAID:
            return
        if self._runs.setdefault(handle, run) is not run:  # what it had said is void
            self._runs = {handle: run}
            self._voice, self._seq = secrets.token_hex(6), 0
            self._keep([])
        said = {"event": event, "after": after, "step": handle}
        last = self._queue[-1] if self._queue else None
        if last is not None and _is_delta(event) and _goes_on(last, said):
            last["event"] = {**event, "text": last["event"]["text"] + event["text"]}
        else:
            self._queue.append(said)
        self._size += _length(said)
        self._said += _length(said)
        if self._size > MOST_KEPT:
            self._keep([])
            self._gap = True
        self._news.set()
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            async with self._connect() as post:
                await self._publish_all(post)
        except NoIngress as error:
            self._warn(str(error))
        except Exception as error:  # noqa: BLE001 - of the client, such as an address that is none
            self._warn(f"cannot be reached ({type(error).__name__}: {error})")
        self._deaf = True
        self._keep([])

    async def _publish_all(self, post: Post, *, last: bool = False) -> None:
        """Publish what comes, until the stream is another attempt's; the last, until it is out."""
        first, pause = self._loop.time(), 0.0
        while self._sent or self._queue or not last:
            await self._news.wait()
            began = self._loop.time()
            try:
                is_all = await self._publish(post)
                self._heard, pause = True, self._every if is_all else min(AGAIN, self._every)
            except HttpError as error:
                late = self._heard or self._loop.time() - first > PATIENCE
                if error.status_code == 403 and late:  # noqa: PLR2004
                    return
                if error.status_code // 100 == 4 and error.status_code not in PUBLISH_AGAIN:  # noqa: PLR2004
                    self._warn(f"refuses ({error}: {error.body or 'it says no more'})")
                    if error.status_code != 404:  # noqa: PLR2004 - so says a server that just came up
                        return
                pause = min(PUBLISH_BACKOFF, 2 * pause or AGAIN)
            except Exception as error:  # noqa: BLE001 - of the network, whatever the client makes of it
                self._warn(f"does not answer ({type(error).__name__}: {error})")
                pause = min(PUBLISH_BACKOFF, 2 * pause or AGAIN)
            await asyncio.sleep(began + pause - self._loop.time())

    async def _publish(self, post: Post) -> bool:
        """Publish what there is; returns whether that was taken, all of it."""
        if self._sent is None or self._sent[0] != self._voice:
            batch, kept = self._batch()
            if not batch and not self._gap:
                self._news.clear()
                return True
            self._seq += 1
            body = {"key": self._key, "voice": self._voice, "seq": self._seq, "events": batch}
            data = compact({**body, "gap": True} if self._gap else body)
            self._sent, self._gap = (self._voice, batch, data), False
            self._keep(kept)
        voice, batch, data = self._sent
        taken = await post(data)
        self._sent = None
        if voice == self._voice:  # or a step has begun again
            self._keep([*batch[taken:], *self._queue])
        return taken == len(batch)

    def _keep(self, queue: list[dict[str, Any]]) -> None:
        self._queue, self._size = queue, sum(map(_length, queue))

    def _batch(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What is to be published at once, and what is kept: half a character, for one."""
        batch: list[dict[str, Any]] = []
        kept: list[dict[str, Any]] = []
        size = 0
        for place, x in enumerate(self._queue):
            if size > MOST_AT_ONCE:
                kept += self._queue[place:]
                break
            event = x["event"]
            if _is_delta(event):
                text = event["text"]
                half = re.search("[\ud800-\udbff]$", text) and place == len(self._queue) - 1
                if half:
                    kept.append({**x, "event": {**event, "text": text[-1]}})
                    text = text[:-1]
                event = {**event, "text": mended(text)}
                if not text:
                    continue
            size += _length(x)
            batch.append({**x, "event": event})
        return batch, kept


def _is_delta(event: Told) -> bool:
    return delta_of(event) is not None


def _is_own(event: Told) -> bool:
    return not _is_delta(event) and event["type"] != "tool"


def _goes_on(last: dict[str, Any], said: dict[str, Any]) -> bool:
    same = {**last["event"], "text": ""} == {**said["event"], "text": ""}
    at_once = (last["after"], last["step"]) == (said["after"], said["step"])
    # What is added copies what there is.
    return same and at_once and len(last["event"]["text"]) < MOST_AT_ONCE


def _length(said: dict[str, Any]) -> int:
    event = said["event"]
    return len(event["text"]) if _is_delta(event) else len(compact(event))

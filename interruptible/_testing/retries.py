"""Sees what a server retries in vain, says so, and ends the test that waits for it."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from contextlib import AbstractContextManager

_FIRST_PAUSE = 1.0  # seconds between two looks; a look costs the server 3 ms of processor time
_LAST_PAUSE = 5.0  # seconds
_TOLD = 2  # retries
_BEHIND = 20  # milliseconds by which the times in its tables may be behind this clock


class TooManyRetries(AssertionError):
    """Raised when a test waits for an invocation that is retried again and again, in vain.

    Attributes:
        invocation_id: Of that invocation.
        last_failure: Why its last attempt failed.
    """

    def __init__(self, said: str, invocation_id: str, last_failure: str) -> None:
        super().__init__(said)
        self.invocation_id = invocation_id
        self.last_failure = last_failure


class RetryWatch:
    """Looks for invocations that back off, again and again, for as long as `run` runs.

    Args:
        query: Asks the server in SQL.
        limit: More retries than these end the block; None: they are only said.
        on_terminal: Where what goes to stderr is seen at once.
    """

    def __init__(
        self,
        query: Callable[[str], Awaitable[list[dict[str, Any]]]],
        limit: int | None,
        on_terminal: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._query = query
        self._limit = limit
        self._on_terminal = on_terminal
        self._said = set[str]()
        self._block: _Block | None = None

    async def run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LAST_PAUSE)
            await self._look()

    @contextmanager
    def ends_block(self) -> Generator[None]:
        """Cancel this block when something invoked in it is retried too often, and raise."""
        self._block = block = _Block()
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:
            if block.failure is None:
                raise
            raise block.failure.with_traceback(error.__traceback__) from None
        else:
            if block.failure is not None:
                raise block.failure
        finally:
            self._block = None
            block.left()

    async def _look(self) -> None:
        block = self._block
        begun = block.begun if block else 0
        limit = sys.maxsize if self._limit is None else self._limit
        rows = await self._query(
            "SELECT id, target, retry_count, last_failure,"  # noqa: S608
            f" created_at >= to_timestamp_millis({begun}) AS of_block FROM sys_invocation WHERE"
            f" status = 'backing-off' AND retry_count > {min(_TOLD, limit)} ORDER BY created_at"
        )
        for row in rows:
            invocation, attempts = row["id"], row["retry_count"]  # of which each has failed
            said = f"{row['target']} ({invocation}) has failed {attempts} times and is retried."
            failure = row.get("last_failure", "unknown")
            if block and block is self._block and row["of_block"] and attempts > limit:
                remedy = f"If that is meant, raise `fail_on_retries`, which is {limit}."
                text = f"{said} {remedy} The last failure: {failure}"
                block.end(TooManyRetries(text, invocation, failure))
                return
            if invocation not in self._said:
                self._said.add(invocation)
                with self._on_terminal():
                    sys.stderr.write(f"\n{said} The last failure: {failure}\n")
                    sys.stderr.flush()


class _Block:
    """The task that is in the block, to be cancelled there."""

    def __init__(self) -> None:
        self.begun = time.time_ns() // 1_000_000 - _BEHIND
        self.failure: TooManyRetries | None = None
        self._task = asyncio.current_task()
        self._cancellations = 0

    def end(self, failure: TooManyRetries) -> None:
        if self._task and self._task.cancel():  # at each look, lest its own cleanup hang
            self.failure = self.failure or failure
            self._cancellations += 1

    def left(self) -> None:
        if self._task and sys.version_info >= (3, 11):
            for _ in range(self._cancellations):
                self._task.uncancel()

"""`shield`: an await that goes on whatever the task is told; and awaits that begin anew."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from interruptible._cancel import sdk
from interruptible._cancel.steered import Steered
from interruptible._cancel.watch import Interrupted, Watch

T = TypeVar("T")


async def shield(future: Awaitable[T]) -> T:
    """Await a durable future to its end, whatever cancellations arrive meanwhile.

    The cancellation is not lost: the next await that is not shielded raises it. Restate itself
    passes a cancellation on to the *calls* that the invocation awaits, shielded or not; a send
    followed by an attach is not affected.

    Args:
        future: A durable future that nothing else awaits, or a coroutine that awaits such.

    Returns:
        The result of `future`.

    Raises:
        RuntimeError: When called outside of a Restate handler.
        TypeError: When `future` is of asyncio, so that its awaits have begun unshielded.
        TerminalError: The failure of `future` itself.
    """
    if isinstance(future, asyncio.Future):
        raise TypeError(
            "shield() takes a durable future or a coroutine; what is in an asyncio task or "
            "`asyncio.gather` has begun without it. Use `restate.gather`, or shield inside."
        )
    try:
        watch = Watch.of(sdk.here())
    except LookupError:
        msg = "shield() was called outside of a Restate handler. Await the future as it is."
        raise RuntimeError(msg) from None
    with watch.waited_for():
        sdk.forget(future, Interrupted)
        try:
            return await future
        finally:
            watch.keep()


def forget_steered(future: Any) -> None:
    """Let a future be awaited anew that was cut off by a message."""
    sdk.forget(future, Steered)

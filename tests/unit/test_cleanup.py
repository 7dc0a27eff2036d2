"""How a block is left, where no server is needed to see it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import pytest
import restate

from interruptible._cancel import cleanup
from interruptible._cancel.cleanup import RETRY, Cleanup
from interruptible._cancel.state import AttemptState
from interruptible._cancel.watch import Interrupted

from .given import Given

PATIENCE = timedelta(seconds=1)


class Leaving:
    """The context of a handler: it notes what it is asked for, and does it."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def sleep(self, delta: timedelta) -> Given[None]:
        self.done.append(delta)
        return Given(None)

    def run_typed(
        self, name: str, action: Callable[[], Awaitable[None]], retry: Any
    ) -> Awaitable[None]:
        self.done.append(name)
        return action()


def test_one_timeout_is_for_all_steps_of_a_block_also_those_that_a_late_cancellation_adds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def shield(future: Awaitable[Any]) -> Any:
        return await future

    async def wait_completed(*futures: Any) -> Any:
        return futures[:1], futures[1:]  # the step, and not the time

    monkeypatch.setattr(cleanup, "shield", shield)
    monkeypatch.setattr(restate, "wait_completed", wait_completed)
    ctx, state, undo = Leaving(), AttemptState(), Cleanup()
    state.depth = 1
    undo.on_interrupt("undo", lambda: None)
    undo.on_exit("is cancelled meanwhile", state.cancel)
    a_ctx, watch = cast("Any", (ctx, state))
    unwinding = cleanup._Unwinding(a_ctx, watch, undo.steps, PATIENCE, RETRY)
    with pytest.raises(Interrupted):
        asyncio.run(unwinding.run(None))
    assert ctx.done == [PATIENCE, "is cancelled meanwhile", "undo"]

"""What is done, and in which order, where no server is needed to see it."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from restate import TerminalError

from interruptible import _cancellation, _object, _session
from interruptible._cancellation import Interrupted, Watch
from interruptible._session import Live, Record

# -- A session's record. ---------------------------------------------------------------------------


class Effects:
    """The context of a handler, which notes what it is told to do."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def set(self, name: str, value: Any, serde: Any) -> None:
        self.done.append((name, value))

    def cancel_invocation(self, invocation_id: str) -> None:
        self.done.append(invocation_id)


def test_the_cancels_are_sent_before_the_record_says_so() -> None:
    # Killed in between, a session would believe in a cancel that it never sent.
    record = Record("epoch", 4, (Live(1, "inv-1", "cancelled"), Live(2, "inv-2"), Live(3, "inv-3")))
    step = _session.message(record)
    effects = Effects()
    _object._apply(cast("Any", effects), step)
    assert effects.done == ["inv-2", "inv-3", ("session", _session.dump(step.record))]


# -- A cancellation. -------------------------------------------------------------------------------


def watch(poll: Callable[[], Any]) -> Watch:
    """The watch on a context whose every await does this."""

    async def create_poll_or_cancel_coroutine(unresolved_future: Any) -> None:
        poll()

    async def create_run_coroutine(handle: int, action: Any, serde: Any) -> None: ...

    context = SimpleNamespace(
        create_poll_or_cancel_coroutine=create_poll_or_cancel_coroutine,
        create_run_coroutine=create_run_coroutine,
        receive=None,
        tasks=set[Any](),
    )
    return Watch(cast("Any", context))


def shielded(watched: Watch) -> None:
    """Await something, shielded."""

    async def wait() -> None:
        token = _cancellation._shielded.set(True)
        try:
            await watched._poll(None)
        finally:
            _cancellation._shielded.reset(token)

    asyncio.run(wait())


def test_a_cancellation_that_is_raised_for_ever_is_the_fault_of_the_sdk_and_is_called_so() -> None:
    raised: list[None] = []

    def cancelled() -> None:
        raised.append(None)
        raise TerminalError("cancelled", 409)

    with pytest.raises(RuntimeError) as caught:
        shielded(watch(cancelled))
    assert str(caught.value) == (
        "restate-sdk raises one cancellation for ever: no cleanup can run. "
        "Install restate-sdk 1.0.4 or newer."
    )
    assert len(raised) == _cancellation.MANY + 1


def test_many_cancellations_do_not_break_off_a_shielded_await_and_are_not_lost() -> None:
    left = iter(range(_cancellation.MANY))

    def cancelled_often() -> None:
        if next(left, None) is not None:
            raise TerminalError("cancelled", 409)

    watched = watch(cancelled_often)
    shielded(watched)
    assert next(left, None) is None
    with pytest.raises(Interrupted):
        asyncio.run(watched._poll(None))

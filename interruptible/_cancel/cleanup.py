"""`cleanup`: durable steps for when a task ends otherwise than well."""

import asyncio
import inspect
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final, Literal, ParamSpec

import restate
from restate import Context, RunOptions, TerminalError

from interruptible._cancel.ending import terminal
from interruptible._cancel.shielding import shield
from interruptible._cancel.steered import is_steered
from interruptible._cancel.watch import Interrupted, Watch
from interruptible._wire.output import stored
from interruptible._wire.text import mended

P = ParamSpec("P")
End = Literal["exit", "error", "interrupt"]

logger = logging.getLogger("interruptible")

RETRY: Final[RunOptions[Any]] = RunOptions(
    max_attempts=10,
    initial_retry_interval=timedelta(milliseconds=100),
    retry_interval_factor=2.0,
    max_retry_interval=timedelta(seconds=1.5),
)
"""A step that fails each time is given up after about ten seconds: the next turn waits for it."""


@asynccontextmanager
async def cleanup(
    ctx: Context, *, timeout: timedelta | None = None, retry: RunOptions[Any] = RETRY
) -> AsyncGenerator["Cleanup", None]:
    """Undo what a task did when it does not end well.

    Use it as `async with cleanup(ctx) as undo:`, in the `run` of an agent or in any other Restate
    handler. Within the block cancellation is level-triggered: once this invocation is cancelled,
    every durable await raises `Interrupted`. When the block ends, calls in flight are aborted and
    unwound first; then the steps run, last registered first, each a durable step that no further
    cancellation breaks off. A step that fails for good (`TerminalError`) does not stop the rest:
    it is logged, and named in the metadata of the error that ended the block, which is raised
    again. An attempt that suspends, crashes or is retried runs no step. A block that `Steered`
    passes through has ended well.

    Args:
        ctx: The handler's context.
        timeout: How long all steps together may take; what is not done by then is aborted or
            left out, and reported like a failure. `None`: as long as they take.
        retry: How often a step that raises is tried again, before it counts as failed for good; by
            default ten times within about ten seconds. `RunOptions()` tries as often as the
            handler itself is retried.

    Raises:
        TypeError: `ctx` is not the context that Restate gave to a handler.
        RuntimeError: The block is entered in an asyncio task other than the handler's own.
    """
    with Watch.of(ctx) as watch:
        if asyncio.current_task() is not watch.owner:
            raise RuntimeError(
                "cleanup() was entered in an asyncio task of its own: steps that run side by side "
                "cannot be replayed. Register them on a block around the tasks."
            )
        undo = Cleanup()
        unwinding = _Unwinding(ctx, watch, undo.steps, timeout, retry)
        try:
            yield undo
        except BaseException as error:
            # The work goes on when it was steered: so the block has ended well.
            await unwinding.run(None if is_steered(error) else error)
            raise
        await unwinding.run(None)


class CleanupStep:
    """A registered step."""

    def __init__(self, end: End, name: str, action: Any, args: Any, kwargs: Any) -> None:
        if not callable(action):
            if inspect.iscoroutine(action):
                action.close()  # it is told of here, and not by Python as never awaited
            raise TypeError(
                f"The action of cleanup step {name!r} is {type(action).__name__}, which cannot be "
                "called. Pass the function itself, and its arguments after it."
            )
        self.end, self.name, self.dismissed = end, mended(name), False
        self._action = partial(action, *args, **kwargs)

    def dismiss(self) -> None:
        """Do not run it: what it would undo is to stay, from here on."""
        self.dismissed = True

    async def run(self) -> None:
        """Do it. What the action returns is not kept: it need not be JSON."""
        if inspect.iscoroutinefunction(self._action):
            await self._action()
        elif inspect.isawaitable(given := await asyncio.to_thread(self._action)):
            await given


class Cleanup:
    """The steps registered so far; see `cleanup`."""

    def __init__(self) -> None:
        self.steps: list[CleanupStep] = []
        """The first that was registered comes first."""

    def on_exit(
        self, name: str, action: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> CleanupStep:
        """Run `action(*args, **kwargs)` as the durable step `name` however the block ends.

        Args:
            name: The step's name.
            action: A function, `async` or not; if it returns an awaitable, that is awaited, too.
            args: What it is called with.
            kwargs: The same, by name.

        Returns:
            The step; `dismiss` drops it.

        Raises:
            TypeError: `action` is nothing that can be called.
        """
        return self._add("exit", name, action, args, kwargs)

    def on_error(
        self, name: str, action: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> CleanupStep:
        """The same when the block fails for good, interruption included."""
        return self._add("error", name, action, args, kwargs)

    def on_interrupt(
        self, name: str, action: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> CleanupStep:
        """The same when this invocation was cancelled."""
        return self._add("interrupt", name, action, args, kwargs)

    def _add(self, end: End, name: str, action: Any, args: Any, kwargs: Any) -> CleanupStep:
        step = CleanupStep(end, name, action, args, kwargs)
        self.steps.append(step)
        return step


@dataclass
class _Unwinding:
    """How a block ends."""

    ctx: Context
    watch: Watch
    steps: list[CleanupStep]
    timeout: timedelta | None
    retry: RunOptions[Any]
    timer: restate.RestateDurableFuture[None] | None = None
    late: bool = False
    failures: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    async def run(self, error: BaseException | None) -> None:
        """Run the steps that `error`, or the end of the block, asks for.

        Raises:
            BaseException: What the block ends with, where that is not `error`.
        """
        watch = self.watch
        end = terminal(error, watch)
        if end is None and error is not None:
            return  # the attempt is over, not the task
        async with watch.alone() if end is not None else nullcontext():
            await self._run_steps(end)
        if watch.must_end and not isinstance(end, Interrupted):
            end = Interrupted()  # it arrived meanwhile
            await self._run_steps(end)
        if end is None and self.failures:
            end = TerminalError(f"Cleanup failed: {self.failures[0]['error']}")
        if end is None:
            return
        report(end, self.failures)
        if isinstance(end, Interrupted):
            watch.tell()
        if end is not error and (error is None or isinstance(end, Interrupted)):
            raise end from error

    async def _run_steps(self, end: TerminalError | None) -> None:
        ends: set[End] = {"exit"} if end is None else {"exit", "error"}
        if isinstance(end, Interrupted):
            ends.add("interrupt")
        steps = [x for x in reversed(self.steps) if x.end in ends and not x.dismissed]
        if self.timer is None and self.timeout is not None and steps:
            self.timer = self.ctx.sleep(self.timeout)
        for x in steps:
            x.dismiss()  # it runs once
            error = await self._error_of(x)
            if error is not None:
                self.failures.append({"step": x.name, "error": error})

    async def _error_of(self, x: CleanupStep) -> str | None:
        """Run a step, and learn why it failed."""
        if self.late:
            return "not run: the timeout was over"
        step = self.ctx.run_typed(x.name, x.run, self.retry)
        try:
            if self.timer is not None:
                done, _ = await shield(restate.wait_completed(step, self.timer))
                self.late = step not in done
            if self.late:
                await self.watch.abort(step)
                return f"not done within {self.timeout}"
            await shield(step)
        except TerminalError as failure:
            return failure.message
        return None


def report(end: TerminalError, failures: list[dict[str, str]]) -> None:
    """Name the cleanup steps that failed in the log and in the metadata of `end`."""
    failures = stored(failures)
    for failure in failures:
        logger.error("cleanup step %(step)r failed: %(error)s", failure)
    if failures:
        known = json.loads((end.metadata or {}).get("cleanup_failed", "[]"))
        end.metadata = {**(end.metadata or {}), "cleanup_failed": json.dumps(known + failures)}

"""`cleanup`: durable steps for when a task ends otherwise than well."""

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, ParamSpec

import restate
from restate import Context, TerminalError

from interruptible._cancellation import Interrupted, Watch, shield, terminal, watching
from interruptible._output import stored
from interruptible._text import mended

P = ParamSpec("P")
End = Literal["exit", "error", "interrupt"]

logger = logging.getLogger("interruptible")


def cleanup(ctx: Context, *, timeout: timedelta | None = None) -> "Cleanup":
    """Undo what a task did when it does not end well.

    Use it as `async with cleanup(ctx) as undo:`, in the `run` of an agent or in any other Restate
    handler. Within the block cancellation is level-triggered: once this invocation is cancelled,
    every durable await raises `Interrupted`. When the block ends, calls in flight are aborted and
    unwound first; then the steps run, last registered first, each a durable step that no further
    cancellation breaks off. A step that fails for good (`TerminalError`) does not stop the rest:
    it is logged, and named in the metadata of the error that ended the block, which is raised
    again. An attempt that suspends, crashes or is retried runs no step.

    Args:
        ctx: The handler's context.
        timeout: How long all steps together may take; what is not done by then is aborted or
            left out, and reported like a failure. `None`: as long as they take.

    Raises:
        TypeError: `ctx` is not the context that Restate gave to a handler.
        RuntimeError: The block is entered in an asyncio task other than the handler's own.
    """
    return Cleanup(ctx, timeout)


class Cleanup:
    """The steps registered so far; see `cleanup`."""

    def __init__(self, ctx: Context, timeout: timedelta | None) -> None:
        self._ctx = ctx
        self._timeout = timeout
        self._timer: restate.RestateDurableFuture[None] | None = None
        self._late = False
        self._steps: list[tuple[End, str, Callable[[], Any]]] = []
        self._watching: AbstractContextManager[Watch] = watching(ctx)

    def on_exit(
        self, name: str, action: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Run `action(*args, **kwargs)` as the durable step `name` however the block ends."""
        self._steps.append(("exit", name, _step(name, action, *args, **kwargs)))

    def on_error(
        self, name: str, action: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """The same when the block fails for good, interruption included."""
        self._steps.append(("error", name, _step(name, action, *args, **kwargs)))

    def on_interrupt(
        self, name: str, action: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """The same when this invocation was cancelled."""
        self._steps.append(("interrupt", name, _step(name, action, *args, **kwargs)))

    async def __aenter__(self) -> "Cleanup":  # noqa: PYI034
        self._watch = self._watching.__enter__()
        if asyncio.current_task() is not self._watch.owner:
            self._watching.__exit__(None, None, None)
            raise RuntimeError(
                "cleanup() was entered in an asyncio task of its own: steps that run side by side "
                "cannot be replayed. Register them on a block around the tasks."
            )
        return self

    async def __aexit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._watch.check()
                end: TerminalError | None = Interrupted() if self._watch.pending else None
            else:
                end = terminal(error, self._watch)
                if end is None:
                    return  # the attempt is over, not the task
            if end is not None:
                await self._watch.abort()
            failures = await self._run(_ends(end))
            if self._watch.pending and not isinstance(end, Interrupted):
                before, end = _ends(end), Interrupted()  # it arrived meanwhile
                failures += await self._run(_ends(end) - before)
            if end is None and failures:
                end = TerminalError(f"Cleanup failed: {failures[0]['error']}")
            if end is None:
                return
            report(end, failures)
            self._watch.raised |= isinstance(end, Interrupted)
            if end is not error and (error is None or isinstance(end, Interrupted)):
                raise end from error
        finally:
            self._watching.__exit__(None, None, None)

    async def _run(self, ends: set[End]) -> list[dict[str, str]]:
        steps = [(mended(x), action) for end, x, action in reversed(self._steps) if end in ends]
        failures: list[dict[str, str]] = []
        if self._timer is None and self._timeout is not None and steps:
            self._timer = self._ctx.sleep(self._timeout)
        for name, action in steps:
            if self._late:
                failures.append({"step": name, "error": "not run: the timeout was over"})
                continue
            step = self._ctx.run_typed(name, action)
            try:
                if self._timer is not None:
                    done, _ = await shield(restate.wait_completed(step, self._timer))
                    self._late = step not in done
                if self._late:
                    await self._watch.abort(step)
                    failures.append({"step": name, "error": f"not done within {self._timeout}"})
                else:
                    await shield(step)
            except TerminalError as failure:
                failures.append({"step": name, "error": failure.message})
        return failures


def report(end: TerminalError, failures: list[dict[str, str]]) -> None:
    """Name the cleanup steps that failed in the log and in the metadata of `end`."""
    failures = stored(failures)
    for failure in failures:
        logger.error("cleanup step %(step)r failed: %(error)s", failure)
    if failures:
        known = json.loads((end.metadata or {}).get("cleanup_failed", "[]"))
        end.metadata = {**(end.metadata or {}), "cleanup_failed": json.dumps(known + failures)}


def _ends(end: TerminalError | None) -> set[End]:
    if end is None:
        return {"exit"}
    return {"exit", "error", "interrupt"} if isinstance(end, Interrupted) else {"exit", "error"}


def _step(
    name: str, action: Callable[P, Any], *args: P.args, **kwargs: P.kwargs
) -> Callable[[], Any]:
    # What an action returns is not kept: it need not be JSON.
    if inspect.iscoroutinefunction(action):

        async def aborts() -> None:
            await action(*args, **kwargs)

        return aborts

    def blocks() -> None:
        if isinstance(action(*args, **kwargs), Awaitable):
            msg = (
                f"The action of cleanup step {name!r} is not `async` but returned an awaitable, "
                "which nobody awaits. Pass the async function itself, and its arguments."
            )
            raise TypeError(msg)

    return blocks

"""Durable steps in flight: which run, how they are cut off, and what they had said by then."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace
from typing import Final

from interruptible._cancel.sdk import Inside
from interruptible._cancel.state import Standing
from interruptible._wire.output import WrongPlace

_running: Final[ContextVar["RunningStep | None"]] = ContextVar(
    "interruptible_running", default=None
)


@dataclass(eq=False)
class RunningStep:
    """A durable step that was begun."""

    handle: int
    run: Callable[[], Awaitable[None]]
    """The action, and what tells Restate of its result."""
    stoppable: bool
    """Whether it is `async`. What is not runs in a thread, which nothing can stop."""
    standing: Standing = "open"
    aborted: bool = False
    """Whether it was broken off, and the state machine waits for its end in vain."""
    said: dict[str | None, list[str]] = field(default_factory=dict[str | None, list[str]])
    """What it said for a tool's call; and by itself, which is for `None`."""


class Steps:
    """The steps of one attempt of one invocation."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._running: dict[asyncio.Future[None], RunningStep] = {}
        self._cut: dict[int, RunningStep] = {}

    async def run(self, step: RunningStep, context: Context) -> None:
        """Run a step in the context of the code that awaits it."""
        task = context.run(asyncio.ensure_future, self._run(step))
        self._running[task] = step  # from now on, so that it can be cut off before it begins
        task.add_done_callback(self._running.pop)
        await task

    async def _run(self, step: RunningStep) -> None:
        _running.set(step)
        await step.run()
        step.aborted = False  # it went on to its end all the same

    def refuse(self, step: RunningStep) -> None:
        """Do not begin a step: the work has ended since it was asked for."""
        step.aborted = True
        self._cut[step.handle] = step

    async def cut(
        self, handles: Container[int] | None = None, *, abandon: bool = False
    ) -> list[RunningStep]:
        """Cut off the steps in flight that are not shielded, and return when they have unwound.

        One that nothing can stop is waited for; nobody gets its end.

        Args:
            handles: Cut off the steps of these handles alone, shielded or not.
            abandon: Do not wait for those that nothing can stop.

        Returns:
            They, in their order.
        """
        mine = asyncio.current_task()
        chosen = {
            task: step
            for task, step in self._running.items()
            if task is not mine
            and (step.standing != "shielded" if handles is None else step.handle in handles)
        }
        for task, step in chosen.items():
            self._cut[step.handle] = step
            # Once: a second time would break off how it unwinds.
            if (step.stoppable or abandon) and not step.aborted:
                step.aborted = True
                task.cancel()
        if chosen:
            await asyncio.wait(chosen)
        return sorted(chosen.values(), key=lambda x: x.handle)

    def rerun(self, handles: Iterable[int], context: Context) -> None:
        """Run those of these again that were broken off.

        The state machine believes that they are still running, and who awaits them would wait for
        ever. Another attempt would run them again; so does this one.
        """
        for handle in handles:
            if handle in self._cut and self._cut[handle].aborted:
                again = replace(self._cut.pop(handle), aborted=False, said={})
                self._inside.start(self._rerun(again, context))

    async def _rerun(self, step: RunningStep, context: Context) -> None:
        try:
            await self.run(step, context)
        finally:
            await self._inside.look_again()

    @property
    def partials(self) -> list[tuple[str | None, str]]:
        """What those that were cut off had said by then, in their order, and for which call."""
        cut = [step for _, step in sorted(self._cut.items()) if step.standing != "shielded"]
        said = [(call, "".join(x)) for step in cut for call, x in step.said.items()]
        return [(call, text) for call, text in said if text.strip()]


def in_step() -> bool:
    """Whether this is called by the action of a durable step."""
    return _running.get() is not None


def running_step() -> RunningStep | None:
    """The durable step by whose action this is called, if by one."""
    return _running.get()


def say(delta: str, call: str | None = None) -> RunningStep:
    """Note what the model says in the step that is running, or what comes of a tool's call there.

    Returns:
        The step.

    Raises:
        WrongPlace: When called outside of a step.
    """
    step = _running.get()
    if step is None:
        name = "partial" if call is None else "partial_result"
        raise WrongPlace(
            f"`task.{name}` was called outside of a step. Call it in what `ctx.run_typed` runs."
        )
    step.said.setdefault(call, []).append(delta)
    return step

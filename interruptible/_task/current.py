"""The task that code works for, wherever it is."""

from contextvars import ContextVar
from typing import Final

from interruptible._cancel.watch import Watch
from interruptible._task.task import Task

CURRENT: Final[ContextVar[tuple[Task, Watch] | None]] = ContextVar(
    "interruptible_task", default=None
)


def current_task() -> Task:
    """The task that this code works for: in tools, hooks and steps, however deep within `run`.

    What is started there finds it too, asyncio tasks and threads; so do cleanup steps and
    `on_interrupted`.

    Raises:
        RuntimeError: There is none, or its turn has ended and this was left running.
    """
    current = CURRENT.get()
    if current is None:
        msg = "current_task() was called where no turn is worked on. Call it in what `run` calls."
        raise RuntimeError(msg)
    task, watch = current
    if watch.depth == 0:
        msg = f"{task!r} is over, and this was left running. Await it before `run` returns."
        raise RuntimeError(msg)
    return task

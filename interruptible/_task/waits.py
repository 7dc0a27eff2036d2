"""What a turn can wait for that its agent's object knows."""

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

from interruptible._task import approval, delegate
from interruptible._task.approval import Approval
from interruptible._task.attempt import Attempt
from interruptible._task.words import await_steerable
from interruptible._wire.cause import Cause, cause_of
from interruptible._wire.output import WrongPlace
from interruptible._wire.types import Message

T = TypeVar("T")


class Waits:
    """The part of a `Task` that waits."""

    turn: int
    _attempt: Attempt

    def _put(self, messages: list[Message]) -> None:
        raise NotImplementedError

    async def steerable(self, awaitable: Awaitable[T]) -> T:
        """Await something that ends when the user says what this turn is to read at once.

        Mark the model's calls so, and waits: `await task.steerable(ctx.run_typed(…))`. When such a
        message comes, the steps that are awaited are aborted. What they had said by `partial` is
        put out, and `Steered` is raised; `steering` has the message then, and the turn goes on.
        What is not awaited within goes on as well, such as tools side by side. If nothing is
        awaited so when the message comes, the next that is begins no step.

        Args:
            awaitable: A durable future, or a coroutine that awaits such, however deep.

        Returns:
            What it gives.

        Raises:
            Steered: There is such a message. If `run` lets it out, it is called again.
            TypeError: It is of asyncio, so that its awaits have begun without this.
        """
        return await await_steerable(self._attempt, self._put, awaitable)

    async def approval(
        self, title: str, *, value: Any = None, timeout: timedelta | None = None
    ) -> Approval:
        """Wait until somebody has said yes or no, durably: for minutes or for weeks.

        It is listed in `get_status` as one of `waiting_for`, and answered by `answer`. A message
        interrupts it as it interrupts any await. Several may wait side by side.

        Args:
            title: What is asked, in a line.
            value: What else there is to know, for who answers: JSON, at most 64 KiB.
            timeout: How long to wait; by default for as long as it takes.

        Returns:
            What was answered. It is true if that was yes; when the time is over, it is not.

        Raises:
            TypeError: The title is no text, or the value no JSON, or too much of it. It is a
                `TerminalError`, too: the turn fails.
            Interrupted: The turn was cancelled; an answer that comes late is refused with a 410.
        """
        return await approval.ask(self._attempt, title, value, timeout)

    async def cause(self) -> Cause:
        """Why this turn was cancelled; for `on_interrupted`, and where `Interrupted` is caught.

        It is asked of the agent's object, shielded. A turn that somebody cancelled past its session
        (in Restate's UI or CLI) is `cancelled`, without a reason.

        Raises:
            RuntimeError: The turn is not cancelled.
        """
        attempt = self._attempt
        if not attempt.watch.cancelled:
            msg = "task.cause() was called in a turn that is not cancelled. Catch `Interrupted`."
            raise WrongPlace(msg)
        asked = attempt.call_session(attempt.ctx.generic_send, "get_cause", {"turn": self.turn})
        return cause_of(await delegate.answer_to(attempt.ctx, asked))

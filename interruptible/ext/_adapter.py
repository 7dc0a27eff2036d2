"""What the modules of the frameworks share.

The few inner names of the library that they need are imported here, and nowhere else in this room.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final, TypeVar

from pydantic_core import to_json
from restate import Context, TerminalError

from interruptible import Agent, Interrupted, Message, Steered, Task, current_task
from interruptible import agent as make_agent
from interruptible._cancel.steered import scope
from interruptible._options import Options  # what `agent` of each module takes, too
from interruptible._wire.output import is_said
from interruptible._wire.text import brief, mended
from interruptible._wire.types import MAX_ASKED

__all__ = [
    "DENIED",
    "GO_ON",
    "Approve",
    "Feed",
    "Options",
    "WrongUse",
    "as_agent",
    "asking",
    "by_the_user",
    "check_approve",
    "failing",
    "mended_within",
]

Approve = Callable[[str, dict[str, Any]], Awaitable[bool | str]]
"""Whether a tool may run: it is given the tool's name and the arguments, and may wait durably.

True lets it run; False, or the reason why not, is what the model is told.
"""

_TRIED_AGAIN: Final = (408, 409, 425, 429)
"""Of HTTP's statuses that say that the request is wrong, those that say no such thing."""

DENIED: Final = "The user said no."
"""Why a tool may not run, if `approve` gave no reason."""

GO_ON: Final = "Go on."
"""What a model is told that is asked after its own words."""

T = TypeVar("T")


def as_agent(
    run: Callable[[Task], Awaitable[Any]],
    framework_agent: Any,
    name: str | None,
    options: Options,
) -> Agent:
    """Make an agent of this library of one of a framework.

    Args:
        run: Works on one turn.
        framework_agent: The framework's own agent; its `name` makes the default of `name`.
        name: The agent's name.
        options: Those of `Agent`.

    Raises:
        TypeError: There is no name, or an option has the wrong type.
        ValueError: An option makes no sense.
    """
    own = name or camel_case(getattr(framework_agent, "name", None) or "")
    if not own:
        raise TypeError(
            f"The {type(framework_agent).__name__} has no name. Give it one, or say how it is "
            'called in Restate: `agent(..., name="TravelAgent")`.'
        )

    async def work(ctx: Context, task: Task) -> None:
        del ctx
        await run(task)

    work.__name__ = own  # errors call it so
    work.__doc__ = getattr(framework_agent, "description", None) or None
    return make_agent(name=own, **options)(work)


def camel_case(name: str) -> str:
    """The name of an agent as a Restate object has it: "booking agent" is `BookingAgent`."""
    return "".join(word[:1].upper() + word[1:] for word in re.findall("[A-Za-z0-9]+", name))


class WrongUse(TerminalError, TypeError):
    """Something of a framework that cannot be used so: the mistake is the same in each attempt."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, 500)


async def by_the_user(tool: str, arguments: dict[str, Any]) -> bool | str:
    """What `approve` is where nobody was named: `task.approval`, which a user answers."""
    if len(to_json(arguments)) > MAX_ASKED // 2:
        arguments = {name: brief(value, 1000) for name, value in arguments.items()}
    answer = await current_task().approval(tool, value=arguments)
    return bool(answer) or answer.reason or False


def check_approve(approve: Any) -> None:
    """Refuse an `approve` that cannot be awaited: it would be found out at the first question."""
    is_async = inspect.iscoroutinefunction(approve) or inspect.iscoroutinefunction(
        getattr(approve, "__call__", None)  # noqa: B004 - of an object it may be async, too
    )
    if approve is not None and not is_async:
        raise WrongUse(
            f"`approve` is {approve!r}. Give an `async def` of a tool's name and arguments, which "
            "returns True, False, or the reason why not."
        )


@contextmanager
def asking() -> Generator[None, None, None]:
    """Ask a model, in a durable step: what it refuses fails the turn, all else is tried again."""
    try:
        yield
    except Exception as error:
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        if isinstance(status, int) and status // 100 == 4 and status not in _TRIED_AGAIN:  # noqa: PLR2004
            raise TerminalError(
                f"The model refused the request. {type(error).__name__}: {error}"
            ) from error
        raise


@contextmanager
def failing(*errors: type[Exception]) -> Generator[None, None, None]:
    """Let these errors end the turn: each attempt would come to the same.

    Each is raised as it is; its cause is a `TerminalError` with its text.
    """
    try:
        yield
    except errors as error:
        if not isinstance(error.__cause__, TerminalError):
            raise error from TerminalError(f"{type(error).__name__}: {error}")
        raise


def mended_within(value: Any) -> Any:
    """A value as UTF-8 has it: what is half a surrogate pair in its text becomes U+FFFD."""
    if isinstance(value, str):
        return mended(value)
    if value.__class__ is dict:  # what is more than a dict or a list stays what it is
        return {mended_within(key): mended_within(x) for key, x in value.items()}
    return [*map(mended_within, value)] if value.__class__ is list else value


class Feed:
    """What goes between one run of a framework and the task that it works on.

    Attributes:
        task: The task.
        partial: Takes what the model says, piece by piece, within its step.
        calls: The ids of the calls that were put out, and of those that had no result before.
    """

    def __init__(self, task: Task) -> None:
        if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise WrongUse(
                f"`run` was given a {type(task).__name__} where the task stands. Write "
                "`await run(agent, task)`: the conversation is in the task."
            )
        self.task, self.partial = task, task.partial
        self.calls: set[str] = set()
        for message in task.messages:  # a run before this one may have left calls unanswered
            self.calls |= {x["id"] for x in message.get("tool_calls") or ()}
            self.calls.discard(message.get("tool_call_id", ""))
        self._answered: set[str] = set()
        self._failed: dict[str, str] = {}
        """Why calls have failed for good."""
        self._has_asked = False

    def reasoning(self, text: str | None) -> None:
        """Tell those who follow the session what the model thinks, within its step."""
        if text:
            self.partial("")  # which is refused outside of a step
            self.task.publish({"type": "reasoning", "text": text})

    async def steering(self) -> list[Message]:
        """What was steered at the turn since the last request to the model.

        Before the first request there is nothing to ask for: the turn has just begun, and to ask is
        a call of the agent's object.
        """
        asks, self._has_asked = self._has_asked, True
        return await self.task.steering() if asks else []

    async def ask(self, ask: Callable[[Sequence[Message]], Awaitable[T]]) -> T:
        """Ask the model; a message that is to be read at once cuts it off, and it is asked again.

        What it had said by then and what it is told are in the record already.

        Args:
            ask: Asks it in a durable step. It is given what it is to add to the request before:
                nothing at first; then, each time, what has been said since the last.
        """
        added: list[Message] = []
        while True:
            known = len(self.task.messages)
            try:
                return await self.task.steerable(ask(added))
            except Steered:
                around = scope.get()
                if around is not None and around.must_leave:
                    raise  # it is the code around the run that is to hear of it
            said = self.task.messages[known:]
            words = [x for x in said if x["role"] == "assistant" and not x.get("tool_calls")]
            await self.task.steering()  # what another takes, side by side, this one is told as well
            told = [x for x in self.task.messages[known:] if x["role"] == "user"]
            if words and not told:  # the message was taken back meanwhile
                told = [{"role": "user", "content": GO_ON}]
            added = [*words, *told]

    def put(self, messages: Iterable[Message]) -> None:
        """Put out messages, but for results of calls that have one, or are not this run's."""
        for message in messages:
            call = message.get("tool_call_id") if message["role"] == "tool" else None
            if call is not None:
                if call not in self.calls or call in self._answered:
                    continue
                self._answered.add(call)
            made = {x["id"] for x in message.get("tool_calls") or ()}
            self.calls |= made
            self._answered -= made  # a model may use an id again
            self.task.append(message)

    @contextmanager
    def running(self, *errors: type[Exception]) -> Generator[None, None, None]:
        """The block that runs the framework.

        Tools that failed for good, and so ended it, have their reasons as their results.

        Args:
            errors: Those that are `failing`.
        """
        try:
            with failing(*errors):
                yield
        except Exception as error:
            if not isinstance(error, Interrupted):
                failed = ((call, f"[Failed: {reason}]") for call, reason in self._failed.items())
                self.put({"role": "tool", "tool_call_id": x, "content": y} for x, y in failed)
            raise

    @contextmanager
    def working_on(self, call: str) -> Generator[None, None, None]:
        """The block that works on a call; it says nothing if the call is not this run's."""
        with self.task.call(call) if call in self.calls else nullcontext():
            try:
                yield
            except TerminalError as error:  # of which the framework may make a result, yet
                if not isinstance(error, Interrupted):
                    self._failed[call] = error.message
                raise

    def end(self, output: Any = None, *, said: bool = False) -> None:
        """The run has come to its end: what was put out last is the turn's answer.

        Args:
            output: What the run has come to, if it has an output; it is put out, unless the model
                has said just that last.
            said: Whether it is what the model has said last, however that is written.
        """
        if output is not None and not said:
            text = output if isinstance(output, str) else to_json(output).decode()
            if text and not is_said(output, self.task.messages[-1]):
                self.put([{"role": "assistant", "content": text}])
        self.task.append(final=True, output=output)

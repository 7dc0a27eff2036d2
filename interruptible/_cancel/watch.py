"""Level-triggered cancellation: what has happened to an attempt, and what each await does then.

The SDK raises a cancellation once: at the await that was pending when it arrived. A body that
catches `Exception` there goes on as if nothing had happened, and a cleanup that is running is
broken off by the next cancellation. So all awaits of a context go through its `Watch` instead,
which remembers a cancellation, raises it again at every later await that is not shielded, and has a
class of its own for it.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from restate import Context, TerminalError

from interruptible._cancel import sdk
from interruptible._cancel.pump import Pump
from interruptible._cancel.state import AttemptState, standing
from interruptible._cancel.steps import RunningStep, Steps
from interruptible._wire.text import with_sayable_errors

T = TypeVar("T")
_WATCH: Final = "interruptible.watch"
DEAF: Final = 1_000
"""How often code may swallow its interruption, until it is ended by an exception that
`except Exception` lets pass."""


class Interrupted(TerminalError):
    """This invocation was cancelled; nothing else raises it.

    Status 409 and the message "cancelled": what Restate's UI and CLI show as *cancelled*. A 409
    from a step or from a called service is a plain `TerminalError`.
    """

    def __init__(self, metadata: dict[str, str] | None = None) -> None:
        super().__init__("cancelled", 409, metadata)


class Deaf(BaseException):
    """Ends code that swallows its interruption over and over."""


class Watch(AttemptState):
    """What all durable awaits and steps of one attempt go through."""

    def __init__(self, ctx: Context) -> None:
        super().__init__()
        self.owner: asyncio.Task[Any] | None = None
        """The asyncio task that entered the outermost block."""
        self.commands = 0
        """How many that may have an effect the code has given to Restate. Each attempt gives the
        same ones, whatever of them it finds done."""
        self.had = set[int]()
        """The handles of what the code has awaited to its end."""
        self._inside = sdk.Inside(ctx)
        self._steps = Steps(self._inside)
        self._pump = Pump(self._inside, self, self._steps)
        self._waited_for: dict[asyncio.Future[None], Callable[[], None] | None] = {}
        """The ends of blocks that others wait for, and what brings each about; `None` where the
        block is shielded, and goes on to its own end."""

    @classmethod
    def of(cls, ctx: Context) -> "Watch":
        """The watch of a context, which has one from the first time on that somebody asks."""
        data = sdk.data_of(ctx)
        if _WATCH not in data:
            made = data[_WATCH] = cls(ctx)
            made._inside.replace(made._poll, made._run, made._give)
        watch: Watch = data[_WATCH]
        return watch

    def __close__(self) -> None:
        """The handler has ended: what it left behind ends, too."""
        self._pump.stop(sdk.Disconnected())
        self._inside.restore()

    @property
    def partials(self) -> list[tuple[str | None, str]]:
        """What the steps had said that were running when they were cut off, and for which call."""
        return self._steps.partials

    def learn_of_cancellation(self) -> None:
        """Learn of a cancellation that no await was there to be told of.

        Code that fails before it awaits anything new fails so in each attempt, and none of them
        would ever be told.
        """
        if self.state == "not cancelled" and self._inside.is_cancelled():
            self.cancel()

    async def abort(self, future: Any = None) -> None:
        """Cut off the steps in flight that are not shielded, and return when they have unwound.

        Args:
            future: Cut off the step of this durable future alone, shielded or not.
        """
        if future is not None:
            await self._steps.cut(future.handle)
            return
        await asyncio.sleep(0)  # what was handed to asyncio has begun by then, and can be cut off
        # Who is to be waited for does not wait for others, or two would wait for each other.
        others = self._waited_for.items() if standing.get() != "unwinding" else ()
        ends = {end: cut for end, cut in others if cut is not None}
        for cut in ends.values():
            cut()
        await self._steps.cut()
        if ends:
            await asyncio.wait(ends)

    async def end_work(self) -> None:
        """Cut off what is in flight, and wait for what is shielded in another asyncio task.

        That one goes on to its end, and says what came of it, before a cleanup step begins. Nothing
        else goes on from here.
        """
        self.held = True
        await self.abort()
        while standing.get() != "shielded" and (
            shields := [end for end, cut in self._waited_for.items() if cut is None]
        ):
            await asyncio.wait(shields)
            await self._pump.quiet()
            self.check()
            await self.abort()  # what came after it

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[None, None]:
        """End the work; what of it has not ended by itself goes on after the block."""
        try:
            await self.end_work()
            yield
        finally:
            self.held = False
            await self._pump.ask()

    @contextmanager
    def waited_for(self, cut: Callable[[], None] | None = None) -> Generator[None, None, None]:
        """Let others wait for the end of this block.

        Args:
            cut: Brings it about. Without it, the block is shielded, and goes on to its own end.
        """
        end = asyncio.get_running_loop().create_future()
        self._waited_for[end] = cut
        is_shielded = cut is None or standing.get() == "shielded"
        token = standing.set("shielded" if is_shielded else "unwinding")
        try:
            yield
        finally:
            standing.reset(token)
            del self._waited_for[end]
            end.set_result(None)

    async def _poll(self, future: Any) -> None:
        again, ready = self.must_end, False
        while True:
            self.check()
            if ready or self._inside.is_ready(future):
                self.had.update(sdk.had_by(future))
                return
            if self.must_end:
                self.tell(again=again)
                await self.abort()
                raise Deaf if self.raised > DEAF else Interrupted
            ready = await self._pump.wait(future)

    async def _run(self, handle: int, action: Callable[[], Any], *options: Any) -> None:
        context = self._pump.context_of(handle)
        run = partial(self._inside.run, handle, with_sayable_errors(action), *options)
        stoppable = inspect.iscoroutinefunction(action)
        step = RunningStep(handle, run, stoppable, context.get(standing, "open"))
        if self.fate(step.standing) == "goes on":
            await self._steps.run(step, context)
        else:
            self._steps.refuse(step)

    def _give(self, name: str, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.commands += not (self.told and name in sdk.ONLY_IF_AWAITED)
        return command(*args, **kwargs)


@contextmanager
def watching(ctx: Context) -> Generator[Watch, None, None]:
    """Make cancellation level-triggered on `ctx` within the block.

    Raises:
        TypeError: `ctx` is not the context that Restate gave to a handler.
    """
    watch = Watch.of(ctx)
    if watch.depth == 0:
        watch.owner = asyncio.current_task()
    watch.depth += 1
    try:
        yield watch
    finally:
        watch.depth -= 1


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


def terminal(error: BaseException | None, watch: Watch) -> TerminalError | None:
    """What ends the task when `error`, or nothing, comes out of its body.

    After a cancellation whatever comes out of the body is the interruption: frameworks make other
    exceptions of it, and groups of them. For the rest this is the SDK's own rule
    (`ServerInvocationContext.enter`): a `TerminalError`, also as an error's cause. `None` for an
    error that ends the attempt only, and for nothing if it is all well.

    Raises:
        BaseException: What ended the attempt, if it is over, whatever `error` says.
    """
    watch.check()
    if error is not None and sdk.is_of_the_worker(error):
        return None
    cause = sdk.terminal_cause(error)
    if cause is None and error is not None:
        watch.learn_of_cancellation()
    if watch.must_end:
        return error if isinstance(error, Interrupted) else Interrupted()
    return cause

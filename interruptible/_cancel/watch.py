"""Level-triggered cancellation: what has happened to an attempt, and what each await does then.

The SDK raises a cancellation once: at the await that was pending when it arrived. A body that
catches `Exception` there goes on as if nothing had happened, and a cleanup that is running is
broken off by the next cancellation. So all awaits of a context go through its `Watch` instead,
which remembers a cancellation, raises it again at every later await that is not shielded, and has a
class of its own for it.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

from restate import Context, TerminalError
from typing_extensions import Self

from interruptible._cancel import sdk
from interruptible._cancel.pump import Pump
from interruptible._cancel.state import AttemptState, standing
from interruptible._cancel.steered import NowMessages, Scope, Steered, is_to_leave, scope
from interruptible._cancel.steps import RunningStep, Steps
from interruptible._wire.text import with_sayable_errors

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
        self.works = False
        """Whether a task's work has begun; what it awaits before that is not its own."""
        self.had = set[int]()
        """The handles of what the code has awaited to its end."""
        self._inside = sdk.Inside(ctx)
        self._steps = Steps(self._inside)
        self._pump = Pump(self._inside, self, self._steps)
        self._work = set[int]()
        """The handles of what is work, and no wait."""
        self._waited_for: dict[asyncio.Future[None], Callable[[], None] | None] = {}
        """The ends of blocks that others wait for, and what brings each about; `None` where the
        block is shielded, and goes on to its own end."""
        self._when_stopping: dict[asyncio.Future[None], Callable[[], None]] = {}
        """What is to be done for such a block when it may come to its end in good order."""

    @classmethod
    def of(cls, ctx: Context) -> "Watch":
        """The watch of a context, which has one from the first time on that somebody asks.

        Raises:
            TypeError: `ctx` is not the context that Restate gave to a handler.
        """
        data = sdk.data_of(ctx)
        if _WATCH not in data:
            made = data[_WATCH] = cls(ctx)
            made._inside.replace(made._poll, made._run, made._give)
        watch: Watch = data[_WATCH]
        return watch

    def __enter__(self) -> Self:
        """Make cancellation level-triggered within the block."""
        if self.depth == 0:
            self.owner = asyncio.current_task()
        self.depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.owner = None  # a circle, where the asyncio task's own context has the watch

    def __close__(self) -> None:
        """The handler has ended: what it left behind ends, too."""
        self._pump.close()
        self._inside.restore()

    @property
    def partials(self) -> list[tuple[str | None, str]]:
        """What the steps had said that were running when they were cut off, and for which call."""
        return self._steps.partials

    def listen(self, stop: Any, now: Callable[[int], Any]) -> None:
        """Listen for what a task is told by durable futures.

        Args:
            stop: That it is to end once what is in flight has.
            now: Gives the signal of a message to be read at once, by its number in the turn.
        """
        heard = NowMessages(lambda number: sdk.one(now(number)))
        self._pump.listen(sdk.one(stop), heard)

    def saw(self, number: int) -> None:
        """A message was taken that is to be read at once."""
        if self._pump.now is not None:
            self._pump.now.see(number)

    @property
    def steered(self) -> int:
        """The last message that an await raised."""
        return 0 if self._pump.now is None else self._pump.now.raised

    def stop(self, in_flight: Collection[int]) -> None:
        """It is to end once that work of these has come which was begun."""
        super().stop(self._work.intersection(in_flight) if self.works else ())
        if self.state == "stopping":
            for pass_on in [*self._when_stopping.values()]:
                pass_on()

    def learn_of_cancellation(self) -> None:
        """Learn of a cancellation, or that it is to stop, if no await was there to be told of it.

        Code that fails before it awaits anything new fails so in each attempt, and none of them
        would ever be told.
        """
        known = self.state == "stopping"
        if known or (
            self.state == "not cancelled" and self._inside.is_told(self._pump.stop_signal)
        ):
            self.cancel()

    async def abort(self, future: Any = None) -> None:
        """Cut off the steps in flight that are not shielded, and return when they have unwound.

        Args:
            future: Cut off the step of this durable future alone, shielded or not.
        """
        if future is not None:
            await self._steps.cut({future.handle}, abandon=True)
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

    async def end_scope(self, over: Scope) -> None:
        """End what was left running in it; the work goes on."""
        over.steered = True
        try:
            await self.end_work()
        finally:
            self.held = False
        await self._pump.end()

    @contextmanager
    def waited_for(
        self,
        cut: Callable[[], None] | None = None,
        stop: Callable[[], None] | None = None,
        work: Any = None,
    ) -> Generator[None, None, None]:
        """Let others wait for the end of this block.

        Args:
            cut: Brings it about. Without it, the block is shielded, and goes on to its own end.
            stop: Says that it may come in good order.
            work: The durable future of its end, with `stop`; it has begun, so it is in flight.
        """
        end = asyncio.get_running_loop().create_future()
        self._waited_for[end] = cut
        if stop is not None:
            self._when_stopping[end] = stop
            if self.stops:
                self.in_flight.add(work.handle)
                stop()
        is_shielded = cut is None or standing.get() == "shielded"
        token = standing.set("shielded" if is_shielded else "unwinding")
        try:
            yield
        finally:
            standing.reset(token)
            del self._waited_for[end]
            self._when_stopping.pop(end, None)
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
            if self.state == "not cancelled" and is_to_leave(self._pump.now, standing.get()):
                raise Steered
            ready = await self._pump.wait(future)

    async def _run(self, handle: int, action: Callable[[], Any], *options: Any) -> None:
        context = self._pump.context_of(handle)
        run = partial(self._inside.run, handle, with_sayable_errors(action), *options)
        stoppable = inspect.iscoroutinefunction(action)
        step = RunningStep(handle, run, stoppable, context.get(standing, "open"))
        within = context.get(scope)
        leaves = step.standing != "shielded" and within is not None and within.must_leave
        if self.fate(step.standing, [handle]) == "goes on" and not leaves:
            await self._steps.run(step, context)
        else:
            self._steps.refuse(step)

    def _give(self, name: str, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        only_if = sdk.ONLY_IF_AWAITED if self.told else sdk.ONLY_IF_BEGUN
        self.commands += name in sdk.COMMANDS and not (self.begins_nothing and name in only_if)
        given = command(*args, **kwargs)
        if name in sdk.WORK:
            self._work.update(sdk.handles_given(name, given))
        return given

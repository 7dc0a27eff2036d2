"""Level-triggered cancellation, and the only module that reaches behind the SDK's public names.

The SDK raises a cancellation once: at the await that was pending when it arrived. A body that
catches `Exception` there goes on as if nothing had happened, and a cleanup that is running is
broken off by the next cancellation. Both follow from one method, through which every await of a
durable future goes, `ServerInvocationContext.create_poll_or_cancel_coroutine`. `watching` replaces
it, on one context and for as long as needed, so that a cancellation is remembered, is raised again
by every later await that is not shielded, and has a class of its own.

It also makes awaits that run side by side replay. Restate's state machine hands out what has come
one thing at a time, in the order of the journal, but only to an await that asks. If each asks for
itself, asyncio decides who goes on first, and another attempt may decide otherwise. So here all of
them ask as one (`Watch._pump`), and whoever got something goes on until it awaits again, before the
next thing is handed out.

What else is needed of the SDK's inside: `create_run_coroutine`, which runs a step's action (to
abort it), `receive`, the inbox of the attempt (to make the pump look again, and to see whether the
server can still be asked), `vm`, the state machine (to ask it for a cancellation, and to count the
commands that it is given), and `journal_codec` (error metadata bypasses it).
`tests/server/test_sdk.py` pins all of it.
"""

import asyncio
import base64
import inspect
import re
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Final, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

from restate import Context, TerminalError
from restate.exceptions import RetryableError, SdkInternalBaseException
from restate.extensions import current_context
from restate.server_context import DisconnectedException, ServerInvocationContext
from restate.vm import (
    CANCEL_HANDLE,  # pyright: ignore[reportUnknownVariableType]
    AllCompletedUnresolvedFuture,
    DoProgressCancelSignalReceived,
    FirstCompletedUnresolvedFuture,
    SingleUnresolvedFuture,
    VMWrapper,
)

from interruptible._wire.text import with_sayable_errors

T = TypeVar("T")

_WATCH: Final = "_interruptible_watch"
_LOOK_AGAIN: Final = {"type": "restate.run_completed", "data": None}
_COMMANDS: Final = [
    name
    for name in vars(VMWrapper)
    if re.match("sys_(?!input|end|write_output|get_|peek_|sleep|awakeable|signal)", name)
]
"""What gives Restate a command that may have an effect elsewhere."""
_ONLY_IF_AWAITED: Final = ("sys_run", "sys_call")
"""Those of them that have none once the code was told of its cancellation."""
MANY: Final = 10_000
"""More cancellations than one await can receive, unless the SDK repeats itself."""
DEAF: Final = 1_000
"""How often code may swallow its interruption, until it is ended by an exception that
`except Exception` lets pass."""
ROUNDS: Final = 20
"""How many rounds of a busy event loop code gets to come to its next await. On one that is not busy
it can be seen whether it is there; but uvloop does not show it."""
ROUNDS_SIDE_BY_SIDE: Final = 100
"""The same once awaits have run side by side: their code may be many asyncio tasks deep."""
_waits_for_quiet: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Counter[str]]] = (
    WeakKeyDictionary()
)
_shielded: ContextVar[bool] = ContextVar("interruptible_shielded", default=False)
_kept: ContextVar[int] = ContextVar("interruptible_kept", default=-1)
_running: ContextVar["_Step | None"] = ContextVar("interruptible_running", default=None)

for _name, _parameters in {
    "create_poll_or_cancel_coroutine": ["self", "unresolved_future"],
    "create_run_coroutine": ["self", "handle", "action", "serde"],
}.items():
    _method = getattr(ServerInvocationContext, _name, None)
    if _method is None or list(inspect.signature(_method).parameters)[: len(_parameters)] != (
        _parameters
    ):
        msg = (
            f"This restate-sdk has no ServerInvocationContext.{_name}({', '.join(_parameters)}), "
            "on which cancellation rests. Install a restate-sdk within the range that "
            "restate-interruptible asks for."
        )
        raise ImportError(msg)


class Interrupted(TerminalError):
    """This invocation was cancelled; nothing else raises it.

    Status 409 and the message "cancelled": what Restate's UI and CLI show as *cancelled*. A 409
    from a step or from a called service is a plain `TerminalError`.
    """

    def __init__(self, metadata: dict[str, str] | None = None) -> None:
        super().__init__("cancelled", 409, metadata)


class Deaf(BaseException):
    """Ends code that swallows its interruption over and over."""


class Watch:
    """The cancellation of one attempt of one invocation."""

    def __init__(self, ctx: ServerInvocationContext) -> None:
        self.cancelled = False
        self.raised = False
        self.gone: BaseException | None = None
        """What ended the attempt (a suspension, a lost connection, an error of the SDK): raised
        again by every later await, whatever the code makes of it."""
        self.depth = 0
        self.commands = 0
        """How many that may have an effect the code has given to Restate. Each attempt gives the
        same ones, whatever of them it finds done."""
        self.owner = asyncio.current_task()
        self._told = 0
        self._deaf = 0
        self._ctx = ctx
        self._sdk_poll = ctx.create_poll_or_cancel_coroutine
        self._sdk_run = ctx.create_run_coroutine
        self._parked: list[_Parked] = []
        self._union = FirstCompletedUnresolvedFuture([])
        self._pumping: asyncio.Task[None] | None = None
        self._polling = False
        self._rounds = ROUNDS
        self._holds = 0
        self._steps: dict[asyncio.Task[Any], _Step] = {}
        self._aborted: dict[int, _Step] = {}
        self._cut: dict[int, _Step] = {}
        self._ending = 0
        self._unwinding: dict[asyncio.Future[None], _Unwinding] = {}
        self._shields: dict[asyncio.Future[None], asyncio.Task[Any] | None] = {}

    @property
    def pending(self) -> bool:
        """Whether a cancellation has arrived that this part of the code must end for.

        Outside of all blocks it is raised once, as in any Restate handler.
        """
        return self._ends and not _shielded.get()

    @property
    def _ends(self) -> bool:
        return self.cancelled and not (self.raised and self.depth == 0)

    @property
    def done(self) -> bool:
        """Whether nothing is left that the context has to be watched for."""
        # A poll that goes on although nobody awaits takes from the inbox what others wait for.
        left = bool(self._parked or self._aborted) or (self.cancelled and not self.raised)
        return self.depth == 0 and not left and not self._polling

    @property
    def counts(self) -> bool:
        """Whether what the code puts out now is of the work, and not of its being interrupted.

        Once an await has raised the interruption, nothing that follows is; but what is shielded
        goes on to its end, and its result is real.
        """
        return self._told == 0 or _shielded.get() or _kept.get() == self._told

    @property
    def told(self) -> bool:
        """Whether an await has raised the interruption."""
        return self._told > 0

    @property
    def partials(self) -> list[tuple[str | None, str]]:
        """What the steps had said that were running when they were cut off, and for which call."""
        steps = [step for _, step in sorted(self._cut.items())]
        said = [(call, "".join(x)) for step in steps for call, x in step.said.items()]
        return [(call, text) for call, text in said if text.strip()]

    @contextmanager
    def unwinding(self, cut: Callable[[], None]) -> Generator[None, None, None]:
        """Let `abort` wait for the end of this block, which `cut` brings about."""
        end = asyncio.get_running_loop().create_future()
        self._unwinding[end] = _Unwinding(asyncio.current_task(), cut)
        try:
            yield
        finally:
            del self._unwinding[end]
            end.set_result(None)

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[None, None]:
        """Let nothing go on, while the block lasts, that is not shielded."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if self._holds == 0 and self.gone is None:
                for parked in self._parked:  # on a step that was cut off, for instance
                    parked.context.run(self._rerun_aborted, parked.future)
                if self._parked:
                    await self._ask_for(*self._parked)

    def keep(self) -> None:
        """Note that a shielded await is over: what follows is about its result, and counts."""
        _kept.set(self._told)

    def check(self) -> None:
        """Raise again, where the code has swallowed it, that the attempt is over.

        Without it the code would go on to its next steps, and begin them, while Restate has another
        attempt do the same.
        """
        if self.gone is not None:
            raise self.gone

    def ask(self) -> None:
        """Learn of a cancellation that no await was there to be told of.

        Code that fails before it awaits anything new fails so in each attempt, and none of them
        would ever be told. In a replay the state machine takes it for a mismatch if there is none:
        code that fails where it did not fail before is one. A server that does not listen any more
        is not asked, for that would suspend the attempt.
        """
        vm, receive = self._ctx.vm, cast("Any", self._ctx.receive)
        if self.cancelled or self.gone is not None:
            return
        if vm.is_replaying() or not receive._http_input_closed.is_set():  # noqa: SLF001
            answer = vm.do_progress(SingleUnresolvedFuture(cast("int", CANCEL_HANDLE)))
            self.cancelled = isinstance(answer, DoProgressCancelSignalReceived)

    async def abort(self, future: Any = None) -> None:
        """Cut off the steps in flight that are not shielded, and return when they have unwound.

        A step that is not `async` runs in a thread, which nothing can stop: it is waited for.

        Args:
            future: Cut off the step of this durable future alone, shielded or not.
        """
        if future is None:
            self._ending += 1
            try:  # what was handed to asyncio and has not begun is not to begin any more
                await asyncio.sleep(0)
            finally:
                self._ending -= 1
        mine = asyncio.current_task()
        steps = {
            task: step
            for task, step in self._steps.items()
            if task is not mine
            and (not step.shielded if future is None else step.handle == future.handle)
        }
        for task, step in steps.items():
            if future is None:
                self._cut[step.handle] = step  # also one that nothing can stop: nobody gets its end
            if (step.stoppable or future is not None) and not step.aborted:
                step.aborted = True  # once: a second time would break off how it unwinds
                self._aborted[step.handle] = step
                task.cancel()
        # Who is to be waited for does not wait for others, or two would wait for each other.
        alone = future is not None or any(x.task is mine for x in self._unwinding.values())
        ends = {} if alone else dict(self._unwinding)
        for unwinding in ends.values():
            unwinding.cut()
        if steps or ends:
            await asyncio.wait([*steps, *ends])

    async def end(self) -> None:
        """Cut off what is in flight, and wait for what is shielded in another asyncio task.

        That one goes on to its end, and says what came of it, before a cleanup step begins.
        """
        await self.abort()
        mine = asyncio.current_task()
        while not _shielded.get():
            ends = [end for end, task in self._shields.items() if task is not mine]
            if not ends:
                break
            await asyncio.wait(ends)
            await _quiet(lambda: self._rounds)
            self.check()
            await self.abort()  # what came after it

    @contextmanager
    def shielding(self) -> Generator[None, None, None]:
        """Let `end` wait for the end of this block."""
        over = asyncio.get_running_loop().create_future()
        self._shields[over] = asyncio.current_task()
        try:
            yield
        finally:
            del self._shields[over]
            over.set_result(None)

    def install(self) -> None:
        setattr(self._ctx, _WATCH, self)
        self._ctx.create_poll_or_cancel_coroutine = self._poll  # type: ignore[method-assign]
        self._ctx.create_run_coroutine = self._run  # type: ignore[method-assign]
        for name in _COMMANDS:
            setattr(self._ctx.vm, name, self._counted(name))

    def leave(self) -> None:
        """Make the context what it was, if nothing is left to be watched."""
        if self.done and vars(self._ctx).get(_WATCH) is self:
            delattr(self._ctx, _WATCH)
            del self._ctx.create_poll_or_cancel_coroutine
            del self._ctx.create_run_coroutine
            for name in _COMMANDS:
                delattr(self._ctx.vm, name)

    def _counted(self, name: str) -> Callable[..., Any]:
        command = getattr(self._ctx.vm, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.commands += not (self.told and name in _ONLY_IF_AWAITED)
            return command(*args, **kwargs)

        return counted

    async def _poll(self, unresolved_future: Any) -> None:
        self._deaf += self.pending
        while True:
            self.check()
            if self._is_ready(unresolved_future):
                return
            if self.pending:
                self.raised = True
                self._told += 1
                await self.abort()
                raise Deaf if self._deaf > DEAF else Interrupted
            if not self._holds or _shielded.get():
                self._rerun_aborted(unresolved_future)
            if await self._park(unresolved_future):
                self.check()
                return

    async def _park(self, unresolved_future: Any) -> bool:
        """Wait until the pump has something for this await; returns whether it is what it awaits.

        It may be looked for in vain afterwards, as another branch may await the same, and take it.
        """
        parked = _Parked(unresolved_future)
        self._parked.append(parked)
        if len(self._parked) > 1:
            self._rounds = ROUNDS_SIDE_BY_SIDE
        if self._goes_on(parked):
            await self._ask_for(parked)
        try:
            return await parked.woken
        finally:
            if parked in self._parked:
                self._parked.remove(parked)

    async def _ask_for(self, *parked: "_Parked") -> None:
        if self._polling:  # it looks at the children anew each time
            self._union.children.extend(x.future for x in parked)
            await self._ctx.receive.enqueue_restate_event(cast("Any", _LOOK_AGAIN))
        elif self._pumping is None:
            self._pumping = asyncio.create_task(self._pump())
            cast("Any", self._ctx.tasks).add(self._pumping)

    def _goes_on(self, parked: "_Parked") -> bool:
        unwinds = any(parked.task is x.task for x in self._unwinding.values())
        return not self._holds or parked.shielded or unwinds

    async def _pump(self) -> None:
        """Ask for all that is parked, and let go on what got something, one after the other."""
        cancellations = 0
        try:
            while self.gone is None:
                await _quiet(lambda: self._rounds)
                asked = [parked.future for parked in self._parked if self._goes_on(parked)]
                if not asked:
                    return
                self._union.children[:] = asked
                self._polling = True
                try:
                    await self._sdk_poll(self._union)
                except TerminalError:
                    # Raised here for this invocation's own cancellation, and for nothing else:
                    # the failure of what is awaited is raised when its result is taken.
                    self.cancelled, self.raised = True, False
                    cancellations += 1
                    if cancellations > MANY:
                        msg = (
                            "restate-sdk raises one cancellation for ever: no cleanup can run. "
                            "Install restate-sdk 1.0.4 or newer."
                        )
                        raise RuntimeError(msg) from None
                finally:
                    self._polling = False
                for parked in filter(self._goes_on, self._parked):
                    parked.look(self._is_ready)
                self._wake(lambda x: x.ready or (self._ends and not x.shielded))
        except asyncio.CancelledError:
            self.gone = DisconnectedException()
        except BaseException as error:  # noqa: BLE001 - each of those that are parked raises it
            self.gone = error
        finally:
            self._pumping = None
            if self.gone is not None:
                self._wake(lambda _: True)
            self.leave()

    def _wake(self, which: Callable[["_Parked"], bool]) -> None:
        woken = [parked for parked in self._parked if which(parked)]
        # Who only looks goes before who takes it.
        for parked in sorted(woken, key=lambda x: isinstance(x.future, SingleUnresolvedFuture)):
            self._parked.remove(parked)
            if not parked.woken.done():
                parked.woken.set_result(parked.ready)

    def _is_ready(self, unresolved_future: Any) -> bool:
        children = getattr(unresolved_future, "children", None)
        if children is None:
            return self._ctx.vm.is_completed(unresolved_future.handle)
        some = all if isinstance(unresolved_future, AllCompletedUnresolvedFuture) else any
        return some(self._is_ready(child) for child in children)

    async def _run(self, handle: int, action: Callable[[], Any], *args: Any, **kwargs: Any) -> None:
        # In the context of who awaits it: the SDK begins it in that of the pump.
        waits = (x.context for x in self._parked if handle in _handles(x.future))
        context = next(waits, None) or copy_context()
        step = _Step(handle, action, args, kwargs)
        await context.run(asyncio.ensure_future, self._work_on(step))

    async def _work_on(self, step: "_Step") -> None:
        step.shielded = _shielded.get()
        if not step.shielded and (self.pending or self._ending or self.gone is not None):
            self._aborted[step.handle] = step
            return
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._steps[task] = step
        _running.set(step)
        try:
            action = with_sayable_errors(step.action)
            await self._sdk_run(step.handle, action, *step.args, **step.kwargs)
            self._aborted.pop(step.handle, None)  # it went on to its end all the same
        finally:
            del self._steps[task]

    def _rerun_aborted(self, unresolved_future: Any) -> None:
        # The state machine believes that an aborted step is still running, and would wait for it
        # for ever. Another attempt would run it again; so does this one.
        for handle in sorted(self._aborted.keys() & set(_handles(unresolved_future))):
            step = self._aborted.pop(handle)
            self._cut.pop(handle, None)

            async def again(step: _Step = step) -> None:
                try:
                    await self._work_on(_Step(step.handle, step.action, step.args, step.kwargs))
                finally:
                    await self._ctx.receive.enqueue_restate_event(cast("Any", _LOOK_AGAIN))

            cast("Any", self._ctx.tasks).add(asyncio.ensure_future(again()))


class _Unwinding(NamedTuple):
    """A block that takes its time to end."""

    task: asyncio.Task[Any] | None
    cut: Callable[[], None]


class _Step:
    """A durable step whose action is running."""

    def __init__(
        self,
        handle: int,
        action: Callable[[], Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.handle, self.action, self.args, self.kwargs = handle, action, args, kwargs
        self.shielded = False
        self.stoppable = inspect.iscoroutinefunction(action)
        self.aborted = False
        self.said: dict[str | None, list[str]] = {}
        """What it said for a tool's call; and by itself, which is for `None`."""


class _Parked:
    """An await that waits for the pump."""

    def __init__(self, future: Any) -> None:
        self.future = future
        self.shielded = _shielded.get()
        self.context = copy_context()
        self.task = asyncio.current_task()
        self.ready = False
        self.woken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def look(self, is_ready: Callable[[Any], bool]) -> None:
        """Note what has come: later on it may have been taken by another await."""
        self.ready = is_ready(self.future)
        if isinstance(self.future, AllCompletedUnresolvedFuture) and not self.ready:
            children = [child for child in self.future.children if not is_ready(child)]
            self.future = AllCompletedUnresolvedFuture(children)


@contextmanager
def watching(ctx: Context) -> Generator[Watch, None, None]:
    """Make cancellation level-triggered on `ctx` within the block.

    A cancellation that nobody was told of (it arrived in a shielded await) stays in force after
    the block: the next durable await raises it.

    Raises:
        TypeError: `ctx` is not the context that Restate gave to a handler.
    """
    if not isinstance(ctx, ServerInvocationContext):
        msg = (
            f"This takes the context of a Restate handler, not {type(ctx).__name__}. "
            "Pass the handler's `ctx`."
        )
        raise TypeError(msg)
    watch: Watch | None = vars(ctx).get(_WATCH)
    if watch is None:
        watch = Watch(ctx)
        watch.install()
    watch.depth += 1
    try:
        yield watch
    finally:
        watch.depth -= 1
        watch.leave()


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
        ctx = current_context()
    except LookupError:
        ctx = None
    if ctx is None:
        msg = "shield() was called outside of a Restate handler. Await the future as it is."
        raise RuntimeError(msg)
    with watching(ctx) as watch, watch.shielding():
        _forget_interruption(future)
        token = _shielded.set(True)
        try:
            return await future
        finally:
            _shielded.reset(token)
            watch.keep()


def in_step() -> bool:
    """Whether this is called by the action of a durable step."""
    return _running.get() is not None


def say(delta: str, call: str | None = None) -> None:
    """Note what the model says in the step that is running, or what comes of a tool's call there.

    Raises:
        RuntimeError: When called outside of a step.
    """
    step = _running.get()
    if step is None:
        name = "partial" if call is None else "partial_result"
        msg = f"`task.{name}` was called outside of a step. Call it in what `ctx.run_typed` runs."
        raise RuntimeError(msg)
    step.said.setdefault(call, []).append(delta)


def terminal(error: BaseException, watch: Watch) -> TerminalError | None:
    """What ends the task when `error` comes out of its body, or `None`: it ends the attempt only.

    After a cancellation whatever comes out of the body is the interruption: frameworks make other
    exceptions of it, and groups of them. For the rest this is the SDK's own rule
    (`ServerInvocationContext.enter`): a `TerminalError`, also as an error's cause.

    Raises:
        BaseException: What ended the attempt, if it is over, whatever `error` says.
    """
    watch.check()
    if _is_of_the_worker(error):
        return None
    cause = terminal_cause(error)
    if cause is None:
        watch.ask()
    if watch.pending:
        return error if isinstance(error, Interrupted) else Interrupted()
    return cause


def is_stray(error: BaseException) -> bool:
    """Whether code let out what is no exception, and neither the SDK's nor for the worker.

    The SDK does not tell Restate of it. A `CancelledError`, if nobody cancelled the handler, leaves
    the server waiting; anything else breaks the worker's connection, and all that runs on it.
    """
    known = isinstance(error, (Exception, SdkInternalBaseException))
    return not known and not _is_of_the_worker(error)


def _is_of_the_worker(error: BaseException) -> bool:
    """Whether the worker is told to stop, or lost its connection; then no rule of ours holds."""
    if isinstance(error, asyncio.CancelledError):
        cancelling = getattr(asyncio.current_task(), "cancelling", None)  # Python 3.11
        return cancelling is None or cancelling() > 0
    return isinstance(error, (DisconnectedException, KeyboardInterrupt, SystemExit, GeneratorExit))


def terminal_cause(error: BaseException) -> TerminalError | None:
    """The `TerminalError` that the SDK would take `error` for."""
    cause: BaseException | None = error
    while cause is not None and isinstance(cause, Exception):
        if isinstance(cause, TerminalError):
            return cause
        if asks_for_a_retry(cause):
            return None
        cause = cause.__cause__
    return None


def asks_for_a_retry(error: BaseException) -> bool:
    """Whether an error says that another attempt is to go on."""
    return isinstance(error, (DisconnectedException, RetryableError))


def seal(ctx: Context, value: bytes) -> str:
    """Make `value` fit for error metadata, through the endpoint's journal codec if it has one."""
    codec = getattr(ctx, "journal_codec", None)
    if codec is None:
        return value.decode()
    return base64.b64encode(codec.encode(value)).decode()


async def unseal(ctx: Context, sealed: str) -> bytes:
    """The inverse of `seal`."""
    codec = getattr(ctx, "journal_codec", None)
    if codec is None:
        return sealed.encode()
    return bytes(await codec.decode(base64.b64decode(sealed)))


async def _quiet(rounds: Callable[[], int]) -> None:
    """Let all code come to its next await: it is there when no callback is left to be called."""
    loop = asyncio.get_running_loop()
    callbacks: Any = getattr(loop, "_ready", None)  # uvloop has none
    waits = _waits_for_quiet.setdefault(loop, Counter())
    looked = 0
    over = loop.create_future()

    def look() -> None:
        nonlocal looked
        waits["quiet"] -= 1
        looked += 1
        # Others that wait for it have a callback each, and would keep each other waiting.
        if looked < rounds() and (callbacks is None or len(callbacks) > waits["quiet"]):
            look_again()
        elif not over.done():
            over.set_result(None)

    def look_again() -> None:
        waits["quiet"] += 1
        loop.call_soon(look)  # a tenth of what it costs to switch to a task

    look_again()
    await over


def _handles(unresolved_future: Any) -> Iterator[int]:
    if hasattr(unresolved_future, "handle"):
        yield unresolved_future.handle
    for child in getattr(unresolved_future, "children", ()):
        yield from _handles(child)


def _forget_interruption(future: Any) -> None:
    # A future that was awaited before keeps the `Interrupted` that it raised then.
    lazy = getattr(future, "future", None)
    task = getattr(lazy, "task", None)
    if (
        lazy is not None
        and task is not None
        and task.done()
        and not task.cancelled()
        and isinstance(task.exception(), Interrupted)
    ):
        lazy.task = None

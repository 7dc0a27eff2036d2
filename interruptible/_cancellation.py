"""Level-triggered cancellation, and the only module that reaches behind the SDK's public names.

The SDK raises a cancellation once: at the await that was pending when it arrived. A body that
catches `Exception` there goes on as if nothing had happened, and a cleanup that is running is
broken off by the next cancellation. Both follow from one method, through which every await of a
durable future goes, `ServerInvocationContext.create_poll_or_cancel_coroutine`. `watching` replaces
it, on one context and for as long as needed, so that a cancellation is remembered, is raised again
by every later await that is not shielded, and has a class of its own.

What else is needed of the SDK's inside: `create_run_coroutine`, which runs a step's action (to
abort it), `receive`, the inbox of the attempt (to wake the awaits that run side by side), and
`journal_codec` (error metadata bypasses it). `tests/server/test_sdk.py` pins all of it.
"""

import asyncio
import base64
import inspect
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar, cast

from restate import Context, TerminalError
from restate.exceptions import RetryableError
from restate.extensions import current_context
from restate.server_context import DisconnectedException, ServerInvocationContext
from restate.vm import AllCompletedUnresolvedFuture

from interruptible._text import with_sayable_errors

T = TypeVar("T")

_WATCH: Final = "_interruptible_watch"
_LOOK_AGAIN: Final = "look again"
MANY: Final = 10_000
"""More cancellations than one await can receive, unless the SDK repeats itself."""
_shielded: ContextVar[bool] = ContextVar("interruptible_shielded", default=False)
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


class Watch:
    """The cancellation of one attempt of one invocation."""

    def __init__(self, ctx: ServerInvocationContext) -> None:
        self.cancelled = False
        self.raised = False
        self.gone: DisconnectedException | None = None
        """Raised once the connection was lost: the attempt is over, whatever the code does."""
        self.depth = 0
        self.owner = asyncio.current_task()
        self._ctx = ctx
        self._sdk_poll = ctx.create_poll_or_cancel_coroutine
        self._sdk_run = ctx.create_run_coroutine
        self._inbox = _Inbox(ctx.receive, self)
        self._steps: dict[asyncio.Task[Any], _Step] = {}
        self._aborted: dict[int, _Step] = {}
        self._cut: dict[int, _Step] = {}
        self._ending = 0
        self._unwinding: dict[asyncio.Future[None], asyncio.Task[Any] | None] = {}

    @property
    def pending(self) -> bool:
        """Whether a cancellation has arrived that this part of the code must end for.

        Outside of all blocks it is raised once, as in any Restate handler.
        """
        told = self.raised and self.depth == 0
        return self.cancelled and not told and not _shielded.get()

    @property
    def done(self) -> bool:
        """Whether nothing is left that the context has to be watched for."""
        return self.depth == 0 and not self._aborted and (self.raised or not self.cancelled)

    @property
    def partials(self) -> list[tuple[str | None, str]]:
        """What the steps had said that were running when they were cut off, and for which call."""
        steps = [step for _, step in sorted(self._cut.items())]
        said = [(call, "".join(x)) for step in steps for call, x in step.said.items()]
        return [(call, text) for call, text in said if text.strip()]

    @contextmanager
    def unwinding(self) -> Generator[None, None, None]:
        """Let `abort` wait for the end of this block, which ends by itself once cancelled."""
        end = asyncio.get_running_loop().create_future()
        self._unwinding[end] = asyncio.current_task()
        try:
            yield
        finally:
            del self._unwinding[end]
            end.set_result(None)

    def check(self) -> None:
        """Raise again, where the code has swallowed it, that the connection was lost.

        Without it the code would go on to its next steps, and begin them, while Restate has another
        attempt do the same.
        """
        if self.gone is not None:
            raise self.gone

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
        ends = () if future or mine in self._unwinding.values() else tuple(self._unwinding)
        if steps or ends:
            await asyncio.wait([*steps, *ends])

    def install(self) -> None:
        self._ctx.create_poll_or_cancel_coroutine = self._poll  # type: ignore[method-assign]
        self._ctx.create_run_coroutine = self._run  # type: ignore[method-assign]
        self._ctx.receive = cast("Any", self._inbox)

    def remove(self) -> None:
        del self._ctx.create_poll_or_cancel_coroutine
        del self._ctx.create_run_coroutine
        self._ctx.receive = self._inbox.receive

    async def _poll(self, unresolved_future: Any) -> None:
        cancellations = 0
        while not self.pending:
            self.check()
            self._rerun_aborted(unresolved_future)
            try:
                await self._sdk_poll(unresolved_future)
            except DisconnectedException as error:
                self.gone = error
                raise
            except Interrupted:
                continue  # woken: another await was told
            except TerminalError:
                # Raised here for this invocation's own cancellation, and for nothing else:
                # the failure of what is awaited is raised when its result is taken.
                self.cancelled, self.raised = True, False
                self._inbox.wake()
                cancellations += 1
                if cancellations > MANY:
                    msg = (
                        "restate-sdk raises one cancellation for ever: no cleanup can run. "
                        "Install restate-sdk 1.0.4 or newer."
                    )
                    raise RuntimeError(msg) from None
            else:
                await self._inbox.tell()
                if not self.pending:
                    return
        if self._is_ready(unresolved_future):
            return  # another attempt would find it ready, and not come here
        self.raised = True
        await self.abort()
        raise Interrupted

    def _is_ready(self, unresolved_future: Any) -> bool:
        children = getattr(unresolved_future, "children", None)
        if children is None:
            return self._ctx.vm.is_completed(unresolved_future.handle)
        some = all if isinstance(unresolved_future, AllCompletedUnresolvedFuture) else any
        return some(self._is_ready(child) for child in children)

    async def _run(self, handle: int, action: Callable[[], Any], *args: Any, **kwargs: Any) -> None:
        step = _Step(handle, action, args, kwargs, shielded=_shielded.get())
        if not step.shielded and (self.pending or self._ending or self.gone is not None):
            self._aborted[handle] = step
            return
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._steps[task] = step
        _running.set(step)
        try:
            await self._sdk_run(handle, with_sayable_errors(action), *args, **kwargs)
            self._aborted.pop(handle, None)  # it went on to its end all the same
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
                    await self._run(step.handle, step.action, *step.args, **step.kwargs)
                finally:
                    await self._inbox.receive.enqueue_restate_event(
                        {"type": "restate.run_completed", "data": None}
                    )

            cast("Any", self._ctx.tasks).add(asyncio.ensure_future(again()))


class _Step:
    """A durable step whose action is running."""

    def __init__(
        self,
        handle: int,
        action: Callable[[], Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        shielded: bool,
    ) -> None:
        self.handle, self.action, self.args, self.kwargs = handle, action, args, kwargs
        self.shielded = shielded
        self.stoppable = inspect.iscoroutinefunction(action)
        self.aborted = False
        self.said: dict[str | None, list[str]] = {}
        """What it said for a tool's call; and by itself, which is for `None`."""


class _Inbox:
    """The attempt's inbox; an await that is parked in it can be woken without losing anything."""

    def __init__(self, receive: Any, watch: Watch) -> None:
        self.receive = receive
        self._watch = watch
        self._waiting = 0
        self._news = False
        self._parked: dict[asyncio.Task[Any], None] = {}  # in the order in which they came
        self._woken: set[asyncio.Task[Any]] = set()

    def wake(self) -> None:
        """Raise `Interrupted` in every await that is parked here and not shielded."""
        self._woken.update(self._parked)
        for task in self._parked:
            task.cancel()
        self._parked.clear()

    async def __call__(self) -> Any:
        await self.tell()
        if self._watch.pending:
            raise Interrupted
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        if not _shielded.get():
            self._parked[task] = None
        self._waiting += 1
        try:
            event = await self.receive()
        except asyncio.CancelledError:
            if task not in self._woken:
                raise
            if sys.version_info >= (3, 11):
                task.uncancel()
            raise Interrupted from None
        finally:
            self._waiting -= 1
            self._parked.pop(task, None)
            self._woken.discard(task)
        self._news |= event.get("data") != _LOOK_AGAIN
        return event

    async def tell(self) -> None:
        """Let the others look at what the last event brought: it may be what they wait for."""
        if self._news and self._waiting:
            for _ in range(self._waiting):
                await self.receive.enqueue_restate_event(
                    {"type": "restate.run_completed", "data": _LOOK_AGAIN}
                )
            await asyncio.sleep(0)  # or this await would take them all itself
        self._news = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.receive, name)


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
        setattr(ctx, _WATCH, watch)
        watch.install()
    watch.depth += 1
    try:
        yield watch
    finally:
        watch.depth -= 1
        if watch.done:
            watch.remove()
            delattr(ctx, _WATCH)


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
    with watching(ctx):
        _forget_interruption(future)
        token = _shielded.set(True)
        try:
            return await future
        finally:
            _shielded.reset(token)


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

    After a cancellation every error of the body is the interruption. For the rest this is the
    SDK's own rule (`ServerInvocationContext.enter`): a `TerminalError`, also as an error's cause.
    """
    if isinstance(error, (DisconnectedException, RetryableError)):
        return None
    watch.check()
    if not isinstance(error, Exception):
        return None
    if watch.pending:
        return error if isinstance(error, Interrupted) else Interrupted()
    return terminal_cause(error)


def terminal_cause(error: BaseException) -> TerminalError | None:
    """The `TerminalError` that the SDK would take `error` for."""
    cause: BaseException | None = error
    while cause is not None and isinstance(cause, Exception):
        if isinstance(cause, TerminalError):
            return cause
        if isinstance(cause, (DisconnectedException, RetryableError)):
            return None
        cause = cause.__cause__
    return None


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

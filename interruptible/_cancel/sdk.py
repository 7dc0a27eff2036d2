"""The only module that reaches behind the SDK's public names.

The SDK offers no hook for a cancellation that stays. These are used of its inside:

- `ServerInvocationContext.create_poll_or_cancel_coroutine`, through which every await of a durable
  future goes. It raises a `TerminalError` for the invocation's own cancellation, and for nothing
  else: the failure of what is awaited is raised when its result is taken.
- `create_run_coroutine`, which runs a step's action, to know what is in flight. Both are replaced
  on one context, from the first block or `shield` on until its handler has ended.
- `receive`, the inbox of the attempt: to make a poll look again, and to see whether the server can
  still be asked. `tasks`, which ends with the attempt.
- `vm`, the state machine: to ask it what has come, and to count the commands that it is given.
- `extension_data`, what is kept with a context.
- `journal_codec`, as error metadata bypasses it; and what a future keeps that was awaited before.

`tests/server/test_sdk.py` pins all of it.
"""

import asyncio
import base64
import inspect
import re
from collections.abc import Awaitable, Callable
from functools import cache, partialmethod
from typing import Any, Final, cast

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

_COMMAND: Final = "sys_(?!input|end|write_output|get_|peek_|sleep|awakeable|signal)"
COMMANDS: Final = [name for name in vars(VMWrapper) if re.match(_COMMAND, name)]
"""What gives Restate a command that may have an effect elsewhere."""
ONLY_IF_AWAITED: Final = ("sys_run", "sys_call")
"""Those of them that have none once the code was told of its cancellation."""
ONLY_IF_BEGUN: Final = ("sys_run",)
"""Those that have none in code that is stopping in good order: nothing new begins there."""
WORK: Final = ("sys_run", "sys_call", "attach_invocation")
"""What gives it a handle of the end of some work; to attach has no effect."""
TOO_MANY: Final = 10_000
"""More cancellations than one attempt can receive, unless the SDK repeats itself."""

for _method, _parameters in (
    ("create_poll_or_cancel_coroutine", "self, unresolved_future"),
    ("create_run_coroutine", "self, handle, action, serde"),
):
    _found = getattr(ServerInvocationContext, _method, lambda: None)
    if not ", ".join(inspect.signature(_found).parameters).startswith(_parameters):
        msg = (
            f"This restate-sdk has no ServerInvocationContext.{_method}({_parameters}), "
            "on which cancellation rests. Install a restate-sdk within the range that "
            "restate-interruptible asks for."
        )
        raise ImportError(msg)


class _Watched:
    """What a state machine is, too, that is given its commands by a watch."""

    give: Callable[..., Any]

    def give_by_name(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.give(name, getattr(super(), name), *args, **kwargs)


for _name in {*COMMANDS, *WORK}:
    setattr(_Watched, _name, partialmethod(_Watched.give_by_name, _name))


@cache
def _watched(kind: type[VMWrapper]) -> type[VMWrapper]:
    return type(kind.__name__, (_Watched, kind), {})


class Inside:
    """The inside of a handler's context."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx
        self._poll: Callable[[Any], Awaitable[None]] = ctx.create_poll_or_cancel_coroutine
        self._vm: type[VMWrapper] = type(ctx.vm)
        self._cancellations = 0
        self.run: Callable[..., Awaitable[None]] = ctx.create_run_coroutine
        """The SDK's own: run a step's action, and propose what came of it."""

    def replace(
        self,
        poll: Callable[[Any], Awaitable[None]],
        run: Callable[..., Awaitable[None]],
        give: Callable[..., Any],
    ) -> None:
        """Have all awaits, steps and commands of the context go through these."""
        self._ctx.create_poll_or_cancel_coroutine = poll
        self._ctx.create_run_coroutine = run
        self._ctx.vm.give = give
        self._ctx.vm.__class__ = _watched(self._vm)  # type: ignore[arg-type]  # it can be hashed

    def restore(self) -> None:
        """Make the context what it was: as part of a circle it would outlast its attempt."""
        del self._ctx.create_poll_or_cancel_coroutine
        del self._ctx.create_run_coroutine
        self._ctx.vm.__class__ = self._vm
        del self._ctx.vm.give

    async def poll(self, future: Any) -> bool:
        """Wait until something has come; returns whether it is a cancellation."""
        try:
            await self._poll(future)
        except TerminalError:
            self._cancellations += 1
            if self._cancellations > TOO_MANY:
                raise RuntimeError(
                    "restate-sdk raises one cancellation for ever: no cleanup can run. "
                    "Install restate-sdk 1.0.4 or newer."
                ) from None
            return True
        return False

    def is_ready(self, future: Any) -> bool:
        """Whether what an await waits for has come, and nobody has taken it yet."""
        if isinstance(future, SingleUnresolvedFuture):
            return self.has_come(future.handle)
        some = all if isinstance(future, AllCompletedUnresolvedFuture) else any
        return some(self.is_ready(child) for child in future.children)

    def has_come(self, handle: int) -> bool:
        """The same for one handle."""
        return bool(self._ctx.vm.is_completed(handle))

    def left_of(self, future: Any) -> Any:
        """An await less what has come for it; that may be taken by another one later on."""
        if not isinstance(future, AllCompletedUnresolvedFuture):
            return future
        return AllCompletedUnresolvedFuture([x for x in future.children if not self.is_ready(x)])

    def is_told(self, stop: Any) -> bool:
        """Ask the state machine for a cancellation that no await was there to be told of.

        In a replay it takes the question for a mismatch if there is none: code that fails where it
        did not fail before is one. A server that does not listen any more is not asked, for that
        would suspend the attempt.

        Args:
            stop: What else it is asked for, if for anything.
        """
        vm = self._ctx.vm
        if not vm.is_replaying() and self._ctx.receive._http_input_closed.is_set():  # noqa: SLF001
            return False
        asked = SingleUnresolvedFuture(cast("int", CANCEL_HANDLE))
        answer = vm.do_progress(asked if stop is None else any_of([asked, stop]))
        cancelled = isinstance(answer, DoProgressCancelSignalReceived)
        return cancelled or (stop is not None and self.is_ready(stop))

    async def look_again(self) -> None:
        """Let a poll that is waiting look at what it was given anew."""
        event = {"type": "restate.run_completed", "data": None}
        await self._ctx.receive.enqueue_restate_event(event)

    def start(self, work: Any) -> None:
        """Do something beside the handler; it is cancelled when the attempt ends."""
        self._ctx.tasks.add(asyncio.ensure_future(work))


def data_of(ctx: Context) -> dict[str, Any]:
    """What is kept with a context. Of each, the SDK calls `__close__` when the handler has ended.

    Raises:
        TypeError: `ctx` is not the context that Restate gave to a handler.
    """
    if not isinstance(ctx, ServerInvocationContext):
        msg = (
            f"This takes the context of a Restate handler, not {type(ctx).__name__}. "
            "Pass the handler's `ctx`."
        )
        raise TypeError(msg)
    return ctx.extension_data


def handles_given(name: str, given: Any) -> list[int]:
    """What can be awaited of some work, of which the state machine gave this."""
    if name == "sys_call":
        return [given.result_handle]
    return [given.handle if name == "sys_run" else given]


def any_of(futures: list[Any]) -> Any:
    """What waits for any of these; its `children` can be changed."""
    return FirstCompletedUnresolvedFuture(futures)


def one(future: Any) -> Any:
    """What waits for one durable future, without anybody taking what has come of it."""
    return SingleUnresolvedFuture(future.handle)


def handles_of(future: Any) -> list[int]:
    """What an await waits for."""
    if isinstance(future, SingleUnresolvedFuture):
        return [future.handle]
    return [handle for child in future.children for handle in handles_of(child)]


def had_by(future: Any) -> list[int]:
    """What has come, for sure, when an await has ended well."""
    if isinstance(future, SingleUnresolvedFuture):
        return [future.handle]
    alone = isinstance(future, FirstCompletedUnresolvedFuture)
    return [] if alone else [handle for child in future.children for handle in had_by(child)]


def takes(future: Any) -> bool:
    """Whether an await takes what has come; `restate.select` and its like only look for it."""
    return isinstance(future, SingleUnresolvedFuture)


def here() -> Context:
    """The context of the handler in which this is called.

    Raises:
        LookupError: There is none.
    """
    return cast("Context", current_context())


def forget(future: Any, error: type[BaseException]) -> None:
    """Let a future be awaited anew that keeps this error from having been awaited before."""
    lazy: Any = getattr(future, "future", None)
    task = getattr(lazy, "task", None)
    if task is not None and task.done() and not task.cancelled():
        lazy.task = None if isinstance(task.exception(), error) else task


# -- What an exception means to the SDK. -----------------------------------------------------------

Disconnected: Final = DisconnectedException


def is_of_the_worker(error: BaseException) -> bool:
    """Whether the worker is told to stop, or lost its connection; then no rule of ours holds."""
    if isinstance(error, asyncio.CancelledError):
        cancelling = getattr(asyncio.current_task(), "cancelling", None)  # Python 3.11
        return cancelling is None or cancelling() > 0
    return isinstance(error, (DisconnectedException, KeyboardInterrupt, SystemExit, GeneratorExit))


def is_of_the_sdk(error: BaseException) -> bool:
    """Whether the SDK ends the attempt by it."""
    return isinstance(error, SdkInternalBaseException)


def is_stray(error: BaseException) -> bool:
    """Whether code let out what is no exception, and neither the SDK's nor for the worker.

    The SDK does not tell Restate of it. A `CancelledError`, if nobody cancelled the handler, leaves
    the server waiting; anything else breaks the worker's connection, and all that runs on it.
    """
    known = isinstance(error, Exception) or is_of_the_sdk(error)
    return not known and not is_of_the_worker(error)


def asks_for_a_retry(error: BaseException) -> bool:
    """Whether an error says that another attempt is to go on."""
    return isinstance(error, (DisconnectedException, RetryableError))


def terminal_cause(error: BaseException | None) -> TerminalError | None:
    """The `TerminalError` that the SDK would take `error` for: itself, or a cause of it."""
    while isinstance(error, Exception) and not asks_for_a_retry(error):
        if isinstance(error, TerminalError):
            return error
        error = error.__cause__
    return None


# -- Error metadata. -------------------------------------------------------------------------------


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

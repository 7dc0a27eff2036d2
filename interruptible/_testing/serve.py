"""Serves an app in this event loop, and hangs up on it at the end."""
# ruff: noqa: PLC0415 - what the extra brings is imported on use, to name the extra if it lacks

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import sys
import time
import traceback
import weakref
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from restate.server_types import RestateAppT

_LOOK_EVERY = 0.02  # seconds
_HANG_UP_TIMEOUT = 2.0  # seconds


@asynccontextmanager
async def serve(app: RestateAppT) -> AsyncGenerator[str]:
    """Serve an app in this event loop, by HTTP/2 without TLS on a free port; yields its URL.

    At the end it hangs up on what still runs: handlers see a lost connection. Those that go on for
    a second all the same are cancelled. Signals do what they did before; the app handles none.

    Args:
        app: What to serve, from `restate.app`.
    """
    with extra():
        import hypercorn.asyncio
        from hypercorn.config import Config, Sockets

    class Bound(Config):
        def create_sockets(self) -> Sockets:
            return Sockets([], [listener], [])

    async def followed(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            request = cast("asyncio.Task[Any]", asyncio.current_task())
            requests.add(request)
            request.add_done_callback(requests.discard)
        _in_app.set(True)  # for this task of hypercorn's, and those that it starts
        await app(scope, receive, send)

    requests: set[asyncio.Task[Any]] = set()
    listener = _Listener()
    config = Bound()
    config.errorlog = logging.getLogger(f"{__name__}.serve")
    config.errorlog.setLevel(logging.ERROR)
    config.h2_max_concurrent_streams = 2**31 - 1
    config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = 3600.0

    stop = asyncio.Event()
    serving = asyncio.create_task(
        hypercorn.asyncio.serve(  # pyright: ignore[reportUnknownMemberType]
            followed, config, shutdown_trigger=stop.wait, mode="asgi"
        )
    )
    serving.add_done_callback(lambda _: listener.close())
    try:
        with _no_signals_for_apps(), _late_requests_ignored():
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        if serving.done():
            await serving  # it failed, and this says why
        listener.is_ending = True
        await asyncio.sleep(0)  # asyncio forgets whom it let in a step before the server closes
        stop.set()
        begun = time.monotonic()
        with _late_requests_ignored():
            while not serving.done() and (passed := time.monotonic() - begun) < _HANG_UP_TIMEOUT:
                listener.hang_up()
                if passed > _HANG_UP_TIMEOUT / 2:  # hypercorn may wait to send what is left
                    for request in requests:
                        request.cancel()
                await asyncio.wait({serving}, timeout=_LOOK_EVERY)
            serving.cancel()
            begun = time.monotonic()
            while listener.is_open and time.monotonic() - begun < _HANG_UP_TIMEOUT:
                listener.hang_up()
                await asyncio.sleep(_LOOK_EVERY)


_in_app: ContextVar[bool] = ContextVar("_in_app", default=False)


@contextmanager
def _no_signals_for_apps() -> Generator[None]:
    """Refuse apps a handler of a signal: restate-sdk's keeps SIGTERM from ending the process."""
    loop = cast("Any", asyncio.get_running_loop())
    add = loop.add_signal_handler

    def add_unless_in_app(*arguments: Any, **by_name: Any) -> None:
        if _in_app.get():
            raise RuntimeError("`interruptible.testing.serve` leaves signals to the process.")
        add(*arguments, **by_name)

    loop.add_signal_handler = add_unless_in_app
    try:
        yield
    finally:
        loop.add_signal_handler = add


@contextmanager
def _late_requests_ignored() -> Generator[None]:
    """Say nothing of a connection that ends in hypercorn's KeyError.

    That is how it takes data of a request that is over, or that came when it was told to stop.
    """
    loop = asyncio.get_running_loop()
    before: Any = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if _is_late_request(context.get("exception")):
            return
        if before is None:
            loop.default_exception_handler(context)
        else:
            before(loop, context)

    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        if sys.version_info < (3, 11):  # there a connection's error is told when it is collected
            gc.collect()
        loop.set_exception_handler(before)


def _is_late_request(error: Any) -> bool:
    inner = getattr(error, "exceptions", None)  # Python 3.10 has no `ExceptionGroup`
    if inner is not None:
        return all(map(_is_late_request, inner))
    frames = traceback.extract_tb(getattr(error, "__traceback__", None))
    return isinstance(error, KeyError) and "hypercorn" in frames[-1].filename


@contextmanager
def extra() -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise ImportError(
            "interruptible.testing needs the extra: pip install 'restate-interruptible[testing]'"
        ) from error


class _Listener(socket.socket):
    """A free port that knows its connections, because hypercorn does not hang up on busy ones."""

    def __init__(self) -> None:
        # With the protocol named, asyncio turns Nagle's algorithm off, which costs 40 ms a hop.
        super().__init__(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.bind(("127.0.0.1", 0))
        self.listen(1024)
        self._accepted = weakref.WeakSet[socket.socket]()
        self.is_ending = False

    def accept(self) -> tuple[socket.socket, Any]:
        if self.is_ending:
            raise BlockingIOError  # as if nobody had come
        connection, address = super().accept()
        self._accepted.add(connection)
        return connection, address

    @property
    def is_open(self) -> bool:
        """Whether one of its connections is."""
        return any(connection.fileno() >= 0 for connection in self._accepted)

    def hang_up(self) -> None:
        for connection in self._accepted:
            with contextlib.suppress(OSError):  # it is closed
                connection.shutdown(socket.SHUT_RDWR)

"""A real server for the tests of a module; each test deploys services of its own to it."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal

import pytest
import restate

from interruptible import Agent, Session
from interruptible.testing import Restate, restate_server, serve

if TYPE_CHECKING:
    from .streaming import Speaker

REPLAY = os.environ.get("RESTATE_ALWAYS_REPLAY") == "1"
"""Whether the server replays at every await. A step in flight then hears of no cancellation."""

LONG = 4.0 if REPLAY else 60.0
"""Seconds: longer than any test waits, where a step in flight can be cut off. Where it cannot, it
ends by itself, later than it is cancelled, also on a busy machine."""

normal_mode = pytest.mark.skipif(
    REPLAY, reason="a step in flight hears of a cancellation only while the server listens"
)

once = pytest.mark.skipif(
    REPLAY, reason="what it tests stands before or behind the handlers, where nothing replays"
)
"""For refusals of bodies, and for what clients, gateways and editors make of the answers; also for
what is large. What a task's body or a handler awaits is tested replayed, too."""

Deploy = Callable[..., Awaitable[None]]
Speaking = Callable[..., Awaitable["Speaker"]]


def _scope(fixture_name: str, config: pytest.Config) -> Literal["session", "module"]:
    return "module" if config.getoption("every", 1) == 1 else "session"


@pytest.fixture(scope=_scope)
async def restate_env(anyio_backend: str) -> AsyncIterator[Restate]:
    """A module's own: a query reads all that a server has, and so does one that starts again.

    A tenth of the tests leave little in it.
    """
    async with restate_server(always_replay=REPLAY) as running:
        yield running


_deployed: dict[str, str] = {}


@pytest.fixture
async def deploy(restate_env: Restate, request: pytest.FixtureRequest) -> AsyncIterator[Deploy]:
    """Serve agents and services in this process until the test ends."""
    where = request.node.originalname
    async with AsyncExitStack() as stack:

        async def deploy(*parts: Any, **options: Any) -> None:
            services = [
                service
                for part in parts
                for service in (part.services if isinstance(part, Agent) else [part])
            ]
            for service in services:
                if not isinstance(service, restate.VirtualObject):
                    continue  # it has no state
                owner = _deployed.setdefault(service.name, where)
                assert owner == where, f"{service.name} has the state of {owner}. Rename it."
            app = restate.app(services=services, **options)
            await restate_env.register(await stack.enter_async_context(serve(app)))

        yield deploy


class Log:
    """What happened, in order; tests wait for events instead of sleeping."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._changed = asyncio.Condition()

    async def add(self, *event: Any) -> None:
        self.events.append(event)
        async with self._changed:
            self._changed.notify_all()

    def note(self, *event: Any) -> None:
        """The same where nothing may be awaited."""
        self.events.append(event)
        asyncio.ensure_future(self._notify())  # noqa: RUF006

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, *event: Any, times: int = 1) -> None:
        async with self._changed:
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(lambda: self.events.count(event) >= times), 30
                )
            except asyncio.TimeoutError:
                msg = f"{event} did not happen {times} times; these did: {self.events}"
                raise AssertionError(msg) from None

    def of(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] in kinds]

    def before(self, first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
        return self.events.index(first) < self.events.index(second)

    async def step(self, name: Any, seconds: float = 0.0, result: str | None = None) -> str:
        """A step that works for a while and notes how it ends."""
        await self.add("begin", name)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.note("abort", name)
            raise
        await self.add("end", name)
        return result if result is not None else str(name)


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.fixture
def speaking(restate_env: Restate, deploy: Deploy, log: Log) -> Speaking:
    """Deploy a `Speaker` of this name."""
    from .streaming import Speaker  # noqa: PLC0415 - it imports this

    async def speak(name: str, **options: Any) -> Speaker:
        agent = Speaker(log, name, restate_env, **options)
        await deploy(agent)
        return agent

    return speak


async def eventually(check: Callable[[], Awaitable[Any]], seconds: float = 30) -> Any:
    """Ask until the answer is true."""
    async with asyncio.timeout(seconds) if hasattr(asyncio, "timeout") else AsyncExitStack():
        while not (answer := await check()):
            await asyncio.sleep(0.02)
        return answer


async def is_idle(session: Session) -> bool:
    return (await session.status())["status"] == "idle"

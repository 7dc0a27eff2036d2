"""The services that are measured: on the library, by hand, and the floor beneath both.

All do the same work, which the text of a message names: `answer` is one durable step that does
nothing, `pause` one of a fifth of a second, `hold` one that goes on until it is cut off, `stream`
and `silent` call the model server; `speak`, the library's alone, says tokens, each with the time at
which it is said.
The floor has no history and reads no body: it is the hops alone, in bare Restate handlers.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import restate
from restate import Context, ObjectContext, ObjectSharedContext, Service, TerminalError
from restate import VirtualObject as Object

from interruptible import Agent, Task, Turn, cleanup, handler
from interruptible._session import effects, storage
from interruptible._task import life
from interruptible.stream import Stream
from tests.reference import Append, Cleanup, Message, reference

from .figures import ANEW, LIBRARY, REFERENCE, WITHOUT

Note = Callable[..., None]
Say = Callable[[str], None]

PACE = 50
"""Tokens a second that `speak` says."""
NEWEST = 4
"""Turns that the model of `LibraryNewestAgent` is told: eight messages."""
SERVED: Counter[str] = Counter()
"""How many invocations of each handler of a stream this process has served."""


class Options(NamedTuple):
    """What a worker is told."""

    model: str = ""
    """The URL of the model server."""
    seconds: float = 1.0
    """How long a call of it takes."""
    cleanup: float = 5.0
    """Seconds that the cleanup of those that are tidy takes."""
    quiet: float = 0.3
    """Seconds of the quiet window of those that have one."""
    retention: float | None = None
    """The library's option, in seconds."""
    ingress: str = ""
    """The URL of the server's ingress, for agents that stream."""
    keep_reads: bool = False
    """Keep also the journals of handlers that leave none, so that what they wrote is counted."""


class Work:
    """What a task does, the same for all sides."""

    def __init__(self, note: Note, options: Options) -> None:
        self._note = note
        self._options = options
        self._http: httpx.AsyncClient | None = None

    async def run(
        self,
        ctx: Context,
        messages: list[Message],
        append: Append,
        saying: Callable[[], Say] | None = None,
    ) -> str:
        """The work on the last message; `saying` is called only by what says something."""
        text: str = messages[-1]["content"]
        self._note("begin", text, ctx.request().id)
        kind = text.partition(" ")[0]
        more = {"say": saying()} if kind == "speak" and saying is not None else {}
        said: str | None = await ctx.run_typed(kind, getattr(self, kind), text=text, **more)
        self._note("done", text)
        return said or f"answer to {text}"

    async def answer(self, text: str) -> None:
        self._note("step", text)

    async def hold(self, text: str) -> None:
        self._note("step", text)
        try:
            await asyncio.sleep(600)
        finally:
            self._note("cut off", text)

    async def pause(self, text: str) -> None:
        self._note("step", text)
        await asyncio.sleep(0.2)

    async def stream(self, text: str) -> None:
        self._note("step", text)
        await self._ask(text)

    async def silent(self, text: str) -> None:
        self._note("step", text)
        await self._ask(text)

    async def speak(self, text: str, say: Say) -> str:
        self._note("step", text)
        began, said = time.monotonic(), ""
        for number in range(round(PACE * self._options.seconds)):
            await asyncio.sleep(began + number / PACE - time.monotonic())
            token = f"{number}:{time.monotonic_ns() // 1000} "
            said += token
            say(token)
        return said

    async def clean_up(self) -> None:
        self._note("cleanup", "")
        await asyncio.sleep(self._options.cleanup)

    async def _ask(self, text: str) -> None:
        if self._http is None:
            limits = httpx.Limits(max_connections=None)
            self._http = httpx.AsyncClient(timeout=None, limits=limits, trust_env=False)  # noqa: S113
        url = f"{self._options.model}/{self._options.seconds}/{quote(text)}"
        async with self._http.stream("GET", url) as response:
            async for _ in response.aiter_raw():
                pass


def services(side: str, note: Note, options: Options) -> list[Object | Service]:
    """All services of one side: `<Side>Agent`, and if it is no floor, `<Side>TidyAgent`, too."""
    work = Work(note, options)
    clean = [("clean up", work.clean_up)]
    if side == ANEW:
        storage.MANY = sys.maxsize
        return _kept(_Interruptible("AnewAgent", work, ()).services, options)
    if side in WITHOUT:
        agent = _Interruptible(f"{side.title()}Agent", work, ())
        strip(agent, WITHOUT[side])
        return [*agent.services]
    if side == LIBRARY:
        retention = None if options.retention is None else timedelta(seconds=options.retention)
        agents = [
            _Interruptible("LibraryAgent", work, (), retention=retention),
            _Interruptible("LibraryTidyAgent", work, clean),
            _Newest("LibraryNewestAgent", work, ()),
            _Interruptible(
                "LibraryQuietAgent", work, (), debounce=timedelta(seconds=options.quiet)
            ),
            _Interruptible("LibraryStreamAgent", work, (), stream=Stream(ingress=options.ingress)),
        ]
        made = [service for agent in agents for service in agent.services]
        return _kept(made, options)
    if side == REFERENCE:
        return [*_by_hand("Reference", work, ()), *_by_hand("ReferenceTidy", work, clean)]
    return [*_floor("Floor", work), _hops()]


def _kept(made: Sequence[Object | Service], options: Options) -> list[Object | Service]:
    if options.keep_reads:
        for each in (handler for service in made for handler in service.handlers.values()):
            each.journal_retention = None
    return [*made]


class _Interruptible(Agent):
    def __init__(self, name: str, work: Work, steps: Cleanup, **options: Any) -> None:
        super().__init__(name, **options)
        self._work, self._steps = work, steps

    async def run(self, ctx: Context, task: Task) -> str:
        async with cleanup(ctx) as undo:
            for step, action in self._steps:
                undo.on_error(step, action)
            return await self._work.run(ctx, task.messages, task.append, lambda: task.partial)

    @handler(kind="shared")
    async def get_served(self, _: ObjectSharedContext) -> dict[str, int]:
        """How many invocations of each handler of a stream this process has served."""
        return dict(SERVED)

    @handler(kind="shared")
    async def grow_old(self, ctx: ObjectSharedContext, past: dict[str, int]) -> None:
        """Give this session a past, as `fork` does."""
        turns = [
            {"turn": number, "status": "completed", "input": [user], "messages": [assistant]}
            for number, (user, assistant) in enumerate(_pairs(past), start=1)
        ]
        copy = {"next": len(turns) + 1, "turns": turns, "from": (ctx.key(), len(turns))}
        await ctx.generic_call(self.name, "adopt", json.dumps(copy).encode(), key=ctx.key())


class _Newest(_Interruptible):
    """One whose model is told the newest turns."""

    def conversation(self, turns: Sequence[Turn]) -> list[Message]:
        return super().conversation(turns[-NEWEST:])


def strip(agent: Agent, things: Iterable[str]) -> None:
    """Take something from the library in this process, to see what it costs.

    Args:
        agent: The agent that is served here.
        things: `times`: turns have none. `reads`: with each invocation of the object comes all of
            its state, whose size then counts. `reports`: that of an interrupted task comes 50 ms
            late, so that the next one has begun by then.
    """
    if "times" in things:

        async def known_now(agent: Any, ctx: ObjectContext) -> Any:
            return await effects.known(agent, ctx), effects.Arrival(0)

        effects.known_now = known_now
    if "reads" in things:
        agent.services[0].enable_lazy_state = False
    if "reports" in things:

        def report_outcome(
            ctx: Any, name: str, session: str, outcome: Any, ended: Any = ()
        ) -> None:
            late = timedelta(milliseconds=50) if outcome["status"] == "interrupted" else None
            body = json.dumps({"outcome": outcome, "ended": list(ended)}).encode()
            ctx.generic_send(name, "settle", body, key=session, send_delay=late)

        life.report_outcome = report_outcome


def _by_hand(name: str, work: Work, steps: Cleanup) -> tuple[Object, Service]:
    agent, task = reference(name, work.run, steps)

    @agent.handler()
    async def grow_old(ctx: ObjectContext, past: dict[str, int]) -> None:
        ctx.set("messages", [message for pair in _pairs(past) for message in pair])

    return agent, task


def _pairs(past: dict[str, int]) -> Iterator[tuple[Message, Message]]:
    chance = random.Random(0)  # noqa: S311 - so that nothing can compress it to nothing

    def says(role: str) -> Message:
        return {"role": role, "content": chance.randbytes(past["bytes"] // 2).hex()}

    return ((says("user"), says("assistant")) for _ in range(past["messages"] // 2))


def _floor(name: str, work: Work) -> tuple[Object, Service]:
    """Hand over hand with nothing in the hands: cancel, send, wait for the one before, one step."""
    agent, task = Object(f"{name}Agent"), Service(f"{name}Task")

    @agent.handler()
    async def message(ctx: ObjectContext, said: dict[str, str]) -> None:
        before = await ctx.get("task", type_hint=str)
        if before:
            ctx.cancel_invocation(before)
        job = {"key": ctx.key(), "text": said["content"], "before": before}
        ctx.set("task", await ctx.service_send(run_task, arg=job).invocation_id())

    @agent.handler()
    async def report(ctx: ObjectContext, content: str) -> None:
        ctx.set("answer", content)

    @agent.handler(kind="shared")
    async def get_history(ctx: ObjectSharedContext) -> list[Message]:
        return [{"role": "assistant", "content": await ctx.get("answer", type_hint=str)}]

    @agent.handler(kind="shared")
    async def grow_old(ctx: ObjectSharedContext, past: dict[str, int]) -> None:
        pass

    @task.handler()
    async def run_task(ctx: Context, job: dict[str, str]) -> None:
        if job["before"]:
            ended: restate.RestateDurableFuture[None] = ctx.attach_invocation(job["before"])
            await restate.wait_completed(ended)
        try:
            answer = await work.run(ctx, [{"content": job["text"]}], lambda _: None)
        except TerminalError:
            ctx.object_send(report, key=job["key"], arg="interrupted")
            raise
        ctx.object_send(report, key=job["key"], arg=answer)

    return agent, task


def _hops() -> Service:
    hops = Service("FloorHops")

    @hops.handler()
    async def call(ctx: Context, times: int) -> None:
        """Call a handler that does nothing, one time after the other."""
        for _ in range(times):
            await ctx.service_call(nothing, arg=None)

    @hops.handler()
    async def nothing(ctx: Context) -> None:
        pass

    return hops

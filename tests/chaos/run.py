"""One run: start everything, play the sessions under faults, calm down, collect the records."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from restate.client import create_client

from .agent import CLEANUP_TIMEOUT, DEBOUNCE, MERGES
from .client import Client
from .faults import Faults
from .records import Final, History, Op, Records, Told, read_lines
from .standstill import unless_still
from .system import LIMITS, System, cluster, single
from .workload import Script


@dataclass(frozen=True)
class Options:
    """What a run is made of; the same options give the same scripts and the same faults."""

    seed: str = "1"
    turns: int = 200
    faults: int = 20
    sessions: int = 12
    """How many sessions are played at once."""
    turns_per_session: int = 12
    pace: float = 1.0
    """Faults come this much slower."""
    gone: float = 0.0
    """Seconds that all workers are away, once, in the middle; 0 for never."""
    minutes: float = 0.0
    """When to end although there were not turns and faults enough; 0 for never."""
    cluster: bool = False
    only: tuple[str, ...] = ()
    """The kinds of faults that are made; by default all."""


@dataclass
class Result:
    """The records, and the figures."""

    records: Records
    faults: Counter[str]
    retries: int
    seconds: float
    unplayed: list[str] = field(default_factory=list)


async def run(options: Options, folder: Path) -> Result:
    """Play it; everything that was started has ended when this returns or fails."""
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        server = (
            cluster(folder) if options.cluster else single(folder, with_disk=bool(options.faults))
        )
        system = await stack.enter_async_context(server)
        history = History(folder / "clients.jsonl")
        http = await stack.enter_async_context(
            httpx.AsyncClient(limits=LIMITS, trust_env=False, timeout=None)  # noqa: S113
        )
        ways = [await stack.enter_async_context(create_client(url)) for url in system.urls]
        client = Client(system.urls, http, history, ways)
        faults = Faults(system, history, folder, options.seed, gone=options.gone, only=options.only)
        await stack.enter_async_context(faults)
        try:
            playing = _play_to_the_end(options, client, faults, folder)
            scripts, lasts = await unless_still(playing, system, history)
            finals = await _finals(client, scripts)
            tasks = await _all_over(system)
            callers = await system.callers()
            told = [x for script in scripts for x in await _caught_up(script)]
        except BaseException:
            (folder / "server.log").write_text(system.logs())
            raise
        (folder / "server.log").write_text(system.logs())
    records = Records(
        history.ops,
        read_lines(folder / "steps.jsonl"),
        history.faults,
        tasks,
        finals,
        callers,
        CLEANUP_TIMEOUT,
        DEBOUNCE,
        MERGES,
        told,
    )
    result = Result(records, faults.counts, client.retries, time.monotonic() - began)
    result.unplayed = [op.session for op in lasts if not op.ok]
    return result


async def _play_to_the_end(
    options: Options, client: Client, faults: Faults, folder: Path
) -> tuple[list[Script], list[Op]]:
    scripts = await _play(options, client, faults, folder)
    return scripts, await _lasts(options, scripts)


async def _play(options: Options, client: Client, faults: Faults, folder: Path) -> list[Script]:
    """Play sessions until there are turns enough, and faults enough."""
    stop = asyncio.Event()
    began = time.monotonic()
    scripts: list[Script] = []
    begun = done = 0

    def enough() -> bool:
        wanted = options.faults
        if options.minutes and time.monotonic() - began > 60 * options.minutes:
            return True
        return done >= options.turns and (not wanted or faults.counts.total() >= wanted)

    async def player() -> None:
        nonlocal begun, done
        while not enough():
            begun += 1
            name, turns = f"s{begun}", options.turns_per_session
            script = Script(client, name, options.seed, folder, turns=turns)
            async for made in _with_forks(script, scripts):
                done += made

    async def gone() -> None:
        while done < options.turns // 4 and not enough():
            await asyncio.sleep(0.5)
        await faults.gone_for_long()

    def state() -> str:
        return f"{len(scripts)} sessions, {done} turns, {faults.counts.total()} faults"

    telling = asyncio.ensure_future(_tell(state))
    making = [asyncio.ensure_future(faults.run(options.faults, options.pace, stop))]
    if options.gone:
        making.append(asyncio.ensure_future(gone()))
    players = [asyncio.ensure_future(player()) for _ in range(options.sessions)]

    async def until_played() -> None:
        await asyncio.gather(*players)
        stop.set()

    playing = asyncio.ensure_future(until_played())
    try:
        await asyncio.gather(playing, *making)  # a server that does not come back fails the run
    finally:
        tasks = (telling, playing, *making, *players)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return scripts


async def _with_forks(script: Script, scripts: list[Script]) -> AsyncGenerator[int]:
    """Play a session, and those that are forked off; yields how many turns came of each."""
    scripts.append(script)
    await script.play()
    yield len(script.turns)
    for fork in script.forks:
        async for made in _with_forks(fork, scripts):
            yield made


async def _lasts(options: Options, scripts: list[Script]) -> list[Op]:
    limit = asyncio.Semaphore(options.sessions)

    async def last(script: Script) -> Op:
        async with limit:
            return await script.finish()

    return list(await asyncio.gather(*(last(script) for script in scripts)))


async def _finals(client: Client, scripts: list[Script]) -> list[Final]:
    keys = [(script.agent, script.session) for script in scripts]
    keys += [("HelperAgent", f"{session}-helper") for agent, session in keys if agent[0] == "C"]
    limit = asyncio.Semaphore(8)

    async def final(agent: str, session: str) -> Final:
        async with limit:
            status: Op | None = None
            deadline = time.monotonic() + 90
            while status is None or not _idle(status):
                if status is not None and time.monotonic() > deadline:
                    break
                status = await client.call(agent, session, "get_status")
                await asyncio.sleep(0 if _idle(status) else 0.5)
            turns = await _turns(client, agent, session)
            while any(x["status"] == "running" for x in turns) and time.monotonic() < deadline:
                await asyncio.sleep(0.5)  # the status has found a task that was killed
                turns = await _turns(client, agent, session)
            history = (await client.call(agent, session, "get_history")).answer
            return Final(agent, session, status.answer, turns, history)

    return list(await asyncio.gather(*(final(*key) for key in keys)))


async def _turns(client: Client, agent: str, session: str) -> list[dict[str, Any]]:
    """The whole record, page by page."""
    turns: list[dict[str, Any]] = []
    before: int | None = None
    while True:
        body = {"before": before} if before else None
        page = (await client.call(agent, session, "get_turns", body)).answer
        turns = page["turns"] + turns
        before = page["before"]
        if before is None:
            return turns


def _idle(status: Op) -> bool:
    return status.ok and status.answer["status"] == "idle"


async def _all_over(system: System) -> list[Any]:
    """Wait until no task is left, and nothing that followers are to be told.

    But not for ever: what is left is for the checker to see.
    """
    deadline = time.monotonic() + 60
    while True:
        tasks = await system.tasks()
        telling = [await system.telling() for _ in range(2)]  # for a moment it is in neither place
        over = all(task.status == "completed" for task in tasks) and not any(telling)
        if over or time.monotonic() > deadline:
            return tasks
        await asyncio.sleep(0.5)


async def _caught_up(script: Script) -> list[Told]:
    for follower in script.followers:
        await follower.catch_up()
    return [x for follower in script.followers for x in follower.told]


async def _tell(state: Callable[[], str]) -> None:
    while True:
        await asyncio.sleep(10)
        sys.stdout.write(f"chaos: {state()}\n")
        sys.stdout.flush()

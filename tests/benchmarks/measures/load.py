"""Many at a time: messages a second, and the memory of a worker."""

import asyncio
import time
from collections.abc import Mapping

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import SIDES, Figure, Result, Target
from tests.benchmarks.stage import Side, Stage


async def rate(stage: Stage, side: Side, sessions: int, turns: int) -> Mapping[str, float]:
    """Messages answered a second, each session sending one when its last has been answered."""
    keys = [await side.old(0) for _ in range(sessions)]

    async def talk(key: str) -> None:
        for _ in range(turns):
            await side.ended(await side.send(key, "answer"))

    began = time.monotonic()
    await asyncio.gather(*map(talk, keys))
    took = time.monotonic() - began
    await stage.settled()
    return {"rate": sessions * turns / took}


async def throughput(bench: Bench) -> list[Result]:
    """Many sessions at once."""
    sessions, turns = (20, 2) if bench.short else (200, 3)
    async with bench.stage() as stage:

        async def sample(side: Side) -> Mapping[str, float]:
            return await rate(stage, side, sessions, turns)

        taken = await bench.take_turns(
            f"{sessions} sessions at once",
            list(stage.sides.values()),
            sample,
            samples=1 if bench.short else 3,
            warm_up=1,
        )
    return [
        Figure(
            "throughput",
            f"messages answered a second, {sessions} sessions at once, one worker",
            "1/s",
            taken["rate"],
            Target(1.0, "at least"),
        )
    ]


async def memory(bench: Bench) -> list[Result]:
    """Tasks that are live all at once, each side's in a worker of its own."""
    tasks = 50 if bench.short else 2000
    resident: dict[str, list[float]] = {}
    each: dict[str, list[float]] = {}
    # Above the server's own limit for what is at work at a time.
    limit = {"RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT": "10000"}
    for number in range(1):
        for name in SIDES[:2] if bench.short else SIDES[:: 1 if number % 2 else -1]:
            async with bench.stage((name,), **limit) as stage:
                side = stage.sides[name]
                before = side.memory()
                slots = asyncio.Semaphore(100)

                async def begin(side: Side = side, slots: asyncio.Semaphore = slots) -> None:
                    async with slots:
                        sent = await side.send(await side.old(0), "hold")
                    await side.begun(sent)

                await asyncio.gather(*(begin() for _ in range(tasks)))
                await asyncio.sleep(1)  # the last calls are torn down
                after = side.memory()
            resident.setdefault(name, []).append(after / 2**20)
            each.setdefault(name, []).append((after - before) / tasks / 2**10)
            bench.progress(f"memory, {tasks} tasks live, {name}: {after / 2**20:.0f} MB")
    return [
        Figure(
            "memory",
            f"resident memory of a worker with {tasks:,} tasks live",
            "MB",
            resident,
            Target(1.2),
        ),
        Figure("memory-each", "resident memory for each live task", "KB", each),
    ]

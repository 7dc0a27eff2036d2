"""How a turn's time grows with the number of sessions that there are."""

import asyncio
import random
from collections.abc import Mapping

from tests.benchmarks.bench import Bench, in_ms
from tests.benchmarks.figures import LIBRARY, REFERENCE, Growth, Result
from tests.benchmarks.stage import Side

AT_ONCE = 100
"""Sessions that are begun at a time."""

TITLES = {
    "step": "A turn in one of many sessions: message to the first step",
    "recorded": "A turn in one of many sessions: message to its answer recorded",
}


async def sessions(bench: Bench) -> list[Result]:
    """Each session has a conversation of ten messages; a turn in one of them is measured."""
    sizes = (1, 10, 30) if bench.short else (1, 10, 100, 1000, 10_000)
    names = (LIBRARY, REFERENCE)
    points: dict[str, dict[str, dict[int, list[float]]]] = {
        title: {name: {} for name in names} for title in TITLES
    }
    chance = random.Random(0)  # noqa: S311 - which sessions
    async with bench.stage(names) as stage:
        sides = [stage.sides[name] for name in names]
        keys: dict[str, list[str]] = {name: [] for name in names}
        for size in sizes:
            for side in sides:
                await _begin(side, keys[side.name], size)
                bench.progress(f"{size} sessions: begun, {side.name}")

            async def sample(side: Side) -> Mapping[str, float]:
                sent = await side.send(chance.choice(keys[side.name]), "answer")
                step = await side.begun(sent)
                await side.ended(sent)
                await side.quiet()
                return {"step": step, "recorded": side.last_end(sent)}

            taken = await bench.take_turns(
                f"{size} sessions", sides, sample, samples=bench.some(0.5, 20)
            )
            for title in taken:
                for name in names:
                    points[title][name][size] = in_ms(taken[title])[name]
    return [
        Growth(f"growth-sessions-{name}", title, "sessions", "ms", points[name])
        for name, title in TITLES.items()
    ]


async def _begin(side: Side, keys: list[str], total: int) -> None:
    """Give new sessions a past until there are that many."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def begin() -> None:
        async with slots:
            keys.append(await side.old(10, size=100))

    await asyncio.gather(*(begin() for _ in range(total - len(keys))))
    await side.quiet()

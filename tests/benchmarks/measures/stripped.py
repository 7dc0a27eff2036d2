"""What the library would be without what it does beyond the reference, a thing at a time."""

import statistics
from collections.abc import Mapping
from typing import Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import LIBRARY, REFERENCE, WITHOUT, Result, Table
from tests.benchmarks.services import Options
from tests.benchmarks.stage import Side

from .cost import entries
from .latency import SHORT, answer, interrupt
from .load import rate

NAMES: Final = {
    "times": "the times of turns",
    "reads": "asking for state",
    "reports": "reports at once",
}


async def stripped(bench: Bench) -> list[Result]:
    """The figures of a short history, each side in turn, as ratios to the reference."""
    sides = (LIBRARY, *WITHOUT, REFERENCE)
    sessions, turns = (10, 1) if bench.short else (200, 2)
    async with bench.stage(sides, Options(keep_reads=True)) as stage:

        async def sample(side: Side) -> Mapping[str, float]:
            interrupted = await interrupt(stage, side, await side.old(SHORT))
            plain = await answer(stage, side, await side.old(SHORT))
            return {**interrupted, "turn": plain["recorded"]}

        async def throughput(side: Side) -> Mapping[str, float]:
            return await rate(stage, side, sessions, turns)

        async def count(side: Side) -> Mapping[str, float]:
            return await entries(stage, side)

        running = [stage.sides[name] for name in sides]
        taken = await bench.take_turns("stripped", running, sample, samples=bench.some(1))
        taken |= await bench.take_turns(
            "stripped: throughput", running, throughput, samples=bench.some(0.2, 5), warm_up=2
        )
        taken |= await bench.take_turns("stripped: entries", running, count, samples=1, warm_up=0)
    medians = {
        name: {side: statistics.median(samples) for side, samples in of.items()}
        for name, of in taken.items()
    }
    shown = ("step", "ack", "turn", "rate", "entries")
    return [
        Table(
            "stripped",
            "The library without some of what it does, short history: ratio to the reference",
            ("without", "first step", "acknowledgement", "plain turn", "throughput", "entries"),
            [
                (
                    ", ".join(NAMES[each] for each in WITHOUT.get(side, ())) or "nothing",
                    *(f"{medians[x][side] / medians[x][REFERENCE]:.2f}" for x in shown),
                )
                for side in sides[:-1]
            ],
        )
    ]

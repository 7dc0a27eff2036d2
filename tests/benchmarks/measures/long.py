"""What a long conversation costs: where its newest turns are used, and where all of it is."""

from collections.abc import Mapping

from interruptible._session.storage import TURNS_PER_PAGE
from tests.benchmarks.bench import Bench, in_ms
from tests.benchmarks.figures import (
    ANEW,
    LIBRARY,
    REFERENCE,
    Figure,
    Growth,
    Result,
    Target,
    within_noise,
)
from tests.benchmarks.services import Options
from tests.benchmarks.stage import Side

from .latency import SHORT, interrupt

NEWEST = "Newest"


async def long(bench: Bench) -> list[Result]:
    """200 turns of 20 KB; and the newest of up to 4,000 turns."""
    turns, size = (20, 1000) if bench.short else (200, 20_000)
    sizes = (10, 20) if bench.short else (50, 200, 1000, 4000)
    taken: dict[str, dict[str, list[float]]] = {}
    # Each in a stage of its own: what is told everything leaves much to be tidied up.
    async with bench.stage((LIBRARY,), Options(retention=0)) as stage:
        side = stage.sides[LIBRARY]
        many = await side.old(2 * turns, size // 2, kind=NEWEST)
        grown = {str(x): await side.old(2 * x, kind=NEWEST) for x in sizes}

        async def newest(side: Side) -> Mapping[str, float]:
            keys = {"short": await side.old(SHORT, kind=NEWEST), "newest": many, **grown}
            return {x: (await interrupt(stage, side, y, NEWEST))["step"] for x, y in keys.items()}

        taken |= await bench.take_turns("long", [side], newest, samples=bench.some(0.5, 10))
    async with bench.stage((LIBRARY, ANEW), Options(retention=0)) as stage:
        sides = [stage.sides[LIBRARY], stage.sides[ANEW]]
        whole = {x.name: await x.old(2 * turns, size // 2) for x in sides}

        async def everything(side: Side) -> Mapping[str, float]:
            return {"all": (await interrupt(stage, side, whole[side.name]))["step"]}

        taken |= await bench.take_turns("all", sides, everything, samples=bench.some(0.5, 10))
    async with bench.stage((LIBRARY, ANEW), Options(keep_reads=True)) as stage:
        written = {}
        # Over so many turns, the older ones become more once.
        counted = 1 if bench.short else TURNS_PER_PAGE
        for name, kind in ((LIBRARY, NEWEST), (LIBRARY, ""), (ANEW, "")):
            side = stage.sides[name]
            key = await side.old(2 * turns, size // 2, kind=kind)
            before = set(await stage.invocations(side))
            for _ in range(counted):
                await side.begun(await side.send(key, "answer", kind=kind))
                await stage.settled()
            after = set(await stage.invocations(side)) - before
            written[kind or name] = [await stage.bytes(after) / counted / 1024]
        bench.progress("long: bytes: done")
    everything_taken = in_ms(taken.pop("all"))
    of = {name: in_ms(each)[LIBRARY] for name, each in taken.items()}
    what = f"{turns} turns of {size // 1000} KB"
    first, last = (of[str(x)] for x in (sizes[0], sizes[-1]))
    return [
        Figure(
            "long-newest",
            f"interruption to the first step, {what}, of which the last 4 are used; short history",
            "ms",
            {LIBRARY: of["newest"], REFERENCE: of["short"]},
            Target(1.6),
        ),
        Figure(
            "long-newest-flat",
            f"the same with {sizes[-1]:,} turns of 2 KB; with {sizes[0]}",
            "ms",
            {LIBRARY: last, REFERENCE: first},
            checks={"the same within noise": within_noise(first, last)},
        ),
        Figure(
            "long-all",
            f"interruption to the first step, {what}, all of it used; loaded anew each time",
            "ms",
            {LIBRARY: everything_taken[LIBRARY], REFERENCE: everything_taken[ANEW]},
            Target(0.6),
        ),
        Figure(
            "long-bytes",
            f"journals of a turn, mean of {counted}, {what}, all used; loaded anew each time",
            "KB",
            {LIBRARY: written[LIBRARY], REFERENCE: written[ANEW]},
            Target(0.5),
        ),
        Figure(
            "long-newest-bytes",
            f"journals of a turn, mean of {counted}, {what}, of which the last 4 are used",
            "KB",
            {LIBRARY: written[NEWEST]},
        ),
        Growth(
            "long-growth",
            "Interruption to the first step, the last 4 turns are used",
            "turns of 2 KB in the history",
            "ms",
            {LIBRARY: {x: of[str(x)] for x in sizes}},
        ),
    ]

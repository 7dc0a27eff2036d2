"""How long a message takes: to be accepted, to reach the first step, to be answered."""

import statistics
import time
from collections.abc import Mapping

from tests.benchmarks.bench import Bench, in_ms
from tests.benchmarks.figures import (
    FLOOR,
    LIBRARY,
    REFERENCE,
    Figure,
    Growth,
    Result,
    Target,
    within_noise,
)
from tests.benchmarks.stage import Side, Stage

SHORT = 10
"""Messages of a short history."""
LONG = 4000


async def interrupt(stage: Stage, side: Side, key: str, kind: str = "") -> Mapping[str, float]:
    """Interrupt a task in a step, and let the next be over, so that nothing is left."""
    first = await side.send(key, "hold", kind=kind)
    await side.begun(first)
    second = await side.send(key, "answer", kind=kind)
    step = await side.begun(second)
    await stage.settled()
    return {"ack": second.acknowledged, "step": step}


async def answer(stage: Stage, side: Side, key: str) -> Mapping[str, float]:
    """A turn that nobody interrupts."""
    sent = await side.send(key, "answer")
    begun = await side.begun(sent)
    await stage.settled()
    return {"step": begun, "recorded": side.last_end(sent)}


async def interruption(bench: Bench) -> list[Result]:
    """By the length of the history: acknowledgement, and first step of the next task."""
    sizes = (0, SHORT, 100) if bench.short else (0, SHORT, 100, 1000, LONG)
    taken = {}
    for size in sizes:
        async with bench.stage() as stage:
            keys = {name: await side.old(size) for name, side in stage.sides.items()}

            async def sample(side: Side, size: int = size, keys: dict[str, str] = keys) -> dict:
                # Where it matters, in a new session each time; a long one grows by little.
                key = keys[side.name] if size >= 1000 else await side.old(size)
                return await interrupt(stage, side, key)

            taken[size] = await bench.take_turns(
                f"interruption with {size} messages of 1 KB",
                list(stage.sides.values()),
                sample,
                samples=bench.some(1 if size < 1000 else 0.25, 10),
            )
    long = sizes[-1]
    return [
        Figure(
            "step-short",
            "interruption: message to the next task's first step, short history",
            "ms",
            in_ms(taken[SHORT]["step"]),
            Target(1.0),
        ),
        Figure(
            "step-long",
            f"the same with {long:,} messages of 1 KB",
            "ms",
            in_ms(taken[long]["step"]),
            Target(0.6),
        ),
        Figure(
            "ack-short",
            "acknowledgement of an interrupting message, short history",
            "ms",
            in_ms(taken[SHORT]["ack"]),
            Target(0.8),
        ),
        Figure(
            "ack-long",
            f"the same with {long:,} messages of 1 KB",
            "ms",
            in_ms(taken[long]["ack"]),
            Target(0.1),
        ),
        *(
            Growth(
                f"growth-{name}",
                title,
                "messages of 1 KB in the history",
                "ms",
                {
                    side: {size: in_ms(taken[size][name])[side] for size in sizes}
                    for side in (LIBRARY, REFERENCE, FLOOR)
                },
            )
            for name, title in (
                ("step", "Interruption: message to the next task's first step"),
                ("ack", "Acknowledgement of an interrupting message"),
            )
        ),
    ]


async def flat(bench: Bench) -> list[Result]:
    """Whether the library acknowledges with a long history as fast as with none, side by side."""
    long = 100 if bench.short else LONG
    async with bench.stage((LIBRARY,)) as stage:
        side = stage.sides[LIBRARY]
        old = await side.old(long)

        async def sample(side: Side) -> Mapping[str, float]:
            none = await interrupt(stage, side, await side.old(0))
            many = await interrupt(stage, side, old)
            return {"none": none["ack"], "many": many["ack"]}

        what = f"acknowledgement with none and {long} messages"
        taken = await bench.take_turns(what, [side], sample, samples=bench.some(0.5, 20))
    none, many = (in_ms(taken[name])[LIBRARY] for name in ("none", "many"))
    before = statistics.median(none)
    return [
        Figure(
            "ack-flat",
            f"acknowledgement with {long:,} messages, against {before:.1f} ms with none",
            "ms",
            {LIBRARY: many, "none": none},
            checks={"the same within noise": within_noise(none, many)},
        )
    ]


async def turn(bench: Bench) -> list[Result]:
    """A turn that nobody interrupts, of one durable step."""
    async with bench.stage() as stage:

        async def sample(side: Side) -> Mapping[str, float]:
            return await answer(stage, side, await side.old(SHORT))

        taken = await bench.take_turns(
            "plain turn", list(stage.sides.values()), sample, samples=bench.some(1)
        )
        hops = await _hops(bench, stage)
    return [
        Figure(
            "turn",
            "plain turn: message to its answer recorded in the session",
            "ms",
            in_ms(taken["recorded"]),
            Target(1.1),
        ),
        Figure("turn-step", "plain turn: message to the first step", "ms", in_ms(taken["step"])),
        hops,
    ]


async def _hops(bench: Bench, stage: Stage) -> Figure:
    """What one call from handler to handler costs: the slope between few and many."""
    few, many = 1, 21

    async def sample(side: Side) -> Mapping[str, float]:
        took = []
        for hops in (few, many):
            started = time.monotonic()
            await stage.ingress.post("/FloorHops/call", hops)
            took.append(time.monotonic() - started)
        return {"hop": (took[1] - took[0]) / (many - few)}

    taken = await bench.take_turns("one hop", [stage.sides[FLOOR]], sample, samples=bench.some(0.5))
    return Figure(
        "hop", "one call from a handler to one that does nothing", "ms", in_ms(taken["hop"])
    )


async def history(bench: Bench) -> list[Result]:
    """Reading the whole history."""
    sizes = (SHORT, 100) if bench.short else (SHORT, 100, 1000, LONG)
    taken = {}
    async with bench.stage((LIBRARY, REFERENCE)) as stage:
        sides = [stage.sides[name] for name in (LIBRARY, REFERENCE)]
        for size in sizes:
            keys = {side.name: await side.old(size) for side in sides}

            async def sample(side: Side, keys: dict[str, str] = keys) -> Mapping[str, float]:
                started = time.monotonic()
                await side.call(keys[side.name], "get_history")
                return {"read": time.monotonic() - started}

            taken[size] = await bench.take_turns(
                f"reading {size} messages",
                sides,
                sample,
                samples=bench.some(1 if size < 1000 else 0.25, 10),
            )
    points = {
        side.name: {size: in_ms(taken[size]["read"])[side.name] for size in sizes} for side in sides
    }
    return [
        Figure(
            "read-long",
            f"get_history of {sizes[-1]:,} messages of 1 KB",
            "ms",
            {name: each[sizes[-1]] for name, each in points.items()},
        ),
        Growth("growth-read", "get_history", "messages of 1 KB in the history", "ms", points),
    ]

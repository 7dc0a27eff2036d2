"""What a burst of messages costs: model calls, and time."""

import time
from collections.abc import Mapping

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import LIBRARY, REFERENCE, Figure, Growth, Result, Target
from tests.benchmarks.services import Options
from tests.benchmarks.stage import Side, Stage


def call(bench: Bench) -> float:
    """Seconds that a model call takes."""
    return 0.3 if bench.short else 1.0


async def send_burst(
    stage: Stage, side: Side, messages: int, seconds: float, kind: str = ""
) -> Mapping[str, float]:
    """Send messages one after the other, each as soon as the last was accepted."""
    key, events = await side.old(0), stage.model
    before = {each: events.count(each) for each in ("started", "finished")}
    events.most = 0
    began = time.monotonic()
    sent = [await side.send(key, "stream", kind=kind) for _ in range(messages)]
    accepted = time.monotonic() - began
    await side.events.at("done", sent[-1].text)
    over = time.monotonic() - began
    await stage.settled()
    return {
        "accepted": accepted,
        "over": over - seconds,
        "started": events.count("started") - before["started"],
        "paid": events.count("finished") - before["finished"],
        "side by side": events.most,
    }


async def burst(bench: Bench) -> list[Result]:
    """Ten messages, with and without a quiet window."""
    messages, seconds = 10, call(bench)
    async with bench.stage((LIBRARY, REFERENCE), Options(seconds=seconds)) as stage:

        async def plain(side: Side) -> Mapping[str, float]:
            return await send_burst(stage, side, messages, seconds)

        async def quiet(side: Side) -> Mapping[str, float]:
            kind = "Quiet" if side.name == LIBRARY else ""
            return await send_burst(stage, side, messages, seconds, kind)

        sides, some = list(stage.sides.values()), bench.some(0.1, 4)
        burst = await bench.take_turns("a burst of 10", sides, plain, samples=some, warm_up=1)
        calm = await bench.take_turns(
            "a burst of 10, quiet window of 300 ms", sides, quiet, samples=some, warm_up=1
        )
    return [
        Figure(
            "burst-paid",
            "model calls that a burst of ten messages pays to the end",
            "calls",
            burst["paid"],
            Target(1, of="library"),
        ),
        Figure(
            "burst-side-by-side",
            "most model calls side by side, burst of ten messages",
            "calls",
            burst["side by side"],
        ),
        Figure(
            "burst-started",
            "model calls that a burst of ten messages starts, without a quiet window",
            "calls",
            burst["started"],
        ),
        Figure(
            "burst-quiet",
            "model calls that a burst of ten messages starts with a quiet window of 300 ms",
            "calls",
            calm["started"],
            Target(2, of="library"),
        ),
    ]


async def bursts(bench: Bench) -> list[Result]:
    """How that grows with the length of the burst."""
    sizes, seconds = (1, 3) if bench.short else (1, 3, 10, 30, 100), call(bench)
    taken = {}
    async with bench.stage((LIBRARY, REFERENCE), Options(seconds=seconds)) as stage:
        for size in sizes:

            async def sample(side: Side, size: int = size) -> Mapping[str, float]:
                return await send_burst(stage, side, size, seconds)

            taken[size] = await bench.take_turns(
                f"a burst of {size}",
                list(stage.sides.values()),
                sample,
                samples=1 if bench.short else 2,
                warm_up=1 if size == 1 else 0,
            )
    sides = (LIBRARY, REFERENCE)
    return [
        Growth(
            f"growth-burst-{name.replace(' ', '-')}",
            title,
            "messages in the burst",
            unit,
            {side: {size: taken[size][name][side] for size in sizes} for side in sides},
        )
        for name, title, unit in (
            (
                "over",
                f"Burst: from its begin to its last answer, less one model call of {seconds:g} s",
                "s",
            ),
            ("paid", "Burst: model calls paid to the end", "calls"),
        )
    ]

"""What an interruption is worth while a model is at work, and while a cleanup runs."""

import asyncio
from collections.abc import Mapping

from tests.benchmarks.bench import Bench, in_ms
from tests.benchmarks.figures import LIBRARY, REFERENCE, Figure, Result, Target
from tests.benchmarks.services import Options
from tests.benchmarks.stage import Side


async def cleanup(bench: Bench) -> list[Result]:
    """A model streams; a message interrupts it, and another one comes while the cleanup runs."""
    seconds = 0.5 if bench.short else 5.0
    options = Options(cleanup=seconds, seconds=60)
    async with bench.stage((LIBRARY, REFERENCE), options) as stage:

        async def sample(side: Side) -> Mapping[str, float]:
            side.events.forget("cleanup", "")
            key = await side.old(0)
            first = await side.send(key, "stream", kind="Tidy")
            await stage.model.at("started", first.text)
            await asyncio.sleep(0.2)  # some of the stream
            sending = asyncio.create_task(side.send(key, "hold", kind="Tidy"))
            cleaning = await side.events.at("cleanup", "")
            third = await side.send(key, "answer", kind="Tidy")
            second = await sending
            cut_off = await stage.model.at("cut off", first.text)
            step = await side.begun(third)
            await stage.settled()
            return {
                "cut": cut_off - second.at,
                "ahead": cleaning - cut_off,
                "second": second.acknowledged,
                "third": third.acknowledged,
                "step": step,
            }

        taken = await bench.take_turns(
            f"a cleanup of {seconds:g} s",
            list(stage.sides.values()),
            sample,
            samples=bench.some(0.1, 3),
            warm_up=1,
        )
    figures: list[Result] = [
        Figure(
            "ack-cleanup",
            f"acknowledgement of a message while a cleanup of {seconds:g} s runs",
            "ms",
            in_ms(taken["third"]),
            Target(0.02),
        ),
        Figure(
            "cut-off",
            f"message to the model server seeing its request cut off, cleanup of {seconds:g} s",
            "ms",
            in_ms(taken["cut"]),
            Target(1.0),
            {"before the cleanup begins": min(taken["ahead"][LIBRARY]) > 0},
        ),
        Figure(
            "cut-ahead",
            "the model server seeing its request cut off to the begin of the cleanup",
            "ms",
            in_ms(taken["ahead"]),
        ),
        Figure(
            "ack-before-cleanup",
            "acknowledgement of the message that leads to the cleanup",
            "ms",
            in_ms(taken["second"]),
        ),
        Figure(
            "step-cleanup",
            "message during the cleanup to its task's first step",
            "ms",
            in_ms(taken["step"]),
        ),
    ]
    return figures


async def silent(bench: Bench) -> list[Result]:
    """A model that has been silent for longer than the server's inactivity timeout."""
    silence, call = (2.0, 4.0) if bench.short else (75.0, 110.0)
    env = {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "1s"} if bench.short else {}
    async with bench.stage((LIBRARY, REFERENCE), Options(seconds=call), **env) as stage:
        bench.progress(f"silent calls: {silence:g} s of silence")

        async def sample(side: Side) -> tuple[float, float]:
            key = await side.old(0)
            first = await side.send(key, "silent")
            await side.begun(first)
            await asyncio.sleep(silence)
            second = await side.send(key, "answer")
            over = await stage.model.at("over", first.text)
            return await side.begun(second) * 1e3, (over - second.at) * 1e3

        async def some(side: Side, apart: float) -> list[tuple[float, float]]:
            """Several side by side, a little apart: they do nothing but wait."""
            waiting: list[asyncio.Task[tuple[float, float]]] = []
            for _ in range(1 if bench.short else 3):
                waiting.append(asyncio.create_task(sample(side)))
                await asyncio.sleep(apart)
            return await asyncio.gather(*waiting)

        sides = list(stage.sides.values())
        all_taken = await asyncio.gather(*(some(side, 0.5) for side in sides))
    taken = {side.name: samples for side, samples in zip(sides, all_taken, strict=True)}
    bench.progress("silent calls: done")
    return [
        Figure(
            "silent",
            f"interruption of a call silent for {silence:g} s, to the next task's first step",
            "ms",
            {name: [begun for begun, _ in samples] for name, samples in taken.items()},
            Target(0.05),
        ),
        Figure(
            "silent-over",
            f"message to the end of the silent call, which takes {call:g} s if nobody cuts it off",
            "ms",
            {name: [over for _, over in samples] for name, samples in taken.items()},
        ),
    ]

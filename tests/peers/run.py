"""One run: all contenders are up, and take turns in every measurement."""

import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from . import measures
from .contender import Contender
from .contenders import ALL, LangGraph
from .measures import Measure, Sample, Side
from .stage import Stage, stage

Samples = dict[str, list[Sample]]
"""What was measured, by the name of the side."""


@dataclass
class Size:
    """How much is measured.

    Attributes:
        samples: Of what takes milliseconds.
        few: Of what takes long.
        cleanup: Its seconds.
        messages: Of a long history.
        bytes: Of each of them.
        burst: The messages of a burst.
        saved: Seconds in which the dev server has saved a conversation.
    """

    samples: int = 25
    few: int = 3
    cleanup: float = 5.0
    messages: int = 200
    bytes: int = 20_000
    burst: int = 10
    saved: float = 12.0
    warm_up: int = 2


SHORT: Final = Size(1, 1, 0.5, 3, 200, 3, 0.0, 0)


@dataclass
class Run:
    """What is measured, and of whom."""

    stage: Stage
    size: Size
    contenders: Sequence[Contender]
    progress: Callable[[str], None]
    given: dict[str, Samples] = field(default_factory=dict)
    _chance: random.Random = field(default_factory=lambda: random.Random(11))  # noqa: S311

    def sides(self, *, rollback: bool = False) -> list[Side]:
        """Who takes part, with which policies."""
        return [
            Side(each, policy)
            for each in self.contenders
            for policy in ("interrupt", *each.others)
            if policy != "rollback" or rollback
        ]

    async def take_turns(
        self, name: str, sides: Sequence[Side], measure: Measure, samples: int, warm_up: int = 0
    ) -> None:
        """Measure them one after the other, in an order that changes by chance."""
        taken: Samples = {side.name: [] for side in sides}
        self.given[name] = taken
        said = time.monotonic()
        for number in range(warm_up + samples):
            for side in self._chance.sample(sides, len(sides)):
                sample = await self._sample(name, side, measure)
                if number >= warm_up:
                    taken[side.name].append(sample)
                if time.monotonic() - said > 10:
                    said = time.monotonic()
                    self.progress(f"{name}: {number + 1} of {warm_up + samples} rounds")
        self.progress(f"{name}: done")

    async def _sample(self, name: str, side: Side, measure: Measure) -> Sample:
        try:
            return await measure(side)
        except Exception as error:  # noqa: BLE001 - the others are worth having
            self.progress(f"{name}: {side.name}: {type(error).__name__}: {error}")
            return {"error": f"{type(error).__name__}: {error}"[:300]}


async def interrupt(run: Run) -> None:
    size, sides = run.size, run.sides(rollback=True)
    await run.take_turns("interrupt", sides, measures.interrupt, size.samples, size.warm_up)


async def cleanup(run: Run) -> None:
    measure = partial(measures.cleanup, seconds=run.size.cleanup)
    await run.take_turns("cleanup", run.sides(), measure, run.size.few)


async def burst(run: Run) -> None:
    measure = partial(measures.burst, messages=run.size.burst)
    await run.take_turns("burst", run.sides(), measure, run.size.few)


async def history(run: Run) -> None:
    sides = run.sides(rollback=True)
    await run.take_turns("history", sides, measures.history, min(2, run.size.few))


async def queue(run: Run) -> None:
    samples = max(run.size.few, run.size.samples // 2)
    await run.take_turns("queue", [*map(Side, run.contenders)], measures.queue, samples)


async def long(run: Run) -> None:
    size, sessions = run.size, {}
    for each in run.contenders:
        sessions[each.name] = await measures.past(each, size.messages, size.bytes)
        run.progress(f"long: {each.name} has {size.messages} messages of {size.bytes:,} bytes")

    async def measure(side: Side) -> Sample:
        return await measures.interrupt(side, sessions[side.contender.name])

    samples = max(size.few, size.samples // 2)
    await run.take_turns("long", run.sides(), measure, samples, size.warm_up)


async def killed(run: Run) -> None:
    async def measure(side: Side, saved: float = 0.0) -> Sample:
        fresh = type(side.contender)(run.stage)  # with nothing to read but what is asked for
        try:
            await fresh.start()
            return await measures.killed(Side(fresh, side.policy), saved)
        finally:
            await fresh.close()

    await run.take_turns("killed", run.sides(), measure, run.size.few)
    saving = [side for side in run.sides() if isinstance(side.contender, LangGraph)]
    later = partial(measure, saved=run.size.saved)
    await run.take_turns("killed later", saving, later, run.size.few)


MEASURES: Final[dict[str, Callable[[Run], Awaitable[None]]]] = {
    "interrupt": interrupt,
    "cleanup": cleanup,
    "burst": burst,
    "history": history,
    "queue": queue,
    "long": long,
    "killed": killed,
}


async def measure(
    names: Sequence[str], size: Size, without: Sequence[str]
) -> tuple[dict[str, Samples], list[dict[str, Any]]]:
    """Start all that can be started, measure, and end it.

    Args:
        names: What is measured.
        size: How much.
        without: The contenders that are left out.

    Returns:
        The samples, and what was measured: names, versions and settings.
    """
    began = time.monotonic()

    def progress(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.1f} s  {line}\n")
        sys.stderr.flush()

    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(stage())
        contenders: list[Contender] = []
        for kind in ALL:
            if kind.name in without:
                continue
            if not kind.is_installed():
                progress(f"{kind.name}: left out, as {kind.venv} lacks {kind.packages}")
                continue
            contender = kind(running)
            stack.push_async_callback(contender.close)
            try:
                await contender.start()
            except RuntimeError as error:
                progress(f"{kind.name}: left out, as it does not start: {error}")
                continue
            contenders.append(contender)
            progress(f"{kind.name} is up: {kind.versions()}")
        run = Run(running, size, contenders, progress)
        for name in names:
            await MEASURES[name](run)
    about = [
        {
            "name": each.name,
            "versions": each.versions(),
            "installed": each.installed_on(),
            "setting": each.setting,
        }
        for each in contenders
    ]
    return run.given, about

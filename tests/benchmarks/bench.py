"""What the measurements share: how much is measured, taking turns, and telling how far it is."""

import sys
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from .figures import SIDES, Result
from .services import Options
from .stage import Side, Stage, stage

Sample = Callable[[Side], Awaitable[Mapping[str, float]]]
"""One measurement of one side; it may give several numbers, by name."""


class Bench:
    """One run.

    Args:
        samples: How many to take of what takes milliseconds; of what takes long, fewer.
        short: Whether to try everything out instead, small and on one stage.
    """

    def __init__(self, samples: int, *, short: bool) -> None:
        self.samples = samples
        self.short = short
        self._began = time.monotonic()
        self._stack = AsyncExitStack()
        self._shared: Stage | None = None

    async def close(self) -> None:
        """End what is shared."""
        await self._stack.aclose()

    def some(self, part: float, least: int = 5) -> int:
        """A part of the samples, but not too few."""
        return 1 if self.short else max(least, round(self.samples * part))

    @asynccontextmanager
    async def stage(
        self, sides: Sequence[str] = SIDES, options: Options | None = None, **env: str
    ) -> AsyncGenerator[Stage]:
        """A fresh stage; in a short run, one for all that ask for nothing special."""
        if self.short and options is None and not env:
            if self._shared is None:
                self._shared = await self._stack.enter_async_context(stage())
            yield self._shared
        else:
            async with stage(sides, options, **env) as fresh:
                yield fresh

    async def take_turns(
        self, what: str, sides: Sequence[Side], sample: Sample, *, samples: int, warm_up: int = 2
    ) -> dict[str, dict[str, list[float]]]:
        """Measure the sides in turn, the first last the next time, after some rounds of warm-up.

        Returns:
            The samples, by the name of the number and by side.
        """
        taken: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        warm_up = min(warm_up, samples)
        said = time.monotonic()
        for number in range(warm_up + samples):
            for side in sides[:: 1 if number % 2 else -1]:
                for name, value in (await sample(side)).items():
                    if number >= warm_up:
                        taken[name][side.name].append(value)
            if time.monotonic() - said > 5:
                said = time.monotonic()
                self.progress(f"{what}: {number + 1} of {warm_up + samples} rounds")
        self.progress(f"{what}: done")
        return taken

    def progress(self, line: str) -> None:
        """Tell how far it is."""
        sys.stderr.write(f"{time.monotonic() - self._began:6.1f} s  {line}\n")
        sys.stderr.flush()


Measure = Callable[[Bench], Awaitable[list[Result]]]
Taken = Mapping[str, Mapping[str, Any]]


def in_ms(seconds: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """The samples of all sides in milliseconds."""
    return {side: [each * 1e3 for each in samples] for side, samples in seconds.items()}

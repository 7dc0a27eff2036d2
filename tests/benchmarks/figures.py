"""What a measurement gives: figures with a target, growth with an exponent, and tables."""

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

LIBRARY: Final = "library"
REFERENCE: Final = "reference"
FLOOR: Final = "floor"
ANEW: Final = "anew"
"""The library where each task has all of a conversation loaded anew."""
SIDES: Final = (LIBRARY, REFERENCE, FLOOR)
WITHOUT: Final = {
    "timeless": ("times",),
    "eager": ("reads",),
    "late": ("reports",),
    "unread": ("times", "reads"),
    "bare": ("times", "reads", "reports"),
}
"""Sides that are the library without something that costs time; see `services.strip`."""

Samples = Mapping[str, Sequence[float]]
"""What was measured, by side, in the order in which it was measured."""


@dataclass
class Target:
    """What the issue asks for.

    Attributes:
        limit: The number.
        sense: Which way it limits.
        of: Of the ratio of the medians, or of the library's worst sample.
    """

    limit: float
    sense: Literal["at most", "at least"] = "at most"
    of: Literal["ratio", "library"] = "ratio"

    def __str__(self) -> str:
        return f"{self.sense} {self.limit:g}" + ("" if self.of == "ratio" else ", itself")

    def is_met(self, value: float) -> bool:
        """Whether a value keeps to it."""
        return value <= self.limit if self.sense == "at most" else value >= self.limit


@dataclass
class Figure:
    """One line of the table.

    Attributes:
        name: What `--only` and the JSON call it.
        title: What was measured.
        unit: Of the samples.
        samples: By side.
        target: What the issue asks for, if it does.
        checks: What else has to hold, in words, and whether it did.
    """

    name: str
    title: str
    unit: str
    samples: Samples
    target: Target | None = None
    checks: dict[str, bool] = field(default_factory=dict)

    def median(self, side: str) -> float:
        """The median of a side's samples."""
        return statistics.median(self.samples[side])

    @property
    def ratio(self) -> float | None:
        """The library's median over the reference's."""
        if not self.samples.get(LIBRARY) or not self.samples.get(REFERENCE):
            return None
        if self.median(REFERENCE) < 0:
            return None
        return _over(self.median(LIBRARY), self.median(REFERENCE))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the ratio lies with a probability of 95 %, by resampling (bootstrap)."""
        if self.ratio is None or min(len(self.samples[x]) for x in (LIBRARY, REFERENCE)) < 5:
            return None
        chance = random.Random(0)  # noqa: S311 - the same samples give the same interval
        ratios = sorted(
            _over(
                statistics.median(chance.choices(self.samples[LIBRARY], k=n)),
                statistics.median(chance.choices(self.samples[REFERENCE], k=m)),
            )
            for n, m in [(len(self.samples[LIBRARY]), len(self.samples[REFERENCE]))] * 1000
        )
        return ratios[25], ratios[974]

    @property
    def met(self) -> bool | None:
        """Whether the target is met; `None` if there is none."""
        if self.target is None:
            return None if not self.checks else all(self.checks.values())
        value = self.ratio
        if self.target.of == "library":
            worst = max if self.target.sense == "at most" else min
            value = worst(self.samples[LIBRARY])
        return value is not None and self.target.is_met(value) and all(self.checks.values())

    def as_json(self) -> dict[str, Any]:
        """All of it, with what follows from it."""
        return {
            "kind": "figure",
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "target": None if self.target is None else str(self.target),
            "ratio": _short(self.ratio),
            "ratio_95": None if self.interval is None else [_short(x) for x in self.interval],
            "met": self.met,
            "checks": self.checks,
            "sides": {
                side: {
                    "median": _short(self.median(side)),
                    "quartiles": [_short(x) for x in quartiles(samples)],
                    "samples": [_short(x) for x in samples],
                }
                for side, samples in self.samples.items()
            },
        }


@dataclass
class Growth:
    """How something grows; drawn on axes that are both logarithmic.

    Attributes:
        name: What `--only`, the JSON and the picture call it.
        title: What was measured.
        x: What it grows with.
        unit: Of the samples.
        points: By side, and by what it grows with.
    """

    name: str
    title: str
    x: str
    unit: str
    points: Mapping[str, Mapping[int, Sequence[float]]]

    def line(self, side: str) -> list[tuple[int, float]]:
        """The medians, from left to right; nothing at 0, which has no logarithm."""
        return [(x, statistics.median(y)) for x, y in sorted(self.points[side].items()) if x > 0]

    def exponent(self, side: str) -> float:
        """The exponent of the power of x that fits best: least squares of the logarithms."""
        return exponent(self.line(side))

    def end(self, side: str) -> float:
        """The exponent between the last two points alone."""
        return exponent(self.line(side)[-2:])

    def as_json(self) -> dict[str, Any]:
        """All of it, with the exponents."""
        return {
            "kind": "growth",
            "name": self.name,
            "title": self.title,
            "x": self.x,
            "unit": self.unit,
            "sides": {
                side: {
                    "exponent": _short(self.exponent(side)),
                    "exponent_at_the_end": _short(self.end(side)),
                    "medians": {str(x): _short(y) for x, y in self.line(side)},
                    "quartiles": {
                        str(x): [_short(each) for each in quartiles(points[x])]
                        for x in sorted(points)
                    },
                }
                for side, points in self.points.items()
            },
        }


@dataclass
class Table:
    """What is neither: rows of text under a head."""

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {"kind": "table", **vars(self)}


Result = Figure | Growth | Table


def is_whole(result: Result) -> bool:
    """Whether there is a number for everything that it has to say."""
    if isinstance(result, Table):
        return bool(result.rows) and all(all(row) for row in result.rows)
    numbers = result.samples if isinstance(result, Figure) else result.points[LIBRARY]
    return all(each and all(map(math.isfinite, each)) for each in numbers.values())


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """The first and the third."""
    if len(samples) == 1:
        return samples[0], samples[0]
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, third


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line that fits the logarithms best."""
    logs = [(math.log(x), math.log(y)) for x, y in points if y > 0]
    if len({x for x, _ in logs}) < 2:
        return math.nan
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def within_noise(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the median of each lies between the quartiles of the other, or they are that near."""
    near = abs(statistics.median(one) - statistics.median(other))
    spread = max(high - low for low, high in (quartiles(one), quartiles(other)))
    return near <= spread


def _over(a: float, b: float) -> float:
    return a / b if b else math.inf


def _short(x: float | None) -> float | None:
    """Four digits, which is more than any of this is known to; JSON has no infinity."""
    return None if x is None or not math.isfinite(x) else float(f"{x:.4g}")

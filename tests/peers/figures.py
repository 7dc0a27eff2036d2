"""What a cell of a table says of some samples: medians with ratios, counts, how often."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.benchmarks import figures
from tests.benchmarks.figures import Figure

LIBRARY: Final = "interruptible"

Samples = Mapping[str, Sequence[Mapping[str, Any]]]
"""What was measured, by the name of the side."""


def of(samples: Samples, side: str, name: str) -> list[Any]:
    """The values of one side; of a sample that failed, none."""
    return [each[name] for each in samples.get(side, ()) if "error" not in each]


def median(samples: Samples, side: str, name: str) -> float | None:
    """The median of those that happened; none if one in two did not."""
    values = of(samples, side, name)
    there = [each for each in values if each is not None]
    return statistics.median(there) if there and 2 * len(there) > len(values) else None


def timed(samples: Samples, side: str, name: str) -> str:
    """A median, and its ratio to the library's with where that lies with a probability of 95 %."""
    values = of(samples, side, name)
    there = [each for each in values if each is not None]
    if not there:
        return "never" if values else ""
    written = duration(statistics.median(there))
    if len(there) < len(values):
        written += f" in {len(there)} of {len(values)}"
    ours = [each for each in of(samples, LIBRARY, name) if each is not None]
    if side == LIBRARY or not ours:
        return f"{written} · 1" if side == LIBRARY else written
    sides = {figures.LIBRARY: there, figures.REFERENCE: ours}
    figure = Figure(name, name, "s", sides)
    written += f" · {number(figure.ratio or 0)}"
    if figure.interval is not None:
        written += " ({} to {})".format(*map(number, figure.interval))
    return written


def number(ratio: float) -> str:
    """A ratio, in two digits or more."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def counted(samples: Samples, side: str, name: str) -> str:
    """A number, or from which to which."""
    values = of(samples, side, name)
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def times(samples: Samples, side: str, name: str) -> str:
    """How often something was so, or happened at all."""
    values = of(samples, side, name)
    held = sum(each is not None and each is not False for each in values)
    return f"{held} of {len(values)}" if values else ""


def duration(seconds: float) -> str:
    """A time, for the eye."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    ms = seconds * 1000
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"

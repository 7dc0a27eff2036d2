"""The results on the terminal, as JSON, and as the part of a page that lies between two marks."""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from interruptible.testing import find_server

from .figures import FLOOR, LIBRARY, REFERENCE, SIDES, Figure, Growth, Result, Table, quartiles
from .plot import draw, signed

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
MARKS: Final = {
    "results": ("<!-- figures: written by `make bench` -->", "<!-- end of figures -->"),
    "policies": ("<!-- the policies: written by `make bench` -->", "<!-- end of the policies -->"),
    "long": ("<!-- the long: written by `make bench` -->", "<!-- end of the long -->"),
    "stream": ("<!-- the stream: written by `make bench` -->", "<!-- end of the stream -->"),
}
"""Of each part of the page, which has a file of its own, where it stands."""

ORDER: Final = (
    *("step-short", "step-long", "ack-short", "ack-long", "ack-flat", "ack-cleanup", "cut-off"),
    *("burst-paid", "burst-quiet", "silent", "turn", "throughput", "bytes", "entries", "memory"),
    "import",
    *("policies-abort", "policies-rollback-ack", "policies-rollback-step", "policies-queue-step"),
    *("long-newest", "long-newest-flat", "long-all", "long-bytes"),
    *("stream-1", "stream-20", "stream-100"),
    *("stream-ack", "stream-step", "stream-interrupting", "stream-next"),
)
"""The figures that have a target, as the table of targets has them."""

HEAD: Final = ("figure", LIBRARY, REFERENCE, FLOOR, "unit", "ratio", "95 %", "target", "met")


def machine() -> dict[str, str]:
    """Where it was measured, and what."""
    cpu = next(
        (line.split(": ")[1] for line in _read("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory = next((line.split()[1] for line in _read("/proc/meminfo")), "0")
    server = subprocess.run(
        [str(find_server()), "--version"], capture_output=True, text=True, check=False
    )
    return {
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _git("rev-parse", "--short=12", "HEAD")
        + (", changed" if _git("status", "--porcelain", "--", "interruptible") else ""),
        "command": " ".join(["python -m tests.benchmarks", *sys.argv[1:]]),
        "load before": " ".join(f"{each:.1f}" for each in os.getloadavg()),
        "machine": f"{os.cpu_count()} cores of {cpu}, {int(memory) / 2**20:.0f} GiB, "
        f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "restate-sdk": version("restate-sdk"),
        "restate-server": server.stdout.split()[-1] if server.stdout else "",
    }


def tables(results: Sequence[Result]) -> list[list[tuple[str, ...]]]:
    """The figures that have a target, and those beside them."""
    figures = {each.name: each for each in results if isinstance(each, Figure)}
    aimed = [figures[name] for name in ORDER if name in figures]
    beside = [each for each in figures.values() if each.name not in ORDER]
    return [[HEAD, *rows(some)] for some in (aimed, beside) if some]


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """A line for each figure."""
    return [
        (
            each.title,
            *(_middle(each, side) for side in SIDES),
            each.unit,
            "" if each.ratio is None else f"{each.ratio:.3g}",
            "" if each.interval is None else "{:.3g} to {:.3g}".format(*each.interval),
            "" if each.target is None else str(each.target),
            _verdict(each),
        )
        for each in results
        if isinstance(each, Figure)
    ]


def lines(results: Sequence[Result]) -> list[str]:
    """The figures in a few words each, as they come."""
    return [" | ".join(cell for cell in row if cell) for row in rows(results)]


def terminal(results: Sequence[Result]) -> str:
    """All results, for the eye."""
    parts = [_columns(table) for table in tables(results)]
    for each in results:
        if isinstance(each, Growth):
            parts.append(f"{each.title}, by {each.x}, {each.unit}\n{_columns(growth(each))}")
        elif isinstance(each, Table):
            parts.append(f"{each.title}\n{_columns([each.head, *each.rows])}")
    return "\n\n".join(parts)


def growth(each: Growth) -> list[tuple[str, ...]]:
    """The medians of a growth, with its exponents."""
    sizes = sorted(next(iter(each.points.values())))
    lines = [("", *(f"{size:,}" for size in sizes), "exponent", "at the end")]
    for side, points in each.points.items():
        medians = (_number(statistics.median(points[size])) for size in sizes)
        exponents = (signed(x) for x in (each.exponent(side), each.end(side)))
        lines.append((side, *medians, *exponents))
    return lines


def part_of(result: Result) -> str:
    """Which part of the page has a result."""
    name = result.name.partition("-")[0]
    return name if name in MARKS else "results"


def write(part: str, results: Sequence[Result], about: dict[str, str]) -> None:
    """Write what `docs/` has of the results: JSON, pictures, and the tables of its page."""
    folder = DOCS / "benchmarks"
    folder.mkdir(exist_ok=True)
    results = [each for each in results if part_of(each) == part]
    listed: dict[str, Any] = {"about": about, "results": [each.as_json() for each in results]}
    (folder / f"{part}.json").write_text(f"{json.dumps(listed, indent=1)}\n")
    for each in results:
        if isinstance(each, Growth):
            (folder / f"{each.name}.svg").write_text(draw(each))
    page = DOCS / "benchmarks.md"
    if page.exists():
        begin, end = MARKS[part]
        marked = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
        written = f"{begin}\n\n{markdown(results, about)}\n\n{end}"
        page.write_text(marked.sub(lambda _: written, page.read_text()))


def markdown(results: Sequence[Result], about: dict[str, str]) -> str:
    """All results as Markdown."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in about.items())]
    parts += [pipes(table) for table in tables(results)]
    for each in results:
        if isinstance(each, Growth):
            caption = f"{each.title}, by {each.x}, {each.unit}"
            picture = f"![{caption}](benchmarks/{each.name}.svg)"
            parts += [f"**{caption}**", pipes(growth(each)), picture]
        elif isinstance(each, Table):
            parts += [f"**{each.title}**", pipes([each.head, *each.rows])]
    return "\n\n".join(parts)


def _middle(figure: Figure, side: str) -> str:
    """The median, with the quartiles."""
    samples = figure.samples.get(side)
    if not samples:
        return ""
    low, high = quartiles(samples)
    spread = f" ({_number(low)} to {_number(high)})" if low != high else ""
    return f"{_number(figure.median(side))}{spread}"


def _verdict(figure: Figure) -> str:
    if figure.met is None:
        return ""
    failed = [what for what, held in figure.checks.items() if not held]
    if failed:
        return f"NO: not {', '.join(failed)}"
    return (
        "yes" + (f", {', '.join(figure.checks)}" if figure.checks else "") if figure.met else "NO"
    )


def _number(x: float) -> str:
    if x >= 100 or x == int(x):
        return f"{x:,.0f}"
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def _columns(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def pipes(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rest))


def _read(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()

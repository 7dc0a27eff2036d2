"""Measure the library beside the pattern written by hand: `python -m tests.benchmarks`.

Both, and a floor of bare handlers that do nothing, run on one server at a time, each in a worker
process of its own, and are measured in turn, sample by sample. At the end it prints a table, and
writes results, pictures and tables to `docs/`, if all was measured; what is measured of the stream,
always. It exits with 1 if a measurement failed.
"""

import argparse
import asyncio
import logging
import signal
import sys
import traceback
from collections.abc import Sequence

from . import report
from .bench import Bench
from .figures import Result, is_whole
from .measures import AT_ONCE, MEASURES

LONGEST = 600.0
"""Seconds that one measurement may take."""


async def measure(bench: Bench, names: Sequence[str]) -> tuple[list[Result], list[str]]:
    """Make the measurements; returns what they gave, and those that failed."""
    given: dict[str, list[Result]] = {}

    async def make(name: str) -> None:
        try:
            given[name] = await asyncio.wait_for(MEASURES[name](bench), LONGEST)
        except Exception:  # noqa: BLE001 - the others are worth having
            traceback.print_exc()
            bench.progress(f"{name}: FAILED")
            return
        for line in [] if bench.short else report.lines(given[name]):
            bench.progress(f"  {line}")

    together = [name for name in names if name in AT_ONCE and not bench.short]
    try:
        for name in names:
            if name not in together:
                await make(name)
        await asyncio.gather(*map(make, together))
    finally:
        await bench.close()
    results = [each for name in names for each in given.get(name, [])]
    partial = [each.name for each in results if not is_whole(each)]
    return results, [*(name for name in names if name not in given), *partial]


def main() -> int:
    """Read the arguments, measure, and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=MEASURES,
        metavar="NAME",
        help="this measurement alone; may be given more than once: " + ", ".join(MEASURES),
    )
    parser.add_argument("--samples", type=int, default=40, help="of what takes milliseconds")
    parser.add_argument("--short", action="store_true", help="try all out, small; judge no times")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all that was started ends
    names = asked.only or list(MEASURES)
    about = report.machine()
    bench = Bench(1 if asked.short else asked.samples, short=asked.short)
    bench.progress(f"bench: {len(names)} measurements on a real server")
    results, failed = asyncio.run(measure(bench, names))
    if not asked.short:
        print(report.terminal(results))
    parts = asked.only or [*report.MARKS]
    for part in [] if asked.short else [x for x in parts if x in report.MARKS]:
        report.write(part, results, about)
    measured = f"{len(results)} results of {len(names)} measurements"
    bench.progress(f"bench: {measured}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

"""Measure the library beside what people would use instead: `python -m tests.peers`.

Each contender runs in an environment of its own, which `make bench-peers` makes; those without
one are left out. All are up at once, and take turns. At the end it writes the tables into
`docs/how-it-compares.md`, and all samples to `docs/benchmarks/peers.json`; with `--only`, into what
is there. It exits with 1 if
something could not be measured.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys

from . import report
from .contenders import ALL
from .run import MEASURES, SHORT, Size, measure


def main() -> int:
    """Read the arguments, measure, and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("--samples", type=int, default=25, help="of what takes milliseconds")
    parser.add_argument("--short", action="store_true", help="try all out, small; write nothing")
    names = [each.name for each in ALL]
    for option, choices in (("--only", list(MEASURES)), ("--without", names)):
        parser.add_argument(
            option, action="append", choices=choices, metavar="NAME", help=", ".join(choices)
        )
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all that was started ends
    about = report.machine()
    size = SHORT if asked.short else Size(samples=asked.samples)
    given, contenders = asyncio.run(
        measure(asked.only or list(MEASURES), size, asked.without or [])
    )
    about["load after"] = report.load()
    results = {"about": about, "contenders": contenders, "samples": given}
    if asked.short or asked.without:
        print(json.dumps(given, indent=1))
    else:
        report.write(report.again(results) if asked.only else results)
    failed = [
        f"{name} of {side}"
        for name, samples in given.items()
        for side, taken in samples.items()
        if any("error" in sample for sample in taken)
    ]
    if failed:
        sys.stderr.write(f"bench-peers: not everything was measured: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

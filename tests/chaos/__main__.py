"""`python -m tests.chaos`: a run, and what the checker says of it. Exits with 1 on a violation."""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from .checker import CHECKS, check
from .records import Records, dump, load
from .run import Options, Result, run
from .shrink import shrink
from .story import story
from .view import Violation

WIDTH = 300
"""Characters of a violation that are printed: some tell whole conversations."""


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.check:
        records = load(arguments.check)
        decided: Counter[str] = Counter()
        return _tell(check(records, decided), decided, arguments.check)
    options = Options(
        seed=arguments.seed or str(random.randrange(10**6)),  # noqa: S311
        turns=arguments.turns,
        faults=arguments.faults,
        sessions=arguments.sessions,
        pace=arguments.pace,
        gone=arguments.gone,
        minutes=arguments.minutes,
        cluster=arguments.cluster,
        only=tuple(arguments.only or ()),
    )
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    again = f"--seed {options.seed} --turns {options.turns} --faults {options.faults}"
    again += f" --sessions {options.sessions} --pace {options.pace} --gone {options.gone}"
    again += " --cluster" if options.cluster else ""
    again += "".join(f" --only '{kind}'" for kind in options.only)
    print(f"chaos: python -m tests.chaos {again}  (records in {folder})", flush=True)
    result = asyncio.run(_until_signal(options, folder))
    dump(result.records, folder / "records.json")
    decided = Counter()
    violations = check(result.records, decided)
    _figures(result)
    status = _tell(violations, decided, folder / "records.json", result)
    if not status and not arguments.keep:
        shutil.rmtree(folder)
    return status


async def _until_signal(options: Options, folder: Path) -> Result:
    """Also on SIGTERM everything that was started is to end."""
    this = asyncio.current_task()
    assert this is not None
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_signal_handler(signal.SIGTERM)
        this.cancel()

    loop.add_signal_handler(signal.SIGTERM, end)
    return await run(options, folder)


def _figures(result: Result) -> None:
    records = result.records
    messages = [op for op in records.ops if op.name == "message"]
    turns = sum(len(final.turns or ()) for final in records.finals)
    attempts = len({line.attempt for line in records.lines})
    outcomes = Counter(turn["status"] for final in records.finals for turn in final.turns or ())
    answers = Counter(
        op.answer["status"] if op.ok else f"refused {op.status}" if not op.unknown else "unknown"
        for op in messages
    )
    print(f"{result.seconds:.0f} s, {len(records.finals)} sessions, {len(records.ops)} requests")
    copied = "those that came with forks included"
    print(f"tasks: {len(records.invocations)}; turns, {copied}: {turns}, {dict(outcomes)}")
    print(f"attempts that reached a body: {attempts}; lines of steps: {len(records.lines)}")
    print(f"messages: {len(messages)}: {dict(answers)}; tries that failed: {result.retries}")
    print(f"faults: {result.faults.total()}")
    for kind, number in sorted(result.faults.items()):
        print(f"  {kind:16} {number}")


def _tell(
    violations: list[Violation], decided: Counter[str], path: Path, result: Result | None = None
) -> int:
    for name in CHECKS:
        found = sum(violation.invariant == name for violation in violations)
        print(f"  {name:10} decided {decided[name]:6} times, {found} violations")
    if under_way := decided["I7 under way"]:
        print(f"  of I7, {under_way} turns began while the cancellation was under way")
    records = result.records if result else load(path)
    for violation in violations[:20]:
        where = f"{violation.invariant} {violation.agent}/{violation.session}"
        print(f"{where}: {violation.text[:WIDTH]}")
    if violations:
        _tell_shortest(violations, records, path)
    if result and result.unplayed:
        print(f"sessions whose last message was not accepted: {', '.join(result.unplayed)}")
    print(f"violations: {len(violations)}")
    return 1 if violations or (result and result.unplayed) else 0


def _tell_shortest(violations: list[Violation], records: Records, path: Path) -> None:
    """Of one violation of each invariant, but not of all ten: that takes its time."""
    first = {x.invariant: x for x in reversed(violations)}
    stories = []
    for violation in list(first.values())[:4]:
        part = shrink(records, violation)
        stories.append((story(part, records), violation, part))
    told, violation, part = min(stories, key=lambda x: len(x[0]))
    print(f"\nThe shortest story: {violation.invariant}, {violation.agent}/{violation.session}")
    print(violation.text[:WIDTH])
    print("\n".join(told))
    dump(part, path.with_name("shortest.json"))
    print(f"Check again: python -m tests.chaos --check {path}")
    print(f"The story alone:                     … --check {path.with_name('shortest.json')}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", help="replay the scripts and the faults of this seed")
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=12, help="at once")
    parser.add_argument("--pace", type=float, default=1.0, help="2: faults come half as often")
    parser.add_argument("--gone", type=float, default=0.0, help="seconds without any worker, once")
    parser.add_argument("--minutes", type=float, default=0.0, help="end after that long at most")
    parser.add_argument("--cluster", action="store_true", help="three servers instead of one")
    parser.add_argument("--only", action="append", help="a kind of fault; more than once for more")
    parser.add_argument("--keep", action="store_true", help="keep the records of a good run")
    parser.add_argument("--check", type=Path, help="check the records of an earlier run again")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except asyncio.CancelledError:
        sys.exit(143)

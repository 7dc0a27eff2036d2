"""What is written and kept: bytes, journal entries, disk; and what an import takes."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import FLOOR, LIBRARY, REFERENCE, Figure, Result, Table, Target
from tests.benchmarks.services import Options
from tests.benchmarks.stage import BYTES, Side, Stage

from .latency import LONG, SHORT


async def written(bench: Bench) -> list[Result]:
    """The journals of all invocations that a turn consists of, and what the server writes."""
    messages, turns = (100, 1) if bench.short else (LONG, 5)
    async with bench.stage(options=Options(keep_reads=True)) as stage:
        keys = {name: await side.old(messages) for name, side in stage.sides.items()}

        async def sample(side: Side) -> Mapping[str, float]:
            await stage.settled()
            before = set(await stage.invocations(side))
            wrote = _written_by(stage.server_pid)
            for _ in range(turns):  # several, as what the log says is stored later
                await side.begun(await side.send(keys[side.name], "answer"))
                await stage.settled()
            wrote = _written_by(stage.server_pid) - wrote
            accepted = await stage.invocations(side, "target_handler_name = 'message'")
            all_of_them = await stage.invocations(side)
            return {
                "message": await stage.bytes(set(accepted) - before) / turns / 1024,
                "turn": await stage.bytes(set(all_of_them) - before) / turns / 1024,
                "process": wrote / turns / 1024,
            }

        taken = await bench.take_turns(
            f"bytes written with {messages} messages",
            list(stage.sides.values()),
            sample,
            samples=bench.some(0, 3),
            warm_up=1,
        )
    return [
        Figure(
            "bytes",
            f"journal of all invocations of one turn, {messages:,} messages of 1 KB",
            "KB",
            taken["turn"],
            Target(0.05),
        ),
        Figure(
            "bytes-message",
            f"journal of `message` alone, {messages:,} messages of 1 KB",
            "KB",
            taken["message"],
        ),
        Figure(
            "bytes-process",
            "written by the server's process in such a turn, with what it sends",
            "KB",
            taken["process"],
        ),
    ]


def _written_by(pid: int) -> int:
    """The bytes that a process has written, to files and connections."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["wchar"])


async def entries(stage: Stage, side: Side) -> Mapping[str, float]:
    """What an interruption and its answer leave in journals."""
    key = await side.old(SHORT)
    await stage.settled()
    earlier = set(await stage.invocations(side))

    async def fresh() -> set[str]:
        return set(await stage.invocations(side)) - earlier

    await side.begun(await side.send(key, "hold"))
    before = await stage.entries(await fresh())
    await side.begun(await side.send(key, "answer"))
    await stage.settled()
    both = await fresh()
    return {"entries": await stage.entries(both) - before, "invocations": len(both)}


async def journal(bench: Bench) -> list[Result]:
    """Journal entries from an interrupting message on, in all invocations together."""
    async with bench.stage(options=Options(keep_reads=True)) as stage:

        async def sample(side: Side) -> Mapping[str, float]:
            return await entries(stage, side)

        taken = await bench.take_turns(
            "journal entries",
            list(stage.sides.values()),
            sample,
            samples=bench.some(0.1, 5),
            warm_up=1,
        )
    return [
        Figure(
            "entries",
            "journal entries from an interrupting message to its answer, all invocations",
            "entries",
            taken["entries"],
            Target(1.0),
        ),
        Figure(
            "invocations",
            "invocations of both turns together",
            "invocations",
            taken["invocations"],
        ),
    ]


async def imports(bench: Bench) -> list[Result]:
    """Whole processes that import one module, with what Python has compiled."""
    modules = {LIBRARY: "interruptible", REFERENCE: "restate", FLOOR: "sys"}
    took: dict[str, list[float]] = {side: [] for side in modules}
    warm_up, samples = 1, bench.some(0.5, 15)
    for number in range(warm_up + samples):
        for side, module in list(modules.items())[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            # Isolated, so that no variable keeps Python from storing what it has compiled.
            subprocess.run([sys.executable, "-I", "-c", f"import {module}"], check=True)
            if number >= warm_up:
                took[side].append((time.perf_counter() - began) * 1e3)
    bench.progress("imports: done")
    return [
        Figure(
            "import",
            "a process that imports interruptible; restate; nothing",
            "ms",
            took,
            Target(1.1),
        )
    ]


async def retention(bench: Bench) -> list[Result]:
    """What turns leave on disk, by how long the journals of tasks are kept."""
    turns, sessions = (20, 4) if bench.short else (1000, 10)
    choices: tuple[tuple[str, float | None], ...] = ((LIBRARY, 0), (LIBRARY, None))
    if not bench.short:
        choices = ((LIBRARY, 0), (LIBRARY, 5), (LIBRARY, None), (REFERENCE, None))
    rows = [await _kept(bench, name, turns, sessions, seconds) for name, seconds in choices]
    return [
        Table(
            "retention",
            f"What {turns:,} turns in {sessions} sessions leave, messages of 1 KB",
            ("", "retention", "invocations", "journal entries", "journal MB", "on disk MB"),
            rows,
        )
    ]


async def _kept(
    bench: Bench, name: str, turns: int, sessions: int, seconds: float | None
) -> tuple[str, ...]:
    # What the server does every hour, it does every two seconds here.
    env = {
        "RESTATE_WORKER__CLEANUP_INTERVAL": "2s",
        "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "64MB",
    }
    async with bench.stage((name,), Options(retention=seconds), **env) as stage:
        await _hold_turns(stage.sides[name], turns, sessions)
        await stage.settled()
        if not bench.short:
            await asyncio.sleep(5 + (seconds or 0))
        await stage.restate.restart()  # what is in memory alone is then on disk
        (row,) = await stage.restate.query(
            "SELECT count(1) AS entries, sum(raw_length) AS bytes FROM sys_journal"
        )
        invocations = await stage.restate.invocations()
        disk = sum(_on_disk(path) for path in stage.restate.base_dir.glob("*/db"))
    kept = "default: a day" if seconds is None else f"{seconds:g} s"
    megabytes = [f"{each / 2**20:.1f}" for each in (row.get("bytes") or 0, disk)]
    bench.progress(f"retention, {name}, {kept}: {' and '.join(megabytes)} MB")
    return name, kept, f"{len(invocations):,}", f"{row['entries']:,}", *megabytes


async def _hold_turns(side: Side, turns: int, sessions: int) -> None:
    async def talk() -> None:
        key = await side.old(0)
        for _ in range(turns // sessions):
            await side.ended(await side.send(key, "answer", size=BYTES))

    await asyncio.gather(*(talk() for _ in range(sessions)))


def _on_disk(folder: Path) -> int:
    """The bytes that the files of a folder take on disk, as `du` counts them."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # the server removes some meanwhile
            total += path.stat().st_blocks * 512
    return total

"""Runs a command of the model's: bounded, without the worker's secrets, and gone when it ends.

Read here how a step waits for a process of its own: it passes on what is printed, cuts it off when
the step is aborted, and says in one line how it ended. What confines it is in `guard.py`.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from examples.coding_agent.guard import confines

GUARD = Path(__file__).with_name("guard.py")
SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/opt", "/proc", "/sbin", "/usr")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")


@dataclass(frozen=True)
class Limits:
    """What one tool call may use.

    Attributes:
        seconds: How long a command may take.
        grace: Seconds between SIGTERM and SIGKILL.
        printed: Characters that a command may print before it is stopped.
        result: Characters of a result that the model is shown.
        processes: Processes of a command at any one time.
        memory_bytes: Of each process.
        file_bytes: Of each file that a command writes.
        ports: TCP ports that a command may connect to. Restate's own are not among them: its admin
            API asks nobody who they are.
    """

    seconds: float = 60.0
    grace: float = 1.0
    printed: int = 2_000_000
    result: int = 16_000
    processes: int = 128
    memory_bytes: int = 4 << 30
    file_bytes: int = 256 << 20
    ports: tuple[int, ...] = (22, 80, 443)


def confinement() -> str:
    """What confines commands on this machine, for people."""
    if (refuses := confines()) < 1:
        return "NOT confined: without Landlock (Linux 5.13) they reach all that you can"
    if refuses < 4:  # noqa: PLR2004
        return "confined to their workspace, but NOT to some ports: that takes Linux 6.7"
    return "confined to their workspace"


async def run(
    command: str, files: Path, tmp: Path, limits: Limits, show: Callable[[str], None]
) -> str:
    """Run a command in the folder `files`, and return what happened, for the model.

    When this is cancelled, the whole of the command is gone before the cancellation goes on.

    Args:
        command: For a shell.
        files: Its working directory and home, and with `tmp` the one place it can write to.
        tmp: For temporary files.
        limits: What it may use.
        show: Is given what it prints, as it comes. It may hold control characters.
    """
    started = time.monotonic()
    guard = await _start(command, files, tmp, limits)
    printed = Clipped(limits.result)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        assert guard.stdin  # noqa: S101 - for the type checker
        guard.stdin.close()  # tells it to end everything that still runs

    def add(text: str) -> None:
        if not stopped:
            printed.add(text)
            show(text)
        if printed.length > limits.printed:
            stop()

    ending = asyncio.ensure_future(_end(guard, add))
    try:
        report = await asyncio.shield(ending)
    except asyncio.CancelledError:
        stop()
        await ending
        raise
    took = time.monotonic() - started
    return f"{_said(report, limits, took, too_much=stopped)}\n{printed}".rstrip()


async def _start(
    command: str, files: Path, tmp: Path, limits: Limits
) -> asyncio.subprocess.Process:
    python = Path(sys.executable).parent
    path = os.pathsep.join([str(python), os.environ.get("PATH", os.defpath)])
    job = {
        "command": command,
        "shell": shutil.which("bash") or "/bin/sh",
        "files": str(files),
        "env": {"PATH": path, "HOME": str(files), "LANG": "C.UTF-8", "TMPDIR": str(tmp)},
        "readable": [*SYSTEM, sys.prefix, sys.base_prefix],
        "writable": [str(files), str(tmp), *DEVICES],
        "ports": limits.ports,
        "seconds": limits.seconds,
        "grace": limits.grace,
        "processes": limits.processes,
        "memory_bytes": limits.memory_bytes,
        "file_bytes": limits.file_bytes,
    }
    pipe = asyncio.subprocess.PIPE
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(GUARD), json.dumps(job)),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={"PATH": path},
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        guard = await starting
        assert guard.stdin  # noqa: S101 - for the type checker
        guard.stdin.close()
        await _end(guard, lambda _: None)
        raise


async def _end(guard: asyncio.subprocess.Process, show: Callable[[str], None]) -> dict[str, object]:
    """Pass on what is printed, until the guard ends: the last process of its command."""
    assert guard.stdin and guard.stdout and guard.stderr  # noqa: PT018, S101 - for the type checker
    reading = asyncio.ensure_future(_read(guard.stdout, show))
    report = await guard.stderr.read()  # it has this for itself: it ends with the guard
    try:
        said = dict(json.loads(report))
    except ValueError:  # it was killed, and what it guarded may hold the output for ever
        reading.cancel()
        guard.stdin.close()
        while guard.returncode is None:  # `wait` would wait for the output, too, in some Pythons
            await asyncio.sleep(0.01)
        return {"broken": report.decode(errors="replace")[-500:]}
    await reading
    await guard.wait()
    return said


async def _read(stream: asyncio.StreamReader, show: Callable[[str], None]) -> None:
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    while chunk := await stream.read(8192):
        show(decode(chunk))


def _said(report: dict[str, object], limits: Limits, took: float, *, too_much: bool) -> str:
    if too_much:
        return f"[Stopped: it printed more than {limits.printed} characters.]"
    match report:
        case {"stopped": "time"}:
            return f"[Stopped: it took longer than {limits.seconds:g} s.]"
        case {"stopped": "processes"}:
            return f"[Stopped: it started more than {limits.processes} processes at a time.]"
        case {"code": int(code), "left": left}:
            how = f"Exit code {code}" if code >= 0 else f"Ended by signal {-code}"
            also = " What it had left running was ended." if left else ""
            return f"[{how} after {took:.1f} s.{also}]"
    return f"[It could not be run: {report}]"


class Clipped:
    """Text of which the beginning and the end are kept."""

    def __init__(self, most: int) -> None:
        self.length = 0
        self._half = most // 2
        self._head, self._tail = "", ""

    def add(self, text: str) -> None:
        """Add text at its end."""
        self.length += len(text)
        room = self._half - len(self._head)
        self._head += text[:room]
        self._tail = (self._tail + text[room:])[-self._half :]

    def __str__(self) -> str:
        left_out = self.length - len(self._head) - len(self._tail)
        between = f"\n[… {left_out} characters left out …]\n" if left_out else ""
        return self._head + between + self._tail

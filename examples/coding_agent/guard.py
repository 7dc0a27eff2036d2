"""Runs one command of the model's, and sees to it that nothing of it is left.

`shell.py` starts it as a process of its own, from the standard library alone. Its standard output
is the command's; when it ends, it reports how on its standard error, as JSON. It gives up as soon
as its standard input ends: when the step is aborted, and also when the worker dies. It ends only
when every process that the command has started is gone, whatever group or session they went to.
On Linux the command can write to its workspace alone, can signal nobody else, and has no
privileges; elsewhere there is the process group, the limits and the clean environment.

There are bindings of Landlock (`landlock`, `landlockpy`), which know nothing of processes, and no
library ends those that leave their group. This runs for each command, and so without packages.
"""

# ruff: noqa: PTH112, PTH123, PTH208 - it runs for each command: it imports no more than it needs
import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time

_SUBREAPER, _PARENT_DEATH_SIGNAL, _DROP_CAPABILITY, _NO_NEW_PRIVILEGES = 36, 1, 24, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # Landlock, on every architecture
_READ, _FILE_WRITE, _ALL = 0b1101, 0b10 | 1 << 14, (1 << 15) - 1
_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Run the command that the first argument describes, and report on stderr how it ended."""
    job = json.loads(sys.argv[1])
    news, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    if _LINUX:
        _libc.prctl(_SUBREAPER, 1, 0, 0, 0)  # whoever loses its parent becomes our child
    child = subprocess.Popen(  # noqa: S603
        [job["shell"], "-c", job["command"]],
        cwd=job["files"],
        env=job["env"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: confine(job),  # noqa: PLW1509 - there are no threads here
    )
    os.close(1)  # the command's alone: it ends with the last process that holds it
    report = _watch(child, job, news)
    report["left"] = _has_children()
    _end_all(child, job["grace"])
    sys.stderr.write(json.dumps(report))


def _watch(
    child: "subprocess.Popen[bytes]", job: "dict[str, object]", news: int
) -> dict[str, object]:
    deadline = time.monotonic() + float(str(job["seconds"]))
    while child.poll() is None:
        late = time.monotonic() > deadline
        alive, dead = _descendants()  # after the clock: so many may have kept us from looking
        if len(alive) > int(str(job["processes"])):
            os.killpg(child.pid, signal.SIGKILL)
            return {"stopped": "processes"}
        if late:
            return {"stopped": "time"}
        _bury(dead - {child.pid})
        ready, _, _ = select.select([0, news], [], [], 0.1)
        if news in ready:
            os.read(news, 4096)
        if 0 in ready and not os.read(0, 4096):
            return {"stopped": "caller"}
    return {"code": child.returncode}


def _end_all(child: "subprocess.Popen[bytes]", grace: float) -> None:
    """SIGTERM, and SIGKILL for those that are there after the grace; until there is none."""
    kill, deadline = signal.SIGTERM, time.monotonic() + grace
    told: set[int] = set()
    while _has_children():
        left, _ = _descendants()
        if time.monotonic() > deadline:
            kill = signal.SIGKILL
        if kill == signal.SIGKILL or child.pid not in told:
            told.add(child.pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, kill)
        for pid in left if kill == signal.SIGKILL else left - told:
            told.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, kill)
        time.sleep(0.005)


def _has_children() -> bool:
    """Bury the dead, and say whether a child is left.

    Whoever loses its parent becomes our child at once: without a child nothing is left at all. A
    look at /proc cannot tell, as it misses who is born while it looks.
    """
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def _bury(dead: set[int]) -> None:
    """Take leave of the dead that were handed over to us."""
    for pid in dead:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _descendants() -> tuple[set[int], set[int]]:
    """Every process below this one, alive or dead; none where there is no /proc."""
    parents: dict[int, int] = {}
    dead: set[int] = set()
    for name in os.listdir("/proc") if _LINUX else []:
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                state, parent = stat.read().rpartition(b")")[2].split()[:2]
                parents[int(name)] = int(parent)
                if state == b"Z":
                    dead.add(int(name))
    found, before = {os.getpid()}, 0
    while len(found) != before:
        before = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    found.discard(os.getpid())
    return found - dead, found & dead


def confine(job: "dict[str, object]") -> None:
    """Take from this process, which is about to become the command, what it shall not have."""
    limits = {"CORE": 0, "FSIZE": job["file_bytes"], "AS": job["memory_bytes"], "NOFILE": 1024}
    if os.getuid():  # counts what the user runs in all; root is exempt, and `_watch` counts anyway
        limits["NPROC"] = 4096
    for name, limit in limits.items():
        with contextlib.suppress(OSError, ValueError):  # macOS has no limit of memory
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(str(limit)),) * 2)
    if not _LINUX:
        return
    _libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    for capability in range(64):
        _libc.prctl(_DROP_CAPABILITY, capability, 0, 0, 0)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # before the worker, if memory runs out
    landlock([*job["readable"]], [*job["writable"]], [*job["ports"]])  # type: ignore[misc]


def confines() -> int:
    """What this kernel refuses: files from 1 on, ports too from 4 on, signals too from 6 on."""
    return int(_libc.syscall(_CREATE_RULESET, None, 0, 1)) if _LINUX else 0


def landlock(readable: list[str], writable: list[str], ports: list[int]) -> bool:
    """Have the kernel refuse all files but these, TCP to other ports, and signals to others."""
    abi = confines()
    if abi < 1:
        return False
    unknown = (1 << 13 if abi < 2 else 0) | (1 << 14 if abi < 3 else 0)  # noqa: PLR2004
    handled = (ctypes.c_uint64 * 3)(_ALL & ~unknown, 0b10, 0b11)
    size = 8 if abi < 4 else 16 if abi < 6 else 24  # noqa: PLR2004
    rules = _libc.syscall(_CREATE_RULESET, handled, size, 0)
    for paths, rights in ((readable, _READ), (writable, _ALL & ~unknown)):
        for path in paths:
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_PATH)
                file_only = (_READ | _FILE_WRITE) & ~unknown & ~0b1000
                allowed = rights if os.path.isdir(path) else rights & file_only
                rule = allowed.to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder)
                _libc.syscall(_ADD_RULE, rules, 1, rule, 0)
                os.close(fd)
    for port in ports if abi >= 4 else []:  # noqa: PLR2004
        rule = (0b10).to_bytes(8, sys.byteorder) + port.to_bytes(8, sys.byteorder)
        _libc.syscall(_ADD_RULE, rules, 2, rule, 0)
    failed = _libc.syscall(_RESTRICT_SELF, rules, 0)
    os.close(rules)
    return bool(failed == 0)


if __name__ == "__main__":
    main()

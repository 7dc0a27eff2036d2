"""The files of one session, and one git repository that holds what they were at each turn.

    <root>/<session>/files      what the tools and the commands see
    <root>/<session>/tmp        what is half written
    <root>/<session>/turns.git  a commit for the start and one for the end of each turn

The repository stands beside the files: what the model does with git in its own folder is part of
the files like everything else, and no setting or hook that it leaves there is ever obeyed. All is
kept, also what is ignored or not tracked; that is why files are committed with `git fast-import`,
and not with `git add`. Pipes and sockets are left out.

Each function is one durable step, and repeats itself without harm: a commit is a new reference or
none, a restore builds the whole folder aside and then puts it in the place of the old one.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import stat
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from examples.coding_agent.trees import entry_lines, legible, remove, unescaped, walk

GIT = ("core.hooksPath=/dev/null", "core.protectNTFS=false", "core.protectHFS=false", "gc.auto=0")
GIT_ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
}
START, END = "refs/heads/turn-{}-start", "refs/heads/turn-{}-end"
NOW, FORKED = "refs/heads/now", "refs/heads/forked"
LOOKED = "refs/looked/{}"  # one of its own for each look, as several may look at once
UNFINISHED = "Work in progress"
MOST_OF_A_DIFF = 400_000  # characters


class Workspace:
    """The workspace of one session, below the folder of all of them."""

    def __init__(self, root: Path, session: str) -> None:
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", session)[:40].strip("-")
        unique = hashlib.sha256(session.encode(errors="surrogatepass")).hexdigest()[:12]
        self.path = root.absolute() / f"{readable}-{unique}"
        self.files, self.tmp = self.path / "files", self.path / "tmp"
        self._git_dir = self.path / "turns.git"

    def checkpoint(
        self,
        turn: int,
        task_id: str,
        stands: Sequence[int],
        origin: tuple[str, int] | None = None,
    ) -> str:
        """Keep what the files are at the start of a turn; says what an interrupted one has left.

        What turns did that were taken back after they had ended is undone first; after a reset,
        that is all. The first checkpoint of a task counts: after a crash its turn may have begun.

        Args:
            turn: Which.
            task_id: Of the turn's task.
            stands: The turns before it that are in the conversation.
            origin: The session that this one was forked from, and the last turn that it has of it:
                the files begin as they were then.
        """
        self._make()
        subject = f"Turn {turn} starts, {task_id}"
        if self._subject(START.format(turn)) != subject:
            if origin is not None and self._commit_of(NOW) is None:
                self._adopt(Workspace(self.path.parent, origin[0]), origin[1])
            self._undo_since(turn, stands)
            self._commit(START.format(turn), subject)
        last = max(self._turns("end") & set(stands), default=0)
        left = self._subject(END.format(last))
        return f"{left}. {self._changes(last)}" if left.startswith(UNFINISHED) else ""

    def keep(self, turn: int, *, interrupted: bool) -> None:
        """Commit what a turn leaves, as work in progress if it was interrupted."""
        self._make()
        subject = f"{UNFINISHED} of turn {turn}, which was interrupted"
        self._commit(END.format(turn), subject if interrupted else f"Turn {turn} ends")

    def restore(self, *turns: int) -> None:
        """Make the files again what they were at the start of the first of these, byte for byte."""
        self._make()
        commit = next(filter(None, (self._commit_of(START.format(turn)) for turn in turns)), None)
        if commit is None:
            return  # they were cancelled before they began: they have changed nothing
        self._put(commit)

    def diff(self, turn: int) -> str:
        """What the files are now against what they were at the start of a turn."""
        if self._commit_of(START.format(turn)) is None:
            return ""
        looked = LOOKED.format(uuid.uuid4())
        try:
            self._commit(looked, "Somebody looked at it", now=False)
            return self._diff(START.format(turn), looked)[:MOST_OF_A_DIFF]
        finally:
            (self._git_dir / looked).unlink(missing_ok=True)

    def listing(self, most: int = 100) -> str:
        """The names of the files, for the model."""
        names = [
            name for name, entry in walk(self.files) if not entry.is_dir(follow_symlinks=False)
        ]
        shown = [name for name in names if ".git" not in name.split("/")]
        more = f"\n… and {len(shown) - most} more" if len(shown) > most else ""
        return legible("\n".join(shown[:most]) + more) or "(none)"

    # -- what it rests on ------------------------------------------------------------------------

    def _undo_since(self, turn: int, stands: Sequence[int]) -> None:
        """Undo what was done since the last turn that still stands."""
        before = sorted((x for x in self._turns("start") if x < turn), reverse=True)
        undone = list(itertools.takewhile(lambda x: x not in stands, before))
        self.restore(*reversed(undone))

    def _adopt(self, origin: Workspace, turn: int) -> None:
        """Begin with what another workspace was after a turn, and with its checkpoints until then.

        The last thing that it does is to set `NOW`: cut off before, it is done again.
        """
        starts, ends = origin._turns("start"), origin._turns("end")
        kept = [START.format(x) for x in starts if x <= turn]
        kept += [END.format(x) for x in ends if x <= turn]
        after = END.format(turn)
        if turn not in ends:  # it was killed, or never began
            later = [x for x in starts if x > turn]
            after = START.format(min(later)) if later else END.format(max(ends, default=0))
        commit = origin._commit_of(after)
        if commit is None:
            return
        wanted = [f"+{x}:{x}" for x in kept] + [f"+{after}:{FORKED}"]
        fetch = ("fetch", "--quiet", "--no-tags", "--stdin", str(origin._git_dir))
        self._git(*fetch, data="\n".join(wanted).encode())
        self._put(commit)
        self._git("update-ref", NOW, commit)

    def _put(self, commit: str) -> None:
        """Build a whole folder aside, and put it in the place of the files."""
        aside, old = self.path / "restored", self.path / "old"
        remove(aside)
        self._check_out(commit, aside)
        remove(old)
        if self.files.exists():
            self.files.rename(old)
        aside.rename(self.files)
        remove(old)
        remove(self.tmp)
        self.tmp.mkdir()

    def _turns(self, which: str) -> set[int]:
        """The turns of which there is a commit for the `start` or the `end`."""
        if not self._git_dir.exists():
            return set()
        found = self._git("for-each-ref", "--format=%(refname)", f"refs/heads/turn-*-{which}")
        return {int(name.split("-")[1]) for name in found.split()}

    def _make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.files.exists() and (self.path / "old").exists():
            (self.path / "old").rename(self.files)  # a restore was cut off between two renames
        self.files.mkdir(exist_ok=True)
        self.tmp.mkdir(exist_ok=True)
        if not self._git_dir.exists():
            aside = self.path / "new.git"
            remove(aside)
            # HEAD names a branch that there is not, and so is never written, nor locked.
            self._git("init", "--bare", "--quiet", "--initial-branch=none", str(aside))
            aside.rename(self._git_dir)
        for lock in self._git_dir.glob("refs/heads/*.lock"):
            lock.unlink()  # of a git that died with its worker: only the task writes here

    def _git(self, *arguments: str, data: bytes | None = None) -> str:
        return self._run(*arguments, data=data).decode(errors="replace")

    def _run(self, *arguments: str, data: bytes | None = None) -> bytes:
        done = subprocess.run(  # noqa: S603
            self._command(*arguments),
            input=data,
            capture_output=True,
            env=_git_env(),
            cwd=self.path,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"git {arguments[0]}: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def _command(self, *arguments: str) -> list[str]:
        settings = [x for setting in GIT for x in ("-c", setting)]
        return ["git", *settings, f"--git-dir={self._git_dir}", *arguments]

    def _commit_of(self, reference: str) -> str | None:
        if not self._git_dir.exists():
            return None
        found = self._git("for-each-ref", "--format=%(objectname)", reference)
        return found.strip() or None

    def _subject(self, reference: str) -> str:
        found = self._commit_of(reference)
        return self._git("log", "-1", "--format=%s", found).strip() if found else ""

    def _commit(self, reference: str, subject: str, *, now: bool = True) -> None:
        """Commit all files; what git has no place for goes into the message, as JSON."""
        found = [(name, entry.stat(follow_symlinks=False)) for name, entry in walk(self.files)]
        folders = [name for name, info in found if stat.S_ISDIR(info.st_mode)]
        modes = {
            name: stat.S_IMODE(info.st_mode)
            for name, info in found
            if stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode)
        }
        message = f"{subject}\n\n{json.dumps({'folders': folders, 'modes': modes})}\n".encode()
        parent = self._commit_of(NOW)
        with self._importing() as send:
            send(b"commit %s\ncommitter agent <agent@localhost> now\n" % reference.encode())
            send(b"data %d\n%s\n" % (len(message), message))
            send(b"from %s\n" % parent.encode() if parent else b"")
            send(b"deleteall\n")
            for name, entry in walk(self.files):
                for line in entry_lines(name, entry):
                    send(line)
            if now:
                send(b"reset %s\nfrom %s\n\n" % (NOW.encode(), reference.encode()))
            send(b"done\n")

    @contextlib.contextmanager
    def _importing(self) -> Iterator[Callable[[bytes], object]]:
        command = self._command("fast-import", "--quiet", "--force", "--done", "--date-format=now")
        with (
            tempfile.TemporaryFile(dir=self.path) as said,
            subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stderr=said, env=_git_env(), cwd=self.path
            ) as git,
        ):
            assert git.stdin  # noqa: S101 - for the type checker
            yield git.stdin.write
            git.stdin.close()
            if git.wait():
                said.seek(0)
                raise RuntimeError(f"git fast-import: {said.read().decode(errors='replace')}")

    def _check_out(self, commit: str, into: Path) -> None:
        kept: dict[str, Any] = json.loads(self._git("log", "-1", "--format=%b", commit))
        into.mkdir()
        for folder in kept["folders"]:
            (into / folder).mkdir(parents=True, exist_ok=True)
        rows = [
            row for row in self._run("ls-tree", "-rz", "--full-tree", commit).split(b"\0") if row
        ]
        blobs = [row.partition(b"\t")[0].split()[2] for row in rows]
        data = self._run("cat-file", "--batch", data=b"".join(blob + b"\n" for blob in blobs))
        at = 0
        for row in rows:
            fields, _, name = row.partition(b"\t")
            size = int(data[at : (line := data.index(b"\n", at))].split()[2])
            content = data[line + 1 : line + 1 + size]
            at = line + size + 2
            target = into / unescaped(os.fsdecode(name))
            if fields.startswith(b"120000"):
                target.symlink_to(os.fsdecode(content))
            else:
                target.write_bytes(content)
        for name in sorted(kept["modes"], reverse=True):  # a folder after what is in it
            (into / name).chmod(kept["modes"][name])

    def _changes(self, turn: int) -> str:
        stats = self._diff(START.format(turn), END.format(turn), "--stat=100")
        return f"It changed:\n{stats[:4000].rstrip()}" if stats else "It changed no file."

    def _diff(self, old: str, new: str, *options: str) -> str:
        where = ("--", ".", ":(exclude,glob)**/%.git/**")
        return self._git("diff", "--no-ext-diff", "--no-textconv", *options, old, new, *where)


def _git_env() -> dict[str, str]:
    return {**GIT_ENV, "PATH": os.environ.get("PATH", os.defpath)}

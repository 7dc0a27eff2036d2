"""Reads a folder as git takes it, whatever a command has left in it; follows no link."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path


def legible(text: str) -> str:
    """Text of which everything can be sent: a file's name need not be text."""
    return text.encode(errors="replace").decode()


def walk(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that is in a folder, by its path within it; follows no link.

    What a command has locked, its owner may read from then on: to lock it again afterwards would be
    forgotten by a worker that dies in between.
    """
    _open(folder)
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda x: x.name):
                _open(Path(entry.path))
                yield os.path.relpath(entry.path, folder), entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))


def _open(path: Path) -> None:
    mode = path.lstat().st_mode
    needed = 0o500 if stat.S_ISDIR(mode) else 0o400 if stat.S_ISREG(mode) else 0
    if mode & needed != needed:
        path.chmod(stat.S_IMODE(mode) | needed)


def entry_lines(name: str, entry: os.DirEntry[str]) -> list[bytes]:
    """One file or link, as fast-import takes it."""
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        kind, content = b"120000", os.fsencode(Path(entry.path).readlink())
    elif stat.S_ISREG(mode):
        kind, content = b"100755" if mode & 0o100 else b"100644", Path(entry.path).read_bytes()
    else:
        return []
    path = os.fsencode(_escaped(name)).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    path = path.replace(b"\n", b"\\n")
    return [b'M %s inline "%s"\ndata %d\n' % (kind, path, len(content)), content, b"\n"]


def _escaped(name: str) -> str:
    """Git stores no file below a `.git`: those are stored below `%.git`."""
    parts = name.split("/")
    return "/".join(f"%{x}" if x[:1] == "%" or x.lower() == ".git" else x for x in parts)


def unescaped(name: str) -> str:
    return "/".join(part.removeprefix("%") for part in name.split("/"))


def remove(folder: Path) -> None:
    """Remove a folder of our own making, with all that is in it; follows no link."""
    if not folder.exists():
        return
    for path, folders, _ in os.walk(folder):
        for name in folders:
            if not (each := Path(path, name)).is_symlink():
                each.chmod(0o700)
    shutil.rmtree(folder)

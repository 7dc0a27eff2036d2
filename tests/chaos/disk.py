"""A disk of a fixed size for the server's data, which can be full for a while."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

CLONE_NEWNS: Final = 0x00020000
SIZE: Final = 1 << 30
"""Bytes; it is memory, and only what is used of it."""
ROOM: Final = 64 * 1024
"""Bytes that are left on a full disk."""


class Disk:
    """A file system in memory, of which only this process and those that it starts know.

    So it is gone when they are.

    Raises:
        OSError: This cannot be had here: it takes Linux, and root.
    """

    def __init__(self, path: Path) -> None:
        if sys.platform != "linux" or os.geteuid() != 0:
            raise OSError("a file system of fixed size takes Linux, and root")
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "this process may have no mounts of its own")
        path.mkdir(parents=True)
        self.path = path
        self._run("mount", "--make-rprivate", "/")
        self._run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "chaos", str(path))

    @property
    def used(self) -> int:
        """In bytes."""
        disk = os.statvfs(self.path)
        return (disk.f_blocks - disk.f_bfree) * disk.f_frsize

    def fill(self) -> None:
        """Let it be full: what is there stays, and there is room for hardly more."""
        self._resize(self.used + ROOM)

    def free(self) -> None:
        """Let it have its size again."""
        self._resize(SIZE)

    def close(self) -> None:
        """Give it back, with all that is on it."""
        self._run("umount", "--lazy", str(self.path))

    def _resize(self, size: int) -> None:
        self._run("mount", "-o", f"remount,size={size}", str(self.path))

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")

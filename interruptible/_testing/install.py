"""Finds a restate-server on this machine, or installs it from npm."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_VERSION = "1.7.12"


class ServerNotFound(RuntimeError):
    """Raised when there is no restate-server on this machine and none can be installed."""

    def __init__(self, reason: str) -> None:
        remedy = "Install Node.js (npm), put restate-server on the PATH, or set RESTATE_SERVER."
        super().__init__(f"restate-server not found: {reason} {remedy}")


def find_server() -> Path:
    """Find the restate-server, or install it.

    It is `RESTATE_SERVER` of the environment, or else the one on the `PATH`, or else the one that
    npm has installed, or now installs, into `RESTATE_NPM_DIR`, by default a folder in `~/.cache`.

    Returns:
        The path of the program.

    Raises:
        ServerNotFound: Raised when there is none and npm is missing or fails.
    """
    chosen = os.environ.get("RESTATE_SERVER")
    if found := shutil.which(chosen or "restate-server"):
        return _native(Path(found))
    if chosen:
        raise ServerNotFound(f"RESTATE_SERVER is {chosen}, which is no program.")
    default = f"~/.cache/restate-interruptible/npm-{_VERSION}"
    folder = Path(os.environ.get("RESTATE_NPM_DIR") or default).expanduser()
    wrapper = folder / "node_modules/.bin/restate-server"
    if not wrapper.exists():
        with _locked(folder):
            if not wrapper.exists():
                _npm_install(folder)
    return _native(wrapper)


def _npm_install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ServerNotFound("it is not on the PATH, and there is no npm to install it.")
    size = "about 400 MB, once"
    sys.stderr.write(f"installing restate-server {_VERSION} from npm into {folder} ({size})\n")
    packages = [f"@restatedev/restate-server@{_VERSION}", f"@restatedev/restate@{_VERSION}"]
    options = ["--ignore-scripts", "--no-audit", "--no-fund"]
    with tempfile.TemporaryDirectory(dir=folder, prefix="unfinished-") as unfinished:
        command = [npm, "install", "--prefix", unfinished, *options, *packages]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode:  # noqa: S603
            raise ServerNotFound("npm could not install it, as its output says.")
        Path(unfinished, "node_modules").rename(folder / "node_modules")


def _native(program: Path) -> Path:
    """Return what npm's wrapper starts, because SIGKILL does not get through the wrapper."""
    script = program.resolve()
    if script.suffix == ".js":
        for parent in script.parents:
            for native in parent.glob("node_modules/@restatedev/restate-server-*/bin/*"):
                return native
    return program


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""What tests take from npm."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_OPTIONS = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]


def installed(folder: Path, *packages: str) -> Path:
    """A folder in which npm has installed these packages; without npm, the test is skipped.

    Without any, those of the folder's lockfile.
    """
    run(folder, "install" if packages else "ci", *_OPTIONS, *packages)
    return folder


def run(folder: Path, *command: str) -> None:
    """Run npm in a folder. On CI it has to be there: nobody would see that tests are skipped."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing = "there is no Node.js with npm"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    subprocess.run([npm, "--prefix", str(folder), *command], check=True)

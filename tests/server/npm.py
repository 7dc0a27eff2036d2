"""What tests take from npm."""

import shutil
import subprocess
from pathlib import Path

import pytest


def installed(folder: Path, *packages: str) -> Path:
    """A folder in which npm has installed these packages; without npm, the test is skipped."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("there is no Node.js with npm")
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    subprocess.run([npm, "install", "--prefix", str(folder), *options, *packages], check=True)
    return folder

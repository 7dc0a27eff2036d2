"""What users write is checked by mypy and pyright, both strict: right is quiet and wrong is not."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = ("typing_positive.py", "typing_negative.py")

Found = dict[str, dict[int, str]]
"""By the name of a file and the number of a line: what the checker says there."""


def run(*command: str) -> str:
    """What a checker prints, started as `python -m`."""
    paths = [str(HERE / name) for name in FILES]
    done = subprocess.run(
        [sys.executable, "-m", *command, *paths],
        cwd=ROOT,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # it worked, and found errors
    return done.stdout


@cache
def mypy() -> Found:
    found: Found = {name: {} for name in FILES}
    for line in run("mypy", "--strict", "--output=json").splitlines():
        error = json.loads(line)
        if error["severity"] == "error":
            found[Path(error["file"]).name][error["line"]] = error["message"]
    return found


@cache
def pyright() -> Found:
    found: Found = {name: {} for name in FILES}
    output = run("pyright", "--outputjson", f"--pythonpath={sys.executable}")
    for error in json.loads(output)["generalDiagnostics"]:
        line = error["range"]["start"]["line"] + 1
        found[Path(error["file"]).name][line] = error["message"]
    return found


checkers = pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])


@checkers
def test_what_is_right_is_accepted(checker: Callable[[], Found]) -> None:
    assert checker()["typing_positive.py"] == {}


@checkers
def test_what_is_wrong_is_found_on_its_line_and_nothing_else(checker: Callable[[], Found]) -> None:
    lines = (HERE / "typing_negative.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if re.search(r"# error$", line)}
    found = checker()["typing_negative.py"]
    assert len(marked) > 100
    assert {lines[number - 1]: "not found" for number in marked - found.keys()} == {}
    assert {lines[number - 1]: found[number] for number in found.keys() - marked} == {}

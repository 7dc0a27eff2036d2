"""What `make compare` says: the hand-written pattern shows each fault, and the library none.

A scenario in which the hand-written pattern shows its fault no more would test nothing.
"""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import compare
from tests.compare import FAULTS, ByHand, Finding, Interruptible

from .conftest import REPLAY

ROOT = Path(__file__).parents[2]

SENTENCES = {
    "F1": "messages in a row find nothing to interrupt, and a stale answer lands last",
    "F2": "messages wait for a cleanup, and a cleanup that calls its object waits for them",
    "F3": "a second cancellation breaks off a cleanup",
    "F4": "a model call in flight goes on while cleanup runs",
    "F5": "code that catches Exception goes on as if nothing had happened",
    "F6": "a step that fails with 409 is taken for an interruption",
    "F7": "the next task does not know what the interrupted one had done",
    "F8": "several tasks of a burst go on to their end, side by side",
    "F9": "a killed task leaves the session running",
    "F10": "the cost of a message grows with the history",
    "F11": "anyone can put words in the agent's mouth",
    "F12": "a call silent for longer than the inactivity timeout is not interrupted",
    "F13": "a step in retry back-off is interrupted only much later",
}
each_fault = pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=f"{fault}: {text}") for fault, text in SENTENCES.items()]
)


@pytest.fixture(scope="module")
def run() -> "subprocess.CompletedProcess[str]":
    if REPLAY:
        pytest.skip("the comparison starts servers of its own, in their normal mode")
    command = [sys.executable, "-m", "tests.compare", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    sys.stderr.write(done.stderr)
    return done


@pytest.fixture(scope="module")
def findings(run: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = json.loads(run.stdout)
    return result


@each_fault
def test_the_library_does_not_show_the_fault(
    findings: dict[str, dict[str, Any]], fault: str
) -> None:
    finding = findings[fault][Interruptible.label]
    assert not finding["fault_present"], finding["fact"]


@each_fault
def test_the_pattern_written_by_hand_shows_the_fault(
    findings: dict[str, dict[str, Any]], fault: str
) -> None:
    finding = findings[fault][ByHand.label]
    assert finding["fault_present"], finding["fact"]


def test_every_fault_is_compared_and_then_the_run_succeeds(
    run: "subprocess.CompletedProcess[str]", findings: dict[str, dict[str, Any]]
) -> None:
    assert list(findings) == [fault.__name__ for fault in FAULTS] == list(SENTENCES)
    assert run.returncode == 0


@pytest.mark.parametrize("label", [ByHand.label, Interruptible.label])
def test_the_run_fails_if_the_library_shows_a_fault_and_only_then(
    label: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def one_fault() -> compare.Findings:
        sides = (ByHand.label, Interruptible.label)
        findings = {
            fault.__name__: {
                side: Finding(f"{side} is well", fault_present=False) for side in sides
            }
            for fault in FAULTS
        }
        findings["F3"][label] = Finding("nothing was cleaned up", fault_present=True)
        return findings

    monkeypatch.setattr(compare, "compare", one_fault)
    monkeypatch.setattr(sys, "argv", ["compare"])
    monkeypatch.setattr(logging, "disable", lambda _: None)
    assert compare.main() == (1 if label == Interruptible.label else 0)

    out, err = capsys.readouterr()
    rows = [line.split(" | ") for line in out.splitlines()]
    assert len(rows) == 2 + len(FAULTS)
    assert rows[0] == ["| fault", "written by hand", "interruptible |"]
    assert rows[2] == [
        f"| F1: {FAULTS[0].title}",
        "written by hand is well",
        "interruptible is well |",
    ]
    assert ("compare: the library shows F3" in err) == (label == Interruptible.label)

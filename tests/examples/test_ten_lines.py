"""The smallest example does what it says."""

import subprocess
import sys


def test_the_message_interrupts_and_the_next_turn_completes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.ten_lines"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "You: 100"
    assert lines[-3:] == ["Agent: I counted up to 3.", "Turn 1: interrupted", "Turn 2: completed"]
    assert "  100" not in lines

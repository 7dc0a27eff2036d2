"""A run that goes no further ends, and says what waits for what."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from . import standstill
from .records import History, Op
from .standstill import STILL, Progress, StandStill, unless_still
from .system import System

RECEIPT = {"task_id": "inv_1", "turn": 1, "status": "running", "interrupted": []}


class Known(System):
    """A system of one node that answers from what is given here."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        super().__init__([], httpx.AsyncClient())
        self.nodes = [SimpleNamespace(logs=lambda: "x ERROR 1\ny ERROR 2\nz INFO")]  # type: ignore[list-item]
        self._rows = rows

    async def query(self, sql: str, *, tries: int = 1) -> list[dict[str, Any]]:
        return [row for row in self._rows if sql != standstill.WAITING or "target" in row]

    async def health(self, node: int) -> str:
        return "well"


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "clients.jsonl")


def answer(history: History, name: str, answer: Any = None) -> Op:
    op = history.ask("ChaosAgent", "s1", name, {"content": "s1.1"})
    history.answer(op, 200, answer)
    return op


def test_a_minute_without_progress_is_too_long(history: History) -> None:
    progress = Progress(0.0)
    assert not progress.has_ended(history, STILL - 1)
    assert progress.has_ended(history, STILL)


def test_what_clients_asked_for_and_got_is_progress_but_reading_is_not(history: History) -> None:
    progress = Progress(0.0)
    assert not progress.has_ended(history, STILL - 1)
    answer(history, "attach")
    assert not progress.has_ended(history, STILL + 1)
    answer(history, "get_status")
    refused = history.ask("ChaosAgent", "s1", "message", {"content": "s1.2"})
    history.answer(refused, None, None)
    assert not progress.has_ended(history, 2 * STILL)
    assert progress.has_ended(history, 2 * STILL + 1)


def test_time_does_not_count_in_which_nodes_or_workers_are_gone(history: History) -> None:
    progress = Progress(0.0)
    gone, slow = history.fault("workers gone", "all"), history.fault("slow", "1")
    assert not progress.has_ended(history, 5 * STILL)
    history.over(gone)
    assert not progress.has_ended(history, 6 * STILL - 1)
    assert progress.has_ended(history, 6 * STILL)  # that it is slow explains nothing
    assert slow.ended is None


def test_a_run_that_stands_still_ends_and_tells(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standstill, "STILL", 0.0)
    monkeypatch.setattr(standstill, "LOOK_EVERY", 0.001)
    answer(history, "message", RECEIPT)
    answer(history, "message", {**RECEIPT, "turn": 2, "task_id": "inv_2"})
    history.ask("ChaosAgent", "s1", "attach", {"turn": 2})
    failing = {"retry_count": 3, "last_failure": "[500] why"}
    target = {"target": "ChaosTask/run_task", "status": "suspended"}
    rows = [{"id": "inv_1", "status": "completed"}, {"id": "inv_2", **target, **failing}]
    rows += [{"id": "inv_3", **target, "invoked_by_target": "ChaosAgent/s1/settle"}]
    failing_task = "ChaosTask/run_task (inv_2) is suspended, attempt 3: [500] why"
    ended: list[str] = []

    async def play() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("playing")

    with pytest.raises(StandStill) as e:
        asyncio.run(unless_still(play(), Known(rows), history))
    assert ended == ["playing"]
    assert str(e.value).splitlines() == [
        "Nothing has gone on for 0 s, and no fault explains it.",
        "A client waits 0 s for ChaosAgent/s1/attach {'turn': 2}.",
        f"{failing_task}. It is turn 2 of ChaosAgent/s1; turn 1 is completed.",
        "ChaosTask/run_task (inv_3) is suspended, for ChaosAgent/s1/settle.",
        "Server 0: well",
        "Server 0 logged last: y ERROR 2",
    ]


def test_a_run_that_ends_gives_what_came_of_it(history: History) -> None:
    async def play() -> str:
        return "all"

    assert asyncio.run(unless_still(play(), Known([]), history)) == "all"

"""Good histories of messages that are changed, and of turns that stop, go on and ask."""

from typing import Any

from .good_history import NOTE, Key, assistant, good, line, message, op, receipt, user
from .records import Final, Invocation, Records

CHANGED = ("ChaosAgent", "w")
STOPPED = ("ChaosAgent", "c")
NOTED = {"by": "noted with w.1"}


def said(text: str, number: int, **more: Any) -> dict[str, Any]:
    """A message as `get_turns` shows it."""
    return {**user(text), "id": number, **more}


def good_changes() -> Records:
    """Of three that wait one is withdrawn, one replaced, one promoted; one is read at once."""
    records, key = good(), CHANGED
    first, last = ["w.1", "step 0 of turn 1"], ["w.4", "w.7", "step 0 of turn 3"]
    turns: list[dict[str, Any]] = [
        {
            "status": "interrupted",
            "input": [said("w.1", 1, metadata=NOTED)],
            "messages": [assistant(first[1])],
            "reason": "interrupted by turn 3",
        },
        {
            "status": "interrupted",
            "input": [],
            "messages": [],
            "withdrawn": [said("w.2", 2)],
            "reason": "withdrawn",
            "discarded": True,
            "never_began": True,
        },
        {
            "status": "completed",
            "input": [said("w.4", 4)],
            "messages": [said("w.7", 5), assistant(last[2])],
            "steered": [0],
        },
        {"status": "completed", "input": [said("w.5", 3)], "messages": []},
    ]
    turns = [{"turn": n, "task_id": f"inv_w{n}", **x} for n, x in enumerate(turns, 1)]
    noted = {"content": "w.1", "policy": "interrupt", "metadata": NOTED}
    pending = [
        {"id": 3, "turn": 3, "kind": "queued", "content": "w.5"},
        {"id": 4, "turn": 4, "kind": "queued", "content": "w.4"},
    ]
    steer = {"content": "w.7", "policy": "steer", "now": True}
    ended = {"turn": 4, "status": "completed", "messages": []}
    records.ops += [
        op(31, "message", noted, 30.0, receipt(1, key=key, message=1), key=key),
        message(32, "w.2", 30.2, receipt(2, "waiting", key, message=2), "queue", key=key),
        message(33, "w.3", 30.4, receipt(3, "waiting", key, message=3), "queue", key=key),
        message(34, "w.4", 30.6, receipt(4, "waiting", key, message=4), "queue", key=key),
        _ask(35, "replace", {"message": 3, "content": "w.5"}, 30.8, receipt(3, "waiting", key)),
        _ask(36, "withdraw", {"message": 2}, 31.0, {"withdrawn": 2}),
        _ask(37, "get_status", None, 31.2, {"status": "running", "pending": pending}),
        _ask(
            38,
            "promote",
            {"message": 4, "policy": "interrupt"},
            31.4,
            {**receipt(3, "waiting", key), "interrupted": [1]},
        ),
        _ask(39, "replace", {"message": 1, "content": "w.6"}, 31.6, {"code": 412}, 412),
        op(40, "message", steer, 32.2, receipt(3, "steered", key, message=5), key=key),
        _ask(41, "attach", {"message": 3}, 32.3, ended),
        _ask(42, "attach", {"message": 2}, 32.3, {"status": "withdrawn"}),
    ]
    seen = [*first, NOTE, "w.4"]
    records.lines += [
        line(30.1, 1, "start", seen=["w.1"], key=key, keys=["content", "role"], noted=[NOTED]),
        line(30.1, 1, "begin", "step 0", key=key),
        line(30.3, 1, "done", "step 0", key=key),
        line(30.3, 1, "begin", "step 1", key=key),
        line(31.6, 1, "aborted", "step 1", key=key),
        line(31.9, 3, "start", seen=seen, key=key, keys=["content", "role"], noted=[{}]),
        line(32.0, 3, "begin", "step 0", key=key, steerable=True),
        line(32.4, 3, "aborted", "step 0", key=key),
        line(32.5, 3, "took", seen=["w.7"], key=key, keys=["content", "role"]),
        line(32.5, 3, "begin", "step 0", key=key, steerable=True),
        line(32.7, 3, "done", "step 0", key=key),
        line(32.8, 3, "end", key=key),
        line(33.0, 4, "start", seen=[*first, NOTE, *last, "w.5"], key=key, noted=[{}]),
        line(33.1, 4, "end", key=key),
    ]
    records.invocations += [
        _task(1, 31.7, "cancelled"),
        _task(2, 31.1, "cancelled"),
        _task(3, 32.9),
        _task(4, 33.2),
    ]
    history = [
        user("w.1"),
        assistant(first[1]),
        user(NOTE),
        user("w.4"),
        user("w.7"),
        assistant(last[2]),
        user("w.5"),
    ]
    status = {"status": "idle", "pending": [], "waiting_for": []}
    records.finals.append(Final(*key, status, turns, history))
    return records


def good_controls() -> Records:
    """A turn stops after its step; one goes on with it, and asks; that one is edited."""
    records, key = good(), STOPPED
    did = ["c.1", "step 0 of turn 1"]
    turns: list[dict[str, Any]] = [
        {
            "status": "interrupted",
            "input": [said("c.1", 1)],
            "messages": [assistant(did[1])],
            "reason": "stopped",
        },
        {
            "status": "completed",
            "input": [],
            "messages": [assistant("step 1 of turn 2")],
            "resumes": 1,
            "discarded": True,
        },
        {"status": "completed", "input": [said("c.4", 2)], "messages": []},
    ]
    turns = [{"turn": n, "task_id": f"inv_c{n}", **x} for n, x in enumerate(turns, 1)]
    waits = {"status": "running", "waiting_for": [{"id": 1, "turn": 2, "title": "first"}]}
    yes = {"approval": 1, "approved": True, "reason": "c.2", "value": {"said": 2}}
    no = {"approval": 1, "approved": False, "reason": "c.3"}
    edit, edited = {"turn": 2, "content": "c.4"}, {"message": 2, "discarded": [2]}
    refused = {"turn": 9, "content": "c.5"}
    records.ops += [
        message(51, "c.1", 40.0, receipt(1, key=key, message=1), key=key),
        op(52, "cancel", {"after_step": True}, 40.3, {"cancelled": [1]}, key=key),
        op(53, "resume", None, 45.0, receipt(2, key=key, message=1), key=key),
        op(54, "get_status", None, 46.0, waits, key=key),
        op(55, "answer", yes, 46.2, {"answered": 1}, key=key),
        op(56, "answer", no, 46.4, {"code": 410}, status=410, key=key),
        op(57, "edit", edit, 48.0, receipt(3, key=key, **edited), key=key),
        op(58, "edit", refused, 48.5, {"code": 404}, status=404, key=key),
    ]
    records.lines += [
        line(40.1, 1, "start", seen=["c.1"], key=key),
        line(40.2, 1, "begin", "step 0", key=key),
        line(43.0, 1, "done", "step 0", key=key),
        line(45.2, 2, "start", seen=did, key=key),
        line(45.3, 2, "begin", "step 1", key=key),
        line(45.5, 2, "done", "step 1", key=key),
        line(45.6, 2, "asks", "first", key=key),
        line(46.5, 2, "answered", "first", key=key, noted=[[True, "c.2", {"said": 2}, False]]),
        line(46.6, 2, "end", key=key),
        line(48.2, 3, "start", seen=[*did, NOTE, "c.4"], key=key),
        line(48.3, 3, "end", key=key),
    ]
    records.invocations += [
        _task(1, 43.5, "cancelled", key),
        _task(2, 46.7, key=key),
        _task(3, 48.4, key=key),
    ]
    history = [user("c.1"), assistant(did[1]), user(NOTE), user("c.4")]
    records.finals.append(Final(*key, {"status": "idle"}, turns, history))
    return records


def _ask(number: int, name: str, body: Any, at: float, answer: Any, status: int = 200) -> Any:
    return op(number, name, body, at, answer, status=status, key=CHANGED)


def _task(turn: int, ended: float, how: str = "", key: Key = CHANGED) -> Invocation:
    result, failure = ("failure", f"[409] {how}") if how else ("success", None)
    return Invocation(f"inv_{key[1]}{turn}", "ChaosTask", "completed", result, failure, ended)

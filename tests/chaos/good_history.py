"""A good history, written by hand, for the tests of the checker to break."""

from typing import Any

from .records import Final, Invocation, Line, Op, Records

SESSION = ("ChaosAgent", "s")
NOTE = "[I interrupted you before you were done.]"


def op(number: int, name: str, body: Any, at: float, answer: Any, *, status: int = 200) -> Op:
    return Op(number, *SESSION, name, body, at, at + 0.1, status, answer)


def message(
    number: int, said: str, at: float, answer: Any, policy: str = "interrupt", status: int = 200
) -> Op:
    body = {"content": said, "policy": policy}
    return op(number, "message", body, at, answer, status=status)


def receipt(turn: int, status: str = "running", **more: Any) -> dict[str, Any]:
    return {"turn": turn, "task_id": f"inv_{turn}", "status": status, "interrupted": [], **more}


def line(
    at: float, turn: int, event: str, step: str = "", phase: str = "body", **more: Any
) -> Line:
    values = {"attempt": f"a{turn}", "worker": 1, "version": "v1", **more}
    return Line(at, *SESSION, turn, f"inv_{turn}", event=event, step=step, phase=phase, **values)


def user(said: str) -> dict[str, Any]:
    return {"role": "user", "content": said}


def assistant(said: str) -> dict[str, Any]:
    return {"role": "assistant", "content": said}


def good() -> Records:
    """Turn 1 is interrupted, and cleans up for long; turn 2 takes a message; turn 3 is queued."""
    seen = ["a", "step 0 of turn 1", NOTE, "b"]
    whole = [*seen, "c", "step 0 of turn 2", "d"]
    turns = [
        {
            "status": "interrupted",
            "input": [user("a")],
            "messages": [assistant("step 0 of turn 1")],
        },
        {
            "status": "completed",
            "input": [user("b")],
            "messages": [user("c"), assistant("step 0 of turn 2")],
        },
        {"status": "completed", "input": [user("d")], "messages": []},
    ]
    turns = [{"turn": n, "task_id": f"inv_{n}", **turn} for n, turn in enumerate(turns, 1)]
    history = [assistant(x) if "step" in x else user(x) for x in whole]
    return Records(
        ops=[
            message(1, "a", 0.5, receipt(1)),
            message(2, "b", 2.0, receipt(2, "waiting", interrupted=[1])),
            op(3, "get_status", None, 3.0, {"status": "running"}),
            message(4, "c", 7.05, receipt(2, "steered"), "steer"),
            message(5, "d", 7.2, receipt(3, "waiting"), "queue"),
            message(6, "e", 7.4, {"code": 423}, "reject", 423),
            op(7, "attach", {"turn": 2}, 7.5, {"turn": 2, **{k: turns[1][k] for k in KEYS}}),
        ],
        lines=[
            line(1.0, 1, "start", seen=["a"]),
            line(1.0, 1, "registered", "undo 0", "exit"),
            line(1.0, 1, "registered", "undo 1", "interrupt"),
            line(1.1, 1, "begin", "step 0"),
            line(1.2, 1, "done", "step 0"),
            line(1.3, 1, "begin", "step 1"),
            line(2.1, 1, "aborted", "step 1"),
            line(2.2, 1, "begin", "undo 1", "interrupt"),
            line(6.2, 1, "done", "undo 1", "interrupt"),
            line(6.3, 1, "begin", "undo 0", "exit"),
            line(6.4, 1, "done", "undo 0", "exit"),
            line(7.0, 2, "start", seen=seen),
            line(7.1, 2, "begin", "step 0"),
            line(7.2, 2, "took", seen=["c"]),
            line(7.3, 2, "done", "step 0"),
            line(7.4, 2, "end"),
            line(8.0, 3, "start", seen=whole),
            line(8.1, 3, "end"),
        ],
        invocations=[
            Invocation("inv_1", "ChaosTask", "completed", "failure", "[409] cancelled", 6.5),
            Invocation("inv_2", "ChaosTask", "completed", "success", None, 7.5),
            Invocation("inv_3", "ChaosTask", "completed", "success", None, 8.2),
        ],
        finals=[Final(*SESSION, {"status": "idle"}, turns, history)],
        cleanup_timeout={"ChaosAgent": 600.0},
    )


KEYS = ("status", "messages")


def turn(records: Records, number: int) -> dict[str, Any]:
    turns = records.finals[0].turns
    assert turns is not None
    return turns[number - 1]


def find(records: Records, number: int, event: str, step: str = "") -> Line:
    return next(x for x in records.lines if (x.turn, x.event, x.step) == (number, event, step))

"""A good history, written by hand, for the tests of the checker to break."""

import copy
from typing import Any

from .records import Final, Invocation, Line, Op, Records, Told

SESSION = ("ChaosAgent", "s")
SPEAKING = ("ChaosAgent", "p")
FORKED = ("ChaosAgent", "p-fork")
QUIET = ("QuietAgent", "q")
NOTE = "[I interrupted you before you were done.]"


Key = tuple[str, str]


def op(
    number: int,
    name: str,
    body: Any,
    at: float,
    answer: Any,
    *,
    status: int = 200,
    key: Key = SESSION,
) -> Op:
    return Op(number, *key, name, body, at, at + 0.1, status, answer)


def message(
    number: int,
    said: str,
    at: float,
    answer: Any,
    policy: str = "interrupt",
    status: int = 200,
    key: Key = SESSION,
) -> Op:
    body = {"content": said, "policy": policy}
    return op(number, "message", body, at, answer, status=status, key=key)


def receipt(turn: int, status: str = "running", key: Key = SESSION, **more: Any) -> dict[str, Any]:
    task = _task(turn, key)
    return {"turn": turn, "task_id": task, "status": status, "interrupted": [], **more}


def line(
    at: float,
    turn: int,
    event: str,
    step: str = "",
    phase: str = "body",
    key: Key = SESSION,
    **more: Any,
) -> Line:
    values = {"attempt": f"a{turn}", "worker": 1, "version": "v1", **more}
    return Line(at, *key, turn, _task(turn, key), event=event, step=step, phase=phase, **values)


def _task(turn: int, key: Key) -> str:
    return f"inv_{turn}" if key == SESSION else f"inv_{key[1]}{turn}"


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
            message(1, "a", -2.5, receipt(1)),
            message(2, "b", -1.0, receipt(2, "waiting", interrupted=[1])),
            op(3, "get_status", None, 0.0, {"status": "running"}),
            message(4, "c", 7.05, receipt(2, "steered"), "steer"),
            message(5, "d", 7.2, receipt(3, "waiting"), "queue"),
            message(6, "e", 7.4, {"code": 423}, "reject", 423),
            op(7, "attach", {"turn": 2}, 7.5, {"turn": 2, **{k: turns[1][k] for k in KEYS}}),
        ],
        lines=[
            line(-2.0, 1, "start", seen=["a"]),
            line(-2.0, 1, "registered", "undo 0", "exit"),
            line(-2.0, 1, "registered", "undo 1", "interrupt"),
            line(-1.9, 1, "begin", "step 0"),
            line(-1.8, 1, "done", "step 0"),
            line(-1.7, 1, "begin", "step 1"),
            line(-0.9, 1, "aborted", "step 1"),
            line(-0.8, 1, "begin", "undo 1", "interrupt"),
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
        cleanup_timeout={"ChaosAgent": 600.0, "QuietAgent": 600.0},
        debounce={"QuietAgent": 0.4},
        merges=["QuietAgent"],
    )


def good_fork() -> Records:
    """Turn 1 is cut off while it speaks; the session is forked there, and each goes on alone."""
    records = good()
    words = "0/1/a1 1/1/a1 "
    cut = {"turn": 1, "status": "interrupted", "input": [user("p.1")], "partial": 1}
    cut |= {"messages": [assistant(words)], "task_id": _task(1, SPEAKING)}
    whole = "0/2/a2 "
    ends = {"status": "completed", "messages": [assistant(whole)]}
    records.ops += [
        message(11, "p.1", 10.0, receipt(1, key=SPEAKING), key=SPEAKING),
        op(12, "cancel", None, 10.5, {"cancelled": [1]}, key=SPEAKING),
        op(13, "fork", {"session": "p-fork"}, 11.0, {"session": "p-fork", "turn": 1}, key=SPEAKING),
        message(14, "p.2", 11.5, receipt(2, key=SPEAKING), key=SPEAKING),
        message(15, "f.1", 11.5, receipt(2, key=FORKED), key=FORKED),
    ]
    records.lines += [
        line(10.1, 1, "start", seen=["p.1"], key=SPEAKING),
        line(10.2, 1, "begin", "stream", key=SPEAKING),
        line(10.2, 1, "said", "stream", seen=["0/1/a1 "], key=SPEAKING),
        line(10.3, 1, "said", "stream", seen=["1/1/a1 "], key=SPEAKING),
        line(10.6, 1, "aborted", "stream", key=SPEAKING),
    ]
    records.invocations += [
        Invocation(_task(1, SPEAKING), "ChaosTask", "completed", "failure", "[409] cancelled", 10.7)
    ]
    for key, said in ((SPEAKING, "p.2"), (FORKED, "f.1")):
        seen = ["p.1", words, NOTE, said]
        records.lines += [
            line(11.7, 2, "start", seen=seen, key=key),
            line(11.7, 2, "begin", "stream", key=key),
            line(11.7, 2, "said", "stream", seen=[whole], key=key),
            line(11.8, 2, "done", "stream", key=key),
            line(11.9, 2, "end", key=key),
        ]
        task = _task(2, key)
        records.invocations += [Invocation(task, "ChaosTask", "completed", "success", None, 12.0)]
        turns = [copy.deepcopy(cut), {"turn": 2, "input": [user(said)], "task_id": task}]
        turns[1].update(copy.deepcopy(ends))
        history = [user("p.1"), assistant(words), user(NOTE), user(said), assistant(whole)]
        records.finals += [Final(*key, {"status": "idle"}, turns, history)]
    return records


def good_burst() -> Records:
    """Of three messages one comes while the first waits for quiet, one when it is at work."""
    records = good()
    said = [user("q.1"), user("q.2"), user("q.3")]
    records.ops += [
        message(21, "q.1", 20.0, receipt(1, key=QUIET), key=QUIET),
        message(22, "q.2", 20.2, receipt(1, "joined", key=QUIET), "queue", key=QUIET),
        message(23, "q.3", 21.2, receipt(2, "waiting", key=QUIET), "queue", key=QUIET),
    ]
    records.lines += [
        line(21.0, 1, "start", seen=["q.1", "q.2"], key=QUIET),
        line(21.5, 1, "end", key=QUIET),
        line(22.0, 2, "start", seen=["q.1", "q.2", "q.3"], key=QUIET),
        line(22.1, 2, "end", key=QUIET),
    ]
    turns = []
    for number, begun in ((1, said[:2]), (2, said[2:])):
        task = _task(number, QUIET)
        ended = 20.6 + number
        records.invocations += [Invocation(task, "QuietTask", "completed", "success", None, ended)]
        ends = {"status": "completed", "input": begun, "messages": []}
        turns.append({"turn": number, "task_id": task, **ends})
    records.finals += [Final(*QUIET, {"status": "idle"}, turns, said)]
    return records


def good_followed() -> Records:
    """One follows from the start; one comes when turn 2 speaks, and later is told of a gap."""
    records = good()
    first, second, third = ({**turn(records, n)} for n in (1, 2, 3))
    said = [assistant("step 0 of turn 1"), user("c"), assistant("step 0 of turn 2")]
    begins, ends = {"type": "turn", "state": "begins"}, {"type": "turn", "state": "ends"}
    events = [
        (-2.9, {"type": "gap", "turn": 0}),
        (-2.4, {**begins, "turn": 1}),
        (-1.8, {"type": "text", "turn": 1, "text": "step 0 "}),
        (-1.7, {"type": "text", "turn": 1, "text": "of turn 1"}),
        (-1.6, {"type": "message", "turn": 1, "message": said[0]}),
        (-0.9, {"type": "pending", "turn": 2}),
        (6.5, {**ends, "turn": 1, "status": "interrupted"}),
        (7.0, {**begins, "turn": 2}),
        (7.1, {"type": "text", "turn": 2, "text": "step 0 "}),
        (7.15, {"type": "half", "turn": 2, "by": "a2"}),
        (7.2, {"type": "steered", "turn": 2, "message": said[1]}),
        (7.3, {"type": "message", "turn": 2, "message": said[2]}),
        (7.4, {**ends, "turn": 2, "status": "completed"}),
        (7.9, {**begins, "turn": 3}),
        (8.1, {**ends, "turn": 3, "status": "completed"}),
    ]
    told = [{"id": number, **event} for number, (_, event) in enumerate(events, 1)]
    records.told = [
        Told(-2.9, *SESSION, 1, told[0]),
        Told(-2.9, *SESSION, 1, {"type": "record", "turns": []}),
        *(Told(at, *SESSION, 1, x) for (at, _), x in zip(events[1:], told[1:], strict=True)),
        Told(7.15, *SESSION, 2, {"id": 7, "type": "gap", "turn": 2}),
        Told(7.15, *SESSION, 2, {"type": "record", "turns": [first, {**second, **RUNS}]}),
        *(Told(7.15, *SESSION, 2, x) for x in told[7:10]),
        Told(8.2, *SESSION, 2, {"id": 20, "type": "gap", "turn": 3}),
        Told(8.2, *SESSION, 2, {"type": "record", "turns": [first, second, third]}),
        *(Told(8.2, *SESSION, 2, {**x, "id": x["id"] + 20}) for x in told[13:]),
    ]
    return records


RUNS = {"status": "running", "messages": []}
KEYS = ("status", "messages")


def turn(records: Records, number: int, key: Key = SESSION) -> dict[str, Any]:
    final = next(x for x in records.finals if (x.agent, x.session) == key)
    assert final.turns is not None
    return final.turns[number - 1]


def told(records: Records, kind: str, number: int, follower: int = 1) -> dict[str, Any]:
    """The first event of a kind that a follower got of a turn."""
    events = (x.event for x in records.told if x.follower == follower)
    return next(x for x in events if (x["type"], x.get("turn")) == (kind, number))


def find(records: Records, number: int, event: str, step: str = "", key: Key = SESSION) -> Line:
    wanted = (*key, number, event, step)
    return next(x for x in records.lines if (x.agent, x.session, x.turn, x.event, x.step) == wanted)

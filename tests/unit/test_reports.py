"""What tasks and handlers tell the object: what it takes, and what it refuses."""

import asyncio
import json
from typing import Any, cast

import pytest
import restate

from interruptible._task.outcome import Ending, ending
from interruptible._wire import reports
from interruptible._wire.checks import Malformed, Refusal, parse

from .given import Given
from .handling import body_of

OUTCOME = {"turn": 1, "status": "completed", "messages": [{"role": "assistant", "content": "Hi"}]}
TURN = {**OUTCOME, "input": [{"role": "user", "content": "Hello"}]}
COPY = {"next": 4, "turns": [TURN, {**TURN, "turn": 3}], "from": ["old", 3]}


QUIET = {"turn": 1, "seen": 0}
CLOSING = {"turn": 1, "number": 2}
ASKING = {**CLOSING, "title": "git push"}


def nested(levels: int) -> Any:
    return json.loads("[" * levels + "]" * levels)


NO_OBJECT = [Malformed("no value"), parse(b"{"), parse(b'{"turn": NaN}'), None, 1, "x", [], True]
NO_NUMBER = [None, "1", 1.0, True, -1, 2**53, [1], {}]
NO_OUTCOME = [
    None,
    [],
    "completed",
    {},
    *({**OUTCOME, "turn": x} for x in NO_NUMBER),
    *({**OUTCOME, "status": x} for x in (None, "running", "well", [], {})),
    *({**OUTCOME, "messages": x} for x in (None, "Hi", {}, ["Hi"], [None])),
    {**OUTCOME, "error": 1},
    {**OUTCOME, "error": None},
    *({**OUTCOME, "partial": x} for x in NO_NUMBER),
    *({**OUTCOME, "taken": x} for x in (None, 1, {}, [1], [[1]], [[1, 2, 3]], [["1", 0]])),
    {**OUTCOME, "messages": [{"role": "tool", "content": nested(300)}]},
    {**OUTCOME, "messages": [{"role": "tool", "content": json.loads("1e999")}]},
    {**OUTCOME, "messages": [{"role": "tool", "content": json.loads("[NaN]")}]},
]
REFUSED: list[tuple[Any, list[Any]]] = [
    (body_of("recover"), [*NO_OBJECT, {}, *({"turn": x} for x in NO_NUMBER)]),
    (
        body_of("give_up"),
        [*NO_OBJECT, {}, *({"turns": x} for x in (1, "1", {}, [[1]], *([x] for x in NO_NUMBER)))],
    ),
    (
        body_of("take"),
        [
            *NO_OBJECT,
            {"turn": 1},
            {"turn": 1, "waited": True},
            {"turn": 1, "waited": True, "begins": None},
            {"turn": "1", "waited": True, "begins": True},
        ],
    ),
    (
        body_of("quiet"),
        [
            *NO_OBJECT,
            {"turn": 1},
            {"seen": 0},
            *({**QUIET, name: x} for name in QUIET for x in NO_NUMBER),
        ],
    ),
    (
        body_of("close_approval"),
        [
            *NO_OBJECT,
            {"turn": 1},
            {"number": 1},
            *({**CLOSING, name: x} for name in CLOSING for x in NO_NUMBER),
        ],
    ),
    (
        body_of("ask_approval"),
        [
            *NO_OBJECT,
            CLOSING,
            *({**ASKING, name: x} for name in CLOSING for x in NO_NUMBER),
            *({**ASKING, "title": x} for x in (None, 5, ["x"], {})),
            *({**ASKING, "within": x} for x in NO_NUMBER),
            {**ASKING, "value": nested(300)},
            {**ASKING, "value": [json.loads("NaN")]},
        ],
    ),
    (
        body_of("settle"),
        [
            *NO_OBJECT,
            {},
            *({"outcome": x} for x in NO_OUTCOME),
            *({"outcome": OUTCOME, "ended": x} for x in (None, 1, {}, ["1"])),
        ],
    ),
    (
        body_of("adopt"),
        [
            *NO_OBJECT,
            {},
            *({**COPY, "next": x} for x in NO_NUMBER),
            *({**COPY, "messages": x} for x in NO_NUMBER),
            *({**COPY, "turns": x} for x in (None, {}, [1], [OUTCOME], [{**TURN, "turn": 0}])),
            *(
                {**COPY, "from": x}
                for x in (None, [], ["old"], ["old", 1, 2], [1, 1], ["old", "1"])
            ),
        ],
    ),
]


@pytest.mark.parametrize(
    ("check", "body"), [(check, body) for check, bodies in REFUSED for body in bodies]
)
def test_what_a_handler_could_not_work_on_is_refused_at_once(check: Any, body: Any) -> None:
    with pytest.raises(Refusal) as refused:
        check(body)
    assert refused.value.status_code == 400


def test_a_task_that_ends_with_what_cannot_be_kept_has_failed_by_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def wait_completed(*_: Any) -> None: ...

    monkeypatch.setattr(restate, "wait_completed", wait_completed)

    def ends(told: Any) -> Ending:
        return asyncio.run(ending(cast("Any", None), 1, cast("Any", Given(told))))

    assert ends(OUTCOME) == Ending(cast("Any", OUTCOME), reported=True)
    for told in NO_OUTCOME:
        ended = ends(told)
        assert (ended.outcome["turn"], ended.outcome["status"]) == (1, "failed")
        assert ended.outcome["error"].startswith("What the task reported cannot be kept: ")
        assert not ended.reported
        assert body_of("settle")({"outcome": ended.outcome})["outcome"] == ended.outcome


def test_what_tasks_tell_is_taken_as_it_is_and_so_is_what_a_newer_version_adds() -> None:
    outcome = {**OUTCOME, "error": "x", "partial": 1, "taken": [[1, 0]], "new": {"field": []}}
    deep = {**OUTCOME, "messages": [{"role": "tool", "content": nested(200)}]}
    taken: list[tuple[Any, Any]] = [
        (body_of("recover"), {"turn": 3, "new": "field"}),
        (body_of("give_up"), {"turns": [1, 2]}),
        (body_of("take"), {"turn": 3, "waited": True, "begins": False}),
        (body_of("quiet"), QUIET),
        (body_of("close_approval"), CLOSING),
        (body_of("ask_approval"), ASKING),
        (body_of("ask_approval"), {**ASKING, "value": None, "within": 0, "new": "field"}),
        (reports.OUTCOME_IN, outcome),
        (body_of("settle"), {"outcome": outcome}),
        (body_of("settle"), {"outcome": outcome, "ended": [1]}),
        (body_of("settle"), {"outcome": deep}),
        (body_of("adopt"), COPY),  # of a version that knew no ids
        (body_of("adopt"), {**COPY, "messages": 0}),
        (body_of("adopt"), {"next": 1, "turns": [], "from": ["old", 0]}),
    ]
    for check, body in taken:
        assert check(body) == body

"""The turns before a task's own are read as far back as they are looked at, and no further."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from interruptible._session import private, reading, storage
from interruptible._task import earlier
from interruptible._task.earlier import AT_HAND, Before, NewestTurns, Unread
from interruptible._task.task import Task
from interruptible._wire.output import WrongPlace
from interruptible._wire.types import Turn

from .test_history import LARGE, STANDING, TAIL, History, long_history
from .test_task import ATask

HAND = 800
"""Bytes: a sixth of what is stored of that session, which compresses well."""


class Session:
    """A session with a hundred turns and one that begins, and what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.history: History = long_history(monkeypatch)
        self.asked: list[Any] = []
        self.attempt: Any = SimpleNamespace(
            turn=101, ends={}, job={}, body=SimpleNamespace(tells_all=False)
        )
        self.attempt.ctx = SimpleNamespace(generic_call=None)
        self.attempt.call_session = self.call

    async def call(self, _: Any, handler: str, fields: Any) -> bytes:
        assert handler == "load"
        self.asked.append(fields)
        settings: Any = None
        await asyncio.sleep(0)
        return await private.on_load(settings, self.history.ctx, fields)

    def begin(self, conversation: Callable[[Sequence[Turn]], Any]) -> tuple[Any, Before]:
        """What a conversation comes to, and what was read for it."""
        before = Before(self.attempt)

        async def begin() -> Any:
            await before.take(await before.ask())
            return await before.reading(conversation)

        return asyncio.run(begin()), before


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(earlier, "AT_HAND", HAND)
    monkeypatch.setattr(storage, "LARGE", LARGE)
    monkeypatch.setattr(storage, "TAIL", TAIL)
    return Session(monkeypatch)


def numbers(turns: Sequence[Turn]) -> list[int]:
    return [turn["turn"] for turn in turns]


BEFORE = STANDING[:-1]
"""The turns of the conversation before that which begins."""


def some(everything: bool) -> Unread:
    return Unread(everything=everything)


def unread(first: int, _: bool) -> LookupError:
    return LookupError(f"those before {first} are not read")


PLACES = [None, *range(-8, 9)]


@pytest.mark.parametrize("step", [None, 1, 2, -1, -2])
def test_what_is_looked_at_from_the_end_is_what_it_is_in_all_of_them(step: int | None) -> None:
    whole: Any = [{"turn": n} for n in range(1, 7)]
    newest = NewestTurns(whole[3:], some)
    shown = 0
    for start in PLACES:
        for stop in PLACES:
            part = slice(start, stop, step)
            with suppress(Unread):
                assert newest[part] == whole[part], part
                shown += 1
    assert shown == (3 * 9 if (step or 1) > 0 else 0)
    for place in range(-3, 0):
        assert newest[place] == whole[place]


@pytest.mark.parametrize(
    ("look", "everything"),
    [
        (lambda turns: turns[-4], False),
        (lambda turns: turns[-4:], False),
        (lambda turns: [*reversed(turns)], False),
        (lambda turns: turns[0], True),
        (lambda turns: turns[:2], True),
        (lambda turns: turns[::-1], True),
        (lambda turns: [*turns], True),
        (len, True),
        (lambda turns: {"turn": 6} in turns, True),
        (lambda turns: turns.index({"turn": 6}), True),
    ],
)
def test_who_looks_further_back_needs_some_more_or_all(look: Any, everything: bool) -> None:
    newest = NewestTurns([{"turn": n} for n in (4, 5, 6)], some)  # type: ignore[misc]
    with pytest.raises(Unread) as caught:
        look(newest)
    assert caught.value.everything is everything
    assert newest
    assert repr(newest) == "<the newest 3 turns; those before are not read>"


def test_a_window_reads_what_is_at_hand_and_no_more(session: Session) -> None:
    told, before = session.begin(lambda turns: numbers(turns[-2:]))
    assert told == BEFORE[-2:]
    assert session.asked == [{"most": HAND}]
    assert session.history.state.reads[:2] == ["session", "page/6"]
    assert "page/3" not in session.history.state.reads
    known = before.turns(unread)
    assert isinstance(known, NewestTurns)
    assert numbers(known.read) == BEFORE[-len(known.read) :]


def test_who_reads_back_until_it_is_enough_reads_twice_as_much_each_time(session: Session) -> None:
    calls: list[int] = []

    def conversation(turns: Sequence[Turn]) -> list[int]:
        calls.append(0)
        found: list[int] = []
        for turn in reversed(turns):
            found.append(turn["turn"])
            if len(found) == 40:
                break
        return found[::-1]

    told, _ = session.begin(conversation)
    assert told == BEFORE[-40:]
    assert [x["most"] for x in session.asked] == [HAND * 2**n for n in range(len(session.asked))]
    assert len(calls) == len(session.asked) > 1
    befores = [x["before"] for x in session.asked[1:]]
    assert befores == sorted(set(befores), reverse=True)


@pytest.mark.parametrize(
    "look", [numbers, lambda turns: len(turns) and numbers(turns), lambda turns: numbers(turns[:])]
)
def test_who_looks_at_the_first_has_all_of_them_at_once(session: Session, look: Any) -> None:
    told, before = session.begin(look)
    assert told == BEFORE
    assert len(session.asked) == 2
    assert type(before.turns(unread)) is list
    assert asyncio.run(before.further()) == 0
    assert len(session.asked) == 2


def test_an_agent_that_tells_all_asks_once(session: Session) -> None:
    session.attempt.body.tells_all = True
    told, _ = session.begin(numbers)
    assert (told, session.asked) == (BEFORE, [{}])


@pytest.mark.parametrize("most", [0, 1, 600, 1500, 3000])
def test_the_parts_that_are_read_are_the_whole_each_turn_once_and_in_order(
    session: Session, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(earlier, "AT_HAND", most)

    async def read() -> list[int]:
        before = Before(session.attempt)
        await before.take(await before.ask())
        found = len(before.turns(unread).read)  # type: ignore[attr-defined]
        while more := await before.further():
            found += more
        turns = before.turns(unread)
        assert found == len(turns)
        return numbers(turns)

    assert asyncio.run(read()) == BEFORE


def test_no_more_is_read_than_a_task_may_have(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "MAX_LOADED", 3 * HAND)
    told, before = session.begin(numbers)
    assert told == BEFORE[-len(told) :]
    assert 0 < len(told) < len(BEFORE)
    assert session.asked[1]["most"] < 3 * HAND
    assert asyncio.run(before.further()) == 0
    monkeypatch.setattr(earlier, "MAX_LOADED", 2 * HAND)
    _, before = session.begin(lambda _: None)
    while asyncio.run(before.further()):
        pass
    assert type(before.turns(unread)) is list


def test_what_is_read_side_by_side_is_there_once(session: Session) -> None:
    _, before = session.begin(lambda _: None)

    async def both() -> list[int]:
        return [*await asyncio.gather(before.further(), before.further())]

    less, more = sorted(asyncio.run(both()))
    assert less == 0 < more
    known = before.turns(unread)
    assert isinstance(known, NewestTurns)
    assert numbers(known.read) == BEFORE[-len(known.read) :]


def test_a_task_says_what_is_not_read_and_how_to_read_it(session: Session) -> None:
    _, before = session.begin(lambda turns: turns[-1:])
    task = Task(ATask().attempt, [], [], before)
    assert task.turns[-1]["turn"] == BEFORE[-1]
    said = r"^task.turns: those before turn \d+ are not read.*task.earlier"
    with pytest.raises(WrongPlace, match=said) as e:
        len(task.turns)
    assert e.value.status_code == 500
    known = task.turns
    assert known is task.turns
    while asyncio.run(task.earlier()):
        assert task.turns is not known
    assert numbers(task.turns) == BEFORE


def test_what_was_given_up_and_resumed_is_told_of_wherever_it_is_read(session: Session) -> None:
    session.attempt.job["resumes"] = BEFORE[-30]
    told, _ = session.begin(lambda turns: [x for x in turns[-40:] if x.get("resumed")])
    assert numbers(told) == [BEFORE[-30]]
    assert reading.MAX_LOADED > AT_HAND

"""The turns before a task's own are read as far back as they are looked at, and no further."""

import asyncio
import copy
import functools
import json
import pickle
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from restate import TerminalError

from interruptible._session import private, reading, sent, storage
from interruptible._session.reading import Moment
from interruptible._session.record import Record
from interruptible._session.stored_record import dump_record
from interruptible._task import earlier
from interruptible._task.earlier import AT_HAND, Before, NewestTurns, Unread
from interruptible._task.task import Task
from interruptible._wire.output import WrongPlace
from interruptible._wire.types import Turn

from .test_history import LARGE, STANDING, TAIL, History, long_history
from .test_task import ATask

HAND = 800
"""Bytes: a sixth of what is stored of that session, which compresses well."""


class Later:
    """What is answered to who awaits it."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def __await__(self) -> Any:
        return self._answer().__await__()


class Session:
    """A session with a hundred turns and one that begins, and what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.history: History = long_history(monkeypatch)
        self.asked: list[Any] = []
        self.ended = False
        self.attempt: Any = SimpleNamespace(
            turn=101, ends={}, job={}, body=SimpleNamespace(tells_all=False)
        )
        self.attempt.ctx = SimpleNamespace(generic_call="call", generic_send=SimpleNamespace)
        self.attempt.call_session = self.call

    def call(self, how: Any, handler: str, fields: Any) -> Any:
        assert handler == "load"
        self.asked.append(fields)
        if how is self.attempt.ctx.generic_call:
            return self._load(fields)
        # It is sent by a key, and then attached to; perhaps it is not waited for.
        self.attempt.ctx.attach_invocation = lambda _, serde: Later(
            functools.partial(self._load, fields)
        )
        return SimpleNamespace(invocation_id=lambda: asyncio.sleep(0, how.keywords))

    async def _load(self, fields: Any) -> bytes:
        settings: Any = None
        await asyncio.sleep(0)
        if self.ended and "after" not in fields and "room" not in fields:
            raise TerminalError("killed", 409)
        return await private.on_load(settings, self.history.ctx, fields or {})

    def have_older(self, before: int, *, ended: bool = False) -> None:
        """Let those before this one be the older ones, which somebody may have ended loading."""
        self.ended = ended
        self.attempt.session = "key"
        self.attempt.job["older"] = (before, "name")
        self.attempt.body.tells_all = True

    def begin(self, conversation: Callable[[Sequence[Turn]], Any]) -> tuple[Any, Before]:
        """What a conversation comes to, and what was read for it."""
        before = Before(self.attempt)

        async def begin() -> Any:
            await before.take(await (await before.ask()))
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


PLACES = [None, *range(-8, 9)]


@pytest.mark.parametrize("step", [None, 1, 2, -1, -2])
def test_what_is_looked_at_from_the_end_is_what_it_is_in_all_of_them(step: int | None) -> None:
    whole: Any = [{"turn": n} for n in range(1, 7)]
    newest = NewestTurns(whole[3:], 4, is_read_on=True)
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
    newest = NewestTurns([{"turn": n} for n in (4, 5, 6)], 4, is_read_on=True)  # type: ignore[misc]
    with pytest.raises(Unread):
        look(newest)
    assert newest.looked == [everything]
    assert newest
    assert repr(newest) == "<the newest 3 turns; those before are not read>"


@pytest.mark.parametrize("before", [17, 65, 97])
def test_the_older_turns_are_asked_for_by_themselves(session: Session, before: int) -> None:
    session.have_older(before)
    told, _ = session.begin(numbers)
    assert told == BEFORE
    assert session.asked == [
        {"after": before, "most": earlier.MAX_LOADED - earlier.MAX_OLDER},
        {"before": before, "most": earlier.MAX_OLDER},
    ]


def test_what_somebody_has_ended_is_loaded_once_more(session: Session) -> None:
    session.have_older(65, ended=True)
    told, before = session.begin(numbers)
    assert told == BEFORE
    assert [sorted(x) for x in session.asked[2:]] == [["before", "most", "room"]]
    assert session.asked[2]["before"] == 65
    assert isinstance(before.turns(), list)


@pytest.mark.parametrize("most", [1_200, 2_500, 4_000])
@pytest.mark.parametrize("of_older", [100, 900])
def test_of_more_than_there_is_room_for_the_newest_are_told(
    session: Session, monkeypatch: pytest.MonkeyPatch, most: int, of_older: int
) -> None:
    for module in (earlier, sent):
        monkeypatch.setattr(module, "MAX_LOADED", most)
        monkeypatch.setattr(module, "MAX_OLDER", of_older)
    alone, _ = session.begin(numbers)
    session.have_older(65)
    told, before = session.begin(numbers)
    assert told == BEFORE[-len(told) :]
    assert sum(stored.size for stored, _ in before._parts) <= most
    least = max(1, len(alone) - storage.TURNS_PER_PAGE)
    assert least <= len(told) < len(BEFORE)


def test_a_window_reads_what_is_at_hand_and_no_more(session: Session) -> None:
    told, before = session.begin(lambda turns: numbers(turns[-2:]))
    assert told == BEFORE[-2:]
    assert session.asked == [{"most": HAND}]
    assert session.history.state.reads[:2] == ["session", "page/6"]
    assert "page/3" not in session.history.state.reads
    known = before.turns()
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
    assert type(before.turns()) is list
    assert asyncio.run(before.further()) == 0
    assert len(session.asked) == 2


def test_an_agent_that_tells_all_asks_once(session: Session) -> None:
    session.attempt.body.tells_all = True
    told, _ = session.begin(numbers)
    assert (told, session.asked) == (BEFORE, [None])


@pytest.mark.parametrize("most", [0, 1, 600, 1500, 3000])
def test_the_parts_that_are_read_are_the_whole_each_turn_once_and_in_order(
    session: Session, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(earlier, "AT_HAND", most)

    async def read() -> list[int]:
        before = Before(session.attempt)
        await before.take(await (await before.ask()))
        found = len(before.turns().read)  # type: ignore[attr-defined]
        while more := await before.further():
            found += more
        turns = before.turns()
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
    assert type(before.turns()) is list


def test_what_is_read_side_by_side_is_there_once(session: Session) -> None:
    _, before = session.begin(lambda _: None)

    async def both() -> list[int]:
        return [*await asyncio.gather(before.further(), before.further())]

    assert min(asyncio.run(both())) > 0
    known = before.turns()
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


def test_an_agent_that_tells_all_asks_once_also_where_there_is_more_than_a_task_may_have(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in earlier, sent:
        monkeypatch.setattr(module, "MAX_LOADED", 3 * HAND)
    session.attempt.body.tells_all = True
    told, before = session.begin(numbers)
    assert told == BEFORE[-len(told) :]
    assert (session.asked, type(before.turns())) == ([None], list)


@pytest.mark.parametrize("most", [2 * HAND, 3 * HAND, 4 * HAND])
def test_what_is_read_in_parts_has_no_more_room_than_what_is_read_at_once(
    session: Session, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    for module in earlier, sent:
        monkeypatch.setattr(module, "MAX_LOADED", most)
    told, before = session.begin(lambda turns: numbers([*reversed(turns)])[::-1])
    assert told == BEFORE[-len(told) :]
    assert sum(stored.size for stored, _ in before._parts) <= most


def test_turns_that_were_looked_at_while_more_is_read_are_not_all(session: Session) -> None:
    _, before = session.begin(lambda turns: turns[-1:])
    task = Task(ATask().attempt, [], [], before)

    async def look() -> int:
        turns = task.turns
        assert isinstance(turns, NewestTurns)
        return len(turns.read)

    async def both() -> tuple[int, int]:
        more, known = await asyncio.gather(task.earlier(), look())
        return more, known

    more, known = asyncio.run(both())
    assert more > 0
    turns = task.turns
    assert isinstance(turns, NewestTurns)
    assert len(turns.read) == known + more


def test_who_reads_on_beside_another_has_all_in_the_end(session: Session) -> None:
    _, before = session.begin(lambda turns: turns[-1:])
    task = Task(ATask().attempt, [], [], before)

    async def everything() -> int:
        while await task.earlier():
            pass
        return len(task.turns)

    async def both() -> list[int]:
        return [*await asyncio.gather(everything(), everything())]

    assert asyncio.run(both()) == [len(BEFORE)] * 2


def in_a_thread(turns: Sequence[Turn]) -> list[int]:
    found: list[int] = []

    def look() -> None:
        with suppress(BaseException):
            found.extend(numbers(turns))

    thread = Thread(target=look)
    thread.start()
    thread.join()
    return found


def with_all_caught(turns: Sequence[Turn]) -> list[int]:
    found: list[int] = []
    with suppress(BaseException):
        found.extend(turn["turn"] for turn in reversed(turns))
    return found[::-1]


@pytest.mark.parametrize(
    "conversation",
    [
        in_a_thread,
        with_all_caught,
        lambda turns: [x["turn"] for x in json.loads(json.dumps(turns))],
        lambda turns: numbers([] + turns),  # noqa: RUF005
        lambda turns: numbers(turns.copy()),
        lambda turns: numbers(pickle.loads(pickle.dumps(turns))),  # noqa: S301
        lambda turns: numbers(copy.deepcopy(turns)),
    ],
)
def test_code_that_hides_what_it_looked_at_or_wants_a_list_has_all_of_them(
    session: Session, conversation: Any
) -> None:
    assert session.begin(conversation)[0] == BEFORE


def test_a_mistake_in_conversation_is_raised_as_it_is(session: Session) -> None:
    def conversation(turns: Sequence[Turn]) -> Any:
        return turns[-1]["nothing"]  # type: ignore[typeddict-item]

    with pytest.raises(KeyError, match="nothing"):
        session.begin(conversation)


def test_what_is_steered_at_this_turn_comes_once_and_takes_no_room(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {"role": "user", "content": "x" * 10 * HAND}
    for number in range(1, 5):
        session.history.steer(number, 101)
        session.history.state.set(storage.steered_key(number), large)
    session.history.state.values["session"] = dump_record(session.history.record)
    monkeypatch.setattr(earlier, "MAX_LOADED", 24 * HAND)
    sizes: list[int] = []

    async def call(*arguments: Any) -> bytes:
        answer = await session.call(*arguments)
        sizes.append(len(answer))
        return answer

    session.attempt.call_session = call
    told, _ = session.begin(lambda turns: numbers([*reversed(turns)])[::-1])
    assert told == BEFORE
    assert sizes[0] > 40 * HAND
    assert max(sizes[1:]) < 10 * HAND
    assert session.history.state.reads.count("steered/1") == 1


def test_each_call_of_conversation_is_given_the_turns_as_they_are(session: Session) -> None:
    def conversation(turns: Sequence[Turn]) -> list[str]:
        found: list[str] = []
        for turn in reversed(turns):
            for message in turn["messages"]:
                message["content"] = f"A: {message['content']}"
                found.append(message["content"])
        return found

    told, _ = session.begin(conversation)
    assert told
    assert not [x for x in told if x.startswith("A: A: ")]


def test_turns_that_were_kept_say_what_to_do(session: Session) -> None:
    kept: list[Sequence[Turn]] = []
    session.begin(lambda turns: (kept.append(turns), turns[-1:]))
    with pytest.raises(WrongPlace, match=r"task\.earlier"):
        len(kept[-1])


def test_what_was_given_up_and_resumed_is_told_of_wherever_it_is_read(session: Session) -> None:
    session.attempt.job["resumes"] = BEFORE[-30]
    told, _ = session.begin(lambda turns: [x for x in turns[-40:] if x.get("resumed")])
    assert numbers(told) == [BEFORE[-30]]
    assert sent.MAX_LOADED > AT_HAND


def test_small_pages_are_asked_for_many_at_a_time(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "AHEAD", 32)
    monkeypatch.setattr(earlier, "AT_HAND", 4 * HAND)
    batches: list[int] = []
    read = Moment._read

    async def counted(self: Moment, keys: Sequence[str]) -> list[bytes]:
        batches.append(sum(key.startswith("page/") for key in keys))
        return await read(self, keys)

    monkeypatch.setattr(Moment, "_read", counted)
    session.begin(lambda turns: turns[-1:])
    *asked, decoded = [x for x in batches if x]
    assert (asked, decoded) == ([2, 4], 4)


def test_of_small_pages_nothing_is_concluded_for_many_more() -> None:
    asked: list[str] = []

    class Pages:
        async def get(self, name: str, serde: Any) -> bytes:
            asked.append(name)
            first = 1 + storage.TURNS_PER_PAGE * int(name.removeprefix("page/"))
            chance = random.Random(first)  # noqa: S311
            text = "x" if first > 900 else chance.randbytes(500).hex()
            return storage.PACKED.serialize([{"turn": first, "text": text}])

    async def read(most: int) -> None:
        session = Moment(Pages(), Record("e", next=961, paged=True), most=most)
        size = 0
        async for slot, _ in session.newest_first(range(1, 961)):
            size += len(json.dumps(slot.turn))
            if size > most:
                break

    asyncio.run(read(3000))
    assert asked[:2] == ["page/59", "page/58"]
    assert len(asked) == 2 + 4

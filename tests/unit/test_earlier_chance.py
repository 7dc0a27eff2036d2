"""Read as far back as it is looked at is as if all had been read: histories and looks by chance."""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from interruptible._session import private, reading, storage
from interruptible._session.stored_record import dump_record
from interruptible._task import earlier
from interruptible._task.earlier import Before, NewestTurns
from interruptible._wire.types import Turn

from .test_history import History

Look = Callable[[Sequence[Turn]], Any]


class World:
    """A session with up to ninety turns: large, discarded, live, given up, steered at, resumed."""

    def __init__(self, chance: random.Random) -> None:
        self.history = History()
        self.ends: dict[int, Any] = {}
        self.turn = chance.randint(2, 91)
        for turn in range(1, self.turn):
            self._play(chance, turn)
        self.history.begin(self.turn)
        if chance.random() < 0.3:
            self.history.steer(5000, self.turn)
        self.history.state.values["session"] = dump_record(self.history.record)
        self.resumes = chance.randint(1, self.turn - 1) if chance.random() < 0.3 else None
        self.asked = 0

    def _play(self, chance: random.Random, turn: int) -> None:
        history = self.history
        history.begin(turn, size=5000 if chance.random() < 0.03 else 0)
        if chance.random() < 0.06:  # it stays live
            if chance.random() < 0.5:
                history.steer(1000 + turn, turn)
            if chance.random() < 0.3:
                history.record = history.record.changed([turn], given_up=True)
            if chance.random() < 0.5:
                put_out = [{"role": "assistant", "content": f"end {turn}"}]
                self.ends[turn] = {"turn": turn, "status": "interrupted", "messages": put_out}
        else:
            size = chance.randint(400, 6000) if chance.random() < 0.15 else 0
            more: Any = {"status": "interrupted"} if chance.random() < 0.2 else {}
            history.settle(turn, size=size, **more)
        if chance.random() < 0.05:
            first = chance.randint(max(1, turn - 40), turn)
            history.discard(*(x for x in range(first, turn + 1) if history.record.find(x) is None))

    async def _call(self, _: Any, __: str, fields: Any) -> bytes:
        self.asked += 1
        assert self.asked < 200
        settings: Any = None
        return await private.on_load(settings, self.history.ctx, fields or {})

    def told(self, look: Look, *, tells_all: bool = False) -> tuple[Any, Before]:
        """What somebody makes of the turns, and what was read for it."""
        attempt: Any = SimpleNamespace(
            turn=self.turn,
            ends=self.ends,
            job={} if self.resumes is None else {"resumes": self.resumes},
            body=SimpleNamespace(tells_all=tells_all),
            ctx=SimpleNamespace(generic_call=None),
            call_session=self._call,
        )
        self.asked, before = 0, Before(attempt)

        async def begin() -> Any:
            await before.take(await (await before.ask()))
            return await before.reading(look)

        return asyncio.run(begin()), before


def looks(chance: random.Random) -> list[Look]:
    a, b = chance.randint(-60, 10), chance.randint(-60, 10)
    step = chance.choice([None, 1, 2, 3, -1, -2])
    k = chance.randint(1, 60)

    def until_it_is_enough(turns: Sequence[Turn]) -> Any:
        room = k * 100
        kept: list[Turn] = []
        for turn in reversed(turns):
            room -= len(str(turn))
            if room < 0:
                break
            kept.append(turn)
        return kept

    def at_a_place(turns: Sequence[Turn]) -> Any:
        with suppress(IndexError):
            return turns[a]

    def one_after_the_other(turns: Sequence[Turn]) -> Any:
        newest_first = iter(reversed(turns))
        return [next(newest_first, None) for _ in range(k)]

    def by_a_pattern(turns: Sequence[Turn]) -> Any:
        match turns:
            case []:
                return None
            case [one]:
                return one
            case [first, *_, last]:
                return first, last

    return [
        until_it_is_enough,
        at_a_place,
        one_after_the_other,
        by_a_pattern,
        bool,
        len,
        list,
        lambda turns: list(turns[slice(a, b, step)]),
        lambda turns: [turns[-k:], turns[-k:][:3], turns[-2:][::-1]],
        lambda turns: [turns[:], turns[k:], turns[:-k]],
        lambda turns: sorted(turns, key=lambda x: -x["turn"]),
        lambda turns: list(itertools.pairwise(turns)),
        lambda turns: max(turns, key=str, default=None),
        lambda turns: list(itertools.islice(reversed(turns), k)),
        lambda turns: list(deque(turns, maxlen=k)),
        lambda turns: list(itertools.takewhile(lambda x: "given_up" not in x, reversed(turns))),
        lambda turns: turns[-1] in turns if turns else None,
    ]


@pytest.mark.parametrize(
    "seed", [*range(20), *(pytest.param(x, marks=pytest.mark.long) for x in range(20, 60))]
)
def test_what_is_read_in_parts_is_what_is_read_at_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)  # noqa: S311
    monkeypatch.setattr(storage, "LARGE", chance.choice([200, 1000, 4096]))
    monkeypatch.setattr(storage, "TAIL", chance.choice([0, 1000, 8192]))
    monkeypatch.setattr(reading, "AHEAD", chance.choice([1, 2, 3, 32]))
    monkeypatch.setattr(reading, "MAX_AHEAD", chance.choice([100, 1000, 3000, 4 * 1024 * 1024]))
    monkeypatch.setattr(earlier, "AT_HAND", chance.choice([1, 100, 500, 1500, 4000, 10**5]))
    world = World(chance)
    whole, _ = world.told(list, tells_all=True)
    assert world.asked == 1
    for look in looks(chance):
        told, before = world.told(look)
        assert told == look(whole), look
        known = before.turns()
        read = known.read if isinstance(known, NewestTurns) else known
        assert read == whole[len(whole) - len(read) :]
        while asyncio.run(before.further()):
            pass
        assert before.turns() == whole

"""The measurements. Each takes one sample of one contender; `run.py` takes turns."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import httpx

from .contender import Contender, Order
from .model import kind_of
from .stage import at_once, now

Sample = dict[str, Any]


class Side(NamedTuple):
    """A contender, and what a message does there."""

    contender: Contender
    policy: str = "interrupt"

    @property
    def name(self) -> str:
        """What the tables call it."""
        how = {"interrupt": "", "wait": ", waiting"}.get(self.policy, f", {self.policy}")
        return f"{self.contender.name}{how}"

    async def say(self, session: str, order: Order) -> None:
        """Say something, until it is acknowledged."""
        await self.contender.say(session, order, self.policy)


async def interrupt(side: Side, session: str | None = None) -> Sample:
    """The model streams its answer to one message, and another message comes."""
    contender, record, (one, two) = side.contender, side.contender.stage.record, tags(2)
    session = session or await contender.session(one)
    await side.say(session, {"tag": one, "seconds": 30})
    await record.of("started", one, 20)
    # Anywhere between two looks of those that look from time to time, once in a second at most.
    await asyncio.sleep(0.06 + _CHANCE.random())
    sent = now()
    await side.say(session, {"tag": two, "seconds": 0.06})
    acknowledged = now() - sent
    began = await record.when("started", two)
    cut = await record.when("cut off", one, 5)
    await record.when("finished", two)
    await asyncio.sleep(0.15)
    return {
        "acknowledged": acknowledged,
        "cut off": since(sent, cut),
        "next call": since(sent, began),
        "at once": at_once(record.all, (one, two)),
    }


async def cleanup(side: Side, seconds: float = 5.0) -> Sample:
    """The same, with a cleanup; and a third message comes while that runs."""
    contender, record, (one, two, three) = side.contender, side.contender.stage.record, tags(3)
    session = await contender.session(one)
    order = {"seconds": 30, "cleanup": seconds}
    await side.say(session, {**order, "tag": one})
    await record.of("started", one, 20)
    await asyncio.sleep(0.1)
    sent = now()
    await side.say(session, {**order, "tag": two})
    acknowledged = now() - sent
    await asyncio.sleep(0.3 * seconds)
    again = now()
    await side.say(session, {"tag": three, "seconds": 0.1})
    acknowledged_again = now() - again
    began = await record.when("started", three, 4 * seconds + 10)
    cut = await record.when("cut off", one, 5)
    begun = await record.when("cleanup begins", one, 1)
    ended = await record.when("cleanup ends", one, seconds + 3)
    broken = record.time("cleanup broken off", one)
    await record.when("finished", three)
    calls = [record.time("started", each) for each in (two, three)]
    return {
        "acknowledged": acknowledged,
        "acknowledged in cleanup": acknowledged_again,
        "cut off": since(sent, cut),
        "ran to its end": ended is not None,
        "broken off after": since(sent, broken),
        "calls before its end": sum(
            at is not None and (ended is None or at < ended) and begun is not None for at in calls
        ),
        "its end to next call": since(ended, began) if ended is not None else None,
    }


async def burst(side: Side, messages: int = 10, seconds: float = 1.0) -> Sample:
    """Messages in a burst: how many calls are begun, and how many are paid to the end."""
    contender, record, sent = side.contender, side.contender.stage.record, tags(messages)
    session = await contender.session(sent[0])
    for each in sent:
        await side.say(session, {"tag": each, "seconds": seconds})
        await asyncio.sleep(0.02)
    await record.when("finished", sent[-1])
    quiet = now()
    while now() - quiet < seconds + 1.2:  # nothing more comes
        quiet = max([quiet, *(each.at for each in record.all if each.text in sent)])
        await asyncio.sleep(0.1)
    kept = [kind_of(each) for each in await contender.history(session)]
    return {
        "begun": sum(record.seen("started", each) for each in sent),
        "paid to the end": sum(record.seen("finished", each) for each in sent),
        "at once": at_once(record.all, sent),
        "the last is answered": record.seen("finished", sent[-1]),
        "kept": sum(each in kept for each in sent),
    }


async def history(side: Side) -> Sample:
    """What the model is sent next, after an interruption."""
    return {
        "in mid-stream": await _told(side, {"seconds": 30}, ""),
        "in step 2 of 3": await _told(side, {"seconds": 0.4, "steps": 3}, "-1"),
    }


async def _told(side: Side, order: dict[str, Any], at: str) -> list[str]:
    contender, record, (one, two) = side.contender, side.contender.stage.record, tags(2)
    session = await contender.session(one)
    await side.say(session, {**order, "tag": one})
    await record.of("started", one + at, 20)
    await asyncio.sleep(0.2)
    await side.say(session, {"tag": two, "seconds": 0.1})
    told = (await record.of("started", two, 20)).more
    await record.when("finished", two)
    await asyncio.sleep(1)
    names = {one: "the first message", two: "the second message"}
    return [names.get(each, each) for each in told]


async def killed(side: Side, saved: float = 0.0) -> Sample:
    """Ten milliseconds after a message was acknowledged, everything is killed; then started again.

    Args:
        side: Whose.
        saved: Seconds that the conversation before has, to be saved.
    """
    contender, record, (past, one, two) = side.contender, side.contender.stage.record, tags(3)
    session = await contender.session(past)
    await side.say(session, {"tag": past, "seconds": 0.1})
    await record.of("finished", past, 20)
    await asyncio.sleep(0.3 + saved)
    await side.say(session, {"tag": one, "seconds": 30})
    await record.of("started", one, 20)
    await asyncio.sleep(0.2)
    await side.say(session, {"tag": two, "seconds": 1})
    await asyncio.sleep(0.01)
    contender.kill()
    gone = now()
    await contender.start()
    back = now()
    answered = await record.when("finished", two, 15)
    await asyncio.sleep(0.5)
    try:
        kept = [kind_of(each) for each in await contender.history(session)]
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 404:
            raise
        kept = []  # it knows nothing of the session
    return {
        "up again": back - gone,
        "answered": since(back, answered),
        "kept": sum(each in kept for each in (past, one, two)),
        "begun again": record.began_since(one, gone),
    }


async def queue(side: Side) -> Sample:
    """A message that waits for the turn at work: from the end of one call to the next."""
    contender, record, (one, two) = side.contender, side.contender.stage.record, tags(2)
    session = await contender.session(one)
    await contender.say(session, {"tag": one, "seconds": 0.6 + _CHANCE.random() / 2}, "queue")
    await record.of("started", one, 20)
    await asyncio.sleep(0.1)
    sent = now()
    await contender.say(session, {"tag": two, "seconds": 0.1}, "queue")
    acknowledged = now() - sent
    ended = await record.when("finished", one)
    began = await record.when("started", two)
    await record.when("finished", two)
    await asyncio.sleep(0.15)
    return {
        "acknowledged": acknowledged,
        "end to next call": since(ended, began) if ended is not None else None,
    }


async def past(contender: Contender, messages: int, size: int) -> str:
    """A session with a past."""
    session = await contender.session(tags(1)[0])
    orders: list[Order] = [
        {"tag": tag, "seconds": 0, "pad": _CHANCE.randbytes(size // 2).hex()}
        for tag in tags(messages)
    ]
    await contender.grow(session, orders)
    await asyncio.sleep(0.5)
    return session


def since(start: float, end: float | None) -> float | None:
    """The seconds between, if there was an end."""
    return None if end is None else end - start


def tags(number: int) -> list[str]:
    """Names for some messages, which no other has."""
    return [f"m{next(_NUMBERS)}" for _ in range(number)]


Measure = Callable[[Side], Awaitable[Sample]]

_NUMBERS: Final = itertools.count(1)
_CHANCE: Final = random.Random(7)  # noqa: S311 - the same in each run

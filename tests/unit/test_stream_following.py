"""Whoever follows goes on over whatever breaks, from where they were."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from restate import TerminalError

from interruptible._stream import following
from interruptible._stream.following import follow


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; how long they would have."""
    paused: list[float] = []
    sleep = asyncio.sleep

    async def at_once(seconds: float) -> None:
        paused.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    return paused


def answer(*ids: int, then: int | None = None) -> Any:
    """An answer with these events."""
    events = [{"id": x, "turn": 1, "type": "text", "text": f"{x}"} for x in ids]
    return {"messages": events, "nextOffset": max(ids, default=0) if then is None else then}


class End(Exception):
    """There are no answers left."""


class Stream:
    """It gives one answer after another, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    async def pull(self, body: dict[str, Any]) -> Any:
        self.asked.append(body)
        await asyncio.sleep(0)
        if not self.answers:
            raise End
        given = self.answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    @property
    def offsets(self) -> list[int]:
        return [x["offset"] for x in self.asked]


def followed(stream: Stream, after: int | None = None, *, durable: bool = False) -> list[int]:
    """The ids of the events that a follower gets, up to what ends it."""

    async def run() -> list[int]:
        ids: list[int] = []
        with contextlib.suppress(End):
            async for event in follow(stream.pull, after, durable=durable):
                ids.append(event["id"])  # noqa: PERF401 - some come before it ends
        assert stream.answers == []
        return ids

    return asyncio.run(run())


@pytest.mark.parametrize(("after", "first"), [(None, 0), (0, 0), (7, 7)])
def test_it_pulls_from_where_it_is_and_goes_on_from_where_the_answer_says(
    after: int | None, first: int
) -> None:
    stream = Stream(answer(8, 9), answer(10, then=12), answer(13))
    assert followed(stream, after) == [8, 9, 10, 13]
    assert stream.offsets == [first, 9, 12, 13]
    assert {x["wait"] for x in stream.asked} == {following.PULL_WAIT}


def test_events_are_given_as_they_come() -> None:
    stream = Stream(answer(1, 2))

    async def run() -> None:
        events = follow(stream.pull, None)
        assert await anext(events) == {"id": 1, "turn": 1, "type": "text", "text": "1"}
        assert (await anext(events))["id"] == 2
        assert len(stream.asked) == 1
        await events.aclose()

    asyncio.run(run())


def test_where_nothing_new_came_it_asks_again_at_once(pauses: list[float]) -> None:
    stream = Stream(answer(then=3), answer(then=3), answer(4))
    assert followed(stream, 3) == [4]
    assert stream.offsets == [3, 3, 3, 4]
    assert [x for x in pauses if x > 0] == pytest.approx([following.PACE], rel=0.9)


PASSING = [
    ConnectionError("refused"),
    ConnectionResetError(),
    TimeoutError(),
    json.JSONDecodeError("cut off", "{", 1),
    httpx.ReadTimeout("silent"),
    httpx.ConnectError("down"),
    httpx.RemoteProtocolError("gone"),
    *(TerminalError("no", status) for status in (404, 408, 409, 425, 429, 500, 502, 503, 504)),
]
LASTING = [
    *(TerminalError("no", status) for status in (400, 401, 403, 413)),
    ValueError("a mistake"),
    KeyError("messages"),
    httpx.InvalidURL("no address"),
]


def named(error: Any) -> str:
    return f"{type(error).__name__} {getattr(error, 'status_code', '')}"


@pytest.mark.parametrize("error", PASSING, ids=named)
def test_over_what_passes_it_goes_on_from_where_it_was(error: Exception) -> None:
    stream = Stream(answer(1, 2), error, error, answer(3), error, answer(4))
    assert followed(stream) == [1, 2, 3, 4]
    assert stream.offsets == [0, 2, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("error", LASTING, ids=named)
def test_what_does_not_pass_is_raised(error: Exception) -> None:
    async def run() -> None:
        events = follow(Stream(answer(1), error, answer(2)).pull, None)
        assert (await anext(events))["id"] == 1
        with pytest.raises(type(error)) as raised:
            await anext(events)
        assert raised.value is error

    asyncio.run(run())


def test_what_was_never_there_is_raised() -> None:
    async def run() -> None:
        with pytest.raises(TerminalError) as raised:
            await anext(follow(Stream(TerminalError("no", 404), answer(1)).pull, None))
        assert raised.value.status_code == 404

    asyncio.run(run())


def test_while_it_fails_it_waits_longer_and_longer_and_then_no_more(pauses: list[float]) -> None:
    errors = [ConnectionError()] * 10
    assert followed(Stream(*errors, answer(then=0), ConnectionError(), answer(1))) == [1]
    waited = [x for x in pauses if x > 0]
    pace = following.PACE
    assert waited[:7] == [pace, 2 * pace, 4 * pace, 8 * pace, 16 * pace, 32 * pace, 2.0]
    assert waited[7:10] == [following.PULL_BACKOFF] * 3
    assert waited[10] == pace  # it had an answer meanwhile


@pytest.mark.parametrize("error", [*PASSING, *LASTING], ids=named)
def test_in_a_journal_each_pull_is_tried_again_by_restate_alone(error: Exception) -> None:
    async def run() -> None:
        stream = Stream(answer(1), error)
        events = follow(stream.pull, None, durable=True)
        assert (await anext(events))["id"] == 1
        with pytest.raises(type(error)):
            await anext(events)
        assert stream.asked == [{"offset": 0}, {"offset": 1}]

    asyncio.run(run())


def test_in_a_journal_it_sleeps_for_nothing(pauses: list[float]) -> None:
    assert followed(Stream(answer(1), answer(then=1), answer(2)), durable=True) == [1, 2]
    assert set(pauses) == {0}  # those of the test


@pytest.mark.parametrize("moment", ["between events", "in a pull", "before the first"])
def test_it_ends_when_it_is_closed_and_leaves_nothing(moment: str) -> None:
    async def run() -> None:
        waits, gone = asyncio.Event(), list[str]()

        async def pull(body: Any) -> Any:
            if body["offset"] == 0:
                return answer(1, 2)
            waits.set()
            try:
                await asyncio.Event().wait()
            finally:
                gone.append("the pull")

        events = follow(pull, None)
        if moment == "between events":
            await anext(events)
            await events.aclose()
        elif moment == "before the first":
            await events.aclose()
        else:
            reading = asyncio.ensure_future(read(events))
            await waits.wait()
            reading.cancel()
            await asyncio.wait([reading])
            assert reading.cancelled()
            assert gone == ["the pull"]
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def read(events: Any) -> Sequence[Any]:
        return [event async for event in events]

    asyncio.run(run())

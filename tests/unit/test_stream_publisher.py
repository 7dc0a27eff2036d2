"""What an attempt publishes: in batches, one at a time, whatever becomes of them."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from restate import HttpError

from interruptible._stream import publisher
from interruptible._stream.publisher import NoIngress, Publisher

RUN = object()
"""A step, in its first run."""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "AGAIN", 0)


class Posted:
    """A batch that is under way, and waits for its answer."""

    def __init__(self, data: bytes, answer: "asyncio.Future[int]") -> None:
        self.data, self.answer = data, answer
        self.batch: Any = json.loads(data)

    @property
    def seq(self) -> int:
        return int(self.batch["seq"])

    @property
    def says(self) -> list[str]:
        return [x["event"].get("text", x["event"]["type"]) for x in self.batch["events"]]

    def takes(self, count: int | None = None) -> None:
        """It is answered: so many of its events were taken, or all."""
        self.answer.set_result(len(self.says) if count is None else count)

    def fails(self, error: Exception) -> None:
        self.answer.set_exception(error)


class Attempt:
    """An attempt that publishes, and the stream, whose answers the test gives."""

    def __init__(self, every: timedelta = timedelta(0), no_way: Exception | None = None) -> None:
        self.posts: asyncio.Queue[Posted] = asyncio.Queue()
        self.warned: list[str] = []
        self.open, self.under_way, self.no_way = 0, 0, no_way
        self.publisher = Publisher(self.connect, "key", every, self.warned.append)

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[publisher.Post, None]:
        if self.no_way is not None:
            raise self.no_way
        self.open += 1
        try:
            yield self.post
        finally:
            self.open -= 1

    async def post(self, data: bytes) -> int:
        assert self.under_way == 0, "two publishes are under way"
        self.under_way += 1
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.posts.put_nowait(Posted(data, answer))
        try:
            return await answer
        finally:
            self.under_way -= 1

    def say(self, *texts: str, after: int = 0, step: int = 1, run: object = RUN) -> None:
        for text in texts:
            self.publisher.say({"type": "text", "text": text}, after, step, run)

    def tell(self, kind: str, after: int = 0) -> None:
        self.publisher.say({"type": kind}, after, 1, RUN)

    async def posted(self) -> Posted:
        """The next batch that is posted."""
        return await asyncio.wait_for(self.posts.get(), 30)

    async def quiet(self) -> None:
        """All that can go on has gone on."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def nothing(self) -> None:
        """The same, and nothing was posted."""
        await self.quiet()
        assert self.posts.empty()


Test = Callable[[Attempt], Coroutine[Any, Any, None]]


def attempt(test: Test) -> Callable[[], None]:
    """A test with an attempt that is over when it ends, and then has left nothing."""

    def run() -> None:
        async def in_loop() -> None:
            made = Attempt()
            try:
                await test(made)
            finally:
                await made.publisher.close()
            await made.quiet()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert made.open == 0

        asyncio.run(in_loop())

    run.__name__ = test.__name__
    return run


@attempt
async def test_the_first_words_are_published_at_once_and_as_they_are(made: Attempt) -> None:
    made.say("Hello", after=3, step=7)
    first = await made.posted()
    voice = first.batch["voice"]
    said = {"event": {"type": "text", "text": "Hello"}, "after": 3, "step": 7}
    assert first.batch == {"key": "key", "voice": voice, "seq": 1, "events": [said]}
    assert len(voice) >= 12


@attempt
async def test_what_is_said_while_a_publish_is_under_way_goes_together_after_it(
    made: Attempt,
) -> None:
    made.say("a")
    first = await made.posted()
    made.say("b", "c")
    made.tell("mine")
    made.say("d")
    made.say("e", after=1)
    made.say("f", after=1, step=2)
    await made.nothing()
    first.takes()
    second = await made.posted()
    assert (first.says, second.says) == (["a"], ["bc", "mine", "d", "e", "f"])
    assert [(x["after"], x["step"]) for x in second.batch["events"]][-3:] == [
        (0, 1),
        (1, 1),
        (1, 2),
    ]
    assert (first.seq, second.seq) == (1, 2)
    assert first.batch["voice"] == second.batch["voice"]
    second.takes()
    await made.nothing()


@attempt
async def test_output_of_two_calls_and_reasoning_are_not_mixed(made: Attempt) -> None:
    made.say("a")
    first = await made.posted()
    for kind, call in (("output", "1"), ("output", "2"), ("output", "2"), ("reasoning", None)):
        event = {"type": kind, "text": "x"} | ({"call": call} if call else {})
        made.publisher.say(event, 0, 1, RUN)
    first.takes()
    assert (await made.posted()).says == ["x", "xx", "x"]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("refused"),
        HttpError(500, "Internal", "it is broken"),
        HttpError(429, "Too many", ""),
        HttpError(408, "Timeout", ""),
        ValueError("the answer is no JSON"),
    ],
    ids=lambda error: repr(error)[:30],
)
def test_a_publish_that_fails_is_sent_again_as_it_is_and_what_came_since_after_it(
    error: Exception,
) -> None:
    @attempt
    async def test(made: Attempt) -> None:
        made.say("a")
        first = await made.posted()
        made.say("b")
        first.fails(error)
        again = await made.posted()
        made.say("c")
        again.fails(error)
        once_more = await made.posted()
        assert first.data == again.data == once_more.data
        once_more.takes()
        rest = await made.posted()
        assert (rest.seq, rest.says) == (2, ["bc"])

    test()


@attempt
async def test_that_the_stream_does_not_answer_is_said_with_what_it_is(made: Attempt) -> None:
    made.say("a")
    (await made.posted()).fails(ConnectionError("all is down"))
    (await made.posted()).takes()
    await made.nothing()
    assert made.warned == ["does not answer (ConnectionError: all is down)"]


@attempt
async def test_what_was_not_taken_comes_again_before_what_came_since(made: Attempt) -> None:
    made.say("a")
    made.say("b", after=1)
    first = await made.posted()
    made.say("c", after=1)
    first.takes(1)
    second = await made.posted()
    assert (second.seq, second.says) == (2, ["b", "c"])
    second.takes(0)
    third = await made.posted()
    assert (third.seq, third.says) == (3, ["b", "c"])


@attempt
async def test_a_turn_of_which_the_stream_does_not_know_yet_is_tried_again(made: Attempt) -> None:
    made.say("a")
    for _ in range(3):
        early = await made.posted()
        assert (early.seq, early.says) == (1, ["a"])
        early.fails(HttpError(403, "Forbidden", ""))
    (await made.posted()).takes()
    assert made.warned == []


@attempt
async def test_a_turn_that_is_another_attempts_is_said_no_more(made: Attempt) -> None:
    made.say("a")
    (await made.posted()).takes()
    made.say("b")
    (await made.posted()).fails(HttpError(403, "Forbidden", ""))
    await made.nothing()
    made.say("c")
    await made.nothing()
    assert (made.open, made.warned) == (0, [])


@attempt
async def test_a_turn_that_the_stream_never_knows_is_given_up(made: Attempt) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "PATIENCE", -1)
        made.say("a")
        (await made.posted()).fails(HttpError(403, "Forbidden", ""))
        await made.nothing()
    assert (made.open, made.warned) == (0, [])


@attempt
async def test_what_is_refused_for_good_is_said_once_with_the_reason(made: Attempt) -> None:
    made.say("a")
    (await made.posted()).fails(HttpError(400, "Bad Request", "no such body"))
    made.say("b")
    await made.nothing()
    assert made.open == 0
    [why] = made.warned
    assert why.startswith("refuses (")
    assert why.endswith("no such body)")


@attempt
async def test_a_server_that_has_just_come_up_and_knows_no_service_is_asked_again(
    made: Attempt,
) -> None:
    made.say("a")
    first = await made.posted()
    first.fails(HttpError(404, "Not found", "no such service"))
    again = await made.posted()
    assert again.data == first.data
    assert len(made.warned) == 1


@attempt
async def test_what_does_not_fit_is_dropped_and_the_next_batch_says_so(made: Attempt) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "MOST_KEPT", 10)
        made.say("a")
        first = await made.posted()
        made.say("b" * 6)
        made.say("c" * 6, "d")
        first.takes()
        second = await made.posted()
        assert (second.says, second.batch["gap"]) == (["d"], True)
        assert "gap" not in first.batch
        made.say("e")
        second.fails(ConnectionError())
        again = await made.posted()
        assert again.data == second.data
        again.takes()
        third = await made.posted()
        assert third.says == ["e"]
        assert "gap" not in third.batch


@attempt
async def test_a_gap_is_told_also_if_nothing_is_said_after_it(made: Attempt) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "MOST_KEPT", 10)
        made.say("a" * 11)
        gap = await made.posted()
        assert (gap.says, gap.batch["gap"]) == ([], True)
        gap.takes()
        await made.nothing()


@attempt
async def test_a_batch_is_not_too_large(made: Attempt) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "MOST_AT_ONCE", 10)
        for step in range(1, 8):
            made.say("x" * 4, step=step)
        sizes = []
        for _ in range(3):
            batch = await made.posted()
            sizes.append(len(batch.says))
            batch.takes()
        assert sizes == [3, 3, 1]


@attempt
async def test_an_attempt_that_says_too_much_says_no_more(made: Attempt) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "MOST_SAID", 10)
        made.say("a" * 6, "b" * 6, "c")
        batch = await made.posted()
        assert batch.says == ["a" * 6 + "b" * 6]
        batch.takes()
        await made.nothing()


@attempt
async def test_half_a_character_waits_for_its_other_half(made: Attempt) -> None:
    made.say("a\ud83d")
    first = await made.posted()
    first.takes()
    await made.nothing()
    made.say("\ude00b")
    second = await made.posted()
    assert (first.says, second.says) == (["a"], ["\U0001f600b"])


@attempt
async def test_half_a_character_alone_is_nothing_to_publish_yet(made: Attempt) -> None:
    made.say("\ud83d")
    await made.nothing()
    made.say("\ude00")
    assert (await made.posted()).says == ["\U0001f600"]


@attempt
async def test_half_a_character_that_stays_one_is_mended(made: Attempt) -> None:
    made.say("a\ud83d")
    made.say("b", step=2)
    made.say("\ude00c", step=2)
    assert (await made.posted()).says == ["a\ufffd", "b\ufffdc"]


@attempt
async def test_a_step_may_speak_from_any_thread(made: Attempt) -> None:
    def speak(step: int) -> None:
        for n in range(100):
            made.say(f"{n},", step=step)

    async def listen() -> list[tuple[int, str]]:
        said: list[tuple[int, str]] = []
        while sum(text.count(",") for _, text in said) < 400:
            batch = await made.posted()
            said += [(x["step"], x["event"]["text"]) for x in batch.batch["events"]]
            batch.takes()
        return said

    threads = [threading.Thread(target=speak, args=(step,)) for step in range(4)]
    listening = asyncio.ensure_future(listen())
    for thread in threads:
        thread.start()
    said = await listening
    for thread in threads:
        thread.join()
    for step in range(4):
        assert "".join(x for y, x in said if y == step) == "".join(f"{n}," for n in range(100))


@attempt
async def test_a_step_that_is_run_again_speaks_with_another_voice_and_from_the_beginning(
    made: Attempt,
) -> None:
    made.say("first ")
    made.say("not taken", after=5)
    first = await made.posted()
    made.say("lost with it")
    made.say("again", run=object())
    made.say(" and on", step=2)
    await made.nothing()
    first.takes(1)
    second = await made.posted()
    assert second.batch["voice"] != first.batch["voice"]
    assert (second.seq, second.says) == (1, ["again", " and on"])


@attempt
async def test_what_failed_is_not_sent_again_when_its_step_is_run_again(made: Attempt) -> None:
    made.say("first")
    first = await made.posted()
    made.say("again", run=object())
    first.fails(ConnectionError())
    second = await made.posted()
    assert (second.seq, second.says) == (1, ["again"])


@attempt
async def test_other_steps_that_go_on_in_the_same_run_keep_the_voice(made: Attempt) -> None:
    again = object()
    made.say("a", run=again)
    first = await made.posted()
    first.takes()
    made.say("b", run=again)
    made.say("c", step=2, run=object())
    second = await made.posted()
    assert (second.batch["voice"], second.says) == (first.batch["voice"], ["b", "c"])


@attempt
async def test_what_a_message_has_replaced_is_not_said_any_more(made: Attempt) -> None:
    made.say("a")
    first = await made.posted()
    made.say("words")
    for call in ("1", "2"):
        made.publisher.say({"type": "output", "call": call, "text": f"of {call}"}, 0, 1, RUN)
    made.tell("mine")
    made.publisher.forget(lambda of: of in ("", "1"))
    first.takes()
    assert (await made.posted()).says == ["of 2", "mine"]


@attempt
async def test_after_all_is_replaced_there_is_nothing_to_publish(made: Attempt) -> None:
    made.say("a")
    first = await made.posted()
    made.say("b")
    made.publisher.forget(lambda _: True)
    first.takes()
    await made.nothing()
    made.say("c")
    assert ((second := await made.posted()).seq, second.says) == (2, ["c"])


@attempt
async def test_an_attempt_that_is_over_says_nothing_and_breaks_off_what_is_under_way(
    made: Attempt,
) -> None:
    made.say("a")
    await made.posted()
    made.say("b")
    await made.publisher.close()
    await made.quiet()
    assert (made.open, made.under_way) == (0, 0)
    made.say("c")
    await made.nothing()
    await made.publisher.close()


@attempt
async def test_what_the_agent_tells_as_an_attempt_fails_is_published_still(made: Attempt) -> None:
    made.say("a")
    await made.posted()
    made.tell("mine")
    made.say("b")
    closing = asyncio.ensure_future(made.publisher.close(again=True))
    last = await made.posted()
    assert [x["event"]["type"] for x in last.batch["events"]] == ["mine"]
    last.takes()
    await closing
    assert (made.open, made.under_way) == (0, 0)


@attempt
async def test_what_was_under_way_as_an_attempt_failed_is_published_again_as_it_was(
    made: Attempt,
) -> None:
    made.tell("mine")
    first = await made.posted()
    made.tell("yours")
    closing = asyncio.ensure_future(made.publisher.close(again=True))
    again = await made.posted()
    assert again.data == first.data
    again.takes()
    last = await made.posted()
    assert [x["event"]["type"] for x in last.batch["events"]] == ["yours"]
    last.takes()
    await closing
    assert (made.open, made.under_way) == (0, 0)


NOT_YET = [
    pytest.param(
        lambda x: x.fails(HttpError(403, "Forbidden", None)), id="of the turn it does not know yet"
    ),
    pytest.param(lambda x: x.takes(0), id="it waits for what the task told before"),
    pytest.param(lambda x: x.fails(ConnectionError()), id="it does not answer"),
]


@pytest.mark.parametrize("not_yet", NOT_YET)
def test_what_a_failing_attempt_tells_is_tried_again_while_the_stream_is_behind(
    not_yet: Callable[[Posted], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "LAST", 30.0)

    async def test(made: Attempt) -> None:
        made.tell("mine")
        not_yet(await made.posted())
        await made.posted()
        closing = asyncio.ensure_future(made.publisher.close(again=True))
        for _ in range(3):
            not_yet(await made.posted())
        last = await made.posted()
        assert [x["event"]["type"] for x in last.batch["events"]] == ["mine"]
        last.takes()
        await asyncio.wait_for(closing, 30)

    attempt(test)()


@pytest.mark.parametrize(
    "error", [HttpError(403, "Forbidden", None), ConnectionError()], ids=["403", "lost"]
)
def test_what_a_failing_attempt_tells_is_not_tried_for_ever(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "LAST", 0.05)

    async def test(made: Attempt) -> None:
        made.tell("mine")
        await made.posted()
        closing = asyncio.ensure_future(made.publisher.close(again=True))
        (await made.posted()).fails(error)
        await asyncio.wait_for(closing, 30)
        assert (made.open, made.under_way) == (0, 0)

    attempt(test)()


@attempt
async def test_a_failing_attempt_whose_turn_another_has_taken_over_ends_at_once(
    made: Attempt,
) -> None:
    made.tell("mine")
    (await made.posted()).takes()
    made.tell("yours")
    await made.posted()
    closing = asyncio.ensure_future(made.publisher.close(again=True))
    (await made.posted()).fails(HttpError(403, "Forbidden", None))
    await closing
    await made.nothing()


@attempt
async def test_a_turn_that_is_over_publishes_nothing_more(made: Attempt) -> None:
    made.tell("mine")
    await made.posted()
    made.tell("yours")
    await made.publisher.close()
    await made.nothing()


@attempt
async def test_an_attempt_that_is_over_does_not_begin_to_speak(made: Attempt) -> None:
    await made.publisher.close()
    made.say("a")
    await made.nothing()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@attempt
async def test_an_attempt_that_says_nothing_opens_no_way_to_the_stream(made: Attempt) -> None:
    await made.nothing()
    assert made.open == 0


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (NoIngress("nobody says where it is"), "nobody says where it is"),
        (ValueError("no address"), "cannot be reached (ValueError: no address)"),
    ],
)
def test_where_there_is_no_way_to_the_stream_a_warning_says_why(error: Exception, why: str) -> None:
    @attempt
    async def test(made: Attempt) -> None:
        made.no_way = error
        made.say("a")
        await made.nothing()
        made.say("b")
        await made.nothing()
        assert made.warned == [why]
        assert made.publisher._queue == []

    test()


def test_it_publishes_no_more_often_than_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def paused(seconds: float) -> None:
        if seconds > 1:
            pauses.append(seconds)
        await sleep(0)

    async def in_loop() -> None:
        made = Attempt(every=timedelta(seconds=100))
        made.say("a")
        (await made.posted()).takes()
        made.say("b")
        (await made.posted()).takes()
        await made.nothing()
        await made.publisher.close()

    monkeypatch.setattr(asyncio, "sleep", paused)
    asyncio.run(in_loop())
    assert pauses
    assert all(90 < x <= 100 for x in pauses)


@pytest.mark.parametrize("error", [ConnectionError(), HttpError(429, "Too many", "")], ids=repr)
def test_what_fails_is_tried_again_later_and_later(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def paused(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def in_loop() -> None:
        made = Attempt()
        monkeypatch.setattr(made.publisher._loop, "time", lambda: 0.0)
        made.say("a")
        for _ in range(10):
            (await made.posts.get()).fails(error)
        await made.posts.get()
        await made.publisher.close()

    monkeypatch.setattr(publisher, "AGAIN", 0.01)
    monkeypatch.setattr(asyncio, "sleep", paused)
    asyncio.run(in_loop())
    assert pauses == [*(0.01 * 2**n for n in range(8)), *[publisher.PUBLISH_BACKOFF] * 2]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_becomes_of_each_publish_all_that_is_said_arrives_once_and_in_order(
    seed: int,
) -> None:
    @attempt
    async def test(made: Attempt) -> None:
        random, said, heard, answers = Random(seed), "", "", dict[int, int]()  # noqa: S311
        for n in range(60):
            if random.random() < 0.6:
                made.say(f"{n},", after=random.randint(0, 2), step=random.randint(1, 2))
                said += f"{n},"
            for _ in range(random.randint(0, 4)):
                await asyncio.sleep(0)
            if not made.posts.empty() and random.random() < 0.7:
                heard += answered(await made.posted(), random, answers)
        while heard != said:
            heard += answered(await made.posted(), random, answers)

    def answered(post: Posted, random: Random, answers: dict[int, int]) -> str:
        """What is new of a batch to the stream, of whose answer the attempt may not hear."""
        is_new = post.seq not in answers
        arrives = random.random() < 0.8
        if is_new and arrives:
            assert post.seq == max(answers, default=0) + 1
            answers[post.seq] = random.randint(0, len(post.says))
        if arrives and random.random() < 0.8:
            post.takes(answers[post.seq])
        else:
            post.fails(ConnectionError())
        return "".join(post.says[: answers[post.seq]]) if is_new and arrives else ""

    test()

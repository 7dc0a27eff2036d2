"""Workers and the server are killed while a turn streams: the record wins, and no word is wrong."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from interruptible import Session
from interruptible.testing import Restate

from .conftest import REPLAY, Deploy, eventually
from .following import Follower, View, all_converge
from .process import Process, free_port
from .signalled import telling
from .stream_worker import STEERED, WORDS
from .streaming import assistant

pytestmark = pytest.mark.anyio

PLAN = assistant("plan")


class Workers:
    """Processes of `stream_worker.py`, behind one port."""

    def __init__(self, env: Restate, folder: Path) -> None:
        self._folder, self._port, self._ingress = folder, free_port(), env.ingress_url
        self.running: dict[str, Process] = {}
        self.url = f"http://127.0.0.1:{self._port}"
        self._count = 0

    async def start(self) -> None:
        """One more."""
        self._count += 1
        name = f"worker {self._count}"
        arguments = (str(self._folder), name, self._ingress)
        process = Process("tests.server.stream_worker", self._port, *arguments)
        self.running[name] = process
        await process.start()
        await self.until("up", name)

    async def kill(self, name: str) -> None:
        await self.running.pop(name).kill()

    async def kill_all(self) -> None:
        for name in list(self.running):
            await self.kill(name)

    async def speaks(self, turn: int, times: int = 1) -> str:
        """Wait until a turn was begun to be spoken in so often; returns which worker does."""
        await self.until("speaks", turn, times=times)
        return next(x[2] for x in reversed(self.log()) if x[:2] == ["speaks", turn])

    async def until(self, *event: object, times: int = 1) -> None:
        async def seen() -> bool:
            return [x[: len(event)] for x in self.log()].count([*event]) >= times

        await eventually(seen)

    def log(self) -> list[list[str]]:
        log = self._folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def tell(self, turn: int, *words: str) -> None:
        """Have a turn say these, from now on, whichever worker works on it."""
        with (self._folder / f"words {turn}").open("a") as told:
            told.writelines(f"{word}\n" for word in words)

    def forget(self, turn: int) -> None:
        """Have it say nothing, until it is told again."""
        (self._folder / f"words {turn}").write_text("")


@pytest.fixture
async def workers(restate_env: Restate, tmp_path: Path) -> AsyncIterator[Workers]:
    workers = Workers(restate_env, tmp_path)
    try:
        await workers.start()
        await restate_env.register(workers.url)
        yield workers
    finally:
        await workers.kill_all()


@pytest.fixture
def session(restate_env: Restate, tmp_path: Path) -> Session:
    return Session(restate_env.client, "StreamCrashAgent", tmp_path.name)


# -- Half an answer. -------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
async def test_half_an_answer_survives_its_worker_if_the_user_interrupts_before_it_is_taken_up(
    workers: Workers, session: Session, restate_env: Restate, tmp_path: Path, *, slow: bool
) -> None:
    if slow:  # as if its stream's object were in retry back-off
        (tmp_path / "slow").touch()
    workers.tell(1, "half ", "an ", "answer")
    async with Follower(session) as follower:
        receipt = await session.send("go")
        await follower.until_text("half an answer")
        await workers.kill_all()
        await restate_env.cancel(receipt["task_id"])
        await workers.start()
        outcome = await session.attach(1)
        messages = [PLAN, assistant("half an answer")]
        assert outcome == {"turn": 1, "status": "interrupted", "messages": messages, "partial": 1}
        (turn,) = (await session.turns())["turns"]
        assert (turn["messages"], turn["partial"]) == (messages, 1)
        await all_converge(restate_env, session, follower)


async def test_once_the_next_attempt_has_spoken_only_its_words_count(
    workers: Workers, session: Session, restate_env: Restate
) -> None:
    workers.tell(1, "wrong ", "words")
    async with Follower(session) as follower:
        receipt = await session.send("go")
        await follower.until_text("wrong words")
        await workers.kill_all()
        workers.forget(1)
        workers.tell(1, "better ", "words")
        await workers.start()
        await follower.until_text("better words")
        assert "gap" in [x["type"] for x in follower.events[1:]]
        await workers.kill_all()
        await restate_env.cancel(receipt["task_id"])
        await workers.start()
        outcome = await session.attach(1)
        assert outcome["messages"] == [PLAN, assistant("better words")]
        await all_converge(restate_env, session, follower)


async def test_steered_at_once_while_its_worker_is_dead_its_words_stay_in_their_place(
    workers: Workers, session: Session, restate_env: Restate, deploy: Deploy
) -> None:
    tells = await telling(restate_env, deploy)
    workers.tell(1, "half an ", "answer")
    workers.tell(1 + STEERED, "better", ".")
    async with Follower(session) as follower:
        receipt = await session.send("go")
        await follower.until_text("half an answer")
        await session.send("no, this", policy="steer")
        await workers.kill_all()
        await tells.now(receipt["task_id"])
        await workers.start()
        outcome = await session.attach(1)
        said = {"role": "user", "content": "no, this"}
        messages = [PLAN, assistant("half an answer"), said, assistant("better")]
        expected = {"turn": 1, "status": "completed", "messages": messages, "cut_short": [1]}
        assert outcome == expected
        await all_converge(restate_env, session, follower)


# -- At random moments. ----------------------------------------------------------------------------


def is_right(follower: Follower) -> None:
    """What is live is the beginning of what is said: no word is missing, twice, or misplaced."""
    for turn in follower.view.live.values():
        assert "".join(WORDS).startswith(turn.text), (turn, follower.events[-10:])


async def seen(follower: Follower, turn: int, words: int) -> None:
    """Wait until a turn has said so many words, or is over."""
    text = "".join(WORDS[:words])

    def check(view: View) -> bool:
        live = view.live.get(turn)
        return turn in view.ended or (live is not None and len(live.text) >= len(text))

    await follower.until(check, f"word {words} of turn {turn}")


@pytest.mark.parametrize("seed", range(1, 4))
async def test_two_workers_and_the_server_are_killed_while_two_turns_are_followed(
    workers: Workers, session: Session, restate_env: Restate, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    await workers.start()
    async with AsyncExitStack() as stack:

        async def follower() -> Follower:
            return await stack.enter_async_context(Follower(session, check=is_right))

        async def fault(turn: int) -> None:
            """Kill who speaks, or the server; there are two workers again then."""
            if chance.random() < 0.6:
                await workers.kill(await workers.speaks(turn))
                await workers.start()
            else:
                await restate_env.restart(kill=True)

        first, second = await follower(), await follower()
        await session.send("go")
        await seen(first, 1, chance.randrange(1, 110))
        await fault(1)
        await seen(second, 1, 120)
        await session.send("no, this")
        (tmp_path / "interrupted").touch()
        await seen(first, 2, chance.randrange(1, 100))
        late = await follower()
        await seen(late, 2, chance.randrange(1, 100))
        await fault(2)
        await seen(second, 2, chance.randrange(1, 190))
        await fault(2)
        outcome = await session.attach(2)
        assert outcome["messages"] == [PLAN, assistant("".join(WORDS))]
        await all_converge(restate_env, session, first, second, late)
        if not REPLAY:  # the step hears of the interruption
            status, messages = first.view.ended[1]
            assert (status, messages[0]) == ("interrupted", PLAN)
            (words,) = messages[1:]
            assert "".join(WORDS).startswith(words["content"])

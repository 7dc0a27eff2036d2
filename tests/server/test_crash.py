"""The worker is killed with SIGKILL at the worst moments, and comes back."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from restate import TerminalError

from interruptible import Session
from interruptible.client import Receipt
from interruptible.testing import Restate

from .conftest import REPLAY, Deploy, eventually, normal_mode
from .process import Process, free_port
from .signalled import telling

pytestmark = pytest.mark.anyio


class Worker(Process):
    """A worker in a process of its own; see `worker.py`."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__("tests.server.worker", port, str(folder))
        self.folder = folder

    def hold(self, step: str) -> None:
        (self.folder / f"hold {step}").touch()

    def release(self, step: str) -> None:
        (self.folder / f"hold {step}").unlink()

    def die_before(self, step: str) -> None:
        (self.folder / f"die {step}").touch()

    def log(self) -> list[list[str]]:
        log = self.folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    async def until(self, *event: str) -> None:
        async def seen() -> bool:
            return list(event) in self.log()

        await eventually(seen)


@pytest.fixture
async def worker(restate_env: Restate, tmp_path: Path) -> AsyncIterator[Worker]:
    worker = Worker(tmp_path, free_port())
    async with worker.running():
        await restate_env.register(worker.url)
        yield worker


@pytest.fixture
def session(restate_env: Restate, tmp_path: Path) -> Session:
    return Session(restate_env.client, "CrashAgent", tmp_path.name)


def once(*steps: str) -> list[list[str]]:
    return [[kind, step] for step in steps for kind in ("begin", "end")]


CLEANUP = ("undo 1", "undo 2", "undo 3")
PLAN = {"role": "assistant", "content": "plan"}


async def test_killed_in_the_body_a_turn_goes_on_where_it_was_and_nothing_is_cleaned_up(
    worker: Worker, session: Session
) -> None:
    worker.hold("draft")
    await session.send("go")
    await worker.until("begin", "draft")
    await worker.kill()
    worker.release("draft")
    await worker.start()
    outcome = await session.attach()
    assert outcome["status"] == "completed"
    assert outcome["messages"] == [PLAN, {"role": "assistant", "content": "draft"}]
    assert worker.log() == [*once("plan"), ["begin", "draft"], *once("draft")]


async def test_cancelled_while_the_worker_is_dead_a_turn_is_cleaned_up_when_it_is_back(
    worker: Worker, session: Session, restate_env: Restate
) -> None:
    worker.hold("draft")
    receipt = await session.send("go")
    await worker.until("begin", "draft")
    await worker.kill()
    await restate_env.cancel(receipt["task_id"])
    await worker.start()
    assert await session.attach(1) == {"turn": 1, "status": "interrupted", "messages": [PLAN]}
    assert worker.log() == [*once("plan"), ["begin", "draft"], *once(*CLEANUP)]


@pytest.mark.parametrize("step", CLEANUP)
async def test_killed_in_a_cleanup_step_that_step_runs_again_and_the_others_once(
    worker: Worker, session: Session, step: str
) -> None:
    worker.hold("draft")
    worker.hold(step)
    await session.send("go")
    await worker.until("begin", "draft")
    await session.send("next")
    if REPLAY:  # a step in flight hears of nothing there
        worker.release("draft")
    await worker.until("begin", step)
    await worker.kill()
    worker.release(step)
    await worker.start()
    assert (await session.attach())["status"] == "completed"
    assert await session.attach(1) == {"turn": 1, "status": "interrupted", "messages": [PLAN]}
    position = CLEANUP.index(step)
    assert [entry for entry in worker.log() if entry[1] != "draft"] == [
        *once("plan"),
        *once(*CLEANUP[:position]),
        ["begin", step],
        *once(*CLEANUP[position:]),
        *once("turn 2"),
    ]


@pytest.mark.parametrize("step", CLEANUP)
async def test_killed_between_two_cleanup_steps_each_of_them_runs_once(
    worker: Worker, session: Session, step: str
) -> None:
    worker.hold("draft")
    worker.die_before(step)
    await session.send("go")
    await worker.until("begin", "draft")
    sending = asyncio.ensure_future(session.send("next"))  # the worker may die before it answers
    if REPLAY:
        await sending
        worker.release("draft")
    await worker.died()
    await worker.start()
    assert (await sending)["interrupted"] == [1]
    assert (await session.attach())["status"] == "completed"
    assert await session.attach(1) == {"turn": 1, "status": "interrupted", "messages": [PLAN]}
    assert [entry for entry in worker.log() if entry[1] != "draft"] == once(
        "plan", *CLEANUP, "turn 2"
    )


async def test_a_server_that_is_killed_with_its_worker_loses_no_turn(
    worker: Worker, session: Session, restate_env: Restate
) -> None:
    worker.hold("undo 2")
    worker.hold("draft")
    await session.send("go")
    await worker.until("begin", "draft")
    await session.send("next")
    if REPLAY:
        worker.release("draft")
    await worker.until("begin", "undo 2")
    await worker.kill()
    await restate_env.restart(kill=True)
    worker.release("undo 2")
    await worker.start()
    assert (await session.attach())["status"] == "completed"
    assert [entry for entry in worker.log() if entry[1] != "draft"] == [
        *once("plan", "undo 1"),
        ["begin", "undo 2"],
        *once("undo 2", "undo 3", "turn 2"),
    ]


# -- Partial answers. ------------------------------------------------------------------------------


@pytest.fixture
def speaking(session: Session, restate_env: Restate) -> Session:
    return Session(restate_env.client, "SpeakingAgent", session.key)


async def killed_in(worker: Worker, speaking: Session, step: str) -> Receipt:
    """Cut an answer off, and kill the worker in this step of what comes after."""
    worker.hold("speak")
    worker.hold(step)
    receipt = await speaking.send("go")
    await worker.until("begin", "speak")
    await speaking.cancel()
    await worker.until("begin", step)
    await worker.kill()
    worker.release(step)
    await worker.start()
    return receipt


@normal_mode
async def test_a_partial_answer_that_was_journaled_outlives_the_worker(
    worker: Worker, speaking: Session, restate_env: Restate
) -> None:
    receipt = await killed_in(worker, speaking, "wrap up")
    messages = [PLAN, {"role": "assistant", "content": "half an answer"}]
    expected = {"turn": 1, "status": "interrupted", "messages": messages, "partial": 1}
    assert await speaking.attach() == expected
    (turn,) = (await speaking.turns())["turns"]
    assert (turn["messages"], turn["partial"]) == (messages, 1)
    assert worker.log() == [
        ["begin", "speak"],
        *once("undo"),
        ["begin", "wrap up"],
        *once("wrap up"),
    ]
    where = f"id = '{receipt['task_id']}' AND name = 'partial answer'"
    assert len(await restate_env.query(f"SELECT id FROM sys_journal WHERE {where}")) == 1  # noqa: S608


@normal_mode
async def test_a_partial_answer_that_was_not_journaled_is_lost_with_the_worker_and_nothing_else(
    worker: Worker, speaking: Session
) -> None:
    await killed_in(worker, speaking, "undo")
    assert await speaking.attach() == {"turn": 1, "status": "interrupted", "messages": [PLAN]}
    assert "partial" not in (await speaking.turns())["turns"][0]
    assert worker.log() == [["begin", "speak"], ["begin", "undo"], *once("undo", "wrap up")]


# -- Steered at once, and stopped in order. --------------------------------------------------------


@pytest.fixture
def redirected(session: Session, restate_env: Restate) -> Session:
    return Session(restate_env.client, "RedirectedAgent", session.key)


@pytest.mark.parametrize("dies", ["before it hears", "right after", "in the next call"])
async def test_killed_around_a_message_that_is_read_at_once_the_turn_goes_on_with_it(
    worker: Worker, redirected: Session, restate_env: Restate, deploy: Deploy, dies: str
) -> None:
    tells = await telling(restate_env, deploy)
    step = {"right after": "steered 2", "in the next call": "model 2"}.get(dies, "model 1")
    worker.hold("model 1")
    worker.hold(step)
    receipt = await redirected.send("go")
    await worker.until("begin", "model 1")
    await redirected.send("no, this", policy="steer")
    if dies == "before it hears":
        await worker.kill()
    await tells.now(receipt["task_id"])
    if dies != "before it hears":
        if REPLAY:  # a step in flight hears of nothing there
            worker.release("model 1")
        await worker.until("begin", step)
        await worker.kill()
        worker.release(step)
    await worker.start()
    outcome = await redirected.attach()
    there = dies != "before it hears" and not REPLAY
    words = [{"role": "assistant", "content": "half an answer 1"}] if there else []
    assert outcome["status"] == "completed"
    assert outcome["messages"] == [
        PLAN,
        *words,
        {"role": "user", "content": "no, this"},
        {"role": "assistant", "content": "model 2"},
        {"role": "assistant", "content": "after"},
    ]
    assert outcome.get("cut_short") == ([1] if there else None)
    assert worker.log().count(["begin", "model 1"]) == 1
    assert worker.log().count(["begin", "steered 2"]) == (2 if dies == "right after" else 1)


@pytest.mark.parametrize("dies", ["while it stops", "in cleanup"])
async def test_killed_while_it_stops_in_order_a_turn_does_its_step_again_and_keeps_it(
    worker: Worker, redirected: Session, restate_env: Restate, deploy: Deploy, dies: str
) -> None:
    tells = await telling(restate_env, deploy)
    worker.hold("model 1")
    worker.hold("undo")
    receipt = await redirected.send("go")
    await worker.until("begin", "model 1")
    await tells.stop(redirected, receipt["task_id"])
    if dies == "while it stops":
        await worker.kill()
        worker.release("model 1")
        worker.release("undo")
        await worker.start()
    else:
        worker.release("model 1")
        await worker.until("begin", "undo")
        await worker.kill()
        worker.release("undo")
        await worker.start()
    outcome = await redirected.attach()
    messages = [PLAN, {"role": "assistant", "content": "model 1"}]
    assert outcome == {"turn": 1, "status": "interrupted", "messages": messages}
    again = [["begin", "model 1"]] if dies == "while it stops" else []
    twice = [["begin", "undo"]] if dies == "in cleanup" else []
    assert worker.log() == [*again, *once("model 1"), *twice, *once("undo")]


# -- Agents that call agents. ----------------------------------------------------------------------


@pytest.fixture
def asking(session: Session, restate_env: Restate) -> Session:
    return Session(restate_env.client, "AskingAgent", session.key)


async def test_killed_while_it_waits_for_another_agent_a_turn_has_asked_it_once(
    worker: Worker, asking: Session, session: Session
) -> None:
    worker.hold("draft")
    await asking.send("go")
    await worker.until("begin", "draft")
    await worker.kill()
    worker.release("draft")
    await worker.start()
    messages = [PLAN, {"role": "assistant", "content": "draft"}]
    assert await asking.attach() == {"turn": 1, "status": "completed", "messages": messages}
    turns = (await session.turns())["turns"]
    assert [(turn["turn"], turn["status"], turn["messages"]) for turn in turns] == [
        (1, "completed", messages)
    ]
    assert worker.log() == [*once("plan"), ["begin", "draft"], *once("draft")]


@pytest.mark.parametrize("step", ["draft", "undo 2", "undo asking"])
async def test_interrupted_and_killed_a_turn_still_cleans_up_after_the_agent_that_it_asked(
    worker: Worker, asking: Session, session: Session, restate_env: Restate, step: str
) -> None:
    worker.hold("draft")
    receipt = await asking.send("go")
    await worker.until("begin", "draft")

    async def is_cancelled() -> bool:
        return any(x["cancelled"] for x in (await session.status())["live"])

    async def let_go() -> None:
        if REPLAY:  # a step in flight hears of nothing there
            await eventually(is_cancelled)
            worker.release("draft")

    if step == "draft":
        await worker.kill()
        await restate_env.cancel(receipt["task_id"])
        await worker.start()
        await let_go()
    else:
        worker.hold(step)
        await asking.cancel()
        await let_go()
        await worker.until("begin", step)
        await worker.kill()
        worker.release(step)
        await worker.start()
    assert await asking.attach() == {"turn": 1, "status": "interrupted", "messages": []}
    assert await session.attach() == {"turn": 1, "status": "interrupted", "messages": [PLAN]}
    steps = [*CLEANUP, "undo asking"]
    position = steps.index(step) if step != "draft" else 0
    again = [["begin", step]] if step != "draft" else []
    assert [entry for entry in worker.log() if entry[1] != "draft"] == [
        *once("plan", *steps[:position]),
        *again,
        *once(*steps[position:]),
    ]


# -- Idempotency. ----------------------------------------------------------------------------------


async def repeated(session: Session) -> Receipt:
    """A client that sends a message until it has the receipt, always with one key."""
    while True:
        try:
            return await session.send("go", idempotency_key="key")
        except (httpx.TransportError, TerminalError) as error:
            # A server that has just started does not know its services at once.
            starts = "make sure to register the service" in str(error)
            if isinstance(error, TerminalError) and error.status_code < 500 and not starts:
                raise
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("dies", ["worker", "server", "worker and server"])
@pytest.mark.parametrize("moment", ["message is at work", "message is answered"])
async def test_a_message_that_is_repeated_with_one_key_through_a_crash_is_one_message(
    worker: Worker, session: Session, restate_env: Restate, moment: str, dies: str
) -> None:
    worker.hold("draft")
    if moment == "message is at work":
        worker.hold("message")
    clients = [asyncio.ensure_future(repeated(session)) for _ in range(2)]
    await worker.until("begin", "draft")
    if moment == "message is at work":
        await worker.until("begin", "message")
    else:
        await asyncio.wait(clients)
    if "worker" in dies:
        await worker.kill()
    if "server" in dies:
        await restate_env.restart(kill=True)
    clients += [asyncio.ensure_future(repeated(session)) for _ in range(2)]
    if moment == "message is at work":
        worker.release("message")
    if "worker" in dies:
        await worker.start()
    receipts = await asyncio.gather(*clients)
    worker.release("draft")
    outcome = await session.attach()
    messages = [PLAN, {"role": "assistant", "content": "draft"}]
    assert outcome == {"turn": 1, "status": "completed", "messages": messages}
    (task,) = await restate_env.invocations(
        "target_service_name = 'CrashTask' AND target_handler_name = 'run_task' "
        f"AND idempotency_key LIKE '{session.key}/%'"
    )
    receipt = {
        "turn": 1,
        "message": 1,
        "task_id": task["id"],
        "status": "running",
        "interrupted": [],
    }
    assert receipts == [receipt] * 4
    assert await session.history() == [{"role": "user", "content": "go"}, *messages]
    assert len((await session.turns())["turns"]) == 1
    assert await session.send("go", idempotency_key="key") == receipt
    assert worker.log().count(["begin", "plan"]) == 1

"""The worker and the server are killed with SIGKILL in the middle of a turn, and come back."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from examples.coding_agent.scripted import Reply, Request, ScriptedModel
from examples.coding_agent.workspace import Workspace
from interruptible import Session
from interruptible.testing import Restate, restate_server
from tests.server.conftest import eventually
from tests.server.process import Process, free_port

from .conftest import mentioned
from .scripts import on, results, sh
from .test_workspace import tree
from .worker import NAME

pytestmark = pytest.mark.anyio

TOOLS = 5
COMMAND = "sleep 0.66{n}; echo {n} >>ran; wc -l <ran"


def commands(count: int) -> list[Reply]:
    said = "so I go on and do the next thing now " * 2
    return [
        Reply(said, [("run_command", {"command": COMMAND.format(n=n)})])
        for n in range(1, count + 1)
    ]


class Worker(Process):
    """The worker in a process of its own, and a conversation with it."""

    def __init__(self, restate: Restate, folder: Path, port: int, model: ScriptedModel) -> None:
        arguments = str(folder), model.base_url, restate.ingress_url
        super().__init__("tests.examples.worker", port, *arguments)
        self.restate, self.folder, self.model = restate, folder, model
        self.session = Session(restate.client, NAME, folder.name)
        self.workspace = Workspace(folder / "workspaces", folder.name)

    async def die(self) -> None:
        await self.kill()
        await self.start()

    def log(self) -> list[tuple[str, ...]]:
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    async def until(self, *event: str, times: int = 1) -> None:
        async def seen() -> bool:
            return self.log().count(event) >= times

        await eventually(seen)


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    script = on(go=commands(TOOLS), few=commands(2), ask=[sh("rm -r $TMPDIR/none; echo ok")])
    async with restate_server() as restate, ScriptedModel(script, pause=0.03) as model:
        worker = Worker(restate, tmp_path, free_port(), model)
        async with worker.running():
            await restate.register(worker.url)
            yield worker


def speaking(number: int) -> Callable[[Request], bool]:
    """Whether it is the model call of this number, and in full flow."""

    def holds(request: Request) -> bool:
        done = sum(x["role"] == "tool" for x in request.messages)
        return done == number - 1 and request.status == "in flight" and len(request.said) > 4

    return holds


def expected(outcome: Any, count: int) -> None:
    """The turn is what it would have been without the kills."""
    assert outcome["status"] == "completed"
    timeless = [
        re.sub(r"after \d+\.\d s", "after a while", str(x["content"])) for x in outcome["messages"]
    ]
    said = [
        text
        for n, reply in enumerate(commands(count), 1)
        for text in (reply.text.strip(), f"[Exit code 0 after a while.]\n{n}")
    ]
    assert [x.strip() for x in timeless] == [*said, "Done."]


def each_completed_once(worker: Worker, count: int) -> None:
    ends = Counter(event[2] for event in worker.log() if event[0] == "end")
    assert ends == {COMMAND.format(n=n): 1 for n in range(1, count + 1)}
    ran = (worker.workspace.files / "ran").read_text().split()
    assert ran == [str(n) for n in range(1, count + 1)]


async def test_the_worker_is_killed_at_ten_moments_of_one_turn(worker: Worker) -> None:
    await worker.session.send("go")
    for number in range(1, TOOLS + 1):
        await worker.model.until(speaking(number))
        await worker.die()
        command = COMMAND.format(n=number)
        await worker.until("begin", "run_command", command)
        await worker.kill()
        await eventually(lambda: gone(f"0.66{number}"))  # noqa: B023
        await worker.start()
    expected(await worker.session.attach(1), TOOLS)
    each_completed_once(worker, TOOLS)
    begun = Counter(event[2] for event in worker.log() if event[0] == "begin")
    assert begun == {COMMAND.format(n=n): 2 for n in range(1, TOOLS + 1)}


async def gone(token: str) -> bool:
    """The command of a dead worker ends with it, though nobody waits for it."""
    return not mentioned(token)


async def test_the_server_is_killed_at_three_moments_of_one_turn(worker: Worker) -> None:
    await worker.session.send("few")
    await worker.model.until(speaking(1))
    await worker.restate.restart(kill=True)
    await worker.until("begin", "run_command", COMMAND.format(n=1))
    await worker.restate.restart(kill=True)
    await worker.model.until(speaking(2))
    await worker.restate.restart(kill=True)
    expected(await worker.session.attach(1), 2)
    each_completed_once(worker, 2)


async def test_the_worker_is_killed_while_it_restores_and_the_tree_is_right_all_the_same(
    worker: Worker,
) -> None:
    worker.workspace.files.mkdir(parents=True)
    (worker.workspace.files / "there").write_text("before")
    before = tree(worker.workspace.files)
    await worker.session.send("few")
    await worker.model.until(speaking(2))
    (worker.folder / "hold").touch()
    await worker.session.send("what now", policy="rollback")
    await worker.until("checked out")
    await worker.kill()
    (worker.folder / "hold").unlink()
    assert tree(worker.workspace.files) != before
    await worker.start()
    assert (await worker.session.attach(2))["status"] == "completed"
    assert tree(worker.workspace.files) == before
    assert worker.log().count(("checked out",)) >= 2


async def test_a_wait_for_a_yes_outlives_the_worker(worker: Worker) -> None:
    await worker.session.send("ask")

    async def asked() -> Any:
        return (await worker.session.status())["waiting_for"]

    (waiting,) = await eventually(asked)
    await worker.die()
    assert await asked() == [waiting]
    await worker.session.answer(waiting["id"], True)
    outcome = await worker.session.attach(1)
    assert results(outcome["messages"])[0].startswith("[Exit code 0 ")

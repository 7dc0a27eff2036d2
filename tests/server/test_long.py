"""Conversations that are longer than what Restate allows one invocation."""

import base64
import random
import re

import pytest
from restate import Context, TerminalError

from interruptible import Agent, Session, Task
from interruptible.testing import Restate

from .conftest import Deploy, once

pytestmark = [pytest.mark.anyio, once]

MIB = 1024 * 1024


class HoarderAgent(Agent):
    """Puts out as much as a turn may, of which a quarter compresses, and tells what it was told."""

    async def run(self, ctx: Context, task: Task) -> str:
        text: str = task.input[-1]["content"]
        if text == "told?":
            return " ".join(str(turn["turn"]) for turn in task.turns)
        chance = random.Random(task.turn).randbytes(5_800_000)  # noqa: S311
        return base64.b64encode(chance).decode()


@pytest.mark.long
async def test_a_session_goes_on_when_it_has_outgrown_what_an_invocation_may_have(
    restate_env: Restate, deploy: Deploy
) -> None:
    agent = HoarderAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    for _ in range(6):
        assert (await session.ask("more"))["status"] == "completed"

    # Chance does not compress: as stored, that is 35 MB, and 32 MiB are an invocation's by default.
    outcome = await session.ask("told?")
    assert outcome["messages"][0]["content"] == "5 6"

    for refused, remedy in (
        (session.history(), "Read the conversation with get_turns"),
        (session.fork("two"), "Fork at an earlier turn"),
    ):
        with pytest.raises(TerminalError, match=f"have more than .* MiB.*{remedy}") as caught:
            await refused
        assert caught.value.status_code == 413
    turns: list[int] = []
    before: int | None = None
    while not turns or before is not None:
        page = await session.turns(before=before)
        turns = [*(turn["turn"] for turn in page["turns"]), *turns]
        before = page["before"]
    assert turns == list(range(1, 8))

    fork = await session.fork("two", turn=1)
    assert (await fork.ask("told?"))["messages"][0]["content"] == "1"
    rewound = await session.rewind(3)
    assert rewound["discarded"] == list(range(3, 8))
    assert (await session.ask("told?"))["messages"][0]["content"] == "1 2"  # what stands is near
    assert len(await session.history()) == 6


async def test_a_turn_that_puts_out_too_much_fails_and_keeps_what_it_had_put_out(
    restate_env: Restate, deploy: Deploy
) -> None:
    class FloodAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn == 2:
                return "done"
            task.append("a" * 5 * MIB)
            try:
                task.append("b" * 4 * MIB)
            except TerminalError as error:
                task.append(f"{len(task.messages)}: {error.message}")
            return "d" * 4 * MIB

    agent = FloodAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    outcome = await session.ask("first")
    assert outcome["status"] == "failed"
    assert outcome["error"].startswith("Turn 1 puts out 9437")
    kept = [m["content"] for m in outcome["messages"]]
    assert (len(kept), kept[0]) == (2, "a" * 5 * MIB)
    assert re.fullmatch("2: Turn 1 puts out 9437.* Keep what is large elsewhere.*", kept[1])
    assert (await session.ask("second"))["status"] == "completed"
    assert len(await session.history()) == 5

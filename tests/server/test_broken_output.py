"""What cannot be put out ends the turn, whatever goes wrong when it is read."""

import asyncio
from typing import Any

import pytest
from restate import Context

from interruptible import Agent, Session, Task
from interruptible.testing import Restate

from .conftest import Deploy

pytestmark = pytest.mark.anyio


class Dumps:
    """Its `model_dump` gives what it is told, or itself."""

    def __init__(self, dumped: Any = None) -> None:
        self.dumped = self if dumped is None else dumped

    def model_dump(self, **_: Any) -> Any:
        return self.dumped


class Hostile(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("cannot be read")


class Lazy:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} without a connection")


CONTAINS_ITSELF: list[Any] = []
CONTAINS_ITSELF.append(CONTAINS_ITSELF)
CITED = {"type": "text", "text": "so", "citations": ["by hand"]}


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (CONTAINS_ITSELF, "failed"),
        (Dumps(), "failed"),
        (Hostile(role="assistant", content="x"), "failed"),
        (Lazy(), "failed"),
        (Dumps({"role": "assistant", "content": [CITED]}), "completed"),
    ],
    ids=["contains itself", "dumps itself", "raises", "lazy", "odd citations"],
)
@pytest.mark.parametrize("how", ["append", "return"])
async def test_what_cannot_be_read_ends_the_turn(
    restate_env: Restate,
    deploy: Deploy,
    value: Any,
    status: str,
    how: str,
    request: pytest.FixtureRequest,
) -> None:
    class HostileAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> Any:
            if how == "return":
                return value
            task.append(value)
            return None

    agent = HostileAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, request.node.name)
    outcome = await asyncio.wait_for(session.ask("go"), 10)
    assert outcome["status"] == status, outcome

"""Tells a task by Restate's signals what else its agent's object tells it."""

from collections.abc import Awaitable
from typing import Any, TypedDict

import restate
from restate import Context
from restate.serde import JsonSerde

from interruptible import Agent, Session
from interruptible._task.signals import now_signal
from interruptible.testing import Restate

from .conftest import Deploy, eventually

JSON: Any = JsonSerde()


class Signal(TypedDict):
    task_id: str
    name: str


signals = restate.Service("Signals")


@signals.handler()
async def give(ctx: Context, signal: Signal) -> None:
    ctx.resolve_signal(signal["task_id"], signal["name"], True, serde=JSON)


async def told(env: Restate, task_id: str) -> int:
    """How many signals are in a task's journal."""
    of = f"id = '{task_id}' AND entry_type LIKE 'Notification: Signal%'"
    return len(await env.query(f"SELECT id FROM sys_journal WHERE {of}"))  # noqa: S608


class Telling:
    """What tells the tasks of a session."""

    def __init__(self, env: Restate) -> None:
        self.env = env
        self._now: dict[str, int] = {}

    async def signal(self, task_id: str, name: str) -> None:
        """Signal something, and wait until Restate has it in the task's journal."""
        signal: Signal = {"task_id": task_id, "name": name}
        await self._told(task_id, self.env.client.service_call(give, signal))

    async def stop(self, session: Session, task_id: str) -> None:
        """Have a turn stop after its step, and wait until its task's journal says so."""
        live = (await session.status())["live"]
        turn = next(x["turn"] for x in live if x["task_id"] == task_id)
        await self._told(task_id, session.cancel(turn, after_step=True))

    async def steer(self, session: Session, task_id: str, content: str) -> None:
        """Steer a message that is to be read at once, and wait for the same."""
        await self._told(task_id, session.send(content, policy="steer", now=True))

    async def now(self, task_id: str) -> None:
        """Tell it of the next message without one, as if that had been taken by then."""
        self._now[task_id] = self._now.get(task_id, 0) + 1
        await self.signal(task_id, now_signal(self._now[task_id]))

    async def _told(self, task_id: str, by: Awaitable[Any]) -> None:
        before = await told(self.env, task_id)
        await by

        async def has_come() -> bool:
            return await told(self.env, task_id) > before

        await eventually(has_come)


async def telling(env: Restate, deploy: Deploy) -> Telling:
    await deploy(signals)
    return Telling(env)


async def begun(
    env: Restate, deploy: Deploy, agent: Agent, key: str = "one"
) -> tuple[Session, Telling, str]:
    """A session whose turn has been sent, what tells its task, and the id of that."""
    await deploy(agent)
    tells = await telling(env, deploy)
    session = Session(env.client, agent, key)
    return session, tells, (await session.send("go"))["task_id"]

"""Tells a task by Restate's signals what else its agent's object tells it."""

from typing import Any, TypedDict

import restate
from restate import Context
from restate.serde import JsonSerde

from interruptible import Session
from interruptible._task.signals import STOP, now_signal
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
        before = await told(self.env, task_id)
        await self.env.client.service_call(give, {"task_id": task_id, "name": name})

        async def has_come() -> bool:
            return await told(self.env, task_id) > before

        await eventually(has_come)

    async def stop(self, task_id: str) -> None:
        await self.signal(task_id, STOP)

    async def steer(self, session: Session, task_id: str, content: str) -> None:
        """Steer a message that is to be read at once."""
        await session.send(content, policy="steer")
        await self.now(task_id)

    async def now(self, task_id: str) -> None:
        self._now[task_id] = self._now.get(task_id, 0) + 1
        await self.signal(task_id, now_signal(self._now[task_id]))


async def telling(env: Restate, deploy: Deploy) -> Telling:
    await deploy(signals)
    return Telling(env)

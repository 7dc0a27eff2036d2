"""An agent that does what its test tells it, and what the tests with it have in common."""

import asyncio
from collections.abc import Sequence
from typing import Any

from restate import Context, RunOptions, TerminalError

from interruptible import Agent, Session, Task
from interruptible.testing import Restate

from .conftest import REPLAY, Deploy, Log, eventually, is_idle

RACES = 4 if REPLAY else 12
"""How often a race is run; which way it goes is chance, and each way must be right."""


def texts(messages: Sequence[Any]) -> list[Any]:
    return [message["content"] for message in messages]


class Gated(Agent):
    """Works on each turn until it is told how to go on; notes what it sees and what it does.

    It is told to `look` (take what was steered), `wait` (until it is cancelled), `fail`, `end`, or
    what to put out.
    """

    def __init__(self, log: Log, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log
        self.asks = Log()
        """Each order that it asks for; what it was told before has been done by then."""
        self.seen: dict[int, list[Any]] = {}
        self.tasks: dict[int, str] = {}
        self._orders: dict[int, asyncio.Queue[str]] = {}
        self._held: dict[int, asyncio.Event] = {}

    def tell(self, turn: int, *orders: str) -> None:
        for order in orders:
            self._orders.setdefault(turn, asyncio.Queue()).put_nowait(order)

    def stop(self, turn: int) -> None:
        """Let go of a turn that was cancelled, where its step does not hear of that."""
        if REPLAY:
            self.tell(turn, "wait")

    def hold(self, turn: int) -> None:
        """Make the cleanup of a turn wait until it is freed."""
        self._held[turn] = asyncio.Event()

    def free(self, turn: int) -> None:
        self._held[turn].set()

    def interruption_note(self, turn: Any) -> str:
        return f"note: {turn['reason']}"

    async def run(self, ctx: Context, task: Task) -> str:
        self.seen[task.turn] = texts(task.messages)
        self.tasks[task.turn] = task.id
        await ctx.run_typed("begin", self.log.add, RunOptions(), "begin", task.turn)
        order = ""
        while order != "end":
            order = await ctx.run_typed("work", self._work, turn=task.turn)
            if order == "look":
                took = texts(await task.steering())
                await ctx.run_typed("took", self.log.add, RunOptions(), "took", task.turn, took)
            elif order == "fail":
                raise TerminalError("no luck", 418)
            elif order == "wait":
                await ctx.signal("never")
            elif order != "end":
                task.append(order)
        return f"answer {task.turn}"

    async def on_interrupted(self, ctx: Context, task: Task) -> None:
        if task.turn in self._held:
            await ctx.run_typed("clean", self._clean, turn=task.turn)

    async def _work(self, turn: int) -> str:
        await self.asks.add(turn)
        order = await self._orders.setdefault(turn, asyncio.Queue()).get()
        if order == "end":
            await self.log.add("end", turn)
        return order

    async def _clean(self, turn: int) -> None:
        await self.log.add("cleaning", turn)
        await self._held[turn].wait()
        await self.log.add("cleaned", turn)


async def open_session(env: Restate, deploy: Deploy, agent: Agent, key: str = "one") -> Session:
    await deploy(agent)
    return Session(env.client, agent, key)


async def start(session: Session, worker: Gated, said: str, **options: Any) -> Any:
    """Send a message, and wait until its turn is at work."""
    receipt = await session.send(said, **options)
    await worker.log.until("begin", receipt["turn"])
    return receipt


async def finish(session: Session, worker: Gated, *turns: int) -> None:
    """Let these turns end, and wait until nothing is live."""
    for turn in turns:
        worker.tell(turn, "end")
        assert (await session.attach(turn))["status"] == "completed"
    await eventually(lambda: is_idle(session))


async def history(session: Session) -> list[Any]:
    return texts(await session.history())


async def record(session: Session, *fields: str) -> list[tuple[Any, ...]]:
    """These fields of all turns, in order."""
    return [tuple(turn.get(x) for x in fields) for turn in (await session.turns())["turns"]]

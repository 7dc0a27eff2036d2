"""The agents of the chaos run: a message says what its turn does, word by word.

`t17 steps=2 sleep=0.1 undo=2 undo_sleep=0.5 steer delegate swallow …`: the first word is the token
that sets the message apart, the others are the turn's plan. Every step appends to a log outside
Restate. The body does so, too, whenever it is executed: that is an attempt.
"""

import asyncio
from datetime import timedelta
from typing import Any

import restate
from restate import Context, TerminalError

from interruptible import Agent, Task, cleanup
from interruptible.stream import Stream

from .gate import Gate
from .records import Appender
from .steps import Steps, Work

CLEANUP_TIMEOUT = {
    "ChaosAgent": 600.0,
    "HelperAgent": 600.0,
    "HastyAgent": 1.0,
    "QuietAgent": 600.0,
    "LastWordAgent": 600.0,
}
"""Seconds. All but one never go on without their predecessors; the hasty one often does."""
DEBOUNCE = {"QuietAgent": 0.4, "LastWordAgent": 0.4}
"""Seconds for which it has to be quiet before a turn begins."""
MERGES = ["QuietAgent"]


tool = restate.Service("ChaosTool")


@tool.handler()
async def use(ctx: Context, seconds: float) -> str:
    """A service that a turn calls."""

    async def work() -> str:
        await asyncio.sleep(seconds)
        return "used"

    return await ctx.run_typed("work", work)


class Scripted(Agent):
    """Does what its message says."""

    helper: str | None = None

    def __init__(self, log: Appender, version: str, **options: Any) -> None:
        name = type(self).__name__
        timeout = timedelta(seconds=CLEANUP_TIMEOUT[name])
        super().__init__(cleanup_timeout=timeout, **options)
        self._log, self._version = log, version

    async def run(self, ctx: Context, task: Task) -> str:
        work = Work.of(ctx, task, Steps(self._log, self._version, self.name, task))
        plan, log = work.plan, work.log
        log.start(task)
        async with cleanup(ctx) as undo:
            if plan.gate:
                gate = Gate(self._log.folder, work.token)
                undo.on_interrupt("gate", log.wait_at, gate, "gate")
                log.note("registered", "gate", "interrupt")
                await ctx.run_typed("reach", gate.reach, place="work")
            for number in range(plan.undo):
                ends = (undo.on_interrupt, undo.on_exit, undo.on_error)
                phase = ("interrupt", "exit", "error")[number % 3]
                name, fails = f"undo {number}", number == plan.undo_fail
                ends[number % 3](name, log.step, name, plan.undo_sleep, phase, fails=fails)
                log.note("registered", name, phase)
                if number == 0:
                    await work.step("prepare")
            for number in range(plan.steps):
                await work.step(f"step {number}")
                if plan.steer:
                    await log.take(task)
            await self._extras(work)
            if plan.fail:
                raise TerminalError("it fails, as planned")
        log.note("end")
        return f"answer of turn {task.turn}"

    async def _extras(self, work: Work) -> None:
        ctx, task, log, plan = work.ctx, work.task, work.log, work.plan
        if plan.ask >= 0:
            titles = ("first", "second") if plan.both else ("first",)
            await asyncio.gather(*(work.ask(title) for title in titles))
        if plan.stream:
            task.publish({"type": "half", "by": "nobody yet"})
            task.append(await work.steerable(work.speak))
        if plan.beside:

            async def branch(name: str, seconds: float) -> None:
                for part in "abc":
                    step = f"{name} {part}"
                    await ctx.run_typed(step, log.step, step=step, seconds=seconds)

            await asyncio.gather(branch("left", plan.sleep), branch("right", plan.sleep / 2))
            task.append(f"left and right of turn {task.turn}")
        if plan.retry and not work.has("flaky"):
            task.append(await ctx.run_typed("flaky", log.flaky, step="flaky", seconds=plan.sleep))
        if plan.nested:
            await ctx.service_call(use, arg=plan.sleep)
        if plan.delegate and self.helper is not None:
            words = f"sleep={plan.sleep} undo={plan.undo} undo_sleep={plan.undo_sleep}"
            asked = f"{work.token}/{task.turn} {words}"
            log.note("delegate", seen=[asked])
            outcome = await task.delegate(self.helper, f"{task.session}-helper", asked)
            log.note("delegated", step=outcome["status"], seen=[asked])
        if plan.long and not work.has("long"):
            task.append(await ctx.run_typed("long", log.step, step="long", seconds=plan.long))


class ChaosAgent(Scripted):
    helper = "HelperAgent"


class HelperAgent(Scripted):
    pass


class HastyAgent(Scripted):
    """Does not wait for long cleanups."""


class QuietAgent(Scripted):
    """The messages of a burst are one turn."""


class LastWordAgent(Scripted):
    """Only the last message of a burst is worked on."""


def app(log: Appender, version: str, ingress: str | None = None) -> Any:
    """What a worker serves; with an ingress, the agents stream what their turns do."""
    stream = None if ingress is None else Stream(ingress=ingress)
    quiet, last = (timedelta(seconds=DEBOUNCE[x]) for x in ("QuietAgent", "LastWordAgent"))
    agents = [
        ChaosAgent(log, version, max_pending=8, stream=stream),
        HelperAgent(log, version, stream=stream),
        HastyAgent(log, version, stream=stream),
        QuietAgent(log, version, debounce=quiet, stream=stream),
        LastWordAgent(log, version, debounce=last, burst="supersede", stream=stream),
    ]
    return restate.app(services=[tool, *(part for agent in agents for part in agent.services)])

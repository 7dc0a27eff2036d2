"""The agents of the chaos run: a message says what its turn does, word by word.

`t17 steps=2 sleep=0.1 undo=2 undo_sleep=0.5 steer delegate swallow …`: the first word is the token
that sets the message apart, the others are the turn's plan. Every step appends to a log outside
Restate. The body does so, too, whenever it is executed: that is an attempt.
"""

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import restate
from restate import Context, TerminalError

from interruptible import Agent, Task, cleanup
from interruptible.stream import Stream

from .gate import Gate
from .records import Appender, token

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


class Plan(NamedTuple):
    """What a turn does."""

    steps: int = 1
    sleep: float = 0.02
    undo: int = 0
    undo_sleep: float = 0.01
    undo_fail: int = -1
    """Which cleanup step fails for good."""
    steer: bool = False
    nested: bool = False
    beside: bool = False
    """Branches side by side, each of several steps."""
    delegate: bool = False
    swallow: bool = False
    stream: int = 0
    """Words of a step that says them one after the other."""
    gate: bool = False
    """A cleanup step ends when the client has its answers."""
    long: float = 0.0
    """Seconds of one more step at the end."""
    retry: bool = False
    """A step fails at its first try."""
    fail: bool = False

    @classmethod
    def of(cls, content: str) -> "Plan":
        words = [word.partition("=") for word in content.split()[1:]]
        kinds = cls.__annotations__
        chosen = {name: kinds[name](value) if value else True for name, _, value in words}
        return cls(**chosen)


class Steps:
    """The log of one attempt."""

    def __init__(self, log: Appender, version: str, agent: str, task: Task) -> None:
        self._log = log
        self._common: dict[str, Any] = {
            "worker": WORKER,
            "agent": agent,
            "session": task.session,
            "turn": task.turn,
            "task": task.id,
            "attempt": uuid.uuid4().hex[:8],
            "version": version,
        }

    def note(self, event: str, step: str = "", phase: str = "body", **more: Any) -> None:
        self._log.add(**self._common, event=event, step=step, phase=phase, **more)

    async def step(
        self, step: str, seconds: float, phase: str = "body", *, fails: bool = False
    ) -> str:
        """Work for a while, and note how that ends."""
        self.note("begin", step, phase)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.note("aborted", step, phase)
            raise
        if fails:
            self.note("failed", step, phase)
            raise TerminalError(f"{step} fails, as planned")
        self.note("done", step, phase)
        return f"{step} of turn {self._common['turn']}"

    async def speak(
        self,
        step: str,
        words: int,
        seconds: float,
        say: Callable[[str], None],
        tell: Callable[[dict[str, Any]], None],
    ) -> str:
        """Say words, each of which tells who says it; a word is noted before it is said.

        In the middle, those who follow are told so, past the words.
        """
        self.note("begin", step)
        said = ""
        try:
            for number in range(words):
                word = f"{number}/{self._common['turn']}/{self._common['attempt']} "
                self.note("said", step, seen=[word])
                say(word)
                said += word
                if number == words // 2:
                    tell({"type": "half", "by": self._common["attempt"]})
                await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.note("aborted", step)
            raise
        self.note("done", step)
        return said

    async def wait_at(self, gate: Gate, step: str) -> None:
        """A cleanup step that waits for the client."""
        self.note("begin", step, "interrupt")
        gate.reach("cleanup")
        try:
            await gate.until("open")
        except asyncio.CancelledError:
            self.note("aborted", step, "interrupt")
            raise
        self.note("done", step, "interrupt")

    async def flaky(self, step: str, seconds: float) -> str:
        """A step that fails at its first try in a process; Restate tries again."""
        if (tried := (self._common["task"], step)) not in TRIED:
            TRIED.add(tried)
            raise RuntimeError(f"{step} is to be tried again")
        return await self.step(step, seconds)


TRIED: set[tuple[str, str]] = set()
WORKER = 0
"""The process; set by the worker."""

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
        plan = Plan.of(task.input[-1]["content"])
        log = Steps(self._log, self._version, self.name, task)
        log.note("start", seen=[str(message["content"]) for message in task.messages])
        async with cleanup(ctx) as undo:
            if plan.gate:
                gate = Gate(self._log.folder, token(task.input[-1]["content"]))
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
                    await self._step(ctx, task, log, plan, "prepare")
            for number in range(plan.steps):
                await self._step(ctx, task, log, plan, f"step {number}")
                if plan.steer:
                    taken = await task.steering()
                    log.note("took", seen=[str(message["content"]) for message in taken])
            await self._extras(ctx, task, log, plan)
            if plan.fail:
                raise TerminalError("it fails, as planned")
        log.note("end")
        return f"answer of turn {task.turn}"

    async def _step(self, ctx: Context, task: Task, log: Steps, plan: Plan, name: str) -> None:
        try:
            task.append(await ctx.run_typed(name, log.step, step=name, seconds=plan.sleep))
        except Exception:
            if not plan.swallow:
                raise

    async def _extras(self, ctx: Context, task: Task, log: Steps, plan: Plan) -> None:
        if plan.stream:
            task.publish({"type": "half", "by": "nobody yet"})
            task.append(
                await ctx.run_typed(
                    "stream",
                    log.speak,
                    step="stream",
                    words=plan.stream,
                    seconds=(0.2 + plan.sleep) / plan.stream,
                    say=task.partial,
                    tell=task.publish,
                )
            )
        if plan.beside:

            async def branch(name: str, seconds: float) -> None:
                for part in "abc":
                    step = f"{name} {part}"
                    await ctx.run_typed(step, log.step, step=step, seconds=seconds)

            await asyncio.gather(branch("left", plan.sleep), branch("right", plan.sleep / 2))
            task.append(f"left and right of turn {task.turn}")
        if plan.retry:
            task.append(await ctx.run_typed("flaky", log.flaky, step="flaky", seconds=plan.sleep))
        if plan.nested:
            await ctx.service_call(use, arg=plan.sleep)
        if plan.delegate and self.helper is not None:
            words = f"sleep={plan.sleep} undo={plan.undo} undo_sleep={plan.undo_sleep}"
            asked = f"{token(task.input[-1]['content'])}/{task.turn} {words}"
            log.note("delegate", seen=[asked])
            outcome = await task.delegate(self.helper, f"{task.session}-helper", asked)
            log.note("delegated", step=outcome["status"], seen=[asked])
        if plan.long:
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

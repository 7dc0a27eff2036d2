"""The agents of the chaos run: a message says what its turn does, word by word.

`t17 steps=2 sleep=0.1 undo=2 undo_sleep=0.5 steer delegate swallow …`: the first word is the token
that sets the message apart, the others are the turn's plan. Every step appends to a log outside
Restate. The body does so, too, whenever it is executed: that is an attempt.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import restate
from restate import Context, TerminalError

from interruptible import Agent, Steered, Task, cleanup
from interruptible.stream import Stream

from .gate import Gate
from .records import Appender, token

T = TypeVar("T")
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
    now: bool = False
    """Its steps are steerable: a message that is to be read at once ends them."""
    ask: float = -1.0
    """Seconds that it waits for an approval; 0 for as long as it takes, less for none."""
    both: bool = False
    """It asks for two approvals side by side."""

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

    def start(self, task: Task) -> None:
        """Note what the turn begins with."""
        self.note(
            "start",
            seen=[str(message["content"]) for message in task.messages],
            keys=sorted({key for message in task.messages for key in message}),
            noted=[dict(x) for x in task.input_metadata],
        )

    async def take(self, task: Task) -> None:
        """Take what was steered."""
        taken = await task.steering()
        keys = sorted({key for message in taken for key in message})
        self.note("took", seen=[str(message["content"]) for message in taken], keys=keys)

    async def step(
        self,
        step: str,
        seconds: float,
        phase: str = "body",
        *,
        fails: bool = False,
        steerable: bool = False,
    ) -> str:
        """Work for a while, and note how that ends."""
        self.note("begin", step, phase, steerable=steerable)
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
        *,
        steerable: bool,
    ) -> str:
        """Say words, each of which tells who says it; a word is noted before it is said.

        In the middle, those who follow are told so, past the words. Begun again in the same
        attempt, as it was cut off by a message, it is a step of its own.
        """
        self.note("begin", step, steerable=steerable)
        by = self._common["attempt"] + step.removeprefix("stream")
        said = ""
        try:
            for number in range(words):
                word = f"{number}/{self._common['turn']}/{by} "
                self.note("said", step, seen=[word])
                say(word)
                said += word
                if number == words // 2:
                    tell({"type": "half", "by": by})
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


class Work:
    """What a turn works on, and with."""

    def __init__(self, ctx: Context, task: Task, log: Steps, said: str, chain: set[int]) -> None:
        self.ctx, self.task, self.log = ctx, task, log
        self.token, self.plan = token(said), Plan.of(said)
        self._chain = chain
        self._known = {str(message["content"]) for message in task.messages} if chain else set()

    @classmethod
    def of(cls, ctx: Context, task: Task, log: Steps) -> "Work":
        """That of the last message; a turn that goes on with another one has the plan of that."""
        turns = {turn["turn"]: turn for turn in task.turns}
        said, number, chain = task.input, task.resumes, set[int]()
        while number in turns:
            chain.add(number)
            said, number = turns[number]["input"], turns[number].get("resumes")
        return cls(ctx, task, log, str(said[-1]["content"]) if said else "nothing", chain)

    def has(self, step: str) -> bool:
        """Whether the conversation has the result of a step that this turn would do again."""
        return any(f"{step} of turn {number}" in self._known for number in self._chain)

    async def step(self, name: str) -> None:
        """Do a step, and put out what comes of it."""
        if self.has(name):
            return

        def begin(_: str) -> Awaitable[str]:
            sleep, now = self.plan.sleep, self.plan.now
            return self.ctx.run_typed(name, self.log.step, step=name, seconds=sleep, steerable=now)

        try:
            self.task.append(await self.steerable(begin))
        except Exception:
            if not self.plan.swallow:
                raise

    async def steerable(self, begin: Callable[[str], Awaitable[T]]) -> T:
        """Await what a message may end that is to be read at once; then it is begun again."""
        if not self.plan.now:
            return await begin("")
        tried = 0
        while True:
            try:
                return await self.task.steerable(begin(f"x{tried}" if tried else ""))
            except Steered:
                tried += 1
                await self.log.take(self.task)

    def speak(self, again: str) -> Awaitable[str]:
        """Say words."""
        plan = self.plan
        return self.ctx.run_typed(
            "stream",
            self.log.speak,
            step=f"stream{again}",
            words=plan.stream,
            seconds=(0.2 + plan.sleep) / plan.stream,
            say=self.task.partial,
            tell=self.task.publish,
            steerable=plan.now,
        )

    async def ask(self, title: str) -> None:
        """Ask for an approval."""
        self.log.note("asks", title)
        timeout = timedelta(seconds=self.plan.ask) if self.plan.ask else None
        answer = await self.task.approval(title, value={"of": self.task.turn}, timeout=timeout)
        self.log.note("answered", title, noted=[list(answer)])


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

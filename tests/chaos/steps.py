"""What a turn of the chaos run does: its plan, the steps that it takes, and the log of them."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from restate import Context, TerminalError

from interruptible import Steered, Task

from .gate import Gate
from .records import Appender, token

T = TypeVar("T")


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

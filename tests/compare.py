"""What the hand-written pattern does, and what the library does: `python -m tests.compare`.

Each fault of the hand-written pattern is one scenario, which provokes it. It is played against both
implementations, on a real restate-server. The table that is printed says what was seen in this run:
nothing in it is known beforehand. `--json` prints the same as JSON. It exits with 1 if the library
shows a fault.
"""

import asyncio
import json
import logging
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from typing import Any, ClassVar, Final, NamedTuple

import httpx
import restate
from restate import Context, ObjectContext, TerminalError

from interruptible import Agent, Task, cleanup, handler
from interruptible.testing import AdminError, Restate, harness

from .reference import CANCELLED, FAILED, Append, Cleanup, Message, reference

TIMEOUT: Final = 100.0
"""Seconds that one scenario may take; the longest takes about 35, on a busy machine more."""


class Finding(NamedTuple):
    """What was seen, and whether it is the fault."""

    fact: str
    fault_present: bool


class ByHand:
    """A scenario's services as written by hand."""

    label = "written by hand"

    def __init__(self, scenario: "Scenario") -> None:
        name = f"{type(scenario).__name__}ByHand"
        self.object, self.task = reference(name, scenario.work, scenario.cleanup())

        @self.object.handler()
        async def unlock(ctx: ObjectContext) -> None:
            del ctx

    async def is_running(self, scenario: "Scenario") -> bool:
        """Whether the session takes a task for running: all it has to go by is the stored id."""
        sql = (
            f"SELECT key FROM state WHERE service_name = '{self.object.name}' "  # noqa: S608
            "AND key = 'current_task_id'"
        )
        return bool(await scenario.restate.query(sql))

    async def recorded(self, scenario: "Scenario") -> str:
        """How the session has recorded the end of its last task."""
        last = (await scenario.history())[-1]["content"]
        return {CANCELLED: "interrupted", FAILED: "failed"}.get(last, "completed")


class Interruptible:
    """The same on the library."""

    label = "interruptible"

    def __init__(self, scenario: "Scenario") -> None:
        class Played(Agent):
            async def run(self, ctx: Context, task: Task) -> str:
                async with cleanup(ctx) as undo:
                    for step, action in reversed(scenario.cleanup()):
                        undo.on_error(step, action)
                    return await scenario.work(ctx, task.messages, task.append)

            @handler()
            async def unlock(self, ctx: ObjectContext) -> None:
                del ctx

        self.object, self.task = Played(f"{type(scenario).__name__}Agent").services

    async def is_running(self, scenario: "Scenario") -> bool:
        """Whether the session says that it is at work."""
        return bool((await scenario.call("get_status"))["status"] == "running")

    async def recorded(self, scenario: "Scenario") -> str:
        """How the session has recorded the end of its last turn."""
        return str((await scenario.call("attach"))["status"])


class Scenario:
    """One fault, provoked in one implementation.

    By default a task makes three model calls. The second, the draft, lasts until the scenario
    lets it end.
    """

    title: ClassVar[str]
    heavy: ClassVar[bool] = False
    """Whether it puts load on the machine, and so is played when no other takes the time."""
    env: ClassVar[dict[str, str]] = {}
    restate: Restate

    def __init__(self, implementation: type[ByHand] | type[Interruptible]) -> None:
        self.events: list[tuple[str, ...]] = []
        self.at_work: list[str] = []
        """The messages that are being drafted an answer to."""
        self.side_by_side = 0
        """The most of them at a time."""
        self.seen: dict[str, list[Message]] = {}
        """The conversation that each message's task began with."""
        self.task_ids: dict[str, str] = {}
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._changed = asyncio.Event()
        self.side = implementation(self)

    async def play(self) -> Finding:
        """Provoke the fault and see what happens."""
        raise NotImplementedError

    def cleanup(self) -> Cleanup:
        """The steps that clean up a task."""
        return ()

    # -- what a task does

    async def work(self, ctx: Context, messages: list[Message], append: Append) -> str:
        """The three model calls."""
        text: str = messages[-1]["content"]
        self.seen[text] = list(messages)
        self.task_ids[text] = ctx.request().id
        append(says(await ctx.run_typed("plan", self.plan, text=text)))
        append(says(await ctx.run_typed("draft", self.draft, text=text)))
        return await ctx.run_typed("polish", self.polish, text=text)

    async def plan(self, text: str) -> str:
        return f"plan for {text}"

    async def draft(self, text: str) -> str:
        self.at_work.append(text)
        self.side_by_side = max(self.side_by_side, len(self.at_work))
        self.note("draft", text)
        try:
            await self.hold(text)
        except asyncio.CancelledError:
            self.note("draft aborted", text)
            raise
        finally:
            self.at_work.remove(text)
        self.note("draft done", text)
        return f"draft for {text}"

    async def polish(self, text: str) -> str:
        self.note("polished", text)
        return answer(text)

    async def hold(self, text: str) -> None:
        """What a draft spends its time with."""
        await self.gates[text].wait()

    # -- what happened

    def note(self, *event: str) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, *events: tuple[str, ...], times: int = 1) -> None:
        """Wait until one of the events has happened."""
        while sum(self.events.count(event) for event in events) < times:
            await self._changed.wait()

    def count(self, kind: str) -> int:
        return sum(event[0] == kind for event in self.events)

    # -- what a user does, and an operator

    async def call(self, name: str, body: Any = None) -> Any:
        """Call a handler of the session."""
        result = await self.restate.client.generic_call(
            self.side.object.name,
            name,
            b"" if body is None else json.dumps(body).encode(),
            key="session",
            headers={} if body is None else {"content-type": "application/json"},
        )
        return json.loads(result) if result else None

    async def say(self, text: str) -> None:
        """Send a message, and wait until it is accepted."""
        await self.call("message", {"content": text})

    def say_soon(self, text: str) -> "asyncio.Task[None]":
        """The same without waiting."""
        return asyncio.create_task(self.say(text))

    async def history(self) -> list[Message]:
        result: list[Message] = await self.call("get_history")
        return result

    async def invocation(self, text: str) -> dict[str, Any]:
        """What Restate knows of a message's task."""
        return (await self.restate.invocations(f"id = '{self.task_ids[text]}'"))[0]

    async def ended(self, text: str) -> str:
        """Wait for the end of a message's task; returns how Restate shows that."""
        while (row := await self.invocation(text))["status"] != "completed":
            await asyncio.sleep(0.1)
        return "completed" if row["completion_result"] == "success" else row["completion_failure"]

    async def quiet(self) -> None:
        """Wait until no invocation is left that could change anything."""
        names = f"('{self.side.object.name}', '{self.side.task.name}')"
        where = f"target_service_name IN {names} AND status <> 'completed'"
        for _ in range(3):  # for a moment a send is on its way and in neither place
            await asyncio.sleep(0.1)
            while await self.restate.invocations(where):
                await asyncio.sleep(0.1)

    async def settled(self, *tasks: "asyncio.Task[None]") -> None:
        """Let everything end."""
        await asyncio.gather(*tasks)
        await self.quiet()


class F1(Scenario):
    title = "five messages, each while the draft for the one before is made"

    async def play(self) -> Finding:
        texts = [f"message {number}" for number in range(1, 6)]
        for text in texts:
            await self.say(text)
            await self.until(("draft", text))
        lost = [text for text in self.at_work if text != texts[-1]]
        for text in reversed(self.at_work):
            self.gates[text].set()
            while says(answer(text)) not in await self.history():
                await asyncio.sleep(0.05)
        await self.quiet()
        last = (await self.history())[-1]["content"]
        newest = last == answer(texts[-1])
        return Finding(
            f"{len(lost)} of {len(texts) - 1} interruptions lost, {at_a_time(self.side_by_side)}, "
            f"the history ends with the {'newest' if newest else 'stale'} {last}",
            bool(lost) or self.side_by_side > 1 or not newest,
        )


class F2(Scenario):
    title = "while a cleanup runs: two messages; and a cleanup that calls its own object"

    HELD: Final = 8.0
    """Seconds that the cleanup goes on, unless both messages are accepted before."""
    LATE: Final = 12.0
    """Seconds that the call may take; by hand it takes what is left of the pattern's 30."""

    def cleanup(self) -> Cleanup:
        return [("clean up", self.clean_up), ("unlock", self.unlock)]

    async def clean_up(self) -> None:
        self.note("cleaning up")
        await self.gates["cleanup"].wait()

    async def unlock(self) -> None:
        if self.count("unlocking"):
            return  # one such call is enough to see what comes of it
        self.note("unlocking")
        await self.call("unlock")
        self.note("unlocked")

    async def play(self) -> Finding:
        await self.say("first")
        await self.until(("draft", "first"))
        second = self.say_soon("second")
        await self.until(("cleaning up",))
        third = self.say_soon("third")
        accepted, _ = await asyncio.wait({second, third}, timeout=self.HELD)
        self.gates["cleanup"].set()
        await self.until(("unlocking",))
        start = time.monotonic()
        await self.until(("unlocked",))
        seconds = time.monotonic() - start
        for text in ("second", "third"):
            self.gates[text].set()
        await self.settled(second, third)
        return Finding(
            f"{len(accepted)} of 2 messages accepted; the call was answered {after(seconds)}",
            accepted != {second, third} or seconds > self.LATE,
        )


class F3(Scenario):
    title = "two more cancellations during a cleanup of two steps"

    def cleanup(self) -> Cleanup:
        return [("stop process", self.stop), ("restore workspace", self.restore)]

    async def stop(self) -> None:
        self.note("stopping")
        await self.gates["cleanup"].wait()
        self.note("cleaned up", "process")

    async def restore(self) -> None:
        self.note("cleaned up", "workspace")

    async def play(self) -> Finding:
        await self.say("first")
        await self.until(("draft", "first"))
        self.gates["second"].set()
        second = self.say_soon("second")
        await self.until(("stopping",))
        for _ in range(2):
            with suppress(AdminError):  # the one before has ended it already
                await self.restate.cancel(self.task_ids["first"])
        ended = asyncio.create_task(self.ended("first"))
        await asyncio.wait({ended}, timeout=5)  # time for them to do harm
        self.gates["cleanup"].set()
        await ended
        await self.settled(second)
        done, steps = self.count("cleaned up"), len(self.cleanup())
        return Finding(f"{done} of {steps} steps ran to their end", done < steps)


class F4(Scenario):
    title = "a model call that is in flight when the cleanup begins"

    tokens = 0
    wasted = 0
    in_flight = False

    async def hold(self, text: str) -> None:
        while not self.gates[text].is_set():
            await asyncio.sleep(0.05)
            self.tokens += 1

    def cleanup(self) -> Cleanup:
        return [("clean up", self.clean_up)]

    async def clean_up(self) -> None:
        self.in_flight = "first" in self.at_work
        before = self.tokens
        await asyncio.sleep(1)
        self.wasted = self.tokens - before

    async def play(self) -> Finding:
        await self.say("first")
        await self.until(("draft", "first"))
        self.gates["second"].set()
        await self.settled(self.say_soon("second"))
        return Finding(
            f"{'still in flight' if self.in_flight else 'aborted before'}; "
            f"{self.wasted} tokens received during the cleanup",
            self.in_flight or self.wasted > 0,
        )


class F5(Scenario):
    title = "a tool runner that catches `Exception`, then two more steps"

    async def work(self, ctx: Context, messages: list[Message], append: Append) -> str:
        text = messages[-1]["content"]
        self.task_ids[text] = ctx.request().id
        try:
            append(says(await ctx.run_typed("tool", self.draft, text=text)))
        except Exception as error:  # noqa: BLE001 - that is the fault
            append(says(f"The tool failed: {error}"))
        await ctx.run_typed("later", self.later, text=text)
        return await ctx.run_typed("last", self.later, text=text)

    async def later(self, text: str) -> str:
        self.note("later step", text)
        return answer(text)

    async def play(self) -> Finding:
        await self.say("first")
        await self.until(("draft", "first"))
        self.gates["second"].set()
        await self.settled(self.say_soon("second"))
        later = self.events.count(("later step", "first"))
        status = await self.ended("first")
        return Finding(
            f"{later} of them ran; the interrupted task ended as `{status}`",
            later > 0 or status == "completed",
        )


class F6(Scenario):
    title = "a step that fails for good with status 409"

    async def plan(self, text: str) -> str:
        del text
        raise TerminalError("card declined", 409)

    async def play(self) -> Finding:
        await self.say("first")
        await self.quiet()
        recorded = await self.side.recorded(self)
        return Finding(f"recorded as {recorded}", recorded != "failed")


class F7(Scenario):
    title = "what an interrupted task had done, for the next one"

    async def play(self) -> Finding:
        await self.say("first")
        await self.until(("draft", "first"))
        self.gates["second"].set()
        await self.settled(self.say_soon("second"))
        plan = says("plan for first")
        history = await self.history()
        second = history.index({"role": "user", "content": "second"})
        known, kept = plan in self.seen["second"], plan in history[:second]
        late = [x["content"] for x in history[second + 1 :] if "second" not in x["content"]]
        return Finding(
            f"its plan is {'' if known else 'not '}known to the next task "
            f"and {'' if kept else 'not '}in the history"
            + "".join(f"; `{text}` stands after the message that interrupted it" for text in late),
            not known or not kept or bool(late),
        )


class F8(Scenario):
    title = "six messages in a burst"

    async def play(self) -> Finding:
        texts = [f"message {number}" for number in range(1, 7)]
        for text in texts:
            await self.say(text)
        await self.until(("draft", texts[-1]))
        for text in texts:
            self.gates[text].set()
        await self.quiet()
        begun, done = self.count("draft"), self.count("draft done")
        return Finding(
            f"{begun} tasks began a draft, {done} went on to the end, "
            f"{at_a_time(self.side_by_side)}",
            done > 1 or self.side_by_side > 1,
        )


class F9(Scenario):
    title = "an operator kills the task"

    async def play(self) -> Finding:
        await self.say("first")
        await self.until(("draft", "first"))
        await self.restate.kill(self.task_ids["first"])
        await self.ended("first")
        await self.quiet()  # nothing is left that could tell the session
        running = await self.side.is_running(self)
        self.gates["second"].set()
        await self.say("second")
        await self.quiet()
        answered = says(answer("second")) in await self.history()
        return Finding(
            f"the session {'still counts as running' if running else 'is idle'}; "
            f"the next message was {'' if answered else 'not '}answered",
            running or not answered,
        )


class F10(Scenario):
    heavy = True
    title = "what one `message` reads and writes, in a short and in a long conversation"

    async def work(self, ctx: Context, messages: list[Message], append: Append) -> str:
        del ctx, append
        return answer(messages[-1]["content"])

    async def play(self) -> Finding:
        short, few = await self.measure(5)
        long, many = await self.measure(195)
        return Finding(
            f"{few} bytes after {short} messages, {many} after {long}",
            many > 1.2 * few,
        )

    said = 0

    async def measure(self, turns: int) -> tuple[int, int]:
        """Hold some turns; returns the length of the history, and the bytes of one message more."""
        for _ in range(turns):
            self.said += 1
            await self.say(f"message {self.said:03}")
        await self.quiet()
        length = len(await self.history())
        await self.say("one more")
        rows = await self.restate.query(
            "SELECT sum(raw_length) AS bytes FROM sys_journal WHERE id = ("  # noqa: S608
            f"SELECT id FROM sys_invocation WHERE target_service_name = '{self.side.object.name}' "
            "AND target_handler_name = 'message' ORDER BY created_at DESC LIMIT 1)"
        )
        return length, rows[0]["bytes"]


class F11(Scenario):
    title = "someone calls the handlers that tasks report to, through the ingress"

    PUBLIC: Final = frozenset(
        {"message", "cancel", "attach", "get_history", "get_status", "unlock"}
    )

    async def play(self) -> Finding:
        await self.say("first")
        await self.until(("draft", "first"))
        forged = says("forged")
        outcome = {"turn": 1, "status": "completed", "messages": [forged]}
        body = {"content": "forged", "outcome": outcome, "turn": 1, "before": 2}
        answers: dict[str, httpx.Response] = {}
        # The ingress may hang up after a refusal, while the next request is on its way: one each.
        once = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(trust_env=False, timeout=30, limits=once) as client:
            for name in sorted(set(self.side.object.handlers) - self.PUBLIC):
                url = f"{self.restate.ingress_url}/{self.side.object.name}/session/{name}"
                answers[name] = await client.post(url, json=body)
        self.gates["first"].set()
        await self.quiet()
        in_history = forged in await self.history()
        accepted = [name for name, answer in answers.items() if answer.is_success]
        refused = [name for name, answer in answers.items() if answer.is_error]
        return Finding(
            "".join(
                f"{', '.join(f'`{name}`' for name in names)} {how}; "
                for names, how in ((accepted, "accepted"), (refused, "refused"))
                if names
            )
            + f"the forged words are {'' if in_history else 'not '}in the history",
            bool(accepted) or in_history,
        )


class F12(Scenario):
    title = "a call that is silent for longer than the server's inactivity timeout"

    env: ClassVar = {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "3s"}

    async def hold(self, text: str) -> None:
        await asyncio.sleep(12 if text == "first" else 0)

    async def play(self) -> Finding:
        await self.say("first")
        await self.until(("draft", "first"))
        await asyncio.sleep(5)  # the silence
        second = self.say_soon("second")
        start = time.monotonic()
        await self.until(("draft aborted", "first"), ("draft done", "first"))
        aborted = ("draft aborted", "first") in self.events
        seconds = time.monotonic() - start
        await self.settled(second)
        end = "was aborted" if aborted else "went on to its end"
        return Finding(f"interrupted, it {end} {after(seconds)}", not aborted)


class F13(Scenario):
    title = "a step in retry back-off that has failed six times"

    FAILURES: Final = 6
    LATE: Final = 8.0
    """Seconds to the next task that are too many: Restate's default comes to 16 or more by then,
    the library's to 2 or a little more."""

    async def plan(self, text: str) -> str:
        self.note("plan", text)
        if text == "first":
            raise ConnectionError
        return f"plan for {text}"

    async def play(self) -> Finding:
        self.gates["second"].set()
        await self.say("first")
        await self.until(("plan", "first"), times=self.FAILURES)
        while (await self.invocation("first"))["status"] != "backing-off":
            await asyncio.sleep(0.05)
        second = self.say_soon("second")
        start = time.monotonic()
        await self.until(("plan", "second"))
        seconds = time.monotonic() - start
        await self.settled(second)
        return Finding(f"the next task began {after(seconds)}", seconds > self.LATE)


FAULTS: Final[list[type[Scenario]]] = [F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12, F13]
Findings = dict[str, dict[str, Finding]]


def says(text: str) -> Message:
    return {"role": "assistant", "content": text}


def answer(text: str) -> str:
    return f"answer to {text}"


def at_a_time(tasks: int) -> str:
    return "1 task at a time" if tasks == 1 else f"{tasks} tasks side by side"


def after(seconds: float) -> str:
    """A time, as coarsely as it may be taken."""
    return "at once" if seconds < 1 else f"after {seconds:.0f} s"


async def compare() -> Findings:
    """Play every scenario against both implementations, side by side."""
    scenarios = [fault(side) for fault in FAULTS for side in (ByHand, Interruptible)]
    async with AsyncExitStack() as stack:
        for env in ({}, F12.env):
            there = [scenario for scenario in scenarios if scenario.env == env]
            services = [s for each in there for s in (each.side.object, each.side.task)]
            running = await stack.enter_async_context(
                harness(restate.app(services=services), env=env, fail_on_retries=None)
            )
            for scenario in there:
                scenario.restate = running
        findings: Findings = {fault.__name__: {} for fault in FAULTS}
        for heavy in (False, True):
            await asyncio.gather(*(find(x, findings) for x in scenarios if x.heavy is heavy))
    return findings


async def find(scenario: Scenario, findings: Findings) -> None:
    """Play a scenario, and add what was seen.

    One that breaks off has shown nothing of the pattern written by hand, and nothing good of the
    library.
    """
    name, label, start = type(scenario).__name__, scenario.side.label, time.monotonic()
    try:
        finding = await asyncio.wait_for(scenario.play(), TIMEOUT)
    except Exception as error:  # noqa: BLE001 - the other findings are worth having
        progress(f"{name} {label}: broke off after {scenario.events}: {error!r}")
        reason = f"`{type(error).__name__}` broke it off"
        finding = Finding(reason, isinstance(scenario.side, Interruptible))
    progress(f"{time.monotonic() - start:5.1f} s  {name:<3} {label:<15}  {finding.fact}")
    findings[name][label] = finding


def table(findings: Findings) -> str:
    """The findings as a table in Markdown."""
    sides = (ByHand.label, Interruptible.label)
    rows = [["fault", *sides], ["---"] * 3]
    for fault in FAULTS:
        name = fault.__name__
        rows.append([f"{name}: {fault.title}", *(findings[name][side].fact for side in sides)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def progress(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> int:
    # Faults are provoked here; what is logged about them is no news.
    logging.disable(logging.CRITICAL)
    progress(f"compare: {len(FAULTS)} scenarios, each by hand and on the library, on a real server")
    findings = asyncio.run(compare())
    if "--json" in sys.argv[1:]:
        printed = json.dumps(
            {
                name: {side: finding._asdict() for side, finding in sides.items()}
                for name, sides in findings.items()
            }
        )
    else:
        printed = table(findings)
    sys.stdout.write(f"{printed}\n")
    shown = [name for name, sides in findings.items() if sides[Interruptible.label].fault_present]
    if shown:
        progress(f"compare: the library shows {', '.join(shown)}")
    return 1 if shown else 0


if __name__ == "__main__":
    sys.exit(main())

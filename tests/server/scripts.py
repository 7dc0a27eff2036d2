"""Plays a script of commands on a real session, and compares what is seen with the model's answer.

After each command it waits until all that the model says has happened: by events of the agent, and
by attaching to turns that are over. Never by time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from restate import TerminalError

from interruptible import Agent, Session, cleanup

from .conftest import REPLAY
from .session_model import (
    AT_WORK,
    CLEANING,
    OVER,
    Attach,
    Cancel,
    Clean,
    Command,
    Do,
    Fork,
    Kill,
    Model,
    Refused,
    Regenerate,
    Reset,
    Rewind,
    Say,
    Stop,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from restate import Context

    from interruptible import Task
    from interruptible.testing import Restate

PATIENCE = 30
"""Seconds that something may take which has to happen."""


class Stage:
    """What the steps of one session's tasks do, and are told."""

    def __init__(self) -> None:
        self.orders: defaultdict[int, list[str]] = defaultdict(list)
        self.stopped: set[int] = set()
        """The turns whose steps end by themselves, as they cannot be cut off."""
        self.at: dict[int, tuple[int, list[str]]] = {}
        """The order that a turn waits for, and the conversation as it sees it."""
        self.begun: list[int] = []
        self.cleaning: list[int] = []
        self.cleaned: list[int] = []
        self.causes: dict[int, str] = {}
        self.let_go: set[int] = set()
        """The turns whose slow cleanup may end."""
        self.killed: set[int] = set()
        self.in_flight: set[int] = set()
        self.faults: list[str] = []
        self._changed = asyncio.Condition()

    def tell(self, turn: int, order: str) -> None:
        self.orders[turn].append(order)
        self.change()

    def change(self) -> None:
        asyncio.ensure_future(self._notify())  # noqa: RUF006

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, check: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(check)

    async def order(self, turn: int, number: int, given: list[str]) -> str:
        """The step of a turn that is at work: wait for an order."""
        others = {*self.in_flight, *self.cleaning} - {*self.cleaned, *self.killed, turn}
        if others:
            self.faults.append(f"turn {turn} is at work while {sorted(others)} still is")
        if number == 0 and turn not in self.begun:
            self.begun.append(turn)
        self.at[turn] = number, given
        self.in_flight.add(turn)
        self.change()
        try:
            await self.until(lambda: turn in self.stopped or len(self.orders[turn]) > number)
        finally:
            self.in_flight.discard(turn)
        return self.orders[turn][number] if len(self.orders[turn]) > number else "stop"

    async def undo(self, turn: int, slow: bool) -> None:
        """The step of a turn that cleans up."""
        if turn in self.in_flight:
            self.faults.append(f"turn {turn} cleans up while its step is in flight")
        self.cleaning.append(turn)
        self.change()
        if slow:
            await self.until(lambda: turn in self.let_go)
        self.cleaned.append(turn)


class Scripted(Agent):
    """Works on a turn as it is told, order by order."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.stages: dict[str, Stage] = {}

    def stage(self, session: str) -> Stage:
        return self.stages.setdefault(session, Stage())

    async def run(self, ctx: Context, task: Task) -> str:
        stage, turn = self.stage(task.session), task.turn
        slow = any("slow" in x["content"] for x in task.input)
        async with cleanup(ctx) as undo:
            undo.on_interrupt("undo", stage.undo, turn, slow)
            for number in count():
                given = contents(task.messages)
                order = await ctx.run_typed(
                    f"order {number}", stage.order, turn=turn, number=number, given=given
                )
                if order == "put":
                    task.append(f"out {turn}.{number}")
                elif order == "steer":
                    await task.steering()
                elif order == "fail":
                    raise TerminalError("it failed")
                elif order == "409":
                    await ctx.run_typed("conflict", conflict)
                elif order == "end":
                    break
        return f"answer {turn}"

    async def on_interrupted(self, ctx: Context, task: Task) -> None:
        cause = await task.cause()
        by = f" by turn {cause.turn}" if cause.turn is not None else ""
        because = f": {cause.reason}" if cause.reason is not None else ""
        self.stage(task.session).causes[task.turn] = f"{cause.kind}{by}{because}"

    def interruption_note(self, turn: Any) -> str:
        return f"note: {turn['reason']}"


async def conflict() -> None:
    raise TerminalError("conflict", 409)


def contents(messages: Sequence[Any]) -> list[Any]:
    return [message["content"] for message in messages]


class Mismatch(AssertionError):
    """Something is other than the model says."""


def same(what: str, actual: Any, expected: Any) -> None:
    if actual != expected:
        raise Mismatch(f"{what}\n    is     {actual}\n    not    {expected}")


@dataclass
class Place:
    """A session, and the model of it."""

    session: Session
    model: Model
    stage: Stage
    forked: int = 0
    """Turns up to this one are from another session."""
    tasks: dict[int, str] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)
    attached: list[tuple[int, asyncio.Task[Any]]] = field(default_factory=list)


class Play:
    """One script on sessions of its own."""

    def __init__(self, restate: Restate, agent: Scripted, key: str) -> None:
        self.restate, self.agent, self.key = restate, agent, key
        self.places = [self._place(key, Model(agent.keep_queued, agent.max_pending))]
        self.here = self.places[0]
        self.number = 0

    async def run(self, script: Sequence[Command]) -> None:
        """Play it, and then all turns to their end.

        Raises:
            Mismatch: Something is other than the model says.
        """
        try:
            for command in script:
                self.number += 1
                await self._play(command)
            for place in self.places:
                self.here = place
                while self.here.model.live:
                    self.number += 1
                    await self._play(Do("end") if self.here.model.busy else Clean())
                async with self._patient("At the end"):
                    await self._come_to_rest()
                    await self._check_all()
        finally:
            for place in self.places:
                for _, attached in place.attached:
                    attached.cancel()

    async def _play(self, command: Command) -> None:
        async with self._patient(f"After command {self.number}, {command}"):
            done = await self._carry_out(command)
            if done is None:
                return
            same("the answer", *done)
            await self._come_to_rest()
            await self._check()

    @asynccontextmanager
    async def _patient(self, when: str) -> AsyncGenerator[None, None]:
        """Wait for what has to happen, but not for ever; whatever is wrong is a `Mismatch`."""
        try:
            async with asyncio_timeout(PATIENCE):
                yield
        except Exception as error:
            late = isinstance(error, TimeoutError | asyncio.TimeoutError)
            what = self._overdue() if late else str(error) or repr(error)
            raise Mismatch(f"{when}: {what}") from error

    async def _carry_out(self, command: Command) -> tuple[Any, Any] | None:
        """The answer, and what the model says of it; `None` if there is nothing to compare."""
        session, model = self.here.session, self.here.model
        expected: Any
        match command:
            case Say(policy, slow, if_idle, if_back):
                text = f"m{self.number} slow" if slow else f"m{self.number}"
                if_turn = None if if_idle else self._turn(if_back)
                expected = model.say(text, policy, if_turn, if_idle=if_idle)
                sent = session.send(text, policy=policy, if_turn=if_turn, if_idle=if_idle)  # type: ignore[arg-type]
                actual = await self._receipt(sent)
            case Regenerate(back):
                expected = model.regenerate(turn := self._turn(back))
                actual = await self._receipt(session.regenerate(turn))
            case Cancel(back, reason):
                expected = model.cancel(turn := self._turn(back), reason)
                actual = await answer(session.cancel(turn, reason=reason))
            case Rewind(back, reason):
                expected = model.rewind(first := model.last - back, reason)
                actual = await answer(session.rewind(first, reason=reason))
            case Reset(reason):
                expected = model.reset(reason)
                actual = await answer(session.reset(reason=reason))
            case Fork(back, move):
                actual, expected = await self._fork(self._turn(back), move)
            case Attach(back):
                return await self._attach(self._turn(back))
            case _:
                return (None, None) if await self._act(command) else None
        return actual, expected

    async def _act(self, command: Command) -> bool:
        """Do what nobody answers, if there is something to do it to."""
        here, model, stage = self.here, self.here.model, self.here.stage
        match command:
            case Do(what) if model.busy is not None:
                stage.tell(model.busy.number, what)
                model.do(what)
            case Clean() if any(x.phase == CLEANING for x in model.turns):
                stage.let_go |= {x.number for x in model.turns if x.phase == CLEANING}
                stage.change()
                model.clean()
            case Kill(place) if model.live:
                turn = model.live[place % len(model.live)]
                stage.killed.add(turn.number)
                await self.restate.kill(here.tasks[turn.number])
                model.kill(turn)
            case Stop(place) if model.live:
                turn = model.live[place % len(model.live)]
                await self.restate.cancel(here.tasks[turn.number])
                model.stop(turn)
            case _:
                return False
        return True

    async def _attach(self, turn: int | None) -> tuple[Any, Any] | None:
        here, model = self.here, self.here.model
        number = model.last if turn is None else turn
        found = model.find(number)
        if found is None or not found.live:
            return told(await answer(here.session.attach(turn))), model.outcome(number)
        # By its number: nobody can tell when a wait has begun, and which turn is newest then.
        wait = asyncio.ensure_future(answer(here.session.attach(number)))
        here.attached.append((number, wait))
        return None

    async def _fork(self, turn: int | None, move: bool) -> tuple[Any, Any]:
        key = f"{self.key}/{len(self.places)}"
        expected = self.here.model.fork(turn)
        forked = await answer(self.here.session.fork(key, turn))
        if not isinstance(forked, Session) or isinstance(expected, Refused):
            return forked, expected
        number, model = expected
        place = self._place(key, model)
        place.forked = number
        place.over = {x.number for x in model.turns}
        place.tasks = {x: task for x, task in self.here.tasks.items() if x <= number}
        self.places.append(place)
        here, self.here = self.here, place
        await self._check()
        self.here = place if move else here
        return await answer(self.here.session.fork(place.session.key, None)), self._again(place)

    def _again(self, place: Place) -> Refused:
        """A session is not forked to itself, nor to where there is one already."""
        return Refused(400 if self.here is place else 412)

    async def _receipt(self, sent: Awaitable[Any]) -> Any:
        receipt = await answer(sent)
        if isinstance(receipt, Refused):
            return receipt
        task_id = self.here.tasks.setdefault(receipt["turn"], receipt["task_id"])
        same("the receipt's task", receipt["task_id"], task_id)
        return {**receipt, "task_id": ""}

    def _turn(self, back: int | None) -> int | None:
        return None if back is None else self.here.model.last - back

    def _place(self, key: str, model: Model) -> Place:
        return Place(Session(self.restate.client, self.agent, key), model, self.agent.stage(key))

    async def _come_to_rest(self) -> None:
        """Wait until all has happened that the model says."""
        here, model, stage = self.here, self.here.model, self.here.stage
        for turn in model.turns:
            if REPLAY and turn.phase in (CLEANING, OVER):
                stage.stopped.add(turn.number)
                stage.change()
        over = {x.number for x in model.turns if not x.live}
        ended = sorted(over - here.over)
        here.over |= over
        outcomes = await asyncio.gather(*(here.session.attach(turn) for turn in ended))
        for number, outcome in zip(ended, outcomes, strict=True):
            same(f"the outcome of turn {number}", told(outcome), model.outcome(number))
        for turn in model.turns:
            if turn.phase == AT_WORK:
                await stage.until(
                    lambda turn=turn: stage.at.get(turn.number, [-1])[0] >= turn.orders
                )
                at = stage.at[turn.number]
                same(f"what turn {turn.number} sees", at, (turn.orders, turn.given))
            if turn.phase == CLEANING:
                await stage.until(lambda turn=turn: turn.number in stage.cleaning)
        for number, wait in [x for x in here.attached if x[0] in over]:
            same(f"what attach says of {number}", told(await wait), model.outcome(number))
            here.attached.remove((number, wait))

    def _overdue(self) -> str:
        phases = [f"{x.number} is {x.phase}" for x in self.here.model.turns if not x.removed]
        stage = self.here.stage
        events = f"begun {stage.begun}, at {stage.at}, cleaning {stage.cleaning}"
        return f"this has not come to be: {', '.join(phases)}; it is: {events}"

    async def _check(self) -> None:
        """Compare all that can be asked."""
        here, model, session = self.here, self.here.model, self.here.session
        status, turns, history = await asyncio.gather(
            session.status(), session.turns(), session.history()
        )
        live = [(x["turn"], x["cancelled"]) for x in status["live"]]
        seen = {name: status[name] for name in ("status", "turn", "steered")}
        same("the status", {**seen, "live": live}, model.status)
        same("the record", [recorded(turn) for turn in turns["turns"]], model.records)
        same("the history", contents(history), model.history)
        for x in (*status["live"], *turns["turns"]):
            task_id = here.tasks.setdefault(x["turn"], x["task_id"] or "")
            same(f"the task of turn {x['turn']}", x["task_id"], task_id)
        self._check_stage()

    def _check_stage(self) -> None:
        stage = self.here.stage
        new = [x for x in self.here.model.turns if x.number > self.here.forked]
        same("what is wrong with the order of things", stage.faults, [])
        same("the turns that began", stage.begun, [x.number for x in new if x.given])
        cleaned = {x.number: x.reason for x in new if x.cleaned}
        same("the turns that have cleaned up", stage.cleaned, sorted(cleaned))
        same("why, as they learnt it", stage.causes, cleaned)

    async def _check_all(self) -> None:
        """Compare what can only be known at the end."""
        here = self.here
        numbers = {*range(here.model.last + 2)} - here.over
        outcomes = await asyncio.gather(*(answer(here.session.attach(n)) for n in numbers))
        expected = [here.model.outcome(n) for n in numbers]
        same("all outcomes", [told(x) for x in outcomes], expected)
        same("the answers still under way", here.attached, [])
        self._check_stage()


async def answer(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except TerminalError as error:
        return Refused(error.status_code)


def told(outcome: Any) -> Any:
    if isinstance(outcome, Refused):
        return outcome
    return {**outcome, "messages": contents(outcome["messages"])}


def recorded(turn: Any) -> dict[str, Any]:
    """A turn's record in the model's form."""
    lists = {name: contents(turn[name]) for name in ("input", "messages")}
    rest = {name: turn.get(name) for name in ("turn", "status", "reason", "error", "never_began")}
    steered, discarded = turn.get("steered", []), turn.get("discarded", False)
    return {**rest, **lists, "steered": steered, "discarded": discarded}


class asyncio_timeout:  # noqa: N801
    """`asyncio.timeout`, which Python 3.10 does not have."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task, self.late = task, False
        self.timer = asyncio.get_running_loop().call_later(self.seconds, self._expire)

    def _expire(self) -> None:
        self.late = self.task.cancel()

    async def __aexit__(self, *_: object) -> None:
        self.timer.cancel()
        if self.late:
            raise TimeoutError

"""Plays waves of commands that are sent at once, and checks what must hold in whatever order.

Nobody waits for anything but the answers of a wave. What is checked are the invariants I1 to I9 of
the design, from what clients were answered, what steps did, and what the session has on record.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from interruptible import Agent, Session, cleanup
from interruptible.testing import AdminError

from .conftest import eventually
from .scripts import Mismatch, answer, asyncio_timeout, contents, same
from .session_model import Attach, Cancel, Command, Kill, Refused, Regenerate, Rewind, Say, Stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restate import Context

    from interruptible import Task
    from interruptible.testing import Restate

PATIENCE = 60
"""Seconds that a script may take."""


class Hall:
    """What the steps of one session's tasks did, in order."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, str]] = []
        self.given: dict[int, list[str]] = {}
        self.in_flight: Counter[int] = Counter()
        self.faults: list[str] = []

    async def step(self, turn: int, name: str, given: list[str] | None = None) -> None:
        if given is not None:
            self.given[turn] = given
        if name == "undo" and self.in_flight[turn]:
            self.faults.append(f"turn {turn} cleans up while its step is in flight")
        self.steps.append((turn, name))
        self.in_flight[turn] += 1
        try:
            await asyncio.sleep(0.01)  # it is at work: nobody waits for this
        finally:
            self.in_flight[turn] -= 1
        self.steps.append((turn, f"{name} done"))

    def did(self, name: str) -> list[int]:
        return [turn for turn, step in self.steps if step == name]


class Busy(Agent):
    """Works a little, takes what was steered, works a little more."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.halls: dict[str, Hall] = {}

    async def run(self, ctx: Context, task: Task) -> str:
        hall, turn = self.halls[task.session], task.turn
        async with cleanup(ctx) as undo:
            undo.on_interrupt("undo", hall.step, turn, "undo")
            given = contents(task.messages)
            await ctx.run_typed("think", hall.step, turn=turn, name="think", given=given)
            await task.steering()
            await ctx.run_typed("write", hall.step, turn=turn, name="write")
        return f"answer {turn}"

    def interruption_note(self, turn: Any) -> str:
        return f"note: {turn['reason']}"


class Burst:
    """One script on a session of its own: waves of commands."""

    def __init__(self, restate: Restate, agent: Busy, key: str) -> None:
        self.restate = restate
        self.session = Session(restate.client, agent, key)
        self.hall = agent.halls.setdefault(key, Hall())
        self.accepted: list[tuple[int, str, Any]] = []
        """The wave, the text and the receipt of each message."""
        self.refused: list[str] = []
        self.tasks: dict[int, str] = {}
        self.cancelled: list[int] = []
        """The turns that an answer says it cancelled."""
        self.discarded: list[int] = []
        self.killed: set[int] = set()
        self.stopped: set[int] = set()
        self.regenerated = False

    async def run(self, script: Sequence[tuple[Command, ...]]) -> None:
        """Play it, send one more message, and check what has come of it all.

        Raises:
            Mismatch: Something does not hold.
        """
        try:
            async with asyncio_timeout(PATIENCE):
                for number, wave in enumerate(script):
                    # No interrupt is last: what waits is to be worked off by itself.
                    last = (Say("queue"),) if number == len(script) - 1 else ()
                    await asyncio.gather(
                        *(self._send(number, n, command) for n, command in enumerate(wave))
                    )
                    await asyncio.gather(*(self._send(number, len(wave), x) for x in last))
                await self._check()
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise Mismatch(f"It is not over; the steps are {self.hall.steps}") from error

    async def _send(self, wave: int, place: int, command: Command) -> None:
        session = self.session
        newest = max(self.tasks, default=1)
        match command:
            case Say(policy, _, if_idle, _):
                text = f"m{wave}.{place}"
                sent = await answer(session.send(text, policy=policy, if_idle=if_idle))  # type: ignore[arg-type]
                if isinstance(sent, Refused):
                    self.refused.append(text)
                else:
                    self.accepted.append((wave, text, sent))
                    self._learn(sent)
                    if policy == "rollback":
                        self.discarded += sent["interrupted"]
            case Cancel(back, reason):
                turn = None if back is None else max(newest - back, 1)
                cancelled = await answer(session.cancel(turn, reason=reason))
                self.cancelled += [] if isinstance(cancelled, Refused) else cancelled
            case Rewind(back, reason):
                rewound = await answer(session.rewind(max(newest - back, 1), reason=reason))
                if not isinstance(rewound, Refused):
                    self.cancelled += rewound["cancelled"]
                    self.discarded += rewound["discarded"]
            case Regenerate():
                again = await answer(session.regenerate())
                if not isinstance(again, Refused):
                    self.regenerated = True
                    self._learn(again)
                    self.discarded += again["discarded"]
            case Attach(_):
                await answer(session.attach())
            case Kill(place) | Stop(place) if place < len(self.tasks):
                turn = sorted(self.tasks, reverse=True)[place]
                kill = isinstance(command, Kill)
                (self.killed if kill else self.stopped).add(turn)
                end = self.restate.kill if kill else self.restate.cancel
                try:
                    await end(self.tasks[turn])
                except AdminError as error:  # it is over
                    same("the refusal of an operator", error.status_code in (404, 409), True)

    def _learn(self, receipt: Any) -> None:
        self.tasks[receipt["turn"]] = receipt["task_id"]
        self.cancelled += receipt["interrupted"]

    async def _check(self) -> None:
        async def idle() -> bool:
            status = await self.session.status()
            return not status["live"] and status["steered"] == 0

        await eventually(idle, PATIENCE)
        turns = (await self.session.turns())["turns"]
        outcomes = await asyncio.gather(*(self.session.attach(x["turn"]) for x in turns))
        same("the turns on record", [x["turn"] for x in turns], [*range(1, len(turns) + 1)])
        statuses = {x["turn"]: x["status"] for x in turns}
        same("the outcomes", {x["turn"]: x["status"] for x in outcomes}, statuses)
        same("the last turn", turns[-1]["status"], "completed")
        same("what is wrong with the order of things", self.hall.faults, [])
        self._check_steps(turns)
        self._check_messages(turns)
        conversation = _conversation(turns)
        same("the history", contents(await self.session.history()), conversation)
        last = turns[-1]
        given = [*_conversation(turns[:-1]), *contents(last["input"])]
        same(f"what turn {last['turn']} was given", self.hall.given[last["turn"]], given)

    def _check_steps(self, turns: Sequence[Any]) -> None:
        hall = self.hall
        order = [turn for turn, _ in hall.steps if turn not in self.killed]
        same("the turns in the order of their steps", order, sorted(order))
        twice = [step for step, times in Counter(hall.steps).items() if times > 1]
        same("what was done twice", twice, [])
        for turn in turns:
            number, status = turn["turn"], turn["status"]
            answered = f"answer {number}" in contents(turn["messages"])
            same(f"whether turn {number} has its answer", answered, status == "completed")
            ended = number in hall.did("write done")
            began, cleaned = number in hall.did("think"), number in hall.did("undo")
            if status == "completed":
                same(f"whether turn {number} ran, and cleaned up", (ended, cleaned), (True, False))
            elif status == "interrupted" and began and not ended:
                same(f"whether turn {number} cleaned up", number in hall.did("undo done"), True)
            elif status == "killed":
                same(f"whether turn {number} was killed", number in self.killed, True)
        ended = {x["turn"] for x in turns if x["status"] == "interrupted"}
        same("the turns that nobody interrupted", ended - {*self.cancelled, *self.stopped}, set())
        twice = [turn for turn, times in Counter(self.cancelled).items() if times > 1]
        same("the turns that were cancelled twice", twice, [])

    def _check_messages(self, turns: Sequence[Any]) -> None:
        where = [(x["turn"], text, steered) for x in turns for text, steered in _said(x)]
        kept = {x["turn"] for x in turns if not x.get("discarded")}
        discarded = {x["turn"] for x in turns} - kept
        same("the discarded turns", discarded, set(self.discarded))
        record = Counter(text for _, text, _ in where)
        shown = Counter(text for turn, text, _ in where if turn in kept)
        texts = {text for _, text, _ in self.accepted}
        same("the messages on record", set(record), texts)
        same("those there twice", [x for x in texts if shown[x] > 1], [])
        if self.regenerated:
            return
        same("those on record twice", [x for x in texts if record[x] > 1], [])
        place = {text: n for n, (_, text, _) in enumerate(where)}
        new = [x for x in self.accepted if x[2]["status"] in ("running", "waiting")]
        for _, text, receipt in new:
            same(f"the turn of {text}", where[place[text]][0], receipt["turn"])
        for which in (new, [x for x in self.accepted if x[2]["status"] == "steered"]):
            ordered = sorted(which, key=lambda x: place[x[1]])
            waves = [wave for wave, _, _ in ordered]
            same("the waves of the messages, as on record", waves, sorted(waves))


def _said(turn: Any) -> list[tuple[str, bool]]:
    """What the user said in a turn, and whether it was steered."""
    messages = contents(turn["messages"])
    steered = [(messages[place], True) for place in turn.get("steered", [])]
    return [*((text, False) for text in contents(turn["input"])), *steered]


def _conversation(turns: Sequence[Any]) -> list[str]:
    conversation: list[str] = []
    for turn in turns:
        if not turn.get("discarded"):
            conversation += [*contents(turn["input"]), *contents(turn["messages"])]
            if turn["status"] == "interrupted":
                conversation.append(f"note: {turn['reason']}")
    return conversation

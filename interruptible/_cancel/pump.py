"""Awaits that run side by side replay.

Restate's state machine hands out what has come one thing at a time, in the order of the journal,
but only to an await that asks. If each asks for itself, asyncio decides who goes on first, and
another attempt may decide otherwise. So all of them are parked here, and one pump asks for them:

1. It waits until the event loop is quiet: whoever got something before has come to his next await.
2. It asks for all that is parked and does not wait for others, as one; what is parked meanwhile is
   added.
3. It wakes those for whom something has come, and those who have to end.

A task is told by signals besides: to stop in order, and of messages that it is to read at once.
They are asked for in each of these polls, as nobody awaits them; so they come in the order of the
journal, too. What has to be cut off then is cut off before anybody goes on.
"""

import asyncio
from contextvars import Context, copy_context
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

from interruptible._cancel.sdk import Disconnected, Inside, any_of, handles_of, takes
from interruptible._cancel.state import AttemptState, Fate, Standing, standing
from interruptible._cancel.steered import NowMessages, Scope, may_be_steered, scope
from interruptible._cancel.steps import Steps

ROUNDS: Final = 20
"""How many rounds of a busy event loop code gets to come to its next await. On one that is not busy
it can be seen whether it is there; but uvloop does not show it."""
ROUNDS_SIDE_BY_SIDE: Final = 100
"""The same once awaits have run side by side: their code may be many asyncio tasks deep. For code
that is alone that would be a long time, in a worker with much to do."""
_looking: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, list[None]]] = WeakKeyDictionary()
"""An entry for each that waits for quiet: others need not wait for its callback."""


class Parked:
    """An await that waits for the pump."""

    def __init__(self, future: Any) -> None:
        self.future = future
        self.standing: Standing = standing.get()
        self.scope: Scope | None = scope.get()
        self.context = copy_context()
        self.ready = False
        self.woken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class Pump:
    """Asks for all awaits of one attempt."""

    def __init__(self, inside: Inside, attempt: AttemptState, steps: Steps) -> None:
        self._inside, self._attempt, self._steps = inside, attempt, steps
        self._stage: Literal["idle", "waits for quiet", "asks"] = "idle"
        self._parked: list[Parked] = []
        self._asked = any_of([])
        self._rounds = ROUNDS
        self.stop_signal: Any = None
        """What comes when a task is to stop in order, until it has."""
        self.now: NowMessages | None = None
        """Those that the task is told of, if it is a task's."""

    def listen(self, stop: Any, now: NowMessages) -> None:
        """Ask from now on for what a task is told.

        Args:
            stop: Comes when it is to stop in order.
            now: The messages that it is to read at once.
        """
        self.stop_signal, self.now = stop, now

    async def wait(self, future: Any) -> bool:
        """Wait until there is something for this await; returns whether it is what it awaits.

        It may be looked for in vain afterwards, as another branch may await the same, and take it.
        """
        parked = Parked(future)
        self._parked.append(parked)
        if len(self._parked) > 1:
            self._rounds = ROUNDS_SIDE_BY_SIDE
        await self.ask()
        try:
            return await parked.woken
        finally:
            if parked in self._parked:
                self._parked.remove(parked)

    async def ask(self) -> None:
        """Ask for all that is parked by now and is not to wait."""
        if self._stage == "asks":
            self._collect()
            await self._inside.look_again()
        elif self._stage == "idle" and self._parked:
            self._stage = "waits for quiet"
            self._inside.start(self._run())

    def stop(self, error: BaseException) -> None:
        """The attempt is over: all that is parked raises this."""
        self._attempt.finish(error)
        self._hand_out()

    def close(self) -> None:
        """The handler has ended: what it left behind ends, too."""
        self.stop(Disconnected())
        self._attempt = AttemptState()  # without the watch, or the two would be a circle
        self._attempt.finish(Disconnected())

    def context_of(self, handle: int) -> Context:
        """The context of who awaits this: the SDK begins a step in that of the pump."""
        waits = (x.context for x in self._parked if handle in handles_of(x.future))
        return next(waits, None) or copy_context()

    async def end(self) -> None:
        """Wake all that is parked within a scope that is to be left, and let it unwind."""
        self._hand_out()
        await self.quiet()

    async def _run(self) -> None:
        try:
            await self.quiet()
            while await self._collect_all():
                self._stage = "asks"
                if await self._inside.poll(self._asked):
                    self._attempt.cancel()
                await self._hear()
                self._hand_out()
                self._stage = "waits for quiet"
                await self.quiet()
        except asyncio.CancelledError:
            self.stop(Disconnected())
        except BaseException as error:  # noqa: BLE001 - each of those that are parked raises it
            self.stop(error)
        finally:
            self._stage = "idle"

    async def _collect_all(self) -> bool:
        """Note what to ask for; but end all first, if it stops and nothing goes on any more."""
        attempt = self._attempt
        fates = [self._fate(x) for x in self._open()]
        stops = attempt.state == "stopping" and not attempt.held
        if stops and fates and "goes on" not in fates:
            attempt.cancel()
            self._hand_out()
            await self.quiet()
        return self._collect()

    def _collect(self) -> bool:
        """Note what to ask for, and see to it that somebody works on it."""
        asked = [x for x in self._parked if self._fate(x) != "waits"]
        for parked in asked:
            handles = handles_of(parked.future)
            begin = [x for x in handles if self._attempt.fate(parked.standing, [x]) != "waits"]
            self._steps.rerun(begin, parked.context)
        told = [] if self.now is None else [self.now.next]
        told += [] if self.stop_signal is None else [self.stop_signal]
        self._asked.children[:] = [*(parked.future for parked in asked), *told]
        return bool(asked)

    def _fate(self, parked: Parked) -> Fate:
        fate = self._attempt.fate(parked.standing, handles_of(parked.future))
        leaves = parked.scope is not None and parked.scope.must_leave
        return "ends" if leaves and fate == "goes on" and parked.standing != "shielded" else fate

    async def _hear(self) -> None:
        """Act on what the task is told."""
        if self.stop_signal is not None and self._inside.is_ready(self.stop_signal):
            self.hear_stop()
        if self.now is not None:
            self.now.hear(self._inside.is_ready)
            if self.now.is_due and self._attempt.state == "not cancelled":
                await self._steer(self.now)

    def hear_stop(self) -> None:
        """It is to stop in order."""
        self.stop_signal = None
        goes_on = (x for x in self._open() if self._fate(x) == "goes on")
        self._attempt.stop({y for x in goes_on for y in handles_of(x.future)})

    def _open(self) -> list[Parked]:
        return [x for x in self._parked if x.standing != "shielded"]

    async def _steer(self, now: NowMessages) -> None:
        """Have those raise `Steered` that may, once what they awaited was cut off."""
        steered: list[tuple[Parked, Scope]] = []
        for parked in self._parked:
            within = may_be_steered(parked.scope, parked.standing)
            if within is not None and self._fate(parked) == "goes on":
                steered.append((parked, within))
        if not steered:
            return
        now.raised = now.arrived
        chosen = {parked for parked, _ in steered}
        others = (x for x in self._parked if x not in chosen)
        beside = frozenset(y for x in others for y in handles_of(x.future))
        for parked, within in steered:
            within.steered = True
            within.beside = beside
            within.handles |= {x for x in handles_of(parked.future) if x not in beside}
        await asyncio.sleep(0)  # what was handed to asyncio has begun by then, and can be cut off
        cut = await self._steps.cut({y for _, x in steered for y in x.handles})
        for within in {id(x): x for _, x in steered}.values():
            said = [x.said.pop(None, []) for x in cut if x.handle in within.handles]
            within.words += ["".join(x) for x in said]

    def _hand_out(self) -> None:
        """Wake those for whom something has come, and those who have to end."""
        woken: list[Parked] = []
        for parked in self._parked:
            fate = self._fate(parked)
            parked.future = self._inside.left_of(parked.future)
            parked.ready = fate != "waits" and self._inside.is_ready(parked.future)
            if parked.ready or fate == "ends":
                woken.append(parked)
        in_flight = self._attempt.in_flight
        in_flight -= {x for x in in_flight if self._inside.has_come(x)}
        # Who only looks goes before who takes it.
        for parked in sorted(woken, key=lambda x: takes(x.future)):
            self._parked.remove(parked)
            if not parked.woken.done():
                parked.woken.set_result(parked.ready)

    async def quiet(self) -> None:
        """Let all code come to its next await: it has when no callback is left to be called."""
        loop = asyncio.get_running_loop()
        callbacks: Any = getattr(loop, "_ready", None)  # uvloop has none
        looking, rounds, is_busy = _looking.setdefault(loop, []), 0, True
        while is_busy and rounds < self._rounds:
            looking.append(None)
            try:
                await asyncio.sleep(0)
            finally:
                looking.pop()
            is_busy = callbacks is None or len(callbacks) > len(looking)
            rounds += 1

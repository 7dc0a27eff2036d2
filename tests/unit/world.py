"""A small world around the rules of a session, to walk through every order of events.

`interruptible._session` says what has to be done; here stands all that carries it out, and all that
can happen to it, as plain values: clients, tasks, reports under way, operators who kill. An event
is a function from a world to the worlds that may come of it, and an invariant is one from a world
to what is wrong with it: to add one of either, write it and decorate it. What a world does not show
any more, because it is wrong with the event itself, the event notes as a `Fault`.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from interruptible import _session
from interruptible._session import Live, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAITING, WORKING, CLEANING, OVER = "waiting", "working", "cleaning", "over"


class Fault(Enum):
    """What may be wrong with an event."""

    NUMBER_USED_AGAIN = "a message got a number that is not the next"
    CANCELLED_AGAIN = "a task was cancelled twice"
    CANCELLED_OTHER = "a cancel did more than to cancel what it was to"
    CANCELLED_NOTHING = "a turn was cancelled whose task is unknown"
    SETTLED_AGAIN = "a turn was settled twice"
    SETTLED_OTHER = "a settle touched another turn"
    CANCELLED_FOR_QUEUE = "a message that interrupts nothing cancelled something"
    SPARED = "an interrupt spared a live turn"
    TAKEN_IN = "a message was taken in that is to be refused"
    TURNED_AWAY = "a message was refused that is to be taken in"
    OUT_OF_ORDER = "a turn began after a later one"


class Outcome(NamedTuple):
    """How a task ended, and whether it had put out something by then."""

    status: str
    put_out: bool


class Task(NamedTuple):
    """The invocation that works on one turn."""

    turn: int
    after: frozenset[int]
    phase: str = WAITING
    told: bool = False
    """Whether it was cancelled."""
    began: bool = False
    outcome: Outcome | None = None
    overdue: frozenset[int] = frozenset()
    """The predecessors that it does not wait for any longer: `cleanup_timeout` ran out."""

    @property
    def at_work(self) -> bool:
        """Whether it is past its wait."""
        return self.phase in (WORKING, CLEANING)


class Slot(NamedTuple):
    """What the history has of one turn."""

    message: int
    outcome: Outcome | None = None


class Wish(NamedTuple):
    """What a message asks for."""

    policy: str
    if_turn: int | None = None
    if_idle: bool = False


class Budget(NamedTuple):
    """What may still happen."""

    messages: int = 0
    policies: tuple[str, ...] = ("interrupt",)
    """What each of the messages may choose from."""
    max_pending: int = 2
    cancels: int = 0
    task_kills: int = 0
    message_kills: int = 0
    repeats: int = 0
    losses: int = 0
    timeouts: int = 0


class World(NamedTuple):
    """Everything there is at one moment."""

    budget: Budget
    record: Record = Record(epoch="e")
    tasks: tuple[Task, ...] = ()
    slots: tuple[Slot, ...] = ()
    reports: frozenset[int] = frozenset()
    """The turns whose `settle` is under way."""
    accepted: int = 0
    """How many messages were stored; each is known by its place in the order of acceptance."""
    superseded: frozenset[int] = frozenset()
    """The turns that had not begun when a newer message interrupted them."""
    cancelled: frozenset[int] = frozenset()
    """The turns that were live when somebody interrupted, cancelled or killed them."""
    fault: Fault | None = None
    """The first thing that was wrong with an event on the way here."""

    def task(self, turn: int) -> Task | None:
        """The task of a turn, once it was dispatched."""
        return next((task for task in self.tasks if task.turn == turn), None)

    def put(self, task: Task) -> World:
        """This world with a task changed or added."""
        others = tuple(x for x in self.tasks if x.turn != task.turn)
        return self._replace(tasks=tuple(sorted((*others, task), key=lambda x: x.turn)))

    def wrong(self, fault: Fault) -> World:
        """This world with something wrong on the way to it."""
        return self._replace(fault=self.fault or fault)

    def spend(self, what: str) -> World:
        """This world with one less of something to happen."""
        return self._replace(budget=self.budget._replace(**{what: getattr(self.budget, what) - 1}))


Happening = tuple[str, World]
EVENTS: list[Callable[[World], Iterator[Happening]]] = []
INVARIANTS: dict[str, Callable[[World], str | None]] = {}


def event(function: Callable[[World], Iterator[Happening]]) -> Callable[..., Iterator[Happening]]:
    """Let something happen in every world."""
    EVENTS.append(function)
    return function


def invariant(function: Callable[[World], str | None]) -> Callable[[World], str | None]:
    """Let something hold in every world."""
    INVARIANTS[function.__name__] = function
    return function


# -- What the handlers do with the rules, as in `_object`. -----------------------------------------


def find_lost(world: World) -> World:
    """Dispatch what has no task id once more; the same key leads to the same invocation."""
    for turn in world.record.lost:
        world = dispatch(world, turn)
        world = world._replace(record=_session.dispatched(world.record, turn, f"inv-{turn}"))
    return world


def dispatch(world: World, turn: int) -> World:
    """Send a turn's task, which does nothing if it was sent before."""
    if world.task(turn) is not None:
        return world
    after = frozenset(x.turn for x in world.record.before(turn) if x.task_id is not None)
    return world.put(Task(turn, after))


def tell(world: World, cancelled: tuple[Live, ...]) -> World:
    """Cancel invocations."""
    for live in cancelled:
        task = world.task(live.turn)
        if task is None or live.task_id is None:
            world = world.wrong(Fault.CANCELLED_NOTHING)
        elif task.told:
            world = world.wrong(Fault.CANCELLED_AGAIN)
        else:
            world = world.put(task._replace(told=True))
    return world


@event
def a_message_arrives(world: World) -> Iterator[Happening]:
    """With every wish; what is taken in alike is one event, and so is all that is refused."""
    if not world.budget.messages:
        return
    found = find_lost(world.spend("messages"))
    seen = tuple(x for x in found.record.live if not over(found, x.turn))
    verdicts: dict[tuple[str | None, Fault | None], None] = {}
    for wish in wishes(world):
        refused = _session.refusal(
            found.record._replace(live=seen),
            wish.policy,
            max_pending=world.budget.max_pending,
            if_turn=wish.if_turn,
            if_idle=wish.if_idle,
        )
        fault = None
        if (refused is not None) != is_to_be_refused(found, wish):
            fault = Fault.TAKEN_IN if refused is None else Fault.TURNED_AWAY
        verdicts[wish.policy if refused is None else None, fault] = None
    for policy, fault in verdicts:
        judged = found if fault is None else found.wrong(fault)
        if policy is None:
            # What was found for it is not stored either.
            yield "a message is refused", judged._replace(record=world.record)
        else:
            yield from take_in(judged, policy)


def wishes(world: World) -> Iterator[Wish]:
    """All that a message may ask for."""
    for policy in world.budget.policies:
        yield Wish(policy)
        yield Wish(policy, if_idle=True)
        for turn in range(1, world.record.next + 1):
            yield Wish(policy, if_turn=turn)


def is_to_be_refused(world: World, wish: Wish) -> bool:
    """Judged by the tasks themselves, and not by the record."""
    left = [x for x in world.tasks if x.phase != OVER]
    pending = [x for x in left if not x.told]
    at_work = [x.turn for x in pending[:1] or left[-1:]]
    return (
        (wish.if_idle and bool(left))
        or (wish.if_turn is not None and [wish.if_turn] != at_work)
        or (wish.policy == "reject" and bool(left))
        or (wish.policy == "queue" and len(pending) >= world.budget.max_pending)
    )


def take_in(world: World, policy: str) -> Iterator[Happening]:
    """Take in a message whole, or be killed on either side of the dispatch."""
    before = world.record
    step = _session.message(before, policy)
    turn = before.next
    if step.dispatch != turn or turn != len(world.slots) + 1:
        world = world.wrong(Fault.NUMBER_USED_AGAIN)
    slots = (*world.slots[: turn - 1], Slot(world.accepted), *world.slots[turn:])
    world = world._replace(record=step.record, slots=slots, accepted=world.accepted + 1)
    if policy == "interrupt":
        not_begun = {x.turn for x in world.tasks if x.phase == WAITING}
        world = world._replace(
            superseded=world.superseded | not_begun,
            cancelled=world.cancelled | {x.turn for x in before.live},
        )
    world = tell(world, step.cancel)
    if policy != "interrupt" and step.cancel:
        world = world.wrong(Fault.CANCELLED_FOR_QUEUE)
    if policy == "interrupt" and any(not told(world, x.turn) for x in before.live):
        world = world.wrong(Fault.SPARED)
    sent = dispatch(world, turn)
    whole = sent._replace(record=_session.dispatched(sent.record, turn, f"inv-{turn}"))
    label = f"message {turn}" if policy == "interrupt" else f"message {turn} ({policy})"
    yield label, whole
    if world.budget.message_kills:
        yield f"{label}, killed before it dispatched", world.spend("message_kills")
        yield f"{label}, killed after it dispatched", sent.spend("message_kills")


@event
def a_client_cancels(world: World) -> Iterator[Happening]:
    """All that is live, or one turn, which may be over."""
    if not world.budget.cancels:
        return
    for turn in (None, *range(1, world.record.next)):
        after = find_lost(world.spend("cancels"))
        step = _session.cancel(after.record, turn)
        meant = {x.turn for x in world.record.live if turn in (None, x.turn)}
        if step.dispatch is not None or {x.turn for x in step.cancel} - meant:
            after = after.wrong(Fault.CANCELLED_OTHER)
        after = tell(after._replace(record=step.record), step.cancel)
        yield f"cancel {turn or 'all'}", after._replace(cancelled=after.cancelled | meant)


@event
def a_report_arrives(world: World) -> Iterator[Happening]:
    """In any order, once or again, or never."""
    for turn in world.reports:
        delivered = settle(world, turn)
        rest = world.reports - {turn}
        yield f"settle {turn}", delivered._replace(reports=rest)
        if world.budget.repeats:
            yield f"settle {turn}, to be repeated", delivered.spend("repeats")
        if world.budget.losses:
            yield f"settle {turn} is lost", world.spend("losses")._replace(reports=rest)


def settle(world: World, turn: int) -> World:
    """Record a turn's outcome, if the rules say so."""
    record = _session.settle(world.record, turn)
    if record is None:
        return world
    if {x for x in world.record.live if x.turn != turn} != set(record.live):
        world = world.wrong(Fault.SETTLED_OTHER)
    slot = world.slots[turn - 1]
    if slot.outcome is not None:
        world = world.wrong(Fault.SETTLED_AGAIN)
    task = world.task(turn)
    slot = slot._replace(outcome=task and task.outcome)
    slots = (*world.slots[: turn - 1], slot, *world.slots[turn:])
    return world._replace(record=record, slots=slots)


@event
def somebody_looks(world: World) -> Iterator[Happening]:
    """Status and attach find what was lost, and settle what is over and did not report."""
    looked = find_lost(world)._replace(record=world.record)  # what they find they do not store
    over = {x.turn for x in looked.tasks if x.phase == OVER and world.record.find(x.turn)}
    looked = looked._replace(reports=looked.reports | over)
    if looked != world:
        yield "look", looked


# -- What tasks do, as in `_task`, and what is done to them. ---------------------------------------


@event
def a_task_goes_on(world: World) -> Iterator[Happening]:
    """It waits, works, may be told of a cancellation at any time, cleans up, ends."""
    for task in world.tasks:
        turn = task.turn
        if task.phase == WAITING and task.told:
            yield f"{turn} ends before it began", end(world, task, Outcome("interrupted", False))
        elif task.phase == WAITING and all(over(world, x) for x in task.after - task.overdue):
            yield f"{turn} begins", begin(world, task)
        elif task.phase == WORKING:
            if task.told:
                yield f"{turn} cleans up", world.put(task._replace(phase=CLEANING))
            # It may be done before the cancellation reaches it.
            yield f"{turn} completes", end(world, task, Outcome("completed", True))
            yield f"{turn} fails", end(world, task, Outcome("failed", False))
        elif task.phase == CLEANING:
            for put_out in (False, True):
                yield f"{turn} has cleaned up", end(world, task, Outcome("interrupted", put_out))


@event
def an_operator_kills_a_task(world: World) -> Iterator[Happening]:
    """Then no code of it runs any more, and nobody is told."""
    for task in world.tasks:
        if task.phase != OVER and world.budget.task_kills:
            killed = task._replace(phase=OVER, outcome=Outcome("killed", False))
            after = world.spend("task_kills").put(killed)
            yield f"{task.turn} is killed", after._replace(cancelled=after.cancelled | {task.turn})


@event
def a_cleanup_takes_too_long(world: World) -> Iterator[Happening]:
    """Whoever waits for it goes on without."""
    if not world.budget.timeouts:
        return
    for task in world.tasks:
        late = {x for x in task.after if not over(world, x) and told(world, x)}
        if task.phase == WAITING and not task.told and late - task.overdue:
            overdue = task._replace(overdue=task.overdue | late)
            yield f"{task.turn} waits no longer", world.spend("timeouts").put(overdue)


def begin(world: World, task: Task) -> World:
    """Start work, and settle the predecessors that have not reported."""
    if any(x.began for x in world.tasks if x.turn > task.turn):
        world = world.wrong(Fault.OUT_OF_ORDER)
    unsettled = {x for x in task.after - task.overdue if world.record.find(x)}
    world = world._replace(reports=world.reports | unsettled)
    return world.put(task._replace(phase=WORKING, began=True))


def end(world: World, task: Task, outcome: Outcome) -> World:
    """End with an outcome, and report it."""
    world = world._replace(reports=world.reports | {task.turn})
    return world.put(task._replace(phase=OVER, outcome=outcome))


def over(world: World, turn: int) -> bool:
    """Whether a turn's task has ended."""
    task = world.task(turn)
    return task is not None and task.phase == OVER


def told(world: World, turn: int) -> bool:
    """Whether a turn's task was cancelled."""
    task = world.task(turn)
    return task is not None and task.told


# -- What has to hold. -----------------------------------------------------------------------------


@invariant
def messages_are_in_the_history_once_and_in_order(world: World) -> str | None:
    """I1."""
    found = [slot.message for slot in world.slots]
    return None if found == list(range(world.accepted)) else f"the history has {found}"


@invariant
def one_task_is_at_work(world: World) -> str | None:
    """I2, unless `cleanup_timeout` ran out."""
    overdue = {turn for task in world.tasks if task.began for turn in task.overdue}
    working = [x.turn for x in world.tasks if x.at_work and x.turn not in overdue]
    return None if len(working) <= 1 else f"the tasks of turns {working} work side by side"


@invariant
def a_turns_outcome_is_its_tasks(world: World) -> str | None:
    """I3."""
    for turn, slot in enumerate(world.slots, 1):
        task = world.task(turn)
        if slot.outcome is not None and (task is None or task.outcome != slot.outcome):
            return f"turn {turn} has the outcome {slot.outcome}, its task {task}"
        if (slot.outcome is None) != (world.record.find(turn) is not None):
            return f"turn {turn} is live and has an outcome, or neither"
    return None


@invariant
def what_was_superseded_before_it_began_does_not_begin(world: World) -> str | None:
    """I7."""
    began = [x.turn for x in world.tasks if x.began and x.turn in world.superseded]
    return f"turns {began} began" if began else None


@invariant
def what_the_record_says_was_cancelled_was_cancelled(world: World) -> str | None:
    """And the other way round: a reason stands with every cancellation."""
    for live in world.record.live:
        if (live.cancelled is not None) != told(world, live.turn):
            return f"{live} and {world.task(live.turn)}"
    return None


@invariant
def what_is_live_stands_in_the_order_of_the_turns(world: World) -> str | None:
    """So the first that is not cancelled is at work, and the others are queued behind it."""
    turns = [x.turn for x in world.record.live]
    return None if turns == sorted(set(turns)) else f"live are {turns}"


@invariant
def the_record_can_be_stored(world: World) -> str | None:
    """And comes back as it was."""
    return stored(world.record)


@cache
def stored(record: Record) -> str | None:
    again = _session.load(json.loads(json.dumps(_session.dump(record))))
    return None if again == record else f"{record} comes back as {again}"


@invariant
def what_nobody_cancelled_goes_on(world: World) -> str | None:
    """Neither `queue` nor `reject` disturbs what is live, nor does what is refused."""
    disturbed = [x.turn for x in world.tasks if x.told and x.turn not in world.cancelled]
    return f"turns {disturbed} were cancelled, and nobody wanted that" if disturbed else None


@invariant
def at_rest_nothing_is_live_and_all_that_was_wanted_was_answered(world: World) -> str | None:
    """I5, I9; at rest no task goes on, no report is under way, and who looks sets none in motion.

    What is wanted is all that nobody interrupted, cancelled or killed: so is the last turn, and so
    are those that were queued.
    """
    looked = find_lost(world)
    if world.reports or looked.tasks != world.tasks or any(True for _ in a_task_goes_on(world)):
        return None
    waiting = [x.turn for x in world.tasks if x.phase != OVER]
    if waiting:
        return f"turns {waiting} wait for ever"
    for live in world.record.live:
        world = settle(world, live.turn) if over(world, live.turn) else world
    if world.record.live:
        return f"{world.record.live} stay live"
    for turn, slot in enumerate(world.slots, 1):
        answered = slot.outcome and slot.outcome.status in ("completed", "failed")
        if not answered and turn not in world.cancelled:
            return f"turn {turn} ended as {slot.outcome}, and nobody wanted that"
    return None


# -- The walk. -------------------------------------------------------------------------------------


@dataclass
class Walk:
    """All worlds that a budget leads to, and how the invariants fare in them."""

    worlds: int = 0
    happened: set[str] = field(default_factory=set)
    """The names of the events that happened at all."""
    broken: dict[str, str] = field(default_factory=dict)
    """By the name of an invariant or a fault: the shortest story that leads to it."""

    def look_at(self, world: World, story: Callable[[], str]) -> None:
        """Check all that has to hold."""
        self.worlds += 1
        found = {name: holds(world) for name, holds in INVARIANTS.items()}
        if world.fault is not None:
            found[world.fault.name] = world.fault.value
        for name, wrong in found.items():
            if wrong is not None and name not in self.broken:
                self.broken[name] = f"{story()}: {wrong}"


def walk(budget: Budget, *, until: str | None = None) -> Walk:
    """Let happen whatever can happen, in every order: each world once, the nearest first.

    `until` is what has to break for the walk to end early.
    """
    start = World(budget)
    came_from: dict[World, tuple[World, str] | None] = {start: None}

    def story(world: World) -> str:
        labels: list[str] = []
        step = came_from[world]
        while step is not None:
            labels.append(step[1])
            step = came_from[step[0]]
        return ", ".join(reversed(labels)) or "at the beginning"

    result = Walk()
    queue = deque([start])
    while queue and until not in result.broken:
        world = queue.popleft()
        result.look_at(world, partial(story, world))
        for happens in EVENTS:
            for label, after in happens(world):
                result.happened.add(happens.__name__)
                if after not in came_from:
                    came_from[after] = (world, label)
                    queue.append(after)
    return result

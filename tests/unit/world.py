"""A small world around the rules of a session, to walk through every order of events.

`interruptible._session.rules` says what has to be done; here stands all that carries it out, and
all that can happen to it, as plain values: clients, tasks, reports under way, operators who kill.
An event is a function from a world to the worlds that may come of it, and an invariant is one from
a world to what is wrong with it: to add one of either, write it and decorate it. What a world does
not show any more, because it is wrong with the event itself, the event notes as a `Fault`.

Messages are known by their place in the order of acceptance, from 0 on; the session counts them
from 1 on. To fail by its own doing is the same as to complete here: the rules know no difference.
"""

from __future__ import annotations

import json
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from interruptible._session import approvals, pending, rules, stored_record
from interruptible._session.record import Addition, Live, Record, Refused
from interruptible._session.rules import Step
from interruptible._wire.types import POLICIES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

CONTROLS = ("cancel", "rewind", "regenerate", "reset")
PENDING = ("withdraw", "replace", "run next", "steer it", "steer it now")
"""What may be done to a message that no model has read."""
MORE = ("steer now", "stop", "edit", "resume", *PENDING)
"""Policies and controls that are tried with fewer others at once."""
REMOVED = "removed"

WINDOW, WAITING, READY = "in its quiet window", "waiting", "has what was left for it"
WORKING, CLEANING, OVER = "working", "cleaning", "over"


class Fault(Enum):
    """What may be wrong with an event."""

    NUMBER_USED_AGAIN = "a turn or a steered message got a number that is in use, or was"
    CANCELLED_AGAIN = "a task was cancelled twice"
    CANCELLED_OTHER = "something else was cancelled, too"
    CANCELLED_NOTHING = "a turn was cancelled whose task is unknown"
    CANCELLED_FOR_QUEUE = "a message that interrupts nothing cancelled something"
    SPARED = "something that was to be cancelled was not"
    DISCARDED_OTHER = "an event discarded other turns than it was to"
    SETTLED_AGAIN = "a turn was settled twice"
    SETTLED_OTHER = "a settle touched another turn"
    TAKEN_IN = "a message was taken in that is to be refused"
    TURNED_AWAY = "a message was refused that is to be taken in, or for another reason"
    OUT_OF_ORDER = "a turn began after a later one"
    INPUT_OTHER = "what a turn began with is not what the record says"
    INPUT_OUT_OF_ORDER = "a turn began with messages that are not in the order of acceptance"
    JOINED = "a message became part of a turn that it must not"
    NOT_JOINED = "a message became a turn, and was to become part of one"
    DISTURBED = "a message that became part of a turn changed more than that"
    TAKEN_AGAIN = "a steered message was taken twice"
    TAKEN_OTHER = "a task did not get just what waited for it"
    PASSED_ON = "a steered message passed on that is to stay"
    NOT_PASSED_ON = "a steered message stayed with a turn that ended without taking it"
    PASSED_ASTRAY = "a steered message passed on to a turn that is earlier, or does not go on"
    GIVEN_UP_ONLY = "to give up a turn changed more than that"
    QUEUED_OTHER = "a turn that is to ask before it begins does not, or the other way round"
    QUIET_OTHER = "a quiet window ended too early, or did not end"
    CHANGED = "a message was changed that somebody has, or that there never was"
    NOT_CHANGED = "a message could not be changed that nobody has, or for another reason"
    CHANGED_OTHER = "to change a message changed another one, or another turn"
    OUT_OF_TURN = "the messages that wait are not read in the order in which they are to be"
    TOLD_NOW = "a turn was told to read at once what it is not to, or was not told"
    NOT_WATCHED = "a turn got messages, and nobody settles it should its task be killed"
    ANSWERED = "an approval was answered that nobody waits for"
    NOT_ANSWERED = "an approval could not be answered that is waited for, or for another reason"
    RESET_KEPT = "a reset kept what was given up, or removed what is waited for"


class Outcome(NamedTuple):
    """How a task ended, and the steered messages that it knows to have taken."""

    status: str
    took: tuple[int, ...] = ()


class Task(NamedTuple):
    """The invocation that works on one turn."""

    turn: int
    after: frozenset[int]
    queued: bool = False
    """Whether it asks the session before it begins."""
    phase: str = WAITING
    window: bool = False
    """Whether messages join it, as far as the session knows."""
    seen: int = 0
    """The newest message that it knew of when that began anew."""
    input: tuple[int, ...] | None = None
    """What it was sent to begin with, once that is final."""
    told: bool = False
    """Whether the session cancelled it."""
    stopped: bool = False
    """Whether an operator cancelled it, which the session does not know."""
    stopping: bool = False
    """Whether the session has it end after its step."""
    nows: int = 0
    """How often it was told to read at once."""
    began: bool = False
    took: tuple[int, ...] = ()
    """The steered messages that were handed out to it."""
    outcome: Outcome | None = None
    overdue: frozenset[int] = frozenset()
    """The predecessors that it does not wait for any longer: `cleanup_timeout` ran out, or somebody
    else gave them up."""

    @property
    def at_work(self) -> bool:
        """Whether it is past its wait."""
        return self.phase in (WORKING, CLEANING)

    @property
    def begins_no_more(self) -> bool:
        """Whether it is cancelled and has not begun."""
        ends = self.told or self.stopped or self.stopping
        return self.phase in (WINDOW, WAITING, READY) and ends

    @property
    def goes_on(self) -> bool:
        """Whether the session did nothing to end it."""
        return not self.told and not self.stopping

    @property
    def can_change(self) -> bool:
        """Whether it has not got its messages yet."""
        return self.goes_on and self.input is None and (self.queued or self.window)


class Slot(NamedTuple):
    """What the history has of one turn."""

    own: tuple[int, ...]
    """The messages that it was begun for."""
    by: str = "message"
    """What it was begun by: the messages are an earlier turn's if by `regenerate`."""
    more: tuple[int, ...] = ()
    """Those that became part of it, once it is settled."""
    outcome: Outcome | None = None
    withdrawn: tuple[int, ...] = ()
    moved: bool = False
    """Whether it got the messages of another one, or one that was put first."""


class Wish(NamedTuple):
    """What a message asks for."""

    policy: str
    if_turn: int | None = None
    if_idle: bool = False


class Budget(NamedTuple):
    """What may still happen, and how the agent is set."""

    acts: int = 0
    """How many messages and controls."""
    can: tuple[str, ...] = ("interrupt",)
    """What each of them may be."""
    max_pending: int = 2
    keep_queued: bool = False
    merge: bool = False
    task_kills: int = 0
    task_cancels: int = 0
    message_kills: int = 0
    repeats: int = 0
    losses: int = 0
    timeouts: int = 0
    asks: int = 0
    """How often a turn asks for an approval."""


class World(NamedTuple):
    """Everything there is at one moment."""

    budget: Budget
    record: Record = Record(epoch="e")
    discarded: frozenset[int] = frozenset()
    """The turns that are marked as such."""
    contents: tuple[tuple[int, int], ...] = ()
    """What is stored of steered messages: the number of each, and which message it is."""
    tasks: tuple[Task, ...] = ()
    slots: tuple[Slot, ...] = ()
    reports: frozenset[int] = frozenset()
    """The turns whose `settle` is under way."""
    notes: frozenset[int] = frozenset()
    """The turns that a task gave up, of which the session has not heard yet."""
    given_up: frozenset[int] = frozenset()
    """Those of which it has, while they were live."""
    watched: frozenset[int] = frozenset()
    """The turns for which a `recover` waits: they are settled even if they never report."""
    accepted: int = 0
    taken_back: frozenset[int] = frozenset()
    """The turns that somebody rolled back, rewound or regenerated, and did not reset since."""
    superseded: frozenset[int] = frozenset()
    """The turns that had not begun when somebody cancelled them."""
    excused: frozenset[int] = frozenset()
    """The messages that need no answer: their turn was cancelled or killed with them, or reset."""
    promoted: frozenset[int] = frozenset()
    """The messages that somebody has put before others."""
    asking: frozenset[int] = frozenset()
    """The turns whose request for an approval is under way."""
    asked: tuple[tuple[int, int], ...] = ()
    """The approvals that can be answered, as long as their turns go on: the id and the turn."""
    last: str | None = None
    """What was done last, of policies and controls."""
    fault: Fault | None = None
    """The first thing that was wrong with an event on the way here."""

    def task(self, turn: int) -> Task | None:
        """The task of a turn, once it was dispatched."""
        for task in self.tasks:
            if task.turn == turn:
                return task
        return None

    def put(self, task: Task) -> World:
        """This world with a task changed or added."""
        first = tuple(x for x in self.tasks if x.turn < task.turn)
        return self._replace(tasks=(*first, task, *(x for x in self.tasks if x.turn > task.turn)))

    def put_slot(self, turn: int, slot: Slot) -> World:
        """This world with a slot changed or added."""
        return self._replace(slots=(*self.slots[: turn - 1], slot, *self.slots[turn:]))

    def wrong(self, fault: Fault, *, when: bool = True) -> World:
        """This world with something wrong on the way to it."""
        return self._replace(fault=self.fault or fault) if when else self

    def spend(self, what: str) -> World:
        """This world with one less of something to happen."""
        return self._replace(budget=self.budget._replace(**{what: getattr(self.budget, what) - 1}))

    def messages(self, turn: int) -> tuple[int, ...]:
        """All messages that are a turn's now."""
        content = dict(self.contents)
        mine = [x.number for x in self.record.steered if x.turn == turn]
        steered = tuple(content[x] for x in mine if x in content)
        slot = self.slots[turn - 1]
        return (*slot.own, *slot.more, *steered)

    def waiting(self, turns: Collection[int]) -> list[int]:
        """The messages steered at turns that go on, and handed out to no task yet."""
        content, took = dict(self.contents), {x for task in self.tasks for x in task.took}
        at = (x.number for x in self.record.steered if x.turn in turns)
        return [content[x] for x in at if x in content and content[x] not in took]

    @property
    def going_on(self) -> list[Task]:
        """The tasks that are not over and not cancelled, judged by themselves."""
        return [x for x in self.tasks if x.phase != OVER and x.goes_on]


class Happening(NamedTuple):
    """One thing that happened, and the world it led to."""

    label: str
    world: World
    act: str | None = None
    """Which policy or control it was, if it was one."""


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


# -- What the handlers do with the rules, as in `effects`. -----------------------------------------


def find_lost(world: World) -> World:
    """Dispatch what has no task id once more; the same key leads to the same invocation."""
    for lost in world.record.lost:
        world = stored_id(dispatch(world, lost.turn), lost.turn)
    return world


def dispatch(world: World, turn: int) -> World:
    """Send a turn's task, which does nothing if it was sent before."""
    if world.task(turn) is not None:
        return world
    before = frozenset(x.turn for x in world.record.before(turn) if x.task_id is not None)
    live, merge = world.record.find(turn), world.budget.merge
    queued, is_open = live is not None and live.queued, merge and not world.slots[turn - 1].moved
    phase = WINDOW if merge else WAITING
    sent = None if queued or merge else world.slots[turn - 1].own
    return world.put(Task(turn, before, queued, phase, window=is_open, input=sent))


def stored_id(world: World, turn: int) -> World:
    """The invocation id of a turn's task became known."""
    return world._replace(record=rules.note_task_id(world.record, turn, f"inv-{turn}"))


def carry_out(world: World, step: Step, meant: Collection[int], taken_back: Iterable[int]) -> World:
    """Cancel and discard, and judge it by what was meant."""
    meant = {x for x in meant if not over(world, x)}
    others = {x.turn for x in step.cancel if not over(world, x.turn)} - meant
    back = frozenset(taken_back)
    world = world.wrong(Fault.DISCARDED_OTHER, when=set(step.discard) != back)
    not_begun = {x.turn for x in world.tasks if x.turn in meant and not x.began}
    world = world._replace(
        superseded=world.superseded | not_begun,
        taken_back=world.taken_back | back,
        discarded=world.discarded.union(step.discard),
    )
    world = tell(world, step.cancel)
    world = world.wrong(Fault.CANCELLED_OTHER, when=bool(others))
    world = world.wrong(Fault.SPARED, when=any(not told(world, x) for x in meant))
    new = None if step.dispatch is None else step.record.find(step.dispatch)
    if new is not None:
        waits = any(not told(world, x.turn) for x in step.record.before(new.turn))
        world = world.wrong(Fault.QUEUED_OTHER, when=new.queued != waits)
    return world._replace(record=step.record, watched=world.watched.union(step.watch))


def tell(world: World, cancelled: tuple[Live, ...]) -> World:
    """Cancel invocations; what they were to answer is excused."""
    for live in cancelled:
        task = world.task(live.turn)
        if task is None or live.task_id is None:
            world = world.wrong(Fault.CANCELLED_NOTHING)
        elif task.told:
            world = world.wrong(Fault.CANCELLED_AGAIN)
        else:
            world = world.put(task._replace(told=True))
            world = excuse(world, world.messages(live.turn))
    return world


def excuse(world: World, messages: Iterable[int]) -> World:
    """Somebody wants no answer to these any more."""
    return world._replace(excused=world.excused.union(messages))


@event
def a_message_arrives(world: World) -> Iterator[Happening]:
    """With every wish; what is taken in alike is one event, and so is all that is refused."""
    if not world.budget.acts:
        return
    found = find_lost(world)
    ended = frozenset(x.turn for x in found.record.live if over(found, x.turn))
    verdicts: dict[tuple[str, frozenset[int] | None, Fault | None], None] = {}
    for wish in wishes(world):
        status, known = refusal(found, wish, ended)
        fault = None
        if status != status_of_refusal(found, wish):
            fault = Fault.TAKEN_IN if status is None else Fault.TURNED_AWAY
        verdicts[wish.policy, known if status is None else None, fault] = None
    for policy, over_then, fault in verdicts:
        judged = found if fault is None else found.wrong(fault)
        if over_then is None:
            # What was found for it is not stored either.
            yield Happening(f"{policy} is refused", judged._replace(record=world.record), policy)
        else:
            yield from take_in(judged.spend("acts")._replace(last=policy), policy, over_then)


def wishes(world: World) -> Iterator[Wish]:
    """All that a message may ask for."""
    for policy in world.budget.can:
        if policy in (*POLICIES, "steer now"):
            yield Wish(policy)
            yield Wish(policy, if_idle=True)
            for turn in range(1, world.record.next + 1):
                yield Wish(policy, if_turn=turn)


def plain(policy: str) -> str:
    """The policy of a message that may be read at once."""
    return policy.split(maxsplit=1)[0]


def refusal(world: World, wish: Wish, ended: frozenset[int]) -> tuple[int | None, frozenset[int]]:
    """The status, and what was learned to have ended: only some messages ask for it."""
    bare = wish == Wish("interrupt") and not (world.budget.merge or world.budget.keep_queued)
    known = frozenset[int]() if bare else ended
    refused = rules.refusal(
        world.record._replace(live=tuple(x for x in world.record.live if x.turn not in known)),
        plain(wish.policy),
        max_pending=world.budget.max_pending,
        if_turn=wish.if_turn,
        if_idle=wish.if_idle,
        merge=world.budget.merge,
    )
    return refused and refused[0], known


def status_of_refusal(world: World, wish: Wish) -> int | None:
    """Judged by the tasks themselves, and not by the record."""
    left = [x.turn for x in world.tasks if x.phase != OVER and x.turn not in world.given_up]
    going_on = [x.turn for x in world.going_on]
    not_cut = [x for x in left if not told(world, x)]
    pending = len(going_on) + len(world.waiting(going_on))
    adds = plain(wish.policy) in ("queue", "steer") or joins(world, wish.policy) is not None
    if wish.if_idle and left:
        return 412
    if wish.if_turn is not None and [wish.if_turn] != (not_cut[:1] or left[-1:]):
        return 412
    if wish.policy == "reject" and left:
        return 423
    return 429 if adds and pending >= world.budget.max_pending else None


def joins(world: World, policy: str) -> int | None:
    """The turn that a message becomes part of, judged by the tasks themselves."""
    going_on = world.going_on
    if plain(policy) == "steer" and going_on:
        return going_on[0].turn
    alone = len([x for x in world.tasks if x.phase != OVER and not x.told]) == 1
    alone = policy == "queue" or (policy == "interrupt" and alone)
    return going_on[-1].turn if going_on and alone and going_on[-1].window else None


def take_in(world: World, policy: str, known: frozenset[int]) -> Iterator[Happening]:
    """Take in a message whole, or be killed on either side of the dispatch."""
    before, budget, host = world.record, world.budget, joins(world, policy)
    now = policy == "steer now"
    step = rules.message_step(
        before,
        plain(policy),
        keep_queued=budget.keep_queued,
        merge=budget.merge,
        now=now,
        over=known,
    )
    turn, new = before.next, world.accepted
    world = world._replace(accepted=new + 1)
    world = world.wrong(Fault.NUMBER_USED_AGAIN, when=not is_counted(world, before, step))
    if step.steer is not None:
        joined = join(world, step, host, now=now)
        yield Happening(f"message ({policy}) joins {step.steer.turn}", joined, policy)
        return
    label = f"message {turn} ({policy})"
    again = step.dispatch != turn or turn != len(world.slots) + 1
    world = world.wrong(Fault.NUMBER_USED_AGAIN, when=again)
    world = world.wrong(Fault.NOT_JOINED, when=host is not None)
    meant: Collection[int] = ()
    if policy in ("interrupt", "rollback"):
        meant = [x.turn for x in before.live if x.turn not in known and not told(world, x.turn)]
        meant = meant[:1] if budget.keep_queued else meant
    elif step.cancel:
        world = world.wrong(Fault.CANCELLED_FOR_QUEUE)
    world = world.put_slot(turn, Slot((new,)))
    world = carry_out(world, step, meant, meant if policy == "rollback" else ())
    yield from sent(world, turn, label, policy)


def is_counted(world: World, before: Record, step: Step) -> bool:
    """Whether the message that was accepted just now has the next id."""
    return step.message == world.accepted == step.record.messages == before.messages + 1


def sent(world: World, turn: int, label: str, act: str) -> Iterator[Happening]:
    """A turn's task is dispatched, or who does that is killed on either side of it."""
    done = dispatch(world, turn)
    yield Happening(label, stored_id(done, turn), act)
    if world.budget.message_kills:
        killed = world.spend("message_kills"), done.spend("message_kills")
        yield Happening(f"{label}, killed before it dispatched", killed[0], act)
        yield Happening(f"{label}, killed after it dispatched", killed[1], act)


def join(world: World, step: Step, host: int | None, *, now: bool) -> World:
    """Keep a message that became part of a turn, and watch the turn."""
    steered, before = step.steer, world.record
    assert steered is not None
    world = tell_now(world, step, world.task(host or 0), now=now)
    alone = step._replace(record=before, message=0, steer=None, tell_now=None, watch=())
    more = before._replace(messages=before.messages + 1, steered=(*before.steered, steered))
    turns = range(before.next)
    same = step.record.changed(turns, nows=0) == more.changed(turns, nows=0)
    world = world.wrong(Fault.JOINED, when=steered.turn != host)
    world = world.wrong(Fault.DISTURBED, when=not (alone == Step(before) and same))
    return keep_steered(world, step, world.accepted - 1)


def keep_steered(world: World, step: Step, message: int) -> World:
    """Keep a message that has no turn of its own."""
    steered = step.steer
    assert steered is not None
    used = steered.number in dict(world.contents)
    watched = world.watched.union(step.watch)
    world = world.wrong(Fault.NOT_WATCHED, when=steered.turn not in watched)
    return world.wrong(Fault.NUMBER_USED_AGAIN, when=used)._replace(
        record=step.record,
        contents=(*world.contents, (steered.number, message)),
        watched=watched,
    )


def tell_now(world: World, step: Step, host: Task | None, *, now: bool) -> World:
    """Have a turn read at once, and judge it: one that reads before it begins is not told."""
    expected = now and host is not None and not host.can_change
    if step.tell_now is None or host is None:
        return world.wrong(Fault.TOLD_NOW, when=expected)
    is_next = step.tell_now.turn == host.turn and step.tell_now.nows == host.nows + 1
    steered = [x for x in step.record.steered if x.id == step.message]
    known = [(x.turn, x.now) for x in steered] == [(host.turn, host.nows + 1)]
    world = world.wrong(Fault.TOLD_NOW, when=not (expected and is_next and known))
    return world.put(host._replace(nows=host.nows + 1))


@event
def a_client_cancels(world: World) -> Iterator[Happening]:
    """All that is live, or one turn, which may be over."""
    for turn in (None, *turns_for(world, "cancel")) if may(world, "cancel") else ():
        found = act(world, "cancel")
        step = rules.cancel_step(found.record, turn)
        meant = [x.turn for x in found.record.live if turn in (None, x.turn)]
        yield Happening(f"cancel {turn or 'all'}", carry_out(found, step, meant, ()), "cancel")


@event
def a_client_stops(world: World) -> Iterator[Happening]:
    """All that is live, or one turn, once what is in flight has ended; what waits has nothing."""
    for turn in (None, *turns_for(world, "stop")) if may(world, "stop") else ():
        found = act(world, "stop")
        step = rules.cancel_step(found.record, turn, after_step=True)
        chosen = [x for x in found.tasks if turn in (None, x.turn) and x.goes_on]
        chosen = [x for x in chosen if found.record.find(x.turn) is not None]
        gently = {x.turn for x in chosen if not x.can_change}
        found = carry_out(found, step, [x.turn for x in chosen if x.can_change], ())
        meant = {x for x in gently if not over(found, x)}
        stops = {x.turn for x in step.stop if not over(found, x.turn)}
        found = found.wrong(Fault.CANCELLED_OTHER, when=bool(stops - meant))
        found = found.wrong(Fault.SPARED, when=bool(meant - stops))
        for live in step.stop:
            task = found.task(live.turn)
            if task is None or live.task_id is None:
                found = found.wrong(Fault.CANCELLED_NOTHING)
                continue
            found = found.wrong(Fault.CANCELLED_AGAIN, when=not task.goes_on)
            if not task.began:
                found = found._replace(superseded=found.superseded | {live.turn})
            found = excuse(found, found.messages(live.turn)).put(task._replace(stopping=True))
        yield Happening(f"stop {turn or 'all'}", found, "stop")


@event
def a_client_rewinds(world: World) -> Iterator[Happening]:
    """To any turn, which may be discarded already."""
    for first in turns_for(world, "rewind"):
        found = act(world, "rewind")
        yield Happening(f"rewind {first}", rewind(found, first), "rewind")


def rewind(world: World, first: int) -> World:
    """Discard a turn and all after it."""
    step = rules.rewind_step(world.record, first)
    meant = [x.turn for x in world.record.live if x.turn >= first]
    return carry_out(world, step, meant, range(first, world.record.next))


@event
def a_client_resets(world: World) -> Iterator[Happening]:
    """All is discarded; that what is settled is also removed makes no difference here."""
    if may(world, "reset"):
        found = act(world, "reset")
        before = found.record
        step = rules.reset_step(before)
        after = remove_given_up(found, step)
        meant = [x.turn for x in before.live]
        after = carry_out(after, step, meant, range(1, before.next))
        yield Happening("reset", excuse(after, range(after.accepted)), "reset")


def remove_given_up(world: World, step: Step) -> World:
    """What was given up is not to come back when it ends, nor what was steered at it."""
    gone = {x.turn for x in world.record.live} - {x.turn for x in step.record.live}
    live = {x.turn for x in world.record.live if x.turn in world.given_up}
    world = world.wrong(Fault.RESET_KEPT, when=gone != live)
    kept = {x.number for x in step.record.steered}
    for turn in gone:
        slot = world.slots[turn - 1]
        more = tuple(x for x in world.messages(turn) if x not in slot.own)
        world = world.put_slot(turn, slot._replace(more=more, outcome=Outcome(REMOVED)))
    contents = tuple(x for x in world.contents if x[0] in kept)
    asked = tuple(x for x in world.asked if x[1] not in gone)
    return world._replace(contents=contents, watched=world.watched - gone, asked=asked)


@event
def a_client_regenerates(world: World) -> Iterator[Happening]:
    """Any turn that is in the conversation: the same messages, in a new turn."""
    for first in turns_for(world, "regenerate"):
        if first in world.discarded:
            yield Happening(f"regenerate {first} is refused", world, "regenerate")
            continue
        found = act(world, "regenerate")
        before, turn = found.record, found.record.next
        # What was steered at the turn is among its messages, also while it is live.
        again = tuple(sorted(found.messages(first)))
        ids = [x + 1 for x in again]
        step = rules.regenerate_step(before, first, ids, merge=world.budget.merge)
        found = found.wrong(Fault.NUMBER_USED_AGAIN, when=step.dispatch != turn)
        found = found.put_slot(turn, Slot(again, "regenerate"))
        found = carry_out(found, step, [x.turn for x in before.live], range(first, turn))
        yield Happening(f"regenerate {first}", stored_id(dispatch(found, turn), turn), "regenerate")


@event
def a_client_edits(world: World) -> Iterator[Happening]:
    """Another message in the place of a turn and all after it."""
    for first in turns_for(world, "edit"):
        if first in world.discarded:
            yield Happening(f"edit {first} is refused", world, "edit")
            continue
        found = act(world, "edit")
        before, turn, new = found.record, found.record.next, found.accepted
        step = rules.edit_step(before, first, merge=world.budget.merge)
        found = found._replace(accepted=new + 1)
        again = step.dispatch != turn or not is_counted(found, before, step)
        found = found.wrong(Fault.NUMBER_USED_AGAIN, when=again)
        found = found.put_slot(turn, Slot((new,)))
        found = carry_out(found, step, [x.turn for x in before.live], range(first, turn))
        yield from sent(found, turn, f"edit {first}", "edit")


@event
def a_client_resumes(world: World) -> Iterator[Happening]:
    """The last turn of the conversation, if it did not complete and nothing else is at work."""
    if not may(world, "resume"):
        return
    standing = [x for x in range(1, world.record.next) if x not in world.discarded]
    ended = world.slots[standing[-1] - 1].outcome if standing else None
    if ended is None or ended.status in ("completed", REMOVED) or not may_resume(world.record):
        yield Happening("resume is refused", world, "resume")
        return
    found = act(world, "resume")
    turn = found.record.next
    step = rules.resume_step(found.record)
    found = found.wrong(Fault.NUMBER_USED_AGAIN, when=step.dispatch != turn)
    found = carry_out(found.put_slot(turn, Slot((), "resume")), step, (), ())
    yield from sent(found, turn, "resume", "resume")


def may_resume(record: Record) -> bool:
    """Whether nothing but cleanups is live."""
    return all(x.is_cut for x in record.live)


# -- What is done to messages that no model has read. ----------------------------------------------


def pending_messages(world: World) -> list[int]:
    """Those that no task has, in the order in which they are read, judged by the tasks."""
    found: list[int] = []
    for live in world.record.live:
        task = world.task(live.turn)
        if task is None:  # its dispatch was killed: it is found before anything else is done
            if live.cancelled is not None:
                continue
            task = Task(live.turn, frozenset(), live.queued, window=live.open)
        if task.goes_on:
            found += read_by(world, task)
    return found


def read_by(world: World, task: Task) -> list[int]:
    """What a task is to read, and has not."""
    content = dict(world.contents)
    mine = [(x.at <= task.turn, content.get(x.number, -1)) for x in world.record.steered]
    at = [x.turn == task.turn for x in world.record.steered]
    mine = [x for x, is_mine in zip(mine, at, strict=True) if is_mine and x[1] not in task.took]
    if not task.can_change:
        return [x for _, x in mine]
    own = world.slots[task.turn - 1].own
    return [*(x for first, x in mine if first), *own, *(x for first, x in mine if not first)]


def to_be_changed(world: World, what: str) -> Iterator[tuple[int, pending.Pending, World]]:
    """The messages that somebody may change, and what is stored of them."""
    if not may(world, what):
        return
    found = act(world, what)
    free = pending_messages(found)
    for message in range(1, world.accepted + 1):
        got = pending.find_pending(found.record, message)
        if not isinstance(got, Refused):
            changed = found.wrong(Fault.CHANGED, when=message - 1 not in free)
            turns = [x.turn for x in found.tasks if message - 1 in found.messages(x.turn)]
            changed = changed.wrong(Fault.CHANGED_OTHER, when=got.turn not in turns)
            yield message - 1, got, changed


def take_out(world: World, message: int, got: pending.Pending) -> World:
    """A message is its turn's no more, in what is stored of that."""
    if got.addition is not None:
        number = got.addition.number
        return world._replace(contents=tuple(x for x in world.contents if x[0] != number))
    slot = world.slots[got.turn - 1]
    own = tuple(x for x in slot.own if x != message)
    return world.put_slot(got.turn, slot._replace(own=own))


def left_empty(world: World, turn: int) -> list[int]:
    """The turn that a message was taken out of, if it has not begun and has no other now."""
    task, had = world.task(turn), {x.number for x in world.record.steered if x.turn == turn}
    kept = [number for number, _ in world.contents if number in had]
    empty = not world.slots[turn - 1].own and not kept
    return [turn] if empty and task is not None and task.can_change else []


def same_others(before: World, after: World, turns: Collection[int]) -> bool:
    """Whether the record says the same of all but these turns, as far as they were live."""
    old = [x for x in before.record.live if x.turn not in turns]
    new = [x for x in after.record.live if x.turn not in turns and x.turn < before.record.next]
    return old == new


@event
def a_client_is_refused_to_change_a_message(world: World) -> Iterator[Happening]:
    """It changes nothing; so that it happened can be seen only if it was wrong."""
    for what in PENDING:
        if may(world, what):
            found = act(world, what)
            free, wrong = pending_messages(found), world
            for message in range(world.accepted + 2):
                got = pending.find_pending(found.record, message)
                status = 412 if 1 <= message <= world.accepted else 404
                refused = isinstance(got, Refused) and got.status == status
                right = message - 1 in free or refused
                right = right and not (message - 1 in free and isinstance(got, Refused))
                wrong = wrong.wrong(Fault.NOT_CHANGED, when=not right)
            yield Happening(f"{what} is refused", wrong, what)
            return


@event
def a_client_withdraws(world: World) -> Iterator[Happening]:
    """A message, whose turn does not begin if it has no other."""
    for message, got, found in to_be_changed(world, "withdraw"):
        step = pending.withdraw_step(found.record, got)
        after = take_out(found, message, got)
        slot = after.slots[got.turn - 1]
        slot = slot._replace(withdrawn=(*slot.withdrawn, message))
        after = excuse(after.put_slot(got.turn, slot), (message,))
        gone = left_empty(after, got.turn)
        after = carry_out(after, step, gone, gone)
        same = same_others(found, after, {got.turn}) and step.dispatch is None
        after = after.wrong(Fault.CHANGED_OTHER, when=not same)
        yield Happening(f"withdraw {message + 1}", after, "withdraw")


@event
def a_client_replaces(world: World) -> Iterator[Happening]:
    """What a message says; no rule looks at that."""
    for message, _, found in to_be_changed(world, "replace"):
        after = found._replace(record=found.record)
        yield Happening(f"replace {message + 1}", after, "replace")


@event
def a_client_puts_a_message_first(world: World) -> Iterator[Happening]:
    """It is answered next, what is at work is interrupted, and the others stay in their order."""
    ended = frozenset(x.turn for x in world.tasks if x.phase == OVER)
    for message, got, found in to_be_changed(world, "run next"):
        if got.turn in ended:
            continue
        before = found.record
        waits = [x.turn for x in found.tasks if x.can_change and x.turn not in ended]
        groups = [found.messages(x) for x in waits if before.find(x) is not None]
        waits = [x for x in waits if before.find(x) is not None]
        mine = next((x for x in groups if message in x), (message,))
        expected = [mine, *(x for x in groups if x != mine)]
        meant = [x.turn for x in before.live if x.turn not in waits and not told(found, x.turn)]
        step, moves = pending.run_next_step(before, got, over=ended)
        after = moved(found, got, message, moves)
        after = after._replace(promoted=after.promoted.union(mine))
        new = before.next if len(expected) > len(waits) else None
        after = after.wrong(Fault.NUMBER_USED_AGAIN, when=step.dispatch != new)
        after = carry_out(after, step, meant, ())
        got_them = {x.turn for x in step.record.steered if x.turn in [move.to for move in moves]}
        after = after.wrong(Fault.NOT_WATCHED, when=not got_them <= after.watched)
        turns = [*waits, *([new] if new is not None else [])]
        order = [after.messages(x) for x in turns]
        after = after.wrong(Fault.OUT_OF_TURN, when=order != expected)
        label = f"run {message + 1} next"
        if new is None:
            yield Happening(label, after, "run next")
        else:
            yield from sent(after, new, label, "run next")


def moved(world: World, got: pending.Pending, message: int, moves: Iterable[pending.Move]) -> World:
    """Turns have what others had, in what is stored of them."""
    old, moves = world.slots, list(moves)
    if got.addition is not None and got.addition in [x.source for x in moves]:
        world = take_out(world, message, got)
    for to, source in moves:
        slot = Slot((message,)) if isinstance(source, Addition) else old[source - 1]
        here = world.slots[to - 1] if to <= len(world.slots) else Slot(())
        here = here._replace(own=slot.own, by=slot.by, withdrawn=slot.withdrawn, moved=True)
        world = world.put_slot(to, here)
        task = world.task(to)
        world = world if task is None else world.put(task._replace(window=False))
    return world


@event
def a_client_steers_a_message(world: World) -> Iterator[Happening]:
    """One that waits, at the turn that is next to read; that may be to do so at once."""
    for what in ("steer it", "steer it now"):
        for message, got, found in to_be_changed(world, what):
            now = what == "steer it now"
            host = next(x for x in found.tasks if x.goes_on and found.record.find(x.turn))
            step = pending.steer_step(found.record, got, now=now)
            after = found
            expected = now and (got.turn != host.turn or got.addition is not None)
            if step.steer is not None:
                after = take_out(after, message, got)
                after = after._replace(promoted=after.promoted | {message})
            gone = left_empty(after, got.turn)
            after = tell_now(after, step, after.task(host.turn), now=expected)
            after = carry_out(after, step, gone, gone)
            if step.steer is not None:
                after = keep_steered(after, step, message)
            there = message in after.messages(host.turn)
            same = same_others(found, after, {got.turn, host.turn}) and step.dispatch is None
            after = after.wrong(Fault.CHANGED_OTHER, when=not (there and same))
            yield Happening(f"{what}: {message + 1}", after, what)


# -- Approvals. ------------------------------------------------------------------------------------


@event
def a_task_asks_for_an_approval(world: World) -> Iterator[Happening]:
    """Its request is under way, while anything happens to it; then it waits."""
    for task in world.tasks if world.budget.asks else ():
        if task.phase == WORKING and task.turn not in world.asking:
            asking = world.spend("asks")._replace(asking=world.asking | {task.turn})
            yield Happening(f"{task.turn} asks", asking)
    for turn in world.asking:
        asks, arrived = world.task(turn), world._replace(asking=world.asking - {turn})
        record, asked = approvals.ask_step(world.record, turn, 1)
        waits = asks is not None and asks.goes_on and world.record.find(turn) is not None
        arrived = arrived.wrong(Fault.ANSWERED, when=(asked is not None) != waits)
        if asked is not None:
            again = not asked.id == record.asked == world.record.asked + 1
            arrived = arrived.wrong(Fault.NUMBER_USED_AGAIN, when=again)
            arrived = arrived._replace(asked=(*arrived.asked, (asked.id, turn)))
        yield Happening(f"{turn}'s request arrives", arrived._replace(record=record))


@event
def an_approval_ends(world: World) -> Iterator[Happening]:
    """Somebody answers it, or its task has waited for long enough."""
    if not may(world, "answer"):
        return
    wrong, waits = world, dict(world.asked)
    for approval in range(world.record.asked + 2):
        found = approvals.find_approval(world.record, approval)
        task = world.task(waits.get(approval, 0))
        free = task is not None and task.goes_on and world.record.find(task.turn) is not None
        if isinstance(found, Refused):
            status = 410 if 1 <= approval <= world.record.asked else 404
            right = not free and found.status == status
            wrong = wrong.wrong(Fault.NOT_ANSWERED, when=not right)
            continue
        after = world.wrong(Fault.ANSWERED, when=not free or found.turn != waits.get(approval))
        left = tuple(x for x in after.asked if x[0] != approval)
        after = after._replace(record=approvals.close_step(world.record, found), asked=left)
        answered = after.spend("acts")._replace(last="answer")
        yield Happening(f"{approval} is answered", answered, "answer")
        yield Happening(f"{approval}'s time is over", after)
    if wrong != world:
        yield Happening("an answer is refused", wrong)


def may(world: World, control: str) -> bool:
    """Whether somebody may do something, and there is something to do it to."""
    return world.budget.acts > 0 and control in world.budget.can and world.record.next > 1


def turns_for(world: World, control: str) -> range:
    """All that a control may name."""
    return range(1, world.record.next if may(world, control) else 1)


def act(world: World, control: str) -> World:
    """This world when a control has been called and has found what was lost."""
    return find_lost(world.spend("acts")._replace(last=control))


@event
def a_report_arrives(world: World) -> Iterator[Happening]:
    """In any order, once or again, or never; but what is watched is settled some time."""
    for turn in world.reports:
        delivered, rest = settle(world, turn), world.reports - {turn}
        yield Happening(f"settle {turn}", delivered._replace(reports=delivered.reports - {turn}))
        if world.budget.repeats:
            yield Happening(f"settle {turn}, to be repeated", delivered.spend("repeats"))
        if world.budget.losses:
            yield Happening(
                f"{turn}'s report is lost", world.spend("losses")._replace(reports=rest)
            )
    for turn in ended_and_watched(world) - world.reports:
        yield Happening(f"{turn} is recovered", settle(world, turn))


def ended_and_watched(world: World) -> set[int]:
    """The turns whose watcher has seen them end."""
    return {x for x in world.watched if over(world, x)}


def settle(world: World, turn: int) -> World:
    """Record a turn's outcome, if the rules say so."""
    before, slot, task = world.record, world.slots[turn - 1], world.task(turn)
    outcome = task.outcome if task and task.outcome else Outcome("unknown")
    settling = rules.settle_step(before, turn, merge=world.budget.merge)
    if settling is None:
        return world
    content = dict(world.contents)
    kept = [content.pop(x.number, -1) for x in settling.keep]
    begin = tuple(content.pop(x.number, -1) for x in settling.begin)
    world = world.wrong(Fault.SETTLED_AGAIN, when=slot.outcome is not None)
    world = judge_passing_on(world, turn, settling, kept)
    if task is not None and task.stopped:
        # What an operator cancelled in Restate needs no answer either.
        world = excuse(world, (*slot.own, *kept))
    more = (*outcome.took, *(x for x in kept if x not in outcome.took))
    new = [settling.dispatch] if settling.dispatch is not None else []
    live = {x for x in before.live if x.turn != turn}
    others = {x for x in settling.record.live if x.turn not in new}
    world = world.wrong(Fault.SETTLED_OTHER, when=live != others)
    world = world.put_slot(turn, slot._replace(more=tuple(sorted(more)), outcome=outcome))
    world = world._replace(
        record=settling.record,
        contents=tuple(content.items()),
        watched=world.watched.union(settling.watch) - {turn},
        asked=tuple(x for x in world.asked if x[1] != turn),
    )
    if task is not None:
        # What does not matter any more, so that there are fewer worlds.
        done = task._replace(after=frozenset(), took=(), queued=False, window=False, seen=0)
        world = world.put(done._replace(input=None, nows=0))
    for number in new:
        again = number != before.next or number != len(world.slots) + 1
        world = world.wrong(Fault.NUMBER_USED_AGAIN, when=again)
        world = world.put_slot(number, Slot(begin, "settle"))
        world = stored_id(dispatch(world, number), number)
    return tell_to_begin(world)


def tell_to_begin(world: World) -> World:
    """Who waited for this turn last, and has nothing to take, is told what it begins with."""
    turn = world.record.next_to_begin
    task = None if turn is None else world.task(turn)
    if turn is None or task is None or world.budget.merge:
        return world
    record, taken = rules.begin_step(world.record, turn)
    if taken:
        return world
    own = world.slots[turn - 1].own  # also if it was killed, which the session does not know
    return world._replace(record=record).put(task._replace(queued=False, input=own))


def judge_passing_on(world: World, turn: int, settling: Step, kept: list[int]) -> World:
    """By what was handed out to the task, and whether somebody cancelled it."""
    task = world.task(turn)
    stays = task is not None and not task.goes_on
    left = len([x for x in world.record.steered if x.turn == turn]) != len(kept)
    untaken = [x for x in kept if task is None or x not in task.took]
    heirs = {x.turn for x in settling.record.steered if x not in world.record.steered}
    world = world.wrong(Fault.PASSED_ON, when=stays and left)
    world = world.wrong(Fault.NOT_PASSED_ON, when=not stays and bool(untaken))
    later = [x.turn for x in world.record.live if x.turn > turn]
    ends = {x.turn for x in world.tasks if not x.goes_on}
    going_on = {x for x in later if x not in ends}
    astray = not heirs <= going_on or heirs != set(settling.watch)
    astray = astray or (settling.dispatch is not None and bool(going_on))
    return world.wrong(Fault.PASSED_ASTRAY, when=astray)


@event
def a_note_arrives(world: World) -> Iterator[Happening]:
    """A task gave up a turn, which may be over by now; who waits for it as well is told."""
    for turn in world.notes:
        found = find_lost(world._replace(notes=world.notes - {turn}))
        before = found.record
        step = rules.give_up_step(before, {turn})
        flagged = [x._replace(given_up=x.given_up or x.turn == turn) for x in before.live]
        only = step._replace(give_up=()) == Step(before._replace(live=tuple(flagged)))
        found = found.wrong(Fault.GIVEN_UP_ONLY, when=not only)
        if before.find(turn) is not None:
            found = found._replace(given_up=found.given_up | {turn})
        for x in step.give_up:
            for task in found.tasks:
                if x in task.after and task.phase in (WINDOW, WAITING):
                    found = found.put(task._replace(overdue=task.overdue | {x}))
        yield Happening(f"{turn} is given up", found._replace(record=step.record))


@event
def somebody_looks(world: World) -> Iterator[Happening]:
    """Status and attach find what was lost, and settle what is over and did not report."""
    looked = find_lost(world)._replace(record=world.record)  # what they find they do not store
    ended = {x.turn for x in looked.tasks if x.phase == OVER and world.record.find(x.turn)}
    looked = looked._replace(reports=looked.reports | ended)
    if looked != world:
        yield Happening("look", looked)


# -- What tasks do, as in `_task`, and what is done to them. ---------------------------------------


@event
def a_task_goes_on(world: World) -> Iterator[Happening]:
    """It waits, works, may be told of a cancellation at any time, cleans up, ends."""
    for task in world.tasks:
        turn = task.turn
        if task.begins_no_more:
            yield Happening(f"{turn} ends before it began", end(world, task, "interrupted"))
        elif task.phase == WAITING and all(over(world, x) for x in task.after - task.overdue):
            if task.queued:
                yield Happening(f"{turn} asks to begin", ask_to_begin(world, task, READY))
            else:
                yield Happening(f"{turn} begins", begin(world, task))
        elif task.phase == READY:
            yield Happening(f"{turn} begins", begin(world, task))
        elif task.phase == WORKING:
            if task.told or task.stopped or task.stopping:
                yield Happening(f"{turn} cleans up", world.put(task._replace(phase=CLEANING)))
            # It may be done before the cancellation reaches it.
            yield Happening(f"{turn} completes", end(world, task, "completed"))
        elif task.phase == CLEANING:
            yield Happening(f"{turn} has cleaned up", end(world, task, "interrupted"))
            if task.took:
                forgot = end(world, task, "interrupted", knows=())
                yield Happening(f"{turn} has cleaned up, and had not got what it took", forgot)


@event
def a_task_takes_what_waits_for_it(world: World) -> Iterator[Happening]:
    """At work whenever it likes. Its call may be under way when it is cancelled."""
    for task in world.tasks:
        if task.phase == WORKING:
            record, taken = rules.hand_out(world.record, task.turn, waited=True, begins=False)
            after = take(world, task, record, taken)
            if after != world:
                took = [x.id for x in taken]
                yield Happening(f"{task.turn} takes {took}", after)


@event
def a_quiet_window_ends(world: World) -> Iterator[Happening]:
    """It begins anew if there is a message that the task did not know of."""
    for task in world.tasks:
        if task.phase != WINDOW or task.begins_no_more:
            continue
        turn = task.turn
        record, newest = rules.quiet_step(world.record, turn, seen=task.seen)
        due = [x + 1 for x in world.waiting({turn})] if task.goes_on else []
        again = max(due, default=0) > task.seen
        expected = max(due) if again else task.seen
        judged = world.wrong(Fault.QUIET_OTHER, when=newest != expected)
        if newest > task.seen:
            judged = judged.wrong(Fault.QUIET_OTHER, when=record != world.record)
            yield Happening(f"{turn} waits again", judged.put(task._replace(seen=newest)))
        elif task.queued:
            closed = task._replace(phase=WAITING, window=False, seen=0)
            yield Happening(f"{turn} has been quiet", judged._replace(record=record).put(closed))
        else:
            after = ask_to_begin(judged._replace(record=record), task, WAITING)
            yield Happening(f"{turn} has been quiet and begins", after)


def ask_to_begin(world: World, task: Task, phase: str) -> World:
    """A task gets what it begins with, or hears that it is cancelled, and ends."""
    turn = task.turn
    if not world.record.goes_on(turn):
        return end(world, task, "interrupted")
    record, taken = rules.begin_step(world.record, turn)
    world = take(world, task, record, taken)
    content, own = dict(world.contents), world.slots[turn - 1].own
    first = [content[x.number] for x in taken if x.at <= turn]
    then = [content[x.number] for x in taken if x.at > turn]
    messages = [x for x in (*first, *own, *then) if x not in world.promoted]
    world = world.wrong(Fault.INPUT_OUT_OF_ORDER, when=messages != sorted(messages))
    got = world.task(turn)
    assert got is not None
    return world.put(got._replace(phase=phase, window=False, seen=0, input=own))


def take(world: World, task: Task, record: Record, taken: tuple[Addition, ...]) -> World:
    """Take what waits, and judge it by what was handed out before."""
    content, turn = dict(world.contents), task.turn
    took = [content[x.number] for x in taken]
    before = [x.turn for x in world.tasks if x.turn <= turn and x.goes_on]
    hosts = {x for x in before if world.record.find(x) is not None}
    again = any(x in other.took for other in world.tasks for x in took)
    due = world.waiting(hosts) if task.goes_on else []
    in_order = [x for x in took if x not in world.promoted]
    right = took == due and in_order == sorted(in_order)
    world = world.wrong(Fault.TAKEN_AGAIN, when=again)
    world = world.wrong(Fault.TAKEN_OTHER, when=not right)
    late = any(x.joined != (not task.began) for x in taken)
    world = world.wrong(Fault.INPUT_OTHER, when=late)
    after = world.put(task._replace(took=(*task.took, *took)))
    inherits = taken and any(x.turn < turn for x in world.record.untaken)
    watched = after.watched | ({turn} if inherits else set())
    return after._replace(record=record, watched=watched)


def begin(world: World, task: Task) -> World:
    """Start work, and settle the predecessors that have not reported."""
    late = any(x.began for x in world.tasks if x.turn > task.turn)
    world = world.wrong(Fault.OUT_OF_ORDER, when=late)
    unsettled = {x for x in task.after - task.overdue if world.record.find(x)}
    world = world._replace(reports=world.reports | unsettled)
    return world.put(task._replace(phase=WORKING, began=True))


def end(world: World, task: Task, status: str, *, knows: tuple[int, ...] | None = None) -> World:
    """End with an outcome, and report it; the last answer to a `take` may have been lost."""
    outcome = Outcome(status, task.took if knows is None else knows)
    world = world._replace(reports=world.reports | {task.turn})
    return world.put(task._replace(phase=OVER, outcome=outcome))


@event
def an_operator_stops_a_task(world: World) -> Iterator[Happening]:
    """Killed, no code of it runs any more, and nobody is told; or cancelled, past the session."""
    for task in world.tasks:
        if task.phase == OVER:
            continue
        if world.budget.task_kills:
            killed = task._replace(phase=OVER, outcome=Outcome("killed"))
            after = excuse(world.spend("task_kills").put(killed), task.took)
            after = excuse(after, world.slots[task.turn - 1].own)
            yield Happening(f"{task.turn} is killed", after)
        if world.budget.task_cancels and not task.stopped:
            stopped = world.spend("task_cancels").put(task._replace(stopped=True))
            yield Happening(f"{task.turn} is cancelled in Restate", stopped)


@event
def a_cleanup_takes_too_long(world: World) -> Iterator[Happening]:
    """Whoever waits for it goes on without."""
    if not world.budget.timeouts:
        return
    for task in world.tasks:
        late = {x for x in task.after if not over(world, x) and told(world, x)}
        if task.phase == WAITING and not task.told and late - task.overdue:
            overdue = task._replace(overdue=task.overdue | late)
            noted = world._replace(notes=world.notes | late).spend("timeouts").put(overdue)
            yield Happening(f"{task.turn} waits no longer", noted)


def over(world: World, turn: int) -> bool:
    """Whether a turn's task has ended."""
    task = world.task(turn)
    return task is not None and task.phase == OVER


def told(world: World, turn: int) -> bool:
    """Whether the session cancelled a turn's task."""
    task = world.task(turn)
    return task is not None and task.told


# -- What has to hold. -----------------------------------------------------------------------------


@invariant
def messages_are_in_the_history_once_and_in_order(world: World) -> str | None:
    """I1: each is in one slot, or waits at one live turn; those with a turn of their own in order.

    A message that is answered again is in a later slot, too.
    """
    fresh = [slot for slot in world.slots if slot.by != "regenerate"]
    places = [x for slot in fresh for x in slot.own]
    places += [x for slot in world.slots for x in slot.more]
    places += [message for _, message in world.contents]
    places += [x for slot in fresh for x in slot.withdrawn]
    # What joined one whose messages are answered again has been nowhere else.
    again = (slot for slot in world.slots if slot.by == "regenerate")
    places += [x for slot in again for x in slot.withdrawn if x not in places]
    if sorted(places) != list(range(world.accepted)):
        return f"of {world.accepted} messages the history has {places}"
    own = [x for slot in fresh if slot.by == "message" for x in slot.own]
    own = [x for x in own if x not in world.promoted]
    return None if own == sorted(own) else f"the messages of turns are in the order {own}"


@invariant
def what_is_steered_waits_at_a_live_turn(world: World) -> str | None:
    """I9; and nothing is stored that no turn is to have."""
    stored_numbers = [number for number, _ in world.contents]
    numbers = [x.number for x in world.record.steered]
    astray = [x for x in world.record.steered if world.record.find(x.turn) is None]
    if sorted(stored_numbers) != sorted(numbers) or astray:
        return f"{world.record.steered} wait, stored are {world.contents}"
    return None


@invariant
def the_conversation_has_a_message_once(world: World) -> str | None:
    """An old turn whose messages are answered again is discarded."""
    seen = [
        message
        for turn, slot in enumerate(world.slots, 1)
        if turn not in world.discarded
        for message in (*slot.own, *slot.more)
    ]
    return None if len(seen) == len(set(seen)) else f"the conversation has {seen}"


@invariant
def what_is_discarded_was_taken_back(world: World) -> str | None:
    """And nothing else; no turn is marked before there is one."""
    if world.discarded != world.taken_back or not all(
        0 < x < world.record.next for x in world.discarded
    ):
        return f"{set(world.discarded)} are discarded, taken back were {set(world.taken_back)}"
    return None


@invariant
def what_is_discarded_does_not_go_on(world: World) -> str | None:
    """I6: so no turn that is taken back begins, and none that begins later sees it."""
    live = [x for x in world.record.live if x.cancelled is None]
    kept = [x.turn for x in live if x.turn in world.discarded]
    return f"turns {kept} are discarded and go on" if kept else None


@invariant
def what_is_open_is_in_its_quiet_window(world: World) -> str | None:
    """Nothing joins a turn that has what it begins with."""
    for live in world.record.live:
        task = world.task(live.turn)
        if live.open and task is not None and not task.window:
            return f"{live} is open, its task is {task.phase}"
    return None


@invariant
def one_task_is_at_work(world: World) -> str | None:
    """I2, unless `cleanup_timeout` ran out."""
    overdue = {turn for task in world.tasks for turn in task.overdue}
    working = [x.turn for x in world.tasks if x.at_work and x.turn not in overdue]
    return None if len(working) <= 1 else f"the tasks of turns {working} work side by side"


@invariant
def a_turns_outcome_is_its_tasks(world: World) -> str | None:
    """I3."""
    for turn, slot in enumerate(world.slots, 1):
        task, removed = world.task(turn), slot.outcome == Outcome(REMOVED)
        its_own = task is not None and task.outcome == slot.outcome
        if slot.outcome is not None and not its_own and not removed:
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
        task = world.task(live.turn)
        is_told, stops = (task.told, task.stopping) if task is not None else (False, False)
        is_known = (live.is_cut, live.after_step) == (is_told, stops and not is_told)
        if not is_known or live.goes_on == (is_told or stops):
            return f"{live} and {task}"
    return None


@invariant
def what_a_task_was_given_to_begin_with_stays(world: World) -> str | None:
    """Nobody changes what a task has, and nobody takes away what it took."""
    for task in world.tasks:
        if world.record.find(task.turn) is None:
            continue
        slot, mine = world.slots[task.turn - 1], world.messages(task.turn)
        if task.input is not None and task.input != slot.own:
            return f"turn {task.turn} began with {task.input}, and has {slot.own}"
        if task.phase != OVER and not set(task.took) <= set(mine):
            return f"turn {task.turn} took {task.took}, and has {mine}"
    return None


@invariant
def what_is_withdrawn_was_read_by_no_task(world: World) -> str | None:
    """I1, I7: and a turn of which nothing else is left has not begun, and is discarded."""
    for turn, slot in enumerate(world.slots, 1):
        task = world.task(turn)
        if not slot.withdrawn or task is None:
            continue
        took = task.outcome.took if task.outcome is not None else ()
        read = {*(task.input or ()), *task.took, *took}.intersection(slot.withdrawn)
        if read:
            return f"turn {turn} has read {read}"
        # Of one whose task was killed, the next turn may have taken the rest.
        gone = world.record.find(turn) is not None and not world.messages(turn)
        stands = turn not in world.discarded and task.phase != OVER
        if gone and (task.began or stands):
            return f"turn {turn} goes on without a message: {task}"
    return None


@invariant
def what_is_pending_is_what_no_task_has(world: World) -> str | None:
    """And is listed in the order in which it is read."""
    listed = [x - 1 for x in listed_as_pending(world.record)]
    expected = pending_messages(world)
    return None if listed == expected else f"{listed} are pending, and should be {expected}"


@cache
def listed_as_pending(record: Record) -> list[int]:
    return [x.id for x in pending.pending(record)]


@invariant
def the_record_knows_the_messages(world: World) -> str | None:
    """By their ids, and how often a turn was told to read one at once."""
    content = dict(world.contents)
    for x in world.record.steered:
        host = world.task(x.turn)
        if x.id != content.get(x.number, -1) + 1 or x.now > (0 if host is None else host.nows):
            return f"{x} is message {content.get(x.number)}, its turn's task {host}"
    for live in world.record.live:
        task, own = world.task(live.turn), world.slots[live.turn - 1].own
        if tuple(x - 1 for x in live.own) != own:
            return f"{live} has {own}"
        if live.nows != (0 if task is None else task.nows):
            return f"{live} was told {task}"
    return None


@invariant
def what_is_steered_is_watched(world: World) -> str | None:
    """I9: should the task of its turn be killed, somebody settles it."""
    hosts = {x.turn for x in world.record.steered if not x.taken and world.record.goes_on(x.turn)}
    left = hosts - world.watched
    return f"turns {left} are not watched" if left else None


@invariant
def an_approval_waits_for_a_live_turn(world: World) -> str | None:
    """Until it is answered, or that has ended."""
    listed = tuple((x.id, x.turn) for x in world.record.approvals)
    return None if listed == world.asked else f"{listed} wait, and should be {world.asked}"


@invariant
def what_was_given_up_was_waited_out_and_nothing_else(world: World) -> str | None:
    """And the session knows that of all that is live."""
    given_up = {x.turn for x in world.record.live if x.given_up}
    known = {x for x in world.given_up if world.record.find(x) is not None}
    waited_out = {turn for task in world.tasks for turn in task.overdue}
    if given_up != known or not given_up <= waited_out:
        return f"{given_up} are given up, known to be {known}, waited out {waited_out}"
    return None


@invariant
def nobody_waits_for_what_was_given_up(world: World) -> str | None:
    """So it is waited out once."""
    for task in world.tasks:
        waits_for = (task.after - task.overdue) & world.given_up
        if task.phase in (WINDOW, WAITING) and waits_for:
            return f"turn {task.turn} waits for {set(waits_for)}"
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
    again = stored_record.parse_record(json.loads(json.dumps(stored_record.dump_record(record))))
    return None if again == record else f"{record} comes back as {again}"


@invariant
def at_rest_nothing_is_live_and_all_that_was_wanted_was_answered(world: World) -> str | None:
    """I5, I9; at rest no task goes on, and no report or watcher is under way.

    What is wanted is all that nobody interrupted, cancelled, killed, took back or reset: so is the
    last turn, and so are those that were queued and what was steered, whoever takes it.
    """
    looked = find_lost(world)
    moves = any(True for _ in a_task_goes_on(world)) or any(x.phase == WINDOW for x in world.tasks)
    moves = moves or bool(world.notes or world.reports or world.asking)
    if moves or ended_and_watched(world) or looked.tasks != world.tasks:
        return None
    waiting = [x.turn for x in world.tasks if x.phase != OVER]
    if waiting or world.record.untaken:
        return f"turns {waiting} and {world.record.untaken} wait for ever"
    for live in world.record.live:
        world = settle(world, live.turn) if over(world, live.turn) else world
    if world.record.live:
        return f"{world.record.live} stay live"
    done = [x for x in world.slots if x.outcome and x.outcome.status == "completed"]
    answered = {message for slot in done for message in (*slot.own, *slot.more)}
    silent = set(range(world.accepted)) - answered - world.excused
    return f"messages {silent} got no answer, and nobody wanted that" if silent else None


def what_is_wrong(world: World) -> Iterator[tuple[str, str]]:
    """The names of what does not hold, and what is wrong."""
    if world.fault is not None:
        yield world.fault.name, world.fault.value
    for name, holds in INVARIANTS.items():
        wrong = holds(world)
        if wrong is not None:
            yield name, wrong

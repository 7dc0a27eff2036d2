"""The records of one session, put in order for the checks."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from .records import CHANGES, SAYS, Fault, Final, Invocation, Line, Op, Records, Told, token
from .said import Said

TICK = 0.002
"""Seconds: Restate's times are in whole milliseconds."""
THAW = 2.0
"""Seconds in which a worker that was frozen may still act on what it had read before."""


class Violation(NamedTuple):
    """What was found, and where."""

    invariant: str
    agent: str
    session: str
    text: str


def texts(messages: list[dict[str, Any]]) -> list[str]:
    """The messages' contents; what a turn is resumed with has no space at its end."""
    return [str(message["content"]).rstrip() for message in messages]


def is_note(text: str) -> bool:
    """Whether it is the note on an interrupted turn; no message of the run begins so."""
    return text.startswith("[")


@dataclass
class Attempt:
    """One execution of a task's body."""

    id: str
    lines: list[Line]
    thawed: bool = False
    """It began when its worker was no longer frozen: nobody knows when it had been sent there."""

    @property
    def first(self) -> float:
        return self.lines[0].at


@dataclass
class Work:
    """A task: what its attempts did."""

    id: str
    turn: int
    invocation: Invocation | None
    outcome: str | None
    attempts: list[Attempt]
    """Without those that began when the task was over: Restate has no fence against them."""

    @property
    def first(self) -> float:
        return self.attempts[0].first

    @cached_property
    def lines(self) -> list[Line]:
        """What counts: an attempt that was cut off may go on until it notices, at most."""
        kept: list[Line] = []
        killed = self.invocation is not None and self.outcome == "killed"
        for attempt, successor in zip(self.attempts, [*self.attempts[1:], None], strict=True):
            until = successor.first if successor else float("inf")
            if killed and self.invocation and self.invocation.ended:
                until = min(until, self.invocation.ended)
            kept += [line for line in attempt.lines if line.at < until]
        return kept

    @property
    def last(self) -> float:
        return self.lines[-1].at if self.lines else self.first


def _only_replays(attempt: Attempt, attempts: list[Attempt]) -> bool:
    """Whether the body had come to its end before, and this one begins no step of it again.

    The turn has told its outcome by then, and later ones need not wait for what follows.
    """
    ended = any(
        line.event == "end" and line.at < attempt.first for x in attempts for line in x.lines
    )
    return ended and not any(line.event == "begin" for line in attempt.lines)


@dataclass
class SessionView:
    """All that is known of one session."""

    agent: str
    session: str
    ops: list[Op] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    followers: dict[int, list[Told]] = field(default_factory=dict)
    """What each follower was told, in order."""
    final: Final | None = None
    fork: Op | None = None
    """What made this session of another, or may have."""
    records: Records = field(default_factory=Records)

    @cached_property
    def turns(self) -> dict[int, dict[str, Any]]:
        """The final record."""
        return {turn["turn"]: turn for turn in (self.final and self.final.turns) or []}

    @cached_property
    def works(self) -> list[Work]:
        """The tasks that ran their body, in the order in which they began."""
        return sorted(self._works(), key=lambda work: work.first)

    def _works(self) -> Iterator[Work]:
        by_task: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines:
            by_task[line.task].append(line)
        for task, lines in by_task.items():
            invocation = self.invocations.get(task)
            over = invocation.ended + TICK if invocation and invocation.ended else float("inf")
            by_attempt: dict[str, list[Line]] = defaultdict(list)
            for line in lines:
                by_attempt[line.attempt].append(line)
            attempts = [Attempt(x, of, self._is_thawed(of[0])) for x, of in by_attempt.items()]
            attempts = [x for x in attempts if x.first < over and not self._is_over(x, attempts)]
            attempts = [x for x in attempts if not _only_replays(x, attempts)]
            if attempts:
                attempts.sort(key=lambda attempt: attempt.first)
                outcome = invocation.outcome if invocation else None
                yield Work(task, lines[0].turn, invocation, outcome, attempts)

    def _is_thawed(self, first: Line) -> bool:
        return any(
            fault.target == str(first.worker)
            and 0 <= first.at - (fault.ended or fault.begun) < THAW
            for fault in self.faults_of("freeze worker")
        )

    def _is_over(self, attempt: Attempt, attempts: list[Attempt]) -> bool:
        # It was sent to a worker that was frozen, and one on another worker has taken over since;
        # but not one that was frozen itself at that moment, and only acts on afterwards.
        worker = attempt.lines[0].worker
        others = [x for x in attempts if x.lines[0].worker != worker]
        frozen = {
            fault.target
            for fault in self.faults_of("freeze worker")
            if fault.begun < attempt.first < (fault.ended or float("inf"))
        }
        others = [x for x in others if str(x.lines[0].worker) not in frozen]
        return attempt.thawed and any(x.first < attempt.first < x.lines[-1].at for x in others)

    def faults_of(self, *kinds: str) -> list[Fault]:
        return [fault for fault in self.records.faults if fault.kind in kinds]

    @cached_property
    def invocations(self) -> dict[str, Invocation]:
        return {x.id: x for x in self.records.invocations}

    @cached_property
    def touched(self) -> dict[str, set[str]]:
        """What the operator did to each invocation."""
        touched: dict[str, set[str]] = defaultdict(set)
        for fault in self.records.faults:
            touched[fault.target].add(fault.kind)
        return touched

    def killed_with_caller(self, task: str) -> bool:
        """Whether an invocation was killed that had, through others, sent this task."""
        caller = self.records.callers.get(task)
        while caller is not None:
            if self.touched[caller] & {"kill task", "kill message", "kill settle", "kill change"}:
                return True
            caller = self.records.callers.get(caller)
        return False

    def ops_of(self, *names: str) -> list[Op]:
        return [op for op in self.ops if op.name in names]

    @cached_property
    def writes(self) -> list[Op]:
        """What may have changed the session."""
        names = (*SAYS, "cancel", "regenerate", "rewind", "reset", "resume", *CHANGES)
        return [op for op in self.ops_of(*names) if op.ok or op.unknown]

    @cached_property
    def has_unknown(self) -> bool:
        return any(op.unknown for op in self.writes)

    def reset_after(self, time: float) -> bool:
        """Whether the session may have been emptied after this."""
        return any((op.answered or float("inf")) >= time for op in self.resets)

    @cached_property
    def resets(self) -> list[Op]:
        return [op for op in self.writes if op.name == "reset"]

    @cached_property
    def copied(self) -> float:
        """The last turn that came with a fork; those are another session's."""
        if self.fork is None or not (self.fork.ok or self.fork.unknown):
            return 0
        if self.fork.ok:
            return float(self.fork.answer["turn"])
        own = [op.answer["turn"] for op in self.ops_of(*SAYS) if op.ok]
        return min(own, default=float("inf")) - 1

    @cached_property
    def places(self) -> dict[str, list[tuple[int, int]]]:
        """Where each user's message stands in the record: turns, and places in them."""
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, turn in self.turns.items():
            said = [*turn["input"], *turn["messages"]]
            for place, message in enumerate(said):
                if message["role"] == "user":
                    places[token(message["content"])].append((number, place))
        return places

    @cached_property
    def said(self) -> dict[int, Said]:
        """All that was said, or may have been, by the request that said it."""
        return {op.id: Said.of(op, self.writes) for op in self.ops_of(*SAYS)}

    def places_of(self, op: Op) -> list[tuple[int, int]]:
        """Where it stands what a request said, or what was said in its place."""
        return [x for said in self.said[op.id].tokens for x in self.places.get(said, [])]

    @cached_property
    def model_was_told(self) -> dict[str, set[int]]:
        """The turns in which a model was told of a message, by what it said."""
        told: dict[str, set[int]] = defaultdict(set)
        for line in self.lines:
            if line.event in ("start", "took"):
                for text in line.seen:
                    told[token(text)].add(line.turn)
        return told

    def moved_after(self, op: Op) -> bool:
        """Whether messages that wait may have gone to other turns since one was sent."""
        return any(
            x.body["policy"] == "interrupt" and (x.answered or float("inf")) > op.asked
            for x in self.writes
            if x.name == "promote"
        )

    def is_empty(self, turn: int) -> bool:
        """Whether a turn has no message, and goes on with no other."""
        of = self.turns[turn]
        said = of["input"] or any(x["role"] == "user" for x in of["messages"])
        return not said and "resumes" not in of and turn > self.copied

    def is_emptied(self, turn: int) -> bool:
        """Whether all that a turn was begun for was taken from it before it began."""
        return self.is_empty(turn) and any(x.name in ("withdraw", "promote") for x in self.writes)

    def discarded(self, turn: int) -> bool:
        return bool(self.turns[turn].get("discarded"))

    def is_cancelled(self, turn: int) -> bool:
        """Whether a client or the operator may have cancelled this turn."""
        task = self.turns.get(turn, {}).get("task_id")
        return (
            "cancel task" in self.touched[str(task)]
            or self.has_unknown
            or any(turn in named(op) for op in self.writes)
            or (turn in self.turns and self.is_emptied(turn))
        )


def named(op: Op) -> set[int]:
    """The turns that a request's answer says it has cancelled."""
    if not op.ok or not isinstance(op.answer, dict):
        return set()
    return {*op.answer.get("interrupted", ()), *op.answer.get("cancelled", ())}


def views(records: Records) -> list[SessionView]:
    """The sessions of a run."""
    found: dict[tuple[str, str], SessionView] = {}

    def of(agent: str, session: str) -> SessionView:
        return found.setdefault((agent, session), SessionView(agent, session, records=records))

    for op in records.ops:
        of(op.agent, op.session).ops.append(op)
        if op.name == "fork":
            of(op.agent, op.body["session"]).fork = op
    for line in sorted(records.lines, key=lambda line: line.at):
        of(line.agent, line.session).lines.append(line)
    for told in records.told:
        of(told.agent, told.session).followers.setdefault(told.follower, []).append(told)
    for final in records.finals:
        of(final.agent, final.session).final = final
    return list(found.values())

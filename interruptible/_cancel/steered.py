"""A message that is to be read at once ends an await, and not the task.

Code within a *scope* that is *steerable* hears of such a message: an await that is pending raises
`Steered`, and each later one within the same scope. How it arrives:

| the k-th message            | while something is pending in a scope | while nothing is         |
| --------------------------- | ------------------------------------- | ------------------------ |
| arrives                     | that ends; k is over                  | k is due                 |
| was taken before it arrived | nothing                               | nothing                  |
| is due, and is taken        |                                       | k is over                |
| is due; a scope is entered  |                                       | its await ends; k over   |

Each raises once, and those that have arrived together raise as one. What decides is the same in
each attempt: which awaits are parked as Restate hands out what the task is told, in the order of
its journal. Which steps this attempt has in memory decides nothing; they are cut off, that is all.

| what may come in between                           | what happens                                |
| -------------------------------------------------- | ------------------------------------------- |
| the step has ended, and its result was handed out  | its await is not pending any more: k is due |
| it has ended, and its result stands behind k       | it is cut off: nobody gets the result       |
| somebody else awaits the step, not steerable       | it goes on                                  |
| what is awaited is shielded                        | it goes on                                  |
| the task is cancelled, stops or is over            | nothing is raised; that wins                |
| the step is no `async` function                    | all wait for its end: nothing can stop it   |
| the worker dies before anything came of k          | the next attempt finds k at the same place  |
| code swallows it                                   | later awaits in the scope raise it again    |
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, Literal

from typing_extensions import Self

from interruptible._cancel.state import Standing

PATIENT: Final = 1_000
"""How often code may swallow it in one scope, until it goes on as if nothing had been said."""


ScopeKind = Literal["steerable", "protected", "run"]


class Steered(BaseException):
    """The user has said something that this turn is to read at once: take it with `task.steering`.

    Raised within `task.steerable`. It is no error, and the turn goes on; so it is no `Exception`,
    and what a framework does about errors lets it pass. If `run` lets it out, the library takes
    what was said, and calls `run` again.
    """


class Scope:
    """A part of the code that may be steered.

    Args:
        kind: What it is; a `run` is steered when it has let `Steered` out, and what it left behind
            is to end.
        parent: What it is a part of.
    """

    def __init__(self, kind: ScopeKind, parent: "Scope | None" = None) -> None:
        self.kind, self.parent = kind, parent
        self.left = False
        """Whether the code has left it. What was started in it may go on."""
        self.steered = False
        self.raised = 0
        self.handles = frozenset[int]()
        """What was awaited in it when it was steered, and by nobody else."""
        self.beside = frozenset[int]()
        """What was awaited elsewhere then."""
        self.words: list[str] = []
        """What its steps had said by themselves."""

    def __enter__(self) -> Self:
        """Make the block this scope, within the one that it is in."""
        self.parent = scope.get()
        self._token = scope.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        scope.reset(self._token)
        self.left = True

    def hears(self) -> "Scope | None":
        """The one that is steered by a message which comes to code in this one."""
        if not self.left and self.kind != "run":
            return self if self.kind == "steerable" else None
        return None if self.parent is None else self.parent.hears()

    @property
    def must_leave(self) -> bool:
        """Whether awaits in it raise."""
        if self.steered and self.raised < PATIENT:
            return True
        is_safe = self.kind == "protected" and not self.left
        return not is_safe and self.parent is not None and self.parent.must_leave

    def count(self) -> None:
        """An await raises."""
        around: Scope | None = self
        while around is not None:
            around.raised += around.steered
            around = around.parent


scope: Final[ContextVar[Scope | None]] = ContextVar("interruptible_scope", default=None)
"""The innermost that this code is in."""


class NowMessages:
    """Which messages that are to be read at once have come, and which are over.

    Args:
        listen: Gives what is awaited for the k-th of them, counted from 1.
    """

    def __init__(self, listen: Callable[[int], Any]) -> None:
        self.arrived = self.seen = self.raised = 0
        """The last that has arrived, that was taken, and that was raised."""
        self._listen = listen
        self.next: Any = listen(1)

    @property
    def is_due(self) -> bool:
        """Whether one that has arrived is to be raised yet."""
        return self.arrived > max(self.seen, self.raised)

    def hear(self, has_come: Callable[[Any], bool]) -> None:
        """Look for those that have arrived."""
        while has_come(self.next):
            self.arrived = max(self.arrived, self.seen) + 1
            self.next = self._listen(self.arrived + 1)

    def see(self, number: int) -> None:
        """One was taken; no signal for it, or for one before it, raises anything."""
        if number > self.seen:
            self.seen = number
            if number > self.arrived:
                self.next = self._listen(number + 1)


def may_be_steered(within: Scope | None, of: Standing) -> Scope | None:
    """The scope that a message steers which comes to code of this standing."""
    return None if within is None or of == "shielded" else within.hears()


def is_to_leave(now: NowMessages | None, of: Standing) -> bool:
    """Whether code of this standing that comes to an await raises `Steered`; then it has."""
    around = scope.get()
    if around is None or of == "shielded":
        return False
    within = may_be_steered(around, of)
    if within is not None and now is not None and now.is_due:
        now.raised, within.steered = now.arrived, True
    leaves = around.must_leave
    if leaves:
        around.count()
    return leaves


def is_steered(error: BaseException | None) -> bool:
    """Whether this is `Steered`, or a group of nothing else."""
    parts: Any = getattr(error, "exceptions", ())
    return isinstance(error, Steered) or (bool(parts) and all(map(is_steered, parts)))

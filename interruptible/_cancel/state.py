"""What has happened to an attempt, and what its code is to do then.

| state         | since                         | code in a block | outside of all | shielded |
| ------------- | ----------------------------- | --------------- | -------------- | -------- |
| not cancelled | the attempt began             | goes on         | goes on        | goes on  |
| stopping      | it was told to stop in order  | waits, or is in flight and goes on || goes on  |
| cancelled     | a cancellation arrived        | ends, is told   | ends, is told  | goes on  |
| told          | an await or a block raised it | ends            | goes on        | goes on  |
| over          | Restate ended the attempt     | ends            | ends           | ends     |

To end is to raise at the next await: the interruption, or what ended the attempt. What has come
already is handed out before.

| event                         | not cancelled | stopping  | cancelled | told      | over |
| ----------------------------- | ------------- | --------- | --------- | --------- | ---- |
| a cancellation arrives        | cancelled     | cancelled | cancelled | cancelled |      |
| it is told to stop in order   | stopping      |           |           |           |      |
| nothing goes on any more      |               | cancelled |           |           |      |
| an await or a block raises it |               |           | told      | told      |      |
| Restate ends the attempt      | over          | over      | over      | over      | over |

So in a block each later await raises it. Outside of all blocks each is raised once, as in any
Restate handler; one that nobody was told of stays in force after the block. Once an attempt is
over, Restate has another do the same work: code that swallows that must not go on either.

In flight is what the code awaited when it was told to stop, as far as it is work: a step, a call,
an attach. It counts as begun, for an attempt before this one may have begun it. Its result is
handed out, and what the code makes of that is kept; but at the next await it waits. So does whoever
awaits no work, such as a sleep: were he ended, he would take along what is in flight beside him.
When all of it has come, and somebody waits, nothing goes on but what is shielded: then all of them
end as one. Code that returns or fails before that has done so by itself.

| what else may happen while it stops      | what comes of it                                      |
| ---------------------------------------- | ----------------------------------------------------- |
| a step fails for good, and `run` with it | the turn has failed                                   |
| `run` fails, and would be tried again    | that is the interruption: no attempt gets further     |
| the worker dies                          | the next attempt finds the same in flight; it is done |
| the rest of it is awaited anew           | that goes on: it is in flight still                   |
| a new step is awaited together with it   | the new step does not begin                           |
| cleanup or another shielded await is all | it goes on, and then its code until it waits    |
| a block ends badly, and its steps run    | what is in flight is cut off, as ever                 |

While the steps of a block that ends badly run, and once a turn ends, code that would go on waits,
unless it is shielded or is what others wait for.
"""

from collections.abc import Collection
from contextvars import ContextVar
from typing import Final, Literal

State = Literal["not cancelled", "stopping", "cancelled", "told", "over"]
Fate = Literal["goes on", "waits", "ends"]
Standing = Literal["open", "unwinding", "shielded"]

ENDS_WHERE: Final[dict[State, set[str]]] = {
    "not cancelled": set(),
    "stopping": set(),
    "cancelled": {"in a block", "outside"},
    "told": {"in a block"},
    "over": {"in a block", "outside", "shielded"},
}
standing: Final[ContextVar[Standing]] = ContextVar("interruptible_standing", default="open")
"""Whether this code is shielded, or others wait for its end."""
_kept: Final[ContextVar[int]] = ContextVar("interruptible_kept", default=-1)


class AttemptState:
    """One attempt of one invocation; see the table above."""

    def __init__(self) -> None:
        self.state: State = "not cancelled"
        self.error: BaseException | None = None
        """What ended the attempt: a suspension, a lost connection, an error of the SDK."""
        self.depth = 0
        """How many blocks the code is in."""
        self.held = False
        """Whether the work has ended, and what is left of it waits."""
        self.in_flight = set[int]()
        """What is still to come while it is stopping."""
        self.raised = 0
        """How often code has come to an await that raised; side by side they are told as one."""

    def fate(self, of: Standing, awaits: Collection[int] = ()) -> Fate:
        """What code of this standing is to do, that awaits these handles."""
        where = "shielded" if of == "shielded" else "in a block" if self.depth else "outside"
        if where in ENDS_WHERE[self.state]:
            return "ends"
        if of == "shielded":
            return "goes on"
        stops = self.state == "stopping" and self.in_flight.isdisjoint(awaits)
        return "waits" if stops or (self.held and of == "open") else "goes on"

    def cancel(self) -> None:
        """A cancellation has arrived, or what was in flight has."""
        self.state = "cancelled"
        self.in_flight.clear()

    def stop(self, in_flight: Collection[int]) -> None:
        """It is to end once what is in flight has come."""
        if self.state == "not cancelled":
            self.state = "stopping"
            self.in_flight.update(in_flight)

    def tell(self, *, again: bool = False) -> None:
        """The interruption is raised; `again`, if it was there before this code came to it."""
        self.state = "told"
        self.raised += again or not self.told

    def finish(self, error: BaseException) -> None:
        """The attempt is over."""
        self.state, self.error = "over", error

    def check(self) -> None:
        """Raise again, where the code has swallowed it, that the attempt is over."""
        if self.error is not None:
            raise self.error

    @property
    def cancelled(self) -> bool:
        """Whether a cancellation has arrived."""
        return self.state in ("cancelled", "told")

    @property
    def told(self) -> bool:
        """Whether an await has raised the interruption."""
        return self.raised > 0

    @property
    def stops(self) -> bool:
        """Whether this code is to wait at its next await."""
        return self.state == "stopping" and standing.get() != "shielded"

    @property
    def begins_nothing(self) -> bool:
        """Whether a step that this code asks for does not begin."""
        return self.told or self.stops

    @property
    def must_end(self) -> bool:
        """Whether this part of the code has to end."""
        return self.fate(standing.get()) == "ends"

    @property
    def counts(self) -> bool:
        """Whether what the code puts out now is of the work, and not of its being interrupted.

        Once an await has raised the interruption, nothing that follows is; but what is shielded
        goes on to its end, and its result is real.
        """
        return not self.told or standing.get() == "shielded" or _kept.get() == self.raised

    def keep(self) -> None:
        """Note that a shielded await is over: what follows is about its result, and counts."""
        _kept.set(self.raised)

"""The rules of a session's stream: what is kept of it, and what a follower is given. Pure.

The stream is a log of entries with growing ids. Some of them *stay*; others, the deltas, are *live*
until what replaces them comes, and are then left out:

| event                | is live until                                        |
| -------------------- | ---------------------------------------------------- |
| `text`, `reasoning`  | the assistant's next message, or the end of the turn |
| `output` of a call   | the result of the call, or the end of the turn       |
| all others           | (they stay)                                          |

A turn has a *voice*: the attempt whose deltas are live. An attempt that speaks for the first time
takes over, and what the one before had said, live, is void. Then, as whenever something is lost,
the log is made *anew*: a `gap`, and after it all that stays.

After a gap comes what is of the newest turn, and of those whose end the record does not have yet:
so whoever is told of one finds everything either in the record or after the gap. What the turn
before left stays as long, for followers who are just behind.
"""

import hmac
from collections.abc import Sequence
from typing import Final, NamedTuple

from interruptible._stream.deltas import TEXT, Told, answered, delta_of

BEGINS: Final[Told] = {"type": "turn", "state": "begins"}
GAP: Final[Told] = {"type": "gap"}
UNRECORDED: Final = 8
"""Turns that are kept although they are not on record. An older one that ends makes a gap."""
ANSWERED: Final = 32
"""Calls of which is known when their output comes too late."""
SILENT: Final = 16
"""Attempts of which is known that another has taken over."""


class Entry(NamedTuple):
    """One entry of the log."""

    id: int
    turn: int
    event: Told
    step: int | None = None
    """Which step said it, if it is a delta."""


class Page(NamedTuple):
    """Entries that stand by themselves, under the id of the first; they never change."""

    first: int
    last: int
    period: int
    """The newest turn when they came."""
    only: tuple[str, ...] | None
    """What they are deltas of, all of them, that is live; `None` if one of them stays."""


class Progress(NamedTuple):
    """How far a turn has come that is not on record yet."""

    told: int = 0
    """How often its task has told something of it."""
    messages: int = 0
    """How many messages it has put out; less than 0 if somebody may have missed some."""
    status: str | None = None
    """How it ended, as its task says."""


class Log(NamedTuple):
    """What a stream knows about itself."""

    base: int = 1
    """All up to this id is gone."""
    tail: int = 1
    """The id of the newest entry."""
    turn: int = 0
    """The newest turn that has begun."""
    before: int = 0
    """The one that was the newest before."""
    key: str = ""
    """What publishes for it from outside has to know; empty when it has ended."""
    turns: tuple[tuple[int, Progress], ...] = ()
    """Those that are not on record yet."""
    spoke: int = 0
    """How often the task had told something when the assistant's last message was told."""
    answered: tuple[tuple[str, int], ...] = ()
    """The last calls that have had their result, and how often it had told something then."""
    closed: tuple[str, ...] = ()
    """The last calls that were said to end."""
    voice: str = ""
    seq: int = 0
    """The number of the last batch from that voice, and how many of its events were taken."""
    took: int = 0
    silent: tuple[str, ...] = ()
    pages: tuple[Page, ...] = ()
    recent: tuple[Entry, ...] = ()
    size: int = 0
    """Bytes of the recent entries, about."""
    live: tuple[str, ...] = ()
    """What there are deltas of that nothing has replaced."""

    @property
    def least(self) -> int:
        """The oldest turn that a follower cannot find in the record, or else the newest."""
        return min([self.turn, *(turn for turn, _ in self.turns)])


class Plan(NamedTuple):
    """What a rule leads to: the log as it is then, and what comes after it."""

    log: Log
    say: Sequence[tuple[int, Told, int | None]] = ()
    """Whose event, the event, and which step said it."""
    anew: bool = False
    """Whether the log is made anew before that; for this, all its entries have to be read."""
    without: int | None = None
    """The turn of which nothing but its beginning is kept then."""
    keeps_live: bool = False
    """Whether what is live stays then, as nothing of it is lost."""
    period: int | None = None
    """The newest turn before, if there is a newer one now."""


class Batch(NamedTuple):
    """What an attempt publishes at once."""

    key: str
    voice: str
    seq: int
    say: Sequence[tuple[int, Told, int | None]]
    """How often its task had told something when it was said; the event; and the step."""
    gap: bool = False
    """Whether something before it was lost."""


# -- What happens to a stream. ---------------------------------------------------------------------


def turn_begins(log: Log, turn: int, key: str) -> Plan | None:
    """A turn begins; `None` if a newer one has."""
    if turn <= log.turn:
        return None
    turns = (*log.turns, (turn, Progress()))[-UNRECORDED:]
    begun = log._replace(
        turn=turn,
        before=log.turn,
        key=key,
        turns=turns,
        spoke=0,
        answered=(),
        closed=(),
        voice="",
        seq=0,
        took=0,
    )
    return Plan(begun, [(turn, BEGINS, None)], period=log.turn)


def tell(log: Log, turn: int, events: Sequence[Told], *, anew: bool = False) -> Plan | None:
    """A task tells what its turn did; `None` if that does not matter any more.

    Args:
        log: The log.
        turn: The turn.
        events: The events, in order.
        anew: Whether they are all that the turn did, and what was told before does not count.
    """
    progress = dict(log.turns).get(turn)
    if progress is None:
        return None
    told, messages = progress.told + 1, 0 if anew else progress.messages
    if messages >= 0:
        messages += sum(x["type"] in ("message", "steered") for x in events)
    ends = [x["status"] for x in events if x["type"] == "turn" and "status" in x]
    if turn < log.turn:  # it was given up, and who follows the newer one is not told
        return Plan(_with(log, turn, Progress(told, -1, ends[0] if ends else None)))
    log = _with(log, turn, Progress(told, messages, ends[0] if ends else None))
    for message in (x["message"] for x in events if x["type"] == "message"):
        if message.get("role") == "assistant":
            log = log._replace(spoke=told)
        results = [(call, told) for call in answered(message)]
        log = log._replace(answered=(*log.answered, *results)[-ANSWERED:])
    if ends:
        log = log._replace(key="")
    return Plan(log, [(turn, x, None) for x in events], anew, turn if anew else None)


def publish(log: Log, batch: Batch) -> Plan | int | str:
    """An attempt says something from outside, piece by piece.

    Of its events, the first are taken for which all has come that its task had told before: the
    rest is to be published again.

    Returns:
        What follows: the log then knows how many were taken. If the batch was here before, how many
        of it were taken; or why it is refused.
    """
    keys = (key.encode(errors="surrogatepass") for key in (batch.key, log.key))
    if not log.key or not hmac.compare_digest(*keys):
        return "key: is not that of the turn at work."
    if batch.voice in log.silent:
        return "voice: another attempt at this turn has taken over."
    anew = batch.gap
    if batch.voice != log.voice:
        anew = anew or bool(log.live)
        silent = (*log.silent, *([log.voice] if log.voice else []))[-SILENT:]
        log = log._replace(voice=batch.voice, seq=0, silent=silent)
    elif batch.seq <= log.seq:
        return log.took
    told = dict(log.turns)[log.turn].told
    ready = [after <= told for after, _, _ in batch.say]
    taken = ready.index(False) if False in ready else len(ready)
    say = [
        (log.turn, event, step)
        for after, event, step in batch.say[:taken]
        if not _is_late(log, after, event)
    ]
    ends = [x["call"] for _, x, _ in say if x["type"] == "tool" and x["state"] == "ends"]
    closed = (*log.closed, *ends)[-ANSWERED:]
    return Plan(log._replace(seq=batch.seq, took=taken, closed=closed), say, anew)


def end(log: Log, turn: int, status: str, messages: int) -> Plan:
    """The record has the end of a turn: how it ended, and how many messages it put out."""
    progress = dict(log.turns).get(turn, Progress() if turn > log.turn else Progress(0, -1))
    turns = tuple(x for x in log.turns if x[0] != turn)
    log = log._replace(turns=turns, key="" if turn == log.turn else log.key)
    if progress == (progress.told, messages, status):
        return Plan(log)
    ends: Told = {"type": "turn", "state": "ends", "status": status}
    # Of a turn that did not tell its end, the record may have others, and as many.
    missed = progress.status is not None or (progress.messages, messages) != (0, 0)
    without = turn if missed else None
    return Plan(log, [(turn, ends, None)], anew=missed, without=without, keeps_live=True)


def _is_late(log: Log, after: int, event: Told) -> bool:
    """Whether what replaces a delta has come before it."""
    if event["type"] == "tool":  # another attempt says again that it begins, and that it ends
        is_over = after < dict(log.answered).get(event["call"], 0)
        return event["call"] in log.closed if event["state"] == "ends" else is_over
    of = delta_of(event)
    if of is None:
        return False
    return after < (log.spoke if of == TEXT else dict(log.answered).get(of, 0))


def _with(log: Log, turn: int, progress: Progress) -> Log:
    turns = tuple((x, progress if x == turn else was) for x, was in log.turns)
    return log._replace(turns=turns)

"""What each contender does right, as a table of yes and no, which follows from the samples."""

from collections.abc import Callable, Mapping
from typing import Final

from .figures import Samples, duration, median, of

AT_ONCE: Final = 0.1
"""Seconds in which something happens at once, for somebody who looks at it."""

Given = Mapping[str, Samples]

Verdict = Callable[[Given, str], str]


def soon(measure: str, *names: str) -> Verdict:
    """Whether the medians are below that; if not, the longest of them."""

    def verdict(given: Given, side: str) -> str:
        found = [median(given[measure], side, name) for name in names]
        longest = max((each for each in found if each is not None), default=None)
        if longest is None or None in found:
            return "no"
        return "yes" if longest < AT_ONCE else f"no: {duration(longest)}"

    return verdict


def always(measure: str, name: str, holds: Callable[..., bool] = bool) -> Verdict:
    """Whether something held in each sample; if not, in how many it did."""

    def verdict(given: Given, side: str) -> str:
        values = of(given[measure], side, name)
        held = sum(map(holds, values))
        if held == len(values):
            return "yes" if values else ""
        return f"in {held} of {len(values)}" if held else "no"

    return verdict


def told(name: str, *kinds: str) -> Verdict:
    """Whether the model is sent one of these next."""
    return always("history", name, lambda sent: any(kind in sent for kind in kinds))


def is_one(number: int) -> bool:
    return number == 1


def is_none(number: int) -> bool:
    return number == 0


def rolls_back(given: Given, side: str) -> str:
    """Whether a message can undo the turn that it interrupts."""
    sent = of(given["history"], f"{side}, rollback", "in mid-stream")
    return "yes" if sent and all(each == ["the second message"] for each in sent) else "no"


def keeps_all(given: Given, side: str) -> str:
    """Whether each message of a burst is in the history afterwards."""
    most = max(x for each in given["burst"] for x in of(given["burst"], each, "kept"))
    return always("burst", "kept", lambda kept: kept == most)(given, side)


PROMISES: Final[tuple[tuple[str, Verdict], ...]] = (
    ("a message is acknowledged at once", soon("interrupt", "acknowledged")),
    ("also while a cleanup runs", soon("cleanup", "acknowledged in cleanup")),
    ("the model's call is cut off at once", soon("interrupt", "cut off")),
    ("the next call begins at once", soon("interrupt", "next call")),
    ("also after 200 messages of 20 KB", soon("long", "next call")),
    ("one call of a session at a time", always("interrupt", "at once", is_one)),
    ("also in a burst", always("burst", "at once", is_one)),
    ("of a burst, one call is paid to the end", always("burst", "paid to the end", is_one)),
    ("each message of a burst is in the history", keeps_all),
    ("a cleanup runs to its end", always("cleanup", "ran to its end")),
    ("the next call waits for it", always("cleanup", "calls before its end", is_none)),
    ("finished steps are kept", told("in step 2 of 3", "an answer", "a tool's result")),
    ("half an answer is kept", told("in mid-stream", "half an answer")),
    ("the model is told of the interruption", told("in mid-stream", "a note")),
    ("a message can roll back the turn", rolls_back),
    ("a queued message's call begins at once", soon("queue", "end to next call")),
    (
        "after SIGKILL, the message is answered",
        always("killed", "answered", lambda x: x is not None),
    ),
    ("after SIGKILL, all messages are there", always("killed", "kept", lambda kept: kept == 3)),
)


def verdicts(given: Given) -> list[list[str]]:
    """A row for each promise, a column for each contender; a variant where that differs."""
    sides = list(given["killed"])
    whole = {
        name: {**samples, **{x: samples[x.partition(",")[0]] for x in sides if x not in samples}}
        for name, samples in given.items()
        if name != "killed later"
    }
    rows = [[name, *(verdict(whole, side) for side in sides)] for name, verdict in PROMISES]
    return [["", *sides], *rows]

"""Sessions that were forked off another: what they decide of I1."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from .records import Op
from .view import SessionView, Violation

CONTENT = ("turn", "status", "input", "messages", "steered", "partial", "error", "task_id")


def forks_are_copies(views: list[SessionView], count: Counter[str]) -> Iterator[Violation]:
    """I1: a session that was forked off begins with the conversation of the other, as it was then.

    Allowed: either may have been changed since by a rewind, a regenerate, a rollback or a reset.
    """
    by_key = {(view.agent, view.session): view for view in views}
    for view in views:
        if view.fork is None or view.final is None:
            continue
        other = by_key[view.fork.agent, view.fork.session]
        count["I1"] += view.fork.ok
        for text in (*_copied(view, other), *_chosen(view, other, view.fork)):
            yield Violation("I1", view.agent, view.session, text)


def _copied(view: SessionView, other: SessionView) -> Iterator[str]:
    for number, turn in view.turns.items():
        if number > view.copied:
            continue
        original = other.turns.get(number)
        if original is None:
            if not other.resets:
                yield f"turn {number} came with the fork of {other.session}, which has none such"
        elif _content(turn) != _content(original):
            yield (
                f"turn {number} came with the fork of {other.session}, and is another there: "
                f"{_content(turn)}, {_content(original)}"
            )


def _chosen(view: SessionView, other: SessionView, fork: Op) -> Iterator[str]:
    """Whether the fork took along what was in the conversation, up to the turn that was asked."""
    if not fork.ok or view.resets:
        return
    last = max(fork.answer["turn"], (fork.body.get("turn") or 0))
    for number in other.turns:
        if number > last:
            continue
        came = number in view.turns and number <= view.copied
        taken_back = _taken_back(other, number)
        before = any(x.asked < (fork.answered or float("inf")) for x in taken_back)
        after = any((x.answered or float("inf")) > fork.asked for x in taken_back)
        if not (came or before):
            yield f"turn {number} of {other.session} was left out of the fork"
        if came and other.discarded(number) and not after:
            yield f"turn {number} of {other.session} had been taken back, and came with the fork"


def _taken_back(view: SessionView, number: int) -> list[Op]:
    """The requests that have, or may have, discarded a turn."""
    if not view.discarded(number):
        return []
    return [
        x
        for x in view.writes
        if x.unknown
        or x.name == "reset"
        or number in x.answer.get("discarded", ())
        or (x.name in ("withdraw", "promote") and view.is_emptied(number))
    ]


def _content(turn: dict[str, Any]) -> dict[str, Any]:
    return {name: turn[name] for name in CONTENT if name in turn}

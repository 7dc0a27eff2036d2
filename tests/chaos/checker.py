"""Decides the invariants of a run from its records alone: `check(records)` gives the violations.

It knows nothing of the library's inside. What it allows, and why, is said at each check; in short:

- A request without an answer, or whose `message` an operator broke off, may have happened or not.
- An attempt that the server has given up may go on until its worker notices: Restate fences what is
  recorded, not what a step does to the world. So of an attempt counts what it did before the next
  attempt of its task began, and of a killed task what it did before it was killed.
- A step of a worker that dies may be done again, until something after it was recorded.
- A turn whose task an operator killed owes no cleanup and no answer.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from . import (
    checks_bursts,
    checks_controls,
    checks_followers,
    checks_forks,
    checks_history,
    checks_pending,
    checks_steps,
    checks_words,
)
from .records import Records
from .view import SessionView, Violation, views

Count = Counter[str]
Check = Callable[[SessionView, Count], Iterator[Violation]]

CHECKS: dict[str, tuple[Check, ...]] = {
    "I1": (checks_history.each_message_once_in_order, checks_pending.one_place_or_withdrawn),
    "I2": (checks_steps.one_at_work,),
    "I3": (checks_history.one_outcome, checks_pending.attached_by_message),
    "I4": (checks_steps.cleanup_once,),
    "I5": (checks_history.all_ends,),
    "I6": (checks_history.nothing_late, checks_words.words_stand_where_they_were_said),
    "I7": (
        checks_steps.superseded_before_it_began,
        checks_bursts.quiet_first,
        checks_pending.taken_back_before_it_began,
    ),
    "I8": (checks_steps.aborted_before_cleanup,),
    "I9": (
        checks_bursts.steered_is_answered,
        checks_bursts.bursts_join,
        checks_pending.promoted_is_next,
        checks_pending.queued_is_spared,
        checks_pending.read_at_once,
    ),
    "I10": (checks_steps.answers_during_cleanup,),
    "I12": (checks_followers.followers_come_to_the_record,),
    "metadata": (checks_pending.notes_stay_with_messages,),
    "after step": (checks_controls.nothing_begins_after_step,),
    "resume": (checks_controls.resumes_where_it_stopped,),
    "approval": (checks_controls.approvals_are_answered_once,),
}
"""The invariants, and then what single operations promise; those that one session decides. Those of
several, `forks_are_copies` and `delegates_end_first`, follow."""


def check(records: Records, decided: Count | None = None) -> list[Violation]:
    """Decide every invariant.

    Args:
        records: The run.
        decided: Counts for each invariant how often there was something to decide.
    """
    count: Count = Counter() if decided is None else decided
    sessions = views(records)
    found = [
        violation
        for view in sessions
        for checks in CHECKS.values()
        for check_one in checks
        for violation in check_one(view, count)
    ]
    found += checks_forks.forks_are_copies(sessions, count)
    found += checks_steps.delegates_end_first(sessions, count)
    return found

"""The rules of one session, in long stories that no exhaustive walk would reach.

Hypothesis picks what happens; the world, its events and what has to hold are `test_session`'s.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from interruptible._session import rules
from interruptible._session.record import Record
from interruptible._session.rules import Step

from . import world
from .world import CONTROLS, EVENTS, MORE, PENDING, POLICIES, Budget, Happening, World

PROGRESS = (
    world.a_task_goes_on,
    world.a_task_takes_what_waits_for_it,
    world.a_quiet_window_ends,
    world.a_task_asks_for_an_approval,
    world.a_report_arrives,
    world.a_note_arrives,
)
# Controls are rare, and so is what goes wrong, or nothing would live to become complicated.
OFTEN = (world.a_message_arrives, *PROGRESS)
SAID = (world.a_message_arrives,) * 6
EVERYTHING = (*EVENTS, *OFTEN * 4, *(world.an_approval_ends,) * 4)


class Session(RuleBasedStateMachine):
    """One session of an agent that is set anyhow, with clients, tasks and operators around it."""

    can: ClassVar[tuple[str, ...]] = (*POLICIES, *CONTROLS, *MORE, "answer")
    happened: ClassVar[set[str]] = set()
    turns: ClassVar[int] = 0

    @initialize(max_pending=st.integers(1, 4), keep_queued=st.booleans(), merge=st.booleans())
    def begins(self, max_pending: int, keep_queued: bool, merge: bool) -> None:
        self.world = World(
            Budget(
                acts=100,
                can=self.can,
                max_pending=max_pending,
                keep_queued=keep_queued,
                merge=merge,
                task_kills=3,
                task_cancels=3,
                message_kills=3,
                repeats=3,
                losses=3,
                timeouts=3,
                asks=3,
            )
        )

    @rule(happens=st.sampled_from(EVERYTHING), choice=st.integers(0, 2**16))
    def something_happens(self, happens: Callable[..., Iterator[Happening]], choice: int) -> None:
        self.go_on(happens, choice)

    def go_on(self, happens: Callable[..., Iterator[Happening]], choice: int) -> None:
        can = list(happens(self.world))
        if can:
            self.world = can[choice % len(can)].world
            Session.happened.add(happens.__name__)
            Session.turns = max(Session.turns, len(self.world.slots))

    @invariant()
    def all_holds(self) -> None:
        assert list(world.what_is_wrong(self.world)) == []

    def teardown(self) -> None:
        """Nobody acts any more: all comes to rest, where more has to hold."""
        if not hasattr(self, "world"):
            return
        events = (world.somebody_looks, *PROGRESS)
        for _ in range(500):
            can = (x.world for happens in events for x in happens(self.world))
            after = next((x for x in can if x != self.world), None)
            if after is None:
                break
            self.world = after
            self.all_holds()
        assert not self.world.record.live
        assert not self.world.contents


class Conversation(Session):
    """One in which nothing is taken back, so that more waits at the same time."""

    can = ("interrupt", "queue", "steer")

    @rule(happens=st.sampled_from((*SAID, *PROGRESS * 2)), choice=st.integers(0, 2**16))
    def something_happens(self, happens: Callable[..., Iterator[Happening]], choice: int) -> None:
        self.go_on(happens, choice)


class Line(Session):
    """One in which much waits, and is changed until it is read."""

    can = ("queue", "steer", "steer now", *PENDING)


pytestmark = pytest.mark.long

LONG = settings(
    max_examples=100,
    stateful_step_count=100,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_long_and_eventful_sessions_keep_all_their_promises() -> None:
    Session.happened.clear()
    run_state_machine_as_test(Session, settings=LONG)
    # And one in which much waits, and is changed again and again until it is read.
    run_state_machine_as_test(Line, settings=settings(LONG, max_examples=25))
    # That all can happen, `test_session` shows; here it is chance.
    assert len(Session.happened) > len(EVENTS) * 3 // 4
    assert Session.turns > 10


def test_a_mistake_that_takes_many_messages_to_show_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = rules.message_step

    def numbers_are_counted(record: Record, policy: str, **options: Any) -> Step:
        # So two have the same when an older one is settled and a newer one is not.
        step = message(record, policy, **options)
        if step.steer is None:
            return step
        steered = step.steer._replace(number=len(record.steered) + 1)
        kept = step.record._replace(steered=(*record.steered, steered))
        return step._replace(record=kept, steer=steered)

    monkeypatch.setattr("interruptible._session.rules.message_step", numbers_are_counted)
    story = settings(LONG, phases=[Phase.generate])
    with pytest.raises(AssertionError, match="NUMBER_USED_AGAIN"):
        run_state_machine_as_test(Conversation, settings=story)

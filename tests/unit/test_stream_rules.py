"""The rules of the stream in long stories: whoever follows a session comes to what is on record."""

from collections import Counter
from collections.abc import Callable
from random import Random
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

from interruptible._stream import deltas, handlers, keeping, log
from interruptible._stream.log import Log

from . import stream_oracle
from .stream_world import EVENTS, World


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what outgrows them is."""
    monkeypatch.setattr(keeping, "PAGE", 250)
    monkeypatch.setattr(handlers, "MOST", 300)
    monkeypatch.setattr(handlers, "TOLD", 500)
    monkeypatch.setattr(log, "UNRECORDED", stream_oracle.MOST_UNRECORDED)


class Session(RuleBasedStateMachine):
    """A session, its stream, and those who follow it."""

    happened: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begins(self) -> None:
        self.world = World(self.happened)

    @rule(happens=st.sampled_from(EVENTS), choice=st.integers(0, 2**16))
    def something_happens(self, happens: Callable[[World, Random], None], choice: int) -> None:
        happens(self.world, Random(choice))

    @invariant()
    def all_holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.all_comes_to_rest()


LONG = settings(
    max_examples=100,
    stateful_step_count=150,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_whoever_follows_a_session_comes_to_what_is_on_record() -> None:
    Session.happened.clear()
    run_state_machine_as_test(Session, settings=LONG)
    print(Session.happened)

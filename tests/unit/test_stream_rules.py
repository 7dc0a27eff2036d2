"""The rules of the stream in long stories: whoever follows a session comes to what is on record."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from interruptible._stream import handlers, keeping, log
from interruptible._stream.keeping import Change
from interruptible._stream.log import Batch, Entry, Log, Page, Plan, Progress

from . import stream_oracle
from .stream_world import EVENTS, World


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what outgrows them is."""
    monkeypatch.setattr(keeping, "PAGE", 400)
    monkeypatch.setattr(handlers, "MOST", 400)
    monkeypatch.setattr(handlers, "TOLD", 400)
    monkeypatch.setattr(log, "UNRECORDED", stream_oracle.MOST_UNRECORDED)


class Session(RuleBasedStateMachine):
    """A session, its stream, and those who follow it."""

    @initialize()
    def begins(self) -> None:
        self.world = World(Counter())

    @rule(happens=st.sampled_from(EVENTS), choice=st.integers(0, 2**16))
    def something_happens(self, happens: Callable[[World, Random], None], choice: int) -> None:
        happens(self.world, Random(choice))  # noqa: S311

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.all_comes_to_rest()


@pytest.mark.long
def test_whoever_follows_a_session_comes_to_what_is_on_record() -> None:
    story = settings(
        max_examples=40,
        stateful_step_count=120,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Session, settings=story)


STORIES = 100
HAPPENS = {
    "a batch comes for a turn that is over",
    "a batch comes too early",
    "a batch comes twice",
    "a batch is sent again",
    "a follower has seen everything",
    "a follower sees live words",
    "a gap by end",
    "a gap by note",
    "a gap by publish",
    "a gap by tell",
    "a message replaces a part of what was said",
    "a message replaces what was said",
    "a turn begins before another is on record",
    "a turn begins too late",
    "a turn ends as it has told",
    "a turn ends that never began",
    "a turn ends that told no message",
    "a turn is given up",
    "a turn is killed",
    "a turn is too old to be kept",
    "a turn that was given up tells something",
    "a voice is silent",
    "a voice takes over what is live",
    "an answer has a part of what there is",
    "an offset is gone",
    "an outcome differs from what was told",
    "something is lost before a batch",
    "something is said too late",
    "the log is truncated",
    "there are three pages or more",
    "who waits is told at once",
    "who waits is told that there is something",
    "words are live",
    "words stay live at a gap by end",
    "words stay live at a gap by note",
}


def stories(happened: Counter[str], many: int = STORIES) -> None:
    """Sessions that are the same in each run of the tests."""
    for seed in range(many):
        random, world = Random(seed), World(happened)  # noqa: S311
        for _ in range(200):
            random.choice(EVENTS)(world, random)
        world.all_comes_to_rest()


def test_stories_tell_of_all_that_can_happen() -> None:
    happened: Counter[str] = Counter()
    stories(happened)
    assert {x: count for x, count in happened.items() if count < 3} == {}
    assert happened.keys() == HAPPENS


# -- Rules that are wrong. -------------------------------------------------------------------------

Wrong = Callable[[pytest.MonkeyPatch], None]
WRONG: list[Wrong] = []


def wrong(rule: Wrong) -> Wrong:
    WRONG.append(rule)
    return rule


publish, tell, end, begin, is_late = log.publish, log.tell, log.end, log.turn_begins, log._is_late
change_of, truncate, without = keeping.change_of, keeping.truncate, keeping._without_what_is_over
since, shown, live_words = keeping.since, keeping.shown, keeping.live_words
some_entries = handlers._some_entries


@wrong
def a_batch_that_comes_again_is_taken_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log, "publish", lambda log, batch: publish(log._replace(seq=0), batch))


@wrong
def what_the_attempt_before_has_said_stays(patch: pytest.MonkeyPatch) -> None:
    def stays(log: Log, batch: Batch) -> Any:
        plan = publish(log, batch)
        return plan._replace(anew=batch.gap) if isinstance(plan, Plan) else plan

    patch.setattr(log, "publish", stays)


@wrong
def what_was_lost_makes_no_gap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log, "publish", lambda log, batch: publish(log, batch._replace(gap=False)))


@wrong
def what_is_said_too_early_is_taken(patch: pytest.MonkeyPatch) -> None:
    def taken(log: Log, batch: Batch) -> Any:
        told = dict(log.turns)[log.turn].told if log.key else 0
        say = [(min(after, told), event, step) for after, event, step in batch.say]
        return publish(log, batch._replace(say=say))

    patch.setattr(log, "publish", taken)


@wrong
def what_is_said_too_late_is_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log, "_is_late", lambda *_: False)


@wrong
def an_output_is_late_as_words_are(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log, "_is_late", lambda log, after, event: after < log.spoke)


@wrong
def an_output_is_late_if_its_call_ever_had_a_result(patch: pytest.MonkeyPatch) -> None:
    def late(log: Log, after: int, event: Any) -> bool:
        return event.get("call") in dict(log.answered) or is_late(log, after, event)

    patch.setattr(log, "_is_late", late)


@wrong
def a_voice_that_was_silenced_speaks_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log, "publish", lambda log, batch: publish(log._replace(silent=()), batch))


@wrong
def any_key_publishes(patch: pytest.MonkeyPatch) -> None:
    def taken(log: Log, batch: Batch) -> Any:
        return publish(log, batch._replace(key=log.key or batch.key))

    patch.setattr(log, "publish", taken)


@wrong
def a_key_is_good_when_its_turn_has_ended(patch: pytest.MonkeyPatch) -> None:
    def kept(log: Log, turn: int, *told: Any, **more: Any) -> Any:
        plan = tell(log, turn, *told, **more)
        return plan and plan._replace(log=plan.log._replace(key=log.key))

    patch.setattr(log, "tell", kept)


@wrong
def a_turn_that_was_given_up_is_told_as_the_newest_is(patch: pytest.MonkeyPatch) -> None:
    def told(log: Log, turn: int, events: Any, **more: Any) -> Any:
        plan = tell(log, turn, events, **more)
        return plan and plan._replace(say=[(turn, x, None) for x in events])

    patch.setattr(log, "tell", told)


@wrong
def nobody_counts_what_a_turn_that_was_given_up_has_told(patch: pytest.MonkeyPatch) -> None:
    def told(log: Log, turn: int, *told: Any, **more: Any) -> Any:
        return None if turn < log.turn else tell(log, turn, *told, **more)

    patch.setattr(log, "tell", told)


@wrong
def what_a_turn_did_is_told_beside_what_was_told_before(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log, "tell", lambda log, turn, events, anew=False: tell(log, turn, events))


@wrong
def steered_messages_do_not_count(patch: pytest.MonkeyPatch) -> None:
    def told(log: Log, turn: int, events: Any, **more: Any) -> Any:
        plan = tell(log, turn, events, **more)
        count = sum(x["type"] == "steered" for x in events)
        return plan and plan._replace(
            log=plan.log._replace(
                turns=tuple(
                    (x, p._replace(messages=p.messages - count) if x == turn else p)
                    for x, p in plan.log.turns
                )
            )
        )

    patch.setattr(log, "tell", told)


@wrong
def an_older_turn_begins_after_a_newer(patch: pytest.MonkeyPatch) -> None:
    def begun(log: Log, turn: int, key: str) -> Any:
        return begin(log._replace(turn=min(log.turn, turn - 1)), turn, key)

    patch.setattr(log, "turn_begins", begun)


@wrong
def an_end_that_differs_makes_no_gap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log, "end", lambda *told: end(*told)._replace(anew=False))


@wrong
def as_many_messages_are_the_same_messages(patch: pytest.MonkeyPatch) -> None:
    def ended(log: Log, turn: int, status: str, messages: int) -> Any:
        plan = end(log, turn, status, messages)
        told = dict(log.turns).get(turn, Progress(0, -1))
        return plan._replace(anew=False) if told[1:] == (messages, None) else plan

    patch.setattr(log, "end", ended)


@wrong
def an_end_that_differs_leaves_what_was_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log, "end", lambda *told: end(*told)._replace(without=None))


@wrong
def a_gap_is_followed_by_the_newest_turn_alone(patch: pytest.MonkeyPatch) -> None:
    def changed(plan: Plan, entries: Any = ()) -> Change:
        return change_of(plan, [x for x in entries if x.turn == plan.log.turn])

    patch.setattr(keeping, "change_of", changed)


@wrong
def a_page_that_goes_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(keeping, "change_of", lambda *plan: change_of(*plan)._replace(drop=[]))


@wrong
def old_pages_are_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(keeping, "_trimmed", lambda log: (log, []))


@wrong
def the_turn_before_is_not_kept_for_those_behind(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Log, "least", property(lambda log: log.turn))


@wrong
def a_message_leaves_the_words_before_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(keeping, "_without_what_is_over", lambda log, over: (log, []))


@wrong
def a_page_of_dead_words_is_kept(patch: pytest.MonkeyPatch) -> None:
    def kept(log: Log, over: Any) -> Any:
        left, gone = without(log, over)
        pages = [x for x in log.pages if x.first in gone]
        return left._replace(pages=tuple(sorted([*left.pages, *pages]))), []

    patch.setattr(keeping, "_without_what_is_over", kept)


@wrong
def a_message_takes_a_page_that_says_more(patch: pytest.MonkeyPatch) -> None:
    def taken(log: Log, over: Any) -> Any:
        pages = [x._replace(only=None if x.only is None else x.only[:1]) for x in log.pages]
        return without(log._replace(pages=tuple(pages)), over)

    patch.setattr(keeping, "_without_what_is_over", taken)


@wrong
def an_offset_that_is_gone_makes_no_gap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(keeping, "since", lambda log, offset: since(log, max(offset, log.base)))


@wrong
def a_part_of_what_there_is_counts_as_all(patch: pytest.MonkeyPatch) -> None:
    async def some(ctx: Any, pages: list[Page]) -> list[Entry] | None:
        found = await some_entries(ctx, pages)
        return found and [*found, Entry(pages[-1].last, 0, {"type": "more"})]

    patch.setattr(handlers, "_some_entries", some)


@wrong
def who_truncates_hides_that_a_turn_is_not_whole(patch: pytest.MonkeyPatch) -> None:
    def cut(log: Log, count: int) -> Change:
        change = truncate(log, count)
        return change._replace(log=change.log._replace(turns=log.turns))

    patch.setattr(keeping, "truncate", cut)


@wrong
def the_words_of_all_steps_are_kept(patch: pytest.MonkeyPatch) -> None:
    def words(entries: Any, turn: int) -> Any:
        return live_words([x._replace(step=1) for x in entries], turn)

    patch.setattr(keeping, "live_words", words)


@wrong
def who_waits_is_told_what_it_has(patch: pytest.MonkeyPatch) -> None:
    def changed(*plan: Any) -> Change:
        change = change_of(*plan)
        return change._replace(fresh=[*change.log.recent])

    patch.setattr(keeping, "change_of", changed)


@pytest.mark.long
@pytest.mark.parametrize("rule", WRONG, ids=lambda rule: rule.__name__.replace("_", " "))
def test_a_rule_that_is_wrong_is_found(rule: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    rule(monkeypatch)
    with pytest.raises(AssertionError):
        stories(Counter(), 300)

"""What a task does with its turn, where no server is needed to see it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
import restate
from restate import TerminalError

from interruptible import Interrupted, Task, Turn
from interruptible._cancel import steps
from interruptible._session import stored_record
from interruptible._session.record import Addition, Live, Record
from interruptible._session.sent import Stored
from interruptible._session.turns import whole_conversation
from interruptible._task import delegate, life, outcome, repair, waiting, words
from interruptible._task.approval import Approval
from interruptible._task.attempt import Attempt
from interruptible._task.earlier import Before
from interruptible._task.outcome import Ending
from interruptible._wire.cause import Cause
from interruptible._wire.types import MAX_ASKED, Outcome

from .given import Given

PATIENCE = timedelta(seconds=30)


class Future(Given[Any]):
    """What is there already, if nobody says otherwise; it is called by what it waits for."""

    def __init__(self, value: Any, name: str) -> None:
        super().__init__(value)
        self.name = name


class Working:
    """The context of a task: it answers what it was told to, and notes what it is asked for."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.done: list[Any] = []

    def request(self) -> Any:
        return SimpleNamespace(id="inv-3")

    def generic_call(self, service: str, handler: str, arg: bytes, *, key: str) -> Future:
        self.done.append((service, handler, json.loads(arg) if arg else None, key))
        answer = self.answers.pop(0)
        given = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return Future(given, f"answer of {handler}")

    def generic_send(self, service: str, handler: str, arg: bytes, **options: Any) -> Any:
        self.done.append((service, handler, json.loads(arg), options))
        return SimpleNamespace(invocation_id=lambda: Given("inv-sent"))

    def attach_invocation(self, invocation_id: str, serde: Any) -> Future:
        self.done.append(f"attach {invocation_id}")
        return Future(self.answers.pop(0) if self.answers else None, f"attach {invocation_id}")

    def cancel_invocation(self, invocation_id: str) -> None:
        self.done.append(f"cancel {invocation_id}")

    def signal(self, name: str, serde: Any) -> Future:
        self.done.append(name)
        return Future(name, name)

    def run_typed(self, name: str, action: Callable[..., Any], **kwargs: Any) -> Awaitable[Any]:
        self.done.append(name)
        done: Awaitable[Any] = action(**kwargs)
        return done

    def sleep(self, delta: timedelta, name: str) -> Future:
        self.done.append((name, delta))
        return Future(None, name)


class ATask:
    """A task of the agent `IdleAgent` on turn 3 of a session."""

    def __init__(self, *answers: Any, **body: Any) -> None:
        self.ctx = Working(*answers)
        self.watch = SimpleNamespace(
            cancelled=False,
            begins_nothing=False,
            stops=False,
            counts=True,
            commands=0,
            waited_for=self.waited_for,
            within=lambda _: nullcontext(),
            saw=self.saw,
        )
        self.seen: list[int] = []
        """The numbers of what it was to read at once, where it read something."""
        self.ended = False
        self.cut: Callable[[], None] | None = None
        """What cuts off the block that others wait for."""
        self.stop: Callable[[], None] | None = None
        """What tells it to stop in order."""
        idle = {
            "name": "IdleAgent",
            "task_name": "IdleTask",
            "policy": "interrupt",
            "cleanup_timeout": PATIENCE,
            "debounce": None,
            "merges": False,
            "tells_all": True,
            "alternate_roles": False,
        }
        self.body = SimpleNamespace(**{**idle, "call_note": repair.call_note, **body})
        job: Any = {"session": "key", "turn": 3, "input": [said("now")], "after": []}
        body_, ctx, watch = cast("Any", (self.body, self.ctx, self.watch))
        self.attempt = Attempt(body_, ctx, watch, job)
        self.task = Task(
            self.attempt, [said("before"), said("now")], [said("now")], Before(self.attempt)
        )

    def waited_for(self, cut: Any, stop: Any, work: Any) -> Any:
        del work
        self.cut, self.stop = cut, stop
        return self

    def saw(self, number: int) -> None:
        self.seen.append(number)

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None:
        self.ended = True


@pytest.fixture(autouse=True)
def _without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def shield(future: Awaitable[Any]) -> Any:
        return await future

    monkeypatch.setattr(life, "shield", shield)
    monkeypatch.setattr(words, "shield", shield)
    monkeypatch.setattr(delegate, "shield", shield)


def said(content: str) -> Any:
    return {"role": "user", "content": content}


def put_out(content: str) -> Any:
    return {"role": "assistant", "content": content}


# -- What a turn puts out and takes. ---------------------------------------------------------------


def test_what_is_put_out_is_in_the_conversation_and_in_the_outcome() -> None:
    made = ATask()
    made.task.append("one", {"role": "assistant", "content": "two"})
    made.task.append()
    assert made.task.messages == [said("before"), said("now"), put_out("one"), put_out("two")]
    assert made.task.input == [said("now")]
    assert made.attempt.outcome("completed") == {
        "turn": 3,
        "status": "completed",
        "messages": [put_out("one"), put_out("two")],
    }


def test_the_text_of_a_task_is_all_that_the_user_said_in_its_turn_so_far() -> None:
    made = ATask([[[1, 3, 4, True, False], said("faster")]])
    parts = [{"type": "text", "text": "Look."}, {"type": "image_url"}]
    made.task.input.append({"role": "user", "content": parts})
    assert made.task.text == "now\n\nLook."
    made.task.append("one")
    asyncio.run(made.task.steering())
    assert made.task.text == "now\n\nLook.\n\nfaster"


def test_a_mistake_puts_out_nothing() -> None:
    made = ATask()
    for wrong in ({"role": "assistant"}, made.task.messages[0], {1}, ["one", 5]):
        with pytest.raises(TypeError) as caught:
            made.task.append("zero", cast("Any", wrong))
        assert isinstance(caught.value, TerminalError)
    assert made.task.messages == [said("before"), said("now")]
    assert made.attempt.put_out == []


def test_a_steered_message_is_taken_where_the_task_asks_for_it() -> None:
    first = [[[1, 3, 4, True, False], said("faster")], [[4, 3, 4, True, False], said("and louder")]]
    made = ATask(first, [], [[[5, 3, 4, True, False], said("faster")]])
    made.task.append("one")
    assert asyncio.run(made.task.steering()) == [said("faster"), said("and louder")]
    assert asyncio.run(made.task.steering()) == []
    made.task.append("two")
    assert asyncio.run(made.task.steering()) == [said("faster")]
    messages = [
        put_out("one"),
        said("faster"),
        said("and louder"),
        put_out("two"),
        said("faster"),
    ]
    assert made.task.messages == [said("before"), said("now"), *messages]
    assert made.attempt.outcome("completed") == {
        "turn": 3,
        "status": "completed",
        "messages": messages,
        "taken": [(1, 1), (4, 2), (5, 4)],
    }
    asked = {"turn": 3, "waited": True, "begins": False}
    assert made.ctx.done == [("IdleAgent", "take", asked, "key")] * 3


def test_the_places_of_what_was_taken_are_those_among_the_messages_that_are_kept() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "1", "content": "3"}
    made = ATask([[[1, 3, 4, True, False], said("faster")]])
    made.task.append({"role": "assistant", "content": " "}, calling)
    asyncio.run(made.task.steering())
    made.task.append(result)
    assert made.attempt.outcome("interrupted") == {
        "turn": 3,
        "status": "interrupted",
        "messages": [calling, result, said("faster")],
        "taken": [(1, 2)],
    }


def test_what_was_taken_and_is_unfit_for_a_model_has_no_place_and_so_stays_as_it_was_said() -> None:
    blank = {"role": "user", "content": [{"type": "text", "text": " "}]}
    made = ATask([[[1, 3, 4, True, False], blank], [[2, 3, 4, True, False], said("faster")]])
    asyncio.run(made.task.steering())
    assert made.attempt.outcome("completed") == {
        "turn": 3,
        "status": "completed",
        "messages": [said("faster")],
        "taken": [(2, 0)],  # the session adds what it does not find here
    }


# -- What a step says. -----------------------------------------------------------------------------


def test_what_takes_the_pieces_is_read_outside_a_step_and_called_in_one() -> None:
    made = ATask()
    assert made.attempt.streams is False
    partial = made.task.partial
    assert made.attempt.streams is True
    with pytest.raises(RuntimeError) as caught:
        partial("Once")
    assert str(caught.value) == (
        "`task.partial` was called outside of a step. Call it in what `ctx.run_typed` runs."
    )
    step = steps.RunningStep(1, cast("Any", None), stoppable=False)
    token = steps._running.set(step)
    try:
        partial("Once")
        partial(" upon")
        with pytest.raises(RuntimeError) as caught:
            _ = made.task.partial
    finally:
        steps._running.reset(token)
    assert step.said == {None: ["Once", " upon"]}
    assert str(caught.value) == (
        "`task.partial` was read inside a step. Do it outside, and give the step what you get."
    )


@pytest.mark.parametrize(
    "does",
    [lambda task: task.partial("Once"), lambda task: task.partial_result()],
    ids=["outside of a step", "without a call"],
)
def test_what_is_called_in_the_wrong_place_ends_the_turn_and_not_an_attempt(
    does: Callable[[Task], Any],
) -> None:
    with pytest.raises(TerminalError) as caught:
        does(ATask().task)
    assert isinstance(caught.value, RuntimeError)


WAITS = {"type": "tool", "call": "1", "name": "look", "state": "waits"}


@pytest.mark.parametrize(
    "event", [{"type": "mine", "x": [1]}, {"type": "reasoning", "text": ""}, WAITS]
)
def test_an_event_of_the_agents_own_is_told_outside_a_step_and_said_in_one(event: Any) -> None:
    made, told = ATask(), list[Any]()
    made.task.publish(event)  # nobody follows
    made.attempt.teller = cast(
        "Any",
        SimpleNamespace(
            tell=lambda x: told.append(("told", x)),
            say=lambda x, *of: told.append(("said", x, *of)),
        ),
    )
    made.task.publish(event)
    step = steps.RunningStep(7, cast("Any", None), stoppable=False)
    token = steps._running.set(step)
    try:
        made.task.publish(event)
    finally:
        steps._running.reset(token)
    assert told == [("told", event), ("said", event, 7, step)]


@pytest.mark.parametrize(
    "event",
    [
        {},
        "progress",
        {"type": ""},
        {"type": 5},
        {"type": "message", "message": {}},
        {"type": "mine", "id": 1},
        {"type": "mine", "turn": 1},
        {"type": "mine", "what": object()},
        {"type": "reasoning"},
        {**WAITS, "state": "begins"},
        {**WAITS, "call": 1},
    ],
)
def test_an_event_that_is_none_or_the_librarys_fails_the_turn(event: Any) -> None:
    with pytest.raises(TypeError) as caught:
        ATask().task.publish(event)
    assert isinstance(caught.value, TerminalError)


def calling(*calls: str) -> Any:
    tool_calls = [{"id": call, "type": "function"} for call in calls]
    return {"role": "assistant", "content": None, "tool_calls": tool_calls}


def result(call: str, content: str) -> Any:
    return {"role": "tool", "tool_call_id": call, "content": content}


def ends(made: ATask) -> dict[str, Any]:
    """Which calls are told as cut off and as not begun, and the texts."""
    outcome: Any = made.attempt.outcome("interrupted")
    texts = [x["content"] for x in outcome["messages"] if x["role"] == "tool"]
    return {"cut_off": [], "not_begun": [], **outcome, "texts": texts}


def test_calls_behind_which_no_command_was_given_were_not_begun() -> None:
    made = ATask()
    made.watch.commands = 2  # what was before does not count
    made.task.append(calling("a", "b"))
    told = ends(made)
    assert (told["cut_off"], told["not_begun"]) == ([], ["a", "b"])
    assert told["texts"] == [repair.NOT_BEGUN] * 2


def test_when_a_command_was_given_after_them_all_calls_may_have_begun() -> None:
    made = ATask()
    made.task.append(calling("a", "b", "c"))
    made.watch.commands += 1
    made.task.append(result("a", "1"))
    told = ends(made)
    assert (told["cut_off"], told["not_begun"]) == (["b", "c"], [])
    assert told["texts"] == ["1", repair.INTERRUPTED, repair.INTERRUPTED]


def test_where_the_turn_says_which_calls_it_works_on_the_others_were_not_begun() -> None:
    made = ATask()
    made.task.append(calling("a", "b", "c"))
    for call in ("a", "b"):
        with made.task.call(call):
            made.watch.commands += 1
    made.task.append(result("a", "1"))
    told = ends(made)
    assert (told["cut_off"], told["not_begun"]) == (["b"], ["c"])
    assert told["texts"] == ["1", repair.INTERRUPTED, repair.NOT_BEGUN]


def test_a_call_whose_pieces_are_asked_for_has_begun_and_says_nothing_of_the_others() -> None:
    made = ATask()
    made.task.append(calling("a", "b"))
    made.task.partial_result("a")
    assert (ends(made)["cut_off"], ends(made)["not_begun"]) == (["a"], ["b"])
    made.watch.commands += 1
    assert (ends(made)["cut_off"], ends(made)["not_begun"]) == (["a", "b"], [])


def test_a_call_begins_after_the_interruption_only_if_something_is_done_for_it() -> None:
    made = ATask()
    made.task.append(calling("a", "b", "c", "d", "e"))
    with suppress(TerminalError), made.task.call("a"):
        made.watch.begins_nothing = True
        raise Interrupted
    made.task.partial_result("e")
    with suppress(TerminalError), made.task.call("b"):
        raise Interrupted
    with suppress(TerminalError), made.task.call("c"):
        made.watch.commands += 1  # a send: it is not awaited
        raise Interrupted
    with suppress(TerminalError), made.task.call("d"):
        raise TerminalError("what was shielded has failed")
    assert (ends(made)["cut_off"], ends(made)["not_begun"]) == (["a", "c", "d"], ["b", "e"])


def test_what_the_library_does_itself_is_done_for_no_call() -> None:
    made = ATask([])
    made.task.append(calling("a"))

    def counted(*args: Any, **options: Any) -> Any:
        made.watch.commands += 1
        return Working.generic_call(made.ctx, *args, **options)

    cast("Any", made.ctx).generic_call = counted
    asyncio.run(made.task.steering())
    assert ends(made)["not_begun"] == ["a"]


def test_an_id_that_is_used_again_has_not_begun_again() -> None:
    made = ATask()
    made.task.append(calling("a"))
    with made.task.call("a"):
        made.task.append(result("a", "1"))
    made.task.append(calling("a"))
    assert (ends(made)["cut_off"], ends(made)["not_begun"]) == ([], ["a"])


def test_a_call_without_an_id_is_told_by_what_was_done_after_it() -> None:
    made = ATask()
    call = {"function": {"name": "f", "arguments": {}}}
    made.task.append(calling("another"))
    made.task.append({"role": "assistant", "content": "", "tool_calls": [call]})
    with made.task.call("another"):
        assert ends(made)["texts"] == [repair.INTERRUPTED, repair.NOT_BEGUN]
    made.watch.commands += 1
    assert ends(made)["texts"] == [repair.INTERRUPTED, repair.INTERRUPTED]
    assert (ends(made)["cut_off"], ends(made)["not_begun"]) == (["another"], [])


def test_the_texts_are_the_agents() -> None:
    def call_note(name: str | None, *, begun: bool, output: str | None) -> str:
        nothing: Any = {"nothing to say": " ", "nothing": None}
        return nothing.get(output, f"{name} {begun} {output}")

    made = ATask(call_note=call_note)
    calls = calling("a", "b", "c", "d", "f")
    calls["tool_calls"][0]["function"] = {"name": "read", "arguments": "{}"}
    made.task.append(calls)
    with made.task.call("a"):
        outputs = [("c", "so far"), ("d", "nothing to say"), ("f", "nothing"), ("e", "lost")]
    outcome = made.attempt.outcome("interrupted", outputs)
    assert [x["content"] for x in outcome["messages"][1:6]] == [
        "None True so far",
        f"nothing to say\n{repair.CUT_OFF}",
        f"nothing\n{repair.CUT_OFF}",
        "read True None",
        "None False None",
    ]
    assert "None True lost" in outcome["messages"][6]["content"]
    assert (outcome["cut_off"], outcome["not_begun"]) == (["a", "c", "d", "f"], ["b"])


def test_the_pieces_of_a_result_go_to_the_call_that_is_worked_on() -> None:
    made = ATask()
    made.task.append(calling("a", "b"))
    with pytest.raises(RuntimeError) as caught:
        made.task.partial_result()
    assert str(caught.value) == (
        "`task.partial_result` has no call. Name it, or do it within `task.call`."
    )
    step = steps.RunningStep(1, cast("Any", None), stoppable=False)

    async def tool(call: str) -> None:
        with made.task.call(call):
            await asyncio.sleep(0)
            give = made.task.partial_result()
            token = steps._running.set(step)
            give(f"of {call}")
            told = pytest.raises(RuntimeError, match=r"`task\.call` was entered inside a step")
            with told, made.task.call("c"):
                pass
            steps._running.reset(token)

    async def tools() -> None:
        await asyncio.gather(tool("a"), tool("b"))

    asyncio.run(tools())
    assert step.said == {"a": ["of a"], "b": ["of b"]}
    assert made.attempt._calls == {"a": -1, "b": -1}


def test_what_takes_the_pieces_of_a_result_is_read_outside_a_step_and_called_in_one() -> None:
    made = ATask()
    one, two = made.task.partial_result("one"), made.task.partial_result("two")
    assert made.attempt.streams is True
    with pytest.raises(RuntimeError) as caught:
        one("1")
    assert str(caught.value) == (
        "`task.partial_result` was called outside of a step. Call it in what `ctx.run_typed` runs."
    )
    step = steps.RunningStep(1, cast("Any", None), stoppable=False)
    token = steps._running.set(step)
    try:
        for give in (one, two, one):
            give("x")
        with pytest.raises(RuntimeError) as caught:
            made.task.partial_result("three")
    finally:
        steps._running.reset(token)
    assert step.said == {"one": ["x", "x"], "two": ["x"]}
    assert str(caught.value) == (
        "`task.partial_result` was called inside a step. Do it outside, and give the step what you "
        "get."
    )


@pytest.mark.parametrize(
    ("streams", "partials", "cut_off"),
    [
        (False, [], {}),
        (True, [], {}),
        (True, [(None, "Once upon"), (None, "There was")], {"partial": 2}),
        (True, [("call", "printed"), (None, "Once upon")], {"partial": 1, "cut_off": ["call"]}),
        (True, [("call", "printed")], {"cut_off": ["call"]}),
    ],
)
def test_what_was_cut_off_is_journaled_once_and_stands_last_whatever_is_put_out_after_it(
    streams: bool, partials: list[tuple[str | None, str]], cut_off: dict[str, Any]
) -> None:
    async def on_interrupted(ctx: Any, task: Task) -> None:
        task.append("bye")

    made = ATask(on_interrupted=on_interrupted)
    made.watch.partials = partials
    calling = {"role": "assistant", "content": None, "tool_calls": [{"id": "call"}]}
    results = [
        {"role": "tool", "tool_call_id": "call", "content": f"{text}\n{repair.CUT_OFF}"}
        for call, text in partials
        if call is not None
    ]
    made.task.append("one", *([calling] if results else []))
    if streams:
        assert made.task.partial is not None
    outcome = asyncio.run(life._interrupted(made.attempt, made.task, Interrupted()))
    assert outcome == {
        "turn": 3,
        "status": "interrupted",
        "messages": [
            put_out("one"),
            *([calling] if results else []),
            *results,
            put_out("bye"),
            *(put_out(text) for call, text in partials if call is None),
        ],
        **cut_off,
    }
    assert made.ctx.done == (["partial answer"] if streams else [])


def test_a_turn_that_was_interrupted_before_it_began_is_not_told() -> None:
    made = ATask()  # it has no `on_interrupted`
    outcome = asyncio.run(life._interrupted(made.attempt, None, Interrupted()))
    assert outcome == {"turn": 3, "status": "interrupted", "messages": [], "never_began": True}
    assert made.ctx.done == []


def test_what_a_turn_puts_out_once_it_was_told_of_its_interruption_does_not_count() -> None:
    made = ATask()
    made.task.append("one")
    made.watch.counts = False
    made.task.append("An error occurred. Please try again.")
    assert made.task.messages == [said("before"), said("now"), put_out("one")]
    assert made.attempt.outcome("interrupted")["messages"] == [put_out("one")]


# -- Why it was cancelled. -------------------------------------------------------------------------


def test_a_turn_that_is_not_cancelled_has_no_cause() -> None:
    made = ATask()
    with pytest.raises(RuntimeError) as caught:
        asyncio.run(made.task.cause())
    assert str(caught.value) == (
        "task.cause() was called in a turn that is not cancelled. Catch `Interrupted`."
    )
    assert made.ctx.done == []


def test_a_cause_is_asked_for_one_way_so_that_no_cancellation_breaks_it_off() -> None:
    made = ATask("rolled back: typo")
    made.watch.cancelled = True
    assert asyncio.run(made.task.cause()) == Cause("rolled back", None, "typo")
    assert made.ctx.done == [
        ("IdleAgent", "get_cause", {"turn": 3}, {"key": "key"}),
        "attach inv-sent",
    ]


# -- Agents that call agents. ----------------------------------------------------------------------

RECEIPT = {"turn": 7, "task_id": "inv-7", "status": "running", "interrupted": []}
SEARCHER: Any = SimpleNamespace(name="SearchAgent")


def sent(body: Any, number: int) -> list[Any]:
    """A message to the other agent, relayed, and the wait for its receipt."""
    job = {"agent": "SearchAgent", "session": "theirs", "message": body}
    key = {"idempotency_key": f"inv-3/{number}"}
    return [("IdleTask", "relay", job, key), "attach inv-sent"]


def test_each_message_to_another_agent_has_a_key_of_its_own_and_in_the_background_a_receipt() -> (
    None
):
    made = ATask(RECEIPT, RECEIPT, RECEIPT)

    async def delegate() -> None:
        delegate, parts = made.task.delegate, [{"type": "text", "text": "Hi"}]
        assert await delegate(SEARCHER, "theirs", "Hi", background=True) == RECEIPT
        assert await delegate("SearchAgent", "theirs", parts, background=True) == RECEIPT
        assert await delegate(SEARCHER, "theirs", "Hi", policy="queue", background=True) == RECEIPT

    asyncio.run(delegate())
    assert made.ctx.done == [
        *sent({"content": "Hi"}, 1),
        *sent({"content": [{"type": "text", "text": "Hi"}]}, 2),
        *sent({"content": "Hi", "policy": "queue"}, 3),
    ]


def wait_for(
    monkeypatch: pytest.MonkeyPatch, *, raises: Sequence[BaseException | None]
) -> Iterator[BaseException | None]:
    """What becomes of each wait for something; returns what is left of it."""
    left = iter(raises)

    async def wait_completed(*_: Any) -> None:
        error = next(left)
        if error is not None:
            raise error

    monkeypatch.setattr(restate, "wait_completed", wait_completed)
    return left


@pytest.mark.parametrize("reported", [True, False])
def test_the_outcome_of_another_agent_is_what_a_caller_of_it_sees_and_the_killed_are_settled(
    monkeypatch: pytest.MonkeyPatch, reported: bool
) -> None:
    told: Any = {"turn": 7, "status": "completed", "messages": [], "taken": [[1, 0]]}

    async def ending(ctx: Any, turn: int, task: Any) -> Ending:
        return Ending(told, reported)

    monkeypatch.setattr(outcome, "ending", ending)
    wait_for(monkeypatch, raises=[None])
    made = ATask(RECEIPT)
    answer: Outcome = asyncio.run(made.task.delegate(SEARCHER, "theirs", "Hi"))
    assert answer == {"turn": 7, "status": "completed", "messages": []}
    settle = ("SearchAgent", "settle", {"outcome": told, "ended": []}, {"key": "theirs"})
    assert made.ctx.done == [
        *sent({"content": "Hi"}, 1),
        "attach inv-7",
        *([] if reported else [settle]),
    ]
    assert made.ended


def test_who_is_interrupted_cancels_that_turn_of_the_other_agent_and_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = wait_for(monkeypatch, raises=[Interrupted(), None])
    made = ATask(RECEIPT)
    made.watch.cancelled = True
    with pytest.raises(Interrupted):
        asyncio.run(made.task.delegate(SEARCHER, "theirs", "Hi"))
    why = {"turn": 7, "reason": "the agent that asked for it was interrupted"}
    assert made.ctx.done == [
        *sent({"content": "Hi"}, 1),
        "attach inv-7",
        ("SearchAgent", "cancel", why, {"key": "theirs"}),
    ]
    assert made.ended
    assert list(left) == []  # it was waited for twice


def test_who_is_cut_off_and_then_interrupted_cancels_that_turn_of_the_other_agent_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ATask(RECEIPT)
    interruption = iter([Interrupted()])

    async def wait_completed(*_: Any) -> None:
        for error in interruption:
            assert made.cut is not None
            made.cut()  # by what runs beside it, and is told first
            raise error

    monkeypatch.setattr(restate, "wait_completed", wait_completed)
    with pytest.raises(Interrupted):
        asyncio.run(made.task.delegate(SEARCHER, "theirs", "Hi"))
    assert [x[1] for x in made.ctx.done if isinstance(x, tuple)] == ["relay", "cancel"]


def test_who_is_told_to_stop_and_then_interrupted_tells_that_turn_of_the_other_agent_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ATask(RECEIPT)
    interruption = iter([Interrupted()])

    async def wait_completed(*_: Any) -> None:
        for error in interruption:
            assert made.stop is not None
            made.stop()
            made.watch.cancelled = True
            raise error

    monkeypatch.setattr(restate, "wait_completed", wait_completed)
    with pytest.raises(Interrupted):
        asyncio.run(made.task.delegate(SEARCHER, "theirs", "Hi"))
    stop = {"turn": 7, "after_step": True, "reason": "the agent that asked for it was told to stop"}
    cut = {"turn": 7, "reason": "the agent that asked for it was interrupted"}
    told = [x[2] for x in made.ctx.done if isinstance(x, tuple) and x[1] == "cancel"]
    assert told == [stop, cut]


@pytest.mark.parametrize("status", ["joined", "steered"])
def test_who_is_interrupted_leaves_alone_a_turn_that_its_message_only_became_part_of(
    monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    left = wait_for(monkeypatch, raises=[Interrupted()])
    made = ATask({**RECEIPT, "status": status})
    made.watch.cancelled = True
    with pytest.raises(Interrupted):
        asyncio.run(made.task.delegate(SEARCHER, "theirs", "Hi"))
    assert made.ctx.done == [*sent({"content": "Hi"}, 1), "attach inv-7"]
    assert list(left) == []


def test_a_message_that_the_other_agent_refuses_is_the_callers_to_handle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def shield(future: Awaitable[Any]) -> Any:
        if await future is None:
            raise TerminalError("policy: turn 1 is live, and the policy is reject.", 423)
        return "inv-sent"

    monkeypatch.setattr(delegate, "shield", shield)
    made = ATask(None)
    with pytest.raises(TerminalError, match="policy is reject") as caught:
        asyncio.run(made.task.delegate(SEARCHER, "theirs", "Hi", policy="reject"))
    assert (caught.value.status_code, isinstance(caught.value, Interrupted)) == (423, False)
    assert made.ctx.done == sent({"content": "Hi", "policy": "reject"}, 1)


# -- What a task begins with. ----------------------------------------------------------------------


def a_turn(number: int, **more: Any) -> Any:
    """The record of an earlier turn."""
    turn = {"turn": number, "status": "completed", "input": [said(f"message {number}")]}
    return {**turn, "messages": [put_out(f"answer {number}")], **more}


def loaded(*turns: Any, steered: Sequence[Any] = (), cancelled: str | None = None) -> bytes:
    """What is stored of the session: these turns, and the one that begins."""
    live = [
        Live(x["turn"], f"inv-{x['turn']}", x.get("reason"))
        for x in turns
        if x["status"] == "running"
    ]
    own = Live(3, "inv-3", cancelled)
    stored = [(Addition(*x), message) for x, message in steered]
    record = Record("epoch", 4, (*live, own), tuple(x for x, _ in stored), turns)
    messages = {f"steered/{x.number}": message for x, message in stored}
    state = {"session": stored_record.dump_record(record), **messages}
    return Stored({x: json.dumps(state[x]).encode() for x in state}).pack()


def all_that_was_said(turns: Sequence[Turn]) -> list[Any]:
    return [message for turn in turns for message in (*turn["input"], *turn["messages"])]


def begin(
    made: ATask,
    monkeypatch: pytest.MonkeyPatch,
    *after: tuple[int, bool],
    happens: Sequence[str] = (),
    turns: Sequence[Any] | None = None,
    told: Any = None,
) -> Task:
    """The task as it begins, once its predecessors have ended.

    Args:
        made: The task, with what it is answered.
        monkeypatch: For what needs a server.
        after: Its predecessors, and which of them were cancelled.
        happens: What it waits for, in the order in which it comes; by default all ends at once.
        turns: The conversation that it was sent with.
        told: What it is told to begin with, if it need not ask.
    """
    left = iter(happens)

    async def wait_completed(*futures: Future) -> Any:
        made.ctx.done.append("wait")
        if futures[0].name == "begin":
            futures[0].value = told
            is_told = futures[0].value is not None
            return (futures[:1], futures[1:]) if is_told else (futures[1:], futures[:1])
        coming = [next(left)] if happens else [f"attach inv-{turn}" for turn, _ in after]
        done = [x for x in futures if x.name in coming]
        assert done, "it does not wait for that"
        return done, [x for x in futures if x not in done]

    async def ending(ctx: Any, turn: int, task: Any) -> Ending:
        ended, reported, *unknown = await task
        return Ending({"turn": turn, **ended}, reported, *unknown)

    monkeypatch.setattr(restate, "wait_completed", wait_completed)
    monkeypatch.setattr(waiting, "ending", ending)
    predecessors = [
        {"turn": turn, "task_id": f"inv-{turn}", "cancelled": cancelled}
        for turn, cancelled in after
    ]
    vars(made.body).setdefault("conversation", all_that_was_said)
    made.attempt.job["after"] = cast("Any", predecessors)
    if turns is not None:
        made.attempt.job["turns"] = list(turns)
    begun = asyncio.run(life._wait_and_begin(made.attempt))
    assert list(left) == []
    return begun


TIMEOUT = ("cleanup_timeout", PATIENCE)


def waits(*turns: int, cancelled: bool, times: int = 1) -> list[Any]:
    """What a task asks for that waits for these turns, all of them cancelled or none."""
    told = ["given up"] if cancelled else ["given up", "cancelled"]
    asked = [f"turn {turn} is {what}" for what in told for turn in turns]
    return [*asked, *([TIMEOUT] if cancelled else []), *["wait"] * times]


LOAD = ("IdleAgent", "load", None, "key")
ASKS = [("IdleAgent", "begin", {"turn": 3}, "key")]
BEGIN = [*ASKS, LOAD]
"""What a task asks for that has waited for turns which went on."""
TOLD = ["begin", ("begin", waiting.TOLD_WITHIN), "wait"]
NOT_TOLD = [*TOLD, *BEGIN]
"""The same, if it should have been told, and is not."""


def begins(*messages: Any, joined: Sequence[Any] = ()) -> Any:
    """What it is answered: what it works on by now."""
    return {"input": list(messages) or [said("now")], "said": list(joined)}


def quiet(seen: int) -> Any:
    """It asks whether its quiet window is over, in which it knew of so many messages."""
    return ("IdleAgent", "quiet", {"turn": 3, "seen": seen}, "key")


CUT_OFF: Any = {"status": "interrupted", "messages": [put_out("so far")]}


def test_a_task_that_interrupts_loads_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    running = a_turn(2, status="running", messages=[], reason="interrupted by turn 3")
    made = ATask((CUT_OFF, True), loaded(a_turn(1), running))
    task = begin(made, monkeypatch, (2, True))
    assert made.ctx.done == ["attach inv-2", LOAD, *waits(2, cancelled=True)]
    assert task.messages == [
        said("message 1"),
        put_out("answer 1"),
        said("message 2"),
        put_out("so far"),
        said("now"),
    ]
    assert task.input == [said("now")]
    assert list(made.attempt.ends) == [2]


def test_a_task_that_was_sent_with_the_conversation_loads_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = a_turn(2, status="running", messages=[], reason="interrupted by turn 3")
    made = ATask((CUT_OFF, True))
    task = begin(made, monkeypatch, (2, True), turns=[a_turn(1), running])
    assert made.ctx.done == ["attach inv-2", *waits(2, cancelled=True)]
    assert task.messages == [
        said("message 1"),
        put_out("answer 1"),
        said("message 2"),
        put_out("so far"),
        said("now"),
    ]
    assert list(made.attempt.ends) == [2]
    made = ATask()
    assert begin(made, monkeypatch, turns=[]).messages == [said("now")]
    assert made.ctx.done == []


def test_a_task_that_learns_from_what_it_loads_that_it_is_cancelled_does_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ATask((CUT_OFF, True), loaded(a_turn(1), a_turn(2), cancelled="cancelled"))
    with pytest.raises(Interrupted):
        begin(made, monkeypatch, (2, True))
    assert made.ctx.done == ["attach inv-2", LOAD, *waits(2, cancelled=True)]


def test_a_queued_task_that_is_cancelled_when_it_asks_does_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ATask((CUT_OFF, True), {"cancelled": True}, loaded(a_turn(1), a_turn(2)))
    with pytest.raises(Interrupted):
        begin(made, monkeypatch, (2, False))
    waited = ["attach inv-2", *waits(2, cancelled=False)]
    assert made.ctx.done == [*waited, *NOT_TOLD[:-1]]
    made = ATask((CUT_OFF, True))
    with pytest.raises(Interrupted):
        begin(made, monkeypatch, (2, False), told={"cancelled": True})
    assert made.ctx.done == [*waited, *TOLD]


def test_a_queued_task_is_told_what_it_begins_with_and_asks_if_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = {**begins(said("instead")), "turns": [a_turn(1), a_turn(2)]}
    waited = ["attach inv-2", *waits(2, cancelled=False)]
    made = ATask((CUT_OFF, True))
    task = begin(made, monkeypatch, (2, False), told=mine)
    assert made.ctx.done == [*waited, *TOLD]
    assert task.messages == [*all_that_was_said([a_turn(1), a_turn(2)]), said("instead")]
    made = ATask((CUT_OFF, True), mine)
    assert begin(made, monkeypatch, (2, False)).messages == task.messages
    assert made.ctx.done == [*waited, *NOT_TOLD[:-1]]
    # Of a killed turn, nobody may have told the session yet.
    made = ATask((CUT_OFF, False), mine)
    assert begin(made, monkeypatch, (2, False)).messages == task.messages
    assert made.ctx.done[-1:] == ASKS
    # It may be told to ask.
    made = ATask((CUT_OFF, True), mine)
    assert begin(made, monkeypatch, (2, False), told={"asks": True}).messages == task.messages
    assert made.ctx.done == [*waited, *TOLD, *ASKS]


def test_a_queued_task_of_a_long_conversation_loads_it_beside_what_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ATask((CUT_OFF, True), loaded(a_turn(1), a_turn(2)))
    made.attempt.job["long"] = True
    task = begin(made, monkeypatch, (2, False), told=begins(said("instead")))
    assert made.ctx.done == ["attach inv-2", *waits(2, cancelled=False), LOAD, *TOLD]
    assert task.messages == [*all_that_was_said([a_turn(1), a_turn(2)]), said("instead")]


def test_a_queued_task_loads_when_it_has_waited_and_begins_with_what_is_its_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = [[1, 3, 3, True, True], said("earlier")]
    later = [[2, 3, 4, True, True], said("later")]
    seen: list[Any] = []

    def conversation(turns: Sequence[Turn]) -> list[Any]:
        seen.extend(turns)
        return [said("in short")]

    made = ATask(
        (CUT_OFF, True),
        begins(said("instead"), joined=[earlier, later]),
        loaded(a_turn(1), a_turn(2)),
        conversation=conversation,
    )
    task = begin(made, monkeypatch, (2, False))
    assert made.ctx.done == ["attach inv-2", *waits(2, cancelled=False), *NOT_TOLD]
    assert task.input == [said("earlier"), said("instead"), said("later")]
    assert task.messages == [said("in short"), *task.input]
    assert seen == [a_turn(1), a_turn(2)]  # what is settled is as the session has it


@pytest.mark.parametrize(
    ("job", "asks"),
    [
        ({"queued": True}, True),
        ({}, True),  # of an earlier version, which did not say so
        ({"queued": False}, False),
    ],
)
def test_a_task_behind_what_goes_on_asks_before_it_begins_also_if_an_earlier_version_sent_it(
    monkeypatch: pytest.MonkeyPatch, job: Any, asks: bool
) -> None:
    stored = loaded(a_turn(1), a_turn(2))
    made = ATask((CUT_OFF, True), *([begins()] if asks else []), stored)
    made.attempt.job.update(job)
    task = begin(made, monkeypatch, (2, False))
    waited = waits(2, cancelled=False)
    asked = [*waited, *NOT_TOLD] if asks else [LOAD, *waited]
    assert made.ctx.done == ["attach inv-2", *asked]
    assert task.input == [said("now")]


def test_what_is_known_of_a_message_comes_beside_it_and_not_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def known(text: str, number: int, **more: Any) -> Any:
        return {**said(text), "said": {"id": number, **more}}

    ada, joined = {"author": "Ada"}, [[1, 3, 4, True, True, 8], known("later", 8)]
    earlier = {**a_turn(1), "input": [known("message 1", 6, metadata=ada)]}
    seen: list[Any] = []

    def conversation(turns: Sequence[Turn]) -> list[Any]:
        seen.extend(turns)
        return all_that_was_said(turns)

    made = ATask(
        (CUT_OFF, True),
        begins(known("now", 7, metadata=ada), joined=[joined]),
        loaded(earlier, a_turn(2)),
        [[[2, 3, 4, True, False, 9], known("faster", 9, metadata=ada)]],
        conversation=conversation,
    )
    task = begin(made, monkeypatch, (2, False))
    assert task.input == [said("now"), said("later")]
    assert task.input_metadata == [ada, {}]
    assert asyncio.run(task.steering()) == [said("faster")]
    assert "said" not in json.dumps([task.messages, seen, made.attempt.outcome("completed")])


def test_a_task_that_goes_on_with_a_turn_has_its_conversation_without_the_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped = a_turn(2, status="interrupted", messages=[put_out("Once upon ")])

    def note(turn: Turn) -> str:
        return f"Turn {turn['turn']} was interrupted."

    def conversation(turns: Sequence[Turn]) -> list[Any]:
        return whole_conversation(turns, note, lambda _: None)

    made = ATask(conversation=conversation)
    made.attempt.job.update({"input": [], "resumes": 2})
    task = begin(made, monkeypatch, turns=[a_turn(1, status="interrupted"), stopped])
    assert made.ctx.done == []
    assert task.messages == [
        said("message 1"),
        put_out("answer 1"),
        said("Turn 1 was interrupted."),
        said("message 2"),
        put_out("Once upon"),
    ]
    assert (task.input, task.input_metadata, task.text) == ([], [], "")
    assert task.turns[-1].get("resumed") is True
    assert Task(made.attempt, [], [], Before(made.attempt)).resumes == 2
    assert ATask().task.resumes is None


def test_what_was_steered_at_a_predecessor_and_is_not_this_tasks_stays_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = a_turn(2, status="running", messages=[])
    steered = [
        [[1, 2, 3, True, False], said("taken")],
        [[2, 2, 3, False, False], said("left")],
        [[3, 1, 3, False, False], said("of another")],
    ]
    ended = {"status": "interrupted", "messages": [said("taken"), put_out("a")], "taken": [[1, 0]]}
    made = ATask((ended, True), loaded(running, steered=steered))
    task = begin(made, monkeypatch, (2, True))
    assert task.messages == [
        said("message 2"),
        said("taken"),
        put_out("a"),
        said("left"),
        said("now"),
    ]


def test_what_passed_on_from_a_predecessor_to_this_task_is_not_that_ones_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = a_turn(2, status="running", messages=[])
    passed, kept = ([[x, 2, 3, False, False], said(f"steered {x}")] for x in (1, 2))
    killed = {"status": "killed", "messages": []}
    now_mine = [[1, 3, 3, True, True], said("steered 1")]
    mine = begins(joined=[now_mine])
    first, then = loaded(running, steered=[passed, kept]), loaded(running, steered=[kept])
    made = ATask((killed, True), mine, first, then)
    task = begin(made, monkeypatch, (2, False))
    assert task.input == [said("steered 1"), said("now")]
    assert task.messages == [said("message 2"), said("steered 2"), *task.input]


def test_what_a_predecessor_began_with_stays_with_it_where_its_number_is_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # When this task has loaded, 1 passes on to it, and 2 stays with turn 2: then 2 is free.
    running = [a_turn(x, status="running", messages=[]) for x in (1, 2)]
    passes = [[1, 1, 2, False, False], said("steered 1")]
    stays = [[2, 2, 3, True, True], said("joined 2")]
    mine = [[[1, 3, 2, True, True], passes[1]], [[2, 3, 4, True, True], said("steered 3")]]
    killed = {"status": "killed", "messages": []}
    begun = begins(joined=mine)
    first, then = loaded(*running, steered=[passes, stays]), loaded(*running, steered=[stays])
    made = ATask((killed, True), (killed, True), begun, first, then)
    task = begin(made, monkeypatch, (1, False), (2, False))
    assert task.input == [said("steered 1"), said("now"), said("steered 3")]
    earlier = [said("message 1"), said("message 2"), said("joined 2")]
    assert task.messages == [*earlier, *task.input]


def test_a_predecessor_that_did_not_report_is_settled_and_one_that_takes_too_long_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed = {"status": "killed", "messages": []}
    turns = [a_turn(x, status="running", messages=[]) for x in (1, 2)]
    made = ATask((killed, False), (CUT_OFF, True), loaded(*turns))
    happens = ["attach inv-1", "cleanup_timeout"]
    task = begin(made, monkeypatch, (1, True), (2, True), happens=happens)
    settled = {"outcome": {"turn": 1, **killed}, "ended": []}
    assert made.ctx.done == [
        "attach inv-1",
        "attach inv-2",
        LOAD,
        *waits(1, 2, cancelled=True),
        ("IdleAgent", "settle", settled, {"key": "key"}),
        "wait",
        "cancel inv-2",
        ("IdleAgent", "give_up", {"turns": [2]}, {"key": "key"}),
    ]
    assert task.messages == [said("message 1"), said("message 2"), said("now")]
    assert list(made.attempt.ends) == [1]


def test_who_is_cancelled_while_others_wait_has_its_time_from_then_on_and_is_given_up_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = a_turn(2, status="running", messages=[])
    made = ATask(None, begins(), loaded(a_turn(1), running))
    happens = ["turn 2 is cancelled", "cleanup_timeout"]
    task = begin(made, monkeypatch, (2, False), happens=happens)
    assert made.ctx.done == [
        "attach inv-2",
        *waits(2, cancelled=False),
        TIMEOUT,
        "wait",
        "cancel inv-2",
        ("IdleAgent", "give_up", {"turns": [2]}, {"key": "key"}),
        *BEGIN,
    ]
    assert task.turns[-1].get("given_up") is True
    # Who is told that another has given it up says nothing.
    made = ATask(None, begins(), loaded(a_turn(1), running))
    begin(made, monkeypatch, (2, False), happens=["turn 2 is given up"])
    assert made.ctx.done == ["attach inv-2", *waits(2, cancelled=False), *BEGIN]
    # And of one that has ended, nothing else counts.
    made = ATask((CUT_OFF, True), (CUT_OFF, True), begins(), loaded(a_turn(1), running))
    happens = ["attach inv-2", "turn 2 is cancelled", "attach inv-1"]
    begin(made, monkeypatch, (1, False), (2, False), happens=happens)
    asked = ["attach inv-1", "attach inv-2", *waits(1, 2, cancelled=False, times=3), *NOT_TOLD]
    assert made.ctx.done == asked


KILLED: Any = {"status": "killed", "messages": []}
UNKNOWN = (KILLED, False, True)


def test_a_predecessor_that_restate_does_not_know_yet_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What sends its task may come later than who attaches, while a node takes over."""
    running = a_turn(2, status="running", messages=[])
    made = ATask(UNKNOWN, loaded(a_turn(1), running), (CUT_OFF, True))
    begin(made, monkeypatch, (2, True), happens=["attach inv-2", "unknown", "attach inv-2"])
    assert made.ctx.done == [
        "attach inv-2",
        LOAD,
        *waits(2, cancelled=True),
        ("unknown", timedelta(seconds=1)),
        "wait",
        "attach inv-2",
        "wait",
    ]
    assert made.attempt.ends == {2: {"turn": 2, **CUT_OFF}}
    # It is given up all the same.
    made = ATask(UNKNOWN, loaded(a_turn(1), running))
    happens = ["attach inv-2", "cleanup_timeout"]
    begin(made, monkeypatch, (2, True), happens=happens)
    assert made.attempt.ends == {}


def test_a_predecessor_that_restate_does_not_know_for_long_was_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = a_turn(2, status="running", messages=[])
    again = ["unknown", "attach inv-2"] * len(outcome.UNKNOWN)
    answers = [UNKNOWN, *[UNKNOWN] * len(outcome.UNKNOWN)]
    made = ATask(*answers, begins(), loaded(a_turn(1), running))
    begin(made, monkeypatch, (2, False), happens=["attach inv-2", *again])
    assert made.attempt.ends == {2: {"turn": 2, **KILLED}}
    paused = [x[1] for x in made.ctx.done if x[0] == "unknown"]
    assert sum(paused, timedelta()) == timedelta(seconds=30)
    settled = {"outcome": {"turn": 2, **KILLED}, "ended": []}
    assert made.ctx.done[-3:] == [("IdleAgent", "settle", settled, {"key": "key"}), *BEGIN]


def test_a_turn_that_was_given_up_is_told_of_as_interrupted_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    why = {"reason": "interrupted by turn 2", "task_id": "inv-1"}
    stuck = a_turn(1, status="running", messages=[], **why)
    given_up, told = {**stuck, "given_up": True}, {**stuck, "status": "interrupted"}
    made = ATask()
    task = begin(made, monkeypatch, turns=[given_up, a_turn(2)])
    assert made.ctx.done == []
    assert task.turns == [{**told, "given_up": True}, a_turn(2)]
    # Who loads, or has waited it out, is told the same.
    assert begin(ATask(loaded(given_up, a_turn(2))), monkeypatch).turns == task.turns
    made = ATask(None, loaded(stuck, a_turn(2)))
    assert begin(made, monkeypatch, (1, True), happens=["cleanup_timeout"]).turns == task.turns
    assert made.attempt.ends == {}


def test_a_predecessor_that_is_discarded_is_waited_for_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ATask((CUT_OFF, True), loaded(a_turn(1)))
    task = begin(made, monkeypatch, (2, True))
    assert task.messages == [said("message 1"), put_out("answer 1"), said("now")]
    assert list(made.attempt.ends) == [2]


QUIET = timedelta(milliseconds=300)


CAME = [[[1, 3, 3, True, True, 5], said("one")], [[2, 3, 4, True, True, 6], said("two")]]


@pytest.mark.parametrize(
    ("merges", "answers", "seen", "expected"),
    [
        (False, [], [], [said("now")]),
        (True, [begins()], [0], [said("now")]),
        (
            True,
            [{"seen": 5}, {"seen": 6}, begins(joined=CAME)],
            [0, 5, 6],
            [said("one"), said("now"), said("two")],
        ),
        (True, [{"seen": 5}, begins(said("instead"))], [0, 5], [said("instead")]),
    ],
)
def test_a_task_waits_until_it_is_quiet_and_begins_with_all_that_came(
    monkeypatch: pytest.MonkeyPatch,
    merges: bool,
    answers: list[Any],
    seen: list[int],
    expected: list[Any],
) -> None:
    made = ATask(loaded(), *answers, debounce=QUIET, merges=merges)
    task = begin(made, monkeypatch)
    windows = [[("debounce", QUIET), quiet(x)] for x in seen] or [[("debounce", QUIET)]]
    assert made.ctx.done == [LOAD, *(x for window in windows for x in window)]
    assert task.input == expected


def test_a_queued_task_in_its_quiet_window_waits_for_others_after_it_and_then_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [{"seen": 5}, {"seen": 5, "quiet": True}, begins(joined=CAME[:1])]
    made = ATask((CUT_OFF, True), *answers, loaded(a_turn(2)), debounce=QUIET, merges=True)
    task = begin(made, monkeypatch, (2, False))
    window = ("debounce", QUIET)
    waited = [window, quiet(0), window, quiet(5), *waits(2, cancelled=False)]
    assert made.ctx.done == ["attach inv-2", *waited, *BEGIN]
    assert task.input == [said("one"), said("now")]


def test_a_task_that_is_cancelled_in_its_quiet_window_does_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ATask(loaded(), {"cancelled": True}, debounce=QUIET, merges=True)
    with pytest.raises(Interrupted):
        begin(made, monkeypatch)
    assert made.ctx.done == [LOAD, ("debounce", QUIET), quiet(0)]


# -- Approvals. ------------------------------------------------------------------------------------

YES: Any = {"approved": True, "reason": None, "value": {"branch": "main"}}
HOUR = timedelta(hours=1)


def asks(number: int, title: str = "git push", **more: Any) -> Any:
    """The agent's object is told that a turn asks for something."""
    body = {"title": title, "turn": 3, "number": number, **more}
    return ("IdleAgent", "ask_approval", body, {"key": "key"})


def closes(number: int) -> Any:
    return ("IdleAgent", "close_approval", {"turn": 3, "number": number}, "key")


def approved(made: ATask, monkeypatch: pytest.MonkeyPatch, *comes: str, **options: Any) -> Any:
    """What a task is answered that asks for an approval; of a race, what comes first."""

    async def wait_completed(*futures: Future) -> Any:
        made.ctx.done.append("wait")
        return [x for x in futures if x.name in comes], futures

    def signal(name: str, serde: Any) -> Future:
        made.ctx.done.append(name)
        return Future(YES, name)

    def sleep(delta: timedelta) -> Future:
        made.ctx.done.append(delta)
        return Future(None, "time")

    monkeypatch.setattr(restate, "wait_completed", wait_completed)
    monkeypatch.setattr(made.ctx, "signal", signal)
    monkeypatch.setattr(made.ctx, "sleep", sleep)
    return asyncio.run(made.task.approval("git push", **options))


def test_who_asks_for_an_approval_listens_first_then_tells_and_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ATask()
    answer = approved(made, monkeypatch)
    assert answer == Approval(approved=True, value={"branch": "main"})
    assert answer
    assert made.ctx.done == ["approval 1", asks(1)]
    approved(made, monkeypatch, value=["main"])
    assert made.ctx.done[2:] == ["approval 2", asks(2, value=["main"])]
    assert not Approval(approved=False, reason="no")


def test_who_waits_for_so_long_asks_when_that_is_over_whether_somebody_was_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = ["approval 1", asks(1, within=3_600_000), HOUR, "wait"]
    made = ATask()
    assert approved(made, monkeypatch, "approval 1", timeout=HOUR).approved
    assert made.ctx.done == waited
    made = ATask(False)
    answer = approved(made, monkeypatch, "time", timeout=HOUR)
    assert (bool(answer), answer) == (False, Approval(approved=False, timed_out=True))
    assert made.ctx.done == [*waited, closes(1)]
    made = ATask(True)
    assert approved(made, monkeypatch, "time", timeout=HOUR) == Approval(**YES)
    assert made.ctx.done == [*waited, closes(1)]


@pytest.mark.parametrize(
    ("title", "value"),
    [
        ("", None),
        (" \n", None),
        (5, None),
        (None, None),
        ("git push", object()),
        ("git push", {1: {2}}),
        ("git push", "x" * MAX_ASKED),
        ("x" * MAX_ASKED, None),
    ],
)
def test_who_asks_for_what_is_none_fails_the_turn_and_asks_for_nothing(
    title: Any, value: Any
) -> None:
    made = ATask()
    with pytest.raises(TypeError) as caught:
        asyncio.run(made.task.approval(title, value=value))
    assert isinstance(caught.value, TerminalError)
    assert made.ctx.done == []


def test_what_is_asked_may_be_so_large_and_no_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    room = MAX_ASKED - len(json.dumps({"title": "git push", "value": ""}))
    made = ATask()
    assert approved(made, monkeypatch, value="x" * room)
    with pytest.raises(TypeError):
        approved(made, monkeypatch, value="x" * (room + 1))


def test_to_ask_is_done_for_no_call_of_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ATask()
    made.task.append(calling("a"))

    def counted(*args: Any, **options: Any) -> Any:
        made.watch.commands += 1
        return Working.generic_send(made.ctx, *args, **options)

    monkeypatch.setattr(made.ctx, "generic_send", counted)
    approved(made, monkeypatch)
    assert ends(made)["not_begun"] == ["a"]

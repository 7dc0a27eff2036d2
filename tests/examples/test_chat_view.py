"""What the terminal shows, without one: the record wins, and no text can do anything."""

import random
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from restate import TerminalError

from examples.coding_agent.chat import orders, screen, talk, view
from examples.coding_agent.chat.orders import Order
from examples.coding_agent.chat.screen import cells, cut, plain, rows, wrap
from examples.coding_agent.chat.turns import Conversation
from examples.coding_agent.chat.view import Line
from tests.examples.scripts import assistant, user

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\b\x7f\u202egnp\u2066\u200b\ud800 » 界 e\u0301"
RESULT = "[Exit code 1 after 0.2 s.]\none\ntwo"
CALL = {"id": "c1", "function": {"name": "run_command", "arguments": '{"command": "ls"}'}}


def turn(number: int, status: str = "completed", *messages: Any, **more: Any) -> dict[str, Any]:
    asked = [user(f"ask {number}")]
    return {"turn": number, "status": status, "input": asked, "messages": [*messages], **more}


def record(
    *turns: Any,
    at_work: int | None = None,
    asked: Any = (),
    pending: Any = (),
    complete: bool = True,
) -> Any:
    live = [
        {"turn": x["turn"], "task_id": "inv_1", "cancelled": x.get("cancelled")}
        | {"after_step": x.get("after_step", False)}
        for x in turns
        if x["status"] == "running"
    ]
    waits = {"steered": 0, "pending": [*pending], "waiting_for": [*asked]}
    return {
        "turns": [
            {key: x[key] for key in x if key not in ("cancelled", "after_step")} for x in turns
        ],
        "status": {"turn": at_work, "live": live, **waits},
        "complete": complete,
    }


def asks(command: str) -> dict[str, Any]:
    value = {"call": "c1", "command": command}
    return {"id": 1, "turn": 1, "title": "Run this command?", "value": value}


def waits(number: int, turn: int, kind: str, content: Any) -> dict[str, Any]:
    return {"id": number, "turn": turn, "kind": kind, "content": content}


def model(state: str, turn: int = 1, **more: Any) -> dict[str, Any]:
    return {"type": "model", "turn": turn, "state": state, **more}


def token(text: str, turn: int = 1) -> dict[str, Any]:
    return {"type": "text", "turn": turn, "text": text}


def put(message: Any, kind: str = "message") -> dict[str, Any]:
    return {"type": kind, "turn": 1, "message": message}


def tool(state: str) -> dict[str, Any]:
    return {"type": "tool", "turn": 1, "call": "c1", "name": "run_command", "state": state}


def printed(text: str) -> dict[str, Any]:
    return {"type": "output", "turn": 1, "call": "c1", "text": text}


def turn_event(state: str, number: int = 1) -> dict[str, Any]:
    return {"type": "turn", "turn": number, "state": state}


GAP = {"type": "gap", "turn": 1}
CALLS = put({**assistant("Hello."), "tool_calls": [CALL]})
HAS_RESULT = put({"role": "tool", "tool_call_id": "c1", "content": RESULT})


def shown(rows: Any) -> list[str]:
    return ["".join(text for _, text in row) for row in rows]


def live(conversation: Conversation, width: int = 60) -> list[str]:
    return [x for x in shown(rows(view.live(conversation, [], ""), width)) if x]


def for_good(news: Any, width: int = 60) -> list[str]:
    return [x for x in shown(rows(view.news(news), width)) if x]


def doing(conversation: Conversation) -> str:
    line, _ = view.status(conversation, "")
    return line.mark + line.text


# -- what gets no answer ---------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_restate_that_has_just_come_up_knows_no_service_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unknown = TerminalError("service 'A' not found, make sure to register the service.", 404)
    given = [httpx.ConnectError("away"), unknown, unknown, "answer", unknown]

    async def call() -> str:
        if isinstance(it := given.pop(0), Exception):
            raise it
        return str(it)

    monkeypatch.setattr(talk, "AGAIN", 0)
    at_the_table = talk.Talk.__new__(talk.Talk)  # without a terminal
    at_the_table._away, at_the_table._unknown = "", 0
    at_the_table.screen = SimpleNamespace(changed=lambda: None)  # type: ignore[assignment]
    assert await at_the_table._patiently(call) == "answer"
    at_the_table._unknown = 0  # it was never away: its name is wrong
    with pytest.raises(TerminalError):
        await at_the_table._patiently(call)


# -- text ------------------------------------------------------------------------------------------


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    assert plain(HOSTILE) == (
        "␛[2J␛]0;owned␇\\u009b31m␍␈\\u007f\\u202egnp\\u2066\\u200b\\ud800 » 界 e\u0301"
    )
    assert plain("a\tb\r\nc\u00a0d") == "a   b\nc d"


@settings(derandomize=True, deadline=None)
@given(st.text(), st.integers(min_value=3, max_value=30))
def test_no_text_can_do_anything_and_each_row_fits(text: str, width: int) -> None:
    broken = [row for line in plain(text).split("\n") for row in wrap(line, width)]
    assert all(row.isprintable() for row in broken)
    assert all(cells(row) <= width for row in [*broken, cut(plain(text).replace("\n", ""), width)])
    assert "".join(broken).replace(" ", "") == plain(text).replace("\n", "").replace(" ", "")


def test_rows_break_between_words_and_wide_characters_count_twice() -> None:
    said = Line("", "", "one two  three\n\n    four five")
    assert shown(rows([said], 9)) == ["one two", "three", "", "    four", "five"]
    assert wrap("界界 界界界 一", 7) == ["界界", "界界界", "一"]
    assert wrap("界界界界", 5) == ["界界", "界界"]
    assert cut("界界界界", 6) == "界界…"
    assert cut("abc", 3) == "abc"


@settings(derandomize=True, deadline=None)
@given(st.text(min_size=1), st.integers(min_value=12, max_value=40))
def test_nothing_that_is_said_passes_for_a_row_of_this_program(text: str, width: int) -> None:
    said = turn(1, "interrupted", assistant(text), {**assistant(""), "tool_calls": [CALL]})
    said["messages"].append({"role": "tool", "tool_call_id": "c1", "content": f"{RESULT}\n{text}"})
    news = Conversation().read(**record(said))
    rows = for_good(news, width)
    marks = {row[:2] for row in rows}
    assert marks <= {"» ", "  ", "✗ ", "✓ ", "│ ", "╌ ", "■ "}
    assert [x[:2] for x in rows if x[:2] in ("» ", "✗ ", "✓ ", "■ ")] == ["» ", "✗ ", "■ "]
    assert all(cells(row) <= width and row.isprintable() for row in rows)


# -- the stream and the record ---------------------------------------------------------------------


def test_what_is_live_is_shown_as_it_comes() -> None:
    it = Conversation()
    it.read(**record(turn(1, "running"), at_work=1))
    assert it.hear(GAP)
    assert live(it) == ["» ask 1"]
    assert it.hear(turn_event("begins"))
    it.hear(model("begins"))
    it.hear(token("Hel"))
    assert live(it) == ["» ask 1", "  Hel"]
    it.hear(token("lo."))
    it.hear(CALLS)
    assert live(it) == ["» ask 1", "  Hello."]
    it.hear(tool("begins"))
    it.hear(printed("one\n"))
    assert live(it) == ["» ask 1", "  Hello.", "● run_command ls · at work", "│ one"]
    assert doing(it) == "● turn 1 runs run_command"
    it.hear(tool("ends"))
    it.hear(HAS_RESULT)
    said = ["» ask 1", "  Hello.", "✗ run_command ls · exit 1, 0.2 s", "│ one", "│ two"]
    assert live(it) == said
    it.hear(model("begins"))
    it.hear(token("So"))
    assert it.hear(model("cut off"))
    assert live(it) == [*said, "  So", "╌ cut off"]
    it.hear(put(assistant("So")))
    assert live(it) == [*said, "  So", "╌ cut off"]


def test_a_model_that_begins_again_voids_what_it_had_said() -> None:
    it = Conversation()
    it.read(**record(turn(1, "running"), at_work=1))
    for event in (turn_event("begins"), model("begins"), token("Hel"), model("fails", text="no")):
        it.hear(event)
    assert live(it) == ["» ask 1", "  Hel", "╌ cut off"]
    assert doing(it) == "● turn 1 the model's endpoint failed, and is asked again: no"
    for event in (model("begins"), token("Bye")):
        it.hear(event)
    assert live(it) == ["» ask 1", "  Bye"]
    assert doing(it) == "● turn 1 asks the model"


def test_a_gap_forgets_what_was_told() -> None:
    it = Conversation()
    it.read(**record(turn(1, "running"), at_work=1))
    for event in (turn_event("begins"), CALLS, tool("begins"), printed("one"), token("Hel")):
        it.hear(event)
    assert it.hear(GAP)
    assert live(it) == ["» ask 1"]
    for event in (turn_event("begins"), CALLS, tool("begins"), printed("two")):
        it.hear(event)
    assert live(it) == ["» ask 1", "  Hello.", "● run_command ls · at work", "│ two"]


def test_the_record_is_read_when_the_session_has_changed() -> None:
    it = Conversation()
    it.read(**record(turn(1, "running"), at_work=1))
    assert it.hear({"type": "pending", "turn": 2})
    assert it.hear({"type": "discarded", "turn": 2, "turns": [1]})
    it.hear(CALLS)
    assert not it.hear(tool("waits"))
    assert it.hear({"type": "approval", "turn": 1, "approval": 1, "state": "waits"})
    assert not it.hear(tool("ends"))
    assert live(it) == ["» ask 1", "  Hello.", "? run_command ls · asks you"]
    assert it.hear({"type": "approval", "turn": 1, "approval": 1, "state": "over"})


def test_the_record_wins_over_what_was_told() -> None:
    it = Conversation()
    it.read(**record(turn(1, "running"), at_work=1))
    for event in (turn_event("begins"), model("begins"), token("Another thing")):
        it.hear(event)
    assert it.settled
    assert it.hear(turn_event("ends"))
    assert not it.settled
    ended = turn(
        1,
        "interrupted",
        assistant("The thing"),
        partial=1,
        reason="interrupted by turn 2",
        accepted_at=1000,
        ended_at=2500,
    )
    news = it.read(**record(ended))
    assert for_good(news) == [
        "» ask 1",
        "  The thing",
        "╌ cut off",
        "■ turn 1 · interrupted by turn 2 · 1.5 s",
    ]
    for late in (token(" more"), tool("waits"), turn_event("ends")):
        assert not it.hear(late)
    assert live(it) == []
    assert it.settled
    assert for_good(it.read(**record(ended))) == []


def test_turns_are_shown_for_good_in_their_order_and_once() -> None:
    it = Conversation()
    stopped = turn(2, "interrupted", reason="cancelled")
    assert for_good(it.read(**record(turn(1, "running"), stopped, at_work=1))) == []
    assert live(it) == ["» ask 1", "» ask 2", "■ turn 2 · stopped"]
    news = it.read(**record(turn(1, "completed", assistant("One.")), stopped))
    assert for_good(news) == [
        *("» ask 1", "  One.", "■ turn 1 · completed"),
        *("» ask 2", "■ turn 2 · stopped"),
    ]


def test_what_is_shown_converges_to_the_record_in_whatever_order_it_is_told() -> None:
    """Events that are lost, repeated or late change nothing of what is shown for good."""
    chance = random.Random(1)  # noqa: S311 - to be the same each time
    ended = [
        turn(1, "interrupted", assistant("One"), partial=1, reason="interrupted by turn 2"),
        turn(2, "completed", assistant("Two.")),
        turn(3, "failed", error="so it is"),
    ]
    events = [
        GAP,
        *(
            event
            for n in (1, 2, 3)
            for event in (
                turn_event("begins", n),
                model("begins", n),
                token("x", n),
                model("cut off", n),
                turn_event("ends", n),
            )
        ),
    ]
    expected = for_good(Conversation().read(**record(*ended)))
    for _ in range(200):
        it, rows = Conversation(), []
        for known in range(1, 4):
            for over in range(known + 1):
                told = [turn(x["turn"], "running") for x in ended]
                now = [*ended[:over], *told[over:known]]
                for event in chance.choices(events, k=6):
                    it.hear(event)
                rows += for_good(it.read(**record(*now, at_work=over + 1)))
        for event in events:
            it.hear(event)
        rows += for_good(it.read(**record(*ended)))
        assert rows == expected
        assert live(it) == []


def test_turns_that_are_taken_back_afterwards_are_said_to_be() -> None:
    it = Conversation()
    three = [turn(n) for n in (1, 2, 3)]
    it.read(**record(*three))
    gone = [{**x, "discarded": True} for x in three[1:]]
    assert for_good(it.read(**record(three[0], *gone))) == ["■ turns 2 to 3 · taken back"]
    assert it.last == three[0]
    assert for_good(it.read(**record(three[0], *gone))) == []
    assert for_good(it.read(**record())) == ["■ turn 1 · taken back"]  # somebody has started over


def test_a_turn_that_was_rolled_back_is_shown_without_what_it_did() -> None:
    gone = turn(1, "interrupted", assistant("No."), discarded=True, reason="rolled back by turn 2")
    assert for_good(Conversation().read(**record(gone))) == [
        "» ask 1",
        "■ turn 1 · rolled back by turn 2",
    ]


def test_the_record_is_read_as_far_back_as_it_may_have_changed() -> None:
    it = Conversation()
    told = for_good(it.read(**record(turn(7), turn(8), complete=False)))
    assert told[:2] == ["╌ there are turns before these", "» ask 7"]
    assert not it.needs_before(turn(9))  # the next one
    assert it.needs_before(turn(10))
    assert it.needs_before({**turn(8), "discarded": True})  # and those before it, perhaps
    it.read(**record(turn(7), turn(8), turn(9, "running"), complete=False, at_work=9))
    assert not it.needs_before(turn(9))
    assert it.needs_before(turn(10))


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (turn(1, "running"), "○ turn 1 · waits"),
        (turn(1, "running", cancelled="interrupted by turn 2"), "◌ turn 1 · stops, and cleans up"),
        (turn(1, "running", discarded=True, cancelled="x"), "◌ turn 1 · is being taken back"),
        (
            turn(1, "running", cancelled="stopped", after_step=True),
            "◌ turn 1 · stops after this step",
        ),
    ],
)
def test_a_turn_that_is_not_at_work_says_what_it_is_at(now: Any, words: str) -> None:
    it = Conversation()
    it.read(**record(now, turn(2, "running"), at_work=2))
    assert live(it) == ["» ask 1", words, "» ask 2"]


def test_a_turn_that_was_given_up_does_not_hold_back_those_after_it_and_is_told_once() -> None:
    it = Conversation()
    stuck = turn(1, "running", given_up=True, cancelled="interrupted by turn 2")
    told = for_good(it.read(**record(stuck, turn(2))))
    assert told == ["» ask 1", "■ turn 1 · was stopped, and has not ended", "» ask 2", told[-1]]
    assert it.settled
    assert live(it) == for_good(it.read(**record(turn(1, "interrupted"), turn(2)))) == []


def test_a_steered_message_stands_last_until_it_was_read_and_then_where_it_was() -> None:
    it = Conversation()
    it.read(**record(turn(1, "running"), at_work=1))
    for event in (turn_event("begins"), model("begins"), token("On")):
        it.hear(event)
    it.read(**record(turn(1, "running", user("more"), user("and more")), at_work=1))
    assert live(it) == ["» ask 1", "  On", "+ more", "+ and more"]
    for event in (token("e."), put(assistant("One."))):
        it.hear(event)
    assert live(it) == ["» ask 1", "  One.", "+ more", "+ and more"]
    assert it.hear(put(user("more"), "steered"))
    for event in (model("begins"), token("Two.")):
        it.hear(event)
    assert live(it) == ["» ask 1", "  One.", "+ more", "  Two.", "+ and more"]


# -- what is pending -------------------------------------------------------------------------------


def test_what_is_not_read_yet_has_its_number_where_it_stands() -> None:
    it = Conversation()
    told = [{**user("more"), "id": 2}, {**user("and more"), "id": 3}]
    queued = turn(2, "running", input=[{**user("then"), "id": 4}])
    pending = [waits(3, 1, "steered", "and more"), waits(4, 2, "queued", "then")]
    it.read(**record(turn(1, "running", *told), queued, at_work=1, pending=pending))
    for event in (turn_event("begins"), put(user("more"), "steered")):
        it.hear(event)
    assert live(it) == [
        *("» ask 1", "+ more", "+ and more", "╌ message 3, not read yet"),
        *("» then", "○ turn 2 · waits · message 4"),
    ]


def test_what_was_cut_short_for_a_message_is_shown_as_cut_off() -> None:
    messages = assistant("One and"), user("more"), assistant("Two.")
    it = turn(1, "completed", *messages, cut_short=[0], steered=[1])
    rows = for_good(Conversation().read(**record(it)))
    assert rows[1:5] == ["  One and", "╌ cut off", "+ more", "  Two."]


def test_what_is_pending_is_listed_and_cannot_do_anything() -> None:
    pending = [waits(2, 1, "steered", "more\n\x1b[2J"), waits(13, 2, "queued", [{"text": "then"}])]
    listed = [x for x in shown(rows(view.pending({"pending": pending}), 60)) if x.strip()]
    assert listed == [
        "╌ not read yet",
        "  2   steered, turn 1: more ␛[2J",
        "  13  queued, turn 2: then",
    ]
    assert shown(rows(view.pending({"pending": []}), 60))[0] == "╌ all messages are read"


def test_a_message_that_was_withdrawn_is_shown_as_taken_back() -> None:
    gone: Any = {"input": [], "discarded": True, "reason": "withdrawn"}
    withdrawn = turn(1, "interrupted", withdrawn=[user("no")], **gone)
    moved = turn(2, "interrupted", **{**gone, "reason": "promoted"})
    rows = for_good(Conversation().read(**record(withdrawn, moved)))
    assert rows == ["» no", "■ turn 1 · taken back", "■ turn 2 · said in another turn"]


def test_a_turn_that_goes_on_with_another_says_so() -> None:
    stopped = turn(1, "interrupted", assistant("One"), partial=1, reason="stopped")
    goes_on = turn(2, "completed", assistant("and two."), input=[], resumes=1)
    it = Conversation()
    assert "/continue goes on" not in view.status(it, "")[1]
    it.read(**record(stopped))
    assert "/continue goes on" in view.status(it, "")[1]
    rows = for_good(it.read(**record(stopped, goes_on)))
    assert rows == ["╌ goes on where turn 1 stopped", "  and two.", "■ turn 2 · completed"]
    assert "/continue goes on" not in view.status(it, "")[1]


# -- the rows --------------------------------------------------------------------------------------


def test_of_what_is_live_the_end_is_shown_where_all_does_not_fit() -> None:
    it = Conversation()
    it.read(**record(turn(1, "running"), at_work=1))
    for event in (turn_event("begins"), model("begins"), token("\n".join("abcdefgh"))):
        it.hear(event)
    assert shown(screen.end_of(view.live(it, [], ""), 60, 4)) == [
        "╌ 7 rows above, shown when the turn ends",
        "  g",
        "  h",
        "",
    ]


def test_the_whole_of_a_command_is_shown_to_who_is_to_say_yes() -> None:
    asked = asks("git push\x1b[2K " + "x" * 30)
    assert shown(rows(view.question(asked), 24)) == [
        *("? turn 1 wants to run,", "  and waits for your", "  yes:"),
        *("? git push␛[2K xxxxxxxx", "  " + "x" * 21, "  x", ""),
    ]
    long = asks("rm -r x; " + "echo harmless\n" * 50)
    assert view.is_long(long)
    it = Conversation()
    it.read(**record(turn(1, "running"), at_work=1, asked=[long]))
    assert live(it)[1:] == ["? turn 1 waits for your yes to a long command, which is abo…"]


def test_a_message_of_several_rows_has_one_mark() -> None:
    it = turn(1, "completed", assistant("One\ntwo three four."))
    it["input"] = [user("first\nsecond and third"), user("+ last")]
    assert for_good(Conversation().read(**record(it)), 16) == [
        *("» first", "  second and", "  third", "  ", "  + last"),
        *("  One", "  two three", "  four.", "■ turn 1 · comp…"),
    ]


def test_what_is_on_its_way_and_what_went_wrong_stands_last() -> None:
    last = view.live(Conversation(), ["hello"], "no\x1b[ way")
    assert shown(rows(last, 60)) == ["» hello", "○ on its way", "", "✗ no␛[ way", ""]


def test_a_call_is_one_row_with_its_state_however_narrow() -> None:
    arguments = '{"command": "python -m pytest -q\\n --long-option"}'
    call = {"id": "c1", "function": {"name": "run_command", "arguments": arguments}}
    result = {"role": "tool", "tool_call_id": "c1", "content": "[Exit code 0 after 1.5 s.]"}
    it = turn(1, "completed", {**assistant(""), "tool_calls": [call]}, result)
    wide, narrow = (for_good(Conversation().read(**record(it)), width)[1] for width in (80, 30))
    assert wide == "✓ run_command python -m pytest -q --long-option · exit 0, 1.5 s"
    assert narrow == "✓ run_command… · exit 0, 1.5 s"


def test_a_command_that_was_cut_off_and_one_that_was_not_begun_are_shown_as_such() -> None:
    calls = [{**CALL, "id": call} for call in ("c1", "c2", "c3")]
    results = [
        {"role": "tool", "tool_call_id": "c1", "content": "one\ntwo\n[Interrupted: here.]"},
        {"role": "tool", "tool_call_id": "c2", "content": "[Interrupted: before.]"},
        {"role": "tool", "tool_call_id": "c3", "content": "[Interrupted: never.]"},
    ]
    ends: Any = {"cut_off": ["c1", "c2"], "not_begun": ["c3"], "reason": "cancelled"}
    it = turn(1, "interrupted", {**assistant(""), "tool_calls": calls}, *results, **ends)
    assert for_good(Conversation().read(**record(it)))[1:6] == [
        "╌ run_command ls · cut off",
        "│ one",
        "│ two",
        "╌ run_command ls · cut off",
        "╌ run_command ls · not begun",
    ]


def test_a_result_in_parts_is_shown_as_text() -> None:
    call = {"id": "c1", "function": {"name": "look", "arguments": "[]"}}
    result = [{"type": "text", "text": "one"}, {"type": "image"}]
    told = {"role": "tool", "tool_call_id": "c1", "content": result}
    it = turn(1, "completed", {**assistant(""), "tool_calls": [call]}, told)
    assert for_good(Conversation().read(**record(it)))[1] == "✓ look [] · 2 lines"


def test_arguments_that_are_no_json_are_shown_as_they_are() -> None:
    call = {"id": "c1", "function": {"name": "oops", "arguments": '{"a": \x1b['}}
    it = turn(1, "interrupted", {**assistant(""), "tool_calls": [call]})
    rows = for_good(Conversation().read(**record(it)))
    assert rows[1] == '╌ oops {"a": ␛[ · cut off'


def status(it: Conversation, typed: str = "", width: int = 90) -> list[str]:
    (line,) = shown([screen.sides(*view.status(it, typed), width)])
    assert cells(line) == width
    return line.split("  ", 1)[0].split(" · ")[:1] + line.rsplit("  ", 1)[1].strip().split(" · ")


def test_the_line_below_the_prompt_says_what_the_keys_do_now() -> None:
    it = Conversation()
    assert status(it) == ["○ idle", "/help", "Ctrl-D ends"]
    assert status(it, "x") == ["○ idle", "Enter sends"]
    it.read(**record(turn(1, "running"), at_work=1))
    assert status(it)[:2] == ["● turn 1 begins", "Esc stops"]
    assert status(it, "x") == ["● turn 1 begins", "Enter interrupts", "+ in front adds, > queues"]
    assert status(it, "+x") == ["● turn 1 begins", "Enter adds this to turn 1"]
    assert status(it, ">x") == ["● turn 1 begins", "Enter queues this"]
    it.read(**record(turn(1, "running"), at_work=1, asked=[asks("git push")]))
    assert status(it) == ["? turn 1 waits for you", "y runs it, n does not", "Esc stops"]
    it.read(**record(turn(1, "running", cancelled="stopped", after_step=True), at_work=1))
    assert status(it)[:2] == ["◌ turn 1 stops after this step", "Esc stops it at once"]
    it.read(**record(turn(1, "interrupted", reason="stopped")))
    assert status(it) == ["○ idle", "/continue goes on", "/help", "Ctrl-D ends"]


# -- what is typed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "order"),
    [
        ("stop that", Order("", text="stop that")),
        ("+ more", Order("+", text="more")),
        (">then this", Order(">", text="then this")),
        (" +1 for that", Order("", text="+1 for that")),
        (" /etc is odd", Order("", text="/etc is odd")),
        ("/back 3", Order("/back", 3)),
        ("/again", Order("/again")),
        ("/etc", "There is no /etc; /help says what there is."),
        ("/back x", "/back takes the number of a turn, or nothing."),
        ("/back 3 4", "/back takes the number of a turn, or nothing."),
        ("/withdraw 3", Order("/withdraw", 3)),
        ("/withdraw", "/withdraw takes the number of a message that waits."),
        ("/withdraw 3 x", "/withdraw takes the number of a message that waits."),
        ("/promote x", "/promote takes the number of a message that waits."),
        ("/replace 3 two\n words", Order("/replace", 3, "two\n words")),
        ("/replace 3", "/replace takes the number of a message that waits, and text."),
        ("/now 3", Order("/now", 3)),
        ("/now 3 words", Order("/now", text="3 words")),
        ("/now", "There is no message after /now."),
        ("+", "There is no message after +."),
    ],
)
def test_what_a_line_means(typed: str, order: Any) -> None:
    meaning = orders.read(typed)
    assert meaning == order
    assert isinstance(meaning, str) or meaning.typed == typed


def test_a_yes_is_one_only_while_something_waits_for_it() -> None:
    assert orders.read("Yes ", 7) == Order("y", 7)
    assert orders.read("n", 7) == Order("n", 7)
    assert orders.read("y") == Order("", text="y")

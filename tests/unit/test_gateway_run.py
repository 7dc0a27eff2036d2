"""What a client of AG-UI is told of a run: whatever breaks, in the end it has the record.

And no event breaks AG-UI's rules.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from ag_ui.core import (
    Message,
    MessagesSnapshotEvent,
    ReasoningMessage,
    RunFinishedEvent,
    RunStartedEvent,
    UserMessage,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from interruptible._gateway.agui_messages import id_of_said, to_content, to_messages
from interruptible._gateway.agui_run import Run
from tests.agui import Client, complaints, shown

HI = UserMessage(id="hi", content="Hi")


def expected(base: Sequence[Message], turn: int, record: Sequence[dict[str, Any]]) -> list[Any]:
    made = [y for n, x in enumerate(record) for y in to_messages(x, f"{turn}.{n}")]
    known = {x.id for x in base}
    new = [x.model_dump(by_alias=True) for x in made if x.id not in known]
    return shown([*(x.model_dump(by_alias=True) for x in base), *new])


def run_complaints(heard: Sequence[dict[str, Any]]) -> list[str]:
    """What AG-UI's validator says of a run of these events."""
    start = RunStartedEvent(thread_id="t", run_id="r").model_dump(mode="json", by_alias=True)
    end = RunFinishedEvent(thread_id="t", run_id="r").model_dump(mode="json", by_alias=True)
    return complaints([{**x, "timestamp": 1} for x in (start, *heard, end)])


def assistant(text: str, *calls: str) -> dict[str, Any]:
    made = [
        {"id": x, "type": "function", "function": {"name": "f", "arguments": "{}"}} for x in calls
    ]
    return {"role": "assistant", "content": text or None} | ({"tool_calls": made} if calls else {})


def result(call: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": text}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def put(message: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "message": message}


def run_of(*happens: Any, base: Sequence[Message] = (HI,), record: Any = None) -> Client:
    """A run of turn 1 in which this happens, and then its end."""
    client, run = Client(base), Run(base)
    run.begins(1)
    for x in happens:
        client.hear(run.on(x))
    client.hear(
        run.ends([x["message"] for x in happens if "message" in x] if record is None else record)
    )
    return client


def types(client: Client) -> list[str]:
    return [x["type"].lower() for x in client.heard]


# -- Situations. -----------------------------------------------------------------------------------


def test_words_grow_into_the_message() -> None:
    client = run_of(text("It "), text("is"), put(assistant("It is so.")))
    assert client.shown == [("hi", "user", "Hi"), ("1.0", "assistant", "It is so.")]
    grows = ["text_message_content"] * 3
    assert types(client) == ["text_message_start", *grows, "text_message_end"]


def test_a_message_that_nobody_heard_comes_at_the_end() -> None:
    client = run_of(record=[assistant("Yes.")])
    assert client.shown == [("hi", "user", "Hi"), ("1.0", "assistant", "Yes.")]


def test_calls_and_results() -> None:
    client = run_of(put(assistant("", "a", "b")), put(result("b", "B")), put(result("a", "A")))
    assert client.shown[1:] == [
        ("1.0", "assistant", "", ("a", "{}"), ("b", "{}")),
        ("1.1", "tool", "B"),
        ("1.2", "tool", "A"),
    ]
    assert run_complaints(client.heard) == []


def test_results_in_one_message_are_several_messages() -> None:
    use = [{"type": "tool_use", "id": x, "name": "f", "input": {"a": 1}} for x in "ab"]
    gave = [{"type": "tool_result", "tool_use_id": x, "content": x.upper()} for x in "ab"]
    client = run_of(
        put({"role": "assistant", "content": use}), put({"role": "user", "content": gave})
    )
    assert client.shown[1:] == [
        ("1.0", "assistant", "", ("a", '{"a": 1}'), ("b", '{"a": 1}')),
        ("1.1.0", "tool", "A"),
        ("1.1.1", "tool", "B"),
    ]
    assert run_complaints(client.heard) == []


def test_words_that_are_void_go_at_once() -> None:
    client, run = Client([HI]), Run([HI])
    run.begins(1)
    client.hear(run.on(text("Wrong")))
    client.hear(run.on({"type": "gap"}))
    assert client.shown == [("hi", "user", "Hi")]
    client.hear(run.on(text("Ri")))
    client.hear(run.on(put(assistant("Right"))))
    assert [x[2] for x in client.shown] == ["Hi", "Right"]
    client.hear(run.ends([assistant("Right")]))
    assert client.shown == [("hi", "user", "Hi"), ("1.0", "assistant", "Right")]
    assert run_complaints(client.heard) == []


def test_words_that_come_again_after_a_gap_although_their_message_was_told_are_left_out() -> None:
    client, run = Client([HI]), Run([HI])
    run.begins(1)
    for x in (put(assistant("One.")), {"type": "gap"}, text("On"), put(assistant("One."))):
        client.hear(run.on(x))
    client.hear(run.on(text("Two")))
    assert client.shown[1:] == [("1.0", "assistant", "One."), ("1.1", "assistant", "Two")]
    client.hear(run.ends([assistant("One."), assistant("Two.")]))
    assert client.shown[1:] == [("1.0", "assistant", "One."), ("1.1", "assistant", "Two.")]
    assert run_complaints(client.heard) == []


def test_words_that_no_message_kept_go_at_the_end() -> None:
    client = run_of(text("Half an"), record=[])
    assert client.shown == [("hi", "user", "Hi")]


def test_thoughts_are_told_as_they_come_or_with_the_message() -> None:
    thinks = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
    said = {"role": "assistant", "content": [thinks, {"type": "text", "text": "So."}]}
    of = [
        run_of({"type": "reasoning", "text": "Hm."}, text("So."), put(said)),
        run_of(put(said)),
    ]
    for client in of:
        deltas = [x["delta"] for x in client.heard if x["type"] == "REASONING_MESSAGE_CONTENT"]
        assert deltas == ["Hm."]
        assert run_complaints(client.heard) == []


def test_what_a_user_steered_is_told_to_who_did_not_say_it() -> None:
    mine = {"role": "user", "content": "Faster", "id": 2, "metadata": {"ag-ui": {"message": "f"}}}
    theirs = {"role": "user", "content": "Also", "id": 3}
    happens = [{"type": "steered", "message": x} for x in (mine, theirs)]
    client = run_of(*happens, base=[HI, UserMessage(id="f", content="Faster")])
    assert client.shown == [
        ("hi", "user", "Hi"),
        ("f", "user", "Faster"),
        ("said-3", "user", "Also"),
    ]


def test_calls_of_one_id_in_two_messages_are_told_apart() -> None:
    use = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"n": 2}'}}]
    record = [
        assistant("", "c"),
        result("c", "One"),
        {"role": "assistant", "content": None, "tool_calls": use},
        result("c", "Two"),
    ]
    client = run_of(*map(put, record))
    assert client.shown[1:] == [
        ("1.0", "assistant", "", ("c", "{}")),
        ("1.1", "tool", "One"),
        ("1.2", "assistant", "", ("c", '{"n": 2}')),
        ("1.3", "tool", "Two"),
    ]
    assert run_complaints(client.heard) == []


def test_words_before_a_result_do_not_take_its_name() -> None:
    client = run_of(put(assistant("", "c")), text("I wait"), put(result("c", "One")))
    assert client.shown[1:] == [("1.0", "assistant", "", ("c", "{}")), ("1.1", "tool", "One")]
    assert run_complaints(client.heard) == []


def test_thoughts_that_a_client_has_are_in_no_snapshot_so_it_keeps_its_own() -> None:
    thought = ReasoningMessage(id="1.0.thoughts", content="Hm.")
    known = [HI, thought, *to_messages(assistant("Yes."), "1.0")]
    assert run_of(put(assistant("Yes.")), base=known).heard == []
    run = Run(known)
    run.begins(2)
    snapshots = [*run.on(text("No")), *run.on({"type": "gap"})][-1]
    assert [x.id for x in getattr(snapshots, "messages", [])] == ["hi", "1.0"]


def test_thoughts_are_not_told_again_after_a_gap() -> None:
    thinks = {"type": "reasoning", "text": "Hm."}
    client = run_of(thinks, {"type": "gap"}, thinks, put(assistant("So.")))
    assert [x["delta"] for x in client.heard if x["type"] == "REASONING_MESSAGE_CONTENT"] == ["Hm."]
    assert run_complaints(client.heard) == []


def test_a_message_of_a_user_is_never_taken_for_one_of_the_turn() -> None:
    mine = UserMessage(id="1.u", content="Hi")
    client = run_of(put(assistant("Yes.")), text("half"), base=[mine], record=[assistant("Yes.")])
    assert client.shown == [("1.u", "user", "Hi"), ("1.0", "assistant", "Yes.")]


def test_of_a_turn_that_is_discarded_nothing_more_is_told() -> None:
    run = Run([HI])
    run.begins(1)
    list(run.is_discarded(()))
    assert run.turn is None  # and what is of another turn is not given to it


def test_the_rest_is_a_custom_event() -> None:
    tool = {"type": "tool", "id": 7, "turn": 1, "call": "a", "name": "f", "state": "begins"}
    client = run_of(tool, {"type": "progress", "id": 8, "turn": 1, "percent": 5}, record=[])
    assert client.custom == [
        ("interruptible.tool", {"call": "a", "name": "f", "state": "begins"}),
        ("interruptible.progress", {"percent": 5}),
    ]


def test_who_has_all_is_told_nothing() -> None:
    record = [assistant("", "a"), result("a", "A"), assistant("Done.")]
    base = [HI, *(y for n, x in enumerate(record) for y in to_messages(x, f"1.{n}"))]
    assert run_of(*map(put, record), base=base).heard == []


def test_a_result_of_a_call_that_another_run_told_is_no_riddle() -> None:
    base = [HI, *to_messages(assistant("", "a"), "1.0")]
    client = run_of(put(assistant("", "a")), put(result("a", "A")), base=base)
    assert client.shown[2:] == [("1.1", "tool", "A")]
    assert run_complaints(client.heard) == []


def test_what_is_discarded_goes_with_what_the_user_had_said() -> None:
    client, run = Client([HI]), Run([HI])
    run.begins(1)
    client.hear(run.on(text("No")))
    client.hear(run.is_discarded(["hi"]))
    assert client.messages == []
    assert run_complaints(client.heard) == []


# -- Whatever happens. -----------------------------------------------------------------------------

WORDS = st.text(alphabet="ab ", min_size=1, max_size=6)


@st.composite
def records(draw: st.DrawFn) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for n in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "call", "steered"]))
        if kind == "text":
            made.append(assistant(draw(WORDS)))
        elif kind == "call":
            made += [assistant(draw(st.just("") | WORDS), f"c{n}"), result(f"c{n}", draw(WORDS))]
        else:
            made.append({"role": "user", "content": draw(WORDS), "id": 10 + n})
    return made


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_whatever_breaks_the_client_has_the_record_in_the_end(data: st.DataObject) -> None:
    record = data.draw(records())
    client, run = Client([HI]), Run([HI])
    run.begins(1)
    place = 0
    heard_before = 0
    for _ in range(data.draw(st.integers(0, 14))):
        match data.draw(st.sampled_from(["say", "lie", "put", "gap", "think", "cut"])):
            case "say" if place < len(record) and record[place]["role"] == "assistant":
                words = record[place]["content"] or ""
                if words:
                    client.hear(run.on(text(words[: data.draw(st.integers(1, len(words)))])))
            case "lie":
                client.hear(run.on(text(data.draw(WORDS))))
            case "think":
                client.hear(run.on({"type": "reasoning", "text": data.draw(WORDS)}))
            case "put" if place < len(record):
                kind = "steered" if record[place]["role"] == "user" else "message"
                client.hear(run.on({"type": kind, "message": record[place]}))
                place += 1
            case "gap":
                client.hear(run.on({"type": "gap"}))
                place = 0
            case "cut":  # the connection breaks at any event; another run goes on
                cut = data.draw(st.integers(heard_before, len(client.heard)))
                again = Client([HI])
                for e in client.heard[:cut]:
                    again.apply(e)
                client, heard_before, place = again, cut, 0
                base = [_message(x) for x in client.messages]
                run = Run(base)
                run.begins(1)
            case _:
                pass
    before = len(client.heard)
    client.hear(run.ends(record))
    has = {x[0]: x for x in client.shown}
    want = {x[0]: x for x in expected([HI], 1, record)}
    assert has == want
    assert run_complaints(client.heard[heard_before:]) == []
    assert before <= len(client.heard)


def _message(x: dict[str, Any]) -> Message:
    return MessagesSnapshotEvent.model_validate({"messages": [x]}).messages[0]


# -- Content. --------------------------------------------------------------------------------------


def parts(*given: dict[str, Any]) -> Any:
    return UserMessage.model_validate({"id": "a", "content": [*given]}).content


def test_parts_of_a_user_become_parts_of_the_chat_apis_and_come_back() -> None:
    data = {"type": "data", "value": "aGk=", "mimeType": "image/png"}
    given = parts(
        {"type": "text", "text": "Look"},
        {"type": "image", "source": data},
        {"type": "image", "source": {"type": "url", "value": "https://a/b.png"}},
        {"type": "audio", "source": {**data, "mimeType": "audio/wav"}},
        {"type": "document", "source": {**data, "mimeType": "application/pdf"}},
        {"type": "document", "source": {"type": "file", "value": "file-1"}},
    )
    content = to_content(given)
    assert content == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {
            "type": "file",
            "file": {"filename": "document", "file_data": "data:application/pdf;base64,aGk="},
        },
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    [back] = to_messages({"role": "user", "content": content, "id": 1}, "x")
    assert back.content == given


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video", "source": {"type": "url", "value": "https://a/b"}},
        {"type": "image", "source": {"type": "file", "value": "x"}},
        {"type": "audio", "source": {"type": "url", "value": "https://a/b"}},
    ],
    ids=["a video", "an image by its file", "sound by its address"],
)
def test_what_no_chat_api_takes_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^messages: the"):
        to_content(parts(part))


@pytest.mark.parametrize(
    "content",
    [None, 5, [None], [{"type": "image_url"}], [{"type": "image_url", "image_url": "x"}], {"a": 1}],
    ids=repr,
)
def test_messages_that_nobody_has_checked_are_told_somehow(content: Any) -> None:
    for role in ("user", "assistant", "tool", "system", None):
        for made in to_messages({"role": role, "content": content}, "x"):
            assert made.id.startswith("x")


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ({"id": 3}, "said-3"),
        ({}, None),
        ({"metadata": {"ag-ui": {"message": "m"}}, "id": 3}, "m"),
        ({"metadata": {"ag-ui": {"message": 5}}, "id": 3}, "said-3"),
        ({"metadata": {"ag-ui": "m"}, "id": 3}, "said-3"),
    ],
    ids=["its number", "none", "the client's", "forged", "of somebody else"],
)
def test_what_a_message_of_a_user_is_named(message: dict[str, Any], name: str | None) -> None:
    assert id_of_said(message) == name

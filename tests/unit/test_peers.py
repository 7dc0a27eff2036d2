"""What `tests/peers` makes of its samples; the measurements themselves are `make bench-peers`."""

import json
from typing import Any

import pytest

from tests.benchmarks.events import Event
from tests.peers import report
from tests.peers.figures import counted, duration, median, timed, times
from tests.peers.model import kind_of, ordered
from tests.peers.stage import Record, at_once
from tests.peers.verdicts import PROMISES, verdicts

INTERRUPT: dict[str, Any] = {"acknowledged": 0.01, "cut off": 0.02, "next call": 0.03, "at once": 1}
CLEANUP: dict[str, Any] = {
    "acknowledged": 0.01,
    "acknowledged in cleanup": 0.01,
    "cut off": 0.02,
    "ran to its end": True,
    "calls before its end": 0,
    "its end to next call": 0.02,
}
BURST: dict[str, Any] = {
    "begun": 3,
    "paid to the end": 1,
    "at once": 1,
    "the last is answered": True,
    "kept": 3,
}
HISTORY: dict[str, Any] = {
    "in mid-stream": ["the first message", "half an answer", "a note", "the second message"],
    "in step 2 of 3": ["the first message", "an answer", "the second message"],
}
ROLLED_BACK = {key: ["the second message"] for key in HISTORY}
KILLED: dict[str, Any] = {"up again": 1.0, "answered": 1.5, "kept": 3, "begun again": False}

US, THEM = "interruptible", "LangGraph dev server"
GIVEN: dict[str, dict[str, list[dict[str, Any]]]] = {
    "interrupt": {
        US: [INTERRUPT] * 5,
        THEM: [{**INTERRUPT, "next call": 0.6}] * 5,
    },
    "cleanup": {
        US: [CLEANUP],
        THEM: [{**CLEANUP, "calls before its end": 2, "its end to next call": -1.0}],
    },
    "burst": {US: [BURST], THEM: [{**BURST, "begun": 1, "kept": 1}, {**BURST, "kept": 2}]},
    "history": {
        US: [HISTORY],
        f"{US}, rollback": [ROLLED_BACK],
        THEM: [{**HISTORY, "in mid-stream": ["the first message", "the second message"]}],
    },
    "queue": {side: [{"acknowledged": 0.01, "end to next call": 0.02}] for side in (US, THEM)},
    "long": {US: [INTERRUPT], THEM: [{**INTERRUPT, "next call": 1.5}]},
    "killed": {US: [KILLED], THEM: [{**KILLED, "answered": None, "kept": 1}, KILLED]},
    "killed later": {THEM: [{**KILLED, "answered": None, "kept": 1}]},
}


def test_a_time_never_stands_alone() -> None:
    samples = {US: [{"t": x} for x in (0.02, 0.02, 0.03)], THEM: [{"t": 0.5}, {"t": None}]}
    assert timed(samples, US, "t") == "20 ms · 1"
    assert timed(samples, THEM, "t") == "500 ms in 1 of 2 · 25"
    assert timed({US: [{"t": None}]}, US, "t") == "never"
    assert timed({US: [{"error": "no"}]}, US, "t") == ""
    many = {US: [{"t": 0.02}] * 5, THEM: [{"t": 0.04}] * 5}
    assert timed(many, THEM, "t") == "40 ms · 2 (2 to 2)"


def test_a_median_of_what_rarely_happened_is_none() -> None:
    assert median({US: [{"t": 1.0}, {"t": 3.0}, {"t": None}]}, US, "t") == 2.0
    assert median({US: [{"t": 1.0}, {"t": None}]}, US, "t") is None
    assert median({}, US, "t") is None


def test_counts_have_a_range_and_failures_are_left_out() -> None:
    samples = {US: [{"n": 1, "is": True}, {"n": 3, "is": False}, {"error": "gone"}]}
    assert counted(samples, US, "n") == "1 to 3"
    assert counted({US: [{"n": 2}]}, US, "n") == "2"
    assert (times(samples, US, "is"), times(samples, THEM, "is")) == ("1 of 2", "")


def test_what_happened_at_zero_seconds_has_happened() -> None:
    assert times({US: [{"t": 0.0}, {"t": None}]}, US, "t") == "1 of 2"


@pytest.mark.parametrize(
    ("seconds", "written"), [(1.234, "1.23 s"), (0.5, "500 ms"), (0.0042, "4.2 ms")]
)
def test_a_duration_is_short(seconds: float, written: str) -> None:
    assert duration(seconds) == written


def test_calls_at_once_are_counted_over_time() -> None:
    events = [
        Event(1.0, "started", "a"),
        Event(2.0, "started", "b"),
        Event(2.5, "started", "other"),
        Event(3.0, "cut off", "a"),
        Event(4.0, "started", "c"),
        Event(5.0, "finished", "b"),
        Event(6.0, "finished", "c"),
    ]
    assert at_once(events, {"a", "b", "c"}) == 2
    assert at_once(events[::-1], {"a", "c"}) == 1


def test_a_hang_up_that_is_seen_late_makes_no_two_calls() -> None:
    events = [Event(1.0, "started", "a"), Event(2.0, "started", "b"), Event(2.004, "cut off", "a")]
    assert at_once(events, {"a", "b"}) == 1


def test_a_message_is_told_by_its_kind() -> None:
    kinds = [
        kind_of({"role": "user", "content": json.dumps({"tag": "m1", "seconds": 1})}),
        kind_of({"role": "assistant", "content": "tok tok end."}),
        kind_of({"role": "assistant", "content": [{"type": "text", "text": "tok tok end."}]}),
        kind_of({"role": "assistant", "content": "tok tok "}),
        kind_of({"role": "user", "content": "The user has interrupted."}),
        kind_of({"role": "assistant", "content": None, "tool_calls": [{}]}),
        kind_of({"role": "tool", "content": "seen"}),
        kind_of({"type": "function_call", "name": "look"}),
        kind_of({"type": "function_call_output", "output": "seen"}),
    ]
    assert kinds == [
        *("m1", "an answer", "an answer", "half an answer", "a note"),
        *("a call of a tool", "a tool's result") * 2,
    ]


def test_a_model_knows_which_step_it_is_asked_for() -> None:
    said = [{"role": "user", "content": json.dumps({"tag": tag})} for tag in ("m1", "m2")]
    answer = {"role": "assistant", "content": "tok end."}
    assert ordered([said[0], answer, said[1], answer, answer]) == ({"tag": "m2"}, 2)
    assert ordered([said[0]]) == ({"tag": "m1"}, 0)


def test_a_record_tells_what_was_before_from_what_came_after() -> None:
    record = Record()
    record.all = [Event(1.0, "started", "a"), Event(3.0, "started", "b")]
    assert (record.began_since("a", 2.0), record.began_since("b", 2.0)) == (False, True)
    assert (record.time("started", "b"), record.time("cut off", "b")) == (3.0, None)


def test_a_verdict_follows_from_the_samples() -> None:
    head, *rows = verdicts(GIVEN)
    assert head == ["", US, THEM]
    found = {name: cells for name, *cells in rows}
    assert list(found) == [name for name, _ in PROMISES]
    assert {ours for ours, _ in found.values()} == {"yes"}
    assert {name: theirs for name, (_, theirs) in found.items() if theirs != "yes"} == {
        "the next call begins at once": "no: 600 ms",
        "each message of a burst is in the history": "no",
        "the next call waits for it": "no",
        "half an answer is kept": "no",
        "the model is told of the interruption": "no",
        "a message can roll back the turn": "no",
        "also after 200 messages of 20 KB": "no: 1.50 s",
        "after SIGKILL, the message is answered": "in 1 of 2",
        "after SIGKILL, all messages are there": "in 1 of 2",
    }


def test_the_page_has_all_tables() -> None:
    about = {"name": US, "versions": {"x": "1.0"}, "installed": "2026-01-01", "setting": "none"}
    results = {"about": {"when": "now"}, "contenders": [about], "samples": GIVEN}
    page = report.markdown(results)
    assert page.startswith("- when: now\n")
    assert "| interruptible | x 1.0 | 2026-01-01 | none |" in page
    assert [line for line in page.splitlines() if line.startswith("### ")] == [
        f"### {title}" for title, _ in report.tables(GIVEN)
    ]
    assert "| LangGraph dev server | 10 ms · 1 (1 to 1) |" in page
    assert "before its end |" in page
    assert "| LangGraph dev server, after it has saved | 0 of 1 | 1 |" in page
    for _, table in report.tables(GIVEN):
        assert {len(row) for row in table} == {len(table[0])}


def test_the_page_keeps_what_is_around_the_marks(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").mkdir()
    page = tmp_path / "page.md"
    page.write_text("before\n\n{}\nold\n{}\n\nafter\n".format(*report.MARKS))
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "DOCS", tmp_path)
    report.write({"about": {"when": "now"}, "contenders": [], "samples": GIVEN})
    written = page.read_text()
    assert written.startswith(f"before\n\n{report.MARKS[0]}\n\n- when: now\n")
    assert written.endswith(f"\n\n{report.MARKS[1]}\n\nafter\n")
    stored = json.loads((tmp_path / "benchmarks" / "peers.json").read_text())
    assert stored["samples"] == GIVEN


def test_what_is_measured_again_takes_the_place_of_what_was(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").mkdir()
    old = {
        "about": {"when": "then"},
        "contenders": [1],
        "samples": {"queue": {}, "long": {"a": []}},
    }
    (tmp_path / "benchmarks" / "peers.json").write_text(json.dumps(old))
    monkeypatch.setattr(report, "DOCS", tmp_path)
    about = {"when": "now", "commit": "abc", "load before": "1.0"}
    assert report.again({"about": about, "contenders": [2], "samples": {"queue": {"b": []}}}) == {
        "about": {"when": "then", "queue, measured again": "now, commit abc, load before 1.0"},
        "contenders": [1],
        "samples": {"queue": {"b": []}, "long": {"a": []}},
    }


def test_what_is_stored_is_short() -> None:
    assert report.rounded({"a": [0.123456, None, 3, "x", True]}) == {
        "a": [0.1235, None, 3, "x", True]
    }

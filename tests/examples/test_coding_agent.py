"""The coding agent at work on a real server, with the scripted model."""

import asyncio
import re
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from examples.coding_agent import agent as agent_module
from examples.coding_agent.scripted import Reply
from examples.coding_agent.workspace import Workspace
from interruptible import Session

from .conftest import LIMITS, Play, Stage, mentioned, no_news, soon
from .scripts import assistant, on, results, sh, user, write
from .test_workspace import fill, tree

pytestmark = pytest.mark.anyio
LONG = "It goes on and on " * 2000
LIVE = ("text", "output", "model")
PUSH = "git push origin main"


def is_over(said: str) -> Any:
    return lambda request: request.status != "in flight" and said in request.said


async def names(stage: Stage, turn: int) -> list[str]:
    """The durable steps of a turn, as Restate's UI shows them."""
    record = (await stage.session.turns())["turns"]
    task = next(x["task_id"] for x in record if x["turn"] == turn)
    rows = await stage.restate.query(
        f'SELECT name, "index" FROM sys_journal WHERE id = \'{task}\' ORDER BY "index"'  # noqa: S608
    )
    return [row["name"] for row in rows if row.get("name")]


async def test_a_task_is_completed(play: Play) -> None:
    stage = await play()
    outcome = await stage.session.ask("Write a program that counts words.")
    assert outcome["status"] == "completed"
    said = [x["content"] for x in outcome["messages"] if x["role"] == "assistant"]
    assert "scripted stand-in" in said[0]
    assert "They fail" in said[4]
    assert said[-1].startswith("Done: wordcount.py counts words, and its tests pass.")
    first, second = (x for x in results(outcome["messages"]) if "Exit code" in x)
    assert first.startswith("[Exit code 1 ")
    assert "1 failed, 1 passed" in first
    assert second.startswith("[Exit code 0 ")
    assert "text.split()" in stage.read("wordcount.py")
    steps = [
        "checkpoint",
        "list files",
        "model 1",
        "list_files",
        "model 2",
        "write_file wordcount.py",
        "model 3",
        "write_file test_wordcount.py",
        "model 4",
        "run_command python -B -m pytest -q -p no:cacheprovider",
        "model 5",
        "edit_file wordcount.py",
        "model 6",
        "run_command python -B -m pytest -q -p no:cacheprovider",
        "model 7",
        "keep files",
    ]
    assert await names(stage, 1) == steps
    status, diff = await stage.call("get_diff")
    assert (status, diff["turn"]) == (200, 1)
    assert "+    return len(text.split())" in diff["diff"]


async def test_interrupted_while_the_model_speaks_the_request_is_cut_off_and_the_words_stay(
    play: Play,
) -> None:
    stage = await play(on(go=[write("a", "1"), Reply(LONG)]))
    await stage.session.send("go")
    await stage.model.until(lambda x: "on and on" in x.said)
    outcome = await stage.session.ask("no")
    assert outcome["status"] == "completed"
    request = await stage.model.until(is_over("on and on"))
    assert request.status == "cut off"
    assert len(request.said) < len(LONG) / 2
    history = await stage.session.history()
    assert [x["role"] for x in history[:4]] == ["user", "assistant", "tool", "assistant"]
    partial = history[3]["content"]
    assert partial
    assert request.said.startswith(partial)
    assert (await stage.session.attach(1))["status"] == "interrupted"
    told = stage.model.requests[-1].messages
    assert told[1:] == [*history[:4], told[5], user("no")]
    assert "interrupted you" in told[5]["content"]
    assert (
        "Work in progress of turn 1, which was interrupted. It changed:\n a | 1 +"
        in (told[0]["content"])
    )
    assert stage.read("a") == "1"


async def test_interrupted_while_a_command_runs_its_group_is_gone(play: Play) -> None:
    command = (
        "echo so far; trap '' TERM; (setsid sleep 986.1 &) ; sleep 986.1 & "
        "while :; do echo more >>log; sleep 0.01; done"
    )
    stage = await play(on(go=[write("kept", "x" * 5_000), sh(command)]))
    await stage.session.send("go")
    await stage.until_file("log")
    await soon(lambda: len(mentioned("986.1")) > 2)
    await stage.session.send("no")
    await stage.session.attach()
    assert mentioned("986.1") == []
    log = stage.read("log")
    await no_news()
    assert stage.read("log") == log
    assert stage.read("kept") == "x" * 5_000
    outcome = await stage.session.attach(1)
    assert results(outcome["messages"])[-1] == (
        "so far\n[Interrupted: this call was cut off here. It may have taken effect.]"
    )
    assert "not_begun" not in outcome
    (call,) = outcome["messages"][-2]["tool_calls"]
    assert outcome["cut_off"] == [call["id"]]
    ends = ["run_command echo", "keep files", "partial answer"]
    assert [x[:16].rstrip() for x in (await names(stage, 1))[-3:]] == ends


@pytest.mark.parametrize("at", range(4))
async def test_a_file_is_whole_or_absent(play: Play, at: int) -> None:
    content = "0123456789" * 2_000
    script = on(
        go=[Reply("", [("write_file", {"path": f"f{i}", "content": content}) for i in range(5)])]
    )
    stage = await play(script, pause=0)
    await stage.session.send("go")
    await stage.until_file(f"f{at}")
    await stage.session.cancel()
    await stage.session.attach()
    found = sorted(stage.workspace.files.iterdir())
    assert found
    assert {file.read_text() for file in found} == {content}
    assert list(stage.workspace.tmp.iterdir()) == []


async def test_steered_a_turn_takes_it_between_two_steps(play: Play) -> None:
    stage = await play(on(go=[sh("while [ ! -e on ]; do sleep 0.01; done; echo first")]))
    await stage.session.send("go")
    await stage.model.until(lambda x: x.status == "completed")
    receipt = await stage.session.send("use unittest instead", policy="steer")
    assert receipt["status"] == "steered"
    (stage.workspace.files / "on").touch()
    outcome = await stage.session.attach(1)
    assert outcome["status"] == "completed"
    assert [x["role"] for x in outcome["messages"]] == ["assistant", "tool", "user", "assistant"]
    assert outcome["messages"][2] == user("use unittest instead")
    assert stage.model.requests[-1].messages[1:] == [user("go"), *outcome["messages"][:3]]


async def test_the_programmer_heeds_what_it_is_steered_to(play: Play) -> None:
    stage = await play()
    await stage.session.send("Write a program that counts words.")
    await stage.until_file("test_wordcount.py")
    await stage.session.send("use unittest instead, and count lines", policy="steer")
    outcome = await stage.session.attach(1)
    assert outcome["status"] == "completed"
    assert outcome["messages"][-1]["content"].endswith("They say: OK")
    assert "import unittest" in stage.read("test_wordcount.py")
    assert "count_lines" in stage.read("wordcount.py")


async def test_steered_in_the_last_answer_the_turn_goes_on(play: Play) -> None:
    stage = await play(on(go=[Reply("one two three " * 40)], more=[Reply("More.")]))
    await stage.session.send("go")
    await stage.model.until(lambda x: "three" in x.said)
    await stage.session.send("more", policy="steer")
    outcome = await stage.session.attach(1)
    assert outcome["messages"][1:] == [user("more"), assistant("More.")]


async def test_queued_a_message_waits(play: Play) -> None:
    stage = await play(on(go=[write("a", "1"), sh("sleep 0.3")], next=[write("b", "2")]))
    await stage.session.send("go")
    receipt = await stage.session.send("next", policy="queue")
    assert receipt["turn"] == 2
    assert (await stage.session.attach(2))["status"] == "completed"
    assert (await stage.session.attach(1))["status"] == "completed"
    asked = [request.last for request in stage.model.requests]
    assert asked.index("next") > asked.index("[Wrote a, 1 lines.]")
    assert (stage.read("a"), stage.read("b")) == ("1", "2")


async def test_rolled_back_the_tree_is_that_of_the_checkpoint_byte_for_byte(play: Play) -> None:
    havoc_command = (
        "rm -rf .git sub empty build a.py; mkdir a.py; echo x >a.py/x; chmod 0 private;"
        "echo x >new; ln -s / out2; touch started; sleep 60"
    )
    stage = await play(on(go=[], bad=[sh(havoc_command)], good=[]), ask_first=())
    await stage.session.ask("go")
    fill(stage.workspace.files)
    before = tree(stage.workspace.files)
    await stage.session.send("bad")
    await stage.until_file("started")
    assert tree(stage.workspace.files) != before
    outcome = await stage.session.ask("good", policy="rollback")
    assert outcome["status"] == "completed"
    assert tree(stage.workspace.files) == before
    assert stage.model.requests[-1].messages[1:] == [user("go"), assistant("Done."), user("good")]
    assert "Work in progress" not in stage.model.requests[-1].messages[0]["content"]
    assert "restore files" in await names(stage, 2)


@pytest.mark.parametrize("how", ["rewind", "reset"])
async def test_taken_back_while_at_work_the_files_are_as_before(play: Play, how: str) -> None:
    stage = await play(on(go=[write("a", "1")], bad=[write("b", "2"), Reply(LONG)]))
    await stage.session.ask("go")
    await stage.session.send("bad")
    await stage.model.until(lambda x: "on and on" in x.said)
    await (stage.session.rewind(2) if how == "rewind" else stage.session.reset())
    await stage.session.ask("what now")
    assert (stage.workspace.files / "a").exists() == (how == "rewind")  # a reset takes all
    assert not (stage.workspace.files / "b").exists()


async def test_regenerated_while_at_work_it_begins_with_the_files_of_its_checkpoint(
    play: Play,
) -> None:
    stage = await play(on(go=[sh("[ -e b ] && echo again; touch b"), Reply("on and on " * 100)]))
    await stage.session.send("go")
    await stage.model.until(lambda x: "on and on" in x.said)
    receipt = await stage.session.regenerate()
    outcome = await stage.session.attach(receipt["turn"])
    assert outcome["status"] == "completed"
    assert "again" not in results(outcome["messages"])[0]


async def test_steered_now_the_answer_is_cut_off_and_the_turn_goes_on(play: Play) -> None:
    stage = await play(on(go=[write("a", "1"), Reply(LONG)], more=[Reply("More, then.")]))
    await stage.session.send("go")
    await stage.model.until(lambda x: "on and on" in x.said)
    receipt = await stage.session.send("more", policy="steer", now=True)
    assert receipt["status"] == "steered"
    outcome = await stage.session.attach(1)
    assert outcome["status"] == "completed"
    assert (await stage.model.until(is_over("on and on"))).status == "cut off"
    cut, steered, answer = outcome["messages"][-3:]
    assert cut["content"].startswith("It goes on and on")
    assert [steered["content"], answer["content"]] == ["more", "More, then."]
    assert stage.read("a") == "1"


async def test_stopped_after_its_step_what_it_did_is_kept_and_goes_on(play: Play) -> None:
    wait = "touch there; while [ ! -e go ]; do sleep 0.05; done; echo once >>log"
    stage = await play(on(go=[sh(wait), Reply("All done.")]))
    await stage.session.send("go")
    await stage.until_file("there")
    assert await stage.session.cancel(after_step=True) == [1]
    (stage.workspace.files / "go").touch()
    outcome = await stage.session.attach(1)
    assert outcome["status"] == "interrupted"
    assert results(outcome["messages"])[0].startswith("[Exit code 0 ")
    receipt = await stage.session.resume()
    outcome = await stage.session.attach(receipt["turn"])
    assert (outcome["status"], outcome["messages"]) == ("completed", [assistant("All done.")])
    assert stage.read("log") == "once\n"


async def test_stopped_the_files_stay(play: Play) -> None:
    stage = await play(on(go=[write("a", "1"), Reply(LONG)]))
    await stage.session.send("go")
    await stage.model.until(lambda x: "on and on" in x.said)
    assert await stage.session.cancel(reason="enough") == [1]
    outcome = await stage.session.attach(1)
    assert outcome["status"] == "interrupted"
    assert outcome["partial"] == 1
    assert (await stage.session.status())["status"] == "idle"
    assert (await stage.model.until(is_over("on and on"))).status == "cut off"
    assert stage.read("a") == "1"


async def test_regenerated_a_turn_begins_with_the_files_of_its_checkpoint(play: Play) -> None:
    stage = await play(on(go=[write("a", "1")], more=[sh("echo more >>a; cat a")]))
    await stage.session.ask("go")
    await stage.session.ask("more")
    receipt = await stage.session.regenerate()
    outcome = await stage.session.attach(receipt["turn"])
    assert results(outcome["messages"])[0].endswith("\n1more")
    assert stage.read("a") == "1more\n"
    await stage.session.rewind(1)
    await stage.session.ask("what now")
    assert not (stage.workspace.files / "a").exists()


async def test_a_fork_goes_on_with_the_files_of_its_last_turn(play: Play) -> None:
    stage = await play(
        on(go=[write("a", "1")], more=[write("b", "2")], rest=[sh("ls"), sh("touch c")])
    )
    for text in ("go", "more"):
        await stage.session.ask(text)
    await stage.session.fork("early", 1)
    outcome = await Session(stage.restate.client, stage.agent, "early").ask("rest")
    assert outcome["turn"] == 2
    assert results(outcome["messages"])[0].splitlines()[1:] == ["a"]
    files = Workspace(stage.agent.root, "early").files
    assert sorted(x.name for x in files.iterdir()) == ["a", "c"]
    assert sorted(x.name for x in stage.workspace.files.iterdir()) == ["a", "b"]


async def test_started_over_the_workspace_is_empty(play: Play) -> None:
    stage = await play(on(go=[write("a", "1")], more=[write("b", "2")]))
    await stage.session.ask("go")
    await stage.session.ask("more")
    await stage.session.reset()
    await stage.session.ask("what now")
    assert list(stage.workspace.files.iterdir()) == []
    assert "(none)" in stage.model.requests[-1].messages[0]["content"]


# -- a person's yes ------------------------------------------------------------------------------


async def until_asked(stage: Stage) -> dict[str, Any]:
    for _ in range(500):
        waiting = (await stage.session.status())["waiting_for"]
        if waiting:
            return {**waiting[0]}
        await asyncio.sleep(0.02)
    raise AssertionError("nobody asked")


@pytest.mark.parametrize("yes", [True, False])
async def test_a_command_waits_for_a_yes(play: Play, yes: bool) -> None:
    stage = await play(on(go=[sh("mkdir d; rm -r d; echo removed >log")]))
    await stage.session.send("go")
    asked = await until_asked(stage)
    value = {
        "call": asked["value"]["call"],
        "command": "mkdir d; rm -r d; echo removed >log",
    }
    assert asked == {"id": 1, "turn": 1, "title": "Run this command?", "value": value}
    await no_news()
    assert not (stage.workspace.files / "log").exists()
    answer = {"approval": asked["id"], "approved": yes, "reason": "not today"}
    assert await stage.call("answer", answer) == (200, {"answered": asked["id"]})
    outcome = await stage.session.attach(1)
    (result,) = results(outcome["messages"])
    assert (stage.workspace.files / "log").exists() is yes
    assert (
        result.startswith("[Exit code 0 ")
        if yes
        else result == ("[Not run: the user said no: not today.]")
    )
    assert (await stage.call("answer", answer))[0] == 410
    assert (await stage.session.status())["waiting_for"] == []


async def test_a_command_that_nobody_can_read_is_not_asked_about(play: Play) -> None:
    stage = await play(on(go=[sh("rm -r d # " + "x" * 70_000)]))
    (result,) = results((await stage.session.ask("go"))["messages"])
    assert result == "[Not run: it needs the user's yes, and is too long for anybody to read.]"


async def test_a_yes_that_comes_twice_or_to_nothing_is_refused(play: Play) -> None:
    stage = await play(on(go=[sh("rm -r d; sleep 60")]))
    await stage.session.send("go")
    yes = {"approval": (await until_asked(stage))["id"], "approved": True}
    assert (await stage.call("answer", {**yes, "approved": 1}))[0] == 400
    assert (await stage.call("answer", {**yes, "approval": 2}))[0] == 404
    answers = await asyncio.gather(*(stage.call("answer", yes) for _ in range(3)))
    assert sorted(status for status, _ in answers) == [200, 410, 410]
    await stage.session.cancel()


async def test_interrupted_while_it_waits_a_yes_comes_too_late(play: Play) -> None:
    stage = await play(on(go=[sh("mkdir d; rm -r d")]))
    await stage.session.send("go")
    asked = await until_asked(stage)
    assert (await stage.session.ask("no"))["status"] == "completed"
    assert (await stage.session.attach(1))["status"] == "interrupted"
    assert (await stage.session.status())["waiting_for"] == []
    answer = {"approval": asked["id"], "approved": True}
    assert (await stage.call("answer", answer))[0] == 410
    assert not (stage.workspace.files / "d").exists()


# -- the stream ----------------------------------------------------------------------------------


async def followed(stage: Stage, turn: int) -> list[Any]:
    """The events up to the end of a turn; of text that comes one piece after the other, one."""
    events: list[Any] = []
    async with aclosing(stage.session.follow()) as stream:
        async for event in stream:
            told = {key: x for key, x in event.items() if key not in ("id", "turn")}
            if event["type"] in ("text", "output") and events[-1]["type"] == event["type"]:
                events[-1]["text"] += told["text"]
            else:
                events.append(told)
            if event["turn"] == turn and "status" in event:
                return events
    raise AssertionError


async def test_whoever_follows_sees_all_that_it_does(play: Play) -> None:
    stage = await play(on(go=[sh("echo hello", "I say hello.")]))
    following = asyncio.ensure_future(followed(stage, 1))
    outcome = await stage.session.ask("go")
    asked, result, answer = ({"type": "message", "message": x} for x in outcome["messages"])
    (call,) = outcome["messages"][0]["tool_calls"]
    tool = {"type": "tool", "call": call["id"], "name": "run_command"}
    events = await following
    # That a call begins and ends is said beside what the task tells, and the last may be too late.
    states = [x for x in events if x["type"] == "tool"]
    assert states == [{**tool, "state": x} for x in ("begins", "ends")[: len(states)]]
    assert [x for x in events if x["type"] not in ("gap", "pending", "tool", *LIVE)] == [
        {"type": "turn", "state": "begins"},
        asked,
        result,
        answer,
        {"type": "turn", "state": "ends", "status": "completed"},
    ]


async def test_whoever_follows_sees_what_is_live(play: Play) -> None:
    wait = sh("echo hello; while [ ! -e go ]; do sleep 0.05; done", "I say hello.")
    stage = await play(on(go=[wait, Reply(LONG)]))
    following = asyncio.ensure_future(followed(stage, 1))
    await stage.session.send("go")
    seen: list[Any] = []
    async with aclosing(stage.session.follow()) as stream:
        async for event in stream:
            seen.append(event)
            if event["type"] == "output":
                (stage.workspace.files / "go").touch()
            if event["type"] == "text" and "on and on" in said_last(seen):
                break
    await stage.session.cancel()
    events = await following
    assert "".join(x["text"] for x in seen if x["type"] == "output") == "hello\n"
    begins = [{"type": "model", "state": "begins"}] * 2
    assert [x for x in events if x["type"] == "model"][:2] == begins
    partial, end = events[-2:]
    assert end == {"type": "turn", "state": "ends", "status": "interrupted"}
    assert partial["message"]["content"].startswith("It goes on and on")


def said_last(events: list[Any]) -> str:
    """What has been said since the last message."""
    said = ""
    for event in events:
        said = "" if event["type"] == "message" else said + event.get("text", "")
    return said


async def test_a_call_that_waits_and_a_model_that_fails_are_told_of(play: Play) -> None:
    def script(_: Any) -> Reply:
        fails = len(stage.model.requests) < 3
        return Reply("so busy", status=503) if fails else sh(PUSH)

    stage = await play(script)
    following = asyncio.ensure_future(followed(stage, 1))
    await stage.session.send("go")
    asked = await until_asked(stage)
    await stage.session.cancel()
    events = await following
    fails = [x["text"] for x in events if x.get("state") == "fails"]
    assert len(fails) == 2
    assert all("so busy" in text for text in fails)
    assert [x for x in events if x["type"] == "tool"] == [
        {"type": "tool", "call": asked["value"]["call"], "name": "run_command", "state": "waits"}
    ]


async def test_of_what_a_command_had_printed_the_beginning_and_the_end_stay(play: Play) -> None:
    command = "seq 9999; touch there; while :; do sleep 0.05; done"
    stage = await play(on(go=[sh(command)]))
    await stage.session.send("go")
    await stage.until_file("there")
    async with aclosing(stage.session.follow()) as stream:
        async for event in stream:
            if "\n9999\n" in event.get("text", ""):
                break
    await stage.session.cancel()
    (result,) = results((await stage.session.attach(1))["messages"])
    head, between, tail = re.split(r"\n(\[… \d+ characters left out …\])\n", result)
    assert head.startswith("1\n2\n3\n")
    assert between
    assert tail.endswith(
        "\n9999\n[Interrupted: this call was cut off here. It may have taken effect.]"
    )
    assert len(result) < LIMITS.result + 200


# -- a hostile model -----------------------------------------------------------------------------

HOSTILE = {
    "outside": (
        Reply("", [("write_file", {"path": "../../../owned", "content": "x"})]),
        "is outside of the workspace",
    ),
    "unknown": (Reply("", [("launch_missiles", {})]), "There is no tool 'launch_missiles'"),
    "malformed": (Reply("", [("write_file", '{"path": "a", "content": ')]), "not valid JSON"),
    "wrong": (Reply("", [("run_command", [1, 2])]), "not a JSON object"),
    "nameless": (Reply("", [("\n\0" * 40, "{}")]), "There is no tool"),
    "endless": (sh("yes"), "it printed more than 100000 characters"),
    "forks": (sh("b(){ b|b& }; b; sleep 60"), "more than 24 processes"),
    "stubborn": (sh("trap '' TERM INT HUP; while :; do :; done"), "it took longer than 1 s"),
    "kills": (sh("kill -9 $PPID; kill -9 -1; echo alive"), "alive"),
    "binary": (sh("head -c 3000 /dev/urandom; printf '\\0\\33[2J<script>'"), "<script>"),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_call_gets_a_result_that_says_what_happened(play: Play, kind: str) -> None:
    reply, says = HOSTILE[kind]
    seconds = 1.0 if kind == "stubborn" else LIMITS.seconds  # what is slow to begin has its time
    stage = await play(on(go=[reply]), limits=replace(LIMITS, seconds=seconds))
    before = tree(stage.workspace.path.parent.parent) if stage.workspace.path.exists() else {}
    outcome = await stage.session.ask("go")
    assert outcome["status"] == "completed"
    assert says in results(outcome["messages"])[0]
    assert outcome["messages"][-1] == assistant("Done.")
    assert not (stage.workspace.path.parent.parent / "owned").exists()
    assert before == {}
    assert (await stage.session.ask("still there?"))["status"] == "completed"


async def test_a_thousand_calls_are_capped_and_each_has_a_result(play: Play) -> None:
    calls = [("run_command", {"command": "echo x >>log"})] * 5 + [("launch", {})] * 995
    stage = await play(on(go=[Reply("", calls)]), pause=0)
    outcome = await stage.session.ask("go")
    assert outcome["status"] == "completed"
    said = results(outcome["messages"])
    assert len(said) == 1000
    cap = agent_module.MOST_TOOL_CALLS
    assert [x.startswith("[Not run") for x in said].index(True) == cap
    assert outcome["messages"][-1]["content"] == f"[I stopped after {cap} tool calls in one turn.]"
    assert stage.read("log") == "x\n" * 5


async def test_a_model_that_never_answers_is_asked_so_often_and_no_more(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "MOST_MODEL_CALLS", 3)
    stage = await play(lambda _: Reply("", [("list_files", {})]))
    outcome = await stage.session.ask("go")
    assert outcome["messages"][-1]["content"] == (
        "[I stopped after asking the model 3 times in one turn.]"
    )
    assert len(stage.model.requests) == 3


async def test_a_request_that_the_model_refuses_fails_the_turn_and_the_files_stay(
    play: Play,
) -> None:
    stage = await play(on(go=[write("a", "1"), Reply("too long for me", status=400)]))
    outcome = await stage.session.ask("go")
    assert outcome["status"] == "failed"
    assert "The model refused the request" in outcome["error"]
    assert "too long for me" in outcome["error"]
    assert stage.read("a") == "1"
    assert (await names(stage, 1))[-1] == "keep files"
    assert (await stage.session.ask("no"))["status"] == "completed"


@pytest.mark.parametrize("status", [409, 429, 500, 503])
async def test_a_model_that_fails_for_a_while_is_asked_again(play: Play, status: int) -> None:
    stage = await play(
        lambda _: Reply("x", status=status if len(stage.model.requests) < 3 else 200)
    )
    outcome = await stage.session.ask("go")
    assert (outcome["status"], outcome["messages"]) == ("completed", [assistant("x")])
    assert len(stage.model.requests) == 3


async def test_an_endless_answer_is_cut_off(play: Play) -> None:
    stage = await play(lambda _: Reply("word " * 100, endless=True), pause=0)
    stage.agent.model = stage.agent.model.__class__("m", stage.model.base_url, "none", most=5000)
    outcome = await stage.session.ask("go")
    assert outcome["status"] == "completed"
    assert outcome["messages"][0]["content"].endswith("[Cut off: this answer was too long.]")
    assert (await stage.model.until(is_over("word"))).status == "cut off"

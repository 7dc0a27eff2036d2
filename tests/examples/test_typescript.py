"""The example in TypeScript: its types are the agent's, and its work is interrupted with a turn."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interruptible.testing import Restate
from tests.server import npm
from tests.server.conftest import REPLAY

from .conftest import no_news
from .typescript import HERE, Stage, staged

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples/typescript"
MADE = shutil.ignore_patterns("node_modules", "dist", "__pycache__")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, built as its README says."""
    copy = tmp_path_factory.mktemp("typescript") / "example"
    npm.installed(Path(shutil.copytree(EXAMPLE, copy, ignore=MADE)))
    npm.run(copy, "run", "build")
    return copy


@pytest.fixture
async def stage(restate_env: Restate, folder: Path, tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(restate_env, folder, tmp_path) as stage:
        yield stage


async def test_generating_the_types_again_gives_the_same(stage: Stage, folder: Path) -> None:
    again = folder / "again.ts"
    command = ["node", "generate.mjs", again, "DraftAgent", stage.restate.admin_url]
    await asyncio.to_thread(subprocess.run, command, cwd=folder, check=True)
    remedy = "Run `npm run generate`, as the README of examples/typescript says."
    assert again.read_text() == (EXAMPLE / "src/agent.gen.ts").read_text(), remedy


async def test_each_wrong_use_is_a_type_error(folder: Path) -> None:
    wrong = Path(shutil.copy(HERE / "wrong_use.ts", folder / "src"))
    command = [folder / "node_modules/.bin/tsc", "--noEmit", "--pretty", "false"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, text=True)
    meant = re.findall(r"^.* // (TS\d+): (.*)$|^.*$", wrong.read_text(), re.MULTILINE)
    wrong.unlink()
    errors = re.findall(
        r"^src/wrong_use\.ts\((\d+),\d+\): error (TS\d+): (.*)$", done.stdout, re.MULTILINE
    )
    lines = {number: pair for number, pair in enumerate(meant, 1) if any(pair)}
    assert {int(number): code for number, code, _ in errors} == {n: x[0] for n, x in lines.items()}
    assert all(lines[int(number)][1] in text for number, _, text in errors), done.stdout
    assert len(errors) == 10


async def test_a_message_gets_a_receipt_another_is_steered_and_attach_has_the_outcome(
    stage: Stage,
) -> None:
    receipt = await stage.talk("say", "A haiku.")
    assert (receipt["turn"], receipt["message"], receipt["status"]) == (1, 1, "running")
    await stage.at_work(1)
    receipt = await stage.talk("steer", "About rain.")
    assert (receipt["turn"], receipt["message"], receipt["status"]) == (1, 2, "steered")
    status = await stage.talk("status")
    assert [x["content"] for x in status["pending"]] == ["About rain."]
    stage.model.answer("Ah, spring", "Ah, rain")
    outcome = await stage.talk("attach", str(receipt["message"]))
    said = [
        {"role": "assistant", "content": "Ah, spring"},
        {"role": "user", "content": "About rain."},
        {"role": "assistant", "content": "Ah, rain"},
    ]
    assert outcome == {"turn": 1, "status": "completed", "messages": said}
    assert await stage.talk("history") == [{"role": "user", "content": "A haiku."}, *said]
    assert stage.model.asked == [["A haiku."], ["A haiku.", "Ah, spring", "About rain."]]


async def test_what_was_interrupted_has_cleaned_up_before_the_next_turn_does_anything(
    stage: Stage,
) -> None:
    await stage.talk("say", "An epic.")
    await stage.at_work(1)
    [first] = stage.model.standing()
    async with stage.held():
        receipt = await stage.talk("say", "No, a haiku.")
        assert receipt["interrupted"] == [1]
        stage.model.let_go()
        await stage.clears()
        assert await stage.live() == [(1, False), (2, True)]
        assert len(await stage.writing()) == 1
    await stage.at_work(2)
    assert first not in stage.model.desks[1]
    stage.model.answer("Ah, rain")
    outcome = await stage.talk("attach")
    assert (outcome["turn"], outcome["status"]) == (2, "completed")
    assert (await stage.talk("attach", "1"))["status"] == "interrupted"
    ends = [x["completion_result"] for x in await stage.writing()]
    assert ends == ["failure", "success"]


async def test_a_cancel_cuts_off_the_request_and_clears_the_desk(stage: Stage) -> None:
    await stage.talk("say", "An epic.")
    await stage.at_work(1)
    assert await stage.talk("cancel") == {"cancelled": [1]}
    stage.model.let_go()
    assert await stage.talk("attach") == {"turn": 1, "status": "interrupted", "messages": []}
    if not REPLAY:
        await stage.model.log.until("cut off", 1)
    assert stage.model.standing() == set()
    [writing] = await stage.writing()
    assert writing["completion_failure"].startswith("[409]")


async def test_a_cancel_does_not_break_off_a_cleanup_that_runs(stage: Stage) -> None:
    await stage.talk("say", "An epic.")
    await stage.at_work(1)
    async with stage.held():
        stage.model.answer("Sing, o muse")
        await stage.clears()
        assert await stage.talk("cancel") == {"cancelled": [1]}
        await no_news()
        assert await stage.live() == [(1, False)]
    assert (await stage.talk("attach"))["status"] == "interrupted"
    assert stage.model.standing() == set()


async def test_a_refusal_is_an_error_with_its_status(stage: Stage) -> None:
    assert (await stage.talk("say", " "))["code"] == 400
    assert (await stage.talk("attach", "7"))["code"] == 404
    await stage.talk("say", "A haiku.")
    await stage.at_work(1)
    assert (await stage.talk("reject", "An epic."))["code"] == 423
    status, answer = await stage.call("order", {"session": stage.session.key, "text": ""})
    assert (status, answer["message"].partition(":")[0]) == (400, "content")
    stage.model.answer("Ah, rain")
    assert (await stage.talk("attach"))["status"] == "completed"


async def test_a_handler_in_typescript_sends_attaches_steers_and_stops(stage: Stage) -> None:
    order = {"session": stage.session.key, "text": "A haiku."}
    ordering = asyncio.ensure_future(stage.call("order", order))
    await stage.at_work(1)
    _, receipt = await stage.call("add", {**order, "text": "About rain."})
    assert (receipt["turn"], receipt["status"]) == (1, "steered")
    stage.model.answer("Ah, spring", "Ah, rain")
    status, outcome = await ordering
    assert (status, outcome["messages"][-1]["content"]) == (200, "Ah, rain")

    ordering = asyncio.ensure_future(stage.call("order", order))
    await stage.at_work(3)
    assert await stage.call("stop", stage.session.key) == (200, {"cancelled": [2]})
    stage.model.let_go()
    _, outcome = await ordering
    assert outcome == {"turn": 2, "status": "interrupted", "messages": []}
    reasons = [turn.get("reason") for turn in (await stage.session.turns())["turns"]]
    assert reasons == [None, "cancelled: the editor stopped it"]


async def test_a_handler_that_is_cancelled_takes_the_turn_along(stage: Stage) -> None:
    order = {"session": stage.session.key, "text": "An epic."}
    ordering = asyncio.ensure_future(stage.call("order", order))
    await stage.at_work(1)
    [task] = [x["task_id"] for x in (await stage.session.status())["live"]]
    [row] = await stage.restate.invocations("target = 'Editor/order' AND status != 'completed'")
    await stage.restate.cancel(row["id"])
    assert (await ordering)[0] == 409
    stage.model.let_go()
    outcome = await stage.session.attach()
    assert outcome["status"] == "interrupted"
    assert (await stage.restate.invocations(f"id = '{task}'"))[0]["completion_result"] == "failure"


def test_on_ci_a_missing_npm_is_no_reason_to_skip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no Node"):
        npm.installed(tmp_path)
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no Node"):
        npm.installed(tmp_path)

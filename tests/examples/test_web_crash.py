"""The page while the worker and the server are killed with SIGKILL in mid-answer, and come back."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from examples.coding_agent.scripted import Reply, ScriptedModel
from interruptible.testing import restate_server
from tests.server.process import free_port

from .scripts import on, sh
from .test_crash import Worker
from .web_browser import House, chromium, house, skip
from .worker import NAME

pytestmark = [pytest.mark.anyio, skip]

FIRST = "First I look around."
LONG = "I count slowly: " + " ".join(str(number) for number in range(400))

# What is shown is at any moment a beginning of what is said, and nothing of it is there twice.
GUARD = """([said, words]) => {
  window.wrong = [];
  const log = document.getElementById("log");
  const check = () => {
    for (const each of log.querySelectorAll(".text .prose"))
      if (!said.some((whole) => whole.startsWith(each.textContent.trim())))
        wrong.push(`not said: ${each.textContent}`);
    for (const word of words)
      if (log.textContent.split(word).length > 2) wrong.push(`twice: ${word}`);
  };
  new MutationObserver(check).observe(log, { subtree: true, childList: true, characterData: true });
}"""


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    script = on(count=[sh("echo looked", FIRST), Reply(LONG)], more=[Reply("More, then.")])
    async with restate_server() as restate, ScriptedModel(script, pause=0.05) as model:
        worker = Worker(restate, tmp_path, free_port(), model)
        async with worker.running(), chromium() as browser, house(browser, worker, NAME) as home:
            await restate.register(worker.url)
            yield home


async def guarded(home: House) -> Any:
    desk = await home.desk()
    said = [FIRST, LONG, "More, then.", "Done."]
    await desk.page.evaluate(GUARD, [said, [FIRST, "I count slowly", "echo looked"]])
    return desk


async def converges(home: House, desk: Any) -> None:
    """What stands there in the end is what the record has, and is what a new tab shows."""
    assert await desk.page.evaluate("wrong") == []
    shown = await desk.conversation()
    assert LONG in shown
    turns = (await home.stage.session.turns())["turns"]
    assert [turn["status"] for turn in turns] == ["completed"] * len(turns)
    assert [message["content"] for message in turns[0]["messages"]][-1] == LONG
    desk.faults.clear()  # the browser notes each connection that is lost
    assert await (await home.tab(desk.page.context)).conversation() == shown


async def test_the_worker_is_killed_in_mid_answer_and_the_page_goes_on(home: House) -> None:
    desk, worker = await guarded(home), home.stage
    await desk.say("count")
    await desk.see_text("3 4 5 6", turn=1)
    await worker.kill()
    await desk.status("Connection lost")
    await desk.see_text("3 4 5 6", turn=1)
    await desk.say("more", "queues")
    await desk.see_text("You, on its way")
    await worker.start()
    await desk.fate(2, "waits")
    await desk.status("Turn 1 asks the model")
    await desk.see_text("3 4 5 6", turn=1)
    worker.model.pause = 0.001
    await desk.fate(1, "completed")
    await desk.fate(2, "completed")
    await desk.see_text("More, then.", turn=2)
    await converges(home, desk)


async def test_the_server_is_killed_in_mid_answer_and_the_page_goes_on(home: House) -> None:
    desk, worker = await guarded(home), home.stage
    await desk.say("count")
    await desk.see_text("3 4 5 6", turn=1)
    await worker.restate.restart(kill=True)
    await worker.model.until(lambda request: request.status == "cut off")
    await desk.say("more", "queues")
    await desk.fate(2, "waits")
    worker.model.pause = 0.001
    await desk.fate(1, "completed")
    await desk.fate(2, "completed")
    await converges(home, desk)

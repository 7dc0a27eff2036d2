"""The page, in a real browser; and its server, which answers to nobody but the page."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from examples.coding_agent.scripted import Reply
from tests.examples.conftest import Play, Stage
from tests.examples.scripts import on, sh, write
from tests.examples.web_browser import House, chromium, house, skip
from tests.server.conftest import eventually

pytestmark = pytest.mark.anyio

LONG = "I count slowly: " + " ".join(str(number) for number in range(400))
SLOW, FAST = 0.05, 0.001  # seconds for a word of it: it does not end in time, or at once
LOOKED_AT = 1.0  # seconds for a word, so that a busy browser sees what passes, too
HOSTILE = (
    "<script>document.title='broken'; window.broken = 1</script>"
    "<img src=x onerror='window.broken = 2'>"
    "</textarea></pre><a href='javascript:window.broken=3' id=evil>me</a> that is all"
)


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncIterator[Any]:
    async with chromium() as running:
        yield running


@pytest.fixture
async def at_home(play: Play, browser: Any) -> AsyncIterator[Any]:
    """A stage with a page and a browser."""
    async with AsyncExitStack() as stack:

        async def at_home(*arguments: Any, **options: Any) -> House:
            stage = await play(*arguments, **options)
            return await stack.enter_async_context(house(browser, stage))

        yield at_home


async def turns(stage: Stage) -> list[tuple[str, bool]]:
    page = await stage.session.turns()
    return [(turn["status"], turn.get("discarded", False)) for turn in page["turns"]]


async def over(stage: Stage, *fates: tuple[str, bool]) -> None:
    async def holds() -> bool:
        return await turns(stage) == [*fates]

    await eventually(holds)


KEPT, CUT = ("completed", False), ("interrupted", False)
GONE = ("completed", True)

# -- in the browser ------------------------------------------------------------------------------


@skip
async def test_a_task_is_shown_while_it_is_done_and_after(at_home: Any) -> None:
    home = await at_home(pause=LOOKED_AT)
    desk = await home.desk()
    assert await desk.page.get_by_text("What shall it program?").is_visible()
    await desk.say("Write a program that counts words.")
    await desk.status("Turn 1 (asks the model|runs)")
    await desk.see(desk.page.locator("#turn-1 .text[data-state=streams]"))
    home.stage.model.pause = 0.01
    await desk.fate(1, "completed")
    await desk.status("^Idle$")
    shown = await desk.conversation()
    assert "Done: wordcount.py counts words" in shown
    assert "test_wordcount.py" in shown
    tools = desk.page.locator("#turn-1 .tool")
    states = [await tools.nth(i).get_attribute("data-state") for i in range(await tools.count())]
    assert states == ["done", "done", "done", "failed", "done", "done"]
    await desk.see(desk.page.locator("#diff summary").filter(has_text="test_wordcount.py"))
    link = await desk.page.locator("#cards .link").get_attribute("href")
    task = (await home.stage.session.turns())["turns"][0].get("task_id")
    assert link == f"{home.stage.restate.admin_url}/ui/invocations/{task}"


@skip
async def test_a_message_typed_while_it_streams_interrupts_it(at_home: Any) -> None:
    home = await at_home(on(count=[Reply(LONG)], stop=[Reply("As you wish.")]), pause=SLOW)
    desk = await home.desk()
    await desk.say("count")
    await desk.see_text("3 4 5 6", turn=1)
    await desk.say("stop")
    await desk.fate(1, "interrupted")
    await desk.see_text("cut off here", turn=1)
    await desk.fate(2, "completed")
    await desk.see_text("As you wish.", turn=2)
    assert home.stage.model.requests[0].status == "cut off"
    assert await turns(home.stage) == [CUT, KEPT]


@skip
async def test_a_command_that_is_cut_off_and_one_that_was_not_begun_are_shown_as_such(
    at_home: Any,
) -> None:
    command = "echo so far; while :; do sleep 0.05; done"
    calls = [("run_command", {"command": x}) for x in (command, "echo never")]
    home = await at_home(on(work=[Reply("", calls)], stop=[Reply("As you wish.")]))
    desk = await home.desk()
    await desk.say("work")
    await desk.see(desk.page.locator("#turn-1 .tool pre").filter(has_text="so far"))
    await desk.say("stop")
    await desk.fate(1, "interrupted")
    tools = desk.page.locator("#turn-1 .tool")
    await desk.see(desk.page.locator("#turn-1 .tool[data-state='not begun']"))
    states = [await tools.nth(i).get_attribute("data-state") for i in range(await tools.count())]
    assert states == ["cut off", "not begun"]
    assert await tools.nth(0).locator("pre").all_inner_texts() == ["so far"]


@skip
async def test_a_steered_message_is_part_of_the_turn(at_home: Any) -> None:
    script = on(
        work=[sh("while [ ! -e go ]; do sleep 0.05; done", "I wait.")], more=[Reply("More, then.")]
    )
    home = await at_home(script)
    desk = await home.desk()
    await desk.say("work")
    await desk.see(desk.page.locator("#turn-1 .tool[data-state=runs]"))
    await desk.say("more", "steers")
    await desk.see_text("You, while it worked", turn=1)
    await desk.status("1 message not read yet")
    (home.stage.workspace.files / "go").touch()
    await desk.fate(1, "completed")
    await desk.see_text("More, then.", turn=1)
    assert await turns(home.stage) == [KEPT]


@skip
async def test_a_queued_message_waits_and_can_be_cancelled(at_home: Any) -> None:
    script = on(work=[sh("while [ ! -e go ]; do sleep 0.05; done")])
    home = await at_home(script)
    desk = await home.desk()
    await desk.say("work")
    await desk.see(desk.page.locator("#turn-1 .tool[data-state=runs]"))
    await desk.say("next", "queues")
    await desk.fate(2, "waits")
    await desk.say("after", "queues")
    await desk.fate(3, "waits")
    await desk.page.get_by_role("button", name="Cancel turn 2").click()
    await desk.fate(2, "stop(ping|ped)")
    (home.stage.workspace.files / "go").touch()
    await desk.fate(3, "completed")
    await desk.fate(2, "stopped")
    assert await turns(home.stage) == [KEPT, CUT, KEPT]


@skip
async def test_escape_stops_the_turn_and_so_does_the_button(at_home: Any) -> None:
    home = await at_home(on(count=[Reply(LONG)]), pause=SLOW)
    desk = await home.desk()
    stop = desk.page.get_by_role("button", name="Stop", exact=True)
    assert await stop.is_disabled()
    await desk.say("count")
    await desk.see_text("3 4 5 6", turn=1)
    await desk.page.keyboard.press("Escape")
    await desk.fate(1, "stops after this step")
    await desk.page.keyboard.press("Escape")
    await desk.fate(1, "stopped")
    await desk.say("count")
    await desk.see_text("3 4 5 6", turn=2)
    await stop.click()
    await desk.status("Turn 2 stops after this step")
    await desk.page.get_by_role("button", name="Stop now").click()
    await desk.fate(2, "stopped")
    await desk.status("^Idle$")
    assert await turns(home.stage) == [CUT, CUT]


@skip
async def test_who_presses_stop_twice_at_once_wants_it_cut(at_home: Any) -> None:
    home = await at_home(on(count=[Reply(LONG)]), pause=SLOW)
    desk = await home.desk()
    await desk.say("count")
    await desk.see_text("3 4 5 6", turn=1)
    await desk.page.locator("#stop").dblclick()
    await desk.fate(1, "stopped")
    assert await turns(home.stage) == [CUT]


@skip
async def test_what_is_said_after_a_stop_is_not_stopped_by_it(at_home: Any) -> None:
    home = await at_home(on(count=[Reply(LONG)], well=[Reply("All is well.")]), pause=SLOW)
    desk = await home.desk()
    asked: list[str] = []
    may_pass = asyncio.Event()

    async def hold(route: Any) -> None:
        asked.append(route.request.url.rpartition("/")[2])
        await may_pass.wait()
        await route.continue_()

    await desk.say("count")
    await desk.see_text("3 4 5 6", turn=1)
    await desk.page.route(re.compile("/(cancel|message)$"), hold)
    await desk.page.keyboard.press("Escape")
    await desk.say("well")
    await desk.see_text("well")
    assert asked == ["cancel"]
    may_pass.set()
    await desk.fate(2, "completed")
    assert asked == ["cancel", "message"]


@skip
async def test_a_turn_that_is_stopped_ends_its_step_and_can_be_continued(at_home: Any) -> None:
    work = [sh("while [ ! -e go ]; do sleep 0.05; done; echo gone on"), Reply("All done.")]
    home = await at_home(on(work=work))
    desk = await home.desk()
    await desk.say("work")
    await desk.see(desk.page.locator("#turn-1 .tool[data-state=runs]"))
    await desk.page.keyboard.press("Escape")
    await desk.fate(1, "stops after this step")
    (home.stage.workspace.files / "go").touch()
    await desk.fate(1, "stopped")
    await desk.see(desk.page.locator("#turn-1 .tool[data-state=done]"))
    assert len(home.stage.model.requests) == 1
    await desk.page.get_by_role("button", name="Continue turn 1").click()
    await desk.fate(2, "completed")
    await desk.see_text("All done.", turn=2)
    assert await desk.page.locator("#turn-2 .tool").count() == 0


@skip
async def test_what_was_cut_off_goes_on_without_a_word(at_home: Any) -> None:
    work = [write("a", "1"), sh("while [ ! -e go ]; do sleep 0.05; done"), Reply("All done.")]
    home = await at_home(on(work=work, other=[Reply("Other.")]))
    desk = await home.desk()
    await desk.say("other")
    await desk.fate(1, "completed")
    go_on = desk.page.get_by_role("button", name=re.compile("^Continue"))
    assert await go_on.count() == 0
    await desk.say("work")
    await desk.see(desk.page.locator("#turn-2 .tool[data-state=runs]"))
    await desk.page.locator("#stop").dblclick()
    await desk.fate(2, "stopped")
    (home.stage.workspace.files / "go").touch()
    await go_on.click()
    await desk.fate(3, "completed")
    await desk.see_text("Goes on where turn 2 stopped.", turn=3)
    await desk.see_text("All done.", turn=3)
    assert await go_on.count() == 0
    assert await desk.page.get_by_role("button", name="Edit the message of turn 3").count() == 0
    assert await turns(home.stage) == [KEPT, CUT, KEPT]


WORK = [sh("while [ ! -e go ]; do sleep 0.05; done", "I begin.")]


@skip
async def test_what_is_pending_is_shown_changed_taken_back_and_promoted(at_home: Any) -> None:
    home = await at_home(on(work=WORK, two=[Reply("Two.")], three=[Reply("Three.")]))
    desk = await home.desk()
    page, pending = desk.page, desk.page.get_by_role("region", name="Not read yet")

    async def press(name: str) -> None:
        await pending.get_by_role("button", name=name, exact=True).click()

    await desk.say("work")
    await desk.see(page.locator("#turn-1 .tool[data-state=runs]"))
    assert await pending.count() == 0
    for number, text in enumerate(["one", "other", "three"], 2):
        await desk.say(text, "queues")
        await desk.see(pending.get_by_text(f"waits, as turn {number}"))
    await press("Edit: message 3")
    editor = pending.get_by_label("What the message is to say")
    assert await editor.input_value() == "other"
    await editor.fill("two")
    await editor.press("Enter")
    await desk.see(pending.get_by_text("two"))
    await desk.see_text("two", turn=3)
    await press("Take back: message 2")
    await desk.fate(2, "taken back")
    await press("Run next: message 4")
    await desk.fate(1, "interrupted")
    await desk.fate(4, "completed")
    await pending.wait_for(state="hidden")
    record = (await home.stage.session.turns())["turns"]
    said = [[x["content"] for x in turn["input"]] for turn in record]
    assert said == [["work"], [], ["three"], ["two"]]
    assert [x["content"] for x in record[1]["withdrawn"]] == ["one"]
    assert await turns(home.stage) == [CUT, ("interrupted", True), KEPT, KEPT]


@skip
async def test_a_message_that_waits_is_said_now(at_home: Any) -> None:
    home = await at_home(on(work=WORK, more=[Reply("More, then.")]))
    desk = await home.desk()
    await desk.say("work")
    await desk.see(desk.page.locator("#turn-1 .tool[data-state=runs]"))
    await desk.say("more", "queues")
    await desk.page.get_by_role("button", name="Say now: message 2").click()
    await desk.see(desk.page.locator("#pending").get_by_text("for turn 1, at its next step"))
    await desk.fate(2, "said in another turn")
    (home.stage.workspace.files / "go").touch()
    await desk.fate(1, "completed")
    await desk.see_text("More, then.", turn=1)
    assert await desk.page.locator("#pending").is_hidden()


@skip
async def test_an_answer_is_cut_short_by_what_is_said_now(at_home: Any) -> None:
    home = await at_home(on(count=[Reply(LONG)], more=[Reply("More, then.")]), pause=SLOW)
    desk = await home.desk()
    await desk.say("count")
    await desk.see_text("3 4 5 6", turn=1)
    await desk.say("more", "queues")
    await desk.page.get_by_role("button", name="Say now: message 2").click()
    await desk.fate(1, "completed")
    await desk.see_text("cut off here", turn=1)
    await desk.see_text("More, then.", turn=1)
    assert home.stage.model.requests[0].status == "cut off"


@skip
async def test_who_is_too_late_is_told_and_keeps_what_was_written(at_home: Any) -> None:
    home = await at_home(on(work=WORK, more=[Reply("More, then.")]))
    desk = await home.desk()
    await desk.say("work")
    await desk.see(desk.page.locator("#turn-1 .tool[data-state=runs]"))
    await desk.say("more", "queues")
    await desk.page.get_by_role("button", name="Edit: message 2").click()
    editor = desk.page.get_by_label("What the message is to say")
    await editor.fill("something else")
    (home.stage.workspace.files / "go").touch()
    await desk.fate(2, "completed")
    assert await editor.is_visible()  # it was read, and what is being written stays
    await editor.press("Enter")
    await desk.see(desk.page.locator("#note").get_by_text("Too late. It was just read."))
    assert await desk.page.locator("#box").input_value() == "something else"
    assert await desk.page.locator("#pending").is_hidden()
    assert await desk.page.locator("#trouble").is_hidden()
    desk.faults.clear()  # the browser notes each request that is refused


@skip
async def test_the_keyboard_alone_changes_what_is_pending(at_home: Any) -> None:
    home = await at_home(on(work=WORK))
    desk = await home.desk()
    page = desk.page
    label = "document.activeElement.ariaLabel"
    await desk.say("work")
    await desk.see(page.locator("#turn-1 .tool[data-state=runs]"))
    for number, text in enumerate(["one", "two"], 2):
        await desk.say(text, "queues")
        await desk.see(page.locator(f"#message-{number}"))
    await page.keyboard.press("Shift+Tab")
    assert await page.evaluate(label) == "Take back: message 3"
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    assert await page.evaluate(label) == "What the message is to say"
    await page.keyboard.press("Control+A")
    await page.keyboard.type("three")
    await page.keyboard.press("Enter")
    await desk.see(page.locator("#message-3").get_by_text("three"))
    assert await page.evaluate(label) == "Edit: message 3"
    await page.keyboard.press("Enter")
    await page.keyboard.press("Escape")  # leaves it, and stops nothing
    assert await page.evaluate(label) == "Edit: message 3"
    assert [x["cancelled"] for x in (await home.stage.session.status())["live"]] == [None] * 3
    await page.get_by_role("button", name="Take back: message 2").focus()
    await page.keyboard.press("Enter")
    await page.locator("#message-2").wait_for(state="detached")
    assert await page.evaluate(label) == "Say now: message 3"
    await page.get_by_role("button", name="Take back: message 3").focus()
    await page.keyboard.press("Enter")
    await page.locator("#message-3").wait_for(state="detached")
    assert await page.evaluate("document.activeElement.id") == "box"


@skip
async def test_an_earlier_message_is_edited_and_sent_again(at_home: Any) -> None:
    script = on(
        one=[write("one.txt", "1\n")], two=[write("two.txt", "2\n")], three=[Reply("Three.")]
    )
    home = await at_home(script)
    desk = await home.desk()
    for turn, text in enumerate(["one", "two"], 1):
        await desk.say(text)
        await desk.fate(turn, "completed")
    await desk.page.get_by_role("button", name="Edit the message of turn 1").click()
    editor = desk.page.get_by_label("Message of turn 1", exact=True)
    assert await editor.input_value() == "one"
    await editor.fill("three")
    await editor.press("Enter")
    await desk.fate(1, "rolled back")
    await desk.fate(2, "rolled back")
    await desk.fate(3, "completed")
    await desk.see_text("Three.", turn=3)
    assert await turns(home.stage) == [GONE, GONE, KEPT]
    assert [*home.stage.workspace.files.iterdir()] == []
    assert await desk.page.locator("#turn-1 .turn-body").is_hidden()
    await desk.page.get_by_role("button", name="Show turn 1").click()
    assert "one" in await desk.page.locator("#turn-1 .turn-body").inner_text()


@skip
async def test_a_turn_is_regenerated(at_home: Any) -> None:
    home = await at_home(on(hello=[Reply("Hello to you.")]))
    desk = await home.desk()
    await desk.say("hello")
    await desk.fate(1, "completed")
    await desk.page.get_by_role("button", name="Regenerate turn 1").click()
    await desk.fate(1, "rolled back")
    await desk.fate(2, "completed")
    assert await turns(home.stage) == [GONE, KEPT]


@skip
async def test_a_reload_in_the_middle_shows_the_same_and_goes_on(at_home: Any) -> None:
    script = on(
        work=[sh("echo first; while [ ! -e go ]; do sleep 0.05; done", "I begin."), Reply(LONG)]
    )
    home = await at_home(script, pause=SLOW)
    desk = await home.desk()
    await desk.say("work")
    await desk.see(desk.page.locator("#turn-1 .tool pre").filter(has_text="first"))
    await desk.page.reload()
    await desk.see(desk.page.locator("#turn-1 .tool pre").filter(has_text="first"))
    await desk.see_text("I begin.", turn=1)
    (home.stage.workspace.files / "go").touch()
    await desk.see_text("3 4 5 6", turn=1)
    await desk.page.reload()
    await desk.see_text("3 4 5 6", turn=1)
    home.stage.model.pause = FAST
    await desk.fate(1, "completed")
    shown = await desk.conversation()
    assert LONG in shown
    assert shown.count("I begin.") == 1


@skip
async def test_two_tabs_show_the_same_conversation(at_home: Any) -> None:
    script = on(work=[sh("while [ ! -e go ]; do sleep 0.05; done", "I begin.")])
    home = await at_home(script)
    one = await home.desk()
    two = await home.tab(one.page.context)
    await one.say("work")
    await two.see_text("I begin.", turn=1)
    await one.say("next", "queues")
    await two.fate(2, "waits")
    await two.say("also", "steers")
    await one.see_text("also", turn=1)
    (home.stage.workspace.files / "go").touch()
    for desk in (one, two):
        await desk.fate(1, "completed")
        await desk.fate(2, "completed")
    assert await one.conversation() == await two.conversation()
    await two.page.get_by_role("button", name="Regenerate turn 2").click()
    await one.fate(2, "rolled back")
    await one.fate(3, "completed")


@skip
async def test_a_lost_connection_resumes_without_a_gap(at_home: Any) -> None:
    home = await at_home(on(count=[Reply(LONG)]), pause=SLOW)
    desk = await home.desk()
    await desk.say("count")
    await desk.see_text("3 4 5 6", turn=1)
    home.server.gateway.hang_up()
    await desk.status("Connection lost")
    await desk.status("Turn 1 asks the model")
    last = (await desk.page.locator("#turn-1 .prose").inner_text()).strip()
    assert LONG.startswith(last)
    await desk.see_text(LONG[len(last) - 20 : len(last) + 20], turn=1)
    live = await desk.page.locator("#turn-1 .prose").inner_text()
    assert LONG.startswith(live.strip())
    home.stage.model.pause = FAST
    await desk.fate(1, "completed")
    assert LONG in await desk.conversation()
    desk.faults.clear()  # the browser notes each connection that is lost


@skip
async def test_a_long_conversation_is_read_page_by_page(at_home: Any) -> None:
    home = await at_home(lambda messages: Reply(f"To {messages[-1]['content']}: yes."), pause=0)
    for number in range(1, 66):
        await home.stage.session.ask(f"question {number}")
    desk = await home.desk()

    async def asked() -> list[str]:
        return [str(x) for x in await desk.page.locator("#log .user .text").all_inner_texts()]

    def questions(first: int, last: int = 65) -> list[str]:
        return [f"question {number}" for number in range(first, last + 1)]

    await desk.see_text("To question 65: yes.", turn=65)
    earlier = desk.page.get_by_role("button", name="Show earlier turns")
    for first, scrolled in ((46, 0), (26, 150), (6, 0)):
        assert await asked() == questions(first)
        top = desk.page.locator(f"#turn-{first}")
        await desk.page.locator("#conversation").evaluate("(it, y) => it.scrollTo(0, y)", scrolled)
        before = (await top.bounding_box())["y"]
        await earlier.evaluate("(button) => button.click()")  # a mouse would scroll to it
        await desk.see(desk.page.locator(f"#turn-{max(1, first - 20)}"))
        after = (await top.bounding_box())["y"]
        assert after == pytest.approx(before, abs=1)  # who reads there goes on reading there
    assert await asked() == questions(1)
    assert await earlier.is_hidden()
    assert await desk.page.locator("#cards li").count() == 65
    await desk.say("question 66")
    await desk.fate(66, "completed")
    await desk.see_text("To question 66: yes.", turn=66)
    await desk.page.get_by_text("You, on its way").wait_for(state="detached")
    assert await asked() == questions(1, 66)
    await desk.page.get_by_role("button", name="Turn 30", exact=False).first.click()
    assert await desk.page.evaluate("document.activeElement.id") == "turn-30"
    await desk.page.reload()
    await desk.see_text("To question 66: yes.", turn=66)
    assert await asked() == questions(47, 66)


@skip
async def test_a_command_waits_for_a_yes(at_home: Any) -> None:
    script = on(
        push=[
            sh("git push origin main", "I push."),
            sh("rm -r folder", "I remove."),
            Reply("Done."),
        ]
    )
    home = await at_home(script)
    desk = await home.desk()
    await desk.say("push")
    await desk.status("waits for your yes")
    await desk.see(desk.page.locator(".approval").filter(has_text="git push origin main"))
    await desk.fate(1, "asks you")
    await desk.page.reload()
    await desk.page.get_by_role("button", name="No", exact=True).click()
    await desk.see(desk.page.locator(".approval").filter(has_text="rm -r folder"))
    await desk.page.get_by_role("button", name="Yes, run it").click()
    await desk.fate(1, "completed")
    await desk.see_text("the user said no", turn=1)
    assert await desk.page.locator(".approval").count() == 0
    for tool, state in enumerate(["not run", "failed"]):  # there is no folder
        await desk.see(desk.page.locator(f'#turn-1 .tool[data-state="{state}"]').nth(0))
        assert state in await desk.page.locator("#turn-1 .tool .state").nth(tool).inner_text()


@skip
async def test_a_hostile_answer_runs_nothing(at_home: Any) -> None:
    script = on(
        attack=[
            sh(f"cat <<'E'\n{HOSTILE}\nE", HOSTILE),
            write(f"{HOSTILE[:30]}.txt", HOSTILE),
            Reply(HOSTILE),
        ]
    )
    home = await at_home(script)
    desk = await home.desk()
    await desk.say("attack")
    await desk.fate(1, "completed")
    await desk.say(HOSTILE)
    await desk.fate(2, "completed")
    await desk.page.reload()
    await desk.see_text(HOSTILE, turn=1)
    await desk.see_text(HOSTILE, turn=2)
    await desk.page.get_by_label("since the start of").select_option("1")
    await desk.see(desk.page.locator("#diff summary"))
    assert await desk.page.evaluate("window.broken") is None
    assert await desk.page.locator("#evil, img, #log script").count() == 0
    assert "broken" not in await desk.page.title()
    tries = "document.body.innerHTML = '<b>x</b>'"
    assert (
        await desk.page.evaluate(
            f"(() => {{ try {{ {tries}; return 'set' }} catch (e) {{ return e.name }} }})()"
        )
        == "TypeError"
    )
    desk.faults.clear()  # the last is one


@skip
async def test_the_keyboard_alone_is_enough(at_home: Any) -> None:
    home = await at_home(on(count=[Reply(LONG)], hello=[Reply("Hello.")]), pause=SLOW)
    desk = await home.desk()
    page = desk.page
    assert await page.evaluate("document.activeElement.id") == "box"
    await page.keyboard.type("count")
    await page.keyboard.press("Tab")
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("ArrowRight")
    assert await page.evaluate("document.activeElement.value") == "queue"
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.id") == "send"
    await page.keyboard.press("Enter")
    await desk.see_text("3 4 5 6", turn=1)
    await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")
    await desk.fate(1, "stopped")
    unnamed = await page.evaluate(
        "[...document.querySelectorAll('button, a, input, textarea, select')]"
        ".filter((x) => x.checkVisibility() && !(x.ariaLabel || x.innerText || x.labels?.length))"
        ".map((x) => x.outerHTML)"
    )
    assert unnamed == []


@skip
async def test_the_focus_stays_near_when_the_button_that_had_it_goes_away(at_home: Any) -> None:
    script = on(
        one=[Reply("One.")],
        two=[Reply("Two.")],
        work=[sh("while [ ! -e go ]; do sleep 0.05; done")],
    )
    home = await at_home(script)
    desk = await home.desk()
    page = desk.page

    async def press(name: str) -> None:
        await page.get_by_role("button", name=name, exact=True).focus()
        await page.keyboard.press("Enter")

    async def focused() -> Any:
        return await page.evaluate("document.activeElement.id")

    await desk.say("one")
    await desk.fate(1, "completed")
    await press("Edit the message of turn 1")
    assert await page.evaluate("document.activeElement.ariaLabel") == "Message of turn 1"
    await page.keyboard.press("Escape")
    assert await page.evaluate("document.activeElement.ariaLabel") == "Edit the message of turn 1"
    await page.keyboard.press("Enter")
    await page.keyboard.press("Control+A")
    await page.keyboard.type("two")
    await page.keyboard.press("Enter")
    await desk.fate(2, "completed")
    assert await focused() == "turn-1"
    await press("Regenerate turn 2")
    await desk.fate(3, "completed")
    assert await focused() == "turn-2"
    await desk.say("work")
    await desk.see(page.locator("#turn-4 .tool[data-state=runs]"))
    await desk.say("next", "queues")
    await desk.fate(5, "waits")
    await press("Cancel turn 5")
    await desk.fate(5, "stop(ping|ped)")
    assert await focused() == "turn-5"
    await press("Stop")
    assert await focused() == "stop"
    await press("Stop now")
    await desk.fate(4, "stopped")
    assert await focused() == "box"


@skip
async def test_the_end_of_each_turn_is_read_out_once(at_home: Any) -> None:
    home = await at_home(on(hello=[Reply("Hello.")], count=[Reply(LONG)]), pause=SLOW)
    desk = await home.desk()
    await desk.say("count")
    await desk.see_text("3 4 5 6", turn=1)
    await desk.say("hello")
    await desk.fate(2, "completed")
    await desk.page.get_by_role("button", name="Regenerate turn 2").click()
    await desk.fate(3, "completed")
    said = desk.page.locator("[aria-live=polite] p")
    assert await said.all_text_contents() == [
        "Turn 1 interrupted. ",
        "Turn 2 completed. Hello.",
        "Turn 3 completed. Hello.",
    ]
    await desk.page.reload()
    await desk.fate(3, "completed")
    assert await said.count() == 0  # what is old is for who goes there


@skip
@pytest.mark.parametrize("colors", ["light", "dark"])
@pytest.mark.parametrize("width", ["wide", "narrow"])
async def test_screenshots_are_taken_and_show_what_everybody_can_use(
    at_home: Any, colors: str, width: str
) -> None:
    size = {"width": 1440, "height": 900} if width == "wide" else {"width": 390, "height": 844}
    home = await at_home(pause=0.02)
    desk = await home.desk(viewport=size, color_scheme=colors, device_scale_factor=1)
    name = f"{width}-{colors}"
    await desk.shot_for_all(f"{name}-empty")
    await desk.say("Write a program that counts words.")
    await desk.see(desk.page.locator("#turn-1 .tool").nth(3))
    home.stage.model.pause = LOOKED_AT
    await desk.say("Count the lines, too.")
    await desk.see(desk.page.locator("#turn-2 .text[data-state=streams]"))
    await desk.fate(1, "interrupted")
    await desk.shot_for_all(f"{name}-streams")
    home.stage.model.pause = 0.02
    await desk.fate(2, "completed")
    await desk.say("Now push it.")
    await desk.see(desk.page.locator(".approval"))
    await desk.shot_for_all(f"{name}-asks")
    await desk.say("And write a page that explains how the words are counted.", "queues")
    await desk.say("Then count the characters, too.", "queues")
    await desk.say("Use the branch that is there.", "steers")
    await desk.see(desk.page.locator("#message-6"))
    await desk.shot_for_all(f"{name}-pending")
    await desk.page.get_by_role("button", name="Edit: message 4").click()
    await desk.shot_for_all(f"{name}-pending-edit")
    await desk.page.get_by_role("button", name="Leave as it is").click()
    for number in (4, 5, 6):
        await desk.page.get_by_role("button", name=f"Take back: message {number}").click()
        await desk.page.locator(f"#message-{number}").wait_for(state="detached")
    await desk.page.get_by_role("button", name="No", exact=True).click()
    await desk.fate(3, "completed")
    await desk.page.get_by_role("button", name="Regenerate turn 3").click()
    await desk.see(desk.page.locator(".approval"))
    await desk.page.locator("#stop").dblclick()
    await desk.fate(6, "stopped")
    if width == "narrow":
        await desk.shot_for_all(f"{name}-stopped")
        await desk.page.get_by_role("button", name="Changes").click()
    await desk.page.get_by_label("since the start of").select_option("1")
    await desk.see(desk.page.locator("#diff summary").filter(has_text="wordcount.py"))
    await desk.shot_for_all(f"{name}-changes")
    if width == "narrow":
        await desk.page.get_by_role("button", name="Changes").click()
    await desk.page.get_by_role("button", name="Edit the message of turn 2").click()
    await desk.shot_for_all(f"{name}-edit")
    await desk.page.get_by_role("button", name="Show turn 3").click()
    await desk.shot_for_all(f"{name}-rolled-back")
    overflow = "document.documentElement.scrollWidth > innerWidth"
    assert not await desk.page.evaluate(overflow)


# -- without a browser ---------------------------------------------------------------------------


@pytest.fixture
async def server(play: Play) -> AsyncIterator[tuple[Stage, httpx.AsyncClient]]:
    stage = await play(on(hello=[Reply("Hello.")]))
    async with house(None, stage) as home, httpx.AsyncClient(base_url=home.url) as http:
        yield stage, http


MESSAGE = {"content": "hello", "policy": "queue"}


def way(stage: Stage, what: str = "") -> str:
    """Where the gateway has a handler of the session, or its events."""
    return f"/agents/{stage.agent.name}/{stage.key}/{what}"


async def test_another_host_or_origin_is_refused(server: Any) -> None:
    stage, http = server
    origin = str(http.base_url).rstrip("/")
    for headers, status in [
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ({"Host": "localhost.evil.example", "Origin": origin}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:9070"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
        ({"Origin": origin, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": origin, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": origin, "Content-Type": "text/plain"}, 415),
    ]:
        for name, body in [("message", MESSAGE), ("get_turns", {})]:
            answer = await http.post(way(stage, name), json=body, headers=headers)
            assert answer.status_code == status, (headers, name)
    for headers, status in [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": f"localhost:{http.base_url.port}"}, 200),
        ({}, 200),
    ]:
        async with http.stream("GET", way(stage, "events"), headers=headers) as answer:
            assert answer.status_code == status, headers
    for path in ("/", "/c/ada", "/static/app.js"):
        assert (await http.get(path, headers={"Host": "evil.example"})).status_code == 421
    answer = await http.post(way(stage, "get_turns"), json={}, headers={"Origin": origin})
    assert answer.json()["turns"] == []


async def test_nothing_else_of_restate_or_of_the_disk_is_reached(server: Any) -> None:
    stage, http = server
    headers = {"Origin": str(http.base_url).rstrip("/")}
    for path in (
        way(stage, "reset"),
        way(stage, "fork"),
        way(stage, "load"),
        way(stage, "settle"),
        way(stage, "../../settle"),
        way(stage, "%2e%2e/%2e%2e/settle"),
        f"/agents/{stage.agent.name}Task/ada/run_task",
        f"/agents/{stage.agent.name}Stream/ada/pull",
        "/agents/RememberAgent/ada/message",
        "/static/../page.py",
        "/static/%2e%2e/page.py",
        "/static/page.py",
        "/etc/passwd",
    ):
        assert (await http.get(path)).status_code in (404, 405), path
        assert (await http.post(path, json={}, headers=headers)).status_code in (404, 405), path
    for path in ("/c/ada", "/static/app.js", way(stage, "reset")):
        page = await http.get(path)
        assert "unsafe" not in page.headers["content-security-policy"]
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["cross-origin-resource-policy"] == "same-origin"


async def test_bad_requests_are_told_what_is_wrong(server: Any) -> None:
    stage, http = server
    headers = {"Origin": str(http.base_url).rstrip("/"), "Content-Type": "application/json"}
    for name, body, status in [
        ("message", {**MESSAGE, "content": " "}, 400),
        ("message", {**MESSAGE, "content": 3}, 400),
        ("message", {**MESSAGE, "content": "x" * 1_060_000}, 413),
        ("message", {**MESSAGE, "content": "\ud800"}, 400),
        ("message", {**MESSAGE, "policy": "push in"}, 400),
        ("message", {**MESSAGE, "key": "../"}, 400),
        ("message", {"policy": "queue"}, 400),
        ("message", [], 400),
        ("edit", {"turn": 1, "content": ""}, 400),
        ("edit", {"turn": 7, "content": "x"}, 404),
        ("cancel", {"turn": 9}, 404),
        ("cancel", {"turn": "x"}, 400),
        ("answer", {"approval": 1, "approved": True}, 404),
        ("resume", {"turn": 1}, 404),
        ("withdraw", {"message": 1}, 404),
        ("replace", {"message": 1, "content": "x"}, 404),
        ("replace", {"message": 1, "content": " "}, 400),
        ("promote", {"message": 1, "policy": "steer", "now": True}, 404),
        ("get_turns", {"before": "x"}, 400),
        ("get_turns", {"nothing": 1}, 400),
    ]:
        answer = await http.post(way(stage, name), content=json.dumps(body), headers=headers)
        assert (answer.status_code, bool(answer.json()["message"])) == (status, True), (
            name,
            answer.text,
        )


Post = Callable[..., Awaitable[httpx.Response]]


def poster(stage: Stage, http: httpx.AsyncClient) -> Post:
    """Calls handlers as the page does."""
    origin = str(http.base_url).rstrip("/")

    async def post(name: str, body: Any, key: str | None = None) -> httpx.Response:
        headers = {"Origin": origin, **({"Idempotency-Key": key} if key else {})}
        return await http.post(way(stage, name), json=body, headers=headers)

    return post


async def test_what_a_person_has_not_seen_is_not_taken_back(server: Any) -> None:
    post = poster(*server)
    for key in ("k1", "k2"):
        await post("message", MESSAGE, key)
    seen = {"turn": 1, "if_last": 1}
    for name, body in [("regenerate", seen), ("edit", {**seen, "content": "hello"})]:
        answer = await post(name, body, "k3")
        assert (answer.status_code, "if_last" in answer.json()["message"]) == (412, True)
    record = (await post("get_turns", {})).json()
    assert [(x["turn"], x.get("discarded", False)) for x in record["turns"]] == [
        (1, False),
        (2, False),
    ]


async def test_one_key_is_one_message(server: Any) -> None:
    post = poster(*server)
    receipts = [(await post("message", MESSAGE, "k1")).json() for _ in range(2)]
    assert receipts[0] == receipts[1]
    await post("attach", {"turn": 1})
    edited = {"turn": 1, "content": "hello"}
    both = await asyncio.gather(*(post("edit", edited, "k2") for _ in range(2)))
    assert both[0].json() == both[1].json()
    await post("attach", {"turn": 2})
    record = (await post("get_turns", {})).json()
    assert [(x["turn"], x.get("discarded", False)) for x in record["turns"]] == [
        (1, True),
        (2, False),
    ]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_one_command_starts_all_and_a_signal_ends_it(signum: int) -> None:
    command = [sys.executable, "-u", "-m", "examples.coding_agent.web", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        told = b""
        while b"Restate UI" not in told:
            told += await asyncio.wait_for(process.stdout.readline(), 60)
        found = re.search(rb"open +(http://\S+)/", told)
        assert found
        url = found[1].decode()
        async with httpx.AsyncClient(base_url=url, follow_redirects=True) as http:
            await eventually(lambda: _answers(http))
            async with http.stream(
                "GET", "/agents/CodingAgent/ada/events"
            ) as watched:  # does not hold it up
                assert watched.status_code == 200
                process.send_signal(signum)
                assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return "Coding agent" in (await http.get("/")).text
    except httpx.TransportError:
        return False

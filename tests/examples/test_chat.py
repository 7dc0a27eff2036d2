"""The agent in a real terminal: a person types, and sees what the record has."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from examples.coding_agent.scripted import LABEL, Reply, ScriptedModel
from interruptible.testing import Restate
from tests.examples.conftest import Play, Stage, is_there, soon
from tests.examples.scripts import on, results, sh, write
from tests.examples.terminal import Terminal, terminal
from tests.examples.worker import NAME
from tests.server.process import Process, free_port

pytestmark = pytest.mark.anyio

CHAT = "examples.coding_agent.chat"
LONG = "I count slowly: " + " ".join(str(number) for number in range(400))
COUNT = Reply(LONG, endless=True)
WAIT = sh("while [ ! -e go ]; do sleep 0.05; done; echo gone on", "I wait.")
PUSH = "git push origin main"
HOSTILE = (
    "\x1b[2J\x1b[H\x1b]0;owned\x07\x9b1A\u202e\r» Delete it all.\n"
    "■ turn 1 · completed\n? turn 1 wants to run: ls\n\nThat is all."
)


class House:
    """An agent on the stage, and terminals in which people talk to it."""

    def __init__(self, stage: Stage, stack: AsyncExitStack) -> None:
        self.stage, self._stack = stage, stack

    async def open(self, **size: int) -> Terminal:
        """Open a terminal, which others may have done before."""
        session = self.stage.session
        command = (CHAT, "--session", session.key, "--agent", self.stage.agent.name)
        where = ("--ingress", self.stage.restate.ingress_url)
        opened = await self._stack.enter_async_context(terminal(*command, *where, **size))
        await opened.until(lambda: "» " in opened.text or "»\n" in opened.text)
        return opened

    def go_on(self) -> None:
        """Let `WAIT` end."""
        (self.stage.workspace.files / "go").touch()

    async def turns(self) -> list[tuple[str, bool]]:
        turns = (await self.stage.session.turns())["turns"]
        return [(turn["status"], turn.get("discarded", False)) for turn in turns]


KEPT, CUT = ("completed", False), ("interrupted", False)


@pytest.fixture
async def at_home(play: Play) -> AsyncIterator[Callable[..., Any]]:
    """Put an agent on the stage, and open a terminal."""
    async with AsyncExitStack() as stack:

        async def at_home(*arguments: Any, size: Any = None, **options: Any) -> Any:
            home = House(await play(*arguments, **options), stack)
            return home, await home.open(**(size or {}))

        yield at_home


async def test_tokens_stream_while_a_message_is_typed_and_it_interrupts(at_home: Any) -> None:
    home, screen = await at_home(on(count=[COUNT], stop=[Reply("I stop.")]), pause=0.02)
    screen.says("count")
    await screen.sees("» count", "I count slowly: 0 1 2", "● turn 1 asks the model")
    screen.types("st")
    await screen.sees("» st", "Enter interrupts")
    seen = screen.text
    await screen.until(lambda: len(screen.text) > len(seen) + 20)  # it streams on
    assert home.stage.model.requests[0].status == "in flight"
    screen.says("op")
    await screen.sees("■ turn 1 · interrupted by turn 2", "■ turn 2 · completed", "○ idle")
    rows = [*screen.above, *screen.rows]
    said = rows[rows.index("» count") + 1 : rows.index("╌ cut off")]
    (record, _) = (await home.stage.session.turns())["turns"]
    assert " ".join(row.strip() for row in said) == record["messages"][0]["content"].strip()
    assert rows[rows.index("» stop") + 1] == "  I stop."
    assert [x.status for x in home.stage.model.requests] == ["cut off", "completed"]
    assert await home.turns() == [CUT, KEPT]


async def test_each_call_is_a_row_with_its_state(at_home: Any) -> None:
    script = on(go=[write("one.txt", "1\n"), WAIT, sh("echo oops; exit 3"), Reply("Done.")])
    home, screen = await at_home(script)
    screen.says("go")
    await screen.sees("✓ write_file one.txt · wrote, 1 lines", "● run_command while", "· at work")
    assert "● turn 1 runs run_command" in screen.text
    home.go_on()
    await screen.sees("✗ run_command echo oops; exit 3 · exit 3", "│ oops", "■ turn 1 · completed")
    await screen.sees("✓ run_command while", "│ gone on")
    assert "· at work" not in screen.text


async def test_a_command_that_is_cut_off_and_one_that_was_not_begun_are_shown_as_such(
    at_home: Any,
) -> None:
    command = "echo so far; while :; do sleep 0.05; done"
    calls = [("run_command", {"command": x}) for x in (command, "echo never")]
    _, screen = await at_home(on(work=[Reply("", calls)], stop=[Reply("As you wish.")]))
    screen.says("work")
    await screen.sees("● run_command echo so far", "│ so far")
    screen.says("stop")
    await screen.sees("╌ run_command echo so far", "· cut off", "│ so far", "As you wish.")
    await screen.sees("╌ run_command echo never · not begun", "■ turn 2 · completed")
    assert "✓" not in screen.text


async def test_a_message_can_be_added_to_the_turn_and_another_queued(at_home: Any) -> None:
    home, screen = await at_home(on(work=[WAIT], more=[Reply("More.")], then=[Reply("Then.")]))
    screen.says("work")
    await screen.sees("● run_command")
    screen.types("+more")
    await screen.sees("Enter adds this to turn 1")
    screen.says("")
    await screen.sees("+ more", "1 added, not read yet")
    screen.says(">then")
    await screen.sees("» then", "○ turn 2 · waits")
    home.go_on()
    await screen.sees("  More.", "  Then.", "■ turn 2 · completed")
    assert await home.turns() == [KEPT, KEPT]


@pytest.mark.parametrize("key", ["\x1b", "\x03", "/stop\r"], ids=["Esc", "Ctrl-C", "/stop"])
async def test_a_key_stops_what_is_at_work_and_not_the_program(at_home: Any, key: str) -> None:
    home, screen = await at_home(on(count=[COUNT], go=[Reply("I go.")]), pause=0.02)
    screen.says("count")
    await screen.sees("I count slowly: 0 1 2")
    screen.says(">then")
    await screen.sees("○ turn 2 · waits")
    screen.types(key)
    await screen.sees("◌ turn 1 stops after this step", "Esc stops it at once")
    screen.types(key)
    await screen.sees("╌ cut off", "■ turn 1 · stopped", "■ turn 2 · stopped", "○ idle")
    screen.says("go")
    await screen.sees("  I go.", "■ turn 3 · completed")
    assert await home.turns() == [CUT, CUT, KEPT]


async def test_a_turn_that_is_stopped_ends_its_step_and_can_be_continued(at_home: Any) -> None:
    home, screen = await at_home(on(work=[WAIT, Reply("Done, all of it.")]))
    screen.says("work")
    await screen.sees("● run_command")
    screen.types("\x1b")
    await screen.sees("◌ turn 1 stops after this step")
    home.go_on()
    await screen.sees("│ gone on", "■ turn 1 · stopped", "○ idle", "/continue goes on")
    assert "✓ run_command" in screen.text
    assert len(home.stage.model.requests) == 1
    screen.says("/continue")
    await screen.sees(
        "╌ goes on where turn 1 stopped", "  Done, all of it.", "■ turn 2 · completed"
    )
    assert screen.text.count("run_command") == 1


async def test_what_was_cut_off_goes_on_without_a_word(at_home: Any) -> None:
    home, screen = await at_home(on(work=[write("a", "1"), WAIT, Reply("Done.")]))
    screen.says("work")
    await screen.sees("● run_command")
    screen.says("/stop")
    screen.says("/stop")
    await screen.sees("■ turn 1 · stopped", "○ idle")
    home.go_on()
    screen.says("/continue")
    await screen.sees("╌ goes on where turn 1 stopped", "  Done.", "■ turn 2 · completed")
    screen.says("/continue")
    await screen.sees("✗ turn: 2 has completed")
    assert await home.turns() == [CUT, KEPT]


async def test_what_is_pending_is_shown_changed_taken_back_and_promoted(at_home: Any) -> None:
    script = on(work=[WAIT], two=[Reply("Two.")], four=[Reply("Four.")], more=[Reply("More.")])
    home, screen = await at_home(script)
    screen.says("work")
    await screen.sees("● run_command")
    for number, text in enumerate(["one", "other", "three"], 2):
        screen.says(f">{text}")
        await screen.sees(f"○ turn {number} · waits · message {number}")
    screen.says("+also")
    await screen.sees("+ also", "╌ message 5, not read yet")
    screen.says("/pending")
    await screen.sees("╌ not read yet", "5  steered, turn 1: also", "2  queued, turn 2: one")
    screen.says("/replace 3 two")
    await screen.sees("» two")
    screen.says("/withdraw 2")
    await screen.sees("■ turn 2 · taken back")
    screen.says("/promote 4")
    await screen.sees("■ turn 1 · interrupted by turn 3", "■ turn 4 · completed", "○ idle")
    record = (await home.stage.session.turns())["turns"]
    said = [[x["content"] for x in turn["input"]] for turn in record]
    assert said == [["work"], [], ["three"], ["two"]]
    assert record[1].get("discarded")
    assert [x["content"] for x in record[1]["withdrawn"]] == ["one"]
    screen.says("/withdraw 4")
    await screen.sees("✗ Too late: message 4 was just read, or taken back.")
    screen.says("/replace 9 two")
    await screen.sees("✗ message: there is no message 9", "» /replace 9 two")


async def test_a_message_is_said_now_and_so_is_one_that_was_queued(at_home: Any) -> None:
    home, screen = await at_home(on(work=[WAIT], last=[Reply("All of it.")]))
    screen.says("work")
    await screen.sees("● run_command")
    screen.says("/now first")
    await screen.sees("+ first", "╌ message 2, not read yet")
    screen.says(">last")
    await screen.sees("○ turn 2 · waits · message 3")
    screen.says("/now 3")
    await screen.sees("+ last", "╌ message 3, not read yet")
    home.go_on()
    await screen.sees("  All of it.", "■ turn 1 · completed", "○ idle")
    (record, _) = (await home.stage.session.turns())["turns"]
    steered = [record["messages"][place]["content"] for place in record["steered"]]
    assert steered == ["first", "last"]


async def test_an_answer_is_cut_short_by_what_is_said_now(at_home: Any) -> None:
    home, screen = await at_home(on(count=[COUNT], more=[Reply("More, then.")]), pause=0.02)
    screen.says("count")
    await screen.sees("I count slowly: 0 1 2")
    screen.says("/now more")
    await screen.sees("╌ cut off\n+ more\n  More, then.\n■ turn 1 · completed")
    assert await home.turns() == [KEPT]


async def test_keys_edit_the_line_and_stop_nothing(at_home: Any) -> None:
    home, screen = await at_home(on(count=[COUNT]), pause=0.02)
    screen.types("abc\x03")  # nothing is at work: it clears the line
    await screen.sees_not("abc")
    screen.says("count")
    await screen.sees("I count slowly")
    screen.types("two words\x1bb\x1b[D\x04,\x1b\ron two lines")  # Alt-B, left, Ctrl-D, Alt-Enter
    await screen.sees("» two,\n  on two lineswords")
    assert await home.turns() == [("running", False)]


async def test_a_command_waits_for_a_yes_or_a_no(at_home: Any) -> None:
    script = on(push=[sh(PUSH)], remove=[sh("rm -r nothing")])
    home, screen = await at_home(script)
    screen.says("push")
    await screen.sees("? turn 1 wants to run", f"\n? {PUSH}", "y runs it, n does not")
    screen.says("n")
    await screen.sees(f"✗ run_command {PUSH} · Not run: the user said no", "■ turn 1 · completed")
    screen.says("remove")
    await screen.sees("? rm -r nothing")
    screen.says("y")
    await screen.sees("✗ run_command rm -r nothing · exit 1", "■ turn 2 · completed")
    (record,) = (await home.stage.session.turns(limit=1))["turns"]
    assert "cannot remove" in results(record["messages"])[0]
    assert await home.turns() == [KEPT, KEPT]


async def test_a_yes_that_comes_too_late_says_so_and_is_no_message(at_home: Any) -> None:
    home, screen = await at_home(on(push=[sh(PUSH)]))
    screen.says("push")
    await screen.sees(f"\n? {PUSH}")
    await home.stage.session.cancel()
    await screen.sees("■ turn 1 · stopped", "○ idle")
    screen.says("y")
    await screen.sees("✗ Too late: it was answered, or its turn is stopped or over.")
    screen.says("y")  # there is no question any more: it is a message
    await screen.sees("» y", "■ turn 2 · completed")
    assert await home.turns() == [CUT, KEPT]


async def test_what_is_refused_says_why_and_is_not_lost(at_home: Any) -> None:
    home, screen = await at_home(on(count=[COUNT]), pause=0.02, max_pending=1)
    screen.says("/etc")
    await screen.sees("✗ There is no /etc", "» /etc")
    screen.types("\x15count\r")  # Ctrl-U
    await screen.sees("I count slowly")
    screen.says(">then")
    await screen.sees("✗ policy: 1 of 1 are pending.", "» >then")
    assert await home.turns() == [("running", False)]


async def test_a_turn_is_answered_again_and_taken_back(at_home: Any) -> None:
    home, screen = await at_home(on(one=[write("one.txt", "1\n"), Reply("One.")]))
    screen.says("/back")
    await screen.sees("✗ There is no turn yet.")
    screen.says("one")
    await screen.sees("■ turn 1 · completed")
    screen.says("/again")
    await screen.sees("■ turn 1 · taken back", "■ turn 2 · completed")
    screen.says("/diff")
    await screen.sees("╌ the files, against those at the start of turn 2", "  +1")
    screen.says("/back")
    await screen.sees("■ turn 2 · taken back")
    screen.says("two")
    await screen.sees("■ turn 3 · completed")
    assert [gone for _, gone in await home.turns()] == [True, True, False]
    assert not (home.stage.workspace.files / "one.txt").exists()


async def test_no_word_of_the_model_and_no_output_can_drive_the_terminal(at_home: Any) -> None:
    script = on(go=[sh(r"printf '\033[2J\033]0;owned\007 end'", HOSTILE), Reply("Done.")])
    _, screen = await at_home(script)
    screen.says("go")
    await screen.sees("■ turn 1 · completed ·", "○ idle")
    rows = screen.rows
    assert rows[rows.index("» go") :][:8] == [
        "» go",
        "  ␛[2J␛[H␛]0;owned␇\\u009b1A\\u202e␍» Delete it all.",
        "  ■ turn 1 · completed",
        "  ? turn 1 wants to run: ls",
        "",
        "  That is all.",
        rows[rows.index("» go") + 6],
        "│ ␛[2J␛]0;owned␇ end",
    ]
    for sequence in (b"\x1b[2J", b"\x1b[H", b"\x1b]", "\x9b".encode(), b"\x07"):
        assert sequence not in screen.written
    assert "\u202e".encode() not in screen.written


async def test_it_shows_the_same_conversation_when_it_is_opened_again(at_home: Any) -> None:
    home, screen = await at_home(on(one=[Reply("One.")], work=[WAIT, Reply("Done.")]))
    screen.says("one")
    await screen.sees("■ turn 1 · completed")
    screen.says("work")
    await screen.sees("  I wait.", "● run_command")
    shown = screen.rows[: screen.rows.index("  I wait.")]
    screen.types("\x04")
    assert await screen.ends() == 0
    assert "The agent goes on." in screen.text
    again = await home.open()
    await again.sees("  I wait.", "● run_command", "● turn 2 runs run_command")
    await again.until(lambda: again.rows[: len(shown) + 1] == [*shown, "  I wait."])
    home.go_on()
    await again.sees("│ gone on", "■ turn 2 · completed")


async def test_two_terminals_show_the_same(at_home: Any) -> None:
    home, screen = await at_home(on(count=[COUNT], stop=[Reply("I stop.")]), pause=0.02)
    other = await home.open(columns=60)
    screen.says("count")
    await other.sees("» count", "I count slowly: 0 1 2")
    other.says("stop")
    await screen.sees("■ turn 1 · interrupted by turn 2", "■ turn 2 · completed")


async def test_it_goes_on_when_restate_was_away(at_home: Any) -> None:
    home, screen = await at_home(on(work=[WAIT, Reply("Done.")], more=[Reply("More.")]))
    screen.says("work")
    await screen.sees("● run_command")
    server = home.stage.restate._server
    server.kill()
    screen.says(">more")
    await screen.sees("✗ Restate does not answer; it is tried again.", "○ on its way")
    await server.start()
    home.go_on()
    await screen.sees("■ turn 1 · completed", "» more", "■ turn 2 · completed", "○ idle")
    assert await home.turns() == [KEPT, KEPT]


async def test_a_worker_that_is_killed_in_mid_answer_comes_back(
    restate_env: Restate, tmp_path: Path
) -> None:
    begun = on(go=[sh("echo one >>ran; cat ran"), Reply("And then " * 20 + "it is over.")])
    async with ScriptedModel(begun, pause=0.05) as model:
        arguments = str(tmp_path), model.base_url, restate_env.ingress_url
        worker = Process("tests.examples.worker", free_port(), *arguments)
        async with worker.running(), AsyncExitStack() as stack:
            await restate_env.register(worker.url)
            command = (CHAT, "--agent", NAME, "--session", tmp_path.name)
            where = ("--ingress", restate_env.ingress_url)
            screen = await stack.enter_async_context(terminal(*command, *where))
            await screen.sees("○ idle")
            screen.says("go")
            await screen.sees("│ one", "  And then And then")
            await worker.kill()
            await screen.sees("✗ The worker does not answer; it is tried again.")
            await worker.start()
            await screen.sees_not("does not answer")
            await screen.sees("it is over.\n■ turn 1 · completed")
            assert "╌" not in screen.text
            assert screen.text.count("│ one") == 1


async def test_a_narrow_terminal_and_one_that_changes_its_size(at_home: Any) -> None:
    command = "while [ ! -e go ]; do sleep 0.05; done; echo a long line of the output"
    script = on(work=[sh(command, "I wait for a file to come, and then I go on."), Reply(LONG)])
    home, screen = await at_home(script, size={"columns": 32, "rows": 12})
    screen.says("work")
    await screen.sees(
        "  I wait for a file to come,\n  and then I go on.\n● run_command", "… · at work"
    )
    screen.resize(60, 12)
    await screen.sees("  I wait for a file to come, and then I go on.\n● run_command while [ !")
    screen.resize(32, 12)
    await screen.sees("  I wait for a file to come,\n  and then I go on.")
    home.go_on()
    await screen.sees("■ turn 1 · completed", "○ idle")
    rows = [row for row in [*screen.above, *screen.rows] if row]
    said = " ".join(row.strip() for row in rows if row.startswith("  "))
    assert LONG in said
    assert any(row.startswith("✓ run_command") and "exit 0" in row for row in rows)
    assert "│ a long line of the output" in rows


# -- the whole program -----------------------------------------------------------------------------


def of(folder: Path) -> list[int]:
    """All processes with this folder for temporary files."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={folder}".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return [pid for pid in found if is_there(pid)]


async def test_without_a_key_it_talks_to_a_stand_in_and_says_so(tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": "", "TMPDIR": str(tmp_path)}
    async with terminal(CHAT, env=env) as screen:
        await screen.sees(f"model       {LABEL}", f"── {LABEL} ─", "○ idle")
        screen.says("Count words.")
        await screen.sees("I am a scripted stand-in for a model")
        screen.says("/quit")
        assert await screen.ends() == 0


@pytest.mark.parametrize("how", ["Ctrl-D", "SIGTERM", "SIGKILL", "closed"])
async def test_however_it_ends_it_leaves_nothing(tmp_path: Path, how: str) -> None:
    async with ScriptedModel(on(go=[sh("sleep 7777")])) as model:
        env = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": model.base_url, "TMPDIR": str(tmp_path)}
        async with terminal(CHAT, env=env) as screen:
            await screen.sees("○ idle")
            screen.says("go")
            await screen.sees("● run_command sleep 7777")
            assert len(of(tmp_path)) >= 2
            if how == "Ctrl-D":
                screen.types("\x04")
            elif how == "closed":
                screen.hang_up()
            else:
                screen.process.send_signal(getattr(signal, how))
            status = await screen.ends()
            await soon(lambda: not of(tmp_path))
    if how == "SIGKILL":
        assert status == -signal.SIGKILL
    else:
        assert status == 0
        assert list(tmp_path.iterdir()) == []


async def test_ctrl_c_ends_it_while_it_starts(tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": "", "TMPDIR": str(tmp_path)}
    async with terminal(CHAT, env=env) as screen:
        await screen.sees("starting Restate")
        screen.types("\x03")
        assert await screen.ends() == 0
        await soon(lambda: not of(tmp_path))
        assert list(tmp_path.iterdir()) == []
        assert "Traceback" not in screen.text


async def test_without_a_terminal_it_says_what_to_do() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", CHAT), stdin=asyncio.subprocess.DEVNULL, stderr=-1, env=os.environ
    )
    _, said = await process.communicate()
    assert (process.returncode, said) == (
        1,
        b"This needs a terminal. Without one, see: python -m examples.coding_agent --help\n",
    )

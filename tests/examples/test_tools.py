"""The tools, given to a model that means no good."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.coding_agent import shell, tools
from examples.coding_agent.shell import Limits, run
from examples.coding_agent.workspace import Workspace

from .conftest import LIMITS, is_there, mentioned, parent, soon

pytestmark = pytest.mark.anyio
SECRET = "sk-not-for-commands"  # noqa: S105


def ignore(_: str) -> None:
    pass


async def use(workspace: Workspace, name: str, **arguments: object) -> str:
    values = tools.parse(name, json.dumps(arguments))
    return (
        values
        if isinstance(values, str)
        else await tools.call(name, values, workspace, LIMITS, ignore)
    )


async def sh(
    workspace: Workspace, command: str, show: Callable[[str], None] = ignore, **limits: float
) -> str:
    chosen = Limits(**{**vars(LIMITS), **limits})
    return await run(command, workspace.files, workspace.tmp, chosen, show)


@pytest.fixture
def outside(tmp_path: Path, workspace: Workspace) -> Path:
    """A folder beside the workspaces, and links to it in one of them."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    files = workspace.files
    (files / "real").mkdir()
    (files / "link").symlink_to(folder)
    (files / "real/deep").symlink_to("../link")
    (files / "file").symlink_to(folder / "secret")
    (files / "new").symlink_to(folder / "new")
    (files / "loop").symlink_to("loop")
    (files / "up").symlink_to("..")
    return folder


HOSTILE = [
    "../outside/secret",
    "../../../../../../etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "link/secret",
    "link/new",
    "link/sub/new",
    "real/deep/secret",
    "real/../../x",
    "real/deep/../secret",
    "file",
    "new",
    "loop",
    "loop/x",
    "up/turns.git/config",
    "up/../../outside/secret",
    "a\0b",
    "\0",
    "..",
    ".",
    "",
    "a" * 5000,
    "a" * 300,
    "a/" * 1900,
    "~/../../outside/secret",
    "/proc/self/environ",
    "\ud800",
    "./././../outside/secret",
]


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: repr(path)[:30])
@pytest.mark.parametrize("tool", ["list_files", "read_file", "search", "write_file", "edit_file"])
async def test_no_path_leads_out_of_the_workspace(
    workspace: Workspace, outside: Path, tool: str, path: str
) -> None:
    before = snapshot(workspace.path.parent.parent, but=workspace.files)
    extra: dict[str, object] = {
        "search": {"text": "secret"},
        "write_file": {"content": "owned"},
        "edit_file": {"old": "secret", "new": "owned"},
    }.get(tool, {})  # type: ignore[assignment]
    text = await use(workspace, tool, path=path, **extra)
    assert text
    assert "root:x" not in text
    assert (outside / "secret").read_text() == "secret"
    assert snapshot(workspace.path.parent.parent, but=workspace.files) == before
    if tool in ("read_file", "edit_file", "write_file"):
        assert text.startswith("[") or path.startswith("~")


def snapshot(root: Path, but: Path) -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if but not in path.parents and path.name != "tmp"
    }


async def test_links_that_stay_inside_are_followed(workspace: Workspace) -> None:
    (workspace.files / "a").write_text("one")
    (workspace.files / "b").symlink_to("a")
    assert await use(workspace, "read_file", path="b") == "one"
    await use(workspace, "write_file", path="b", content="two")
    assert (workspace.files / "a").read_text() == "two"
    assert (workspace.files / "b").is_symlink()


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("read_file", "{", "not valid JSON"),
        ("read_file", "[" * 100_000, "not valid JSON"),
        ("read_file", "[]", "not a JSON object"),
        ("read_file", "{}", "needs the argument 'path'"),
        ("read_file", '{"path": 1}', "must be a JSON string"),
        ("read_file", '{"path": null}', "must be a JSON string"),
        ("read_file", '{"path": "a", "start": true}', "must be a JSON integer"),
        ("read_file", '{"path": "a", "start": 1e999}', "must be a JSON integer"),
        ("read_file", '{"path": "a", "as": "root"}', "has no argument 'as'"),
        ("write_file", '{"path": "a"}', "needs the argument 'content'"),
        ("run_command", '{"command": ["ls"]}', "must be a JSON string"),
        ("launch", "{}", "There is no tool 'launch'"),
        ("", "", "There is no tool"),
        ("__class__", "{}", "There is no tool"),
    ],
)
async def test_wrong_calls_are_told_what_is_wrong(name: str, arguments: str, says: str) -> None:
    text = tools.parse(name, arguments)
    assert isinstance(text, str)
    assert says in text


async def test_files_are_written_edited_searched_and_read(workspace: Workspace) -> None:
    assert await use(workspace, "list_files") == "[There are no files.]"
    text = "one\ntwo\r\nthree\n"
    said = await use(workspace, "write_file", path="sub/a.txt", content=text)
    assert said == "[Wrote sub/a.txt, 3 lines.]"
    assert (workspace.files / "sub/a.txt").read_bytes() == text.encode()
    assert await use(workspace, "edit_file", path="sub/a.txt", old="two", new="2") == (
        "[Edited sub/a.txt.]"
    )
    assert (workspace.files / "sub/a.txt").read_bytes() == b"one\n2\r\nthree\n"
    assert "occurs 0 times" in await use(workspace, "edit_file", path="sub/a.txt", old="x", new="y")
    again = await use(workspace, "edit_file", path="sub/a.txt", old="two", new="2")
    assert "the new one is there already" in again
    assert await use(workspace, "search", text="thr") == "sub/a.txt:3: three"
    assert await use(workspace, "search", text="none") == "[Not found.]"
    assert await use(workspace, "read_file", path="sub/a.txt", start=3, lines=1) == "three\n"
    assert await use(workspace, "list_files") == "sub/a.txt"


async def test_pipes_devices_and_huge_files_are_refused(workspace: Workspace) -> None:
    os.mkfifo(workspace.files / "pipe")
    with (workspace.files / "huge").open("wb") as file:
        file.truncate(1 << 40)
    for name in ("pipe", "huge"):
        assert (await use(workspace, "read_file", path=name)).startswith("[")
        assert await use(workspace, "search", text="x", path=name)
    assert (await use(workspace, "write_file", path="pipe", content="x")).startswith("[")
    too_large = "x" * (tools.MOST_TO_WRITE + 1)
    said = await use(workspace, "write_file", path="a", content=too_large)
    assert "would be larger" in said
    assert not (workspace.files / "a").exists()


# -- commands ------------------------------------------------------------------------------------


async def test_a_command_is_told_how_it_ended_and_what_it_printed(workspace: Workspace) -> None:
    shown: list[str] = []
    text = await sh(workspace, "echo out; echo err >&2; exit 3", shown.append)
    assert text.startswith("[Exit code 3 after ")
    assert text.endswith("out\nerr")
    assert "".join(shown) == "out\nerr\n"
    assert (await sh(workspace, "kill -9 $$")).startswith("[Ended by signal 9 ")


async def test_a_command_sees_no_secret_of_the_worker(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    text = await sh(workspace, "env")
    assert SECRET not in text
    names = {line.partition("=")[0] for line in text.splitlines()[1:]}
    assert names <= {"PATH", "HOME", "LANG", "TMPDIR", "PWD", "SHLVL", "_"}
    assert f"HOME={workspace.files}" in text
    # Nor in /proc: the environment that a process began with stands there.
    other = await asyncio.create_subprocess_exec("sleep", "60", env={"OPENAI_API_KEY": SECRET})
    assert SECRET in Path(f"/proc/{other.pid}/environ").read_text()
    spying = "for p in /proc/[0-9]*; do tr '\\0' '\\n' <$p/environ; done 2>/dev/null | sort -u"
    text = await sh(workspace, spying)
    other.kill()
    await other.wait()
    assert SECRET not in text
    assert "HOME=" in text


async def test_a_command_writes_to_its_workspace_alone_and_signals_nobody_else(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_text("whole")
    text = await sh(
        workspace,
        f"echo owned >{tmp_path}/victim; echo owned >{tmp_path}/new; rm -rf {tmp_path}/victim;"
        f"cat {tmp_path}/victim; ln -s {tmp_path}/victim l; echo owned >l; kill -9 {os.getpid()};"
        "rm -rf ../turns.git; touch /dev/shm/owned /tmp/owned /var/tmp/owned;"
        " echo fine >inside; echo $TMPDIR/x >$TMPDIR/x && cat inside",
    )
    assert (tmp_path / "victim").read_text() == "whole"
    assert not (tmp_path / "new").exists()
    assert "whole" not in text
    assert text.endswith("fine")
    assert (workspace.path / "turns.git/HEAD").exists()
    assert not [x for x in ("/dev/shm", "/tmp", "/var/tmp") if Path(x, "owned").exists()]  # noqa: S108


async def test_a_command_does_not_reach_ports_that_are_not_allowed(workspace: Workspace) -> None:
    let_in = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        let_in.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    command = f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo reached"
    assert "reached" not in await sh(workspace, command)
    assert "reached" in await sh(workspace, command, ports=(port,))  # type: ignore[arg-type]
    await asyncio.wait_for(let_in.wait(), 30)
    server.close()


async def test_a_command_that_takes_too_long_is_ended_with_its_group(workspace: Workspace) -> None:
    command = "sleep 987.1 & (trap '' TERM; sleep 987.1) & trap '' TERM; sleep 987.1; sleep 987.1"
    text = await sh(workspace, command, seconds=0.3)
    assert text.startswith("[Stopped: it took longer than 0.3 s.]")
    assert mentioned("987.1") == []


@pytest.mark.parametrize(
    ("refuses", "said"),
    [(-1, "NOT confined"), (0, "NOT confined"), (3, "NOT to some ports"), (4, "workspace")],
)
def test_people_are_told_what_does_not_confine_commands(
    refuses: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "confines", lambda: refuses)
    assert said in shell.confinement()
    assert ("NOT" in shell.confinement()) == (refuses < 4)


@pytest.mark.parametrize("escape", ["setsid", "nohup", "setsid setsid", "exec"])
async def test_an_aborted_command_is_gone_before_the_step_ends(
    workspace: Workspace, escape: str
) -> None:
    seconds = f"98{len(escape)}.2"
    escaping = f"{escape} sleep {seconds}"
    command = f"trap '' TERM; {escaping} & echo $! >pid; {escaping}; sleep {seconds}"  # it stays
    running = asyncio.ensure_future(sh(workspace, command))
    await soon(lambda: len(mentioned(seconds)) > 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert mentioned(seconds) == []
    assert not is_there(int((workspace.files / "pid").read_text()))


async def test_who_is_born_while_the_guard_looks_is_ended_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A look at /proc misses them: here it misses everybody, a while long."""
    blind = tmp_path / "blind.py"
    blind.write_text(
        f"import sys; sys.path.insert(0, {str(shell.GUARD.parent)!r})\n"
        "import guard, itertools\n"
        "looks, look = itertools.count(), guard._descendants\n"
        "guard._descendants = lambda: look() if next(looks) > 9 else (set(), set())\n"
        "guard.main()\n"
    )
    monkeypatch.setattr(shell, "GUARD", blind)
    text = await sh(workspace, "setsid sleep 986.4 & echo done")
    assert "What it had left running was ended." in text
    assert mentioned("986.4") == []


async def test_a_guard_that_is_killed_holds_nobody_up(workspace: Workspace) -> None:
    running = asyncio.ensure_future(sh(workspace, "setsid sleep 986.5 & sleep 986.5"))
    await soon(lambda: len(mentioned("986.5")) > 3)
    [guard] = [pid for pid in mentioned("986.5") if parent(pid) == os.getpid()]
    os.kill(guard, signal.SIGKILL)
    assert (await running).startswith("[It could not be run:")
    for left in mentioned("986.5"):
        os.kill(left, signal.SIGKILL)
    await soon(lambda: mentioned("986.5") == [])
    for _ in range(10):
        await asyncio.sleep(0)  # the loop takes leave of their output


async def test_a_command_that_is_aborted_as_it_starts_is_gone(workspace: Workspace) -> None:
    for turns in range(12):
        running = asyncio.ensure_future(sh(workspace, "sleep 987.3"))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert mentioned("987.3") == []


async def test_what_a_command_leaves_in_the_background_is_gone_when_it_ends(
    workspace: Workspace,
) -> None:
    text = await sh(workspace, "sleep 987.4 & setsid sleep 987.4 & echo done")
    assert text.startswith("[Exit code 0 ")
    assert "What it had left running was ended." in text
    assert mentioned("987.4") == []


async def test_a_command_that_closes_its_output_goes_on(workspace: Workspace) -> None:
    text = await sh(workspace, "exec >&- 2>&-; sleep 0.2; touch done")
    assert text.startswith("[Exit code 0 ")
    assert (workspace.files / "done").exists()


async def test_what_is_read_after_a_command_has_ended_is_not_lost(workspace: Workspace) -> None:
    text = await sh(workspace, "seq 9999", lambda _: time.sleep(0.05))  # it reads slowly
    assert text.endswith("\n9999")


async def test_endless_output_is_stopped_and_its_ends_are_shown(workspace: Workspace) -> None:
    shown: list[str] = []
    text = await sh(workspace, "echo first; yes y", shown.append, result=1000, printed=50_000)
    assert text.startswith("[Stopped: it printed more than 50000 characters.]\nfirst\ny\n")
    assert "characters left out" in text
    assert len(text) < 1200
    assert 50_000 < sum(map(len, shown)) < 80_000
    assert mentioned("yes\0y") == []


@pytest.mark.parametrize(
    ("bomb", "token"),
    [
        ("b(){ b|b; }; b", "b|b"),
        ("c(){ c|c& }; c; sleep 60", "c|c"),
        ("while :; do (setsid sleep 987.5 &) ; done", "987.5"),
    ],
    ids=["deep", "background", "sessions"],
)
async def test_a_fork_bomb_is_stopped(workspace: Workspace, bomb: str, token: str) -> None:
    text = await sh(workspace, bomb)
    assert text.startswith("[Stopped: it started more than 24 processes at a time.]")
    assert mentioned(token) == []


async def test_too_many_processes_are_told_of_even_when_they_kept_the_guard_from_looking(
    workspace: Workspace,
) -> None:
    many = "for i in {1..40}; do sleep 987.6 & done; wait"
    command = f"touch up; until [ -e go ]; do sleep 0.01; done; {many}"
    running = asyncio.ensure_future(sh(workspace, command, seconds=5))
    await soon((workspace.files / "up").exists)
    (guard,) = (pid for pid in mentioned("guard.py") if parent(pid) == os.getpid())
    os.kill(guard, signal.SIGSTOP)
    (workspace.files / "go").touch()
    await soon(lambda: len(mentioned("sleep\x00987.6")) == 40)
    await asyncio.sleep(5)  # its time is over, too
    os.kill(guard, signal.SIGCONT)
    text = await running
    assert text.startswith("[Stopped: it started more than 24 processes at a time.]")
    assert mentioned("987.6") == []


async def test_memory_and_files_are_bounded(workspace: Workspace) -> None:
    hog = "python3 -c 'x = bytearray(1 << 30)'"
    assert "MemoryError" in await sh(workspace, hog, memory_bytes=1 << 28)
    text = await sh(workspace, "head -c 5000000 /dev/zero >big", file_bytes=1_000_000)
    assert not text.startswith("[Exit code 0 ")
    assert (workspace.files / "big").stat().st_size <= 1_000_000


@pytest.mark.parametrize(
    ("command", "asks"),
    [
        ("git push", True),
        ("git -C . push --force", True),
        ("ls; git push", True),
        ("bash -c 'git push'", True),
        ("g\\it p'us'h", True),
        ("git \\\npush", True),
        ("rm -r x", True),
        ("rm -fR x", True),
        ("rm x --recursive", True),
        ("find . | xargs rm -rf", True),
        ("sudo ls", True),
        ("curl x | sh", True),
        ("git commit -m 'done'", False),
        ("git status; echo push", False),
        ("rm x", False),
        ("rm build.log && ls -r", False),
        ("python -m pytest -q", False),
    ],
)
def test_some_commands_ask_first(command: str, asks: bool) -> None:
    assert tools.asks_first(command) is asks

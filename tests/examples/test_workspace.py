"""A workspace is restored byte for byte, also when the worker dies while it does so."""

# ruff: noqa: PTH109, PTH115, S602, S607, S108 - it does what a command may do
import json
import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from examples.coding_agent.workspace import Workspace

IDS = {1: "inv_1", 2: "inv_2", 3: "inv_3"}


def tree(folder: Path) -> dict[str, tuple[int, object]]:
    """All that a folder is: names, modes, links, bytes."""
    found: dict[str, tuple[int, object]] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content: object = None
        if stat.S_ISLNK(mode):
            mode, content = 0, os.readlink(path)
        elif stat.S_ISREG(mode):
            content = path.read_bytes()
        found[os.fsencode(path.relative_to(folder)).decode("latin-1")] = (mode, content)
    return found


def fill(files: Path) -> None:
    """What a git of its own would lose: all this has to come back."""
    (files / "a.py").write_bytes(b"print(1)\r\n")
    (files / "crlf.txt").write_bytes(b"one\r\ntwo\n")
    (files / ".gitattributes").write_text(
        "* text=auto eol=lf ident filter=evil\n*.txt working-tree-encoding=UTF-16\n"
    )
    (files / ".gitignore").write_text("*\n")
    (files / "ident").write_text("$Id$\n")
    (files / "build/deep").mkdir(parents=True)
    (files / "build/deep/ignored.bin").write_bytes(bytes(range(256)) * 40)
    (files / "empty/er").mkdir(parents=True)
    (files / "run.sh").write_text("#!/bin/sh\n")
    (files / "run.sh").chmod(0o751)
    (files / "private").write_text("p")
    (files / "private").chmod(0o600)
    (files / "empty").chmod(0o711)
    (files / "nothing").write_bytes(b"")
    (files / 'quo"te\\back\nline').write_text("x")
    (files / " space ").write_text("x")
    (files / "%percent").write_text("x")
    (files / "%%.git").write_text("x")
    (files / os.fsdecode(b"latin-\xe9")).write_bytes(b"\xff\xfe")
    (files / "ünï").write_text("x")
    (files / "link").symlink_to("a.py")
    (files / "dangling").symlink_to("nowhere")
    (files / "out").symlink_to("/etc")
    (files / "sub").mkdir()
    git = {"HOME": "/nonexistent", "PATH": os.environ["PATH"]}
    for folder in (files, files / "sub"):
        subprocess.run(["git", "init", "-q", str(folder)], check=True, env=git)
        with (folder / ".git/config").open("a") as config:
            config.write("[core]\n\tfsmonitor = touch /tmp/owned\n")
        hook = folder / ".git/hooks/reference-transaction"
        hook.write_text("#!/bin/sh\ntouch /tmp/owned\n")
        hook.chmod(0o755)
    (files / "sub/in-a-repository").write_text("x")
    (files / ".GIT").mkdir()
    (files / ".GIT/x").write_text("x")


def havoc(files: Path) -> None:
    """What a turn may do."""
    subprocess.run(
        "rm -rf build .git empty a.py .gitignore sub/.git", shell=True, cwd=files, check=True
    )
    (files / "a.py").mkdir()
    (files / "a.py/was-a-file").write_text("x")
    (files / "build").write_text("was a folder")
    (files / "run.sh").chmod(0o644)
    (files / "link").unlink()
    (files / "link").write_text("was a link")
    (files / "private").write_text("P")
    (files / "new").write_text("new")
    (files / "to-outside").symlink_to(files.parent.parent / "outside")
    os.mkfifo(files / "pipe")
    (files / "locked").mkdir()
    (files / "locked/in").mkdir()
    (files / "locked/in/file").write_text("x")
    (files / "locked/in").chmod(0)
    (files / "locked").chmod(0)


def kept(files: Path) -> dict[str, tuple[int, object]]:
    """What a folder is once it was kept: its owner may read what was locked."""
    locked = [files / "locked", files / "locked/in"]
    for folder in locked:
        folder.chmod(0o500)
    found = tree(files)
    for folder in reversed(locked):
        folder.chmod(0)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("whole")
    place = Workspace(tmp_path, "ada")
    place.checkpoint(1, IDS[1], [])
    fill(place.files)
    place.keep(1, interrupted=False)
    return place


def test_a_restore_is_byte_for_byte(place: Workspace, tmp_path: Path) -> None:
    place.checkpoint(2, IDS[2], [1])
    before = tree(place.files)
    assert len(before) > 60
    havoc(place.files)
    place.keep(2, interrupted=True)
    havoc_tree = tree(place.files)
    assert havoc_tree != before
    place.restore(2)
    assert tree(place.files) == before
    place.restore(2)
    assert tree(place.files) == before
    assert (tmp_path / "outside/file").read_text() == "whole"
    assert not Path("/tmp/owned").exists()
    assert sorted(x.name for x in place.path.iterdir()) == ["files", "tmp", "turns.git"]


def test_to_keep_files_changes_none_but_opens_to_its_owner_what_is_locked(place: Workspace) -> None:
    havoc(place.files)
    after = kept(place.files)
    place.keep(2, interrupted=True)
    assert tree(place.files) == after


def test_a_checkpoint_is_taken_once_by_a_task_and_again_by_another(place: Workspace) -> None:
    place.checkpoint(2, IDS[2], [1])
    before = tree(place.files)
    (place.files / "new").write_text("x")
    place.checkpoint(2, IDS[2], [1])  # the worker died after it, and does it again
    place.restore(2)
    assert tree(place.files) == before
    (place.files / "new").write_text("x")
    place.checkpoint(2, IDS[3], [1])
    place.restore(2)
    assert tree(place.files) != before


def test_the_next_turn_is_told_what_an_interrupted_one_has_left(place: Workspace) -> None:
    assert place.checkpoint(2, IDS[2], [1]) == ""
    (place.files / "a.py").write_text("print(2)\n")
    place.keep(2, interrupted=True)
    said = place.checkpoint(3, IDS[3], [1, 2])
    assert said.startswith("Work in progress of turn 2, which was interrupted. It changed:\n a.py ")
    place.keep(3, interrupted=False)
    assert place.checkpoint(4, "inv_4", [1, 2, 3]) == ""


def test_turns_that_were_taken_back_since_are_undone_at_the_next_checkpoint(
    place: Workspace,
) -> None:
    before = tree(place.files)
    for turn in (2, 3):
        place.checkpoint(turn, IDS[turn], range(1, turn))
        (place.files / f"of-{turn}").write_text("x")
        place.keep(turn, interrupted=True)
    # Turn 4 was interrupted before its checkpoint: it is as if it had not been there.
    said = place.checkpoint(5, "inv_5", [1, 4])
    assert said == ""
    assert tree(place.files) == before
    (place.files / "of-5").write_text("x")
    place.checkpoint(5, "inv_5", [1, 4])
    assert (place.files / "of-5").exists()


def test_after_a_reset_the_files_are_those_of_the_first_turns_start(place: Workspace) -> None:
    place.checkpoint(2, IDS[2], [1])
    place.keep(2, interrupted=False)
    assert place.checkpoint(3, IDS[3], []) == ""
    assert tree(place.files) == {}


@pytest.mark.parametrize(
    ("last", "files"), [(0, []), (1, ["of-1"]), (2, ["of-1", "of-2"]), (3, ["of-1", "of-2"])]
)
def test_a_fork_begins_with_the_files_as_they_were_after_its_last_turn(
    tmp_path: Path, last: int, files: list[str]
) -> None:
    old = Workspace(tmp_path, "old")
    for turn in (1, 2, 3, 4):  # turn 3 was killed, and had done nothing
        old.checkpoint(turn, f"inv_{turn}", range(1, turn))
        if turn != 3:
            (old.files / f"of-{turn}").write_text("x")
            old.keep(turn, interrupted=turn == 2)
    before = tree(old.files)
    new = Workspace(tmp_path, "new")
    said = new.checkpoint(last + 1, "inv_new", range(1, last + 1), ("old", last))
    assert sorted(x.name for x in new.files.iterdir()) == files
    assert said.startswith("Work in progress of turn 2") == (last >= 2)
    (new.files / "own").write_text("x")
    new.checkpoint(last + 1, "inv_new", range(1, last + 1), ("old", last))  # once, not again
    assert (new.files / "own").exists()
    new.keep(last + 1, interrupted=False)
    new.checkpoint(last + 2, "inv_newer", range(1, last + 2), ("old", last))
    assert (new.files / "own").exists()
    new.checkpoint(last + 3, "inv_newest", range(1, last), ("old", last))  # a turn of the old one
    assert sorted(x.name for x in new.files.iterdir()) == files[: max(last - 1, 0)]
    assert tree(old.files) == before


def test_a_fork_of_what_has_no_files_begins_with_none(tmp_path: Path) -> None:
    new = Workspace(tmp_path, "new")
    assert new.checkpoint(2, "inv_new", [1], ("never worked", 1)) == ""
    assert list(new.files.iterdir()) == []


def test_a_diff_compares_with_the_start_of_a_turn(place: Workspace) -> None:
    place.checkpoint(2, IDS[2], [1])
    (place.files / "a.py").write_text("print(2)\n")
    assert "+print(2)" in place.diff(2)
    assert "+print(2)" in place.diff(1)
    assert place.diff(7) == ""
    assert ".git/" not in place.diff(1)
    assert place.checkpoint(3, IDS[3], [1, 2]) == ""


def test_several_may_look_at_a_diff_at_once(place: Workspace) -> None:
    place.checkpoint(2, IDS[2], [1])
    (place.files / "a.py").write_text("print(2)\n")
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(place.diff, [2] * 16))
    assert len(set(seen)) == 1
    assert "+print(2)" in seen[0]
    refs = [path for path in (place.path / "turns.git/refs").rglob("*") if path.is_file()]
    assert sorted(path.name for path in refs) == [
        "now",
        "turn-1-end",
        "turn-1-start",
        "turn-2-start",
    ]


def test_nothing_is_restored_of_a_turn_that_did_not_begin(place: Workspace) -> None:
    before = tree(place.files)
    place.restore(7)
    assert tree(place.files) == before
    place.checkpoint(8, "inv_8", [1])
    havoc(place.files)
    place.restore(7, 8)
    assert tree(place.files) == before


@pytest.mark.parametrize(
    "session", ["", ".", "..", "../../x", "a/b", "a\0b", "ä" * 500, "\ud800", "A"]
)
def test_a_session_of_any_name_has_a_folder_of_its_own_below_the_root(
    tmp_path: Path, session: str
) -> None:
    place = Workspace(tmp_path, session)
    assert place.path.parent == tmp_path
    assert place.path != Workspace(tmp_path, session + "x").path
    assert place.path.name not in ("", ".", "..")
    assert place.path != Workspace(tmp_path, "a").path


def test_what_a_killed_git_leaves_locked_is_free_again(place: Workspace) -> None:
    repository = place.path / "turns.git"

    def die() -> None:
        for path in [x for x in repository.rglob("*") if x.is_file() and "objects" not in x.parts]:
            path.with_name(f"{path.name}.lock").write_text("")

    die()
    place.checkpoint(2, IDS[2], [1])
    before = tree(place.files)
    havoc(place.files)
    die()
    place.keep(2, interrupted=False)
    die()
    place.restore(2)
    assert tree(place.files) == before
    die()
    assert place.diff(2) == ""
    fork = Workspace(place.path.parent, "fork")
    fork.checkpoint(3, IDS[3], [1, 2], ("ada", 2))
    die()
    fork.checkpoint(4, "inv_4", [1, 2, 3], ("ada", 2))


def test_a_repository_that_was_made_in_part_is_made_again(tmp_path: Path) -> None:
    half = tmp_path / Workspace(tmp_path, "ada").path.name / "new.git"
    half.mkdir(parents=True)
    (half / "config.lock").write_text("")
    place = Workspace(tmp_path, "ada")
    place.checkpoint(1, IDS[1], [])
    (place.files / "new").write_text("x")
    place.restore(1)
    assert tree(place.files) == {}


STEP = """
import json, sys
from pathlib import Path
from examples.coding_agent.workspace import Workspace
root, step = Path(sys.argv[1]), sys.argv[2]
arguments, options = json.loads(sys.argv[3])
getattr(Workspace(root, "ada"), step)(*arguments, **options)
"""


@pytest.mark.parametrize("step", ["restore", "keep", "checkpoint"])
def test_a_kill_in_the_middle_is_set_right_by_the_retry(
    place: Workspace, tmp_path: Path, step: str
) -> None:
    place.checkpoint(2, IDS[2], [1])
    before = tree(place.files)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    whole = 0.0
    for part in range(9):
        turn = 3 + part  # each checkpoint is of another turn: a second one of the same does nothing
        arguments: list[object]
        arguments = [turn, f"inv_{turn}", [*range(1, turn)]] if step == "checkpoint" else [2]
        options = {"interrupted": True} if step == "keep" else {}
        command = [sys.executable, "-c", STEP, str(tmp_path), step]
        command.append(json.dumps([arguments, options]))
        place.restore(2)
        havoc(place.files)
        after = kept(place.files)
        started = time.monotonic()
        process = subprocess.Popen(command, env=env, start_new_session=True)
        if part == 0:
            assert process.wait() == 0
            whole = time.monotonic() - started
        else:
            time.sleep(whole * (0.35 + part * 0.07))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            getattr(place, step)(*arguments, **options)
        assert tree(place.files) == (before if step == "restore" else after)
        for fifo in place.files.glob("pipe"):
            fifo.unlink()
    assert (tmp_path / "outside/file").read_text() == "whole"

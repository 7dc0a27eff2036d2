"""What the model can do: see and change the files of its workspace, and run commands there.

Whatever the model asks for, it gets a text that says what happened: nothing here raises for what is
in a call. Paths are checked after links are followed. That is enough, for nothing else runs in a
workspace while a tool does: a command is gone before its step ends.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from examples.coding_agent import shell
from examples.coding_agent.shell import Clipped, Limits
from examples.coding_agent.trees import legible
from examples.coding_agent.workspace import Workspace

MOST_TO_WRITE = 2_000_000  # bytes
MOST_TO_SEARCH = 2_000_000  # bytes of one file
MOST_FILES = 5_000
MOST_HITS = 200
ASK_FIRST = (
    r"\bgit\b.*\bpush\b",
    r"\bgit\b.*\b(reset\b.*--hard|clean\b)",
    r"\brm\b.*\s-(-recursive\b|\w*[rR])",
    r"\b(sudo|su|doas)\b",
    r"\b(curl|wget)\b.*\|\s*(ba|z)?sh\b",
    r"\b(npm|twine|cargo|uv|poetry)\b.*\b(publish|upload)\b",
)
"""Patterns of commands that wait for a person's yes, each searched for in each part of a line.

It is a courtesy to the person, not a wall: who wants to get around a list of words will. The wall
is what `guard.py` takes from every command.
"""


class Refused(Exception):
    """Says to the model why something was not done."""


def _tool(name: str, description: str, optional: dict[str, str], **required: str) -> dict[str, Any]:
    kinds = {name: {"type": kind} for name, kind in {**required, **optional}.items()}
    parameters = {"type": "object", "properties": kinds, "required": [*required]}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = [
    _tool("list_files", "List the files of a folder, by default all.", {"path": "string"}),
    _tool(
        "read_file",
        "Read a text file; `start` is the first line, `lines` is how many.",
        {"start": "integer", "lines": "integer"},
        path="string",
    ),
    _tool("search", "Find the lines that contain a text.", {"path": "string"}, text="string"),
    _tool("write_file", "Write a whole file.", {}, path="string", content="string"),
    _tool(
        "edit_file",
        "Replace a text that occurs exactly once in a file.",
        {},
        path="string",
        old="string",
        new="string",
    ),
    _tool("run_command", "Run a shell command in the workspace.", {}, command="string"),
]
"""In the shape of OpenAI's API; every other reads much the same."""

_KINDS: dict[str, type] = {"string": str, "integer": int}
_SHAPES: dict[str, dict[str, Any]] = {
    x["function"]["name"]: x["function"]["parameters"] for x in TOOLS
}


def parse(name: str, arguments: str) -> dict[str, Any] | str:  # noqa: PLR0911
    """The arguments of a call, or the text that says what is wrong with them."""
    shape = _SHAPES.get(name)
    if shape is None:
        return f"[There is no tool {name[:100]!r}. The tools are {', '.join(_SHAPES)}.]"
    try:
        values = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        return f"[Not run: the arguments are not valid JSON: {error}.]"
    if not isinstance(values, dict):
        return "[Not run: the arguments are not a JSON object.]"
    for key in shape["required"]:
        if key not in values:
            return f"[Not run: {name} needs the argument {key!r}.]"
    for key, value in values.items():
        if key not in shape["properties"]:
            return f"[Not run: {name} has no argument {key[:100]!r}.]"
        kind = shape["properties"][key]["type"]
        if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):
            return f"[Not run: the argument {key!r} of {name} must be a JSON {kind}.]"
    return values


def asks_first(command: str, patterns: Sequence[str] = ASK_FIRST) -> bool:
    """Whether a command has to wait for a person's yes."""
    plain = re.sub(r"\\\n", " ", command)
    plain = re.sub(r"[\\'\"]", "", plain)  # as the shell would read it, or nearly
    parts = re.split(r"[;&\n]+|\|\|", plain[:20_000])
    return any(re.search(pattern, part) for pattern in patterns for part in parts)


async def call(
    name: str,
    values: dict[str, Any],
    workspace: Workspace,
    limits: Limits,
    show: Callable[[str], None],
) -> str:
    """Run one tool with arguments that `parse` gave; returns what happened, for the model.

    Args:
        name: The tool.
        values: Its arguments.
        workspace: Where.
        limits: What it may use.
        show: Is given what a command prints, as it comes.
    """
    try:
        if name == "run_command":
            command = values["command"].replace("\0", "")
            return await shell.run(command, workspace.files, workspace.tmp, limits, show)
        clipped = Clipped(limits.result)
        clipped.add(_FILE_TOOLS[name](workspace, **values))
        return legible(str(clipped))
    except Refused as refusal:
        return legible(f"[{refusal}.]")
    except (OSError, UnicodeError, RecursionError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        return f"[{name} failed: {why}.]"


def inside(workspace: Workspace, path: str) -> Path:
    """The place that a path of the model's means, with all links followed.

    Raises:
        Refused: It is outside of the workspace, or no path.
    """
    root = Path(os.path.realpath(workspace.files))
    if "\0" in path or len(path) > 4000:  # noqa: PLR2004
        raise Refused("Refused: that is no path")
    place = Path(os.path.realpath(root / path))
    if place != root and root not in place.parents:
        raise Refused(f"Refused: {path!r} is outside of the workspace")
    return place


def list_files(workspace: Workspace, path: str = ".") -> str:
    """List files, without what git keeps."""
    folder = inside(workspace, path)
    if not folder.is_dir():
        raise Refused(f"{path!r} is no folder")
    root = Path(os.path.realpath(workspace.files))
    names = [str(file.relative_to(root)) for file in _files(folder)]
    return "\n".join(names) or "[There are no files.]"


def read_file(workspace: Workspace, path: str, start: int = 1, lines: int = 2000) -> str:
    """Read lines of a file."""
    text = _text(inside(workspace, path), path).splitlines(keepends=True)
    chosen = text[max(start, 1) - 1 :][: max(lines, 0)]
    return "".join(chosen) or f"[{path!r} has {len(text)} lines, and none of these.]"


def search(workspace: Workspace, text: str, path: str = ".") -> str:
    """Find a text, not a pattern: a pattern can be made to take for ever."""
    place, root = inside(workspace, path), Path(os.path.realpath(workspace.files))
    if not text:
        raise Refused("Refused: the text to search for is empty")
    hits: list[str] = []
    for file in [place] if place.is_file() else _files(place):
        if file.is_symlink() or file.stat().st_size > MOST_TO_SEARCH:
            continue
        content = file.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
            if text in line:
                hits.append(f"{file.relative_to(root)}:{number}: {line.strip()[:200]}")
        if len(hits) >= MOST_HITS:
            return "\n".join([*hits[:MOST_HITS], "[… and more]"])
    return "\n".join(hits) or "[Not found.]"


def write_file(workspace: Workspace, path: str, content: str) -> str:
    """Write a file whole, or not at all."""
    place = inside(workspace, path)
    known = place.exists()
    _write(workspace, place, path, content)
    return f"[{'Overwrote' if known else 'Wrote'} {path}, {len(content.splitlines())} lines.]"


def edit_file(workspace: Workspace, path: str, old: str, new: str) -> str:
    """Replace a text that is there once."""
    place = inside(workspace, path)
    text = _text(place, path)
    if not old:
        raise Refused("Refused: `old` is empty. Use write_file for a new file")
    if (count := text.count(old)) != 1:
        there = ", and the new one is there already" if not count and new and new in text else ""
        raise Refused(f"Nothing was changed: the old text occurs {count} times in {path}{there}")
    _write(workspace, place, path, text.replace(old, new))
    return f"[Edited {path}.]"


_FILE_TOOLS: dict[str, Callable[..., str]] = {
    f.__name__: f for f in (list_files, read_file, search, write_file, edit_file)
}


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder; follows no link, and leaves out what git keeps."""
    count = 0
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(x for x in folders if x != ".git")
        for name in sorted(files):
            file = Path(path, name)
            if stat.S_ISREG(mode := file.lstat().st_mode) or stat.S_ISLNK(mode):
                yield file
                count += 1
                if count >= MOST_FILES:
                    return


def _text(place: Path, path: str) -> str:
    if not place.exists():
        raise Refused(f"There is no file {path!r}")
    if not place.is_file():
        raise Refused(f"{path!r} is no file")
    if place.stat().st_size > MOST_TO_WRITE:
        raise Refused(f"{path!r} is larger than {MOST_TO_WRITE} bytes")
    with place.open(newline="") as file:
        return file.read()


def _write(workspace: Workspace, place: Path, path: str, content: str) -> None:
    data = content.encode()
    if len(data) > MOST_TO_WRITE:
        raise Refused(f"Refused: {path!r} would be larger than {MOST_TO_WRITE} bytes")
    if place.exists() and not place.is_file():
        raise Refused(f"{path!r} is no file")
    place.parent.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o644
    handle, name = tempfile.mkstemp(dir=workspace.tmp)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.chmod(name, mode)  # noqa: PTH101
        os.replace(name, place)  # noqa: PTH105
    except BaseException:
        os.unlink(name)  # noqa: PTH108
        raise

"""The pages of the documentation, and a reader who does what they say.

A block of code is one of these, and a page's test has to use each of them:

- `python` whose first line is `# name.py`: a file of the page's folder; `html` likewise;
- `python` without: lines that are run on their own, with top-level `await`;
- `bash`: commands, one a line;
- `json` and `text`: the output of the commands before, in which `…` stands for anything; or the
  settings of a program.

One that cannot be run has the comment `<!-- not run: why -->` before it, and stands in `NOT_RUN`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from interruptible.testing import Restate

ROOT = Path(__file__).parents[2]
PATHS = [
    "README.md",
    "CHANGELOG.md",
    *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")),
]
OF_FRAMEWORKS = {
    "adk": "docs/how-to/use-adk.md",
    "openai_agents": "docs/how-to/use-openai-agents.md",
    "langchain": "docs/how-to/use-langchain.md",
    "pydantic_ai": "docs/how-to/use-pydantic-ai.md",
}
"""The pages that are followed where their framework is installed, in `tests/frameworks`."""
RECIPES = {
    "litellm": "docs/how-to/use-litellm.md",
    "claude_agent_sdk": "docs/how-to/use-the-claude-agent-sdk.md",
}
"""The same of what needs no module of ours."""
LANGUAGES = {"python", "bash", "json", "text", "mermaid", "html", "js", "ts"}
PATIENCE = 120  # seconds, for what takes a few

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

# Serves the app of a module until its input ends.
_SERVE = """
import asyncio, importlib, sys
from interruptible.testing import serve
async def main():
    async with serve(importlib.import_module(sys.argv[1]).app) as url:
        print(url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""

# Commands stop at the first that fails, and sleep until there is a line to read.
_BASH = """
set -e
shopt -s expand_aliases
alias curl='curl --silent --show-error --fail-with-body'
sleep() { read -r; }
"""
_FAIL = " --fail-with-body"  # what makes a refusal a failure of `curl`


@dataclass(frozen=True)
class Block:
    """One fenced block of code."""

    page: str
    line: int
    language: str
    text: str
    mark: str
    """The comment before it."""

    @property
    def name(self) -> str | None:
        """The file that it is, if it is one."""
        first = {"python": r"# (\w+\.py)\n", "html": r"<!-- (\w+\.html) -->\n"}
        found = re.match(first[self.language], self.text) if self.language in first else None
        return found[1] if found else None

    @property
    def is_run(self) -> bool:
        """Whether the page's test has to use it."""
        if self.page == "docs/reference.md" and self.language != "python":
            return False  # signatures and schemas, from the source
        return (
            self.language != "mermaid"
            and self.mark != "demo"
            and not self.mark.startswith("not run: ")
        )

    def __str__(self) -> str:
        first = self.text.partition("\n")[0]
        return f"{self.page}:{self.line} ({self.language}: {first})"


class Page:
    """One page of the documentation."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.text = (ROOT / path).read_text()
        self.blocks = [
            Block(
                path,
                self.text.count("\n", 0, match.start("text")),
                match["language"],
                match["text"],
                match["mark"] or "",
            )
            for match in _FENCE.finditer(self.text)
        ]

    @property
    def prose(self) -> str:
        """The page without its blocks of code."""
        return _FENCE.sub("", self.text)

    def between(self, marker: str) -> str:
        """Return what stands between `<!-- marker -->` and `<!-- /marker -->`."""
        start, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->"
        return self.text.split(start)[1].split(end)[0]


class Reader:
    """Follows one page, in an empty folder and with a server; at the end all has to be used.

    Attributes:
        said: The output of the program that is served, in lines.

    """

    def __init__(self, page: Page, server: Restate, folder: Path) -> None:
        self.page = page
        self.server = server
        self.folder = folder
        self.said: list[str] = []
        self.unused = [block for block in page.blocks if block.is_run]
        self.hosts = {
            "localhost:8080": server.ingress_url.removeprefix("http://"),
            "localhost:9070": server.admin_url.removeprefix("http://"),
        }
        self._stack = AsyncExitStack()
        self._started = AsyncExitStack()
        self._said_more = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()
        await self._started.aclose()
        if error is None:
            left = "\n".join(map(str, self.unused))
            assert not left, f"no test runs these blocks:\n{left}"

    # -- files and lines ---------------------------------------------------------------------

    def write(self, name: str, replace: Mapping[str, str] | None = None) -> str:
        """Write the next block that is this file, with some of its text replaced."""
        text = self._take(lambda block: block.name == name, name).text
        for old, new in (replace or {}).items():
            assert old in text, f"{name} of {self.page.path} has no {old!r}"
            text = text.replace(old, new)
        (self.folder / name).write_text(self._local(text))
        return text

    def write_lines(self, name: str, *, before: str) -> None:
        """Write the next block of Python that is not a file into one, after some other lines."""
        block = self._take(lambda b: b.language == "python" and b.name is None, "lines of Python")
        (self.folder / name).write_text(f"{before}\n{block.text}")

    async def run_lines(self, **names: Any) -> dict[str, Any]:
        """Run the next block of Python that is not a file; returns the names that it defines."""
        block = self._take(lambda b: b.language == "python" and b.name is None, "lines of Python")
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        where = f"{block.page}, block in line {block.line}"
        code = compile(self._local(block.text), where, "exec", flags=flags, dont_inherit=True)
        result = eval(code, names)  # noqa: S307 - it is our own documentation
        if inspect.isawaitable(result):
            await asyncio.wait_for(result, PATIENCE)
        return names

    def settings(self) -> Any:
        """Take the next block of JSON, which is the settings of some program."""
        block = self._take(lambda b: b.language == "json", "settings")
        return json.loads(self._local(block.text))

    # -- programs ----------------------------------------------------------------------------

    async def serve(self, name: str) -> None:
        """Serve the app of a file in a process of its own, and register it; replaces the last."""
        await self._stack.aclose()
        process = await self._spawn(sys.executable, "-c", _SERVE, Path(name).stem)
        self._stack.push_async_callback(_end, process, process.kill)
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode().strip()
        if not url.startswith("http"):
            more = (await process.stdout.read()).decode()
            msg = f"{name} of {self.page.path} cannot be served:\n{url}\n{more}"
            raise AssertionError(msg)
        self._listen(process.stdout)
        await self.server.register(url)

    async def start_worker(self, name: str) -> asyncio.subprocess.Process:
        """Start a file of the page that serves; returns when hypercorn says that it listens."""
        process = await self._spawn(sys.executable, name)
        self._started.push_async_callback(_end, process, process.kill)
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readuntil(b"Running on"), PATIENCE)
        self._listen(process.stdout)
        return process

    async def start(self, *command: str, until: str, cwd: Path = ROOT, **env: str) -> None:
        """Start a program of the repository, wait until it says so; at the end, press Ctrl-C."""
        process = await self._spawn(*command, cwd=cwd, **env)
        self._started.push_async_callback(_end, process, lambda: process.send_signal(signal.SIGINT))
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readuntil(until.encode()), PATIENCE)
        assert said
        draining = asyncio.ensure_future(process.stdout.read())
        self._started.callback(draining.cancel)

    async def until_said(self, text: str, times: int = 1) -> None:
        """Wait until the program that is served has said it."""

        async def wait() -> None:
            while sum(text in line for line in self.said) < times:
                self._said_more.clear()
                await self._said_more.wait()

        try:
            await asyncio.wait_for(wait(), PATIENCE)
        except asyncio.TimeoutError:
            msg = f"{self.page.path}: {text!r} was not said {times} times, but: {self.said}"
            raise AssertionError(msg) from None

    async def run(self, *command: str, sleeps: Sequence[str | Awaitable[None]] = ()) -> str:
        """Run a program to its end, which has to be a good one; returns its output."""
        process = await self._spawn(*command)
        assert process.stdin is not None
        try:
            for sleep in sleeps:
                await (self.until_said(sleep) if isinstance(sleep, str) else sleep)
                process.stdin.write(b"\n")
            output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        finally:
            if process.returncode is None:
                process.kill()
        text = output.decode()
        assert process.returncode == 0, f"{self.page.path}: {command[-1]}\nfailed:\n{text}"
        return text

    async def shell(self, *sleeps: str | Awaitable[None], refused: bool = False) -> str:
        """Run the next block of commands; compares the output, if the next block is that.

        Args:
            sleeps: What the program that is served says when a `sleep` among the commands is over,
                or what is awaited for that.
            refused: Some requests are meant to be refused, as the output then has to say.

        """
        block = self._take(lambda b: b.language == "bash", "commands")
        assert len(sleeps) == len(re.findall("^sleep ", block.text, re.MULTILINE)), (
            f"the sleeps of {block}"
        )
        before = _BASH.replace(_FAIL, "") if refused else _BASH
        output = await self.run("bash", "-c", before + self._local(block.text), sleeps=sleeps)
        assert refused == bool(re.search(r'"code": ?4\d\d', output)), f"{block}:\n{output}"
        following = self.page.blocks[self.page.blocks.index(block) + 1 :]
        if following and following[0].language in ("json", "text") and following[0].is_run:
            expected = following[0]
            self._take(lambda b: b is expected, "the output")
            got, meant = _squeeze(output), _squeeze(self._local(expected.text))
            pattern = ".*".join(map(re.escape, meant.split("…")))
            assert re.fullmatch(pattern, got, re.DOTALL), f"{expected} is in fact:\n{output}"
        return output

    # -- how ---------------------------------------------------------------------------------

    def _take(self, wanted: Callable[[Block], bool], what: str) -> Block:
        block = next(filter(wanted, self.unused), None)
        assert block is not None, f"{self.page.path} has no {what} (any more)"
        self.unused.remove(block)
        return block

    def _local(self, text: str) -> str:
        for documented, real in self.hosts.items():
            text = text.replace(documented, real)
        return text

    async def _spawn(
        self, *command: str, cwd: Path | None = None, **env: str
    ) -> asyncio.subprocess.Process:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        modules = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd or self.folder,
            env={
                **os.environ,
                "PATH": path,
                "PYTHONPATH": modules,
                "PYTHONUNBUFFERED": "1",
                "RESTATE_INGRESS_URL": self.server.ingress_url,
                **env,
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    def _listen(self, stdout: asyncio.StreamReader) -> None:
        async def listen() -> None:
            while line := await stdout.readline():
                self.said.append(line.decode().rstrip())
                self._said_more.set()

        self._stack.callback(asyncio.ensure_future(listen()).cancel)


async def _end(process: asyncio.subprocess.Process, how: Callable[[], None]) -> None:
    if process.returncode is None:
        how()
    try:
        await asyncio.wait_for(process.wait(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()


def _squeeze(text: str) -> str:
    return re.sub(r"\s+", "", text)

"""What stands in for a model, whatever the framework, and the tools that it calls.

A module of a framework makes one of its own models of an `Offline`: it tells it each request as
neutral messages, and gives the answer as the framework's model would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from restate import RunOptions, TerminalError
from restate.extensions import current_context

from interruptible import current_task
from tests.server import conftest as server
from tests.server.conftest import LONG, eventually

if TYPE_CHECKING:
    from interruptible import Message


@dataclass
class Answer:
    """What the model answers.

    Attributes:
        pieces: Its words, as they are streamed.
        calls: The calls of tools: id, name and arguments.
        stays: Whether it never comes to an end after its words.
        thoughts: What it thinks before, as it is streamed.
        breaks: Whether the connection breaks after its words.
    """

    pieces: tuple[str, ...] = ()
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    stays: bool = False
    thoughts: tuple[str, ...] = ()
    breaks: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def says(*pieces: str) -> Answer:
    return Answer(pieces)


def calls(**tools: str) -> Answer:
    """Calls of tools by their ids, each with one word: `calls(a="look moon")`."""
    made = [(call, *tool.split()) for call, tool in tools.items()]
    return Answer(calls=tuple((call, name, {"word": word}) for call, name, word in made))


Script = Callable[[list["Message"]], Answer]


class Log(server.Log):
    def __init__(self) -> None:
        super().__init__()
        self._held: dict[Any, asyncio.Event] = {}

    def hold(self, *names: str) -> None:
        """Let steps of these names not end before `let` says so."""
        self._held |= {name: asyncio.Event() for name in names}

    def let(self, *names: str) -> None:
        for name in names:
            self._held[name].set()

    async def step(self, name: Any, seconds: float = 0.0, result: str | None = None) -> str:
        if name not in self._held:
            return await super().step(name, seconds, result)
        await self.add("begin", name)
        try:
            await self._held[name].wait()
        except asyncio.CancelledError:
            self.note("abort", name)
            raise
        await self.add("end", name)
        return result or str(name)

    async def first(self, kind: str) -> Any:
        """What the first event of this kind says, as soon as there is one."""

        async def found() -> Any:
            return [event[1] for event in self.of(kind)]

        return (await eventually(found))[0]


class Notes(Protocol):
    """Where it is noted what happens: a `Log`, or a file."""

    async def add(self, *event: Any) -> None: ...
    async def step(self, name: Any, seconds: float = ..., result: str | None = ...) -> str: ...


@dataclass
class Offline:
    """Answers each request by a script, which looks at nothing but the request.

    Attributes:
        log: Where it is noted that it was `asked`, that it has `said` its words, and that it ends.
        script: What it answers to neutral messages, without those of the system.
        requests: All that it was asked, in order.
    """

    log: Notes
    script: Script
    requests: list[list[Message]] = field(default_factory=list)

    async def answer(self, messages: list[Message]) -> Answer:
        """The answer to a request; called within the durable step."""
        asked = [message for message in messages if message["role"] != "system"]
        self.requests.append(asked)
        await self.log.add("asked", len(self.requests))
        return self.script(asked)

    async def end(self, answer: Answer) -> None:
        """Called within the step when all words were given away."""
        if answer.breaks:
            raise ConnectionError("gone")
        if answer.stays:
            await self.log.add("said", answer.text)
            await self.log.step("stay", LONG)


def last(messages: list[Message]) -> str:
    """The text of the last message that is the user's."""
    texts = [x["content"] for x in messages if x["role"] == "user"]
    return str(texts[-1])


def tools(log: Notes) -> dict[str, Callable[..., Awaitable[str]]]:
    """Tools of one word each; all that they do is done in durable steps."""

    async def look(word: str) -> str:
        """Look something up.

        Args:
            word: What to look up.
        """
        return await _step("look", log.step, name=f"look {word}", result=f"found {word}")

    async def slow(word: str) -> str:
        """Look something up that takes very long.

        Args:
            word: What to look up.
        """
        await _step("slow", log.step, name=f"slow {word}", seconds=LONG)
        await log.add("stays")
        await _context().signal("never")
        return f"never found {word}"

    async def hold(word: str) -> str:
        """Wait for somebody.

        Args:
            word: Whom to wait for.
        """
        await promised(log, "held")
        return f"{word} came"

    async def fail(word: str) -> str:
        """Fail.

        Args:
            word: At what.
        """
        await _step("fail", log.step, name=f"fail {word}")
        raise TerminalError(f"no {word} today", 418)

    async def turn(word: str) -> str:
        """Tell the number of the turn.

        Args:
            word: What it is called.
        """
        return f"{word} {current_task().turn}"

    async def swallow(word: str) -> str:
        """Look something up that takes very long, and make a result of whatever ends it.

        Args:
            word: What to look up.
        """
        try:
            return await slow(word)
        except Exception as error:  # noqa: BLE001
            return f"swallowed {error}"

    tried: set[str] = set()

    async def flaky(word: str) -> str:
        """Look something up, and break the first time.

        Args:
            word: What to look up.
        """
        found = await look(word)
        if word not in tried:
            tried.add(word)
            raise ConnectionError("gone")
        return found

    async def odd(word: str) -> str:
        """Say something that cannot be stored.

        Args:
            word: What to say before.
        """
        return f"{word} \ud800"

    made = (look, slow, hold, fail, turn, swallow, flaky, odd)
    return {tool.__name__: tool for tool in made}


async def promised(log: Notes, kind: str) -> Any:
    """Wait for a durable promise, of which it is noted how it is kept."""
    promise, answer = _context().awakeable()
    await log.add(kind, promise)
    return await answer


def _context() -> Any:
    ctx = current_context()
    assert ctx is not None
    return ctx


async def _step(title: str, action: Callable[..., Awaitable[str]], **arguments: Any) -> str:
    return str(await _context().run_typed(title, action, RunOptions(), **arguments))

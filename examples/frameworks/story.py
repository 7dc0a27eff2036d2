"""A person changes their mind, three times, while a travel agent works; shown as it happens.

The agent is one of a framework, and all of it is real (server, HTTP, cancellation) but its model.
What must have happened is checked at the end, and the exit code tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import restate

from examples.quickstart.screen import Screen
from interruptible import Session
from interruptible.testing import restate_server, serve

if TYPE_CHECKING:
    from typing_extensions import Self

    from interruptible import Agent

PATIENCE = 30.0  # seconds until something counts as not happening


def play(agent: Agent, framework: str) -> None:
    """Start everything, play the story, check what happened, and stop everything."""
    logging.basicConfig(level=logging.CRITICAL)  # frameworks log what is cut off as errors
    try:
        asyncio.run(_play(agent, framework))
    except NotAsToldError as error:
        sys.exit(f"Not as told: {error}")


class NotAsToldError(RuntimeError):
    """Something did not happen as the story tells it."""


async def _play(agent: Agent, framework: str) -> None:
    screen = Screen()
    screen.title(f"A travel agent of {framework}, interrupted")
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serve(restate.app(agent.services)))
        server = await stack.enter_async_context(restate_server())
        await server.register(url)
        story = stack.enter_context(_Story(screen, Session(server.client, agent, "ada")))
        await story.tell()
        await story.check()
    screen.line()
    screen.line(f"All as told, in {screen.seconds():.0f} s.")


class _Story(logging.Handler):
    """What the person says, and what the agent's tools and the model's stand-in say they do."""

    def __init__(self, screen: Screen, session: Session) -> None:
        super().__init__()
        self.screen, self.session = screen, session
        self.said: list[str] = []
        self.changed = asyncio.Event()

    def __enter__(self) -> Self:
        logger = logging.getLogger("travel")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("travel").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is done, and show it."""
        text = record.getMessage()
        self.said.append(text)
        self.changed.set()
        if record.levelno > logging.DEBUG:
            who = "model" if "request" in text else "tool"
            self.screen.event(who, text, "yellow" if "cut off" in text else "")

    async def tell(self) -> None:
        """Say four things, each while the agent is at work."""
        self.screen.title("1. A message while a tool runs joins the turn: steer")
        await self.say("Plan a weekend in Rome.")
        await self.until("looks up hotels in Rome")
        await self.say("Something cheap, please.", policy="steer")
        await self.until("found a room in Rome")

        self.screen.title("2. A message while the model speaks interrupts it: its words are kept")
        await self.until("8 words")
        await self.say("No, Lisbon instead.")

        self.screen.title("3. A message while a slow tool runs interrupts that")
        await self.until("found a night train to Lisbon", "looks up hotels in Lisbon")
        receipt = await self.say("Stop, I stay at home.")
        outcome = await self.session.attach(receipt["turn"])
        expect(outcome["status"] == "completed", f"the last turn: {outcome}")
        self.screen.event("answer", outcome["messages"][-1]["content"], "green")

    async def say(self, text: str, **options: Any) -> Any:
        self.screen.event("ada", f"“{text}”", "bold")
        receipt = await self.session.send(text, **options)
        more = "".join(f", interrupts turn {turn}" for turn in receipt["interrupted"])
        self.screen.event("receipt", f"turn {receipt['turn']}, {receipt['status']}{more}")
        return receipt

    async def until(self, *texts: str) -> None:
        """Wait until all this was done, since the last that was waited for."""

        async def done() -> None:
            while not {*texts} <= {*self.said}:
                self.changed.clear()
                await self.changed.wait()
            self.said.clear()

        try:
            await asyncio.wait_for(done(), PATIENCE)
        except asyncio.TimeoutError:
            raise NotAsToldError(f"this did not happen: {', '.join(texts)}") from None

    async def check(self) -> None:
        """Show the conversation, and check that nothing in it is missing."""
        self.screen.title("The conversation, as the next request to the model has it")
        for message in await self.session.history():
            self.screen.row(message["role"], _shown(message))
        turns = (await self.session.turns())["turns"]
        ends = [turn["status"] for turn in turns]
        expect(ends == ["interrupted", "interrupted", "completed"], f"the turns ended: {ends}")
        first, second, third = ([*map(_shown, turn["messages"])] for turn in turns)
        expect(first[0].startswith("calls find_trains, find_hotels"), f"of Rome: {first}")
        found = ["a night train to Rome", "a room in Rome", "Something cheap, please."]
        expect(first[1:4] == found, f"of Rome: {first}")
        expect(re.fullmatch(r"For a weekend in Rome I have found .*", first[4]), f"words: {first}")
        expect("Shall I book?" not in first[4], f"the answer was complete: {first}")
        expect("a night train to Lisbon" in second, f"of Lisbon: {second}")
        expect(any(x.startswith("[Interrupted") for x in second), f"of Lisbon: {second}")
        expect("a night train to Lisbon" in third[-1], f"of home: {third}")
        self.screen.title("Checked")
        self.screen.row("ok", "what was steered stands in its place, and the model was told of it")
        self.screen.row("ok", "the words of the request that was cut off are kept")
        self.screen.row("ok", "what the quick tool had found is kept, the slow one was cut off")


def _shown(message: dict[str, Any]) -> str:
    names = [call["function"]["name"] for call in message.get("tool_calls") or ()]
    text = message["content"] or ""
    return f"calls {', '.join(names)} {text}".strip() if names else str(text)


def expect(holds: object, otherwise: str) -> None:
    """Raise unless something holds."""
    if not holds:
        raise NotAsToldError(otherwise)

"""The OpenAI Agents SDK in one process: a run is cancelled at once, and its stream read out.

What is said is in an `SQLiteSession`, in a file. The turns themselves are tasks of this process.
"""

import asyncio
import os
from typing import Any

import web
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    RunConfig,
    Runner,
    SessionSettings,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from agents.result import RunResultStreaming
from openai import AsyncOpenAI
from shared import WINDOW, clean_up, order_of

set_tracing_disabled(True)


@function_tool
def look() -> str:
    """What one step of several ends with."""
    return "seen"


MODEL = OpenAIChatCompletionsModel(
    "any", AsyncOpenAI(base_url=os.environ["PEER_MODEL"], api_key="none", max_retries=0)
)
AGENT = Agent(name="peer", model=MODEL, tools=[look])
CONFIG = RunConfig(session_settings=SessionSettings(limit=WINDOW))


class Turn:
    """What is at work in a session, or waits for it."""

    def __init__(self, before: "Turn | None") -> None:
        self.before = before
        self.run: RunResultStreaming | None = None
        self.is_over = False
        self.task: asyncio.Task[None]

    def interrupt(self) -> None:
        self.is_over = True
        if self.run is not None:
            self.run.cancel()


turns: dict[str, Turn] = {}
sessions: dict[str, SQLiteSession] = {}


def stored(session: str) -> SQLiteSession:
    if session not in sessions:
        sessions[session] = SQLiteSession(session, "sessions.db")
    return sessions[session]


async def work(session: str, turn: Turn, content: str) -> None:
    if turn.before is not None:
        await asyncio.wait({turn.before.task})
        turn.before = None
    mine: Any = {"role": "user", "content": content}
    if turn.is_over:  # by a later message, before it began
        await stored(session).add_items([mine])
        return
    order = order_of(mine)
    turn.run = Runner.run_streamed(AGENT, content, session=stored(session), run_config=CONFIG)
    try:
        async for _ in turn.run.stream_events():
            pass
    finally:
        if "cleanup" in order:
            await clean_up(order["tag"], order["cleanup"])


async def say(session: str, content: str, policy: str) -> None:
    before = turns.get(session)
    if before is not None and policy == "interrupt":
        before.interrupt()
    turn = turns[session] = Turn(before)
    turn.task = asyncio.create_task(work(session, turn, content))


async def read(session: str) -> list[Any]:
    return list(await stored(session).get_items())


if __name__ == "__main__":
    web.serve(say, read)

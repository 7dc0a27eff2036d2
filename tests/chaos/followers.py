"""Those who follow sessions: from the start or late, through to the end or cut off and resumed."""

import asyncio
import json
import random
import time
from contextlib import aclosing, suppress
from typing import Any, Final

from restate import RestateClient, TerminalError

from interruptible import Session

from .client import Client
from .records import Told

LATE: Final = 8.0
"""Seconds in which who is late comes."""
TRIES: Final = 60
"""How often it is tried to catch up; by then, all faults are over."""


class Follower:
    """One who follows a session, and writes down what came.

    Args:
        client: Whose ways to the server it has.
        agent: The agent.
        session: The session.
        number: Which of the session's followers it is.
        how: `start` or `late`: when it begins; `cut`: now and then it is cut off, and goes on.
        dice: What chooses when.
    """

    def __init__(
        self, client: Client, agent: str, session: str, number: int, how: str, dice: random.Random
    ) -> None:
        self.told: list[Told] = []
        self._client, self._agent, self._session = client, agent, session
        self._number, self._last = number, 0
        self._late = dice.uniform(0, LATE) if "late" in how else 0.0
        self._cut = "cut" in how
        self._dice = random.Random(dice.random())  # noqa: S311 - what it does changes no other

    async def follow(self) -> None:
        """Until it is cancelled."""
        await asyncio.sleep(self._late)
        while True:
            with suppress(asyncio.TimeoutError):
                seconds = self._dice.expovariate(1 / 2.0) if self._cut else None
                await asyncio.wait_for(self._follow(), seconds)
            await asyncio.sleep(self._dice.random() if self._cut else 0)

    async def catch_up(self) -> None:
        """Get all that is left."""
        while answer := await self._pull():
            for event in answer["messages"]:
                await self._see(event)

    async def _follow(self) -> None:
        session = Session(self._way(), self._agent, self._session)
        with suppress(TerminalError):  # a node that has just come knows no services yet
            async with aclosing(session.follow(self._last or None)) as events:
                async for event in events:
                    await self._see(dict(event))
        await asyncio.sleep(0.5)

    async def _see(self, event: dict[str, Any]) -> None:
        """Write it down; after a gap also what the record says, or the gap has not been seen."""
        record = await self._record() if event["type"] == "gap" else None
        self._note(event)
        self._last = event["id"]
        if record is not None:
            self._note({"type": "record", "turns": record})

    async def _record(self) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        before: int | None = None
        while True:
            body = {"before": before} if before else None
            answer = await self._client.read(self._agent, self._session, "get_turns", body)
            kept = ("turn", "status", "messages", "discarded")
            page = [{name: x[name] for name in kept if name in x} for x in answer["turns"]]
            turns, before = page + turns, answer["before"]
            if before is None:
                return turns

    async def _pull(self) -> dict[str, Any] | None:
        """What is new, if anything is."""
        body = json.dumps({"offset": self._last, "wait": 0}).encode()
        headers = {"Content-Type": "application/json"}
        failed: Exception | None = None
        for _ in range(TRIES):
            try:
                answer: dict[str, Any] = json.loads(
                    await self._way().generic_call(
                        f"{self._agent}Stream", "pull", body, key=self._session, headers=headers
                    )
                )
            except Exception as error:  # noqa: BLE001 - whatever the client makes of it
                failed = error
                await asyncio.sleep(0.5)
            else:
                return answer if answer["messages"] else None
        raise RuntimeError(f"{self._agent}Stream/{self._session} cannot be pulled") from failed

    def _way(self) -> RestateClient:
        return self._dice.choice(self._client.ways)

    def _note(self, event: dict[str, Any]) -> None:
        now = time.time()
        self.told.append(Told(now, self._agent, self._session, self._number, event))

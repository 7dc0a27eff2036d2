"""One who plays a session: says things to it, and knows what became of them."""

import asyncio
import random
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

from .client import Client
from .records import Op

POLICIES: Final = {"interrupt": 40, "rollback": 10, "queue": 18, "steer": 22, "reject": 10}
LONG_CLEANUP: Final = 4.0
REACH: Final = 3.0
"""Seconds until a turn has come as far as is wanted of it, or is let go."""
TIMES: Final = (0.0, 0.0, 0.4, 2.0)
"""Seconds that a turn waits for an approval; 0 for as long as it takes."""
REMEMBERED: Final = 6
"""How many of the latest messages may be changed; the others were read long ago."""


class Player:
    """What all that a script does is made of."""

    def __init__(
        self, client: Client, agent: str, session: str, folder: Path, dice: random.Random
    ) -> None:
        self._client, self._folder, self._random = client, folder, dice
        self.agent, self.session = agent, session
        self.turns: set[int] = set()
        self._said = self._newest = 0
        self._waiting: list[asyncio.Task[Op]] = []
        self._messages: list[int] = []
        """The ids of those that were accepted, in their order."""
        self._late = random.Random(dice.random())  # noqa: S311
        """What chooses where what there is to choose from depends on the time."""

    async def send(self, policy: str, plan: str, **more: Any) -> Op:
        body: dict[str, Any] = {"content": self._content(plan), "policy": policy}
        if self._newest and self._random.random() < 0.03:
            body["if_turn"] = self._newest
        if policy == "steer" and self._random.random() < 0.4:
            body["now"] = True
        if policy in ("interrupt", "rollback") and self._random.random() < 0.2:
            body["keep_queued"] = True
        if self._random.random() < 0.3:
            body["metadata"] = {"by": f"noted with {self.session}.{self._said}"}
        op = await self._call("message", body | more)
        self._note(op)
        return op

    def _call(self, name: str, body: Any = None) -> Awaitable[Op]:
        return self._client.call(self.agent, self.session, name, body)

    def _content(self, plan: str) -> str:
        self._said += 1
        return f"{self.session}.{self._said} {plan}"

    def _some_message(self) -> int:
        """One of the latest that were accepted; or one that there is not."""
        if self._random.random() < 0.03:
            return 10**6
        return self._random.choice(self._messages[-REMEMBERED:]) if self._messages else 0

    def _note(self, op: Op) -> None:
        if op.ok and op.said:
            self._messages.append(op.answer["message"])
        if op.ok and op.answer["status"] in ("running", "waiting"):
            self.turns.add(op.answer["turn"])
            self._newest = max(self._newest, op.answer["turn"])

    async def _think(self) -> None:
        if self._random.random() < 0.5:
            await asyncio.sleep(self._random.random() * 0.05)
        else:
            await asyncio.sleep(0.1 + self._random.random() * 0.6)

    def _plan(self, *, asks: bool = True) -> str:
        dice = self._random
        words = [f"steps={dice.randint(1, 4)}"]
        words.append(f"sleep={dice.choice([0.0, 0.01, 0.03, 0.1, 0.4, 2.0])}")
        if dice.random() < 0.6:
            undo = dice.randint(1, 5)
            words.append(f"undo={undo}")
            long = dice.random() < 0.12
            seconds = LONG_CLEANUP if long else dice.choice([0.0, 0.01, 0.05, 0.3])
            words.append(f"undo_sleep={seconds}")
            if long:
                words[-2] = "undo=1"
            if dice.random() < 0.1:
                words.append(f"undo_fail={dice.randrange(undo)}")
        chances = {"steer": 0.35, "nested": 0.15, "beside": 0.15, "delegate": 0.12, "swallow": 0.1}
        chances |= {"retry": 0.05, "fail": 0.04, "stream=8": 0.25, "now": 0.4}
        if dice.random() < 0.06 and asks:
            chances |= {f"ask={dice.choice(TIMES)}": 1.0, "both": 0.3}
        return " ".join(
            words + [word for word, chance in chances.items() if dice.random() < chance]
        )


def choose(dice: random.Random, weights: dict[str, int]) -> str:
    """One of these, by their weights."""
    return dice.choices(list(weights), list(weights.values()))[0]

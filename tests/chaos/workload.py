"""What people do to a session: messages with every policy, bursts, cancels, and the rest.

One script drives one session; all its choices come from its own seed.
"""

import asyncio
import random
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

from .client import Client
from .followers import Follower
from .gate import Gate
from .records import Op

POLICIES: Final = {"interrupt": 40, "rollback": 10, "queue": 18, "steer": 22, "reject": 10}
ACTIONS: Final = {
    "message": 62,
    "burst": 7,
    "cancel": 6,
    "rewind": 3,
    "regenerate": 4,
    "reset": 1,
    "attach": 9,
    "look": 8,
    "fork": 3,
    "ask_during_cleanup": 5,
}
AGENTS: Final = {"ChaosAgent": 14, "HastyAgent": 2, "QuietAgent": 4, "LastWordAgent": 2}
FOLLOWERS: Final = {"": 5, "start": 3, "late": 2, "start cut": 3, "late cut": 2}
"""When each of the two who may follow a session begins to, if any does; and who is cut off."""
LONG_CLEANUP: Final = 4.0
TURNS_OF_FORK: Final = 3
REACH: Final = 3.0
"""Seconds until a turn that is asked about during its cleanup has come that far, or is let go."""


class Script:
    """Plays one session, and counts the turns that came of it."""

    def __init__(
        self,
        client: Client,
        session: str,
        seed: str,
        folder: Path,
        *,
        turns: int,
        agent: str | None = None,
    ) -> None:
        self._client, self._seed, self._folder = client, seed, folder
        self._random = random.Random(f"{seed}/{session}")  # noqa: S311
        self.agent = agent or _choose(self._random, AGENTS)
        self.session = session
        self.turns: set[int] = set()
        self.forks: list[Script] = []
        """The sessions that came of this one, and are to be played, too."""
        self._wanted = turns
        self._said = self._forked = 0
        self._newest = 0
        self._waiting: list[asyncio.Task[Op]] = []
        dice = random.Random(f"{seed}/{session}/followers")  # noqa: S311
        chosen = [_choose(dice, FOLLOWERS) for _ in range(2 if client.ways else 0)]
        self.followers = [
            Follower(client, self.agent, session, number, how, dice)
            for number, how in enumerate(chosen, 1)
            if how
        ]

    async def play(self) -> None:
        """Do things until there are enough turns, and have it followed meanwhile."""
        following = [asyncio.ensure_future(x.follow()) for x in self.followers]
        try:
            for _ in range(4 * self._wanted):
                if len(self.turns) >= self._wanted:
                    break
                await getattr(self, _choose(self._random, ACTIONS))()
                await self._think()
            await asyncio.gather(*self._waiting)
        finally:
            for task in (*self._waiting, *following):
                task.cancel()
            if following:
                await asyncio.wait(following)
        for task in following:
            if not task.cancelled():
                task.result()  # it has failed

    async def finish(self) -> Op:
        """The last message, after all else: its turn is to complete."""
        self._newest = 0  # without preconditions
        last = await self.send("interrupt", "steps=1 sleep=0.01")
        await self._call("attach", {"turn": last.answer["turn"]} if last.ok else None)
        return last

    async def message(self) -> None:
        await self.send(_choose(self._random, POLICIES), self._plan())

    async def burst(self) -> None:
        """Several at once: in which order they are accepted nobody knows."""
        policy = _choose(self._random, POLICIES)
        many = self._random.randint(3, 6)
        plans = [self._plan() for _ in range(many)]
        await asyncio.gather(*(self.send(policy, plan) for plan in plans))

    async def send(self, policy: str, plan: str) -> Op:
        self._said += 1
        content = f"{self.session}.{self._said} {plan}"
        body: dict[str, Any] = {"content": content, "policy": policy}
        if self._newest and self._random.random() < 0.03:
            body["if_turn"] = self._newest
        op = await self._call("message", body)
        self._note(op)
        return op

    async def cancel(self) -> None:
        turn = {"turn": self._newest} if self._newest and self._random.random() < 0.3 else None
        await self._call("cancel", turn)

    async def rewind(self) -> None:
        if self._newest:
            turn = max(1, self._newest - self._random.randint(0, 3))
            await self._call("rewind", {"turn": turn})

    async def regenerate(self) -> None:
        if self._newest:
            self._note(await self._call("regenerate"))

    async def reset(self) -> None:
        await self._call("reset")

    async def attach(self) -> None:
        """To a turn, by two callers; sometimes the script waits for it."""
        turn = {"turn": self._newest} if self._newest else None
        if turn is None:
            return
        calls = [asyncio.ensure_future(self._call("attach", turn)) for _ in range(2)]
        self._waiting += calls
        if self._random.random() < 0.5:
            await asyncio.wait(calls, timeout=5.0)

    async def look(self) -> None:
        await asyncio.gather(self._call("get_status"), self._call("get_history"))

    async def fork(self) -> None:
        """Begin another session with the turns of this one, up to the last or an earlier one."""
        if not self._newest:
            return
        self._forked += 1
        session = f"{self.session}-fork{self._forked}"
        body: dict[str, Any] = {"session": session}
        if self._random.random() < 0.6:
            body["turn"] = self._random.randint(1, self._newest)
        op = await self._call("fork", body)
        if op.ok or op.unknown:
            fork = (self._client, session, self._seed, self._folder)
            self.forks.append(Script(*fork, turns=TURNS_OF_FORK, agent=self.agent))

    async def ask_during_cleanup(self) -> None:
        """Interrupt a turn whose cleanup ends only when all that is asked meanwhile is answered."""
        first = await self.send("interrupt", "steps=1 sleep=10 gate")
        gate = Gate(self._folder, str(first.said))
        if first.ok and await gate.until("work", REACH):
            await self._call("cancel", {"turn": first.answer["turn"]})
            if await gate.until("cleanup", REACH):
                await asyncio.gather(
                    self._call("get_status"),
                    self._call("get_history"),
                    self.send(_choose(self._random, POLICIES), "steps=1 sleep=0.03"),
                    self._call("cancel", {"turn": first.answer["turn"]}),
                )
        gate.reach("open")

    def _call(self, name: str, body: Any = None) -> Awaitable[Op]:
        return self._client.call(self.agent, self.session, name, body)

    def _note(self, op: Op) -> None:
        if op.ok and op.answer["status"] in ("running", "waiting"):
            self.turns.add(op.answer["turn"])
            self._newest = max(self._newest, op.answer["turn"])

    async def _think(self) -> None:
        if self._random.random() < 0.5:
            await asyncio.sleep(self._random.random() * 0.05)
        else:
            await asyncio.sleep(0.1 + self._random.random() * 0.6)

    def _plan(self) -> str:
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
        chances |= {"retry": 0.05, "fail": 0.04, "stream=8": 0.25}
        return " ".join(
            words + [word for word, chance in chances.items() if dice.random() < chance]
        )


def _choose(dice: random.Random, weights: dict[str, int]) -> str:
    return dice.choices(list(weights), list(weights.values()))[0]

"""What people do to a session: messages with every policy, bursts, cancels, and the rest.

One script drives one session; all its choices come from its own seed.
"""

import asyncio
import random
from pathlib import Path
from typing import Any, Final

from .changes import Changes
from .client import Client
from .followers import Follower
from .gate import Gate
from .player import POLICIES, REACH, choose
from .records import Op

ACTIONS: Final = {
    "message": 56,
    "burst": 7,
    "cancel": 6,
    "rewind": 3,
    "regenerate": 4,
    "reset": 1,
    "attach": 9,
    "look": 8,
    "fork": 3,
    "ask_during_cleanup": 5,
    "change": 9,
    "race": 5,
    "line_up": 3,
    "steer_now": 3,
    "stop": 5,
    "resume": 5,
    "edit": 3,
    "approve": 5,
    "answers": 2,
}
AGENTS: Final = {"ChaosAgent": 14, "HastyAgent": 2, "QuietAgent": 4, "LastWordAgent": 2}
FOLLOWERS: Final = {"": 5, "start": 3, "late": 2, "start cut": 3, "late cut": 2}
"""When each of the two who may follow a session begins to, if any does; and who is cut off."""
TURNS_OF_FORK: Final = 3


class Script(Changes):
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
        dice = random.Random(f"{seed}/{session}")  # noqa: S311
        super().__init__(client, agent or choose(dice, AGENTS), session, folder, dice)
        self._seed = seed
        self.forks: list[Script] = []
        """The sessions that came of this one, and are to be played, too."""
        self._wanted = turns
        self._forked = 0
        dice = random.Random(f"{seed}/{session}/followers")  # noqa: S311
        chosen = [choose(dice, FOLLOWERS) for _ in range(2 if client.ways else 0)]
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
                await getattr(self, choose(self._random, ACTIONS))()
                await self._think()
            while any(not x.done() for x in self._waiting):  # for turns that wait for approvals
                await self.answers()
                await asyncio.wait(self._waiting, timeout=0.5)
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
        last = await self.send("interrupt", "steps=1 sleep=0.01", keep_queued=False)
        await self._call("attach", {"turn": last.answer["turn"]} if last.ok else None)
        return last

    async def message(self) -> None:
        await self.send(choose(self._random, POLICIES), self._plan())

    async def burst(self) -> None:
        """Several at once: in which order they are accepted nobody knows."""
        policy = choose(self._random, POLICIES)
        many = self._random.randint(3, 6)
        plans = [self._plan() for _ in range(many)]
        await asyncio.gather(*(self.send(policy, plan) for plan in plans))

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
        """To a turn, or to what answers a message, by two; sometimes the script waits for it."""
        named = {"turn": self._newest} if self._newest else None
        if named is None:
            return
        if self._messages and self._random.random() < 0.4:
            named = {"message": self._some_message()}
        calls = [asyncio.ensure_future(self._call("attach", named)) for _ in range(2)]
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
        first = await self.send("interrupt", "steps=1 sleep=10 gate", keep_queued=False)
        gate = Gate(self._folder, str(first.said))
        if first.ok and await gate.until("work", REACH):
            await self._call("cancel", {"turn": first.answer["turn"]})
            if await gate.until("cleanup", REACH):
                await asyncio.gather(
                    self._call("get_status"),
                    self._call("get_history"),
                    self.send(choose(self._random, POLICIES), "steps=1 sleep=0.03"),
                    self._call("cancel", {"turn": first.answer["turn"]}),
                )
        gate.reach("open")

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
    "race": 6,
    "steer_now": 3,
    "stop": 5,
    "resume": 5,
    "edit": 3,
    "approve": 5,
    "answers": 2,
}
CHANGES: Final = {"withdraw": 3, "replace": 3, "promote": 3, "steer": 2, "steer now": 1}
TIMES: Final = (0.0, 0.0, 0.4, 2.0)
"""Seconds that a turn waits for an approval; 0 for as long as it takes."""
REMEMBERED: Final = 6
"""How many of the latest messages may be changed; the others were read long ago."""
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
        self._messages: list[int] = []
        """The ids of those that were accepted, in their order."""
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
        await self.send(_choose(self._random, POLICIES), self._plan())

    async def burst(self) -> None:
        """Several at once: in which order they are accepted nobody knows."""
        policy = _choose(self._random, POLICIES)
        many = self._random.randint(3, 6)
        plans = [self._plan() for _ in range(many)]
        await asyncio.gather(*(self.send(policy, plan) for plan in plans))

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

    async def cancel(self) -> None:
        turn = {"turn": self._newest} if self._newest and self._random.random() < 0.3 else None
        await self._call("cancel", turn)

    async def stop(self) -> None:
        """In good order; and at once, when that takes too long."""
        if self._random.random() < 0.6:
            await self.send("interrupt", self._plan())
            await self._think()
        body: dict[str, Any] = {"after_step": True}
        if self._newest and self._random.random() < 0.3:
            body["turn"] = self._newest
        op = await self._call("cancel", body)
        if self._random.random() < 0.3:
            await self._think()
            await self._call("cancel", {"turn": op.answer["cancelled"][0]} if _any(op) else None)

    async def resume(self) -> None:
        """Go on with the last turn, mostly when it has been cut off."""
        turn = {"turn": self._newest} if self._newest and self._random.random() < 0.3 else None
        if self._newest and self._random.random() < 0.8:
            await self._call(
                "cancel", {"after_step": True} if self._random.random() < 0.3 else None
            )
            ends = asyncio.ensure_future(self._call("attach", {"turn": self._newest}))
            self._waiting.append(ends)
            await asyncio.wait([ends], timeout=REACH)
        self._note(await self._call("resume", turn))

    async def edit(self) -> None:
        if self._newest:
            turn = max(1, self._newest - self._random.randint(0, 2))
            content = self._content(self._plan())
            self._note(await self._call("edit", {"turn": turn, "content": content}))

    async def change(self) -> None:
        """Change a message that is pending, or may be; now and then one that there never was."""
        message, pending = self._some_message(), list[int]()
        if self._random.random() < 0.6:
            status = await self._call("get_status")
            pending = [x["id"] for x in status.answer["pending"]] if status.ok else []
        if pending:
            message = self._random.choice(pending)
        if message:
            await self._change(message)

    async def race(self) -> None:
        """Two at once change a message that has just come, while turns begin and take messages."""
        op = await self.send(_choose(self._random, {"queue": 2, "steer": 1}), self._plan())
        if op.ok:
            message = op.answer["message"]
            await asyncio.gather(self._change(message), self._change(message))

    async def _change(self, message: int) -> None:
        what = _choose(self._random, CHANGES)
        body: dict[str, Any] = {"message": message}
        if what == "replace":
            body["content"] = self._content(self._plan())
        elif what == "promote":
            body["policy"] = "interrupt"
        elif what != "withdraw":
            body |= {"policy": "steer"} | ({"now": True} if what == "steer now" else {})
        name = what if what in ("withdraw", "replace") else "promote"
        op = await self._call(name, body)
        if name == "promote":
            self._note(op)

    async def steer_now(self) -> None:
        """Steer at a turn whose step lasts for long, and ends only by what is read at once."""
        first = await self.send("interrupt", "steps=1 sleep=10 gate now", keep_queued=False)
        gate = Gate(self._folder, str(first.said))
        if first.ok and await gate.until("work", REACH):
            await self.send("steer", "steps=1", now=True)
            await self._think()
        await self._call("cancel", {"turn": first.answer["turn"]} if first.ok else None)
        gate.reach("open")

    async def approve(self) -> None:
        """Have a turn ask for something, and answer that when it is listed; or say something."""
        ask = f"ask={self._random.choice(TIMES)}" + self._random.choice(["", " both"])
        op = await self.send("interrupt", f"{self._plan(asks=False)} {ask}", keep_queued=False)
        for _ in range(int(REACH / 0.3) if op.ok else 0):
            await asyncio.sleep(0.3)
            if await self.answers():
                return

    async def answers(self) -> bool:
        """Answer what turns wait for, some of it twice; and now and then what nobody asked."""
        status = await self._call("get_status")
        asked = [x["id"] for x in status.answer["waiting_for"]] if status.ok else []
        waits = bool(asked)
        asked += [x for x in asked if self._random.random() < 0.3]
        if self._random.random() < 0.1:
            asked.append(self._random.choice([1, 1000]))
        says = [self._answer(x) for x in asked]
        if asked and self._random.random() < 0.15:
            says.append(self.message())
        await asyncio.gather(*says)
        return waits

    async def _answer(self, approval: int) -> None:
        self._said += 1
        body: dict[str, Any] = {"approval": approval, "approved": self._random.random() < 0.7}
        body |= {"reason": f"{self.session}.{self._said}", "value": {"said": self._said}}
        await self._call("answer", body)

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
                    self.send(_choose(self._random, POLICIES), "steps=1 sleep=0.03"),
                    self._call("cancel", {"turn": first.answer["turn"]}),
                )
        gate.reach("open")

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


def _choose(dice: random.Random, weights: dict[str, int]) -> str:
    return dice.choices(list(weights), list(weights.values()))[0]


def _any(op: Op) -> bool:
    return op.ok and bool(op.answer["cancelled"])

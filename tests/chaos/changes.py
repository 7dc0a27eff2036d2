"""What changes what was said, and what a turn does: the actions of a script that do so."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from .gate import Gate
from .player import POLICIES, REACH, TIMES, Player, choose
from .records import Op

CHANGES: Final = {"withdraw": 3, "replace": 3, "promote": 3, "steer": 2, "steer now": 1}


class Changes(Player):
    """Those actions of a script."""

    async def stop(self) -> None:
        """In good order; and at once, when that takes too long."""
        await self._begin(0.8)
        body: dict[str, Any] = {"after_step": True}
        if self._newest and self._random.random() < 0.3:
            body["turn"] = self._newest
        op = await self._call("cancel", body)
        if self._random.random() < 0.3:
            await self._think()
            await self._call("cancel", {"turn": op.answer["cancelled"][0]} if _any(op) else None)

    async def resume(self) -> None:
        """Go on with the last turn, mostly when it has been cut off or stopped."""
        await self._begin(0.6)
        turn = {"turn": self._newest} if self._newest and self._random.random() < 0.3 else None
        if self._newest and self._random.random() < 0.8:
            gently = self._random.random() < 0.4
            await self._call("cancel", {"after_step": True} if gently else None)
            ends = asyncio.ensure_future(self._call("attach", {"turn": self._newest}))
            self._waiting.append(ends)
            await asyncio.wait([ends], timeout=REACH)
        self._note(await self._call("resume", turn))

    async def _begin(self, chance: float) -> None:
        """Have a turn at work on several steps, with this chance."""
        sleep, wanted = self._random.choice([0.1, 0.3, 1.0]), self._random.random() < chance
        plan = f"{self._plan()} steps=4 sleep={sleep} gate"
        if wanted:
            op = await self.send("interrupt", plan, keep_queued=False)
            gate = Gate(self._folder, str(op.said))
            gate.reach("open")  # its cleanup is not to wait
            if op.ok:
                await gate.until("work", REACH)
                await self._think()

    async def edit(self) -> None:
        if self._newest:
            turn = max(1, self._newest - self._random.randint(0, 2))
            content = self._content(self._plan())
            self._note(await self._call("edit", {"turn": turn, "content": content}))

    async def change(self) -> None:
        """Change a message that is pending, or may be; now and then one that there never was."""
        message, pending, change = self._some_message(), list[int](), self._some_change()
        if self._random.random() < 0.6:
            status = await self._call("get_status")
            pending = [x["id"] for x in status.answer["pending"]] if status.ok else []
        if pending:
            message = self._late.choice(pending)
        if message:
            await self._change(message, *change)

    async def race(self) -> None:
        """Two at once change a message that has just come, while turns begin and take messages."""
        changes = [self._some_change() for _ in range(2)]
        op = await self.send(choose(self._random, {"queue": 2, "steer": 1}), self._plan())
        if op.ok:
            message = op.answer["message"]
            await asyncio.gather(*(self._change(message, *change) for change in changes))

    async def line_up(self) -> None:
        """Several wait in a line, and one of them is changed: mostly it is to be the next."""
        place, (what, content) = self._random.randrange(3), self._some_change()
        if self._random.random() < 0.5:
            what = "promote"
        line = [await self.send("queue", self._plan()) for _ in range(3)]
        if line[place].ok:
            await self._change(line[place].answer["message"], what, content)

    def _some_change(self) -> tuple[str, str]:
        """What is changed, and what it says instead if it is replaced."""
        return choose(self._random, CHANGES), self._content(self._plan())

    async def _change(self, message: int, what: str, content: str) -> None:
        body: dict[str, Any] = {"message": message}
        if what == "replace":
            body["content"] = content
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
        asked += [x for x in asked if self._late.random() < 0.3]
        if self._late.random() < 0.1:
            asked.append(self._late.choice([1, 1000]))
        says: list[Awaitable[Any]] = [self._answer(x) for x in asked]
        if asked and self._late.random() < 0.15:
            says.append(self.send(choose(self._late, POLICIES), "steps=2"))
        await asyncio.gather(*says)
        return waits

    async def _answer(self, approval: int) -> None:
        self._said += 1
        body: dict[str, Any] = {"approval": approval, "approved": self._late.random() < 0.7}
        body |= {"reason": f"{self.session}.{self._said}", "value": {"said": self._said}}
        await self._call("answer", body)


def _any(op: Op) -> bool:
    return op.ok and bool(op.answer["cancelled"])

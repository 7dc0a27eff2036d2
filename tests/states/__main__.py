"""Write what this version stores of a few sessions, to be read by all later ones.

    python -m tests.states [FOLDER]

Writes `<version>.json`: for each session what is in its state, and what the version answered of it.
A released file is never written again. To have an earlier version write one, run this folder by
that version's Python: it asks nothing of the library that the first did not have.
"""

import asyncio
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import restate

from interruptible import Session
from interruptible.testing import Restate, harness

from .agent import Stored

HERE = Path(__file__).parent
SHORT, LONG, FORK, BUSY = "short", "long", "fork", "busy"
SECOND = "second"
"""With what came in 0.2.0."""


class Sessions:
    """Makes the sessions, by what goes over the wire alone."""

    def __init__(self, running: Restate, agent: Stored) -> None:
        self.restate = running
        self.agent = agent
        self.keys = [SHORT, LONG, FORK, BUSY]

    async def call(self, key: str, handler: str, body: Any = None) -> Any:
        """Call a handler of a session's."""
        return await Session(self.restate.client, "Stored", key).call(handler, body)

    async def ask(self, key: str, content: str, **options: Any) -> None:
        """Say something, and wait until it is answered."""
        receipt = await self.call(key, "message", {"content": content, **options})
        await self.call(key, "attach", {"turn": receipt["turn"]})

    async def interrupt(self, key: str, **options: Any) -> None:
        """Say something that is worked on, and then something else."""
        await self.begin(key)
        await self.ask(key, "answer instead", **options)

    async def begin(self, key: str) -> None:
        """Say something that is worked on for as long as it is let."""
        self.agent.at_work.clear()
        await self.call(key, "message", {"content": "wait here"})
        await self.agent.at_work.wait()

    async def make(self) -> None:
        """Make them all."""
        await self.ask(SHORT, "call one")
        await self.interrupt(SHORT)
        await self.interrupt(SHORT, policy="rollback")
        await self.begin(SHORT)
        await self.call(SHORT, "cancel", {"reason": "It is late."})
        await self.call(SHORT, "attach")
        for n in range(10):
            await self.ask(LONG, f"answer {n}")
            await self.ask(LONG, f"long {9 if n == 1 else 3}")
        await self.interrupt(LONG, policy="rollback")
        await self.call(LONG, "rewind", {"turn": 19})
        await self.call(SHORT, "fork", {"turn": 3, "session": FORK})
        await self.ask(FORK, "answer otherwise")
        await self.ask(BUSY, "call two")
        await self.begin(BUSY)
        await self.call(BUSY, "message", {"content": "answer this too", "policy": "steer"})
        await self.call(BUSY, "message", {"content": "answer later", "policy": "queue"})
        if not hasattr(Session, "resume"):
            return
        self.keys.append(SECOND)
        await self.ask(SECOND, "call one", metadata={"from": "Ada"})
        await self.begin(SECOND)
        await self.call(SECOND, "cancel", {"after_step": True, "reason": "It is late."})
        await self.call(SECOND, "cancel")
        await self.call(SECOND, "attach", {"turn": 2})
        receipt = await self.call(SECOND, "resume")
        await self.call(SECOND, "attach", {"turn": receipt["turn"]})
        receipt = await self.call(SECOND, "message", {"content": "ask leave"})
        while not (asked := (await self.call(SECOND, "get_status"))["waiting_for"]):
            await asyncio.sleep(0.02)
        answer = {"approval": asked[0]["id"], "approved": True}
        await self.call(SECOND, "answer", answer)
        await self.call(SECOND, "attach", {"turn": receipt["turn"]})

    async def told(self, key: str) -> dict[str, Any]:
        """What is stored of a session, and what it says of itself."""
        where = f"service_name = 'Stored' AND service_key = '{key}'"
        rows = await self.restate.query(
            f"SELECT key, encode(value, 'hex') AS value FROM state WHERE {where} ORDER BY key"  # noqa: S608
        )
        return {
            "state": {row["key"]: row["value"] for row in rows},
            "get_history": await self.call(key, "get_history"),
            "get_turns": await self.call(key, "get_turns", {"limit": 100}),
            "get_status": await self.call(key, "get_status"),
        }


async def main() -> None:
    """Make them, and write them."""
    agent = Stored()
    async with harness(restate.app(services=agent.services)) as running:
        sessions = Sessions(running, agent)
        await sessions.make()
        kept = {key: await sessions.told(key) for key in sessions.keys}
        await sessions.call(BUSY, "cancel")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    file = folder / f"{version('restate-interruptible')}.json"
    file.write_text(json.dumps(kept, separators=(",", ":")) + "\n")
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    asyncio.run(main())

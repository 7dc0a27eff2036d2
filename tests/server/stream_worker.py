"""A worker process that streams, and that tests kill: `… PORT FOLDER NAME INGRESS`.

Several of them share one port. Each notes in `FOLDER/log` when it is up, and which turns it speaks
in. It says the words in `FOLDER/words TURN`, a line each, as they are written there, until one is
`.`; or all of `WORDS`, if there is no such file. Of these, the first turn says no more than 150
before there is a `FOLDER/interrupted`. If there is a `FOLDER/slow`, its stream takes three seconds
to tell what was said.
"""

import asyncio
import functools
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from restate import Context, RunOptions

from interruptible import Agent, Steered, Task
from interruptible._stream import handlers
from interruptible.stream import Stream

WORDS = [f"{n} " for n in range(200)]
STAYS = WORDS[149]
STEERED = 1000
"""What is added to the number of a turn each time that it is steered at once."""
FOLDER, NAME = (Path(sys.argv[2]), sys.argv[3]) if __name__ == "__main__" else (Path(), "")


def note(*event: object) -> None:
    with (FOLDER / "log").open("a") as log:
        log.write(json.dumps([*event]) + "\n")
        log.flush()


class StreamCrashAgent(Agent):
    async def run(self, ctx: Context, task: Task) -> str:
        task.append("plan")
        turn = task.turn
        while True:
            say = ctx.run_typed("speak", self.speak, RunOptions(), task.partial, turn)
            try:
                return await task.steerable(say)
            except Steered:
                turn += STEERED
                await task.steering()

    async def speak(self, say: Callable[[str], None], turn: int) -> str:
        note("speaks", turn, NAME)
        said: list[str] = []
        async for word in self.words(turn):
            said.append(word)
            say(word)
        return "".join(said)

    async def words(self, turn: int) -> AsyncGenerator[str, None]:
        told = FOLDER / f"words {turn}"
        if not told.exists():
            for word in WORDS:
                yield word
                await asyncio.sleep(0.004)
                while word == STAYS and turn == 1 and not (FOLDER / "interrupted").exists():
                    await asyncio.sleep(0.01)
            return
        given = 0
        while True:
            lines = told.read_text().splitlines()
            for word in lines[given:]:
                if word == ".":
                    return
                yield word
            given = len(lines)
            await asyncio.sleep(0.01)


@functools.wraps(handlers.on_words)
async def tell_words(*args: Any) -> Any:
    """What the stream's `words` does, but slowly if it is told so."""
    if (FOLDER / "slow").exists():
        await asyncio.sleep(3)
    return await handlers.on_words(*args)


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.workers = 2  # so that the other processes may have the port, too
    config.h2_max_concurrent_streams = 2**31 - 1
    words = handlers.STREAM_HANDLERS["words"]
    handlers.STREAM_HANDLERS["words"] = words._replace(does=tell_words)
    stream = Stream(ingress=sys.argv[4], every=timedelta(milliseconds=20))
    app = restate.app(services=StreamCrashAgent(stream=stream).services)

    async def main() -> None:
        serving = asyncio.ensure_future(serve(app, config, mode="asgi"))
        await asyncio.sleep(0)
        note("up", NAME, os.getpid())
        await serving

    asyncio.run(main())

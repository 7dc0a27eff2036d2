"""The floor, on asyncio alone. Nothing of it survives the process.

A message cancels the session's task, waits for its end, and begins another.
"""

import asyncio
from typing import Any

import web
from shared import ask, clean_up, order_of

Message = dict[str, Any]

talks: dict[str, list[Message]] = {}
tasks: dict[str, asyncio.Task[None]] = {}


async def work(session: str, before: asyncio.Task[None] | None, mine: Message) -> None:
    interrupted = None
    while before is not None and not before.done():
        try:
            await asyncio.wait({before})
        except asyncio.CancelledError as error:
            interrupted = error  # this turn is over; the next waits for it, so it waits on
    talk = talks.setdefault(session, [])
    talk.append(mine)
    if interrupted:
        raise interrupted
    order = order_of(mine)
    try:
        for _ in range(order.get("steps", 1)):
            talk.append({"role": "assistant", "content": await ask(talk)})
    finally:
        if "cleanup" in order:
            await clean_up(order["tag"], order["cleanup"])


async def say(session: str, content: str, policy: str) -> None:
    before = tasks.get(session)
    if before is not None and policy == "interrupt":
        before.cancel()
    mine = {"role": "user", "content": content}
    tasks[session] = asyncio.create_task(work(session, before, mine))


async def read(session: str) -> list[Message]:
    return talks.get(session, [])


if __name__ == "__main__":
    web.serve(say, read)

# pyright: strict
"""Mistakes of users: every checker finds each of them on its line, and nothing else."""

from typing import Literal

import restate
from typing_extensions import assert_type

from interruptible import Agent, Session, Task, Turn, agent, cleanup, handler, shield


class NumberAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> int:  # error
        return 5


class SyncAgent(Agent):
    def run(self, ctx: restate.Context, task: Task) -> str:  # error
        return "Done."


class LonelyAgent(Agent):
    async def run(self, ctx: restate.Context) -> str:  # error
        return "Done."


class BytesAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> list[bytes]:  # error
        return []


class SyncCleanupAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None: ...
    def on_interrupted(self, ctx: restate.Context, task: Task) -> None: ...  # error


class NotingAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None: ...
    def interruption_note(self, turn: Turn) -> int:  # error
        return turn["number"]  # error


class FullAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None:
        task.append(5)  # error
        task.append(["Done."])  # error
        task.answer("Done.")  # error
        async with cleanup(ctx) as undo:
            undo.on_exit("remove", remove, 5)  # error
            undo.on_exit("remove", remove)  # error
            undo.on_error("remove", remove, "path", "path")  # error
            undo.on_error("remove", remove, name="path")  # error
            undo.on_interrupt("remove", remove, path=b"path")  # error
            undo.on_interrupt(remove, "path")  # error
            undo.on_success("remove", remove, "path")  # error
        async with cleanup(ctx, timeout=5):  # error
            pass
        with cleanup(ctx):  # error
            pass
        assert_type(await shield(ctx.run_typed("remove", remove, path="path")), int)  # error
        await shield(5)  # error
        cleanup()  # error


async def remove(path: str) -> None: ...


FullAgent(policy="shout")  # error
FullAgent(policy=["queue"])  # error
FullAgent(allowed_policies="queue")  # error
FullAgent(allowed_policies=["queue", "shout"])  # error
FullAgent(allowed_policies=None)  # error
FullAgent(max_pending=1.5)  # error
FullAgent(max_pending=None)  # error
FullAgent(cleanup_timeout=5)  # error
FullAgent(timeout=5)  # error
FullAgent(max_content="5")  # error
FullAgent("CodingAgent", "interrupt")  # error


@agent  # error
async def number_agent(ctx: restate.Context, task: Task) -> int:
    return 5


@agent  # error
def sync_agent(ctx: restate.Context, task: Task) -> str:
    return "Done."


@agent()  # error
async def lonely_agent(ctx: restate.Context) -> str:
    return "Done."


agent(policy="shout")  # error
agent(allowed_policies="queue")  # error
agent(allowed_policies=["shout"])  # error
agent(max_pending="5")  # error
agent(cleanup_timeout=5)  # error
agent(timeout=5)  # error
agent("CodingAgent")  # error


@handler(kind="loud")  # error
async def loud(ctx: restate.ObjectContext) -> None: ...


@handler()  # error
def sync_handler(ctx: restate.ObjectContext) -> int:
    return 5


async def from_outside(client: restate.RestateClient) -> None:
    session = Session(client, FullAgent(), "key")
    await session.send(5)  # error
    await session.send(["Hello"])  # error
    await session.send("Hello", policy="shout")  # error
    await session.send("Hello", policy=["queue"])  # error
    await session.send("Hello", "interrupt")  # error
    await session.send("Hello", if_turn="1")  # error
    await session.send("Hello", if_idle="yes")  # error
    await session.send("Hello", if_idle=None)  # error
    await session.send("Hello", reason="x")  # error
    await session.ask("Hello", policy="shout")  # error
    await session.ask("Hello", if_turn="1")  # error
    await session.ask("Hello", if_idle="yes")  # error
    await session.cancel("1")  # error
    await session.cancel(reason=5)  # error
    await session.cancel(1, "wrong file")  # error
    await session.attach("1")  # error
    receipt = await session.send("Hello")
    assert receipt["outcome"]  # error
    assert session.turn  # error
    done: Literal["done"] = (await session.attach())["status"]  # error
    assert done
    Session("http://localhost:8080", "FullAgent", "key")  # error
    Session(client, FullAgent, "key")  # error

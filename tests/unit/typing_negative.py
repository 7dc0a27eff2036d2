# pyright: strict
"""Mistakes of users: every checker finds each of them on its line, and nothing else."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import restate
from restate.server_types import RestateAppT
from starlette.requests import Request
from typing_extensions import assert_type

from interruptible import (
    Agent,
    Message,
    Session,
    Task,
    Turn,
    agent,
    cleanup,
    current_task,
    handler,
    shield,
)
from interruptible.client import Outcome, Receipt
from interruptible.formats import gemini, native, responses, with_native
from interruptible.gateway import Gateway
from interruptible.stream import Stream
from interruptible.testing import fixture, harness, restate_server


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

    def call_note(self, name: str, *, begun: bool, output: str | None) -> str:  # error
        return name


class ResumingAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None: ...
    def resume_note(self, turn: Turn) -> bool:  # error
        return True


class WindowAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None: ...
    def conversation(self, turns: Sequence[Turn]) -> str:  # error
        return "Done."


class AsyncWindowAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None: ...
    async def conversation(self, turns: Sequence[Turn]) -> list[Message]:  # error
        return []


class RedirectedAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None:
        await task.steering(1)  # error
        task.steering().sort()  # error
        task.partial(5)  # error
        task.partial()  # error
        task.partial_result(1)  # error
        with task.call():  # error
            pass
        task.partial_result("call")(5)  # error
        task.turns.append(task.turns[0])  # error
        task.partial = print  # error
        await task.cause("why")  # error
        ended: Literal["ended"] = (await task.cause()).kind  # error
        assert ended
        await task.approval()  # error
        await task.approval(5)  # error
        await task.approval("git push", {"branch": "main"})  # error
        await task.approval("git push", timeout=5)  # error
        await task.approval("git push", reason="why")  # error
        assert (await task.approval("git push")).answer  # error
        assert_type(await task.approval("git push"), bool)  # error
        task.input_metadata[0]["author"] = "Ada"  # error
        task.resumes.bit_length()  # error
        assert (await task.cause()).why  # error
        assert_type(await task.delegate("CodingAgent", "key", "Hi"), Receipt)  # error
        assert_type(await task.delegate("Agent", "key", "Hi", background=True), Outcome)  # error
        await task.delegate("CodingAgent", "Hi")  # error
        await task.delegate(5, "key", "Hi")  # error
        await task.delegate("CodingAgent", "key", 5)  # error
        await task.delegate("CodingAgent", "key", ["Hi"])  # error
        await task.delegate("CodingAgent", "key", "Hi", "queue")  # error
        await task.delegate("CodingAgent", "key", "Hi", policy="shout")  # error
        await task.delegate("CodingAgent", "key", "Hi", background=1)  # error
        await task.delegate("CodingAgent", "key", "Hi", timeout=5)  # error


class ImpatientAgent(Agent):
    policy = "shout"  # error
    allowed_policies = ("shout",)  # error
    debounce = 0.3  # error
    max_pending = "5"  # error
    name = 5  # error

    async def run(self, ctx: restate.Context, task: Task) -> None: ...


class ChangingAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None:
        task.messages.append({"role": "user", "content": "Hi"})  # error
        task.messages.extend(task.input)  # error
        task.messages.insert(0, {"role": "system", "content": "Be brief."})  # error
        task.messages[0] = {"role": "system", "content": "Be brief."}  # error
        task.text = "Hi"  # error
        assert task.words  # error


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
FullAgent(policy="steering")  # error
FullAgent(keep_queued="yes")  # error
FullAgent(keep_queued=None)  # error
FullAgent(alternate_roles="yes")  # error
FullAgent(debounce=0.3)  # error
FullAgent(debounce="300ms")  # error
FullAgent(burst="join")  # error
FullAgent(burst=None)  # error
FullAgent(window=timedelta(seconds=1))  # error
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
agent(keep_queued="yes")  # error
agent(debounce=0.3)  # error
agent(burst="join")  # error
agent(cleanup_timeout=5)  # error
agent(timeout=5)  # error
agent("CodingAgent")  # error


@handler(kind="loud")  # error
async def loud(ctx: restate.ObjectContext) -> None: ...


@handler()  # error
def sync_handler(ctx: restate.ObjectContext) -> int:
    return 5


class CountingAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None: ...

    @handler()
    async def count(self, ctx: restate.ObjectContext, start: int) -> int:
        return start

    @handler()
    async def show(self, ctx: restate.ObjectContext) -> None: ...


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
    await session.send("Hello", now="yes")  # error
    await session.send("Hello", keep_queued="yes")  # error
    await session.send("Hello", metadata="Ada")  # error
    await session.send("Hello", metadata={1: "Ada"})  # error
    await session.ask("Hello", policy="shout")  # error
    await session.ask("Hello", now=None)  # error
    await session.ask("Hello", metadata=["Ada"])  # error
    await session.ask("Hello", if_turn="1")  # error
    await session.ask("Hello", if_idle="yes")  # error
    await session.ask("Hello", idempotency_key=5)  # error
    assert session.outcome  # error
    assert FullAgent().messages  # error
    await session.cancel("1")  # error
    await session.cancel(reason=5)  # error
    await session.cancel(1, "wrong file")  # error
    await session.cancel(after_step="yes")  # error
    await session.cancel(1, True)  # error
    await session.attach("1")  # error
    await session.attach(1, message=2)  # error
    await session.attach(message="1")  # error
    await session.attach(message=None)  # error
    assert (await session.attach(message=1))["messages"]  # error
    assert_type(await session.attach(message=1), Outcome)  # error
    await session.withdraw()  # error
    await session.withdraw("1")  # error
    await session.withdraw(1, "key")  # error
    assert_type(await session.withdraw(1), int)  # error
    await session.replace(1)  # error
    await session.replace("1", "Hello")  # error
    await session.replace(1, 5)  # error
    await session.replace(1, ["Hello"])  # error
    await session.replace(1, "Hello", "key")  # error
    await session.promote(1)  # error
    await session.promote(1, "queue")  # error
    await session.promote("1", "steer")  # error
    await session.promote(1, "steer", True)  # error
    await session.promote(1, "steer", now="yes")  # error
    await session.resume("1")  # error
    await session.resume(1, "key")  # error
    await session.resume(content="Go on.")  # error
    await session.edit(1)  # error
    await session.edit("1", "Hello")  # error
    await session.edit(None, "Hello")  # error
    await session.edit(1, 5)  # error
    await session.edit(1, "Hello", 3)  # error
    await session.edit(1, "Hello", if_last="3")  # error
    await session.answer(1)  # error
    await session.answer("1", True)  # error
    await session.answer(1, "yes")  # error
    await session.answer(1, True, "why")  # error
    await session.answer(1, True, reason=5)  # error
    assert (await session.status())["pending"][0]["text"]  # error
    assert (await session.status())["waiting_for"][0]["approved"]  # error
    await session.send("Hello", policy="steering")  # error
    await session.send("Hello", policy="regenerate")  # error
    await session.regenerate("1")  # error
    await session.regenerate(1, "key")  # error
    await session.regenerate(reason="x")  # error
    await session.rewind()  # error
    await session.rewind("1")  # error
    await session.rewind(None)  # error
    await session.rewind(1, "typo")  # error
    await session.rewind(1, reason=5)  # error
    await session.rewind(1, if_last="3")  # error
    await session.regenerate(if_last="3")  # error
    assert (await session.rewind(1))["interrupted"]  # error
    await session.reset("x")  # error
    await session.reset(reason=5)  # error
    await session.fork()  # error
    await session.fork(5)  # error
    await session.fork("copy", "1")  # error
    (await session.fork("copy"))["turn"]  # error
    await session.turns(1)  # error
    await session.turns(limit="1")  # error
    await session.turns(after=1)  # error
    (await session.turns())[0]  # error
    assert (await session.turns())["turns"][0]["outcome"]  # error
    counting = CountingAgent()
    await session.call(counting.count, "3")  # error
    await session.call(counting.count)  # error
    await session.call(counting.show, 3)  # error
    await session.call(counting)  # error
    await session.call(3)  # error
    await session.call("count", 3, "key")  # error
    assert_type(await session.call(counting.show), str)  # error
    receipt = await session.send("Hello")
    assert receipt["discarded"] == "all"  # error
    assert receipt["outcome"]  # error
    assert session.turn  # error
    done: Literal["done"] = (await session.attach())["status"]  # error
    assert done
    Session("http://localhost:8080", "FullAgent", "key")  # error
    Session(client, FullAgent, "key")  # error


async def from_a_page(client: restate.RestateClient) -> None:
    session = Session(client, "FullAgent", "key")
    await session.follow()  # error
    for _ in session.follow():  # error
        pass
    session.follow("3")  # error
    session.follow(offset=3)  # error
    async for event in session.follow():
        assert event["text"]  # error
        if event["type"] == "text":
            assert event["message"]  # error
        elif event["type"] == "turn":
            began: Literal["began"] = event["state"]  # error
            assert began
        elif event["type"] == "discarded":
            text: str = event["turns"]  # error
            assert text
        elif event["type"] == "turn begins":  # error
            pass


def streams(task: Task) -> None:
    Stream("http://localhost:8080")  # error
    Stream(ingress=8080)  # error
    Stream(headers=["a"])  # error
    Stream(headers={"a": 1})  # error
    Stream(every=50)  # error
    Stream(keep=1)  # error
    CountingAgent(stream=5)  # error
    CountingAgent(stream=True)  # error
    CountingAgent(stream=Stream)  # error
    agent(stream="http://localhost:8080")  # error
    task.publish("progress")  # error
    task.publish(type="progress")  # error
    task.publish({1: "progress"})  # error
    task.publish()  # error


def in_a_tool(task: Task) -> None:
    current_task("tool")  # error
    with_native("Done.", "mine", 1)  # error
    with_native({"role": "assistant"}, "mine")  # error
    native(task.messages, "mine")  # error
    responses.from_messages("Done.")  # error
    gemini.to_messages(1)  # error


async def in_a_test(app: RestateAppT) -> None:
    fixture(app, fail_on_retries="never")  # error
    async with harness(app, 4):  # error
        pass
    async with restate_server(fail_on_retries=4):  # error
        pass


async def allow(request: Request, agent: str, session: str) -> bool:
    return True


async def names(request: Request, agent: str, session: str) -> str:
    return session


def gateways() -> None:
    Gateway(authorize=allow)  # error
    Gateway(agents=["A"])  # error
    Gateway(agents=["A"], authorize=names)  # error
    Gateway(agents=["A"], authorize=lambda request: True)  # error
    Gateway(agents=[5], authorize=allow)  # error
    Gateway(agents=["A"], authorize=allow, send_timeout=5)  # error
    Gateway(["A"], authorize=allow)  # error

"""An agent that asks another agent takes it along when it is interrupted, and no other."""

import asyncio
from typing import Any

import pytest
from restate import Context, InvocationRetryPolicy, TerminalError
from restate.extensions import current_context

from interruptible import Agent, Interrupted, Session, Task, cleanup, handler
from interruptible._session import effects
from interruptible._task import delegate
from interruptible.testing import Restate

from .conftest import REPLAY, Deploy, Log, eventually, is_idle, normal_mode

pytestmark = pytest.mark.anyio

TAKEN_ALONG = "cancelled: the agent that asked for it was interrupted"


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class Worker(Agent):
    """Works for ever on a "long" message; notes its work and its cleanup under its name."""

    def __init__(self, log: Log, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log
        self.released = asyncio.Event()
        self.hold_cleanup: asyncio.Event | None = None

    async def run(self, ctx: Context, task: Task) -> Any:
        async with cleanup(ctx) as undo:
            undo.on_interrupt("undo", self.undo)
            task.append(f"{self.name} begins")
            return await self.work(ctx, task)

    async def work(self, ctx: Context, task: Task) -> Any:
        content = task.input[0]["content"]
        await ctx.run_typed("work", self.step, content=content)
        return f"{self.name} did: {content}"

    async def step(self, content: str) -> None:
        await self.log.add("begin", self.name, content)
        try:
            if content == "long":
                await self.released.wait()
        except asyncio.CancelledError:
            self.log.note("abort", self.name)
            raise

    async def let_go(self, asked: Session) -> None:
        """Let the step of a turn end once that is cancelled, where it does not hear of it."""

        async def is_cancelled() -> bool:
            live = (await asked.status())["live"]
            return any(x["turn"] == 1 and x["cancelled"] == TAKEN_ALONG for x in live)

        if REPLAY:
            await eventually(is_cancelled)
            self.released.set()

    async def undo(self) -> None:
        await self.log.add("undo begins", self.name)
        if self.hold_cleanup is not None:
            await self.hold_cleanup.wait()
        await self.log.add("undo ends", self.name)


class Asking(Worker):
    """Has another agent do what its message says, in the session of that name."""

    def __init__(self, log: Log, name: str, child: Agent | str, **options: Any) -> None:
        super().__init__(log, name)
        self.child = child
        self.options = options
        self.told: list[Any] = []

    async def work(self, ctx: Context, task: Task) -> Any:
        content = task.input[0]["content"]
        if content == "next":
            await self.log.add("next", self.name)
            return "next"
        try:
            told = await task.delegate(self.child, task.session, content, **self.options)
        except TerminalError as error:
            await self.tell((type(error), error.status_code, error.message))
            raise
        await self.tell(told)
        return told.get("messages")

    async def tell(self, told: Any) -> None:
        if told not in self.told:  # it is replayed
            self.told.append(told)
            await self.log.add("told", self.name)


def undone(*names: str) -> list[tuple[str, str]]:
    return [(f"undo {what}", name) for name in names for what in ("begins", "ends")]


async def cancelled(env: Restate, task_id: str, times: int = 1) -> None:
    """Wait until so many cancellations have reached an invocation."""
    where = f"id = '{task_id}' AND entry_type = 'Notification: Signal'"

    async def so_many() -> bool:
        return len(await env.query(f"SELECT id FROM sys_journal WHERE {where}")) == times  # noqa: S608

    await eventually(so_many)


async def statuses(session: Session) -> list[tuple[int, str, Any]]:
    turns = (await session.turns())["turns"]
    return [(turn["turn"], turn["status"], turn.get("reason")) for turn in turns]


@pytest.mark.parametrize("by", ["agent", "name"])
async def test_a_turn_is_told_the_outcome_of_the_turn_that_it_asked_for(
    restate_env: Restate, deploy: Deploy, log: Log, by: str
) -> None:
    child = Worker(log, f"ToldBy{by}Child")
    parent = Asking(log, f"ToldBy{by}Parent", child if by == "agent" else child.name)
    await deploy(parent, child)
    answer = [assistant(f"{child.name} begins"), assistant(f"{child.name} did: this")]
    outcome = await Session(restate_env.client, parent, "one").ask("this")
    assert parent.told == [{"turn": 1, "status": "completed", "messages": answer}]
    assert outcome["messages"] == [assistant(f"{parent.name} begins"), *answer]
    asked = Session(restate_env.client, child, "one")
    assert await asked.history() == [{"role": "user", "content": "this"}, *answer]
    outcome = await Session(restate_env.client, parent, "one").ask("that")
    assert [(told["turn"], told["messages"][-1]) for told in parent.told] == [
        (1, assistant(f"{child.name} did: this")),
        (2, assistant(f"{child.name} did: that")),
    ]
    await eventually(lambda: is_idle(asked))


async def test_an_interruption_takes_the_asked_turn_along_and_cleans_up_after_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    child = Worker(log, "AlongChild")
    parent = Asking(log, "AlongParent", child)
    await deploy(parent, child)
    session = Session(restate_env.client, parent, "one")
    asked = Session(restate_env.client, child, "one")
    await session.send("long")
    await log.until("begin", "AlongChild", "long")
    await asked.send("somebody else's", policy="queue")
    await session.send("next")
    await child.let_go(asked)
    assert (await session.attach())["status"] == "completed"
    mine = {"turn": 1, "status": "interrupted", "messages": [assistant("AlongParent begins")]}
    assert await session.attach(1) == mine
    asked_for = {"turn": 1, "status": "interrupted", "messages": [assistant("AlongChild begins")]}
    assert await asked.attach(1) == asked_for
    assert (await asked.attach(2))["status"] == "completed"
    assert await statuses(asked) == [(1, "interrupted", TAKEN_ALONG), (2, "completed", None)]
    assert parent.told == [(Interrupted, 409, "cancelled")]
    order = [*undone("AlongChild"), ("told", "AlongParent"), *undone("AlongParent")]
    of_parent = log.of("undo begins", "undo ends", "told", "next")
    assert of_parent == [*order, ("next", "AlongParent")]
    if not REPLAY:
        assert log.before(("abort", "AlongChild"), order[0])


async def test_an_asked_turn_that_is_queued_behind_somebody_elses_goes_alone(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    child = Worker(log, "BusyChild")
    parent = Asking(log, "BusyParent", child, policy="queue")
    await deploy(parent, child)
    session = Session(restate_env.client, parent, "one")
    asked = Session(restate_env.client, child, "one")
    await asked.send("long")
    await log.until("begin", "BusyChild", "long")
    await session.send("mine")

    async def is_queued() -> bool:
        return len((await asked.status())["live"]) == 2

    await eventually(is_queued)
    await session.cancel()
    assert (await session.attach())["status"] == "interrupted"
    gone = (2, "interrupted", TAKEN_ALONG)
    assert await statuses(asked) == [(1, "running", None), gone]
    child.released.set()
    assert (await asked.attach(1))["status"] == "completed"
    assert await statuses(asked) == [(1, "completed", None), gone]
    begun = ("begin", "BusyChild", "long")
    assert log.events == [begun, ("told", "BusyParent"), *undone("BusyParent")]


async def test_three_levels_clean_up_from_the_deepest_to_the_first(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    deepest = Worker(log, "DeepThree")
    middle = Asking(log, "DeepTwo", deepest)
    first = Asking(log, "DeepOne", middle)
    await deploy(first, middle, deepest)
    session = Session(restate_env.client, first, "one")
    await session.send("long")
    await log.until("begin", "DeepThree", "long")
    await session.send("next")
    await deepest.let_go(Session(restate_env.client, deepest, "one"))
    assert (await session.attach())["status"] == "completed"
    assert [event for event in log.events if event[0] not in ("begin", "abort", "end")] == [
        *undone("DeepThree"),
        ("told", "DeepTwo"),
        *undone("DeepTwo"),
        ("told", "DeepOne"),
        *undone("DeepOne"),
        ("next", "DeepOne"),
    ]
    for agent in (middle, deepest):
        asked = Session(restate_env.client, agent, "one")
        assert await statuses(asked) == [(1, "interrupted", TAKEN_ALONG)]
        await eventually(lambda asked=asked: is_idle(asked))  # type: ignore[misc]


@pytest.mark.parametrize("moment", ["it is sent", "it is accepted"])
async def test_a_cancel_between_asking_and_knowing_who_was_asked_still_takes_it_along(
    restate_env: Restate,
    deploy: Deploy,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    name = "Unknown" if moment == "it is sent" else "Accepted"
    release = asyncio.Event()

    class LockedChild(Worker):
        @handler()
        async def lock(self, ctx: Any) -> None:
            await log.add("locked")
            await ctx.run_typed("wait", release.wait)

    child = LockedChild(log, f"{name}Child")
    parent = Asking(log, f"{name}Parent", child)
    await deploy(parent, child)
    session = Session(restate_env.client, parent, "one")
    asked = Session(restate_env.client, child, "one")
    real = effects.shield

    async def hold(future: Any) -> Any:
        task_id = await real(future)
        called: Any = vars(current_context())["handler"]
        if (called.service_tag.name, called.name) == (child.name, "message"):
            await release.wait()
        return task_id

    async def messages() -> list[str]:
        where = f"target_service_name = '{child.name}' AND target_handler_name = 'message'"
        return [row["status"] for row in await restate_env.invocations(where)]

    if moment == "it is sent":
        locking = asyncio.ensure_future(restate_env.client.object_call(child.lock, "one", None))
        await log.until("locked")
        receipt = await session.send("long")
        await eventually(messages)
    else:
        monkeypatch.setattr(effects, "shield", hold)
        receipt = await session.send("long")
        await log.until("begin", child.name, "long")
    await session.cancel()
    await cancelled(restate_env, receipt["task_id"])
    assert await messages() in (["running"], ["pending"])
    release.set()
    if moment == "it is sent":
        await locking
    await child.let_go(asked)
    assert (await session.attach())["status"] == "interrupted"
    assert await statuses(asked) == [(1, "interrupted", TAKEN_ALONG)]
    assert parent.told == [(Interrupted, 409, "cancelled")]
    assert log.of("undo begins", "undo ends")[-2:] == undone(parent.name)


async def test_no_number_of_cancels_breaks_off_the_wait_for_the_asked_turns_cleanup(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    child = Worker(log, "PatientChild")
    parent = Asking(log, "PatientParent", child)
    child.hold_cleanup = asyncio.Event()
    await deploy(parent, child)
    session = Session(restate_env.client, parent, "one")
    receipt = await session.send("long")
    await log.until("begin", "PatientChild", "long")
    await session.cancel()
    await child.let_go(Session(restate_env.client, child, "one"))
    await log.until("undo begins", "PatientChild")
    for times in (2, 3):
        await restate_env.cancel(receipt["task_id"])
        await cancelled(restate_env, receipt["task_id"], times)
    assert (await session.status())["status"] == "running"
    assert parent.told == []
    child.hold_cleanup.set()
    assert (await session.attach())["status"] == "interrupted"
    assert log.of("undo begins", "undo ends", "told") == [
        *undone("PatientChild"),
        ("told", "PatientParent"),
        *undone("PatientParent"),
    ]


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        ("short", 423, "policy: turn 1 is live, and the policy is reject. Wait for it."),
        (" ", 400, "content: is empty. Send text, or a list of parts."),
    ],
)
async def test_a_refusal_by_the_asked_agent_is_an_error_of_its_status_and_no_interruption(
    restate_env: Restate, deploy: Deploy, log: Log, content: str, status: int, reason: str
) -> None:
    class RefusedParent(Asking):
        async def work(self, ctx: Context, task: Task) -> Any:
            task.input[0]["content"] = content
            return await super().work(ctx, task)

    child = Worker(log, f"Refusing{status}Child", policy="reject")
    parent = RefusedParent(log, f"Refused{status}Parent", child)
    await deploy(parent, child)
    asked = Session(restate_env.client, child, "one")
    if status == 423:
        await asked.send("long")
        await log.until("begin", child.name, "long")
    outcome = await Session(restate_env.client, parent, "one").ask("go")
    begins = [assistant(f"{parent.name} begins")]
    assert outcome == {"turn": 1, "status": "failed", "messages": begins, "error": reason}
    assert parent.told == [(TerminalError, status, reason)]
    assert len((await asked.turns())["turns"]) == (1 if status == 423 else 0)
    child.released.set()
    await eventually(lambda: is_idle(asked))
    assert log.of("undo begins") == []


@pytest.mark.parametrize("end", ["fails", "is interrupted", "is killed"])
async def test_a_turn_that_does_not_end_well_says_so_to_whoever_asked_for_it(
    restate_env: Restate, deploy: Deploy, log: Log, end: str
) -> None:
    class EndingChild(Worker):
        async def work(self, ctx: Context, task: Task) -> Any:
            if end == "fails":
                raise TerminalError("no credit", 402)
            await log.add("waits")
            await ctx.signal("never")

    name = end.title().replace(" ", "")
    child = EndingChild(log, f"{name}Child")
    parent = Asking(log, f"{name}Parent", child)
    await deploy(parent, child)
    session = Session(restate_env.client, parent, "one")
    asked = Session(restate_env.client, child, "one")
    await session.send("go")
    put_out = [assistant(f"{child.name} begins")]
    told: dict[str, Any] = {"turn": 1, "status": "interrupted", "messages": put_out}
    reason = None
    if end == "fails":
        told.update(status="failed", error="no credit")
    else:
        await log.until("waits")
        task_id = (await asked.status())["task_id"]
        assert task_id is not None
        if end == "is killed":
            told.update(status="killed", messages=[])
            await restate_env.kill(task_id)
        else:
            reason = "cancelled: changed my mind"
            await asked.cancel(reason="changed my mind")
    outcome = await session.attach()
    assert parent.told == [told]
    messages = [assistant(f"{parent.name} begins"), *told["messages"]]
    assert outcome == {"turn": 1, "status": "completed", "messages": messages}
    record = f"service_name = '{child.name}' AND key = 'session'"

    async def is_settled() -> bool:  # although nobody has asked the session for anything
        (row,) = await restate_env.query(f"SELECT value_utf8 FROM state WHERE {record}")  # noqa: S608
        return '"live": []' in row["value_utf8"]

    await eventually(is_settled)
    assert await statuses(asked) == [(1, told["status"], reason)]


async def test_a_turn_in_the_background_goes_on_when_the_one_that_asked_for_it_is_interrupted(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class BackgroundParent(Asking):
        async def work(self, ctx: Context, task: Task) -> Any:
            await super().work(ctx, task)
            await log.add("asked")
            await ctx.signal("never")

    child = Worker(log, "BackgroundChild")
    parent = BackgroundParent(log, "BackgroundParent", child, background=True)
    await deploy(parent, child)
    session = Session(restate_env.client, parent, "one")
    asked = Session(restate_env.client, child, "one")
    await session.send("long")
    await log.until("asked")
    await log.until("begin", "BackgroundChild", "long")
    await session.cancel()
    assert (await session.attach())["status"] == "interrupted"
    task_id = (await asked.status())["task_id"]
    receipt = {"turn": 1, "message": 1, "task_id": task_id, "status": "running", "interrupted": []}
    assert parent.told == [receipt]
    child.released.set()
    messages = [assistant("BackgroundChild begins"), assistant("BackgroundChild did: long")]
    assert await asked.attach() == {"turn": 1, "status": "completed", "messages": messages}
    assert log.of("undo begins", "undo ends") == undone("BackgroundParent")


@normal_mode
async def test_a_turn_that_asks_two_at_once_cleans_up_after_both(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    children = [Worker(log, f"BothChild{n}") for n in (1, 2)]
    children[0].hold_cleanup = asyncio.Event()

    class BothParent(Worker):
        async def work(self, ctx: Context, task: Task) -> Any:
            asks = [task.delegate(child, task.session, "long") for child in children]
            return await asyncio.gather(*asks)

    parent = BothParent(log, "BothParent")
    await deploy(parent, *children)
    session = Session(restate_env.client, parent, "one")
    await session.send("go")
    for child in children:
        await log.until("begin", child.name, "long")
    await session.cancel()
    await log.until("undo ends", children[1].name)
    for child in children:
        await log.until("undo begins", child.name)
    asked = [Session(restate_env.client, child, "one") for child in children]
    assert (await asked[1].attach())["status"] == "interrupted"
    assert log.of("undo begins").count(("undo begins", parent.name)) == 0
    children[0].hold_cleanup.set()
    assert (await session.attach())["status"] == "interrupted"
    assert log.of("undo begins", "undo ends")[-3:] == [
        ("undo ends", children[0].name),
        *undone(parent.name),
    ]
    for child in asked:
        assert await statuses(child) == [(1, "interrupted", TAKEN_ALONG)]


async def test_asking_an_agent_that_there_is_not_is_refused_and_does_not_hold_the_turn(
    restate_env: Restate, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = InvocationRetryPolicy(max_attempts=2, on_max_attempts="kill")
    monkeypatch.setattr(delegate, "RELAY_RETRY_POLICY", twice)

    class LonelyAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            try:
                await task.delegate("NobodyAgent", "one", "hello")
            except TerminalError as error:
                return f"{error.status_code} {error.message}"
            return "answered"

    agent = LonelyAgent()
    await deploy(agent)
    outcome = await Session(restate_env.client, agent, "one").ask("go")
    assert outcome["messages"] == [
        assistant(
            "404 There is no agent NobodyAgent that takes messages. Register the services of the "
            "agent, or correct its name."
        )
    ]


async def test_a_turn_that_waits_for_an_agent_that_there_is_not_can_be_interrupted(
    restate_env: Restate, deploy: Deploy, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = InvocationRetryPolicy(max_attempts=8, on_max_attempts="kill")
    monkeypatch.setattr(delegate, "RELAY_RETRY_POLICY", quick)

    class HopefulAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn == 1:
                await log.add("asks")
                await task.delegate("NobodyElseAgent", "one", "hello")
            return "done"

    agent = HopefulAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("asks")
    assert (await session.ask("second"))["status"] == "completed"
    assert (await session.attach(1))["status"] == "interrupted"


@pytest.mark.parametrize("policy", ["queue", "steer"])
async def test_a_turn_is_refused_to_wait_for_what_waits_for_it(
    restate_env: Restate, deploy: Deploy, policy: Any
) -> None:
    class DelegateSelfishAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            said = []
            if task.turn == 1:
                await task.delegate(self, task.session, "later", policy=policy, background=True)
                for chosen in (policy, None):
                    try:
                        await task.delegate(self, task.session, "now", policy=chosen)
                    except TerminalError as error:
                        said.append(f"{error.status_code} {error.message}")
            return "\n".join(said) or "done"

    agent = DelegateSelfishAgent(f"Selfish{policy.title()}Agent", policy=policy)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    refused = (
        "400 delegate: turn 1 would wait for a message that waits for turn 1. "
        "Send it to another session, or in the background."
    )
    outcome = await session.ask("go")
    assert outcome["messages"] == [assistant(f"{refused}\n{refused}")]
    await eventually(lambda: is_idle(session))
    assert [m["content"] for m in await session.history()][-2:] == ["later", "done"]


@normal_mode
async def test_a_block_that_fails_cuts_off_a_delegate_beside_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class LongChildAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return await ctx.run_typed("work", log.step, name="child", seconds=3)

    class FailsBesideAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async def refused() -> None:
                await ctx.run_typed("ask", log.step, name="ask", seconds=0.5)
                raise TerminalError("refused", 418)

            async with cleanup(ctx) as undo:
                undo.on_error("undo", log.step, "undo")
                await asyncio.gather(refused(), task.delegate(child, "one", "go"))
            return "done"

    child, parent = LongChildAgent(), FailsBesideAgent()
    await deploy(child, parent)
    outcome = await Session(restate_env.client, parent, "one").ask("go")
    assert outcome["status"] == "failed"
    assert log.of("abort", "end") == [("end", "ask"), ("abort", "child"), ("end", "undo")]

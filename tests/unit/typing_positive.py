# pyright: strict
"""What users write, and the types that they get: no checker finds anything here."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypedDict

import restate
from restate.server_types import RestateAppT
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import Mount
from typing_extensions import assert_type

from interruptible import (
    Agent,
    Interrupted,
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
from interruptible.client import (
    Cause,
    LiveTurn,
    Origin,
    Outcome,
    Output,
    PendingMessage,
    Policy,
    Receipt,
    Rewound,
    Status,
    TakenBack,
    Turns,
    TurnStatus,
    WaitingApproval,
)
from interruptible.formats import alternating, gemini, native, responses, with_native
from interruptible.gateway import Gateway
from interruptible.stream import (
    ApprovalEvent,
    DiscardedEvent,
    Event,
    GapEvent,
    MessageEvent,
    OutputEvent,
    PendingEvent,
    ReasoningEvent,
    SteeredEvent,
    Stream,
    TextEvent,
    ToolEvent,
    TurnBeginsEvent,
    TurnEndsEvent,
)
from interruptible.testing import Restate, TooManyRetries, fixture, harness


class TextAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> str:
        return f"{ctx} {task.id}"


class MessageAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> Message:
        return {"role": "assistant", "content": task.input}


class MappingAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> Mapping[str, object]:
        return {"role": "assistant", "content": task.input}


class ListAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> list[Message]:
        told(task.messages)
        assert_type(task.messages[1:], list[dict[str, Any]])
        return [{"role": "system", "content": "Be brief."}, *task.messages]


def told(messages: list[Message]) -> None: ...


class Block:
    """As the SDKs of providers have them, which make them with Pydantic."""

    def model_dump(
        self,
        *,
        mode: str = "python",
        include: set[str] | None = None,
        exclude_none: bool = False,
    ) -> dict[str, Any]:
        return {}


class SdkAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> list[Block | Message]:
        task.append(Block(), {"role": "assistant", "content": [Block()]})
        return [Block()]


class OneBlockAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> Block:
        return Block()


class AnyOutputAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> Output:
        return None


class PatientAgent(TextAgent):
    name = "Patient"
    policy = "queue"
    allowed_policies = ("queue", "reject")
    keep_queued = True
    debounce = timedelta(seconds=1)
    burst = "supersede"
    max_pending = 3
    cleanup_timeout = timedelta(seconds=5)
    inactivity_timeout = None
    abort_timeout = timedelta(minutes=1)
    retry_policy = restate.InvocationRetryPolicy(max_attempts=3)
    retention = timedelta(days=7)
    max_content = 1024


@dataclass
class DataAgent(TextAgent):
    model: str
    policy: Policy = "queue"


chosen: Policy = PatientAgent().policy
assert_type(DataAgent("small").model, str)


class MixedAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> list[str | Message]:
        return ["Done.", {"role": "tool", "content": "3"}]


class NothingAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None:
        task.append("Done.")


class ToolMessage(TypedDict):
    """As the packages of model providers have them."""

    role: str
    content: str


class TextPart(TypedDict):
    """Likewise."""

    type: str
    text: str


class ToolAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> list[ToolMessage]:
        message: ToolMessage = {"role": "tool", "content": "3"}
        task.append(message)
        return [message]


class FullAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> str | None:
        assert_type(task.session, str)
        assert_type(task.turn, int)
        assert_type(task.turns, Sequence[Turn])
        assert_type(await task.earlier(), int)
        assert_type([*reversed(task.turns)], list[Turn])
        assert_type(task.forked_from, Origin | None)
        assert_type(task.partial_result("call_1"), Callable[[str | None], None])
        with task.call("call_1"):
            assert_type(task.partial_result(), Callable[[str | None], None])
            assert_type(alternating(task.messages), list[dict[str, Any]])
        assert_type(task.text, str)
        if task.forked_from is not None:
            assert_type(task.forked_from.session, str)
            assert_type(task.forked_from.turn, int)
        assert_type(task.id, str)
        own: list[Message] = [*task.messages]
        told(own)
        told(task.messages + task.input)
        assert_type(task.input, list[dict[str, Any]])
        task.append("Done.", {"role": "tool", "content": "3", "tool_call_id": "1"})
        async with cleanup(ctx, timeout=timedelta(seconds=5)) as undo:
            undo.on_exit("remove", remove, "path", force=True)
            undo.on_error("remove", remove, path="path")
            undo.on_interrupt("forget", forget)
            number = await ctx.run_typed("count", count, text="text")
            assert_type(number, int)
        return None

    async def on_interrupted(self, ctx: restate.Context, task: Task) -> None:
        await ctx.run_typed("forget", forget)

    def interruption_note(self, turn: Turn) -> str | None:
        return f"{turn['turn']} {turn['status']}"

    @handler(kind="shared")
    async def pages(self, ctx: restate.ObjectSharedContext, start: int) -> int:
        return len(ctx.key()) + start

    @handler()
    async def rename(self, ctx: restate.ObjectContext) -> list[str]:
        return [ctx.key()]


class NotingAgent(TextAgent):
    def interruption_note(self, turn: Turn) -> Message:
        return {"role": "developer", "content": "Stop."}

    def call_note(self, name: str | None, *, begun: bool, output: str | None) -> str:
        note = super().call_note(name, begun=begun, output=output)
        return f"{name}: {note}"


class ResumingAgent(TextAgent):
    def resume_note(self, turn: Turn) -> str | None:
        note = super().resume_note(turn)
        assert_type(note, str | Message | None)
        return f"Go on with turn {turn['turn']}." if note is None else None


class WindowAgent(TextAgent):
    def conversation(self, turns: Sequence[Turn]) -> list[Message]:
        recent = super().conversation(turns[-10:])
        assert_type(recent, list[dict[str, Any]])
        return [{"role": "developer", "content": f"{len(turns)} turns"}, *recent]


class RedirectedAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> str:
        assert_type(await task.steering(), list[dict[str, Any]])
        partial = task.partial
        assert_type(partial, Callable[[str | None], None])
        partial(None)
        answer = await ctx.run_typed("answer", stream, on_text=task.partial)
        assert_type(answer, str)
        for message in await task.steering():
            assert_type(message, dict[str, Any])
        approval = await task.approval("git push", value={"branch": "main"})
        assert_type(approval.approved, bool)
        assert_type(approval.reason, str | None)
        assert_type(approval.value, Any)
        if not await task.approval("rm -r build", timeout=timedelta(hours=1)):
            assert_type(approval.timed_out, bool)
        await task.approval("ls", value=None, timeout=None)
        assert_type(task.resumes, int | None)
        assert_type(task.input_metadata, Sequence[Mapping[str, Any]])
        assert_type(await task.delegate(coding_agent, task.session, "Hello"), Outcome)
        assert_type(await task.delegate("ReviewAgent", "key", "Hello", policy="queue"), Outcome)
        part: TextPart = {"type": "text", "text": "Hello"}
        asked = await task.delegate(plain_agent, "key", [part], policy=None, background=False)
        assert_type(asked, Outcome)
        sent = await task.delegate(coding_agent, "key", (part,), background=True)
        assert_type(sent, Receipt)
        assert_type(sent["status"], Literal["running", "waiting", "steered", "joined"])
        return answer

    async def on_interrupted(self, ctx: restate.Context, task: Task) -> None:
        cause = await task.cause()
        assert_type(cause, Cause)
        assert_type(cause.turn, int | None)
        assert_type(cause.reason, str | None)
        if cause.kind == "rolled back":
            await ctx.run_typed("restore", remove, path="path")
        else:
            assert_type(
                cause.kind,
                Literal["interrupted", "cancelled", "stopped", "withdrawn", "promoted"],
            )

    def interruption_note(self, turn: Turn) -> str | None:
        assert_type(turn["input"], list[dict[str, Any]])
        assert_type(turn.get("cut_off", []), list[str])
        assert_type(turn.get("not_begun", []), list[str])
        assert_type(turn.get("withdrawn", []), list[dict[str, Any]])
        assert_type(turn.get("resumes"), int | None)
        return f"{turn.get('reason')} {turn.get('partial', 0) + 1} {turn.get('steered', [])[:1]}"


async def stream(on_text: Callable[[str], None]) -> str:
    on_text("Done.")
    return "Done."


async def remove(path: str, *, force: bool = False) -> None: ...
async def count(text: str) -> int:
    return len(text)


def forget() -> None: ...


coding_agent = FullAgent()
patient_agent = RedirectedAgent(
    policy="steer",
    allowed_policies=["steer", "rollback", "queue"],
    keep_queued=True,
    debounce=timedelta(milliseconds=300),
    burst="supersede",
)
window_agent = WindowAgent(policy="rollback", debounce=None, burst="merge", keep_queued=False)
local_agent = WindowAgent(alternate_roles=True)
named_agent = FullAgent(
    "CodingAgent",
    policy="interrupt",
    allowed_policies=["interrupt", "queue"],
    max_pending=8,
    cleanup_timeout=timedelta(seconds=10),
    inactivity_timeout=None,
    retry_policy=restate.InvocationRetryPolicy(max_attempts=3),
)


class StreamingAgent(TextAgent):
    stream = Stream()


streaming_agent = FullAgent(
    stream=Stream(
        ingress="http://localhost:8080",
        headers={"Authorization": "Bearer key"},
        every=timedelta(milliseconds=100),
    )
)
silent_agent = FullAgent(stream=None)


async def may(request: Request, agent: str, session: str) -> bool:
    return session == request.headers["x-user"]


gateway = Gateway(
    agents=["Poet"],
    authorize=may,
    ingress="http://localhost:8080",
    handlers=["mode"],
    middleware=[Middleware(CORSMiddleware, allow_origins=["https://a"])],
    max_body=1000,
    max_open=10,
    send_timeout=timedelta(seconds=5),
)
Gateway(agents=["Poet"], authorize=lambda request, agent, session: True)
Starlette(routes=[Mount("/agents", gateway)])


@agent(stream=Stream(ingress=None, headers=None))
async def publishing_agent(ctx: restate.Context, task: Task) -> None:
    assert_type(task.publish({"type": "progress", "done": 3, "of": [4]}), None)
    waits: Mapping[str, str] = {"type": "tool", "call": "1", "name": "pay", "state": "waits"}
    task.publish(waits)


@agent
async def plain_agent(ctx: restate.Context, task: Task) -> str:
    return task.id


@agent(policy="steer", keep_queued=True, debounce=timedelta(seconds=1), burst="supersede")
async def quiet_agent(ctx: restate.Context, task: Task) -> None: ...


@agent()
async def bare_agent(ctx: restate.Context, task: Task) -> None: ...


@agent(
    name="ReviewAgent",
    policy="queue",
    allowed_policies=("queue", "reject"),
    max_pending=1,
    cleanup_timeout=timedelta(seconds=5),
    inactivity_timeout=None,
    abort_timeout=timedelta(minutes=1),
    retry_policy=restate.InvocationRetryPolicy(max_attempts=3),
    retention=timedelta(days=7),
    max_content=64 * 1024,
)
async def review_agent(ctx: restate.Context, task: Task) -> list[Message]:
    return [*task.messages]


assert_type(plain_agent, Agent)
assert_type(bare_agent, Agent)
assert_type(review_agent, Agent)
app = restate.app(services=coding_agent.services)
more = restate.app(services=[*plain_agent.services, *review_agent.services])


def seen_before(turn: int | None) -> int | None:
    return turn


async def passed_on(session: Session, text: str, policy: Policy = "queue") -> Receipt:
    return await session.send(text, policy=policy)


async def from_outside(client: restate.RestateClient) -> None:
    session = Session(client, coding_agent, "key")
    receipt = await session.send("Hello", policy="interrupt", idempotency_key="1")
    assert_type(receipt, Receipt)
    assert_type(receipt["turn"], int)
    assert_type(receipt["task_id"], str)
    assert_type(receipt["interrupted"], list[int])
    outcome = await session.ask([{"type": "text", "text": "Hello"}])
    assert_type(outcome, Outcome)
    assert_type(outcome["messages"], list[dict[str, Any]])
    assert_type(outcome.get("never_began", False), bool)
    assert_type(outcome["status"], TurnStatus)
    assert_type(await session.ask("Hello", idempotency_key="6"), Outcome)
    assert_type(await session.attach(), Outcome)
    assert_type(await session.attach(receipt["turn"]), Outcome)
    assert_type(await session.cancel(), list[int])
    assert_type(await session.cancel(receipt["turn"]), list[int])
    assert_type(await session.cancel(receipt["turn"], reason="wrong file"), list[int])
    assert_type(await session.cancel(reason=None), list[int])
    await session.send("Hello", policy="queue", if_turn=receipt["turn"])
    await session.send("Hello", policy="reject", if_idle=True)
    assert_type(await session.ask("Hello", policy="queue", if_turn=1, if_idle=False), Outcome)
    assert_type(receipt["message"], int)
    noted: Mapping[str, Any] = {"author": "Ada", "tags": [1]}
    await session.send("Hello", policy="steer", now=True, metadata=noted)
    await session.send("Hello", keep_queued=True, metadata={"author": "Ada"})
    await session.send("Hello", now=False, keep_queued=None, metadata=None)
    assert_type(await session.ask("Hello", policy="steer", now=True, metadata=noted), Outcome)
    assert_type(await session.ask("Hello", keep_queued=False), Outcome)
    answered = await session.attach(message=receipt["message"])
    assert_type(answered, Outcome | TakenBack)
    if answered["status"] != "withdrawn":
        assert_type(answered["messages"], list[dict[str, Any]])
    assert_type(await session.cancel(after_step=True), list[int])
    assert_type(await session.cancel(1, reason="enough", after_step=True), list[int])
    assert_type(await session.withdraw(receipt["message"]), None)
    await session.withdraw(message=1, idempotency_key="7")
    assert_type(await session.replace(1, "Hello"), Receipt)
    assert_type(await session.replace(1, [{"type": "text", "text": "Hello"}]), Receipt)
    await session.replace(message=1, content="Hello", idempotency_key="8")
    assert_type(await session.promote(1, "interrupt"), Receipt)
    assert_type(await session.promote(1, policy="steer", now=True), Receipt)
    await session.promote(1, "steer", idempotency_key="9")
    assert_type(await session.resume(), Receipt)
    assert_type(await session.resume(receipt["turn"], idempotency_key="10"), Receipt)
    assert_type(await session.edit(1, "Hello"), Receipt)
    await session.edit(1, ({"type": "text"},), if_last=seen_before(3), idempotency_key="11")
    assert_type(await session.answer(1, True), None)
    await session.answer(1, approved=False, reason="no", value=["x"], idempotency_key="12")
    seen = (await session.status())["turn"]
    assert_type(seen, int | None)
    await session.send("Hello", policy=None, if_turn=seen)
    await session.send("Hello", policy="rollback", if_turn=1)
    await session.send("Hello", policy="steer")
    assert_type(receipt.get("discarded"), list[int] | None)
    assert_type(receipt["status"], Literal["running", "waiting", "steered", "joined"])
    assert_type(await session.ask("Hello", policy="steer"), Outcome)
    assert_type(await session.regenerate(), Receipt)
    assert_type(await session.regenerate(receipt["turn"], idempotency_key="2"), Receipt)
    assert_type(await session.regenerate(turn=1), Receipt)
    assert_type(await session.regenerate(1, if_last=3), Receipt)
    assert_type(await session.rewind(1, if_last=3), Rewound)
    rewound = await session.rewind(1)
    assert_type(rewound, Rewound)
    assert_type(rewound["cancelled"] + rewound["discarded"], list[int])
    assert_type(await session.rewind(1, reason="typo", idempotency_key="3"), Rewound)
    assert_type(await session.reset(), list[int])
    assert_type(await session.reset(reason="a new start"), list[int])
    assert_type(await session.fork("copy"), Session)
    assert_type(await (await session.fork("copy", 3)).send("Hello"), Receipt)
    page = await session.turns()
    assert_type(page, Turns)
    assert_type(page["turns"], list[Turn])
    assert_type(await session.turns(before=page["before"], limit=10), Turns)
    for turn in page["turns"]:
        assert_type(turn.get("discarded"), bool | None)
        assert_type(turn.get("accepted_at"), int | None)
    assert_type(await session.history(), list[dict[str, Any]])
    full = FullAgent()
    assert_type(await session.call(full.pages, 3), int)
    assert_type(await session.call(full.pages, 3, idempotency_key="4"), int)
    assert_type(await session.call(full.rename), list[str])
    assert_type(await session.call("pages", 3, idempotency_key="5"), Any)
    assert_type(await session.call("rename"), Any)
    assert_type(await session.status(), Status)
    assert_type((await session.status())["steered"], int)
    assert_type(session.key, str)
    status = await session.status()
    assert_type(status["live"], list[LiveTurn])
    assert_type([live["cancelled"] for live in status["live"]], list[str | None])
    assert_type([live.get("given_up", False) for live in status["live"]], list[bool])
    assert_type([live.get("after_step", False) for live in status["live"]], list[bool])
    assert_type(status["pending"], list[PendingMessage])
    for x in status["pending"]:
        assert_type(x["id"] + x["turn"], int)
        assert_type(x["kind"], Literal["queued", "steered", "joined"])
        assert_type(x["content"], str | list[Any])
        assert_type(x.get("metadata", {}), dict[str, Any])
    assert_type(status["waiting_for"], list[WaitingApproval])
    for waits in status["waiting_for"]:
        assert_type(waits["title"], str)
        assert_type(waits.get("value"), Any | None)
        assert_type(waits.get("until"), int | None)
    part: TextPart = {"type": "text", "text": "Hello"}
    parts = [part]
    await session.send(parts)
    await session.ask((part, {"type": "image_url", "image_url": {"url": "https://x.example"}}))


async def from_a_page(client: restate.RestateClient) -> int | None:  # noqa: C901, PLR0912
    session = Session(client, streaming_agent, "key")
    assert_type(session.follow(), AsyncGenerator[Event, None])
    last: int | None = None
    async for event in session.follow(last):
        assert_type(event["id"], int)
        assert_type(event["turn"], int)
        last = event["id"]
        if event["type"] == "turn":
            if event["state"] == "ends":
                assert_type(event, TurnEndsEvent)
                assert_type(event["status"], TurnStatus)
            else:
                assert_type(event, TurnBeginsEvent)
        elif event["type"] == "text":
            assert_type(event, TextEvent)
            assert_type(event["text"], str)
        elif event["type"] == "reasoning":
            assert_type(event, ReasoningEvent)
        elif event["type"] == "output":
            assert_type(event, OutputEvent)
            assert_type(event["call"] + event["text"], str)
        elif event["type"] == "message":
            assert_type(event, MessageEvent)
            told([event["message"]])
        elif event["type"] == "steered":
            assert_type(event, SteeredEvent)
            told([event["message"]])
        elif event["type"] == "tool":
            assert_type(event, ToolEvent)
            assert_type(event["state"], Literal["begins", "ends", "cut off", "waits"])
        elif event["type"] == "approval":
            assert_type(event, ApprovalEvent)
            assert_type(event["state"], Literal["waits", "over"])
        elif event["type"] == "pending":
            assert_type(event, PendingEvent)
        elif event["type"] == "discarded":
            assert_type(event, DiscardedEvent)
            assert_type(event["turns"], list[int])
        else:
            assert_type(event, GapEvent)
    events = session.follow(after=3)
    await events.aclose()
    return last


async def from_a_handler(ctx: restate.ObjectContext) -> None:
    session = Session(ctx, "CodingAgent", ctx.key())
    assert_type(await session.send("Hello"), Receipt)
    assert_type(await session.rewind(1), Rewound)
    assert_type(await session.call(FullAgent().pages, 3), int)
    assert_type(await session.turns(limit=1), Turns)


async def from_a_task(ctx: restate.Context) -> str:
    assert_type(await Session(ctx, plain_agent, "key").history(), list[dict[str, Any]])
    assert_type(await shield(ctx.run_typed("count", count, text="text")), int)
    assert_type(await shield(count("text")), int)
    try:
        await ctx.run_typed("forget", forget)
    except Interrupted as interrupted:
        assert_type(interrupted.status_code, int)
        raise
    except restate.TerminalError as error:
        return error.message
    return "Done."


def in_a_tool(given: Sequence[object], response: tuple[object, ...]) -> None:
    task = current_task()
    assert_type(task, Task)
    assert_type(responses.to_messages(response), list[Message])
    assert_type(responses.from_messages(task.messages), list[dict[str, Any]])
    assert_type(gemini.to_messages(given), list[Message])
    assert_type(gemini.from_messages(tuple(task.input)), list[dict[str, Any]])
    message = with_native({"role": "assistant", "content": "Done."}, "mine", [1])
    assert_type(message, Message)
    assert_type(native(message, format="mine"), Any)
    task.append(message, *responses.to_messages(given))


async def in_a_test(app: RestateAppT) -> str:
    fixture(app, fail_on_retries=20, scope="module")
    try:
        async with harness(app, always_replay=True, fail_on_retries=None) as server:
            assert_type(server, Restate)
    except TooManyRetries as error:
        return f"{error.invocation_id}: {error.last_failure}"
    return "Done."

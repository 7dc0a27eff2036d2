"""Handlers that a user adds to an agent, as callers and the session see them."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest
import restate
from restate import (
    Context,
    InvocationRetryPolicy,
    ObjectContext,
    ObjectSharedContext,
    TerminalError,
)
from typing_extensions import TypedDict

from interruptible import Agent, Session, Task, handler
from interruptible.testing import Restate

from .conftest import Deploy
from .test_handlers import Ingress

pytestmark = pytest.mark.anyio

SOON = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=10), max_attempts=3, on_max_attempts="kill"
)


class Answer(TypedDict):
    turn: int
    yes: bool


class HelpfulAgent(Agent):
    """Has handlers of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.tries = 0

    async def run(self, ctx: Context, task: Task) -> str:
        return "Done."

    @handler()
    async def approve(self, ctx: ObjectContext, answer: Answer) -> str:
        return f"{ctx.key()}: {answer['turn'] + 1} {answer['yes']}"

    @handler(kind="shared")
    async def look(self, ctx: ObjectSharedContext, asked: dict[str, int] | None = None) -> Any:
        return {"asked": asked}

    @handler(name="count", kind="shared")
    async def count_tries(self, ctx: ObjectSharedContext) -> int:
        return self.tries

    @handler(invocation_retry_policy=SOON)
    async def fail(self, ctx: ObjectContext) -> None:
        self.tries += 1
        msg = "a bug"
        raise AttributeError(msg)

    @handler()
    async def refuse(self, ctx: ObjectContext) -> None:
        raise TerminalError("Too late.", 410)


class NosyAgent(Agent):
    """Knows nothing of the other."""

    async def run(self, ctx: Context, task: Task) -> str:
        return "Done."

    @handler()
    async def look(self, ctx: ObjectContext) -> str:
        return "at you"


async def test_a_body_that_is_no_json_or_of_another_type_is_refused_with_400_and_why(
    restate_env: Restate, deploy: Deploy
) -> None:
    await deploy(HelpfulAgent("CarefulAgent"))
    ingress = Ingress(restate_env, "CarefulAgent", "wrong bodies")
    answers = [
        await ingress.post("approve", raw=b'{"a":'),
        await ingress.post("approve", "x"),
        await ingress.post("approve"),
        await ingress.post("approve", {"turn": "1", "yes": True}),
        await ingress.post("approve", {"turn": 1}),
        await ingress.post("look", {"a": "b"}),
    ]
    assert [answer.status_code for answer in answers] == [400] * len(answers)
    assert [answer.json()["message"] for answer in answers] == [
        "body: is not JSON (Expecting value: line 1 column 6 (char 5)).",
        'body: must be a JSON object, not "x".',
        "body: must be a JSON object, not null.",
        'turn: must be a whole number, not "1".',
        "yes: is missing.",
        'body["a"]: must be a whole number, not "b".',
    ]
    right = await ingress.post("approve", {"turn": 1, "yes": True})
    assert right.json() == "wrong bodies: 2 True"
    assert (await ingress.post("look")).json() == {"asked": None}


async def test_a_bug_in_an_exclusive_handler_gives_the_lock_back_after_a_few_tries(
    restate_env: Restate, deploy: Deploy
) -> None:
    helpful = HelpfulAgent("BuggyAgent")
    await deploy(helpful)
    failing = await Ingress(restate_env, "BuggyAgent", "bug").post("fail")
    assert (failing.status_code, "a bug" in failing.json()["message"]) == (500, True)
    assert helpful.tries == SOON.max_attempts
    outcome = await Session(restate_env.client, "BuggyAgent", "bug").ask("Are you there?")
    assert outcome["status"] == "completed"


async def test_a_session_calls_the_handlers_that_were_added_from_a_client_and_from_a_handler(
    restate_env: Restate, deploy: Deploy
) -> None:
    helpful = HelpfulAgent("HelpfulAgent")
    caller = restate.Service("HelpfulCaller")

    async def all_calls(via: Any) -> list[Any]:
        session = Session(via, helpful, "a/b ü?")
        answer: Answer = {"turn": 1, "yes": True}
        key = "client" if via is restate_env.client else "handler"
        told: list[Any] = [
            await session.call(helpful.approve, answer),
            await session.call("approve", answer, idempotency_key=f"a {key}"),
            await session.call(helpful.look),
            await session.call(helpful.look, {"a": 1}),
            await session.call("look"),
            await session.call("look", {"a": 1}),
            await session.call(helpful.count_tries),
            await session.call("count"),
            await Session(via, "HelpfulAgent", "by name").call(helpful.approve, answer),
        ]
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.call(helpful.refuse),
            lambda: session.call("refuse"),
            lambda: session.call(helpful.look, cast("Any", {"a": "b"})),
            lambda: session.call("look", []),
        ]
        for call in calls:
            try:
                told.append(await call())
            except TerminalError as error:
                told.append((error.status_code, error.message))
        return told

    @caller.handler()
    async def call(ctx: Context) -> list[Any]:
        return await all_calls(ctx)

    await deploy(helpful, caller)
    outside = await all_calls(restate_env.client)
    assert outside == [
        "a/b ü?: 2 True",
        "a/b ü?: 2 True",
        {"asked": None},
        {"asked": {"a": 1}},
        {"asked": None},
        {"asked": {"a": 1}},
        0,
        0,
        "by name: 2 True",
        (410, "Too late."),
        (410, "Too late."),
        (400, 'body["a"]: must be a whole number, not "b".'),
        (400, "body: must be a JSON object or null, not []."),
    ]
    inside = await restate_env.client.service_call(call, None)
    assert [tuple(x) if isinstance(x, list) else x for x in inside] == outside


async def test_a_function_that_is_no_handler_of_the_agent_is_refused_with_the_remedy(
    restate_env: Restate,
) -> None:
    helpful, nosy = HelpfulAgent("HelpfulAgent"), NosyAgent()
    session = Session(restate_env.client, helpful, "ada")
    for wrong in (nosy.look, HelpfulAgent.approve, helpful.run):
        with pytest.raises(ValueError, match="is no handler of HelpfulAgent") as error:
            await session.call(wrong)  # type: ignore[call-overload]
        assert "Write it as `agent.handler` of the agent, or as its name." in str(error.value)


async def openapi(env: Restate, name: str) -> Any:
    """What Restate tells whoever makes a client."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{env.admin_url}/services/{name}/openapi")
    return answer.raise_for_status().json()


def body_of(document: Any, handler: str) -> Any:
    """Whether a body has to be sent, and its schema."""
    (path,) = [x for x in document["paths"] if x.endswith(f"/{{key}}/{handler}") and "/call/" in x]
    request = document["paths"][path]["post"]["requestBody"]
    schema = request["content"]["application/json"].get("schema")
    if schema is not None and "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return request["required"], schema


async def test_whoever_makes_a_client_is_told_what_can_be_sent(
    restate_env: Restate, deploy: Deploy
) -> None:
    await deploy(HelpfulAgent("OpenAgent"))
    document = await openapi(restate_env, "OpenAgent")
    nothing = [body_of(document, x) for x in ("get_status", "get_history", "count", "fail")]
    assert nothing == [(False, None)] * 4
    for handler_ in ("cancel", "attach", "get_turns", "regenerate", "reset", "look"):
        needed, schema = body_of(document, handler_)
        assert (needed, "null" in json.dumps(schema)) == (False, True)
    _, said = body_of(document, "message")
    assert said["required"] == ["content"]
    assert "default" not in said["properties"]["role"]
    part = said["properties"]["content"]["anyOf"][1]["items"]
    assert (part["required"], part["additionalProperties"]) == (["type"], True)
    _, answer = body_of(document, "approve")
    assert answer["required"] == ["turn", "yes"]
    assert answer["properties"] == {"turn": {"type": "integer"}, "yes": {"type": "boolean"}}


async def test_what_takes_nothing_takes_no_body_however_it_is_sent(
    restate_env: Restate, deploy: Deploy
) -> None:
    await deploy(HelpfulAgent("EmptyAgent"))
    json_ = {"content-type": "application/json"}
    url = f"{restate_env.ingress_url}/EmptyAgent/nobody"
    async with httpx.AsyncClient() as client:
        for handler_ in ("get_status", "get_history", "count"):
            answers = [
                await client.post(f"{url}/{handler_}"),
                await client.get(f"{url}/{handler_}"),
                await client.post(f"{url}/{handler_}", headers=json_),
                await client.post(f"{url}/{handler_}", headers=json_, content=b"null"),
                await client.post(f"{url}/{handler_}", headers=json_, content=b"{}"),
            ]
            assert [x.status_code for x in answers] == [200] * len(answers), handler_
        for handler_ in ("cancel", "get_turns", "reset", "look"):
            answers = [
                await client.post(f"{url}/{handler_}"),
                await client.post(f"{url}/{handler_}", headers=json_, content=b"null"),
                await client.post(f"{url}/{handler_}", headers=json_, content=b"{}"),
            ]
            assert [x.status_code for x in answers] == [200] * len(answers), handler_

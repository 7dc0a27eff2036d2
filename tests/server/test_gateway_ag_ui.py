"""Runs of AG-UI, through the gateway."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from restate import Context, TerminalError
from starlette.requests import Request

from interruptible import Agent, Session, Task
from interruptible.gateway import Gateway
from interruptible.stream import Stream
from interruptible.testing import Restate, serve
from tests.agui import Page, complaints

from .conftest import Deploy, Log, Speaking, eventually, once
from .streaming import Speaker

pytestmark = [pytest.mark.anyio, once]

CANCELLED = {"type": "cancelled"}
SUCCESS = {"type": "success"}


async def allow(_: Request, agent: str, session: str) -> bool:
    return session != "of somebody else"


@asynccontextmanager
async def facing(env: Restate, *agents: Agent | str) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A gateway before some agents, and what reaches it."""
    gateway = Gateway(agents=agents, authorize=allow, ingress=env.ingress_url)
    async with (
        serve(gateway) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as http,
    ):
        yield http


@asynccontextmanager
async def paged(
    env: Restate, deploy: Deploy, agent: Agent, thread: str = "one"
) -> AsyncGenerator[tuple[Page, Session], None]:
    """A page that shows a session of an agent, and the session."""
    await deploy(agent)
    async with facing(env, agent) as http:
        yield Page(http, agent.name, thread), Session(env.client, agent, thread)


def says(text: str) -> Any:
    """Whether an event adds words that end so."""
    return lambda e: e["type"] == "TEXT_MESSAGE_CONTENT" and e["delta"].endswith(text)


async def test_a_run_with_words_thoughts_a_tool_and_a_result(
    deploy: Deploy, restate_env: Restate, log: Log
) -> None:
    agent = Speaker(log, "AgUiWhole", restate_env)
    agent.tell(1, "think Hm.", "say It ", "say is", "It is so.", "call", "found", "Done.", "end")
    async with paged(restate_env, deploy, agent) as (page, session):
        page.say("Hi")
        end = await page.run("r1")
        turn = (await session.turns())["turns"][0]
    assert end["outcome"] == SUCCESS
    assert (end["threadId"], end["runId"]) == ("one", "r1")
    assert page.shown == [
        ("one-0", "user", "Hi"),
        ("1.0", "assistant", "It is so."),
        ("1.1", "assistant", "", ("c1", "{}")),
        ("1.2", "tool", "found"),
        ("1.3", "assistant", "Done."),
    ]
    assert complaints(page.heard) == []
    noted = turn["input"][0]["metadata"]["ag-ui"]
    assert (noted["message"], noted["run"]) == ("one-0", "r1")


async def test_what_a_step_says_is_told_while_it_speaks(
    deploy: Deploy, restate_env: Restate, log: Log
) -> None:
    agent = Speaker(log, "AgUiWords", restate_env)
    async with paged(restate_env, deploy, agent) as (page, _):
        page.say("Hi")
        agent.tell(1, "say Hello")
        running = asyncio.ensure_future(page.run("r1"))
        await page.until(lambda x: x[1:] == [("1.0", "assistant", "Hello")])
        agent.tell(1, "say , world", "Hello, world.", "end")
        await running
    assert page.shown[1:] == [("1.0", "assistant", "Hello, world.")]
    assert complaints(page.heard) == []


async def test_who_speaks_up_has_the_first_run_cancelled(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("AgUiInterrupted")
    async with facing(restate_env, agent) as http:
        first, second = (Page(http, agent.name, "one") for _ in range(2))
        first.say("Go")
        agent.tell(1, "say Going")
        running = asyncio.ensure_future(first.run("r1"))
        await first.until(lambda x: x[1:] == [("1.0", "assistant", "Going")])
        second.messages = [*first.messages]
        second.say("No, stop")
        agent.tell(2, "Stopped.", "end")
        end = await second.run("r2")
        cancelled = await running
    assert cancelled["outcome"] == CANCELLED
    assert end["outcome"] == SUCCESS
    assert second.shown[2:] == [("one-2", "user", "No, stop"), ("2.0", "assistant", "Stopped.")]
    assert first.shown[1:] == [("1.0", "assistant", "Going")]
    assert complaints(first.heard) + complaints(second.heard) == []


async def test_a_run_of_a_steered_message_is_that_of_the_turn_that_takes_it(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("AgUiSteered", policy="steer")
    async with facing(restate_env, agent) as http:
        first, second = (Page(http, agent.name, "one") for _ in range(2))
        first.say("Go")
        running = asyncio.ensure_future(first.run("r1"))
        await agent.asks.until(1)
        second.messages = [*first.messages]
        second.say("Faster", "faster")
        steering = asyncio.ensure_future(second.run("r2", mode="steer"))
        status = Session(restate_env.client, agent, "one").status
        await eventually(lambda: _pending(status))
        agent.tell(1, "look", "Faster now.", "end")
        ends = [await running, await steering]
    assert [x["outcome"] for x in ends] == [SUCCESS, SUCCESS]
    told = [("faster", "user", "Faster"), ("1.1", "assistant", "Faster now.")]
    assert first.shown[1:] == told
    assert second.shown[1:] == told
    assert complaints(first.heard) + complaints(second.heard) == []


async def _pending(status: Any) -> bool:
    return bool((await status())["pending"])


async def test_a_queued_run_waits_and_then_tells_its_own_turn(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("AgUiQueued")
    async with facing(restate_env, agent) as http:
        first, second = (Page(http, agent.name, "one") for _ in range(2))
        first.say("Go")
        running = asyncio.ensure_future(first.run("r1"))
        await agent.asks.until(1)
        second.messages = [*first.messages]
        second.say("Then this", "then")
        waiting = asyncio.ensure_future(second.run("r2", mode="queue"))
        status = Session(restate_env.client, agent, "one").status
        await eventually(lambda: _pending(status))
        agent.tell(2, "say Sec", "Second.", "end")
        agent.tell(1, "First.", "end")
        ends = [await running, await waiting]
    assert [x["outcome"] for x in ends] == [SUCCESS, SUCCESS]
    assert first.shown[1:] == [("1.0", "assistant", "First.")]
    assert second.shown[1:] == [("then", "user", "Then this"), ("2.0", "assistant", "Second.")]


async def test_a_turn_that_is_rolled_back_is_gone_from_the_page(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("AgUiRolledBack")
    async with facing(restate_env, agent) as http:
        first, second = (Page(http, agent.name, "one") for _ in range(2))
        first.say("Go", "go")
        agent.tell(1, "Gone")
        running = asyncio.ensure_future(first.run("r1"))
        await first.until(lambda x: len(x) == 2)
        second.say("Otherwise", "otherwise")
        agent.tell(2, "So.", "end")
        end = await second.run("r2", mode="rollback")
        assert (await running)["outcome"] == CANCELLED
    assert end["outcome"] == SUCCESS
    assert first.shown == []
    assert second.shown == [("otherwise", "user", "Otherwise"), ("2.0", "assistant", "So.")]
    assert complaints(first.heard) + complaints(second.heard) == []


async def test_who_hangs_up_cancels_nothing_and_goes_on_with_the_same_run(
    deploy: Deploy, restate_env: Restate, log: Log
) -> None:
    agent = Speaker(log, "AgUiHungUp", restate_env)
    async with paged(restate_env, deploy, agent) as (page, session):
        page.say("Hi")
        agent.tell(1, "say Hel")
        await page.run("r1", until=says("Hel"))
        page.heard.clear()
        running = asyncio.ensure_future(page.run("r1"))
        agent.tell(1, "say lo", "Hello.", "end")
        end = await running
        turns = (await session.turns())["turns"]
    assert end["outcome"] == SUCCESS
    assert page.shown == [("one-0", "user", "Hi"), ("1.0", "assistant", "Hello.")]
    assert [x["turn"] for x in turns] == [1]
    assert complaints(page.heard) == []


async def test_what_is_on_record_is_not_said_once_more(
    deploy: Deploy, restate_env: Restate, log: Log
) -> None:
    agent = Speaker(log, "AgUiAgain", restate_env)
    agent.tell(1, "Hello.", "end")
    async with paged(restate_env, deploy, agent) as (page, session):
        page.say("Hi")
        await page.run("r1")
        page.heard.clear()
        end = await page.run("r2")  # nothing new, and it has all
        assert [x["type"] for x in page.heard] == ["RUN_STARTED", "RUN_FINISHED"]
        assert end["outcome"] == SUCCESS
        page.messages.pop()
        await page.run("r3")  # it has lost the answer
        turns = (await session.turns())["turns"]
    assert page.shown == [("one-0", "user", "Hi"), ("1.0", "assistant", "Hello.")]
    assert [x["turn"] for x in turns] == [1]


async def test_a_page_that_was_reloaded_is_given_the_conversation(
    deploy: Deploy, restate_env: Restate, log: Log
) -> None:
    agent = Speaker(log, "AgUiReloaded", restate_env)
    for turn in (1, 2):
        agent.tell(turn, f"Answer {turn}.", "end")
    async with paged(restate_env, deploy, agent) as (page, session):
        await session.ask("Hi")
        page.say("Again", "again")
        await page.run("r1")
    assert page.shown == [
        ("said-1", "user", "Hi"),
        ("1.0", "assistant", "Answer 1."),
        ("again", "user", "Again"),
        ("2.0", "assistant", "Answer 2."),
    ]
    assert complaints(page.heard) == []


def stream_of(env: Restate) -> Stream:
    return Stream(ingress=env.ingress_url)


class Asks(Agent):
    """Asks for approvals, one after the other."""

    async def run(self, ctx: Context, task: Task) -> str:
        said: list[str] = []
        for n in range(int(task.text)):
            answer = await task.approval(f"Push {n}?", value={"n": n})
            said.append(f"{bool(answer)} {answer.reason} {answer.value}")
        return "; ".join(said)


async def test_an_approval_ends_the_run_and_its_answer_goes_on_with_another(
    deploy: Deploy, restate_env: Restate
) -> None:
    agent = Asks(name="AgUiAsks", stream=stream_of(restate_env))
    async with paged(restate_env, deploy, agent) as (page, _):
        page.say("3")
        end = await page.run("r1")
        [asked] = end["outcome"]["interrupts"]
        assert (asked["id"], asked["reason"], asked["message"]) == ("1", "approval", "Push 0?")
        assert asked["metadata"] == {"value": {"n": 0}}
        yes = {"interruptId": "1", "status": "resolved", "payload": {"approved": True, "value": 7}}
        end = await page.run("r2", resume=[yes])
        assert [x["message"] for x in end["outcome"]["interrupts"]] == ["Push 1?"]
        no = {
            "interruptId": "2",
            "status": "resolved",
            "payload": {"approved": False, "reason": "x"},
        }
        end = await page.run("r3", resume=[no])
        assert [x["id"] for x in end["outcome"]["interrupts"]] == ["3"]
        end = await page.run("r4", resume=[{"interruptId": "3", "status": "cancelled"}])
        assert end["outcome"] == SUCCESS
    assert page.shown[1:] == [("1.0", "assistant", "True None 7; False x None; False None None")]
    assert complaints(page.heard) == []


async def test_a_new_message_while_an_approval_waits_interrupts_as_always(
    deploy: Deploy, restate_env: Restate
) -> None:
    agent = Asks(name="AgUiAsksNoMore", stream=stream_of(restate_env))
    async with paged(restate_env, deploy, agent) as (page, session):
        page.say("1")
        await page.run("r1")
        page.say("0")
        end = await page.run("r2", resume=[{"interruptId": "1", "status": "cancelled"}])
        assert end["outcome"] == SUCCESS
        turns = (await session.turns())["turns"]
    assert {x["turn"]: x["status"] for x in turns} == {1: "interrupted", 2: "completed"}


async def test_a_turn_that_fails_or_is_killed_is_an_error(
    deploy: Deploy, restate_env: Restate, log: Log
) -> None:
    agent = Speaker(log, "AgUiFails", restate_env)
    agent.tell(1, "Trying.", "fail")
    async with paged(restate_env, deploy, agent) as (page, session):
        page.say("Hi")
        end = await page.run("r1")
        assert (end["type"], end["code"], end["message"]) == ("RUN_ERROR", "failed", "no luck")
        page.say("Again")
        running = asyncio.ensure_future(page.run("r2"))
        await agent.asks.until(2)
        await restate_env.kill((await session.status())["task_id"] or "")
        end = await running
        assert (end["type"], end["code"]) == ("RUN_ERROR", "killed")
    assert [x[2] for x in page.shown] == ["Hi", "Trying.", "Again"]
    assert complaints(page.heard) == []


async def test_an_agent_without_a_stream_is_told_of_as_its_turn_ends(
    deploy: Deploy, restate_env: Restate
) -> None:
    class Plain(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return f"You said: {task.text}"

    async with paged(restate_env, deploy, Plain(name="AgUiPlain")) as (page, _):
        page.say("Hi")
        end = await page.run("r1")
    assert end["outcome"] == SUCCESS
    assert page.shown[1:] == [("1.0", "assistant", "You said: Hi")]
    assert complaints(page.heard) == []


async def test_a_message_that_is_withdrawn_has_a_run_that_is_cancelled(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("AgUiWithdrawn")
    session = Session(restate_env.client, agent, "one")
    await session.send("Go")
    async with facing(restate_env, agent) as http:
        page = Page(http, agent.name, "one")
        page.say("Then this")
        running = asyncio.ensure_future(page.run("r1", mode="queue"))
        await eventually(lambda: _pending(session.status))
        await session.withdraw((await session.status())["pending"][0]["id"])
        assert (await running)["outcome"] == CANCELLED
        agent.tell(1, "end")


async def test_a_message_that_is_promoted_is_told_of_in_the_turn_that_it_becomes(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("AgUiPromoted")
    session = Session(restate_env.client, agent, "one")
    await session.send("Go")
    await agent.asks.until(1)
    await session.send("Second", policy="queue")
    async with facing(restate_env, agent) as http:
        page = Page(http, agent.name, "one")
        page.say("Third", "third")
        running = asyncio.ensure_future(page.run("r1", mode="queue"))
        await eventually(lambda: _pends(session, 2))
        await session.promote((await session.status())["pending"][1]["id"], "steer")
        agent.tell(1, "look", "Third, too.", "end")
        agent.tell(2, "Second.", "end")
        assert (await running)["outcome"] == SUCCESS
    assert ("1.1", "assistant", "Third, too.") in page.shown


async def _pends(session: Session, count: int) -> bool:
    return len((await session.status())["pending"]) == count


async def test_whatever_a_client_calls_its_messages_they_are_told_apart(
    deploy: Deploy, restate_env: Restate
) -> None:
    class Plain(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return f"You said: {task.text}"

    names = ["a\nb", "ü" * 300, "1.0", "said-1", "a b", "../x"]
    async with paged(restate_env, deploy, Plain(name="AgUiNames")) as (page, session):
        for n, name in enumerate(names):
            page.say(f"{n}", name)
            await page.run(f"r{n}\r\n")
            assert page.shown[-1][1:] == ("assistant", f"You said: {n}")
        turns = (await session.turns())["turns"]
    assert [x["input"][0]["content"] for x in turns] == [f"{n}" for n in range(len(names))]
    assert complaints(page.heard) == []


async def test_images_reach_the_agent(deploy: Deploy, restate_env: Restate) -> None:
    class Looks(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return str([x["type"] for x in task.input[0]["content"]])

    async with paged(restate_env, deploy, Looks(name="AgUiLooks")) as (page, _):
        data = {"type": "data", "value": "aGk=", "mimeType": "image/png"}
        page.say([{"type": "text", "text": "Look"}, {"type": "image", "source": data}])
        await page.run("r1")
    assert page.shown[-1] == ("1.0", "assistant", "['text', 'image_url']")


REFUSED: list[Any] = [
    pytest.param(b"no json", 400, "body: is no RunAgentInput", id="no JSON"),
    pytest.param(b"[" * 100_000, 400, "body: is no RunAgentInput", id="too deep"),
    pytest.param({"runId": "r"}, 400, "threadId", id="no thread"),
    pytest.param({"threadId": ""}, 400, "threadId: is empty", id="an empty thread"),
    pytest.param({"messages": []}, 400, "messages: none is a user's", id="no message"),
    pytest.param({"forwardedProps": {"mode": "now"}}, 400, "forwardedProps: mode", id="no mode"),
    pytest.param({"threadId": "of somebody else"}, 403, "You may not", id="not theirs"),
    pytest.param({"threadId": ".."}, 404, "There is no session", id="a path"),
    pytest.param(
        {"resume": [{"interruptId": "x", "status": "cancelled"}]}, 400, "resume", id="no id"
    ),
    pytest.param(
        {"resume": [{"interruptId": "1", "status": "resolved", "payload": "yes"}]},
        400,
        "resume: the payload of 1",
        id="no answer",
    ),
]


@pytest.mark.parametrize(("body", "status", "reason"), REFUSED)
async def test_a_run_that_makes_no_sense_is_refused(
    restate_env: Restate, body: Any, status: int, reason: str
) -> None:
    whole: Any = {
        "threadId": "t",
        "runId": "r",
        "messages": [{"id": "a", "role": "user", "content": "Hi"}],
    }
    if isinstance(body, dict):
        whole = {
            key: x
            for key, x in {**whole, **body}.items()
            if body != {"runId": "r"} or key != "threadId"
        }
        options: Any = {"json": whole}
    else:
        options = {"content": body, "headers": {"Content-Type": "application/json"}}
    async with facing(restate_env, "NeverDeployed") as http:
        answer = await http.post("/ag-ui/NeverDeployed", **options)
    assert answer.status_code == status
    assert answer.json()["code"] == status
    assert reason in answer.json()["message"]


async def test_what_the_session_refuses_is_refused_as_on_the_wire(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("AgUiRefuses")
    session = Session(restate_env.client, agent, "one")
    await session.send("Go")
    body = {"threadId": "one", "runId": "r", "forwardedProps": {"mode": "reject"}}
    body["messages"] = [{"id": "a", "role": "user", "content": "Hi"}]
    async with facing(restate_env, agent) as http:
        answer = await http.post(f"/ag-ui/{agent.name}", json=body)
    agent.tell(1, "end")
    assert answer.status_code == 423
    assert answer.json()["message"].startswith("policy: turn 1 is live")


async def test_what_was_refused_is_sent_once_more(restate_env: Restate, speaking: Speaking) -> None:
    agent = await speaking("AgUiRefusedOnce")
    session = Session(restate_env.client, agent, "one")
    await session.send("Go")
    body: dict[str, Any] = {"threadId": "one", "runId": "r", "forwardedProps": {"mode": "reject"}}
    body["messages"] = [{"id": "a", "role": "user", "content": "Hi"}]
    async with facing(restate_env, agent) as http:
        assert (await http.post(f"/ag-ui/{agent.name}", json=body)).status_code == 423
        agent.tell(1, "end")
        agent.tell(2, "Hello.", "end")
        await session.attach(1)
        page = Page(http, agent.name, "one")
        page.say("Hi", "a")
        end = await page.run("r2", mode="reject")
    assert end["outcome"] == SUCCESS
    assert page.shown[-1] == ("2.0", "assistant", "Hello.")


async def test_another_message_of_the_same_name_is_refused(
    deploy: Deploy, restate_env: Restate, log: Log
) -> None:
    agent = Speaker(log, "AgUiSameName", restate_env)
    agent.tell(1, "Hello.", "end")
    await deploy(agent)
    async with facing(restate_env, agent) as http:
        page = Page(http, agent.name, "one")
        page.say("Hi", "1")
        await page.run("r1")
        body = {"threadId": "one", "runId": "r2"}
        body |= {"messages": [{"id": "1", "role": "user", "content": "Bye"}]}
        answer = await http.post(f"/ag-ui/{agent.name}", json=body)
    assert answer.status_code == 409
    assert answer.json()["message"].startswith("messages: '1' says something else by now.")


async def test_who_attaches_is_cut_off_after_all_was_told_and_the_run_ends_still(
    deploy: Deploy, restate_env: Restate, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Speaker(log, "AgUiCutOff", restate_env)
    attach, cut = Session.attach, asyncio.Event()
    failures: list[Exception] = [httpx.ReadError("cut"), TerminalError("Bad gateway", 502)]

    async def cut_off(self: Session, *arguments: Any, **options: Any) -> Any:
        if failures:
            await cut.wait()
            raise failures.pop()
        return await attach(self, *arguments, **options)

    monkeypatch.setattr(Session, "attach", cut_off)
    agent.tell(1, "Hello.", "end")
    async with paged(restate_env, deploy, agent) as (page, session):
        page.say("Hi")
        running = asyncio.ensure_future(page.run("r1"))
        await page.until(lambda x: len(x) == 2)
        await eventually(lambda: _is_over(session))
        cut.set()
        assert (await running)["outcome"] == SUCCESS


async def _is_over(session: Session) -> bool:
    return (await session.turns())["turns"][0]["status"] == "completed"


async def test_what_an_agent_tells_last_is_told(deploy: Deploy, restate_env: Restate) -> None:
    class Tells(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            await ctx.run_typed("tell", self.work, tell=task.publish)
            return "Done."

        async def work(self, tell: Any) -> None:
            tell({"type": "usage", "tokens": 1})
            await asyncio.sleep(0.2)
            tell({"type": "usage", "tokens": 2})
            await asyncio.sleep(0.2)

    agent = Tells(name="AgUiTellsLast", stream=stream_of(restate_env))
    async with paged(restate_env, deploy, agent) as (page, _):
        page.say("Hi")
        await page.run("r1")
    told = [x["tokens"] for name, x in page.custom if name == "interruptible.usage"]
    assert told == [1, 2]


class AsksLater(Agent):
    """Takes what is steered, and asks then."""

    def __init__(self, name: str, env: Restate) -> None:
        super().__init__(name=name, stream=stream_of(env))
        self.goes_on = asyncio.Event()

    async def run(self, ctx: Context, task: Task) -> str:
        await ctx.run_typed("wait", self.goes_on.wait)
        while not await task.steering():
            await ctx.sleep(timedelta(milliseconds=50))
        return f"Said: {bool(await task.approval('Push?'))}"


async def test_an_approval_of_a_turn_that_a_message_came_to_late_is_asked(
    deploy: Deploy, restate_env: Restate
) -> None:
    agent = AsksLater("AgUiAsksLater", restate_env)
    async with paged(restate_env, deploy, agent) as (page, session):
        await session.send("Go")
        page.say("Also")
        running = asyncio.ensure_future(page.run("r1", mode="queue"))
        await eventually(lambda: _pends(session, 1))
        await session.promote((await session.status())["pending"][0]["id"], "steer")
        agent.goes_on.set()
        end = await running
        assert [x["message"] for x in end["outcome"]["interrupts"]] == ["Push?"]
        no = {"interruptId": "1", "status": "resolved", "payload": False}
        assert (await page.run("r2", resume=[no]))["outcome"] == SUCCESS
    assert ("1.1", "assistant", "Said: False") in page.shown


async def test_a_message_that_nobody_has_checked_ends_no_run_without_a_word(
    deploy: Deploy, restate_env: Restate
) -> None:
    class Odd(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            task.append({"role": "assistant", "content": [{"type": "text", "text": 5}]})

    async with paged(restate_env, deploy, Odd(name="AgUiOdd")) as (page, _):
        page.say("Hi")
        assert (await page.run("r1"))["type"] in ("RUN_FINISHED", "RUN_ERROR")
    assert complaints(page.heard) == []


async def test_two_requests_of_one_run_at_once_are_one_message(
    deploy: Deploy, restate_env: Restate, log: Log
) -> None:
    agent = Speaker(log, "AgUiTwice", restate_env)
    agent.tell(1, "Hello.", "end")
    await deploy(agent)
    async with facing(restate_env, agent) as http, AsyncExitStack():
        pages = [Page(http, agent.name, "one") for _ in range(5)]
        for page in pages:
            page.say("Hi")
        await asyncio.gather(*(x.run("r1") for x in pages))
    session = Session(restate_env.client, agent, "one")
    assert [x["turn"] for x in (await session.turns())["turns"]] == [1]
    assert {str(x.shown) for x in pages} == {str(pages[0].shown)}
    assert pages[0].shown == [("one-0", "user", "Hi"), ("1.0", "assistant", "Hello.")]

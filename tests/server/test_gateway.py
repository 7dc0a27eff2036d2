"""The gateway: what browsers may do by it, and what they may not."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from restate import Context, ObjectContext, ObjectSharedContext, TerminalError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import Mount

from interruptible import Agent, Session, Task, handler
from interruptible._gateway import bounds
from interruptible.gateway import Gateway
from interruptible.testing import Restate, serve
from tests.agui import events_of

from .conftest import Deploy, Speaking, eventually, once

pytestmark = [pytest.mark.anyio, once]

JSON = {"Content-Type": "application/json"}


class Echo(Agent):
    """Answers at once; and tells with which headers a handler of its own was called."""

    async def run(self, ctx: Context, task: Task) -> str:
        return f"You said: {task.text}"

    @handler(kind="shared")
    async def headers(self, ctx: ObjectSharedContext, body: str) -> dict[str, str]:
        return {**dict(ctx.request().headers), "body": body}

    @handler()
    async def refuse(self, ctx: ObjectContext) -> None:
        raise TerminalError("I will not", 418)


class Asked:
    """Notes what is asked of `authorize`, and lets pass what is not somebody else's."""

    def __init__(self) -> None:
        self.of: list[tuple[str, str]] = []

    async def __call__(self, request: Request, agent: str, session: str) -> bool:
        self.of.append((agent, session))
        if "bearer" in request.query_params:
            raise HTTPException(401, "Who are you?", {"WWW-Authenticate": "Bearer"})
        return not session.startswith("of somebody else")


@asynccontextmanager
async def facing(
    env: Restate, *agents: Agent | str, **options: Any
) -> AsyncGenerator[httpx.AsyncClient, None]:
    options = {"authorize": Asked(), "ingress": env.ingress_url, **options}
    gateway = Gateway(agents=agents, **options)
    async with (
        serve(gateway) as url,  # type: ignore[arg-type]
        httpx.AsyncClient(base_url=url, timeout=60) as http,
    ):
        yield http


def answered(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["code"] == answer.status_code
    return answer.status_code, body["message"]


# -- Handlers. -------------------------------------------------------------------------------------


async def test_handlers_answer_and_refuse_as_on_the_wire(
    deploy: Deploy, restate_env: Restate
) -> None:
    agent = Echo(name="GatewayEcho")
    await deploy(agent)
    async with facing(restate_env, agent) as http:
        said = await http.post("/GatewayEcho/ada/message", json={"content": "Hi"})
        outcome = await http.post("/GatewayEcho/ada/attach", json={"turn": 1})
        history = await http.post("/GatewayEcho/ada/get_history", headers=JSON)
        refused = await http.post("/GatewayEcho/ada/message", json={"content": 5})
        direct = await restate_env._http.post(
            f"{restate_env.ingress_url}/GatewayEcho/ada/message", json={"content": 5}
        )
    assert (said.status_code, said.json()["turn"]) == (200, 1)
    assert outcome.json()["messages"] == [{"role": "assistant", "content": "You said: Hi"}]
    assert [x["role"] for x in history.json()] == ["user", "assistant"]
    assert (refused.status_code, refused.json()) == (direct.status_code, direct.json())


async def test_an_idempotency_key_is_passed_on(deploy: Deploy, restate_env: Restate) -> None:
    agent = Echo(name="GatewayOnce")
    await deploy(agent)
    async with facing(restate_env, agent) as http:
        for _ in range(3):
            headers = {"Idempotency-Key": "k"}
            said = await http.post(
                "/GatewayOnce/a/message", json={"content": "Hi"}, headers=headers
            )
            assert said.json()["turn"] == 1


async def test_handlers_of_ones_own_are_called_if_they_are_named(
    deploy: Deploy, restate_env: Restate
) -> None:
    agent = Echo(name="GatewayOwn")
    await deploy(agent)
    forged = {"X-Restate-Id": "1", "Authorization": "secret", "Cookie": "me", "X-Mine": "1"}
    async with facing(restate_env, agent, handlers=["headers", "refuse"]) as http:
        seen = (await http.post("/GatewayOwn/a/headers", json="Hi", headers=forged)).json()
        refused = answered(await http.post("/GatewayOwn/a/refuse", headers=JSON))
    assert seen["body"] == "Hi"
    assert not {x.lower() for x in seen} & {"authorization", "cookie", "x-mine", "x-restate-id"}
    assert refused[0] == 418
    async with facing(restate_env, agent) as http:
        assert answered(await http.post("/GatewayOwn/a/refuse", headers=JSON))[0] == 404


@pytest.mark.parametrize(
    "handler", ["settle", "begin", "adopt", "run_task", "pull", "publish", "x"]
)
async def test_what_is_not_public_is_not_there(restate_env: Restate, handler: str) -> None:
    asked = Asked()
    async with facing(restate_env, "NeverThere", authorize=asked) as http:
        answer = await http.post(f"/NeverThere/ada/{handler}", json={})
    assert answered(answer)[0] == 404
    assert asked.of == []


TRICKS = [
    "/GatewayTricks/of%20somebody%20else/message",
    "/GatewayTricks/of%20somebody%20else%2F..%2Fada/message",
    "/GatewayTricks/%6ff somebody else/message",
]


@pytest.mark.parametrize("path", TRICKS)
async def test_a_session_of_somebody_else_is_not_reached(restate_env: Restate, path: str) -> None:
    async with facing(restate_env, "GatewayTricks") as http:
        answer = await http.post(path, json={"content": "Hi"})
    assert answered(answer)[0] == 403


NOT_THERE = [
    "/GatewayNone/../GatewayTricks/ada/message",
    "/GatewayTricksStream/ada/pull",
    "/GatewayTricksTask/run_task",
    "/GatewayTricks//message",
    "/GatewayTricks/%2e%2e/message",
    "/GatewayTricks/./message",
    "/GatewayTricks/ada/message/send",
    "/GatewayTricks/ada/message%2fsend",
    "/GatewayTricks/ada/message%3fdelay=1d",
    "/restate/health",
    "/",
]


@pytest.mark.parametrize("path", NOT_THERE)
async def test_paths_that_lead_elsewhere_lead_nowhere(restate_env: Restate, path: str) -> None:
    async with facing(restate_env, "GatewayTricks") as http:
        status, headers, _ = await raw(http, f"POST {path}", b"{}", **JSON)
    assert status == 404, headers


async def raw(
    http: httpx.AsyncClient, line: str, body: bytes = b"", **headers: str
) -> tuple[int, str, bytes]:
    """A request as it stands: a client would tidy up its path."""
    where = urlsplit(str(http.base_url))
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        lines = [f"{line} HTTP/1.1", "Host: x", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if "Transfer-Encoding" not in headers and "Content-Length" not in headers:
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        return int(head.split()[1]), head, await reader.read()
    finally:
        writer.close()


async def test_a_key_may_be_anything_and_is_passed_on_as_it_is(
    deploy: Deploy, restate_env: Restate
) -> None:
    agent = Echo(name="GatewayKeys")
    await deploy(agent)
    keys = ["a/b", "a%2Fb", "ü ?#&", "x/message", '"', "*"]
    asked = Asked()
    async with facing(restate_env, agent, authorize=asked) as http:
        for key in keys:
            path = f"/GatewayKeys/{quote(key, safe='')}/message"
            answer = await http.post(path, json={"content": key})
            assert answer.status_code == 200, (key, answer.text)
    assert [x[1] for x in asked.of] == keys
    for key in keys:
        turns = (await Session(restate_env.client, agent, key).turns())["turns"]
        assert [x["input"][0]["content"] for x in turns] == [key]


async def test_a_fork_asks_for_the_session_that_it_makes_too(
    deploy: Deploy, restate_env: Restate
) -> None:
    agent = Echo(name="GatewayForks")
    await deploy(agent)
    await Session(restate_env.client, agent, "ada").ask("Hi")
    async with facing(restate_env, agent) as http:
        theirs = await http.post("/GatewayForks/ada/fork", json={"session": "of somebody else"})
        mine = await http.post("/GatewayForks/ada/fork", json={"session": "ada 2"})
    assert answered(theirs)[0] == 403
    assert mine.json() == {"session": "ada 2", "turn": 1}


async def test_headers_and_keys_that_make_no_sense_are_refused_or_passed_on(
    restate_env: Restate,
) -> None:
    async with facing(restate_env, "X") as http:
        odd = {"Idempotency-Key": "ü".encode("latin-1"), **JSON}
        answer = await http.post("/X/a/message", content=b"{}", headers=odd)  # type: ignore[arg-type]
        assert answer.status_code < 500
        for path in (f"/X/{'a' * 5000}/get_status", f"/X/{'%FF' * 3000}/get_status"):
            assert answered(await http.post(path, json={}))[0] == 404
        assert (
            answered(await http.post("/ag-ui/X", json={**run_input(), "threadId": "a" * 70_000}))[0]
            == 404
        )
        assert answered(await http.post("/X/a/fork", content=b"{", headers=JSON))[0] == 400


async def test_only_true_lets_a_request_pass(restate_env: Restate) -> None:
    for said in (None, 1, "yes", False):
        async with facing(restate_env, "X", authorize=lambda *_, said=said: said) as http:
            assert answered(await http.post("/X/a/message", json={}))[0] == 403
            assert answered(await http.get("/X/a/events"))[0] == 403
    async with facing(restate_env, "X") as http:
        answer = await http.post("/X/a/message?bearer=1", json={})
    assert answered(answer) == (401, "Who are you?")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_what_a_page_of_anybody_can_send_is_refused(
    restate_env: Restate, kind: str | None
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    async with facing(restate_env, "X") as http:
        for path in ("/X/a/cancel", "/ag-ui/X"):
            assert answered(await http.post(path, content=b"", headers=headers))[0] == 415


async def test_a_body_is_bounded_however_it_comes(
    restate_env: Restate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with facing(restate_env, "X", max_body=1000) as http:
        for headers, body in (
            ({"Content-Length": "1001"}, b""),
            ({"Transfer-Encoding": "chunked"}, b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"),
        ):
            status, _, said = await raw(http, "POST /X/a/message", body, **JSON, **headers)
            assert (status, json.loads(said)["message"]) == (413, "body: has more than 1000 bytes.")
        monkeypatch.setattr(bounds, "BODY_TIME", 0.1)
        where = urlsplit(str(http.base_url))
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        head = "POST /X/a/message HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: 100\r\n\r\nx".encode())
        assert b" 408 " in await reader.readline()
        writer.close()


async def test_pages_of_other_origins_may_ask_if_that_is_wanted(restate_env: Restate) -> None:
    cors = Middleware(
        CORSMiddleware, allow_origins=["https://a"], allow_methods=["POST"], allow_headers=["*"]
    )
    asks = {
        "Origin": "https://a",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    async with facing(restate_env, "X", middleware=[cors]) as http:
        answer = await http.options("/X/a/message", headers=asks)
        assert answer.headers["access-control-allow-origin"] == "https://a"
        other = await http.options("/X/a/message", headers={**asks, "Origin": "https://b"})
        assert "access-control-allow-origin" not in other.headers
    async with facing(restate_env, "X") as http:
        answer = await http.options("/X/a/message", headers=asks)
        assert "access-control-allow-origin" not in answer.headers


async def test_it_is_mounted_in_another_app(deploy: Deploy, restate_env: Restate) -> None:
    agent = Echo(name="GatewayMounted")
    await deploy(agent)
    gateway = Gateway(agents=[agent], authorize=Asked(), ingress=restate_env.ingress_url)
    app = Starlette(routes=[Mount("/api/agents", gateway)])
    async with serve(app) as url, httpx.AsyncClient(base_url=url) as http:  # type: ignore[arg-type]
        answer = await http.post("/api/agents/GatewayMounted/a%2Fb/message", json={"content": "Hi"})
    assert answer.json()["turn"] == 1
    assert await Session(restate_env.client, agent, "a/b").turns()


async def test_where_restate_is_not_is_said(restate_env: Restate) -> None:
    async with facing(restate_env, "X", ingress="http://127.0.0.1:9") as http:
        for answer in (
            await http.post("/X/a/message", json={"content": "Hi"}),
            await http.post("/ag-ui/X", json=run_input()),
        ):
            assert answered(answer) == (503, "Restate does not answer (ConnectError). Try again.")
    async with facing(restate_env, "NobodyHasThis") as http:
        answer = await http.post("/NobodyHasThis/a/message", json={"content": "Hi"})
    assert answer.status_code == 404
    assert "NobodyHasThis" in answer.json()["message"]


def run_input() -> Any:
    messages = [{"id": "a", "role": "user", "content": "Hi"}]
    return {"threadId": "t", "runId": "r", "messages": messages}


def test_a_gateway_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="agents is empty"):
        Gateway(agents=[], authorize=Asked())
    with pytest.raises(ValueError, match="Gateway: ingress is 'localhost'"):
        Gateway(agents=["X"], authorize=Asked(), ingress="localhost")


# -- Events. ---------------------------------------------------------------------------------------


async def test_events_come_with_ids_and_go_on_after_the_last(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("GatewayEvents")
    session = Session(restate_env.client, agent, "a/b")
    await session.send("Hi")
    agent.tell(1, "Hello.")
    seen: list[Any] = []
    async with facing(restate_env, agent) as http, AsyncExitStack() as stack:
        answer = await stack.enter_async_context(http.stream("GET", "/GatewayEvents/a%2Fb/events"))
        assert answer.headers["content-type"].startswith("text/event-stream")
        last: str | None = None
        async with events_of(answer) as events:
            async for name, event in events:
                assert name == str(event["id"])
                seen.append((event["type"], event.get("state")))
                last = name
                if event["type"] == "message":
                    break
        agent.tell(1, "end")
        more: list[Any] = []
        for options in ({"headers": {"Last-Event-ID": last}}, {"params": {"after": last}}):
            async with (
                http.stream("GET", "/GatewayEvents/a%2Fb/events", **options) as answer,  # type: ignore[arg-type]
                events_of(answer) as events,
            ):
                async for _, event in events:
                    more.append((event["type"], event.get("status")))
                    if "status" in event:
                        break
    assert seen == [("gap", None), ("turn", "begins"), ("message", None)]
    assert more == [("turn", "completed")] * 2


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30, "१", "1;2"])
async def test_a_forged_id_is_refused(restate_env: Restate, last: str) -> None:
    async with facing(restate_env, "X") as http:
        answer = await http.get("/X/a/events", headers={"Last-Event-ID": last.encode()})  # type: ignore[dict-item]
    assert answered(answer)[0] == 400


async def test_an_id_that_never_was_is_a_gap(restate_env: Restate, speaking: Speaking) -> None:
    agent = await speaking("GatewayFuture")
    await Session(restate_env.client, agent, "a").send("Hi")
    async with (
        facing(restate_env, agent) as http,
        http.stream("GET", "/GatewayFuture/a/events?after=999999") as answer,
        events_of(answer) as events,
    ):
        _, event = await anext(events)
        assert event["type"] == "gap"
    agent.tell(1, "end")


async def test_an_agent_without_a_stream_has_no_events(
    deploy: Deploy, restate_env: Restate
) -> None:
    agent = Echo(name="GatewaySilent")
    await deploy(agent)
    async with facing(restate_env, agent) as http:
        answer = await http.get("/GatewaySilent/a/events")
    assert answer.status_code == 404
    assert "GatewaySilentStream" in answer.json()["message"]


# -- Bounds. ---------------------------------------------------------------------------------------


async def test_requests_are_bounded_and_who_hangs_up_makes_room(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("GatewayBounded")
    await Session(restate_env.client, agent, "a").send("Hi")
    gateway = Gateway(
        agents=[agent], authorize=Asked(), ingress=restate_env.ingress_url, max_open=20
    )
    async with serve(gateway) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:  # type: ignore[arg-type]
        where = urlsplit(url)
        writers = []
        for n in range(200):  # ten thousand would do the same
            _, writer = await asyncio.open_connection(where.hostname, where.port)
            writers.append(writer)
            if n % 2:  # half of them say what they want, and read nothing of it
                writer.write(b"GET /GatewayBounded/a/events HTTP/1.1\r\nHost: x\r\n\r\n")
            else:
                writer.write(b"GET /GatewayBounded/a/events HTTP/1.1\r\nHost:")
        await eventually(lambda: _holds(gateway._app.open == 20))
        refused = await http.post("/GatewayBounded/a/get_status", json={})
        assert answered_shortly(refused) == (503, "Too many requests are open. Try again.")
        assert refused.headers["retry-after"] == "5"
        for writer in writers:
            writer.transport.abort()
        await eventually(lambda: _holds(gateway._app.open == 0))
        attaching = asyncio.ensure_future(http.post("/GatewayBounded/a/attach", json={}))
        await eventually(lambda: _holds(gateway._app.open == 1))
        attaching.cancel()  # it hangs up, and nobody waits for the turn any more
        await eventually(lambda: _holds(gateway._app.open == 0))
        agent.tell(1, "end")
        assert (await http.post("/GatewayBounded/a/get_status", json={})).status_code == 200


async def test_pages_of_other_origins_are_told_that_it_is_full_and_hung_up_on(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("GatewayHangsUp")
    await Session(restate_env.client, agent, "a").send("Hi")
    gateway = Gateway(
        agents=[agent],
        authorize=Asked(),
        ingress=restate_env.ingress_url,
        max_open=1,
        middleware=[Middleware(CORSMiddleware, allow_origins=["https://other.example"])],
    )
    elsewhere = {"Origin": "https://other.example"}
    async with (
        serve(gateway) as url,  # type: ignore[arg-type]
        httpx.AsyncClient(base_url=url, timeout=60, headers=elsewhere) as http,
    ):
        async with (
            http.stream("GET", "/GatewayHangsUp/a/events") as answer,
            aclosing(answer.aiter_lines()) as lines,  # type: ignore[type-var]
        ):
            await anext(lines)
            refused = await http.post("/GatewayHangsUp/a/get_status", json={})
            assert answered_shortly(refused) == (503, "Too many requests are open. Try again.")
            assert refused.headers["access-control-allow-origin"] == "https://other.example"
            gateway.hang_up()
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in lines:
                    pass
        await eventually(lambda: _holds(gateway._app.open == 0))
        assert (await http.post("/GatewayHangsUp/a/get_status", json={})).status_code == 200
        agent.tell(1, "end")


async def _holds(value: bool) -> bool:
    return value


def answered_shortly(answer: httpx.Response) -> tuple[int, str]:
    return answer.json()["code"], answer.json()["message"]


@pytest.mark.long
async def test_who_does_not_read_is_hung_up_on(restate_env: Restate, speaking: Speaking) -> None:
    agent = await speaking("GatewayUnread")
    session = Session(restate_env.client, agent, "a")
    await session.send("Hi")
    gateway = Gateway(
        agents=[agent],
        authorize=Asked(),
        ingress=restate_env.ingress_url,
        send_timeout=timedelta(seconds=0.5),
    )
    async with serve(gateway) as url:  # type: ignore[arg-type]
        where = urlsplit(url)
        loop = asyncio.get_running_loop()
        with socket.socket() as unread:
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread.setblocking(False)
            await loop.sock_connect(unread, (where.hostname, where.port))
            await loop.sock_sendall(
                unread, b"GET /GatewayUnread/a/events HTTP/1.1\r\nHost: x\r\n\r\n"
            )
            await eventually(lambda: _holds(gateway._app.open == 1))
            for _ in range(14):  # more than what the kernel keeps for who does not read
                agent.tell(1, "x" * 500_000)
            await eventually(lambda: _holds(gateway._app.open == 0))
            agent.tell(1, "end")
            while await loop.sock_recv(unread, 1 << 20):  # what was under way, and then the end
                pass
        await session.attach(1)
        with socket.socket() as unread:  # the same of an answer that is no stream
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread.setblocking(False)
            await loop.sock_connect(unread, (where.hostname, where.port))
            head = "POST /GatewayUnread/a/get_history HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
            await loop.sock_sendall(
                unread, f"{head}Content-Type: application/json\r\n\r\n".encode()
            )
            await eventually(lambda: _holds(gateway._app.open == 1))
            await eventually(lambda: _holds(gateway._app.open == 0))

"""The gateway: what may face browsers, where Restate's ingress must not.

```python
from interruptible.gateway import Gateway


async def authorize(request: Request, agent: str, session: str) -> bool:
    return session == await user_of(request)  # yours


gateway = Gateway(agents=["Poet"], authorize=authorize, ingress="http://localhost:8080")
app = Starlette(routes=[Mount("/agents", gateway)])
```

| what a browser asks                   | what it gets                                             |
| ------------------------------------- | -------------------------------------------------------- |
| `POST /{agent}/{session}/{handler}`   | what that handler answers                                |
| `GET /{agent}/{session}/events`       | server-sent events: those of `Session.follow`, with ids  |
| `POST /ag-ui/{agent}`                 | a run of AG-UI, whose `threadId` is the session          |

Needs the extra `gateway`.
"""

import contextlib
import inspect
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Final, Protocol
from urllib.parse import quote

from interruptible._agent import Agent
from interruptible._handlers import PUBLIC
from interruptible.client import Session

try:
    import ag_ui.core
    import httpx
    from pydantic import ValidationError
    from sse_starlette import EventSourceResponse, JSONServerSentEvent, ServerSentEvent
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Mount, Route
    from starlette.types import Receive, Scope, Send

    from interruptible._gateway.agui_answering import begin_run, tell_run
    from interruptible._gateway.agui_asked import RunAsked, asked_in
    from interruptible._gateway.bounds import AtMost, body_of, too_many, unless_hung_up
    from interruptible._gateway.refusals import REFUSALS, passed_on
    from interruptible._ingress import Ingress
except ImportError as error:
    raise ImportError(
        f"interruptible.gateway needs what its extra installs ({error}). Run: pip install "
        "'restate-interruptible[gateway]'",
        name=error.name,
        path=error.path,
    ) from error

__all__ = ["Authorize", "Gateway"]


class Authorize(Protocol):
    """Says whether a request may do what it asks for."""

    def __call__(self, request: Request, agent: str, session: str, /) -> bool | Awaitable[bool]:
        """Whether this request may read, and change, this session of this agent.

        What it asks for is in its path; its body is not there to be read.
        """
        ...


_DIGITS: Final = 16
_LONGEST_KEY: Final = 4096
_CORS_SAFE: Final = ("", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded")
"""What a page of anybody may send without being asked, with the cookies of who looks at it."""


class Gateway:
    """An ASGI app to mount in yours: it lets browsers talk to agents.

    Args:
        agents: The agents that it lets them talk to, or their names.
        authorize: Is asked before each request is carried out: with the request, the agent and the
            session; for a stream once, as it begins. Only `True` lets it pass; all else is a 403.
            It may raise Starlette's `HTTPException`, such as a 401.
        ingress: The address of Restate's ingress; by default that of the environment variable
            `RESTATE_INGRESS_URL`, when it is first needed.
        headers: What the ingress wants besides, such as an API key.
        handlers: Handlers that were added to agents with `@handler` and may be called as well.
        middleware: Starlette's middleware, such as its `CORSMiddleware`.
        max_body: Bytes that a request may have. A client of AG-UI sends the whole conversation.
        max_open: Requests that may be open at once; more are a 503.
        send_timeout: How long a browser may read nothing of what it is sent; then it is hung up on.

    Raises:
        ValueError: `agents` is empty, or the address is none.
    """

    def __init__(
        self,
        *,
        agents: Sequence[Agent | str],
        authorize: Authorize,
        ingress: str | None = None,
        headers: Mapping[str, str] | None = None,
        handlers: Sequence[str] = (),
        middleware: Sequence[Middleware] = (),
        max_body: int = 4 * 1024 * 1024,
        max_open: int = 1000,
        send_timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        self._agents = {x if isinstance(x, str) else x.name for x in agents}
        if not self._agents:
            raise ValueError("Gateway: agents is empty. Name those that browsers may talk to.")
        try:
            self._ingress = Ingress(ingress, headers)
        except ValueError as error:
            raise ValueError(f"Gateway: {error}") from None
        self._authorize, self._max_body = authorize, max_body
        self._handlers = {*PUBLIC, *handlers}
        routes = [
            Route("/ag-ui/{agent}", self._on_ag_ui, methods=["POST"]),
            Route("/{agent}/{session:path}/events", self._on_events, methods=["GET"]),
            Route("/{agent}/{session:path}/{handler}", self._on_handler, methods=["POST"]),
        ]
        app, full = (  # a page of another origin has to be able to read both
            Starlette(routes=x, middleware=middleware, exception_handlers=REFUSALS)
            for x in (routes, [Mount("/", too_many)])
        )
        self._app = AtMost(app, full, max_open, send_timeout.total_seconds())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        await self._app(scope, receive, send)

    def hang_up(self) -> None:
        """End all that is being answered; what agents are at work on goes on.

        A server that ends waits for its streams: call this as it begins to. Browsers come again.
        """
        self._app.hang_up()

    # -- What it is asked. -------------------------------------------------------------------------

    async def _on_handler(self, request: Request) -> Response:
        handler = request.path_params["handler"]
        agent, key = request.path_params["agent"], request.path_params["session"]
        if handler not in self._handlers:
            raise HTTPException(404, f"There is no handler {handler!r} that browsers may call.")
        await self._check(request, agent, key)
        body = await self._body(request)
        if handler == "fork":
            await self._check(request, agent, _session_in(body))
        passed = [x for x in request.headers.raw if x[0] in (_PASSED if body else _PASSED[1:])]
        async with self._ingress.http() as http:
            answer = await unless_hung_up(
                request,
                http.post(
                    f"/{agent}/{quote(key, safe='')}/{handler}",
                    content=body,
                    headers=passed,
                    timeout=httpx.Timeout(10, read=None),  # it may attach
                ),
            )
        return passed_on(answer)

    async def _on_events(self, request: Request) -> Response:
        agent, key = request.path_params["agent"], request.path_params["session"]
        await self._check(request, agent, key)
        last = request.headers.get("last-event-id") or request.query_params.get("after") or ""
        if last and not (last.isascii() and last.isdigit() and len(last) < _DIGITS):
            raise HTTPException(
                400, f"Last-Event-ID: {last[:100]!r} is no id of an event. Leave it out."
            )
        after = int(last) if last else None

        async def events() -> AsyncGenerator[ServerSentEvent, None]:
            async with self._ingress.client() as client:
                session = Session(client, agent, key)
                async with aclosing(session.follow(after)) as stream:
                    async for event in stream:
                        yield JSONServerSentEvent(dict(event), id=str(event["id"]), sep="\n")

        # An agent without a stream is a 404, at once. Where Restate is away, this waits for it: a
        # browser that is refused does not come again.
        with contextlib.suppress(httpx.TransportError):
            async with self._ingress.http() as http:
                pull = {"offset": after or 0, "wait": 0}
                looked = await http.post(f"/{agent}Stream/{quote(key, safe='')}/pull", json=pull)
                if looked.status_code == 404 and after is None:  # noqa: PLR2004
                    return passed_on(looked)
        return self._streams(events())

    async def _on_ag_ui(self, request: Request) -> Response:
        agent = request.path_params["agent"]
        self._require(agent)
        body = await self._body(request)
        try:
            asked = asked_in(ag_ui.core.RunAgentInput.model_validate_json(body))
        except ValidationError as error:
            raise HTTPException(
                400, f"body: is no RunAgentInput of AG-UI. {_first(error)}"
            ) from error
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        await self._check(request, agent, asked.thread)
        async with self._ingress.client() as client:
            message = await begin_run(Session(client, agent, asked.thread), asked)
        return self._streams(self._run(agent, asked, message))

    async def _run(
        self, agent: str, asked: RunAsked, message: int
    ) -> AsyncGenerator[ServerSentEvent, None]:
        async with self._ingress.client() as client:
            session = Session(client, agent, asked.thread)
            async with aclosing(tell_run(session, asked, message)) as events:
                async for event in events:
                    event.timestamp = round(time.time() * 1000)
                    yield ServerSentEvent(event.model_dump_json(by_alias=True), sep="\n")

    # -- How. --------------------------------------------------------------------------------------

    def _streams(self, events: AsyncGenerator[ServerSentEvent, None]) -> Response:
        return EventSourceResponse(events, sep="\n")  # pyright: ignore[reportUnknownMemberType]

    def _require(self, agent: str) -> None:
        if agent not in self._agents:
            raise HTTPException(404, f"There is no agent {agent!r} that browsers may talk to.")

    async def _check(self, request: Request, agent: str, session: str) -> None:
        self._require(agent)
        if session in ("", ".", "..") or len(quote(session)) > _LONGEST_KEY:
            raise HTTPException(404, f"There is no session {session[:100]!r}.")
        allowed = self._authorize(request, agent, session)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if allowed is not True:
            raise HTTPException(403, f"You may not do this with this session of {agent}.")

    async def _body(self, request: Request) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _CORS_SAFE:
            raise HTTPException(
                415,
                f"Content-Type: is {kind or 'missing'}. Send `application/json`, body or not.",
            )
        return await body_of(request, self._max_body)


_PASSED: Final = (b"content-type", b"idempotency-key")
"""The headers that go on to Restate; no others do."""


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, found['loc'])) or 'all of it'}: {found['msg']}."


def _session_in(body: bytes) -> str:
    try:
        session = json.loads(body)["session"]
    except (ValueError, KeyError, TypeError, RecursionError):
        session = None
    if not isinstance(session, str):
        raise HTTPException(400, "session: is missing. Name the session that is to be made.")
    return session

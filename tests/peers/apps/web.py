"""The two routes of an app that is a process: say something, and read the conversation."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Say = Callable[[str, str, str], Awaitable[None]]
"""Takes the session, what is said, and the policy: `interrupt` or `queue`."""

Read = Callable[[str], Awaitable[list[Any]]]


async def nothing() -> None:
    """Most apps have nothing to launch."""


def serve(say: Say, read: Read, launch: Callable[[], Awaitable[None]] = nothing) -> None:
    """Serve them, until the process ends.

    Args:
        say: Somebody says something.
        read: What a session has.
        launch: Called before.
    """

    async def message(request: Request) -> Response:
        body = await request.json()
        await say(request.path_params["session"], body["content"], body["policy"])
        return JSONResponse({}, status_code=202)

    async def history(request: Request) -> Response:
        return JSONResponse(await read(request.path_params["session"]))

    async def main() -> None:
        await launch()
        routes = [
            Route("/{session}/message", message, methods=["POST"]),
            Route("/{session}/history", history),
        ]
        port = int(os.environ["PEER_PORT"])
        config = uvicorn.Config(
            Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning"
        )
        await uvicorn.Server(config).serve()

    asyncio.run(main())

"""A worker process: `python -m tests.benchmarks.worker SIDE OPTIONS`.

It serves one side, and prints its URL, and then what happens in it: a line of JSON for each event,
with the time of the clock that all processes of a machine share. It ends when its input does.
"""

import asyncio
import json
import logging
import socket
import sys
from typing import Any

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from .events import note
from .services import SERVED, Options, services


async def main() -> None:
    """Serve until the input ends."""
    side, options = sys.argv[1], Options(**json.loads(sys.argv[2]))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.accesslog = config.errorlog = None
    config.h2_max_concurrent_streams = 2**31 - 1
    config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = 3600.0
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    serving = restate.app(services=services(side, note, options))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await serving(scope, receive, send)
        path: str = scope.get("path", "")
        if "Stream/" in path:  # too many to tell of each
            SERVED[path.rpartition("/")[2]] += 1
        else:
            note("ended", path)

    note("serving", "", f"http://127.0.0.1:{listener.getsockname()[1]}")
    await serve(app, config, mode="asgi", shutdown_trigger=lambda: ended)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # interruptions are no news here
    asyncio.run(main())

"""Starts Restate, a worker and the page, and says where; with `--ingress`, the page alone.

How a program that serves ends well: it hangs up on who watches, and stops what it has started.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

from hypercorn.asyncio import serve as serve_forever
from hypercorn.config import Config

from examples.coding_agent.__main__ import at_a_signal, everything
from examples.coding_agent.web.page import LOOPBACK, Page, install_libraries

PORT = 8700
TOLD = """
A coding agent, up until Ctrl-C; then its conversations are gone.

  open        {page}

  model       {model}
  workspaces  {root}
  commands    {commands}
  Restate UI  {ui}/ui/
"""


async def main() -> None:
    """Start everything, say where the page is, and stop everything when a signal comes."""
    options = _options()
    install_libraries()
    stop = asyncio.Event()
    at_a_signal(stop)
    async with AsyncExitStack() as stack:
        names = () if options.host in LOOPBACK else (options.host,)
        port = _free_port(options.host, options.port)
        where = f"http://{'localhost' if options.host == '127.0.0.1' else options.host}:{port}/"
        if options.ingress:
            page = Page(ingress=options.ingress, ui=options.admin, names=names)
            print(f"open {where}")
        else:
            print("starting Restate …", flush=True)
            parts = await stack.enter_async_context(everything(options.root))
            ui = parts.restate.admin_url
            page = Page(ingress=parts.restate.ingress_url, ui=ui, names=names)
            at_a_signal(stop)  # again: restate-sdk takes SIGTERM when it serves for the first time
            print(TOLD.format(page=where, ui=ui, **parts._asdict()))
        if names:
            print(f"  Whoever reaches {options.host} can have commands run on this machine!\n")
        await _serve(page, options.host, port, stop)


async def _serve(page: Page, host: str, port: int, stop: asyncio.Event) -> None:
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.graceful_timeout = 1.0
    config.loglevel = "WARNING"

    async def stopped() -> None:
        await stop.wait()
        page.gateway.hang_up()

    await serve_forever(page, config, shutdown_trigger=stopped)  # type: ignore[arg-type]


def _free_port(host: str, port: int) -> int:
    """The port, or a free one if somebody has it."""
    for each in (port, 0):
        try:
            with socket.create_server((host, each)) as listener:
                return int(listener.getsockname()[1])
        except OSError:
            if each == 0:
                raise
    raise AssertionError


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.coding_agent.web", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: loopback)")
    parser.add_argument("--port", type=int, default=PORT, help="of the page (default: %(default)s)")
    parser.add_argument("--root", type=Path, help="the folder of all workspaces")
    alone = parser.add_argument_group("the page alone, for a worker that runs already")
    alone.add_argument("--ingress", help="Restate's ingress: http://localhost:8080")
    alone.add_argument("--admin", default="http://localhost:9070", help="Restate's admin API")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())

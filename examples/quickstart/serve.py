"""Keeps the quickstart up on Restate's usual ports until Ctrl-C: `make serve`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys

from examples.quickstart import agent
from examples.quickstart.offline_model import endpoint
from examples.quickstart.screen import Screen
from interruptible.testing import restate_server, serve

CALLS = """
  # One message, and the answer to it.
  curl {url}/ada/message --json '{{"content": "Write a to-do app with Flask."}}'
  curl {url}/ada/attach
  curl {url}/ada/get_history

  # The second message interrupts the first. (One that is sent one-way has no receipt.)
  curl {url}/bob/message/send --json '{{"content": "Write a to-do app with Flask."}}'
  curl {url}/bob/message --json '{{"content": "Stop: use FastAPI instead."}}'
  curl {url}/bob/get_status

  # Stop what is running, with no new message.
  curl {url}/bob/cancel -X POST
"""


async def main() -> None:
    """Start everything, say how to use it, and stop everything when a signal comes."""
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    ingress, admin = free_port("INGRESS_PORT", 8080), free_port("ADMIN_PORT", 9070)

    screen = Screen()
    screen.title("Interruptible agents on Restate: the quickstart, up until Ctrl-C")
    screen.line()
    async with (
        endpoint() as model,
        serve(agent.app) as url,
        restate_server(ingress_port=ingress, admin_port=admin) as restate,
    ):
        await restate.register(url)
        screen.row("model", model.label if model else "the real one of OPENAI_API_KEY")
        screen.row("agent", f"CodingAgent (object) and CodingTask (service) on {url}")
        screen.row("restate", f"ingress on http://localhost:{ingress}, agent registered")
        screen.row("Restate UI", f"http://localhost:{admin}/ui/", "cyan")
        screen.title("For another terminal")
        screen.line(CALLS.format(url=f"localhost:{ingress}/CodingAgent"))
        show_log(screen)
        await stop.wait()
        screen.line("\nserve: stopping")


def free_port(name: str, usual: int) -> int:
    """Return the port that the environment names, or the usual one; refuse one that is taken."""
    port = int(os.environ.get(name) or usual)
    try:
        with socket.create_server(("127.0.0.1", port)) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        remedy = f"Stop what listens there, or choose another: make serve {name}={port + 10000}"
        msg = f"port {port} cannot be used: {os.strerror(error.errno or 0).lower()}. {remedy}"
        raise RuntimeError(msg) from error


def show_log(screen: Screen) -> None:
    """Show what the agent and the stand-in log."""

    class ToScreen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            screen.record(record)

    logger = logging.getLogger("quickstart")
    logger.setLevel(logging.INFO)
    logger.addHandler(ToScreen())


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except RuntimeError as error:  # a port that is taken, or that there is no server
        sys.exit(f"serve: {error}")

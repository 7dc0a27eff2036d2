"""The agent in a terminal; with `--ingress`, a talk with one that runs already."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import restate

from examples.coding_agent.chat import view
from examples.coding_agent.chat.screen import Screen
from examples.coding_agent.chat.talk import Talk


async def main(options: argparse.Namespace) -> None:
    """Start what is needed, talk until Ctrl-D or a signal, and stop what was started."""
    logging.getLogger().addHandler(logging.NullHandler())  # the screen is not for logs
    here = asyncio.current_task()
    assert here  # noqa: S101 - for the type checker
    _at_a_signal(here.cancel)
    async with AsyncExitStack() as stack:
        if options.ingress:
            client = await stack.enter_async_context(restate.create_client(options.ingress))
            label = f"{options.session}, at {options.ingress}"
        else:
            print("starting Restate …", flush=True)
            from examples.coding_agent.__main__ import everything  # noqa: PLC0415 - it is slow

            parts = await stack.enter_async_context(everything(options.root))
            client, label = parts.restate.client, parts.model
            facts = {
                "model": label,
                "workspaces": str(parts.root),
                "Restate UI": f"{parts.restate.admin_url}/ui/",
            }
            _at_a_signal(here.cancel)  # again: restate-sdk takes SIGTERM when it serves first
        talk = Talk(client, options.agent, options.session)
        talk.screen = screen = Screen(
            live=talk.live_rows,
            rule=lambda width: view.rule(label, width),
            status=talk.status_row,
            enter=talk.enter,
            stop=talk.stop,
        )
        if not options.ingress:
            screen.print(view.greeting(facts, screen.width))
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, screen.interrupted)
        await talk.run(screen.run())
    busy = talk.conversation.record.status["status"] == "running"
    if options.ingress and busy:
        with contextlib.suppress(OSError):  # the terminal is gone
            print("The agent goes on. Open this again to see what it does.", flush=True)


def _at_a_signal(end: Callable[[], object]) -> None:
    for signum in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, end)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.coding_agent.chat", description=__doc__
    )
    parser.add_argument("--session", default="main", help="its key (default: %(default)s)")
    parser.add_argument("--root", type=Path, help="the folder of all workspaces")
    alone = parser.add_argument_group("a talk with an agent that runs already")
    alone.add_argument("--ingress", help="Restate's ingress: http://localhost:8080")
    alone.add_argument("--agent", default="CodingAgent", help="its name (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = _options()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.exit("This needs a terminal. Without one, see: python -m examples.coding_agent --help")
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):  # by a signal
        asyncio.run(main(chosen))
    try:
        sys.stdout.flush()
    except OSError:  # the terminal is gone: without this, Python would fail as it tries once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

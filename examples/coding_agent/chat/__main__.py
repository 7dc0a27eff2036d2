"""The agent in a terminal; with `--ingress`, a talk with one that runs already."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import restate

from examples.coding_agent.chat import view
from examples.coding_agent.chat.talk import Talk

WELCOME = "A coding agent in your terminal. Ctrl-D ends it; then its conversation is gone."


async def main(options: argparse.Namespace) -> None:
    """Start what is needed, talk until Ctrl-D or a signal, and stop what was started."""
    logging.getLogger().addHandler(logging.NullHandler())  # the screen is not for logs
    here = asyncio.current_task()
    assert here  # noqa: S101 - for the type checker
    listen = asyncio.get_running_loop().add_signal_handler
    for signum in (signal.SIGTERM, signal.SIGHUP):
        listen(signum, here.cancel)
    agent, session = options.agent, options.session
    async with AsyncExitStack() as stack:
        if options.ingress:
            client = await stack.enter_async_context(restate.create_client(options.ingress))
            talk = Talk(client, agent, session, f"{session}, at {options.ingress}")
        else:
            print("starting Restate …", flush=True)
            from examples.coding_agent.__main__ import everything  # noqa: PLC0415 - it is slow

            parts = await stack.enter_async_context(everything(options.root))
            listen(signal.SIGTERM, here.cancel)  # again: restate-sdk takes it when it serves
            talk = Talk(parts.restate.client, agent, session, parts.model)
            ui = f"{parts.restate.admin_url}/ui/"
            facts = {"model": parts.model, "workspaces": str(parts.root)}
            facts |= {"commands": parts.commands, "Restate UI": ui}
            talk.screen.print([view.BLANK, view.Line("bold", "", WELCOME), view.BLANK])
            talk.screen.print(view.columns(facts))
        listen(signal.SIGINT, talk.screen.interrupted)
        await talk.run()
    if options.ingress and talk.conversation.status["live"]:
        with contextlib.suppress(OSError):  # the terminal is gone
            print("The agent goes on. Open this again to see what it does.", flush=True)


if __name__ == "__main__":
    program = "python -m examples.coding_agent.chat"
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("--session", default="main", help="its key (default: %(default)s)")
    parser.add_argument("--root", type=Path, help="the folder of all workspaces")
    alone = parser.add_argument_group("a talk with an agent that runs already")
    alone.add_argument("--ingress", help="Restate's ingress: http://localhost:8080")
    alone.add_argument("--agent", default="CodingAgent", help="its name (default: %(default)s)")
    chosen = parser.parse_args()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.exit("This needs a terminal. Without one, see: python -m examples.coding_agent --help")
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):  # by a signal
        asyncio.run(main(chosen))
    try:
        sys.stdout.flush()
    except OSError:  # the terminal is gone: without this, Python would fail as it tries once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""`serve` keeps all of it up until Ctrl-C; `worker` is the worker alone, for a Restate of yours."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from hypercorn.asyncio import serve as serve_forever
from hypercorn.config import Config
from restate import app
from restate.server import install_shutdown_hook

from examples.coding_agent import model, scripted
from examples.coding_agent.agent import CodingAgent
from examples.coding_agent.shell import confinement
from interruptible.stream import Stream
from interruptible.testing import Restate, restate_server, serve

HELP = """\
  model       {model}
  workspaces  {root}
  commands    {commands}
  ingress     http://localhost:{ingress}
  Restate UI  http://localhost:{admin}/ui/

  curl localhost:{ingress}/CodingAgent/ada/message --json '{{"content": "Count words."}}'
  curl localhost:{ingress}/CodingAgentStream/ada/pull --json '{{"offset": 0}}'
  curl localhost:{ingress}/CodingAgent/ada/attach
  curl localhost:{ingress}/CodingAgent/ada/get_diff
"""


@asynccontextmanager
async def the_model() -> AsyncIterator[tuple[model.Model, str]]:
    """The model of the environment, or else the scripted one; and what it is, for people."""
    if real := model.from_environment():
        yield real, repr(real)
        return
    async with scripted.ScriptedModel() as stand_in:
        yield stand_in.model, scripted.LABEL


class Parts(NamedTuple):
    """What runs together."""

    model: str
    """What model it is, for people."""
    root: Path
    """The folder of the workspaces."""
    commands: str
    """What confines them, for people."""
    restate: Restate


@asynccontextmanager
async def everything(
    root: Path | None = None, *, ingress: int = 0, admin: int = 0
) -> AsyncIterator[Parts]:
    """Restate, a worker and a model, all together.

    Args:
        root: The folder of the workspaces; by default one that goes with the rest.
        ingress: The port of Restate's ingress; 0 is a free one.
        admin: The port of its admin API and UI; 0 is a free one.
    """
    async with AsyncExitStack() as stack:
        if root is None:
            folder = tempfile.TemporaryDirectory(prefix="coding-agent-", ignore_cleanup_errors=True)
            root = Path(stack.enter_context(folder))
        chosen, label = await stack.enter_async_context(the_model())
        server = restate_server(ingress_port=ingress, admin_port=admin)
        restate = await stack.enter_async_context(server)
        agent = CodingAgent(root, chosen, stream=Stream(ingress=restate.ingress_url))
        worker = await stack.enter_async_context(serve(app(services=agent.services)))
        await restate.register(worker)
        yield Parts(label, root, confinement(), restate)


async def worker_alone(root: Path, port: int, ingress: str) -> None:
    """Serve the worker until it is told to stop."""
    async with the_model() as (chosen, label):
        print(f"{label}\nworkspaces: {root}\ncommands: {confinement()}")
        print(f"serving on http://127.0.0.1:{port}")
        agent = CodingAgent(root, chosen, stream=Stream(ingress=ingress))
        served = app(services=agent.services)
        await serve_forever(served, _config(port), shutdown_trigger=_sigterm)


async def _sigterm() -> None:
    """Wait for it beside restate-sdk, which has it end what runs: see docs/how-to/serve.md."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    install_shutdown_hook(loop, stop.set)
    await stop.wait()
    loop.call_later(5, os._exit, 1)  # a call that came meanwhile was not told, and may never end


def _config(port: int) -> Config:
    config = Config()
    config.loglevel = "ERROR"
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 2**31 - 1
    config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = 3600.0
    return config


async def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("serve", "worker"))
    parser.add_argument("--port", type=int, default=9080, help="of the worker, when it is alone")
    at = "the port of Restate's ingress; a worker goes by RESTATE_INGRESS_URL, if there is one"
    port = int(os.environ.get("INGRESS_PORT", "8080"))
    parser.add_argument("--ingress", type=int, default=port, help=at)
    parser.add_argument("--admin", type=int, default=int(os.environ.get("ADMIN_PORT", "9070")))
    parser.add_argument("--root", type=Path, help="the folder of all workspaces")
    options = parser.parse_args()
    if options.what == "worker":
        ingress = os.environ.get("RESTATE_INGRESS_URL", f"http://localhost:{options.ingress}")
        await worker_alone(options.root or Path("workspaces"), options.port, ingress)
        return
    stop = asyncio.Event()
    at_a_signal(stop)
    async with everything(options.root, ingress=options.ingress, admin=options.admin) as parts:
        at_a_signal(stop)  # again: restate-sdk has taken SIGTERM when it was first asked
        print(f"\nA coding agent, up until Ctrl-C\n\n{_told(parts)}", flush=True)
        await stop.wait()


def _told(parts: Parts) -> str:
    urls = parts.restate.ingress_url, parts.restate.admin_url
    ingress, admin = (url.rpartition(":")[2] for url in urls)
    return HELP.format(**parts._asdict(), ingress=ingress, admin=admin)


def at_a_signal(stop: asyncio.Event) -> None:
    """Set `stop` when the program is told to end."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)


if __name__ == "__main__":
    asyncio.run(main())

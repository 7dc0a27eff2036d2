"""The Agent Client Protocol: editors and terminals that speak it talk to an agent.

```bash
python -m interruptible.acp --agent CodingAgent --ingress http://localhost:8080
```

It speaks over stdin and stdout, as an editor starts it. It holds nothing: when it ends, the work
goes on, and another one can load the session. Needs the extra `acp`.
"""

import argparse
import asyncio
import logging
import sys
from contextlib import suppress
from os import environ
from typing import TYPE_CHECKING, Final, cast

try:
    from acp import stdio_streams
    from acp.core import DEFAULT_STDIO_BUFFER_LIMIT_BYTES, AgentSideConnection

    from interruptible._acp.agent import EditorsAgent
    from interruptible._ingress import INGRESS, Ingress
except ImportError as error:
    raise ImportError(
        f"interruptible.acp needs what its extra installs ({error}). Run: pip install "
        "'restate-interruptible[acp]'",
        name=error.name,
        path=error.path,
    ) from error

if TYPE_CHECKING:
    from acp import Agent

__all__ = ["main"]

API_KEY: Final = "RESTATE_AUTH_TOKEN"
"""The environment variable with the API key of the ingress, as Restate's own tools have it."""
LAST_WORDS: Final = 0.5
"""Seconds in which what was said before stdin was closed is still handed on, and then written."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: Those of the command line; by default the process's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m interruptible.acp",
        description="An agent of the Agent Client Protocol, in front of an agent on Restate.",
        epilog=f"To an ingress that wants an API key it sends that of {API_KEY}.",
    )
    parser.add_argument("--agent", required=True, metavar="NAME", help="the agent's name")
    parser.add_argument(
        "--ingress",
        default=environ.get(INGRESS),
        metavar="URL",
        help=f"Restate's ingress; by default that of {INGRESS}",
    )
    parser.add_argument(
        "--session", metavar="KEY", help="the session to open; by default each time a new one"
    )
    options = parser.parse_args(arguments)
    if not options.ingress:
        parser.error(f"--ingress is missing. Name Restate's ingress, or set {INGRESS}.")
    if options.session == "":
        parser.error("--session is empty. Name a session, or leave it out.")
    token = environ.get(API_KEY, "").strip()
    try:
        ingress = Ingress(options.ingress, {"Authorization": f"Bearer {token}"} if token else None)
    except ValueError as error:
        parser.error(f"--{error}")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(ingress, options.agent, options.session))


async def _serve(ingress: Ingress, agent: str, session: str | None) -> None:
    """Talk to the client until it closes stdin."""
    async with ingress.client() as client:
        front = EditorsAgent(client, agent, session, str(ingress.url))
        try:
            reader, writer = await stdio_streams(limit=DEFAULT_STDIO_BUFFER_LIMIT_BYTES)
        except ValueError as error:
            sys.exit(f"stdin or stdout is a file ({error}). Have an editor start this command.")
        # To close a session is in no stable part of the protocol yet.
        connection = AgentSideConnection(
            cast("Agent", front), writer, reader, listening=False, use_unstable_protocol=True
        )
        try:
            await connection.listen()
        finally:
            for rest in (connection.close, lambda: _all_written(writer)):
                with suppress(asyncio.TimeoutError):  # nobody may read what is left to say
                    await asyncio.wait_for(rest(), LAST_WORDS)
            writer.transport.abort()
            await front.close()
            await asyncio.sleep(0)  # the pipe is closed by then


async def _all_written(writer: asyncio.StreamWriter) -> None:
    while writer.transport.get_write_buffer_size():
        await asyncio.sleep(LAST_WORDS / 100)


if __name__ == "__main__":
    main()

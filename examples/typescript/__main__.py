"""Keeps all of it up until Ctrl-C: `python -m examples.typescript`."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from examples.quickstart.offline_model import endpoint
from examples.typescript.agent import app
from interruptible.testing import restate_server, serve

SERVICES = Path(__file__).with_name("dist") / "serve.js"
PORT = "9081"


async def main() -> None:
    """Start a model, a server, the agent, and the services in TypeScript."""
    async with (
        endpoint(),
        restate_server(ingress_port=8080, admin_port=9070) as restate,
        serve(app) as agent,
    ):
        services = await asyncio.create_subprocess_exec(
            *("node", str(SERVICES)),
            env={**os.environ, "PORT": PORT},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert services.stdout is not None  # noqa: S101 - for the type checker
            async for line in services.stdout:
                if line.startswith(b"listening"):
                    break
            await restate.register(agent)
            await restate.register(f"http://localhost:{PORT}")
            print("up until Ctrl-C: DraftAgent, Editor, Writer; UI: http://localhost:9070/ui/")
            await services.wait()
        finally:
            with suppress(ProcessLookupError):
                services.kill()


if __name__ == "__main__":
    if not SERVICES.exists():
        sys.exit("There is no dist/serve.js. Build it: npm run build --prefix examples/typescript")
    with suppress(KeyboardInterrupt):
        asyncio.run(main())

"""Keeps all of it up until Ctrl-C: `python -m examples.typescript`."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from examples.quickstart.offline_model import endpoint
from examples.typescript.agent import app
from interruptible.testing import restate_server, serve

SERVICES = Path(__file__).with_name("dist") / "serve.js"
PORT = "9081"


async def main() -> None:
    """Start server, model, agent and the services in TypeScript."""
    async with (
        endpoint(),
        serve(app) as agent,
        restate_server(ingress_port=8080, admin_port=9070) as restate,
    ):
        services = await asyncio.create_subprocess_exec(
            *("env", f"PORT={PORT}", "node", str(SERVICES)), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert services.stdout is not None  # noqa: S101 - for the type checker
            while b"listening" not in await services.stdout.readline():
                pass
            await restate.register(agent)
            await restate.register(f"http://localhost:{PORT}")
            print("DraftAgent, Editor and Writer are up; UI: http://localhost:9070/ui/")
            await services.wait()
        finally:
            with suppress(ProcessLookupError):
                services.kill()


if __name__ == "__main__":
    if not SERVICES.exists():
        sys.exit("There is no dist/serve.js. Build it: npm run build --prefix examples/typescript")
    with suppress(KeyboardInterrupt):
        asyncio.run(main())

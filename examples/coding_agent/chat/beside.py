"""What the talk needs beside it, where no agent runs already."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from restate import RestateClient

from examples.coding_agent.__main__ import the_model
from examples.coding_agent.agent import CodingAgent, make_app
from interruptible.testing import restate_server, serve


async def everything(
    stack: AsyncExitStack, root: Path | None
) -> tuple[RestateClient, str, dict[str, str]]:
    """Restate, a worker and a model; and what to tell of them."""
    if root is None:
        folder = tempfile.TemporaryDirectory(prefix="coding-agent-", ignore_cleanup_errors=True)
        root = Path(stack.enter_context(folder))
    model, label = await stack.enter_async_context(the_model())
    worker = await stack.enter_async_context(serve(make_app(CodingAgent(root, model))))
    server = await stack.enter_async_context(restate_server())
    await server.register(worker)
    facts = {"model": label, "workspaces": str(root), "Restate UI": f"{server.admin_url}/ui/"}
    return server.client, worker, facts

"""Two faults of the recipe "Interrupt & Regenerate", shown by its own code on a real server.

    restate-server &  # a fresh one, on its usual ports
    python recipe_faults.py path/to/python-restate-only/examples/interrupt-regenerate/agent.py

It needs restate-sdk, hypercorn, httpx and pydantic, and nothing of this repository. The model is
replaced by one that thinks for as long as it is let. Prints what it finds, and exits with the
number of faults.
"""

import argparse
import asyncio
import logging
import re
import sys
import time
import types
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from pydantic import BaseModel

PATIENCE = 60.0
CLEANUP = 5.0  # seconds; the recipe waits for up to 30


class Answer(BaseModel):
    """What the recipe reads of an answer."""

    content: str


class Model:
    """What `llm_call` is here. Each call lasts until it is told to end."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.open: set[str] = set()
        self.end = asyncio.Event()

    async def call(self, messages: list[dict[str, str]], **_: object) -> Answer:
        """Answer the newest message, when it is time to."""
        said = [x["content"] for x in messages if x["role"] == "user" and x["content"][:1] == "#"]
        self.calls.append(said[-1])
        self.open.add(said[-1])
        try:
            await self.end.wait()
        finally:
            self.open.discard(said[-1])
        return Answer(content=f"about {said[-1]}")


async def until(check: Callable[[], bool], what: str) -> None:
    """Wait for something that is to come."""
    end = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > end:
            sys.exit(f"This did not come: {what}")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def served(source: str, model: Model, admin: str, port: int) -> AsyncIterator[None]:
    """Serve the recipe's code with another model, and register it."""
    stand_in = types.ModuleType("util.litellm_call")
    stand_in.llm_call = model.call  # type: ignore[attr-defined]
    sys.modules |= {"util": types.ModuleType("util"), "util.litellm_call": stand_in}
    recipe = types.ModuleType("recipe")
    sys.modules["recipe"] = recipe
    exec(compile(source, "agent.py", "exec"), vars(recipe))  # noqa: S102 - the file that was named
    config, stop = Config(), asyncio.Event()
    config.bind, config.errorlog = [f"127.0.0.1:{port}"], None
    app: Any = restate.app(services=[recipe.agent, recipe.task_service])
    serving = asyncio.ensure_future(serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    async with httpx.AsyncClient(base_url=admin, timeout=PATIENCE) as http:
        await asyncio.sleep(0.5)
        body = {"uri": f"http://127.0.0.1:{port}", "force": True}
        (await http.post("/deployments", json=body)).raise_for_status()
    try:
        yield
    finally:
        model.end.set()
        stop.set()
        await asyncio.gather(serving, return_exceptions=True)


Say = Callable[[str], Awaitable[float]]


async def every_second_is_lost(say: Say, model: Model) -> str | None:
    """F1: four messages, each while the model works on the one before."""
    for n in range(1, 5):
        await say(f"#{n}")
        await until(lambda n=n: f"#{n}" in model.calls, f"a call of the model about message {n}")  # type: ignore[misc]
    await asyncio.sleep(2)
    if model.open == {"#4"}:
        return None
    return f"the model works on {', '.join(sorted(model.open))} at once; it should on #4 alone"


async def the_session_is_locked(say: Say, model: Model) -> str | None:
    """F2: a message while the task of the one before cleans up."""
    await say("#1")
    await until(lambda: "#1" in model.calls, "a call of the model about message 1")
    took = await say("#2")
    if took < CLEANUP / 2:
        return None
    return f"the message was taken after {took:.1f} s: as long as the cleanup of {CLEANUP:g} s took"


async def main() -> int:
    """Show both."""
    logging.disable(logging.CRITICAL)  # what there is to say is of connections that are closed
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agent", type=Path, help="the recipe's agent.py")
    parser.add_argument("--ingress", default="http://localhost:8080")
    parser.add_argument("--admin", default="http://localhost:9070")
    parser.add_argument("--port", type=int, default=9080, help="where the recipe is served")
    options = parser.parse_args()
    source = options.agent.read_text()
    slow, places = re.subn(
        r"^( +)except TerminalError as err:\n",
        r"\g<0>\1    import asyncio\n"
        rf"\1    await ctx.run_typed('release a resource', asyncio.sleep, delay={CLEANUP})\n",
        source,
        flags=re.MULTILINE,
    )
    if places != 1:
        sys.exit("There is no place for a cleanup: `except TerminalError as err:` in run_task.")
    found = 0
    for story, code in (every_second_is_lost, source), (the_session_is_locked, slow):
        model = Model()
        key = f"{story.__name__}-{time.time_ns()}"
        async with (
            served(code, model, options.admin, options.port),
            httpx.AsyncClient(base_url=options.ingress, timeout=PATIENCE) as http,
        ):

            async def say(text: str, http: Any = http, key: str = key) -> float:
                started = time.monotonic()
                answer = await http.post(f"/CodingAgent/{key}/message", json={"content": text})
                answer.raise_for_status()
                return time.monotonic() - started

            fault = await story(say, model)
        found += fault is not None
        print(f"{story.__doc__}\n    {fault or 'as it should be'}")
    return found


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

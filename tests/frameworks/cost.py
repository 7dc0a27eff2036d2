"""What a framework's module costs: `python -m tests.frameworks.cost MODULE CLASS [SAMPLES]`.

Measures, in turn, how long it takes from a message to the first request to the model, and to the
end of the turn: with the module; with an agent of this library whose `run` uses Restate's
integration alone, and so forgets what an interrupted turn had done; and with a virtual object that
knows nothing of this library, and cannot be interrupted.
"""

import asyncio
import importlib
import logging
import statistics
import sys
import time
from typing import Any

import restate
from restate import Context, ObjectContext, VirtualObject

from interruptible import Agent, Session, Task
from interruptible.testing import restate_server, serve

from .contract import Contract, look_and_tell
from .offline import Log, Offline


class Clock(Log):
    """Knows when the model was first asked since it was set."""

    first = 0.0

    async def add(self, *event: Any) -> None:
        if event[0] == "asked" and not self.first:
            self.first = time.perf_counter()


async def main(framework: Contract, samples: int) -> None:
    clock = Clock()
    made = framework.made("Module", Offline(clock, look_and_tell), "look")

    class AloneAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return await framework.alone(made, _Forgetful(ctx), task.text)

    plain = VirtualObject("Plain")

    @plain.handler()
    async def message(ctx: ObjectContext, said: str) -> str:
        return await framework.alone(made, ctx, said)

    agents = {"the module": framework.agent(made, name="ModuleAgent"), "alone": AloneAgent()}
    services = [service for agent in agents.values() for service in agent.services]
    first: dict[str, list[float]] = {}
    whole: dict[str, list[float]] = {}
    async with (
        serve(restate.app([*services, plain])) as url,
        restate_server() as server,
    ):
        await server.register(url)
        for sample in range(samples + 3):
            for name in ("the module", "alone", "no agent"):
                clock.first, begun = 0.0, time.perf_counter()
                if name == "no agent":
                    await server.client.object_call(message, f"s{sample}", "moon")
                else:
                    await Session(server.client, agents[name], f"s{sample}").ask("moon")
                if sample >= 3:  # the first ones warm up
                    whole.setdefault(name, []).append(time.perf_counter() - begun)
                    first.setdefault(name, []).append(clock.first - begun)
    for what, times in (("first request", first), ("whole turn", whole)):
        medians = {name: statistics.median(each) * 1000 for name, each in times.items()}
        told = ", ".join(f"{name} {median:.1f}" for name, median in medians.items())
        ratio = medians["the module"] / medians["alone"]
        print(f"{what}: ratio of the module to the integration alone {ratio:.2f} (ms: {told})")


class _Forgetful:
    """A task has no state: what is kept there is forgotten."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def get(self, *_: Any, **__: Any) -> None:
        return None

    def set(self, *_: Any, **__: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    module, name, *rest = sys.argv[1:]
    made = getattr(importlib.import_module(module), name)()
    asyncio.run(main(made, int(rest[0]) if rest else 40))

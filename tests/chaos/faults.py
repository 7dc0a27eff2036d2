"""What goes wrong: three streams of faults side by side, each from its own seed.

Processes (workers and server), the network between them (the proxy), and the operator (cancels,
kills, pauses and resumes of tasks, of `message`, and of what changes a message or a turn). Which
faults, with which pauses, is the seed's; what they hit depends on what there is.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

from typing_extensions import Self

from .deployment import Deployment, Worker
from .records import CHANGES, History
from .system import TASKS, System

PROCESSES: Final = {
    "kill worker": 30,
    "freeze worker": 25,
    "workers gone": 6,
    "kill server": 14,
    "freeze server": 8,
    "disk full": 5,
    "deploy": 4,
}
CLUSTER: Final = {
    "kill server": 30,
    "freeze server": 25,
    "cut off server": 25,
    "kill worker": 10,
    "freeze worker": 8,
    "workers gone": 2,
    "deploy": 3,
}
NETWORK: Final = {"cut": 55, "cut half": 20, "slow": 25}
OPERATOR: Final = {
    "cancel task": 30,
    "kill task": 25,
    "pause task": 20,
    "cancel message": 8,
    "kill message": 9,
    "pause message": 5,
    "kill settle": 3,
    "cancel change": 3,
    "kill change": 5,
    "pause change": 3,
}
LULL_EVERY: Final = 60.0
LULL: Final = 15.0
"""Seconds in a minute without faults of processes and network: what needs peace is decided then."""
PAUSED: Final = "SELECT id FROM sys_invocation WHERE status = 'paused'"
NAMES: Final = {
    "message": ("message",),
    "settle": ("settle",),
    "change": (*CHANGES, "edit", "resume", "answer"),
}
HANDLERS: Final = {"task": TASKS} | {
    what: " OR ".join(f"target_handler_name = '{name}'" for name in names)
    for what, names in NAMES.items()
}


class Faults:
    """Makes faults until it is stopped, and then puts everything in order again."""

    def __init__(
        self,
        system: System,
        history: History,
        folder: Path,
        seed: str,
        *,
        gone: float,
        only: Collection[str],
    ) -> None:
        self.system, self.history, self.folder = system, history, folder
        self.counts: Counter[str] = Counter()
        self.deployments: list[Deployment] = []
        self._dice = {x: random.Random(f"{seed}/{x}") for x in ("p", "n", "o")}  # noqa: S311
        self._gone, self._only = gone, only
        self._stack = AsyncExitStack()
        self._paused: set[str] = set()
        self._resuming: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.deploy()
        self._sweeping = asyncio.ensure_future(self._sweep())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._sweeping, *self._resuming):
            task.cancel()
        for node in range(len(self.system.nodes)):
            self.system.thaw(node)
        if self.system.network is not None:
            self.system.network.reconnect()
        for worker in self._workers():
            worker.thaw()
        await self._stack.aclose()

    async def deploy(self) -> None:
        """Register a new version; what is live stays on the old one."""
        version = f"v{len(self.deployments) + 1}"
        ingress = self.system.urls[len(self.deployments) % len(self.system.urls)]
        made = Deployment(self.folder, version, ingress)
        new = await self._stack.enter_async_context(made)
        self.deployments.append(new)
        await self.system.register(new.url)

    async def run(self, wanted: int, pace: float, stop: asyncio.Event) -> None:
        """Make as many faults as are wanted, unless it is to stop before."""
        streams: list[tuple[str, dict[str, int], float, Callable[[str], Awaitable[None]]]] = [
            ("p", CLUSTER if self.system.is_cluster else PROCESSES, 2.5, self._process),
            ("n", NETWORK, 2.0, self._network),
            ("o", OPERATOR, 0.6, self._operator),
        ]

        loop = asyncio.get_running_loop()
        began = loop.time()
        left = wanted

        async def stream(
            name: str, kinds: dict[str, int], mean: float, make: Callable[[str], Awaitable[None]]
        ) -> None:
            nonlocal left
            dice = self._dice[name]
            kinds = {x: kinds[x] for x in kinds if not self._only or x in self._only}
            while kinds and self.counts.total() < wanted and not stop.is_set():
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), dice.expovariate(1 / (mean * pace)))
                    return
                if name != "o" and (loop.time() - began) % LULL_EVERY > LULL_EVERY - LULL:
                    continue
                if left:
                    kind = dice.choices(list(kinds), list(kinds.values()))[0]
                    left, before = left - 1, self.counts[kind]
                    await make(kind)
                    left += self.counts[kind] == before  # it did not take hold

        making = [asyncio.ensure_future(stream(*each)) for each in streams]
        try:
            await asyncio.gather(*making)
        finally:
            for each in making:
                each.cancel()
        await asyncio.gather(*self._resuming)

    async def _sweep(self) -> None:
        """Resume, to the end, what a pause reaches only after its resume."""
        while True:
            await asyncio.sleep(2.0)
            with suppress(RuntimeError):
                for row in await self.system.query(PAUSED):
                    if row["id"] not in self._paused:
                        await self.system.command("resume", row["id"])

    def _workers(self) -> list[Worker]:
        return [worker for deployment in self.deployments for worker in deployment.workers]

    async def _during(
        self, kind: str, target: Any, undo: Callable[[], Any], seconds: float
    ) -> None:
        fault = self.history.fault(kind, str(target))
        self.counts[kind] += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            done = undo()
            if asyncio.iscoroutine(done):
                await done
            self.history.over(fault)

    # -- processes -------------------------------------------------------------------------------

    async def _process(self, kind: str) -> None:
        dice = self._dice["p"]
        worker = dice.choice(self.deployments[-2:]).workers[dice.randrange(2)]
        node = dice.randrange(len(self.system.nodes))
        if kind == "kill worker":
            pid = worker.pid
            await worker.kill()
            await self._during(kind, pid, worker.start, dice.random())
        elif kind == "freeze worker":
            worker.freeze()
            await self._during(kind, worker.pid, worker.thaw, 0.1 + dice.random() * 2)
        elif kind == "workers gone":
            await self._all_gone(dice.uniform(1.0, 5.0))
        elif kind == "kill server":
            self.system.kill(node)

            def start() -> Awaitable[None]:
                return self.system.start(node)

            await self._during(kind, node, start, dice.random() * 1.5)
        elif kind == "freeze server":
            self.system.freeze(node)
            seconds = dice.uniform(0.2, 8.0 if self.system.is_cluster else 2.0)
            await self._during(kind, node, lambda: self.system.thaw(node), seconds)
        elif kind == "disk full":
            await self._disk_full(dice.uniform(2.0, 8.0))
        elif kind == "cut off server":
            self.system.cut_off(node)
            seconds = dice.uniform(1.0, 10.0)
            await self._during(kind, node, lambda: self.system.reconnect(node), seconds)
        elif len(self.deployments) < 8:
            fault = self.history.fault(kind, f"v{len(self.deployments) + 1}")
            await self.deploy()
            self.counts[kind] += 1
            self.history.over(fault)

    async def _disk_full(self, seconds: float) -> None:
        """Fill it; then make room, and start the server again, as its operator would."""
        disk = self.system.disk
        if disk is None:
            return
        disk.fill()

        async def back() -> None:
            disk.free()
            self.system.kill(0)
            await self.system.start(0)

        await self._during("disk full", "disk", back, seconds)

    async def gone_for_long(self) -> None:
        """All workers are away for a minute, or what was chosen."""
        await self._all_gone(self._gone)

    async def _all_gone(self, seconds: float) -> None:
        workers = self._workers()
        await asyncio.gather(*(worker.kill() for worker in workers))

        async def back() -> None:
            await asyncio.gather(*(worker.start() for worker in workers))

        await self._during("workers gone", "all", back, seconds)

    # -- the network -----------------------------------------------------------------------------

    async def _network(self, kind: str) -> None:
        dice = self._dice["n"]
        proxy = dice.choice(self.deployments[-2:]).proxy
        if kind == "slow":
            proxy.delay = dice.choice([0.02, 0.1, 0.3])

            def fast() -> None:
                proxy.delay = 0.0

            await self._during(kind, proxy.port, fast, dice.uniform(0.5, 3.0))
        elif proxy.cut(every=1 if kind == "cut" else 2):
            fault = self.history.fault(kind, str(proxy.port))
            self.counts[kind] += 1
            self.history.over(fault)

    # -- the operator ----------------------------------------------------------------------------

    async def _operator(self, kind: str) -> None:
        dice = self._dice["o"]
        verb, _, what = kind.partition(" ")
        chosen = await self._find(what, dice)
        if chosen is None:
            return
        accepted = await self.system.command(verb, chosen)
        if accepted is False:
            return
        fault = self.history.fault(kind, chosen)
        self.counts[kind] += accepted is True
        if verb != "pause":
            self.history.over(fault)
            return

        async def resume() -> None:
            self._paused.add(chosen)
            await asyncio.sleep(0.2 + 2 * dice.random())
            self._paused.discard(chosen)
            await self.system.command("resume", chosen)
            self.history.over(fault)

        task = asyncio.ensure_future(resume())
        self._resuming.add(task)
        task.add_done_callback(self._resuming.discard)

    async def _find(self, what: str, dice: random.Random) -> str | None:
        sql = (
            f"SELECT id FROM sys_invocation WHERE ({HANDLERS[what]}) "  # noqa: S608
            "AND status <> 'completed' LIMIT 30"
        )
        for _ in range(1 if what == "task" else 5):  # the others are short
            with suppress(RuntimeError):
                if rows := await self.system.query(sql):
                    return str(dice.choice(rows)["id"])
            await asyncio.sleep(0.02)
        return None

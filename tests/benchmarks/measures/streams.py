"""The stream: from a token that is said to whoever follows, and what it costs."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.benchmarks.bench import Bench, in_ms
from tests.benchmarks.events import Events
from tests.benchmarks.figures import FLOOR, LIBRARY, REFERENCE, Figure, Result, Table, Target
from tests.benchmarks.followers import EACH
from tests.benchmarks.services import PACE, Options
from tests.benchmarks.stage import Side, Stage, process, processor_time

from .latency import SHORT

KIND: Final = "Stream"
EVERY: Final = 50
"""Milliseconds: how often an agent publishes, by default."""
SLOWER: Final = 1.5
"""How much longer the lag may be in the second half of a run than in the first, and be bounded."""


async def stream(bench: Bench) -> list[Result]:
    """Both: tokens to followers, and an agent with a stream beside one without."""
    sizes, seconds = ((1, 3), 1.2) if bench.short else ((1, 20, 100), 12.0)
    async with bench.stage((LIBRARY,), Options(seconds=seconds)) as stage:
        seen = {}
        for size in sizes:
            runs = 1 if bench.short or size > 20 else 3
            seen[size] = [await speak(stage, size) for _ in range(runs)]
            last = seen[size][-1]
            bench.progress(f"stream: {size} sessions: {last['median']:.0f} ms, {last['cpu']}")
    return [*_followed(seen), await _floor(bench, sizes), *await _beside(bench)]


async def speak(stage: Stage, sessions: int) -> dict[str, Any]:
    """Have sessions speak, each with its followers; returns what these saw, and what it cost."""
    side, told = stage.sides[LIBRARY], Events()
    keys = [await side.old(0, kind=KIND) for _ in range(sessions)]
    url, agent = stage.restate.ingress_url, side.service(KIND)
    async with process(told, "followers", url, agent, json.dumps(keys)) as pid:
        await told.of("following", "")
        pids = {"server": stage.server_pid, "worker": side.pid, "followers": pid}
        before = {name: processor_time(x) for name, x in pids.items()}
        served, began = await side.call(keys[0], "get_served", kind=KIND), time.monotonic()
        sent = await asyncio.gather(*(side.send(key, "speak", kind=KIND) for key in keys))
        for each in sent:
            await side.events.at("done", each.text)
        memory, took = side.memory(), time.monotonic() - began
        cpu = {name: (processor_time(x) - before[name]) / took for name, x in pids.items()}
        now = await side.call(keys[0], "get_served", kind=KIND)
        seen: dict[str, Any] = json.loads((await told.of("followed", "")).more[0])
    await stage.settled()
    seen["cpu"], seen["memory"] = {name: round(x, 2) for name, x in cpu.items()}, memory / 2**20
    seen["rates"] = {name: (x - served.get(name, 0)) / took for name, x in now.items()}
    return seen


async def _floor(bench: Bench, sizes: Sequence[int]) -> Result:
    """What bare handlers do at most: one that sets a value, and two that read it, per session."""
    rows: list[tuple[str, ...]] = []
    async with bench.stage((FLOOR,), Options()) as stage:
        side = stage.sides[FLOOR]
        for size in sizes:
            done = 0
            end = time.monotonic() + (0.3 if bench.short else 5)

            async def call(key: str, handler: str, end: float = end) -> None:
                nonlocal done
                while time.monotonic() < end:
                    await side.call(key, handler, "words" if handler == "report" else None)
                    done += 1

            keys = [await side.old(0) for _ in range(size)]
            await asyncio.gather(*(side.call(key, "report", "words") for key in keys))
            handlers = ("report", *("get_history",) * EACH)
            before = {x: processor_time(x) for x in (stage.server_pid, side.pid)}
            began = time.monotonic()
            await asyncio.gather(*(call(key, handler) for key in keys for handler in handlers))
            took = time.monotonic() - began
            each = [(processor_time(x) - before[x]) / done * 1e3 for x in before]
            rate = done / took
            whole = (rate, size * len(handlers) / rate * 1e3)
            rows.append((str(size), *(f"{x:,.0f}" for x in whole), *(f"{x:.2f}" for x in each)))
    title = (
        f"The floor: bare handlers, called at once, one that sets and {EACH} that read per session"
    )
    ways = ("invocations a second", "one of each session: ms", "server: ms each", "worker: ms each")
    return Table("stream-floor", title, ("sessions", *ways), rows)


def _followed(seen: Mapping[int, list[dict[str, Any]]]) -> list[Result]:
    figures: list[Result] = []
    rows: list[tuple[str, ...]] = []
    for size, runs in seen.items():
        whole = all(len({*x["tokens"]}) == 1 and not x["wrong"] for x in runs)
        checks = {"nothing is lost": whole}
        if size > 20:
            first, second = runs[-1]["halves"]
            checks["the lag is bounded"] = second <= SLOWER * first
        figures.append(
            Figure(
                f"stream-{size}",
                f"token said to follower, median; {size} sessions, {PACE} tokens a second each, "
                f"{EACH} followers each",
                "ms",
                {LIBRARY: [x["median"] for x in runs]},
                None if size > 20 else Target(EVERY + 40, of="library"),
                checks,
            )
        )
        last = sorted(runs, key=lambda x: x["median"])[len(runs) // 2]
        rates, cpu = last["rates"], last["cpu"]
        publishes = rates["publish"]
        rows.append(
            (
                str(size),
                *(f"{last[x]:,.0f}" for x in ("median", "most", "longest")),
                f"{publishes:,.0f}",
                f"{size * PACE / publishes:.1f}",
                *(f"{rates.get(x, 0):,.0f}" for x in ("pull", "subscribe")),
                *(f"{cpu[x]:.2f}" for x in ("server", "worker", "followers")),
                f"{last['memory']:,.0f}",
            )
        )
    lags = ("median ms", "95 % ms", "longest ms", "publishes a second", "tokens each")
    costs = ("server: cores", "worker: cores", "followers: cores", "worker: MB")
    head = ("sessions", *lags, "pulls a second", "subscribes a second", *costs)
    title = f"Tokens to {EACH} followers of each session, {PACE} tokens a second"
    return [*figures, Table("stream-cost", title, head, rows)]


async def _beside(bench: Bench) -> list[Result]:
    """An agent with a stream and one without, in one worker, message by message."""
    async with bench.stage((LIBRARY,), Options(seconds=60)) as stage:
        turns = 0

        async def sample(side: Side) -> Mapping[str, float]:
            nonlocal turns
            turns += 1
            taken: dict[str, float] = {}
            for kind in (KIND, "")[:: 1 if turns % 2 else -1]:
                found = await _interrupted(stage, side, kind)
                taken |= {f"{name}{kind}": x for name, x in found.items()}
            return taken

        sides = list(stage.sides.values())
        what = "with and without a stream"
        taken = await bench.take_turns(what, sides, sample, samples=bench.some(2), warm_up=5)
    return [
        Figure(
            f"stream-{name}",
            f"{title}, an agent with `stream`; the same without",
            "ms",
            {
                LIBRARY: in_ms(taken[f"{name}{KIND}"])[LIBRARY],
                REFERENCE: in_ms(taken[name])[LIBRARY],
            },
            Target(1.05),
        )
        for name, title in (
            ("ack", "acknowledgement of a message"),
            ("step", "message to the first step"),
            ("interrupting", "acknowledgement of a message that interrupts one who speaks"),
            ("next", "such a message to the next task's first step"),
        )
    ]


async def _interrupted(stage: Stage, side: Side, kind: str) -> Mapping[str, float]:
    """A message, and another one while it is being answered, word by word."""
    key = await side.old(SHORT, kind=kind)
    first = await side.send(key, "speak", kind=kind)
    begun = await side.begun(first)
    await asyncio.sleep(0.2)  # so that there are some words
    second = await side.send(key, "answer", kind=kind)
    next_begun = await side.begun(second)
    await stage.settled()
    return {
        "ack": first.acknowledged,
        "step": begun,
        "interrupting": second.acknowledged,
        "next": next_begun,
    }

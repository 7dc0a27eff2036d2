"""What the ways to redirect an agent cost beside each other: the library beside itself."""

from collections.abc import Mapping

from tests.benchmarks.bench import Bench, in_ms
from tests.benchmarks.figures import FLOOR, LIBRARY, REFERENCE, Figure, Result, Target
from tests.benchmarks.stage import Side, Stage

from .latency import SHORT, answer

Taken = Mapping[str, Mapping[str, list[float]]]


async def policies(bench: Bench) -> list[Result]:
    """Each side is interrupted; the library's turns are also rolled back, and queued."""
    async with bench.stage() as stage:

        async def sample(side: Side) -> Mapping[str, float]:
            taken = await _redirect(stage, side, "interrupt")
            if side.name != LIBRARY:
                return taken
            plain = await answer(stage, side, await side.old(SHORT))
            rolled_back = await _redirect(stage, side, "rollback")
            return {
                **taken,
                "plain step": plain["step"],
                **rolled_back,
                **await _queue(stage, side),
            }

        taken = await bench.take_turns(
            "policies", list(stage.sides.values()), sample, samples=bench.some(1)
        )
    cut = in_ms(taken["interrupt cut"])
    return [
        Figure(
            "policies-abort",
            "message to the step of the turn at work being cut off",
            "ms",
            {name: cut[name] for name in (LIBRARY, REFERENCE, FLOOR)},
            Target(1.0),
        ),
        _beside(
            taken,
            "policies-rollback-ack",
            "acknowledgement of a `rollback`; of an `interrupt`",
            ("rollback ack", "interrupt ack"),
            Target(1.1),
        ),
        _beside(
            taken,
            "policies-rollback-step",
            "`rollback` to the next task's first step; `interrupt` to it",
            ("rollback step", "interrupt step"),
            Target(1.1),
        ),
        _beside(
            taken,
            "policies-queue-step",
            "end of a turn to the first step of a queued one; message to that of a plain turn",
            ("queue step", "plain step"),
            Target(1.3),
        ),
        _beside(
            taken,
            "policies-queue-ack",
            "acknowledgement of a `queue`; of an `interrupt`",
            ("queue ack", "interrupt ack"),
        ),
    ]


async def _redirect(stage: Stage, side: Side, policy: str) -> Mapping[str, float]:
    """Interrupt a task in a step, or roll it back, and let the next be over."""
    key = await side.old(SHORT)
    first = await side.send(key, "hold")
    await side.begun(first)
    # The reference and the floor interrupt, whatever is said.
    more = {} if policy == "interrupt" else {"policy": policy}
    second = await side.send(key, "answer", **more)
    step, cut = await side.begun(second), await side.events.at("cut off", first.text) - second.at
    await stage.settled()
    return {f"{policy} ack": second.acknowledged, f"{policy} step": step, f"{policy} cut": cut}


async def _queue(stage: Stage, side: Side) -> Mapping[str, float]:
    """Queue a message behind a turn, and let both be over."""
    key = await side.old(SHORT)
    first = await side.send(key, "pause")
    await side.begun(first)
    second = await side.send(key, "answer", policy="queue")
    ended = await side.events.at("done", first.text)
    step = await side.events.at("step", second.text)
    await stage.settled()
    return {"queue ack": second.acknowledged, "queue step": step - ended}


def _beside(
    taken: Taken, name: str, title: str, both: tuple[str, str], target: Target | None = None
) -> Figure:
    """Two things that the library does, side by side: the second where the reference stands."""
    one, other = (in_ms(taken[each])[LIBRARY] for each in both)
    return Figure(name, title, "ms", {LIBRARY: one, REFERENCE: other}, target)

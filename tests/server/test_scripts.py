"""Random scripts of commands, on a real server: they lead to what a naive model says.

The scripts are the same in each run. `INTERRUPTIBLE_SEED=2` draws others, `INTERRUPTIBLE_SCRIPTS`
says how many. A script that fails is printed as it can be written into `FOUND`.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from interruptible import Session
from interruptible._wire.types import POLICIES
from interruptible.testing import Restate

from .bursts import Burst, Busy
from .conftest import REPLAY, Deploy, eventually
from .scripts import Mismatch, Play, Scripted
from .session_model import (
    Attach,
    Cancel,
    Clean,
    Command,
    Do,
    Fork,
    Kill,
    Regenerate,
    Reset,
    Rewind,
    Say,
    Stop,
)

pytestmark = pytest.mark.anyio

SEED = int(os.environ.get("INTERRUPTIBLE_SEED", "1"))
SCRIPTS = int(os.environ.get("INTERRUPTIBLE_SCRIPTS", "90" if REPLAY else "360"))
"""How many are played; the two kinds of them, and of agents, have a share each."""

AT_ONCE = 16
AT_A_TIME = 10
"""How many scripts are drawn with one seed: Hypothesis tends to vary what it has drawn before."""
SHRINKING = 60
"""Seconds to look for a shorter script that fails."""

Script = tuple[Any, ...]
Player = Callable[[Script], Awaitable[None]]

backs = st.sampled_from([0, 1, 2, 3, -1])
maybe_backs = st.one_of(st.none(), backs)
reasons = st.sampled_from([None, "wrong file"])
places = st.sampled_from([0, 1, 2])
says = st.builds(Say, st.sampled_from(POLICIES), st.booleans())
careful = st.builds(Say, st.sampled_from(POLICIES), st.booleans(), st.booleans(), maybe_backs)
orders = st.builds(Do, st.sampled_from(["end", "put", "steer", "fail", "409"]))
kills = [st.builds(Kill, places), st.builds(Stop, places)]
cancels = [st.builds(Cancel, maybe_backs, reasons), st.builds(Rewind, backs, reasons)]
regenerates = st.builds(Regenerate, maybe_backs)
attaches = st.builds(Attach, maybe_backs)
resets = st.builds(Reset, reasons)
forks = st.builds(Fork, maybe_backs, st.booleans())
controls = [*cancels, *kills, regenerates, resets, forks, attaches, careful]


def one_of(*strategies: st.SearchStrategy[Command]) -> st.SearchStrategy[Command]:
    return st.sampled_from(strategies).flatmap(lambda strategy: strategy)


FOUND: list[Script] = [
    # What was left for a queued turn is part of what it begins with, whenever that is settled.
    (Say(), Say("queue"), Say("steer"), Do("end")),
    # A fork has no turns but those that it took along.
    (Say(), Do(), Say(), Say("rollback"), Do(), Fork(move=True), Rewind(back=2)),
    # The newest turn of a fork is the last in its conversation.
    (Say(), Do(), Say(), Rewind(), Fork(move=True), Regenerate()),
    # A turn that was taken back stays taken back by whom it was.
    (Say(slow=True), Regenerate(), Reset()),
]
"""Scripts that once failed."""

commands = one_of(*[says] * 7, *[orders] * 5, *[st.just(Clean())] * 2, *controls)
at_once = one_of(*[says] * 7, *cancels, *kills, regenerates, attaches, careful)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    length, begun = draw(st.integers(3, 12)), draw(st.booleans())
    return tuple(draw(says if begun and n == 0 else commands) for n in range(length))


@st.composite
def bursts(draw: st.DrawFn) -> Script:
    waves = draw(st.integers(1, 4))
    return tuple(tuple(draw(st.lists(at_once, min_size=1, max_size=5))) for _ in range(waves))


@pytest.mark.long
@pytest.mark.parametrize("keep_queued", [False, True])
async def test_a_script_leads_to_what_the_model_says(
    restate_env: Restate, deploy: Deploy, keep_queued: bool
) -> None:
    agent = Scripted(
        f"Scripted{keep_queued}Agent",
        keep_queued=keep_queued,
        max_pending=4,
        cleanup_timeout=timedelta(hours=1),
    )
    await deploy(agent)
    numbers = count()

    async def play(script: Script) -> None:
        await Play(restate_env, agent, f"script-{next(numbers)}").run(script)

    await play_all(scripts(), play, SCRIPTS // 3, SEED + keep_queued, FOUND)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ScriptBurstAgent", {}),
        ("BurstKeepAgent", {"keep_queued": True}),
        ("BurstMergeAgent", {"debounce": timedelta(milliseconds=50)}),
    ],
)
async def test_the_invariants_hold_in_a_burst_of_commands(
    restate_env: Restate, deploy: Deploy, name: str, options: dict[str, Any]
) -> None:
    agent = Busy(name, **options)
    await deploy(agent)
    numbers = count()

    async def play(script: Script) -> None:
        await Burst(restate_env, agent, f"burst-{next(numbers)}").run(script)

    await play_all(bursts(), play, SCRIPTS // 9)


async def test_a_message_that_joins_hides_none_that_joined_an_earlier_turn(
    restate_env: Restate, deploy: Deploy
) -> None:
    # Found by bursts, on a busy machine: the number of what joined is used again once it is over.
    agent = Scripted("ScriptJoinAgent", debounce=timedelta(seconds=2))
    await deploy(agent)
    session, stage = Session(restate_env.client, agent, "one"), agent.stage("one")
    assert [(await session.send(text))["turn"] for text in ("m1 slow", "m2")] == [1, 1]
    await asyncio.wait_for(stage.until(lambda: 1 in stage.at), 30)
    task = (await session.send("m3"))["task_id"]
    if REPLAY:
        stage.stopped.add(1)
        stage.change()
    loaded = f"SELECT 1 FROM sys_journal WHERE id = '{task}' AND entry_type = 'Notification: Call'"  # noqa: S608
    await eventually(lambda: restate_env.query(loaded))
    await asyncio.wait_for(stage.until(lambda: 1 in stage.cleaning), 30)
    stage.let_go.add(1)
    stage.change()
    await session.attach(1)
    assert (await session.send("m4"))["status"] == "joined"
    await asyncio.wait_for(stage.until(lambda: 2 in stage.at), 30)
    assert stage.at[2] == (0, ["m1 slow", "m2", "note: interrupted by turn 2", "m3", "m4"])
    stage.tell(2, "end")
    assert (await session.attach(2))["status"] == "completed"


async def play_all(
    strategy: st.SearchStrategy[Script],
    play: Player,
    number: int,
    seed: int = SEED,
    found: Sequence[Script] = (),
) -> None:
    """Play many scripts side by side; if some fail, look for a short one that does."""
    verdicts: dict[Script, str | None] = {}

    async def judge(script: Script) -> str | None:
        try:
            await play(script)
        except Mismatch as mismatch:
            return str(mismatch)
        return None

    drawn = dict.fromkeys(found, 0)
    for one in range(seed * 1000, seed * 1000 + max(1, number // AT_A_TIME)):
        explore(strategy, lambda script, one=one: drawn.setdefault(script, one), one)
    todo = iter(drawn)

    async def work() -> None:
        for script in todo:
            verdicts[script] = await judge(script)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    failed = sorted((script for script in drawn if verdicts[script]), key=len)
    if not failed:
        return
    loop, deadline = asyncio.get_running_loop(), time.monotonic() + SHRINKING

    def look(script: Script) -> None:
        if script not in verdicts and time.monotonic() < deadline:
            verdicts[script] = asyncio.run_coroutine_threadsafe(judge(script), loop).result()
        assert not verdicts.get(script)

    with contextlib.suppress(AssertionError):
        await asyncio.to_thread(explore, strategy, look, drawn[failed[0]])
    shortest = min((script for script in verdicts if verdicts[script]), key=len)
    shown = dict.fromkeys([shortest, *failed[:3]])
    told = "\n\n".join(f"{script}\n{verdicts[script]}" for script in shown)
    pytest.fail(
        f"{len(failed)} of {len(drawn)} scripts fail (INTERRUPTIBLE_SEED={SEED}). "
        f"The shortest that was found, and others:\n\n{told}",
        pytrace=False,
    )


def explore(
    strategy: st.SearchStrategy[Script], look: Callable[[Script], object], seed: int
) -> None:
    """Have Hypothesis draw scripts; if one fails, it looks for a shorter one."""

    @hypothesis.seed(seed)
    @settings(
        max_examples=AT_A_TIME,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def looked_at(script: Script) -> None:
        look(script)

    looked_at()

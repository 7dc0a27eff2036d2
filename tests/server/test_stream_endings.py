"""However a turn ends, and whatever becomes of it: whoever follows comes to what is on record."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from restate import TerminalError

from interruptible import Session
from interruptible.testing import Restate

from .conftest import REPLAY, Deploy, Log, eventually, is_idle
from .following import Follower, View, all_converge, ended_of, pull
from .gated import Gated
from .streaming import CALLING, Speaker, assistant, speaking, user

pytestmark = pytest.mark.anyio


class Stage:
    """A session whose first turn is saying `half `, and who has followed it until there."""

    def __init__(
        self, env: Restate, session: Session, agent: Speaker, task_id: str, first: Follower
    ) -> None:
        self.env, self.session, self.agent, self.task_id = env, session, agent, task_id
        self.first = first

    def statuses(self) -> dict[int, str]:
        return {turn: status for turn, (status, _) in self.first.view.ended.items()}

    async def work(self, turn: int) -> None:
        """Let a turn speak, and end."""
        self.agent.tell(turn, f"say turn {turn}")
        await self.first.until_text(f"turn {turn}")
        self.agent.tell(turn, f"turn {turn}.", "end")
        assert (await self.session.attach(turn))["status"] == "completed"


Scenario = Callable[[Stage], Awaitable[dict[int, str]]]
"""What happens; returns how the turns of the conversation ended."""
SCENARIOS: list[Scenario] = []


def scenario(does: Scenario) -> Scenario:
    SCENARIOS.append(does)
    return does


@scenario
async def interrupted_in_a_model_call(s: Stage) -> dict[int, str]:
    await s.session.cancel()
    s.agent.stop(1)
    outcome = await s.session.attach()
    if not REPLAY:
        assert (outcome["messages"], outcome["partial"]) == ([assistant("half ")], 1)
    return {1: "interrupted"}


@scenario
async def interrupted_in_a_tool(s: Stage) -> dict[int, str]:
    s.agent.tell(1, "half of it", "call")
    await s.first.until(lambda view: CALLING in view.live[1].messages)
    s.agent.tell(1, "say line 1")
    await s.first.until(lambda view: view.outputs == {"c1": "line 1"})
    await s.session.cancel()
    s.agent.stop(1)
    outcome = await s.session.attach()
    assert outcome["messages"][1] == CALLING
    if not REPLAY:
        assert outcome["messages"][2]["content"].startswith("line 1\n[Interrupted:")

        def states(_: View) -> bool:
            found = [x["state"] for x in s.first.events if x["type"] == "tool"]
            return found == ["begins", "cut off"]

        await s.first.until(states)
    return {1: "interrupted"}


@scenario
async def superseded_by_a_turn_that_streams(s: Stage) -> dict[int, str]:
    await s.session.send("no, this")
    s.agent.stop(1)
    await s.work(2)
    return {1: "interrupted", 2: "completed"}


@scenario
async def failed(s: Stage) -> dict[int, str]:
    s.agent.tell(1, "all of it", "say more", "fail")
    assert (await s.session.attach())["status"] == "failed"
    return {1: "failed"}


@scenario
async def killed(s: Stage) -> dict[int, str]:
    s.agent.tell(1, "all of it", "say more")
    await s.first.until_text("more")
    await s.env.kill(s.task_id)
    s.agent.tell(1, "end")  # its process goes on, and ends what it was doing
    assert (await s.session.attach())["status"] == "killed"
    return {1: "killed"}


@scenario
async def killed_before_a_turn_that_streams(s: Stage) -> dict[int, str]:
    s.agent.tell(1, "all of it", "say more")
    await s.first.until_text("more")
    await s.session.send("next", policy="queue")
    await s.env.kill(s.task_id)
    s.agent.tell(1, "end")
    await s.work(2)
    return {1: "killed", 2: "completed"}


@scenario
async def rolled_back(s: Stage) -> dict[int, str]:
    assert (await s.session.send("instead", policy="rollback"))["discarded"] == [1]
    s.agent.stop(1)
    await s.work(2)
    return {2: "completed"}


@scenario
async def rewound_while_it_is_at_work(s: Stage) -> dict[int, str]:
    assert (await s.session.rewind(1))["discarded"] == [1]
    s.agent.stop(1)
    await s.session.attach(1)
    return {}


@scenario
async def rewound_to_a_turn_that_is_over(s: Stage) -> dict[int, str]:
    s.agent.tell(1, "half of it", "end")
    await s.session.attach()
    for number in (2, 3):
        await s.session.send("on")
        await s.work(number)
    await eventually(lambda: is_idle(s.session))
    assert await s.session.rewind(2) == {"cancelled": [], "discarded": [2, 3]}
    return {1: "completed"}


@scenario
async def regenerated(s: Stage) -> dict[int, str]:
    s.agent.tell(1, "half of it", "end")
    await s.session.attach()
    assert (await s.session.regenerate())["turn"] == 2
    await s.work(2)
    return {2: "completed"}


@scenario
async def regenerated_while_it_is_at_work(s: Stage) -> dict[int, str]:
    assert (await s.session.regenerate())["discarded"] == [1]
    s.agent.stop(1)
    await s.work(2)
    return {2: "completed"}


@scenario
async def reset_while_it_is_at_work(s: Stage) -> dict[int, str]:
    assert await s.session.reset() == [1]
    s.agent.stop(1)
    await eventually(lambda: is_idle(s.session))
    return {}


@scenario
async def reset_when_it_is_over(s: Stage) -> dict[int, str]:
    s.agent.tell(1, "half of it", "end")
    await s.session.attach()
    assert await s.session.reset() == []
    await s.session.send("anew")
    await s.work(2)
    return {2: "completed"}


@scenario
async def with_one_that_was_queued_and_cancelled(s: Stage) -> dict[int, str]:
    await s.session.send("later", policy="queue")
    await s.session.send("much later", policy="queue")
    assert await s.session.cancel(2) == [2]
    s.agent.tell(1, "half of it", "end")
    assert (await s.session.attach(2)).get("never_began")
    await s.work(3)
    return {1: "completed", 2: "interrupted", 3: "completed"}


@scenario
async def with_the_newest_one_queued_and_cancelled(s: Stage) -> dict[int, str]:
    await s.session.send("later", policy="queue")
    assert await s.session.cancel(2) == [2]
    s.agent.tell(1, "half of it", "say more")
    await s.first.until_text("more")  # of this turn, which goes on
    assert (await s.session.attach(2)).get("never_began")
    s.agent.tell(1, "all of it", "end")
    assert (await s.session.attach(1))["status"] == "completed"
    return {1: "completed", 2: "interrupted"}


@scenario
async def steered(s: Stage) -> dict[int, str]:
    before = len(s.first.events)
    await s.session.send("shorter", policy="steer")
    await s.first.until(lambda _: {"pending"} <= {x["type"] for x in s.first.events[before:]})
    s.agent.tell(1, "look")
    await s.first.until(lambda view: user("shorter", 2) in view.live[1].messages)
    s.agent.tell(1, "say short")
    await s.first.until(lambda view: view.text.endswith("short"))
    s.agent.tell(1, "short", "end")
    assert (await s.session.attach())["messages"] == [user("shorter"), assistant("short")]
    types = [x["type"] for x in (await pull(s.session, offset=0))["messages"]]
    assert types == ["gap", "turn", "pending", "steered", "message", "turn"]
    return {1: "completed"}


@scenario
async def steered_and_not_taken(s: Stage) -> dict[int, str]:
    await s.session.send("shorter", policy="steer")
    s.agent.tell(1, "half of it", "end")
    await s.session.attach(1)
    await s.work(2)
    return {1: "completed", 2: "completed"}


@scenario
async def steered_and_interrupted(s: Stage) -> dict[int, str]:
    await s.session.send("shorter", policy="steer")
    s.agent.tell(1, "half of it", "look")
    await s.first.until(lambda view: user("shorter", 2) in view.live[1].messages)
    await s.session.cancel()
    s.agent.stop(1)
    outcome = await s.session.attach()
    assert outcome["messages"] == [assistant("half of it"), user("shorter")]
    return {1: "interrupted"}


@pytest.mark.parametrize("happens", SCENARIOS, ids=lambda x: x.__name__)
async def test_whoever_follows_a_turn_that_is(
    restate_env: Restate, deploy: Deploy, log: Log, happens: Scenario
) -> None:
    agent = Speaker(log, "EndingStreamAgent", restate_env)
    async with speaking(restate_env, deploy, agent, happens.__name__) as (session, first):
        receipt = await session.send("go")
        agent.tell(1, "say half ")
        await first.until_text("half ")
        async with Follower(session) as middle:
            await middle.until_text("half ")
            stage = Stage(restate_env, session, agent, receipt["task_id"], first)
            expected = await happens(stage)
            await all_converge(restate_env, session, first, middle)
            assert stage.statuses() == expected


class Stubborn(Speaker):
    """The steps of its first turn go on, whatever they are told, until they are freed."""

    def __init__(self, log: Log, name: str, env: Restate) -> None:
        super().__init__(log, name, env, cleanup_timeout=timedelta(milliseconds=300))
        self.freed = asyncio.Event()

    async def _speak(self, task: Any, say: Any) -> str:
        if task.turn > 1:
            return await super()._speak(task, say)
        say("half ")
        while not self.freed.is_set():
            try:
                await self.freed.wait()
            except asyncio.CancelledError:
                self.log.note("goes on")
        say("late words")
        return "end"


async def test_a_turn_that_was_given_up_says_nothing_into_the_one_that_streams_now(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Stubborn(log, "GivenUpStreamAgent", restate_env)
    async with speaking(restate_env, deploy, agent) as (session, first):
        await session.send("go")
        await first.until_text("half ")
        await session.send("next")
        agent.tell(2, "say two ")
        await first.until_text("two ")
        async with Follower(session) as middle:
            await middle.until_text("two ")
            agent.freed.set()
            assert (await session.attach(1))["status"] == "interrupted"
            await first.until(lambda view: 1 in view.ended)
            agent.tell(2, "say words")
            for follower in (first, middle):
                await follower.until_text("two words")
            agent.tell(2, "two words", "end")
            await session.attach(2)
            await all_converge(restate_env, session, first, middle)
            assert [n for n, _ in sorted((await ended_of(session)).items())] == [1, 2]


async def test_a_turn_whose_output_is_not_what_was_told_is_told_anew(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """A call that has no result gets one, which stands among the messages that were told."""

    class CarelessAgent(Speaker):
        async def run(self, ctx: Any, task: Any) -> Any:
            task.append(CALLING, "between")
            await super().run(ctx, task)

    agent = CarelessAgent(log, "CarelessStreamAgent", restate_env)
    async with speaking(restate_env, deploy, agent) as (session, first):
        await session.send("go")
        await first.until(lambda view: view.live and assistant("between") in view.live[1].messages)
        agent.tell(1, "end")
        outcome = await session.attach()
        assert [x["role"] for x in outcome["messages"]] == ["assistant", "tool", "assistant"]
        await all_converge(restate_env, session, first)
        assert "gap" in [x["type"] for x in first.events[1:]]


@pytest.mark.parametrize("key", ["a/b ?#%é", "a%2Fb", "日本/🎈", " "])
async def test_a_session_may_have_any_key(
    restate_env: Restate, deploy: Deploy, log: Log, key: str
) -> None:
    agent = Speaker(log, "OddStreamAgent", restate_env)
    async with speaking(restate_env, deploy, agent, key) as (session, first):
        await session.send("go")
        agent.tell(1, "say odd")
        await first.until_text("odd")
        agent.tell(1, "odd", "end")
        await session.attach()
        await all_converge(restate_env, session, first)


async def test_an_agent_without_a_stream_cannot_be_followed_and_it_is_said_what_to_do(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Gated(log, "StreamlessAgent")
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    with pytest.raises(
        TerminalError, match=r"There is no \w+\. Make \w+ with `stream=Stream"
    ) as error:
        await anext(session.follow())
    assert error.value.status_code == 404
    assert [x.name for x in agent.services] == ["StreamlessAgent", "StreamlessTask"]

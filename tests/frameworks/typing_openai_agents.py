"""What a type checker has to say of `interruptible.ext.openai_agents`; nothing here is run."""

from dataclasses import dataclass

import agents as sdk
from restate import Context
from typing_extensions import assert_type

from interruptible import Agent, Task
from interruptible.ext import openai_agents


@dataclass
class Booking:
    city: str


booker = sdk.Agent[None](name="booker", model="gpt-5", output_type=Booking)
with_context = sdk.Agent[Booking](name="with context")
hooks = sdk.RunHooks[Booking]()
other_hooks = sdk.RunHooks[int]()


async def approve(tool: str, arguments: dict[str, object]) -> bool | str:
    return f"no {tool} of {arguments}"


async def wrong(tool: str) -> bool:
    return bool(tool)


assert_type(openai_agents.agent(booker), Agent)
openai_agents.agent(booker, name="Booker", approve=approve, policy="steer", max_pending=3)
openai_agents.agent(booker, policy="later")  # type: ignore[arg-type]
openai_agents.agent(booker, colour="red")  # type: ignore[call-arg]
openai_agents.agent(booker, approve=wrong)  # type: ignore[arg-type]
openai_agents.agent("booker")  # type: ignore[arg-type]


class BookingAgent(Agent):
    async def run(self, ctx: Context, task: Task) -> str:
        result = await openai_agents.run(booker, task, max_turns=3)
        assert_type(result, sdk.RunResult)
        await openai_agents.run(with_context, task, hooks=hooks, run_config={"model": "gpt-5"})
        await openai_agents.run(with_context, task, hooks=other_hooks)  # type: ignore[misc]
        await openai_agents.run(booker, task, run_config=3)  # type: ignore[arg-type]
        await openai_agents.run(booker, "task")  # type: ignore[arg-type]
        return result.final_output_as(Booking).city

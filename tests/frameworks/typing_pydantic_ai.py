"""What a type checker has to say of `interruptible.ext.pydantic_ai`; nothing here is run."""

from dataclasses import dataclass

from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.models.test import TestModel
from restate import Context
from typing_extensions import assert_type

from interruptible import Agent, Task
from interruptible.ext import pydantic_ai


@dataclass
class Booking:
    city: str


booker = PydanticAgent(TestModel(), name="booker", output_type=Booking)
with_deps = PydanticAgent(TestModel(), name="with deps", deps_type=int)


async def approve(tool: str, arguments: dict[str, object]) -> bool | str:
    return f"no {tool} of {arguments}"


async def wrong(tool: str) -> bool:
    return bool(tool)


assert_type(pydantic_ai.agent(booker), Agent)
pydantic_ai.agent(booker, name="Booker", approve=approve, policy="steer", max_pending=3)
pydantic_ai.agent(booker, policy="later")  # type: ignore[arg-type]
pydantic_ai.agent(booker, colour="red")  # type: ignore[call-arg]
pydantic_ai.agent(booker, approve=wrong)  # type: ignore[arg-type]
pydantic_ai.agent(with_deps)  # type: ignore[arg-type]
pydantic_ai.agent("booker")  # type: ignore[arg-type]


class BookingAgent(Agent):
    async def run(self, ctx: Context, task: Task) -> str:
        result = await pydantic_ai.run(booker, task, usage_limits=None)
        assert_type(result.output, Booking)
        await pydantic_ai.run(with_deps, task, deps=3, approve=approve)
        await pydantic_ai.run(booker, "task")  # type: ignore[arg-type]
        return result.output.city

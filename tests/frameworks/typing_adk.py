"""What a type checker has to say of `interruptible.ext.adk`; nothing here is run."""

from google.adk.agents import LlmAgent, RunConfig
from google.adk.apps import App
from google.adk.events import Event
from google.adk.sessions import Session
from restate import Context
from typing_extensions import assert_type

from interruptible import Agent, Task
from interruptible.ext import adk

booker = LlmAgent(name="booker", model="gemini-2.5-flash")
app = App(name="booking", root_agent=booker)


async def approve(tool: str, arguments: dict[str, object]) -> bool | str:
    return f"no {tool} of {arguments}"


async def wrong(tool: str) -> bool:
    return bool(tool)


assert_type(adk.agent(booker), Agent)
adk.agent(app, name="Booker", approve=approve, policy="steer", max_pending=3)
adk.agent(booker, policy="later")  # type: ignore[arg-type]
adk.agent(booker, colour="red")  # type: ignore[call-arg]
adk.agent(booker, approve=wrong)  # type: ignore[arg-type]
adk.agent("booker")  # type: ignore[arg-type]


class BookingAgent(Agent):
    async def run(self, ctx: Context, task: Task) -> str:
        result = await adk.run(
            booker, task, run_config=RunConfig(max_llm_calls=20), state={"city": "Oslo"}
        )
        assert_type(result, adk.Result)
        assert_type(result.events, list[Event])
        assert_type(result.session, Session)
        await adk.run(app, task, approve=approve)
        await adk.run(booker, "task")  # type: ignore[arg-type]
        return str(result.output)

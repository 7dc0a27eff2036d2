"""What a type checker has to say of `interruptible.ext.langchain`; nothing here is run."""

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langgraph.graph import MessagesState, StateGraph
from restate import Context
from restate.ext.langchain import RestateMiddleware
from typing_extensions import assert_type

from interruptible import Agent, Task
from interruptible.ext import langchain
from interruptible.ext.langchain import InterruptibleMiddleware

booker = create_agent(
    FakeListChatModel(responses=["Hi."]),
    name="booker",
    middleware=[RestateMiddleware(), InterruptibleMiddleware()],
)
own = StateGraph(MessagesState).compile(name="own")


async def approve(tool: str, arguments: dict[str, object]) -> bool | str:
    return f"no {tool} of {arguments}"


async def wrong(tool: str) -> bool:
    return bool(tool)


assert_type(langchain.agent(booker), Agent)
langchain.agent(own, name="Own", approve=approve, policy="steer", max_pending=3)
langchain.agent(booker, policy="later")  # type: ignore[arg-type]
langchain.agent(booker, colour="red")  # type: ignore[call-arg]
langchain.agent(booker, approve=wrong)  # type: ignore[arg-type]
langchain.agent(StateGraph(MessagesState))  # type: ignore[arg-type]
langchain.agent("booker")  # type: ignore[arg-type]


class BookingAgent(Agent):
    async def run(self, ctx: Context, task: Task) -> str:
        result = await langchain.run(booker, task, approve=approve, config={"recursion_limit": 50})
        assert_type(result, dict[str, Any])
        await langchain.run(own, task, input={"city": "Rome"}, context={"user": "Ada"})
        await langchain.run(booker, "task")  # type: ignore[arg-type]
        return str(result["messages"][-1].text)

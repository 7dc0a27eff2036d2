"""A graph for `langgraph dev`: one node that calls the model, again while steps are left."""

from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from shared import WINDOW, ask, clean_up, order_of

ROLES = {"human": "user", "ai": "assistant"}


def plain(message: BaseMessage) -> dict[str, Any]:
    return {"role": ROLES.get(message.type, message.type), "content": message.content}


def asked(state: MessagesState) -> tuple[dict[str, Any], int]:
    """What the user asked for last, and how many steps of it are done."""
    place = max(i for i, each in enumerate(state["messages"]) if each.type == "human")
    return order_of(plain(state["messages"][place])), len(state["messages"]) - place - 1


async def step(state: MessagesState) -> dict[str, Any]:
    order, _ = asked(state)
    try:
        answer = await ask([plain(each) for each in state["messages"][-WINDOW:]])
    finally:
        if "cleanup" in order:
            await clean_up(order["tag"], order["cleanup"])
    return {"messages": [{"role": "assistant", "content": answer}]}


def further(state: MessagesState) -> str:
    order, done = asked(state)
    return "step" if done < order.get("steps", 1) else END


graph = (
    StateGraph(MessagesState)
    .add_node("step", step)
    .add_edge(START, "step")
    .add_conditional_edges("step", further, ["step", END])
    .compile()
)

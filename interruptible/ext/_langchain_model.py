"""The nodes of LangChain's agents that ask a model, in the graph of a run.

A durable request is made by `RestateMiddleware`, within which that of the library stands. So what
is to go around a request goes around its node, in a copy of the graph.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from langchain import agents
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import RunnableConfig
from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]

Ask = Callable[[Runnable[Any, Any], Any, Any, Any], Awaitable[Any]]
"""Runs such a node: it is given the node, its input, its configuration and other options."""

_MODEL: Final = "model"
"""What `create_agent` calls the node."""


def with_models(graph: Any, ask: Ask, **changes: Any) -> Any:
    """A copy of a graph; its agents, also those that are nodes of it, ask their models so.

    Args:
        graph: The graph.
        ask: How.
        changes: What else is otherwise in the copy.
    """
    nodes = {name: _copied(name, node, ask) for name, node in graph.nodes.items()}
    return graph.copy({"nodes": nodes, **changes})


def is_shared_graph(node: Any) -> bool:
    """Whether what a node runs is a graph that has the conversation."""
    return isinstance(node, Pregel) and "messages" in node.channels


def is_made_by_create_agent(node: Any) -> bool:
    """Whether a function of `create_agent` is what a node runs: the only trace of what made it."""
    module = getattr(getattr(node, "afunc", None), "__module__", None)
    return bool(module == cast("Any", agents).create_agent.__module__)


def _copied(name: str, node: Any, ask: Ask) -> Any:
    bound = node.bound
    if is_shared_graph(bound):
        graph = with_models(bound, ask)
        return node.copy({"bound": graph, "subgraphs": [graph]})
    if name == _MODEL and is_made_by_create_agent(bound):
        return node.copy({"bound": _Asking(bound, ask)})
    return node


class _Asking(Runnable[Any, Any]):
    """Runs a node that asks a model."""

    def __init__(self, bound: Runnable[Any, Any], ask: Ask) -> None:
        self._bound, self._ask = bound, ask

    def invoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:  # noqa: A002
        return self._bound.invoke(input, config, **options)

    async def ainvoke(
        self,
        input: Any,  # noqa: A002 - as LangChain calls it
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> Any:
        return await self._ask(self._bound, input, config, options)

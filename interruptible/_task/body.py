"""What a task needs of its agent."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal, Protocol

from restate import Context, VirtualObject

from interruptible._wire.types import Message, Policy, TaskOutcome, Turn


class Telling(Protocol):
    """Tells those who follow a session what one attempt at a turn does."""

    def put(self, messages: Sequence[Message]) -> None: ...
    def took(self, messages: Sequence[Message]) -> None: ...
    def tool(self, call: str, name: str, state: Literal["begins", "ends"]) -> None: ...
    def tell(self, event: dict[str, Any]) -> None: ...
    def say(self, event: dict[str, Any], handle: int, run: object) -> None: ...
    def ends(self, outcome: TaskOutcome) -> None: ...
    async def close(self) -> None: ...


class Streaming(ABC):
    """What an agent's `stream` is to the core."""

    @abstractmethod
    def object_of(self, agent: str) -> VirtualObject:
        """The virtual object of an agent's streams."""

    @abstractmethod
    def new_key(self) -> str:
        """What nobody can guess: who knows a turn's publishes for it."""

    @abstractmethod
    def teller(
        self, agent: str, session: str, turn: int, key: str, send: Callable[[str, Any], Any]
    ) -> Telling:
        """What tells the followers of a session of one attempt at a turn."""


class AgentBody(Protocol):
    """An agent, as its tasks see it. A `task` is a `Task`, whose module knows this one."""

    name: str
    task_name: str
    policy: Policy
    cleanup_timeout: timedelta
    debounce: timedelta | None
    alternate_roles: bool
    stream: Streaming | None

    @property
    def merges(self) -> bool: ...
    @property
    def tells_all(self) -> bool: ...
    async def run(self, ctx: Context, task: Any) -> Any: ...
    async def on_interrupted(self, ctx: Context, task: Any) -> None: ...
    def interruption_note(self, turn: Turn) -> str | Message | None: ...
    def resume_note(self, turn: Turn) -> str | Message | None: ...
    def call_note(self, name: str | None, *, begun: bool, output: str | None) -> str: ...
    def conversation(self, turns: Sequence[Turn]) -> list[Message]: ...

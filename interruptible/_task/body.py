"""What a task needs of its agent."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

from restate import Context

from interruptible._wire.types import Message, Policy, Turn


class AgentBody(Protocol):
    """An agent, as its tasks see it. A `task` is a `Task`, whose module knows this one."""

    name: str
    task_name: str
    policy: Policy
    cleanup_timeout: timedelta
    debounce: timedelta | None
    alternate_roles: bool

    @property
    def merges(self) -> bool: ...
    async def run(self, ctx: Context, task: Any) -> Any: ...
    async def on_interrupted(self, ctx: Context, task: Any) -> None: ...
    def interruption_note(self, turn: Turn) -> str | Message | None: ...
    def call_note(self, name: str | None, *, begun: bool, output: str | None) -> str: ...
    def conversation(self, turns: Sequence[Turn]) -> list[Message]: ...

"""Interruptible agents on Restate."""

from interruptible._agent import Agent, agent, handler
from interruptible._cancel.cleanup import cleanup
from interruptible._cancel.shielding import shield
from interruptible._cancel.steered import Steered
from interruptible._cancel.watch import Interrupted
from interruptible._task.current import current_task
from interruptible._task.task import Task
from interruptible._wire.types import Message, Turn
from interruptible.client import Session

__all__ = [
    "Agent",
    "Interrupted",
    "Message",
    "Session",
    "Steered",
    "Task",
    "Turn",
    "agent",
    "cleanup",
    "current_task",
    "handler",
    "shield",
]

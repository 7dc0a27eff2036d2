"""Interruptible agents on Restate."""

from interruptible._agent import Agent, agent, handler
from interruptible._cancellation import Interrupted, shield
from interruptible._cleanup import cleanup
from interruptible._task import Task, current_task
from interruptible._types import Message, Turn
from interruptible.client import Session

__all__ = [
    "Agent",
    "Interrupted",
    "Message",
    "Session",
    "Task",
    "Turn",
    "agent",
    "cleanup",
    "current_task",
    "handler",
    "shield",
]

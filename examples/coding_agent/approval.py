"""Commands that wait for a person's yes.

The list of them is a courtesy to the person, not a wall: who wants to get around a list of words
will. The wall is what `guard.py` takes from every command.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from restate import Context, ObjectContext, ObjectSharedContext, TerminalError
from typing_extensions import NotRequired, TypedDict

from interruptible import Agent, Session, Task, handler

ASK_FIRST = (
    r"\bgit\b.*\bpush\b",
    r"\bgit\b.*\b(reset\b.*--hard|clean\b)",
    r"\brm\b.*\s-(-recursive\b|\w*[rR])",
    r"\b(sudo|su|doas)\b",
    r"\b(curl|wget)\b.*\|\s*(ba|z)?sh\b",
    r"\b(npm|twine|cargo|uv|poetry)\b.*\b(publish|upload)\b",
)
"""Patterns, each searched for in each part of a command line."""


class Answer(TypedDict):
    """What `approve` is given: the library refuses what is not of this type."""

    turn: int
    call: str
    yes: bool
    reason: NotRequired[str | None]


class AskingAgent(Agent):
    """An agent that asks a person before it does certain things; its `run` is another's to write.

    The question is a durable promise: it outlives the worker, and it can be interrupted.
    """

    async def ask_first_of(self, ctx: Context, task: Task, call: str, command: str) -> str | None:
        """Wait for a person's yes; returns what the model is told if it is a no."""
        promise, answer = ctx.awakeable(type_hint=dict[str, Any])
        asked = {"turn": task.turn, "call": call, "command": command, "promise": promise}
        ctx.object_send(self.ask_approval, key=task.session, arg=asked)
        said = await answer
        if said["yes"]:
            return None
        why = f": {said['reason']}" if said.get("reason") else ""
        return f"[Not run: the user said no{why}.]"

    @handler(ingress_private=True)
    async def ask_approval(self, ctx: ObjectContext, asked: dict[str, Any]) -> None:
        """Note that a command waits for a person's yes."""
        waiting = await ctx.get("approvals", type_hint=list[dict[str, Any]]) or []
        ctx.set("approvals", [*(x for x in waiting if x["turn"] >= asked["turn"] - 50), asked])

    @handler()
    async def approve(self, ctx: ObjectContext, answer: Answer) -> dict[str, Any]:
        """Say yes or no to a command that waits for it."""
        turn, call, yes = answer["turn"], answer["call"], answer["yes"]
        waiting = await ctx.get("approvals", type_hint=list[dict[str, Any]]) or []
        asked = next((x for x in waiting if (x["turn"], x["call"]) == (turn, call)), None)
        if asked is None:
            raise TerminalError(f"No call {call!r} of turn {turn} waits for a yes.", 404)
        # A cancel is a handler of this object, too: none can come between this and the answer.
        if turn not in await self.at_work(ctx):
            raise TerminalError(f"Too late: turn {turn} is cancelled or over.", 410)
        if asked.get("answered"):
            raise TerminalError(f"Too late: the call {call!r} was answered already.", 410)
        ctx.set("approvals", [{**x, "answered": True} if x is asked else x for x in waiting])
        ctx.resolve_awakeable(asked["promise"], {"yes": yes, "reason": answer.get("reason")})
        return {"turn": turn, "call": call, "yes": yes}

    @handler(kind="shared")
    async def get_approvals(self, ctx: ObjectSharedContext) -> list[dict[str, Any]]:
        """The commands that wait for a person's yes."""
        waiting = await ctx.get("approvals", type_hint=list[dict[str, Any]]) or []
        live_turns = await self.at_work(ctx) if waiting else set()
        shown = ("turn", "call", "command")
        return [
            {key: x[key] for key in shown}
            for x in waiting
            if x["turn"] in live_turns and not x.get("answered")
        ]

    async def at_work(self, ctx: ObjectContext | ObjectSharedContext) -> set[int]:
        """The turns that are live and not cancelled."""
        status = await Session(ctx, self, ctx.key()).status()
        return {each["turn"] for each in status["live"] if each["cancelled"] is None}


def asks_first(command: str, patterns: Sequence[str] = ASK_FIRST) -> bool:
    """Whether a command has to wait for a person's yes."""
    plain = re.sub(r"\\\n", " ", command)
    plain = re.sub(r"[\\'\"]", "", plain)  # as the shell would read it, or nearly
    parts = re.split(r"[;&\n]+|\|\|", plain[:20_000])
    return any(re.search(pattern, part) for pattern in patterns for part in parts)

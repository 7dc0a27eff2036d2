"""A coding agent that people can really redirect: a turn is one loop of durable steps.

Read here what becomes of the files when a turn ends, in whatever way; where a turn takes what was
said meanwhile; and how a command waits for a person's yes.

Its own handlers, beside those that every agent has (`message`, `cancel`, `get_turns`, …):

    get_diff       nothing, or {"turn": 3} -> {"turn": 3, "diff": "…"}    shared

It compares the files as they are now with those at the start of a turn, by default the newest.

Some commands wait for a person's yes, as `get_status` says in `waiting_for`: what is asked has the
value {"call": "call_1", "command": "git push"}, and `answer` answers it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restate import Context, ObjectSharedContext, TerminalError
from typing_extensions import TypedDict

from examples.coding_agent import tools
from examples.coding_agent.model import Model
from examples.coding_agent.shell import Clipped, Limits
from examples.coding_agent.workspace import Workspace
from interruptible import (
    Agent,
    Interrupted,
    Message,
    Session,
    Steered,
    Task,
    Turn,
    cleanup,
    handler,
)

MOST_MODEL_CALLS = 40  # in one turn
MOST_TOOL_CALLS = 100
MOST_ASKED = 60_000  # bytes of a command that a person is asked about

SYSTEM = """\
You are a coding agent. You work in one folder, with the tools that you are given; paths are
relative to it. Look before you change something, write tests, run them, and mend what fails. Say in
a sentence what you are about to do, and when you are done, what you did. A result in brackets says
what happened to a call that did not give what you asked for. The user may interrupt you, or add
something while you work: the newest message counts.
"""


class Asked(TypedDict, total=False):
    """What `get_diff` is given."""

    turn: int | None


class CodingAgent(Agent):
    """Works in a workspace of its own for each session, with a model and tools.

    Args:
        root: The folder of all workspaces.
        model: Which model to ask.
        limits: What a tool call may use.
        ask_first: Patterns of commands that wait for a person's yes.
        options: Those of `Agent`; with a `stream`, the terminal and the page can follow it.
    """

    def __init__(
        self,
        root: Path,
        model: Model,
        *,
        limits: Limits | None = None,
        ask_first: Sequence[str] = tools.ASK_FIRST,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.model = model
        self.limits = limits or Limits()
        self.ask_first = ask_first

    # -- one turn --------------------------------------------------------------------------------

    async def run(self, ctx: Context, task: Task) -> None:
        """Work on one turn; the files are kept, or restored if it is rolled back."""
        place = Workspace(self.root, task.session)
        async with cleanup(ctx) as undo:
            # Before the `try`: a turn that is cut off here has changed no files.
            left = await ctx.run_typed(
                "checkpoint",
                place.checkpoint,
                turn=task.turn,
                task_id=task.id,
                stands=[turn["turn"] for turn in task.turns],
                origin=task.forked_from,
            )
            try:
                await self.loop(ctx, task, place, left)
                await ctx.run_typed("keep files", place.keep, turn=task.turn, interrupted=False)
            # Registered here and not before: what is to be done depends on how it ends. They are
            # plain functions, so steps in threads, which end by themselves: cleanup waits for them.
            except Interrupted:
                if (await task.cause()).kind == "rolled back":
                    undo.on_interrupt("restore files", place.restore, task.turn)
                else:
                    undo.on_interrupt("keep files", place.keep, task.turn, interrupted=True)
                raise
            except TerminalError:
                undo.on_error("keep files", place.keep, task.turn, interrupted=False)
                raise

    async def loop(self, ctx: Context, task: Task, place: Workspace, left: str) -> None:
        """Ask the model and do what it asks for, until it answers."""
        files = await ctx.run_typed("list files", place.listing)
        system = {"role": "system", "content": f"{SYSTEM}\nThe files are:\n{files}\n\n{left}"}
        used = 0
        for number in range(1, MOST_MODEL_CALLS + 1):
            await task.steering()
            asked = ctx.run_typed(
                f"model {number}",
                self.model.complete,
                messages=[system, *task.messages],
                tools=tools.TOOLS,
                say=task.partial,
                tell=task.publish,
            )
            try:
                answer = await task.steerable(asked)
            except Steered:  # there is something to read first; what it had said stays
                continue
            task.append(answer)
            calls = answer.get("tool_calls", [])
            for call in calls:
                used += 1
                text = f"[Not run: these are more than {MOST_TOOL_CALLS} calls in one turn.]"
                if used <= MOST_TOOL_CALLS:
                    text = await self.use_tool(ctx, task, place, call)
                task.append({"role": "tool", "tool_call_id": call["id"], "content": text})
            if used > MOST_TOOL_CALLS:
                task.append(f"[I stopped after {MOST_TOOL_CALLS} tool calls in one turn.]")
                return
            if not calls and not await task.steering():  # what was added meanwhile counts, too
                return
        task.append(f"[I stopped after asking the model {MOST_MODEL_CALLS} times in one turn.]")

    async def use_tool(self, ctx: Context, task: Task, place: Workspace, call: Any) -> str:
        """Run one tool call as a durable step, after a person's yes if it needs one."""
        name, values = call["function"]["name"], tools.parse(**call["function"])
        if isinstance(values, str):
            return values
        if name == "run_command" and tools.asks_first(values["command"], self.ask_first):
            asked = {"call": call["id"], "command": values["command"]}
            if len(json.dumps(asked)) > MOST_ASKED:
                return "[Not run: it needs the user's yes, and is too long for anybody to read.]"
            task.publish({"type": "tool", "call": call["id"], "name": name, "state": "waits"})
            answer = await task.approval("Run this command?", value=asked)
            if not answer:
                why = f": {answer.reason}" if answer.reason else ""
                return f"[Not run: the user said no{why}.]"
        with task.call(call["id"]):
            return await ctx.run_typed(
                step_name(name, values),
                tools.call,
                name=name,
                values=values,
                workspace=place,
                limits=self.limits,
                show=task.partial_result(),
            )

    def call_note(self, name: str | None, *, begun: bool, output: str | None) -> str:
        """What the model is told of a call that was cut off, with as much as it had printed."""
        if output is not None:
            printed = Clipped(self.limits.result)
            printed.add(output)
            output = str(printed)
        return super().call_note(name, begun=begun, output=output)

    def interruption_note(self, turn: Turn) -> str | Message | None:
        """What the model is told after an interrupted turn."""
        note = super().interruption_note(turn)
        return f"{note}\n[What you had done to the files is still there.]"

    # -- what it has done ------------------------------------------------------------------------

    @handler(kind="shared")
    async def get_diff(
        self, ctx: ObjectSharedContext, asked: Asked | None = None
    ) -> dict[str, Any]:
        """The files as they are now, against those at the start of a turn."""
        turn = (asked or {}).get("turn")
        if turn is None:
            turns = (await Session(ctx, self, ctx.key()).turns(limit=1))["turns"]
            turn = turns[0]["turn"] if turns else 0
        place = Workspace(self.root, ctx.key())
        return {"turn": turn, "diff": await ctx.run_typed("diff", place.diff, turn=turn)}


def step_name(name: str, values: dict[str, Any]) -> str:
    """What the step of a tool call is called in Restate's UI."""
    what = f"{name} {values.get('command') or values.get('path') or values.get('text') or ''}"
    return json.dumps(what, ensure_ascii=False)[1:-1][:80].rstrip()

"""One task's life: wait for the predecessors, load the conversation, run, settle."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple, Protocol, cast

import restate
from restate import Context, RestateDurableFuture, TerminalError

from interruptible._cancellation import (
    Interrupted,
    seal,
    shield,
    terminal,
    terminal_cause,
    unseal,
    watching,
)
from interruptible._cleanup import report
from interruptible._history import JSON, conversation
from interruptible._types import Dispatch, Message, Outcome, Settlement, Turn, output

OUTCOME: Final = "outcome"
"""The key of the outcome in the metadata of the error that a task ends with."""


class Task:
    """The turn that a task works on.

    Attributes:
        session: The session's key.
        turn: The turn's number in the session.
        id: The task's invocation id.
        messages: The conversation up to and with this turn's messages; `append` adds to it.
        input: The messages that this turn was begun for.
    """

    def __init__(
        self,
        session: str,
        turn: int,
        id: str,  # noqa: A002
        messages: list[Message],
        input: list[Message],  # noqa: A002
        put_out: list[Message],
    ) -> None:
        self.session = session
        self.turn = turn
        self.id = id
        self.messages = messages
        self.input = input
        self._put_out = put_out

    def append(self, *messages: str | Mapping[str, Any]) -> None:
        """Put out messages: they stay in the conversation, also when the turn is interrupted later.

        Args:
            messages: Messages, or text, which stands for a message of the assistant.

        Raises:
            TypeError: One of them is neither.
        """
        added = output(messages)
        self._put_out += added
        self.messages += added

    def __repr__(self) -> str:
        return f"Task(session={self.session!r}, turn={self.turn}, id={self.id!r})"


class Body(Protocol):
    """What a task needs of its agent."""

    name: str
    cleanup_timeout: timedelta

    async def run(self, ctx: Context, task: Task) -> Any: ...
    async def on_interrupted(self, ctx: Context, task: Task) -> None: ...
    def interruption_note(self, turn: Turn) -> str | Message | None: ...


class Ending(NamedTuple):
    """How a task ended, as whoever attached to it learns it."""

    outcome: Outcome
    reported: bool
    """Whether the task said so itself; then it has sent `settle`, too."""
    gone: bool = False
    """Whether Restate knows the invocation no more."""


async def work(body: Body, ctx: Context, job: Dispatch) -> Outcome:
    """Work on one turn: its outcome is the outcome of this invocation."""
    turn = job["turn"]
    with watching(ctx) as watch:
        task: Task | None = None
        put_out: list[Message] = []
        ended: list[int] = []
        try:
            task = await _begin(body, ctx, job, put_out, ended)
            result = output(await body.run(ctx, task))
            if watch.pending:
                raise Interrupted  # noqa: TRY301
            await watch.abort()  # what `run` left in flight must not outlast its turn
        except Exception as error:
            end = terminal(error, watch)
            if end is None:
                raise
            outcome: Outcome = {"turn": turn, "status": "failed", "messages": put_out}
            await watch.abort()
            if not isinstance(end, Interrupted):
                outcome["error"] = end.message
            else:
                outcome["status"] = "interrupted"
                if task is not None:
                    await _tell(body, ctx, task, end)
            settle(ctx, body.name, job["session"], outcome, ended)
            sealed = seal(ctx, json.dumps(outcome).encode())
            end.metadata = {**(end.metadata or {}), OUTCOME: sealed}
            raise end from (None if end is error else error)
        outcome = {"turn": turn, "status": "completed", "messages": put_out + result}
        settle(ctx, body.name, job["session"], outcome, ended)
        return outcome


async def ending(ctx: Context, turn: int, task: RestateDurableFuture[Any]) -> Ending:
    """Wait until an attached task has ended, and read its outcome from its result.

    Raises:
        TerminalError: The invocation that waits was cancelled.
    """
    await restate.wait_completed(task)
    try:
        return Ending(cast("Outcome", await task), reported=True)
    except TerminalError as error:
        sealed = (error.metadata or {}).get(OUTCOME)
        if sealed is not None:
            return Ending(json.loads(await unseal(ctx, sealed)), reported=True)
        gone = error.status_code == 404  # noqa: PLR2004
        if gone or (error.status_code, error.message) == (409, "killed"):
            outcome: Outcome = {"turn": turn, "status": "killed", "messages": []}
        else:
            outcome = {"turn": turn, "status": "failed", "messages": [], "error": error.message}
        return Ending(outcome, reported=False, gone=gone)


def cancelled_signal(turn: int) -> str:
    """The signal that tells the tasks behind a turn that it was cancelled."""
    return f"turn {turn} is cancelled"


def settle(
    ctx: Context, agent: str, session: str, outcome: Outcome, ended: Sequence[int] = ()
) -> None:
    """Tell the object a turn's outcome, one-way; `ended` are turns that were seen to end."""
    settlement: Settlement = {"outcome": outcome, "ended": list(ended)}
    ctx.generic_send(agent, "settle", json.dumps(settlement).encode(), key=session)


async def _begin(
    body: Body, ctx: Context, job: Dispatch, put_out: list[Message], ended: list[int]
) -> Task:
    """Wait for the predecessors and load the conversation; only then is it our turn.

    Both at once after an interrupt, where it counts.
    """
    session, turn = job["session"], job["turn"]
    tasks = {
        before["turn"]: ctx.attach_invocation(before["task_id"], serde=JSON)
        for before in job["after"]
    }

    def load() -> RestateDurableFuture[bytes]:
        before = json.dumps({"before": turn}).encode()
        return ctx.generic_call(body.name, "load", before, key=session)

    # A queued turn loads afterwards: why others were cancelled comes to be while it waits.
    queued = not all(before["cancelled"] for before in job["after"])
    loading = load() if turn > 1 and not queued else None
    late = await _wait(body, ctx, job, dict(tasks))
    turns: list[Turn] = json.loads(await (loading or load())) if turn > 1 else []
    for record in turns:
        number = record["turn"]
        if record["status"] != "running":
            continue
        if number in late:
            record["status"] = "interrupted"
        elif number in tasks:
            end = await ending(ctx, number, tasks[number])
            record["status"] = end.outcome["status"]
            record["messages"] = end.outcome["messages"]
            if end.outcome["status"] == "interrupted":
                record.setdefault("reason", "cancelled")  # as `settle` will have it
            ended.append(number)
            if not end.reported:
                settle(ctx, body.name, session, end.outcome)
    messages = conversation(turns, body.interruption_note)
    return Task(
        session, turn, ctx.request().id, messages + job["input"], list(job["input"]), put_out
    )


async def _wait(
    body: Body, ctx: Context, job: Dispatch, tasks: dict[int, RestateDurableFuture[Any]]
) -> set[int]:
    """Wait until all predecessors have ended; returns those that had to, and did not in time.

    A predecessor has to once it is cancelled; the object tells of a cancel that comes later.
    """
    ids = {x["turn"]: x["task_id"] for x in job["after"]}
    cancelled = {x["turn"] for x in job["after"] if x["cancelled"]}
    told = {x: ctx.signal(cancelled_signal(x), serde=JSON) for x in ids if x not in cancelled}
    late: set[int] = set()
    timer = ctx.sleep(body.cleanup_timeout, name="cleanup_timeout") if cancelled else None
    while tasks:
        signals = [told[turn] for turn in tasks if turn in told]
        timers = [timer] if timer is not None else []
        done, _ = await restate.wait_completed(*tasks.values(), *signals, *timers)
        tasks = {turn: task for turn, task in tasks.items() if task not in done}
        if timer in done:
            timer = None
            for turn in sorted(tasks.keys() & cancelled):
                ctx.cancel_invocation(ids[turn])
                late.add(turn)
                del tasks[turn]
        for turn in [turn for turn in tasks if turn in told and told[turn] in done]:
            del told[turn]
            cancelled.add(turn)
            timer = ctx.sleep(body.cleanup_timeout, name="cleanup_timeout")
    return late


async def _tell(body: Body, ctx: Context, task: Task, end: Interrupted) -> None:
    try:
        await shield(body.on_interrupted(ctx, task))
    except Exception as error:
        failure = terminal_cause(error)
        if failure is None:
            raise
        report(end, [{"step": "on_interrupted", "error": failure.message}])

"""Carries out a run of AG-UI: sends what is to be sent, and tells what the session does then.

The outcome of the message's turn is the outcome of the run; the stream says sooner what it does.

| the turn                       | the run ends with                                    |
| ------------------------------ | ---------------------------------------------------- |
| completed                      | `RUN_FINISHED`, `success`                            |
| interrupted, message withdrawn | `RUN_FINISHED`, `cancelled`                          |
| failed, killed                 | `RUN_ERROR`, with this as its code                   |
| waits for an approval          | `RUN_FINISHED`, `interrupt`; another run goes on     |
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, TypeAlias

import anyio
import httpx
from ag_ui.core import (
    BaseEvent,
    Message,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
)
from restate import TerminalError

from interruptible._gateway.agui_asked import RunAsked, interrupt_of
from interruptible._gateway.agui_messages import KEY, id_of_said, to_messages
from interruptible._gateway.agui_run import Run
from interruptible._stream.events import Event
from interruptible._wire import types as wire
from interruptible.client import Session

_LOOKED_AT = 8
"""Turns, from the newest on, among which a message is looked for."""
_GONE = (404, 410)


class Failure(NamedTuple):
    """A run that ends with an error."""

    code: str
    message: str


End: TypeAlias = RunFinishedOutcome | Failure
Item: TypeAlias = BaseEvent | End


async def begin_run(session: Session, asked: RunAsked) -> int:
    """Send the user's message, unless the session has it, and answer what its turn waits for.

    Returns:
        The session's number of the message.

    Raises:
        TerminalError: The message, or an answer, is refused.
    """
    message = await _number_of(session, asked.said.id)
    if message is None:
        receipt = await session.send(
            asked.content,
            policy=asked.policy,
            metadata={KEY: {"message": asked.said.id, "run": asked.run}},
            idempotency_key=f"{KEY}-{hashlib.sha256(asked.said.id.encode()).hexdigest()}",
        )
        message = receipt["message"]
    for x in asked.answers:
        try:
            await session.answer(x.approval, x.approved, reason=x.reason, value=x.value)
        except TerminalError as error:
            if error.status_code not in _GONE:  # somebody was faster, or the turn is over
                raise
    return message


async def tell_run(
    session: Session, asked: RunAsked, message: int
) -> AsyncGenerator[BaseEvent, None]:
    """What the client is told of the run about a message, from its start to its end."""
    yield RunStartedEvent(thread_id=asked.thread, run_id=asked.run)
    end: End = RunFinishedSuccessOutcome()
    try:
        run = Run(asked.known)
        if len(asked.known) == 1:  # it was reloaded, and has nothing but what it says
            before, is_whole = await _conversation(session, asked.said)
            if len(before) > 1:
                yield run.knows(before)
        else:
            is_whole = True
        async with aclosing(_follow_run(session, run, message)) as following:
            async for item in following:
                if isinstance(item, BaseEvent):
                    yield item
                else:
                    end = item
        is_over = not isinstance(end, RunFinishedInterruptOutcome)
        if is_over and not is_whole:  # by now the turns before are on record
            yield run.knows((await _conversation(session, asked.said))[0])
    except TerminalError as error:
        end = Failure(str(error.status_code), error.message)
    except httpx.TransportError as error:
        away = f"Restate does not answer ({type(error).__name__}). The turn goes on: run it again."
        end = Failure("unavailable", away)
    if isinstance(end, Failure):
        yield RunErrorEvent(message=end.message, code=end.code)
    else:
        yield RunFinishedEvent(thread_id=asked.thread, run_id=asked.run, outcome=end)


async def _follow_run(session: Session, run: Run, message: int) -> AsyncGenerator[Item, None]:
    """What becomes of a message; the last item is how the run ends."""
    stream = session.follow()
    attached = asyncio.ensure_future(session.attach(message=message))
    heard: asyncio.Future[Event] | None = asyncio.ensure_future(anext(stream))
    try:
        while not attached.done() or (heard is not None and _is_cut_off(attached)):
            if heard is None or not heard.done():
                waits = [x for x in (attached, heard) if x is not None and not x.done()]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                continue
            if isinstance(heard.exception(), TerminalError):  # the agent has no stream
                heard = None
                continue
            event = heard.result()
            heard = asyncio.ensure_future(anext(stream))
            if attached.done() and _is_cut_off(attached):  # and Restate is back
                attached = asyncio.ensure_future(session.attach(message=message))
            for item in await _on_event(session, run, message, event):
                yield item
                if not isinstance(item, BaseEvent):
                    return
        for item in await _at_the_end(session, run, attached.result()):
            yield item
    finally:
        with anyio.CancelScope(shield=True):
            for x in (attached, heard):
                if x is not None:
                    x.cancel()
                    await asyncio.wait([x])
                    _ = x.cancelled() or x.exception()  # nobody asks any more
            await stream.aclose()


def _is_cut_off(attached: "asyncio.Future[Any]") -> bool:
    return isinstance(attached.exception(), httpx.TransportError)


async def _on_event(
    session: Session, run: Run, message: int, event: Mapping[str, Any]
) -> Sequence[Item]:
    kind, turn = event["type"], event["turn"]
    if kind == "turn" and event["state"] == "begins":
        if turn == run.turn or await _answers(session, turn, message):
            run.begins(turn)
        return ()
    if kind == "discarded":
        return [*run.is_discarded(())] if run.turn in event["turns"] else ()
    if kind == "approval" and turn == run.turn and event["state"] == "waits":
        status = await session.status()
        if waits := [interrupt_of(x) for x in status["waiting_for"] if x["turn"] == turn]:
            return [*run.stops(), RunFinishedInterruptOutcome(interrupts=waits)]
        return ()
    return [*run.on(event)] if kind in ("gap", "pending") or turn == run.turn else ()


async def _at_the_end(
    session: Session, run: Run, outcome: wire.Outcome | wire.TakenBack
) -> Sequence[Item]:
    if outcome["status"] == "withdrawn":
        return [*run.stops(), RunFinishedCancelledOutcome()]
    turn = outcome["turn"]
    if turn != run.turn:
        run.begins(turn)
    record = await _record_of(session, turn)
    if record is not None and record.get("discarded"):
        said = [id_of_said(x) or "" for x in record["input"]]
        told = [*run.is_discarded(said)]
    else:
        told = [*run.ends(outcome["messages"] if record is None else record["messages"])]
    status = outcome["status"]
    if status == "completed":
        return [*told, RunFinishedSuccessOutcome()]
    if status == "interrupted":
        return [*told, RunFinishedCancelledOutcome()]
    return [*told, Failure(status, outcome.get("error") or f"The turn was {status}.")]


# -- What the session knows. -----------------------------------------------------------------------


async def _number_of(session: Session, name: str) -> int | None:
    """The session's number of a message that a client has sent before; `None` if it has not."""
    turns, status = await asyncio.gather(session.turns(limit=_LOOKED_AT), session.status())
    said = [x for turn in turns["turns"] for x in (*turn["input"], *turn["messages"])]
    for x in (*said, *status["pending"]):
        if id_of_said({**x}) == name and "metadata" in x:
            return int(x["id"])
    return None


async def _answers(session: Session, turn: int, message: int) -> bool:
    """Whether this turn answers a message, or is to take it."""
    record = await _record_of(session, turn)
    said = [] if record is None else [*record["input"], *record["messages"]]
    if any(x.get("id") == message for x in said):
        return True
    status = await session.status()
    return any((x["id"], x["turn"]) == (message, turn) for x in status["pending"])


async def _record_of(session: Session, turn: int) -> wire.Turn | None:
    found = (await session.turns(before=turn + 1, limit=1))["turns"]
    return found[0] if found and found[0]["turn"] == turn else None


async def _conversation(session: Session, said: Message) -> tuple[list[Message], bool]:
    """The newest turns, as a client is to have them; and whether those before have ended, all."""
    page = [x for x in (await session.turns())["turns"] if not x.get("discarded")]
    made: dict[str, Message] = {}
    for turn in page:
        for n, x in enumerate(turn["input"]):
            made |= {y.id: y for y in to_messages(x, f"said-{turn['turn']}-{n}")}
        for n, x in enumerate(turn["messages"]):
            made |= {y.id: y for y in to_messages(x, f"{turn['turn']}.{n}")}
    is_whole = all(x["status"] != "running" for x in page[:-1])
    return [*({**made, said.id: said}).values()], is_whole

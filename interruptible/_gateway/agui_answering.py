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
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, TypeAlias

import anyio
import httpx
from ag_ui.core import (
    BaseEvent,
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
from interruptible._gateway.agui_messages import AG_UI, id_of_said
from interruptible._gateway.agui_record import (
    conversation_of,
    is_answered_by,
    number_known,
    record_of_turn,
)
from interruptible._gateway.agui_run import Run
from interruptible._gateway.hearing import Hearing, give_up
from interruptible._ingress import PASSES
from interruptible._wire import types as wire
from interruptible.client import Session

_GONE = (404, 410)
_PAUSE = 1.0
"""Seconds until it is attached again, if that was cut off."""
_MOVES = ("pending", "steered", "approval")
"""Events after which a turn may answer a message that did not when it began."""
_LAST = 2.0
"""Seconds in which the stream has to tell the end of a turn that is on record."""

_log = logging.getLogger("interruptible.gateway")


class Failure(NamedTuple):
    """A run that ends with an error."""

    code: str
    message: str


RunEnd: TypeAlias = RunFinishedOutcome | Failure
Item: TypeAlias = BaseEvent | RunEnd


async def begin_run(session: Session, asked: RunAsked) -> int:
    """Send the user's message, unless the session has it, and answer what its turn waits for.

    Returns:
        The session's number of the message.

    Raises:
        TerminalError: The message, or an answer, is refused.
    """
    message = await number_known(session, asked.noted)
    if message is None:
        noted = asked.noted
        try:
            message = await _send_once(session, asked, noted["message"], noted["sum"])
        except TerminalError:  # that is kept under this key, although it may pass
            message = await _send_once(session, asked, *noted.values(), str(asked.policy))
    for x in asked.answers:
        try:
            await session.answer(x.approval, x.approved, reason=x.reason, value=x.value)
        except TerminalError as error:
            if error.status_code not in _GONE:  # somebody was faster, or the turn is over
                raise
    return message


async def _send_once(session: Session, asked: RunAsked, *once: str) -> int:
    key = hashlib.sha256(json.dumps(once).encode()).hexdigest()
    receipt = await session.send(
        asked.content,
        policy=asked.policy,
        metadata={AG_UI: asked.noted},
        idempotency_key=f"{AG_UI}-{key}",
    )
    return receipt["message"]


async def tell_run(
    session: Session, asked: RunAsked, message: int
) -> AsyncGenerator[BaseEvent, None]:
    """What the client is told of the run about a message, from its start to its end."""
    yield RunStartedEvent(thread_id=asked.thread, run_id=asked.run)
    end: RunEnd = RunFinishedSuccessOutcome()
    try:
        async with aclosing(_tell_all(session, asked, message)) as told:
            async for item in told:
                if isinstance(item, BaseEvent):
                    yield item
                else:
                    end = item
    except TerminalError as error:
        end = Failure(str(error.status_code), error.message)
    except httpx.TransportError as error:
        away = f"Restate does not answer ({type(error).__name__}). The turn goes on: run it again."
        end = Failure("unavailable", away)
    except Exception as error:  # noqa: BLE001 - of what nobody has checked; a client has to hear it
        _log.warning("A run of AG-UI cannot be told.", exc_info=True)
        end = Failure("internal", f"This run cannot be told ({type(error).__name__}).")
    if isinstance(end, Failure):
        yield RunErrorEvent(message=end.message, code=end.code)
    else:
        yield RunFinishedEvent(thread_id=asked.thread, run_id=asked.run, outcome=end)


async def _tell_all(session: Session, asked: RunAsked, message: int) -> AsyncGenerator[Item, None]:
    run, is_whole = Run(asked.known), True
    if len(asked.known) == 1:  # it was reloaded, and has nothing but what it says
        before, is_whole = await conversation_of(session, asked.said)
        for event in run.knows(before) if len(before) > 1 else ():
            yield event
    async with aclosing(_follow_run(session, run, message)) as following:
        async for item in following:
            if not (is_whole or isinstance(item, (BaseEvent, RunFinishedInterruptOutcome))):
                # It is over, and by now the turns before are on record.
                for event in run.knows((await conversation_of(session, asked.said))[0]):
                    yield event
            yield item


async def _follow_run(session: Session, run: Run, message: int) -> AsyncGenerator[Item, None]:
    """What becomes of a message; the last item is how the run ends."""
    loop = asyncio.get_running_loop()
    hearing = Hearing(session)
    attached = asyncio.ensure_future(session.attach(message=message))
    is_told, until, left = False, 0.0, None
    try:
        while True:
            if _is_cut_off(attached):
                attached = asyncio.ensure_future(_attach_again(session, message))
            if hearing.next is not None and hearing.next.done():
                if (event := hearing.take()) is None:
                    continue
                told = await _on_event(session, run, message, event)
                if told is None:
                    await hearing.begin_again()
                for item in told or ():
                    yield item
                    if not isinstance(item, BaseEvent):
                        return
                is_told |= event["turn"] == run.turn and "status" in event
                continue
            if attached.done():  # what its steps said last may come still
                until = until or loop.time() + _LAST
                left = until - loop.time()
                is_ours = attached.result().get("turn") == run.turn
                if hearing.next is None or is_told or left < 0 or not is_ours:
                    break
            waits = [x for x in (attached, hearing.next) if x is not None and not x.done()]
            await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for item in await _at_the_end(session, run, attached.result()):
            yield item
    finally:
        with anyio.CancelScope(shield=True):
            await give_up(attached)
            await hearing.close()


async def _attach_again(session: Session, message: int) -> wire.Outcome | wire.TakenBack:
    await asyncio.sleep(_PAUSE)
    return await session.attach(message=message)


def _is_cut_off(attached: "asyncio.Future[Any]") -> bool:
    """Whether it has ended only because Restate, or what is before it, does not answer."""
    error = attached.exception() if attached.done() else None
    passes = isinstance(error, TerminalError) and error.status_code in PASSES
    return passes or isinstance(error, httpx.TransportError)


async def _on_event(
    session: Session, run: Run, message: int, event: Mapping[str, Any]
) -> Sequence[Item] | None:
    """What is told of an event; `None` if it says that a turn answers that had begun before."""
    kind, turn = event["type"], event["turn"]
    if kind == "turn" and event["state"] == "begins":
        if turn in run.answers or await is_answered_by(session, turn, message):
            run.begins(turn)
        return ()
    if kind == "discarded":
        return [*run.is_discarded(())] if run.turn in event["turns"] else ()
    if run.turn is None and kind in _MOVES and turn not in run.answers:
        is_mine = kind == "steered" and event["message"].get("id") == message
        if is_mine or await is_answered_by(session, turn, message):
            run.answers.add(turn)
            return None
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
    record = await record_of_turn(session, turn)
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

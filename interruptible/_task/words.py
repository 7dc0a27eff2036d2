"""What was being said when it was cut off: by an interruption, or by a message to be read at once.

It is journaled once, so that each attempt finds the same. Whether a step said anything is known to
the attempt alone that ran it; when that is dead, the stream may know.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

import restate
from restate import RestateDurableFuture, TerminalError

from interruptible._cancel.ending import is_of_the_attempt
from interruptible._cancel.shielding import forget_steered, shield
from interruptible._cancel.steered import Scope, Steered
from interruptible._cancel.watch import Watch
from interruptible._session.storage import JSON
from interruptible._task.attempt import Attempt
from interruptible._wire.text import mended
from interruptible._wire.types import Message

T = TypeVar("T")
Partials = list[tuple[str | None, str]]

MOST_PATIENCE: Final = timedelta(seconds=10)
"""How long a turn that was cut off waits at most for what the stream has of its words; and no more
than half of its `cleanup_timeout`. The attempt that said them is dead, so what it was publishing is
in retry back-off, up to two seconds, and goes first."""


async def partials_of(attempt: Attempt) -> Partials:
    """What was being said when the turn was interrupted, and for which call."""
    step = attempt.ctx.run_typed("partial answer", _said_by_steps, watch=attempt.watch)
    partials: Partials = await shield(step)
    if not partials and attempt.teller is not None:  # then another attempt may have said some
        partials = await _said_in_stream(attempt, attempt.watch.had)
    return partials


async def await_steerable(
    attempt: Attempt, put_out: Callable[[list[Message]], None], awaitable: Awaitable[T]
) -> T:
    """Await something that a message ends which is to be read at once; see `Task.steerable`.

    What its steps had said is put out before `Steered` is raised. Whatever comes out of code that
    was steered is `Steered`: it was cut off, and what it makes of that is no result.
    """
    if isinstance(awaitable, asyncio.Future):
        raise TypeError(
            "task.steerable() takes a durable future or a coroutine; what is in an asyncio task or "
            "`asyncio.gather` has begun without it. Use it inside."
        )
    forget_steered(awaitable)
    with Scope("steerable") as scope:
        try:
            given = await awaitable
        except BaseException as error:
            if not scope.steered or is_of_the_attempt(error, attempt.watch):
                raise
            await _keep_words(attempt, scope, put_out)
            if isinstance(error, Steered) or attempt.watch.must_end:
                raise
            raise Steered from error
        if scope.steered:
            await _keep_words(attempt, scope, put_out)
            raise Steered
        return given


async def _keep_words(
    attempt: Attempt, scope: Scope, put_out: Callable[[list[Message]], None]
) -> None:
    """Put out what the steps had said that were cut off in a scope, in its place."""
    watch = attempt.watch
    if scope.handles and attempt.streams:
        step = attempt.ctx.run_typed("partial answer", _said_in, words=scope.words)
        words: list[str] = await shield(step)
        if not words and attempt.teller is not None:
            said = await _said_in_stream(attempt, watch.had | scope.beside)
            words = [text for call, text in said if call is None]
        messages: list[Message] = [{"role": "assistant", "content": text} for text in words]
        if messages:
            put_out(messages)
            attempt.cut_short += messages
    watch.had |= scope.handles  # what they said by themselves is in its place


async def _said_in_stream(attempt: Attempt, ended: Iterable[int]) -> Partials:
    """What an attempt before this one had said in a step that did not end, if the stream has it."""
    asked = {"turn": attempt.turn, "ended": sorted(ended)}
    ctx = attempt.ctx
    sent = attempt.call_session(ctx.generic_send, "words", asked, "Stream")
    answer: RestateDurableFuture[Any] = ctx.attach_invocation(
        await shield(sent.invocation_id()), serde=JSON
    )
    patience = min(MOST_PATIENCE, attempt.body.cleanup_timeout / 2)
    done, _ = await shield(restate.wait_completed(answer, ctx.sleep(patience)))
    try:
        return [(call, text) for call, text in await shield(answer)] if answer in done else []
    except TerminalError:  # somebody killed it, say; the turn ends as it would without a stream
        return []


async def _said_by_steps(watch: Watch) -> Partials:
    return [(call, mended(text)) for call, text in watch.partials]


async def _said_in(words: Sequence[str]) -> list[str]:
    return [mended(text) for text in words if text.strip()]

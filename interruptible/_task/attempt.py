"""One attempt at a turn: what it was sent, and what the turn has put out so far."""

import functools
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, cast

from restate import Context, TerminalError

from interruptible._cancel.steered import Scope, Steered
from interruptible._cancel.steps import in_step, running_step, say
from interruptible._cancel.watch import Deaf, Interrupted, Watch
from interruptible._session.record import Addition
from interruptible._session.storage import compact
from interruptible._session.turns import Added
from interruptible._task.body import AgentBody, Telling
from interruptible._task.repair import repaired
from interruptible._wire.output import WrongOutput, WrongPlace, stored
from interruptible._wire.text import brief, mended
from interruptible._wire.types import MAX_OUTPUT, Dispatch, Message, TaskOutcome, TurnStatus
from interruptible.formats._calls import calls_of

_call_id: Final[ContextVar[str | None]] = ContextVar("interruptible_call", default=None)
"""The call that this code works on, in turns that say so."""
_BEGUN: Final = -1
"""Fewer than any number of commands."""
_RESERVED: Final = (
    "turn",
    "text",
    "message",
    "output",
    "steered",
    "approval",
    "pending",
    "discarded",
    "gap",
)
"""The types of the events that nobody but the library tells."""
_FIELDS: Final = {"reasoning": ("text",), "tool": ("call", "name", "state")}
"""What those of its events have that an agent may tell, too."""


class Begun(NamedTuple):
    """What the session says when a turn that waited begins."""

    input: list[Message]
    said: list[Added]
    """What else is its by now."""


def begun_of(answer: Any) -> Begun:
    """What a turn begins with.

    Raises:
        Interrupted: It was cancelled, and Restate is about to tell.
    """
    if answer.get("cancelled"):
        raise Interrupted
    return Begun(answer["input"], [(Addition(*x), said) for x, said in answer["said"]])


class Attempt:
    """What a task works with, and what it has done.

    Which calls have begun rests on what the code did, and not on what of it this attempt found done
    already: so each attempt comes to the same answer.
    """

    def __init__(self, body: AgentBody, ctx: Context, watch: Watch, job: Dispatch) -> None:
        self.body, self.ctx, self.watch, self.job = body, ctx, watch, job
        self.session, self.turn = job["session"], job["turn"]
        self.ends: dict[int, TaskOutcome] = {}
        """How turns before this one ended, of which it has seen the end."""
        self.put_out: list[Message] = []
        self.answered = False
        """Whether the last of it is known to be the turn's answer."""
        self.output: Any = None
        """What that is to the program, if it is known."""
        self.taken: dict[int, Message] = {}
        """The steered messages among what was put out, by their numbers."""
        self.cut_short: list[Message] = []
        """The messages among what was put out that were cut off, as the user said something."""
        self.streams = False
        """Whether a step may have said something piece by piece."""
        self.delegated = 0
        self.approvals = 0
        self._size = 0
        self.teller: Telling | None = None
        """What tells those who follow the session, from the turn's beginning on."""
        self._names: dict[str, str] = {}
        self._calls: dict[str, int] = {}
        """How many commands had been given when a call was put out, by its id; `_BEGUN` once it is
        known to have begun."""
        self._names_calls = False
        """Whether `run` says which calls it works on."""

    def call_session(self, how: Callable[..., Any], handler: str, body: Any, of: str = "") -> Any:
        """Call a handler of the session, or send to it; it is done for no call of a tool.

        Args:
            how: A method of the context.
            handler: Which.
            body: What it takes; `None` is nothing.
            of: Of which object of the session, by the end of its name.
        """
        commands = self.watch.commands
        sent = b"" if body is None else compact(body)
        asked = how(f"{self.body.name}{of}", handler, sent, key=self.session)
        self.watch.commands = commands
        return asked

    async def ask_session(self, handler: str, body: Any) -> Any:
        """Call a handler of the session, and have its answer."""
        return json.loads(await self.call_session(self.ctx.generic_call, handler, body))

    async def begin_telling(self) -> None:
        """The turn begins, and those who follow the session are told."""
        stream, job, ctx = self.body.stream, self.job, self.ctx
        if stream is not None:
            # One whose `message` was killed has no key.
            key: Any = job.get("stream") or await ctx.run_typed("stream key", stream.new_key)
            send = functools.partial(self.call_session, ctx.generic_send, of="Stream")
            self.teller = stream.teller(self.body.name, self.session, self.turn, key, send)

    async def take_steered(self) -> list[Added]:
        """Take the steered messages that wait for this turn, as they are stored."""
        asked = {"turn": self.turn, "waited": True, "begins": False}
        with Scope("protected"):  # what it takes, nobody else gets
            said = [(Addition(*x), said) for x, said in await self.ask_session("take", asked)]
        self.watch.saw(max((x.now for x, _ in said), default=0))
        return said

    def put(self, messages: list[Message]) -> None:
        """Put out messages.

        Raises:
            TerminalError: 413; it is too much for one turn, and they were not put out.
        """
        size = self._size + sum(len(json.dumps(message)) for message in messages)
        if size > MAX_OUTPUT:
            raise TerminalError(
                f"Turn {self.turn} puts out {size} bytes; a turn has {MAX_OUTPUT} at most. "
                "Keep what is large elsewhere, and put out where it is.",
                413,
            )
        self._size = size
        self.put_out += messages
        for call in (call for message in messages for call in calls_of(message)):
            self._calls[call.id] = self.watch.commands
            self._names[call.id] = call.name

    @contextmanager
    def working_on(self, call: str) -> Generator[None, None, None]:
        """Let a call have begun, and be that which this block works on; see `Task.call`."""
        check_outside("`task.call` was entered")
        if call not in self._calls:  # it would be told of as begun
            known = ", ".join(self._calls) or "none yet"
            raise WrongOutput(
                f"task.call: there is no call {brief(call)} in what this turn has put out; its "
                f"calls are: {known}. Put out the message with the call first, and give the call's "
                "id."
            )
        self._names_calls, was_told = True, self.watch.begins_nothing
        put_out, commands, token = self._calls[call], self.watch.commands, _call_id.set(call)
        self._calls[call] = _BEGUN
        teller = None if was_told else self.teller
        if teller is not None:
            teller.tool(call, self._names[call], "begins")
        try:
            yield
        except (Interrupted, Deaf):
            if was_told and self.watch.commands == commands:  # nothing was done for it
                self._calls[call] = put_out
            teller = None  # the turn's end tells of what was cut off
            raise
        except Steered:
            teller = None
            raise
        finally:
            _call_id.reset(token)
            if teller is not None:
                teller.tool(call, self._names[call], "ends")

    def pieces(self) -> Callable[[str | None], None]:
        """What takes the pieces that a step says; see `Task.partial`."""
        check_outside("`task.partial` was read")
        self.streams = True
        return functools.partial(_say, self.teller, None)

    def pieces_of_result(self, call: str | None) -> Callable[[str | None], None]:
        """What takes the pieces that come of a call; see `Task.partial_result`."""
        check_outside("`task.partial_result` was called")
        call = call or _call_id.get()
        if call is None:
            raise WrongPlace(
                "`task.partial_result` has no call. Name it, or do it within `task.call`."
            )
        _check_text("partial_result", "the id of a call, not", call)
        self.streams = True
        if not self.watch.begins_nothing:  # after the interruption, no call begins by itself
            self._calls[call] = _BEGUN
        return functools.partial(_say, self.teller, mended(call))

    def publish(self, event: Mapping[str, Any]) -> None:
        """Tell those who follow the session of an event of the agent's own; see `Task.publish`."""
        given: Any = stored(event)
        checked = cast("dict[str, Any]", given if type(given) is dict else {"id": None})
        kind = None if {"id", "turn"} & checked.keys() else checked.get("type")
        if not isinstance(kind, str) or not kind or kind in _RESERVED:
            raise WrongOutput(
                "`task.publish` takes an event: a dict with a `type` of its own, and without `id` "
                f"and `turn`; not {brief(given)}. What the library tells, it tells by itself."
            )
        if kind == "tool" and checked.get("state") != "waits":
            raise WrongOutput(
                f"`task.publish` tells of a tool that it waits, not {brief(checked.get('state'))}. "
                "That a call begins and ends, `task.call` tells."
            )
        for name in _FIELDS.get(kind, ()):
            _check_text(
                "publish", f"an event {kind!r} with `{name}` as text, not", checked.get(name)
            )
        step = running_step()
        if self.teller is not None and step is None:
            self.teller.tell(checked)
        elif self.teller is not None and step is not None:
            self.teller.say(checked, step.handle, step)

    def has_begun(self, call: str) -> bool:
        """Whether a call may have had an effect, as far as this turn's code has told."""
        given = self._calls.get(call, 0)
        return given == _BEGUN if self._names_calls and call else self.watch.commands > given

    def outcome(
        self, status: TurnStatus, cut_off: Sequence[tuple[str, str]] = (), **more: Any
    ) -> TaskOutcome:
        """The outcome as things are: with messages that every provider accepts.

        Args:
            status: How the turn ends.
            cut_off: The calls that were cut off, and what had come of each.
            more: What else there is to tell; what is empty is left out.
        """
        begun, note = self.has_begun, self.body.call_note
        messages, cut, not_begun = repaired(self.put_out, cut_off, begun=begun, note=note)
        places = {id(message): place for place, message in enumerate(messages)}
        taken = [(n, places[id(x)]) for n, x in self.taken.items() if id(x) in places]
        short = [places[id(x)] for x in self.cut_short if id(x) in places]
        more |= {"cut_off": cut, "not_begun": not_begun, "taken": taken, "cut_short": short}
        outcome: Any = {"turn": self.turn, "status": status, "messages": messages}
        outcome |= {key: value for key, value in more.items() if value not in (0, False, [])}
        return cast("TaskOutcome", outcome)


def check_outside(what: str) -> None:
    if in_step():
        raise WrongPlace(f"{what} inside a step. Do it outside, and give the step what you get.")


def _check_text(taker: str, takes: str, value: Any) -> None:
    if not isinstance(value, str):
        raise WrongOutput(f"`task.{taker}` takes {takes} {type(value).__name__}.")


def _say(teller: Telling | None, call: str | None, delta: str | None) -> None:
    if delta is not None:
        taker = "partial" if call is None else "partial_result"
        _check_text(taker, "text, or nothing; not", delta)
        step = say(delta, call)
        if teller is not None and delta:
            event = {"type": "text"} if call is None else {"type": "output", "call": call}
            teller.say({**event, "text": delta}, step.handle, step)

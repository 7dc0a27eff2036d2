"""One task's life: wait for the predecessors, load the conversation, run, settle."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple, Protocol, overload

import restate
from restate import Context, RestateDurableFuture, TerminalError

from interruptible import _delegate
from interruptible._cancellation import (
    Interrupted,
    Watch,
    in_step,
    say,
    shield,
    terminal,
    terminal_cause,
    watching,
)
from interruptible._cleanup import report
from interruptible._history import JSON, Said, Stored, finish, read, said, with_joined
from interruptible._outcome import attach_to, ending, not_ours, settle
from interruptible._output import (
    Conversation,
    OutputMessage,
    WrongOutput,
    new_output,
    stored,
    text_of,
    told,
)
from interruptible._repair import repaired
from interruptible._session import Steered
from interruptible._session import load as load_record
from interruptible._text import mended, sayable
from interruptible._types import (
    MAX_OUTPUT,
    Cause,
    Dispatch,
    Message,
    Origin,
    Outcome,
    Policy,
    Receipt,
    TaskOutcome,
    Turn,
    TurnStatus,
    cause_of,
)


class Named(Protocol):
    """An agent, of which only the name is needed."""

    @property
    def name(self) -> str: ...


class Body(Protocol):
    """What a task needs of its agent."""

    name: str
    cleanup_timeout: timedelta
    debounce: timedelta | None

    @property
    def merges(self) -> bool: ...
    async def run(self, ctx: Context, task: "Task") -> Any: ...
    async def on_interrupted(self, ctx: Context, task: "Task") -> None: ...
    def interruption_note(self, turn: Turn) -> str | Message | None: ...
    def conversation(self, turns: Sequence[Turn]) -> list[Message]: ...


class _Work:
    """What a task has done so far."""

    def __init__(self, body: Body, ctx: Context, watch: Watch, job: Dispatch) -> None:
        self.body, self.ctx, self.watch = body, ctx, watch
        self.session, self.turn = job["session"], job["turn"]
        self.put_out: list[Message] = []
        self.size = 0
        self.taken: dict[int, Message] = {}
        self.ended: list[int] = []
        self.streams = False
        self.delegated = 0

    def put(self, messages: list[Message]) -> None:
        """Put out messages.

        Raises:
            TerminalError: 413; it is too much for one turn, and they were not put out.
        """
        size = self.size + sum(len(json.dumps(message)) for message in messages)
        if size > MAX_OUTPUT:
            raise TerminalError(
                f"Turn {self.turn} puts out {size} bytes; a turn has {MAX_OUTPUT} at most. "
                "Keep what is large elsewhere, and put out where it is.",
                413,
            )
        self.size = size
        self.put_out += messages

    async def take(self, *, waited: bool, begins: bool) -> list[Said]:
        """Take the steered messages that wait for this turn."""
        body = {"turn": self.turn, "waited": waited, "begins": begins}
        arg = json.dumps(body).encode()
        answer = await self.ctx.generic_call(self.body.name, "take", arg, key=self.session)
        return [(Steered(*x), message) for x, message in json.loads(answer)]

    def outcome(self, status: TurnStatus, cut_off: Sequence[tuple[str, str]] = ()) -> TaskOutcome:
        """The outcome as things are: with messages that every provider accepts."""
        messages = repaired(self.put_out, cut_off)
        places = {id(message): place for place, message in enumerate(messages)}
        outcome: TaskOutcome = {"turn": self.turn, "status": status, "messages": messages}
        taken = [
            (number, places[id(message)])
            for number, message in self.taken.items()
            if id(message) in places
        ]
        if taken:
            outcome["taken"] = taken
        return outcome


class Task:
    """The turn that a task works on.

    Attributes:
        session: The session's key.
        turn: The turn's number in the session.
        id: The task's invocation id.
        messages: The conversation up to and with this turn's messages, to be read; `append` adds
            to it.
        input: The messages that this turn was begun for.
        turns: The earlier turns of the conversation; what was discarded or reset is not among them.
            If they have more than 12 MiB, compressed, it is the latest that fit.
        forked_from: If the session is a fork: the session in which its copied turns were worked on,
            and the last of them. After a reset it is none.
    """

    def __init__(
        self,
        work: _Work,
        messages: list[Message],
        input: list[Message],  # noqa: A002
        turns: Sequence[Turn] = (),
        forked_from: Origin | None = None,
    ) -> None:
        self._work = work
        self.session = work.session
        self.turn = work.turn
        self.id = work.ctx.request().id
        self.messages = Conversation(messages)
        self.input = input
        self.turns = turns
        self.forked_from = forked_from

    @property
    def text(self) -> str:
        """All that the user said in this turn so far, as text; parts that are no text are left out.

        That is `input`, and what `steering` has taken, each message a paragraph.
        """
        return text_of([*self.input, *self._work.taken.values()])

    def append(self, *messages: OutputMessage) -> None:
        """Put out messages: they stay in the conversation, also when the turn is interrupted later.

        Half a surrogate pair, as a tool may print it, becomes U+FFFD.

        Args:
            messages: Messages, what an SDK hands out as such (an object with `model_dump`), or
                text, which stands for a message of the assistant.

        Raises:
            TypeError: One of them is none of these, is no JSON, is nested more than 128 levels
                deep, or is in `messages` already. It is a `TerminalError`, too: the turn fails.
            TerminalError: With these, the turn would have put out more than 8 MiB.
        """
        added = new_output(messages, self.messages)
        self._work.put(added)
        self.messages.grow(added)

    async def steering(self) -> list[Message]:
        """Take the messages that a user has steered at this turn since the last time.

        They are added to `messages`, and stay in the conversation at this place. What a turn has
        not taken when it ends becomes the next turn's. It is one call to the agent's object.

        Returns:
            The messages, in the order in which they were accepted.

        Raises:
            Interrupted: The turn was cancelled.
        """
        said = await self._work.take(waited=True, begins=False)
        self._work.taken.update((x.number, message) for x, message in said)
        messages = [message for _, message in said]
        self._work.put_out += messages
        self.messages.grow(messages)
        return messages

    @property
    def partial(self) -> Callable[[str | None], None]:
        """Takes what the model says, piece by piece, while a step is streaming it.

        Give it to the step as an argument. When the step ends, the pieces are forgotten. When the
        turn is interrupted while it runs, they stay in the conversation as the assistant's words,
        unless the worker dies. `None`, as in some events of a stream, says nothing.

        Raises:
            RuntimeError: It was read inside a step, or what it gave is called outside of one.
            TypeError: What it gave is called with something else. It is a `TerminalError`, too.
        """
        self._streams("`task.partial` was read")
        return functools.partial(_say, None)

    def partial_result(self, call: str) -> Callable[[str | None], None]:
        """Takes what comes of a tool's call, piece by piece, while a step is running it.

        It is like `partial`; but what had come when the turn is interrupted stays as the result of
        the call, with a note that it was cut off there. A result that was put out counts instead.

        Args:
            call: The call's id, in a message that this turn has put out.

        Raises:
            RuntimeError: It was called inside a step, or what it gave is called outside of one.
            TypeError: The id, or what it gave is called with, is no text.
        """
        self._streams("`task.partial_result` was called")
        if not isinstance(call, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"`task.partial_result` takes the id of a call, not {type(call).__name__}."
            raise WrongOutput(msg)
        return functools.partial(_say, mended(call))

    def _streams(self, what: str) -> None:
        if in_step():
            msg = f"{what} inside a step. Do it outside, and give the step what you get."
            raise RuntimeError(msg)
        self._work.streams = True

    async def cause(self) -> Cause:
        """Why this turn was cancelled; for `on_interrupted`, and where `Interrupted` is caught.

        It is asked of the agent's object, shielded. A turn that somebody cancelled past its session
        (in Restate's UI or CLI) is `cancelled`, without a reason.

        Raises:
            RuntimeError: The turn is not cancelled.
        """
        work = self._work
        if not work.watch.cancelled:
            msg = "task.cause() was called in a turn that is not cancelled. Catch `Interrupted`."
            raise RuntimeError(msg)
        body = json.dumps({"turn": self.turn}).encode()
        asked = work.ctx.generic_send(work.body.name, "get_cause", body, key=self.session)
        return cause_of(await _delegate.answer(work.ctx, asked))

    @overload
    async def delegate(
        self,
        agent: Named | str,
        session: str,
        content: str | Sequence[Mapping[str, Any]],
        *,
        policy: Policy | None = None,
        background: Literal[False] = False,
    ) -> Outcome: ...
    @overload
    async def delegate(
        self,
        agent: Named | str,
        session: str,
        content: str | Sequence[Mapping[str, Any]],
        *,
        policy: Policy | None = None,
        background: Literal[True],
    ) -> Receipt: ...
    async def delegate(
        self,
        agent: Named | str,
        session: str,
        content: str | Sequence[Mapping[str, Any]],
        *,
        policy: Policy | None = None,
        background: bool = False,
    ) -> Outcome | Receipt:
        """Send a message to another agent and wait for the outcome of its turn.

        When this turn is interrupted, so is that one, and no other; this turn's cleanup begins when
        that one's has ended. A turn that the message only became part of goes on.

        Args:
            agent: The other agent, or its name where it is defined elsewhere.
            session: The other agent's session.
            content: Text, or a list of parts.
            policy: What it does to a turn that is live there; by default what that agent says.
            background: Do not wait. That turn then goes on when this one is interrupted.

        Returns:
            The outcome, also of a turn that failed or was interrupted; in the background, the
            receipt.

        Raises:
            TerminalError: When the other agent refuses the message, or the content is no JSON.
            Interrupted: This turn was cancelled.
        """
        work = self._work
        name = agent if isinstance(agent, str) else agent.name
        if mended(session) != session:
            msg = "session: has half a surrogate pair, which is no text."
            raise TerminalError(msg, 400)
        work.delegated += 1
        key = f"{self.id}/{work.delegated}"
        receipt = await _delegate.send(work.ctx, name, session, stored(content), policy, key)
        if background:
            return receipt
        return await _delegate.follow(work.ctx, work.watch, name, session, receipt)

    def __repr__(self) -> str:
        return f"Task(session={self.session!r}, turn={self.turn}, id={self.id!r})"


async def work(body: Body, ctx: Context, job: Dispatch) -> TaskOutcome:
    """Work on one turn: its outcome is the outcome of this invocation."""
    with watching(ctx) as watch, sayable():
        work = _Work(body, ctx, watch, job)
        task: Task | None = None
        try:
            task = await _begin(work, job)
            result = new_output(await body.run(ctx, task), task.messages)
            watch.check()
            if watch.pending:
                raise Interrupted  # noqa: TRY301
            await watch.abort()  # what `run` left in flight must not outlast its turn
            work.put(result)
        except Exception as error:
            end = terminal(error, watch)
            if end is None:
                raise
            await watch.abort()
            if isinstance(end, Interrupted):
                outcome = await _interrupted(work, task, end)
            else:
                end = not_ours(end)
                outcome = work.outcome("failed")
                outcome["error"] = end.message
            settle(ctx, body.name, work.session, outcome, work.ended)
            attach_to(end, ctx, outcome)
            raise end from (None if end is error else error)
        outcome = work.outcome("completed")
        settle(ctx, body.name, work.session, outcome, work.ended)
        return outcome


async def _interrupted(work: _Work, task: Task | None, end: Interrupted) -> TaskOutcome:
    partials: list[tuple[str | None, str]] = []
    if work.streams:  # whether anything was said is known to this attempt alone
        partials = await shield(work.ctx.run_typed("partial answer", _partials, watch=work.watch))
    if task is not None:
        await _tell(work.body, work.ctx, task, end)
    words = [text for call, text in partials if call is None]
    work.put_out += [{"role": "assistant", "content": text} for text in words]
    results = [(call, text) for call, text in partials if call is not None]
    outcome = work.outcome("interrupted", results)
    if words:
        outcome["partial"] = len(words)
    return outcome


async def _partials(watch: Watch) -> list[tuple[str | None, str]]:
    return [(call, mended(text)) for call, text in watch.partials]


def _say(call: str | None, delta: str | None) -> None:
    if delta is None:
        return
    if not isinstance(delta, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        name = "partial" if call is None else "partial_result"
        msg = f"`task.{name}` takes text, or nothing; not {type(delta).__name__}."
        raise WrongOutput(msg)
    say(delta, call)


def cancelled_signal(turn: int) -> str:
    """The signal that tells the tasks behind a turn that it was cancelled."""
    return f"turn {turn} is cancelled"


async def _begin(work: _Work, job: Dispatch) -> Task:
    """Wait for the predecessors and load the conversation; only then is it our turn.

    Both at once after an interrupt, where it counts.
    """
    body, ctx, turn = work.body, work.ctx, work.turn
    tasks = {
        before["turn"]: ctx.attach_invocation(before["task_id"], serde=JSON)
        for before in job["after"]
    }

    def load() -> RestateDurableFuture[bytes]:
        return ctx.generic_call(body.name, "load", b"", key=work.session)

    # A queued turn loads afterwards: why others were cancelled comes to be while it waits.
    queued = not all(before["cancelled"] for before in job["after"])
    at_hand = job.get("turns") if not queued else None
    loading = load() if turn > 1 and not queued and at_hand is None else None
    joined = await _quiet(work) if body.debounce is not None else []
    late = await _wait(body, ctx, job, dict(tasks))
    turns: list[Turn] = []
    if turn > 1:
        if at_hand is not None:
            loaded = _Loaded(at_hand)
        else:
            loaded = await _read(Stored.unpack(await (loading or load())), turn)
        if loaded.cancelled:
            raise Interrupted  # Restate is about to tell
        if queued and loaded.waiting:
            joined += await work.take(waited=True, begins=True)
        mine = {(x.number, x.at) for x, _ in joined}  # a number may be used again, later
        turns = await _complete(work, loaded, mine, tasks, late)
    messages = with_joined(turn, job["input"], joined)
    forked = job.get("forked_from")
    origin = None if forked is None else Origin(*forked)
    before = told("conversation", body.conversation(turns))
    return Task(work, [*before, *messages], messages, turns, origin)


async def _quiet(work: _Work) -> list[Said]:
    """Wait until no message has come for a while; those that did belong to this turn."""
    joined: list[Said] = []
    while True:
        assert work.body.debounce is not None  # noqa: S101
        await work.ctx.sleep(work.body.debounce, name="debounce")
        said = await work.take(waited=False, begins=True) if work.body.merges else []
        if not said:
            return joined
        joined += said


class _Loaded(NamedTuple):
    """What the object knows of the turns before: those in the conversation, live ones bare."""

    turns: list[Turn]
    steered: Sequence[Said] = ()
    """What was steered at them."""
    waiting: bool = False
    """Whether there are messages for this turn to take."""
    cancelled: bool = False
    """Whether this turn is cancelled by now."""


async def _read(stored: Stored, turn: int) -> _Loaded:
    session = await stored.get("session", JSON)
    if session is None:
        return _Loaded([])
    record = load_record(session)
    turns = await read(stored, record, range(stored.first, turn), bare=True)
    return _Loaded(
        [x for x in turns if not x.get("discarded")],
        await said(stored, (x for x in record.steered if x.turn < turn)),
        any(x.turn <= turn for x in record.waiting),
        cancelled=record.find(turn) is not None and not record.goes_on(turn),
    )


async def _complete(
    work: _Work,
    loaded: _Loaded,
    mine: set[tuple[int, int]],
    tasks: Mapping[int, RestateDurableFuture[Any]],
    late: set[int],
) -> list[Turn]:
    """Complete what was loaded with what became of the predecessors since."""
    turns = {turn["turn"]: turn for turn in loaded.turns}
    unfinished = {number for number, turn in turns.items() if turn["status"] == "running"}
    for number in sorted(tasks.keys() - (turns.keys() - unfinished)):
        theirs = [x for x in loaded.steered if x[0].turn == number]
        kept = [(x, message) for x, message in theirs if (x.number, x.at) not in mine]
        outcome: TaskOutcome = {"turn": number, "status": "interrupted", "messages": []}
        if number not in late:
            end = await ending(work.ctx, number, tasks[number])
            outcome = end.outcome
            work.ended.append(number)
            if not end.reported:
                settle(work.ctx, work.body.name, work.session, outcome)
        if number in unfinished:
            turns[number] = finish(turns[number], outcome, kept)
    return [turns[number] for number in sorted(turns)]


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

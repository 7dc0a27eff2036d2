"""One task's life: wait for the predecessors, load the conversation, run, settle."""

import functools
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar, overload

import restate
from restate import Context, RestateDurableFuture, TerminalError

from interruptible._cancel.cleanup import report
from interruptible._cancel.watch import (
    Deaf,
    Interrupted,
    Watch,
    asks_for_a_retry,
    in_step,
    is_stray,
    say,
    shield,
    terminal,
    terminal_cause,
    watching,
)
from interruptible._session.history import JSON, Said, Stored, finish, read, said, with_joined
from interruptible._session.rules import Steered
from interruptible._session.rules import load as load_record
from interruptible._task import delegate
from interruptible._task.outcome import attach_to, ending, not_ours, settle
from interruptible._task.repair import repaired
from interruptible._wire.native import opened, with_opened
from interruptible._wire.output import (
    Conversation,
    OutputMessage,
    WrongOutput,
    new_output,
    stored,
    text_of,
    told,
)
from interruptible._wire.text import brief, mended, sayable
from interruptible._wire.types import (
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
from interruptible.formats._alternate import alternating
from interruptible.formats._dialects import calls_of

T = TypeVar("T")
_call: Final[ContextVar[str | None]] = ContextVar("interruptible_call", default=None)


class Named(Protocol):
    """An agent, of which only the name is needed."""

    @property
    def name(self) -> str: ...


class Body(Protocol):
    """What a task needs of its agent."""

    name: str
    task_name: str
    policy: Policy
    cleanup_timeout: timedelta
    debounce: timedelta | None
    alternate_roles: bool

    @property
    def merges(self) -> bool: ...
    async def run(self, ctx: Context, task: "Task") -> Any: ...
    async def on_interrupted(self, ctx: Context, task: "Task") -> None: ...
    def interruption_note(self, turn: Turn) -> str | Message | None: ...
    def call_note(self, name: str | None, *, begun: bool, output: str | None) -> str: ...
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
        self.began = False
        self.delegated = 0
        self.names_calls = False
        """Whether `run` says which call it works on."""
        self.begun: set[str] = set()
        """The calls of which it is known that they have begun."""
        self._commands: dict[str, int] = {}
        """How many commands had been given when a call was put out, by its id."""

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
        for message in messages:
            for call in calls_of(message).values():
                self._commands[call.id] = self.watch.commands
                self.begun.discard(call.id)

    def check_call(self, call: str) -> None:
        """Refuse a call that is not among those of this turn, as it would be told of as begun."""
        if call not in self._commands:
            known = ", ".join(self._commands) or "none yet"
            raise WrongOutput(
                f"task.call: there is no call {brief(call)} in what this turn has put out; its "
                f"calls are: {known}. Put out the message with the call first, and give the call's "
                "id."
            )

    def own(self, give: Callable[[], T]) -> T:
        """Give Restate a command of the library's, which is for no call of a tool."""
        before = self.watch.commands
        given = give()
        self.watch.commands = before
        return given

    def begin(self, call: str) -> None:
        """Note that a call has begun; after the interruption, none does by itself."""
        if not self.watch.told:
            self.begun.add(call)

    def has_begun(self, call: str) -> bool:
        """Whether a call may have had an effect, as far as this turn's code has told.

        Each attempt comes to the same answer: it rests on what the code did, and not on what of it
        this attempt found done already.
        """
        if call in self.begun or (self.names_calls and call):
            return call in self.begun
        return self.watch.commands > self._commands.get(call, 0)

    async def take(self, *, waited: bool, begins: bool) -> list[Said]:
        """Take the steered messages that wait for this turn."""
        body = {"turn": self.turn, "waited": waited, "begins": begins}
        arg = json.dumps(body).encode()
        call = functools.partial(self.ctx.generic_call, self.body.name, "take", arg)
        answer = await self.own(lambda: call(key=self.session))
        return [(Steered(*x), message) for x, message in json.loads(answer)]

    def outcome(self, status: TurnStatus, cut_off: Sequence[tuple[str, str]] = ()) -> TaskOutcome:
        """The outcome as things are: with messages that every provider accepts."""
        messages, cut, not_begun = repaired(
            self.put_out, cut_off, begun=self.has_begun, note=self.body.call_note
        )
        places = {id(message): place for place, message in enumerate(messages)}
        outcome: TaskOutcome = {"turn": self.turn, "status": status, "messages": messages}
        if cut:
            outcome["cut_off"] = cut
        if not_begun:
            outcome["not_begun"] = not_begun
        if status == "interrupted" and not self.began:
            outcome["never_began"] = True
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

        Once an await has raised `Interrupted`, what `run` puts out does not count: code that turns
        every exception into text would put out that. What was `shield`ed does, and so does what
        `on_interrupted` puts out. Half a surrogate pair, as a tool may print it, becomes U+FFFD.

        Args:
            messages: Messages, what an SDK hands out as such (an object with `model_dump`), or
                text, which stands for a message of the assistant.

        Raises:
            TypeError: One of them is none of these, is no JSON, is nested more than 128 levels
                deep, or is in `messages` already; or this is a step. It is a `TerminalError`, too:
                the turn fails.
            TerminalError: With these, the turn would have put out more than 8 MiB.
        """
        if in_step():  # the next attempt would find the step done, and put out nothing
            raise WrongOutput(
                "`task.append` was called inside a step. Return what the step gave, and put it out "
                "where the step is awaited."
            )
        added = new_output(messages, self.messages)
        if self._work.watch.counts:
            self._work.put(added)
            self.messages.grow(map(opened, added))

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

    @contextmanager
    def call(self, call: str) -> Generator[None, None, None]:
        """Say that this block works on a tool's call, so that it has begun.

        In a turn that says so, calls of which it was never said are told as not begun when they
        have no result. So say it of all calls that the turn works on, or of none. Without it, calls
        have begun as soon as any step, call or send has, after they were put out. A block that is
        entered once the turn was interrupted, and ends in `Interrupted`, has begun nothing.

        Args:
            call: The call's id, in a message that this turn has put out.

        Raises:
            RuntimeError: It was entered inside a step.
            TypeError: This turn has put out no such call; a tool's name is none. It is a
                `TerminalError`, too: the turn fails.
        """
        _outside("`task.call` was entered")
        self._work.check_call(call)
        self._work.names_calls = True
        self._work.begin(call)
        before = self._work.watch.commands
        token = _call.set(call)
        begins = True
        try:
            yield
        except (Interrupted, Deaf):  # nothing was done, if it was told of that before
            begins = self._work.watch.commands > before
            raise
        finally:
            _call.reset(token)
            if begins:
                self._work.begun.add(call)

    def partial_result(self, call: str | None = None) -> Callable[[str | None], None]:
        """Takes what comes of a tool's call, piece by piece, while a step is running it.

        It is like `partial`; but what had come when the turn is interrupted stays as the result of
        the call, with a note that it was cut off there. A result that was put out counts instead.

        Args:
            call: The call's id, in a message that this turn has put out; by default that of the
                `task.call` in whose block this is. It has begun by now.

        Raises:
            RuntimeError: It was called inside a step, or what it gave is called outside of one; or
                there is no call.
            TypeError: The id, or what it gave is called with, is no text.
        """
        self._streams("`task.partial_result` was called")
        call = call or _call.get()
        if call is None:
            msg = "`task.partial_result` has no call. Name it, or do it within `task.call`."
            raise RuntimeError(msg)
        if not isinstance(call, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"`task.partial_result` takes the id of a call, not {type(call).__name__}."
            raise WrongOutput(msg)
        self._work.begin(call)
        return functools.partial(_say, mended(call))

    def _streams(self, what: str) -> None:
        _outside(what)
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
        send = functools.partial(work.ctx.generic_send, work.body.name, "get_cause", body)
        asked = work.own(lambda: send(key=self.session))
        return cause_of(await delegate.answer(work.ctx, asked))

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
            TerminalError: When the other agent refuses the message, or the content is no JSON. 404:
                there is no such agent, or it did not answer for half a minute. 400: the message
                would wait for this turn, and this turn for the message; that cannot be seen where
                another agent is in between.
            Interrupted: This turn was cancelled.
        """
        work = self._work
        name = agent if isinstance(agent, str) else agent.name
        if mended(session) != session:
            msg = "session: has half a surrogate pair, which is no text."
            raise TerminalError(msg, 400)
        mine = (name, session) == (work.body.name, self.session)
        if mine and not background and (policy or work.body.policy) in ("queue", "steer"):
            raise TerminalError(
                f"delegate: turn {self.turn} would wait for a message that waits for turn "
                f"{self.turn}. Send it to another session, or in the background.",
                400,
            )
        work.delegated += 1
        key = f"{self.id}/{work.delegated}"
        said, service = stored(content), work.body.task_name
        receipt = await delegate.send(work.ctx, service, name, session, said, policy, key)
        if background:
            return receipt
        return await delegate.follow(work.ctx, work.watch, name, session, receipt)

    def __repr__(self) -> str:
        return f"Task(session={self.session!r}, turn={self.turn}, id={self.id!r})"


def _outside(what: str) -> None:
    if in_step():
        msg = f"{what} inside a step. Do it outside, and give the step what you get."
        raise RuntimeError(msg)


_current: ContextVar[tuple[Task, Watch] | None] = ContextVar("interruptible_task", default=None)


def current_task() -> Task:
    """The task that this code works for: in tools, hooks and steps, however deep within `run`.

    What is started there finds it too, asyncio tasks and threads; so do cleanup steps and
    `on_interrupted`.

    Raises:
        RuntimeError: There is none, or its turn has ended and this was left running.
    """
    current = _current.get()
    if current is None:
        msg = "current_task() was called where no turn is worked on. Call it in what `run` calls."
        raise RuntimeError(msg)
    task, watch = current
    if watch.depth == 0:
        msg = f"{task!r} is over, and this was left running. Await it before `run` returns."
        raise RuntimeError(msg)
    return task


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
            await watch.end()  # what `run` left in flight must not outlast its turn
            work.put(result)
        except BaseException as error:
            end = terminal(error, watch)
            if end is None and is_stray(error):
                msg = (
                    f"`run` raised {error!r}, which is no Exception. If it is a CancelledError, "
                    "catch it where you await what you have cancelled."
                )
                raise RuntimeError(msg) from error
            if end is None:
                raise
            await watch.end()
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
        await _tell(work, task, end)
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


def given_up_signal(turn: int) -> str:
    """The signal that tells the tasks behind a turn that another has waited it out."""
    return f"turn {turn} is given up"


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
        turns = [with_opened(x) for x in await _complete(work, loaded, mine, tasks, late)]
    messages = with_joined(turn, job["input"], joined)
    work.began = True
    forked = job.get("forked_from")
    origin = None if forked is None else Origin(*forked)
    known = [x for turn in turns for x in (*turn["input"], *turn["messages"])]
    before = told("conversation", body.conversation(turns), known=known)
    begins = [*map(opened, before), *messages]
    if body.alternate_roles:
        begins = alternating(begins)
    task = Task(work, begins, messages, turns, origin)
    _current.set((task, work.watch))
    return task


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
    for number in sorted(unfinished | (tasks.keys() - turns.keys())):
        theirs = [x for x in loaded.steered if x[0].turn == number]
        kept = [(x, message) for x, message in theirs if (x.number, x.at) not in mine]
        outcome: TaskOutcome = {"turn": number, "status": "interrupted", "messages": []}
        ends = number in tasks and number not in late
        if ends:
            end = await ending(work.ctx, number, tasks[number])
            outcome = end.outcome
            work.ended.append(number)
            if not end.reported:
                settle(work.ctx, work.body.name, work.session, outcome)
        if number in unfinished:
            turns[number] = finish(turns[number], outcome, kept)
            if not ends:
                turns[number]["given_up"] = True
    return [turns[number] for number in sorted(turns)]


async def _wait(
    body: Body, ctx: Context, job: Dispatch, tasks: dict[int, RestateDurableFuture[Any]]
) -> set[int]:
    """Wait until all predecessors have ended; returns those that had to, and did not in time.

    A predecessor has to once it is cancelled; the object tells of a cancel that comes later. One
    that this task has waited out, or another, is given up.
    """
    ids = {x["turn"]: x["task_id"] for x in job["after"]}
    cancelled = {x["turn"] for x in job["after"] if x["cancelled"]}
    told = {x: ctx.signal(cancelled_signal(x), serde=JSON) for x in ids if x not in cancelled}
    dropped = {x: ctx.signal(given_up_signal(x), serde=JSON) for x in ids}
    late: set[int] = set()
    timer = ctx.sleep(body.cleanup_timeout, name="cleanup_timeout") if cancelled else None
    while tasks:
        signals = [x[turn] for x in (told, dropped) for turn in tasks if turn in x]
        timers = [timer] if timer is not None else []
        done, _ = await restate.wait_completed(*tasks.values(), *signals, *timers)
        tasks = {turn: task for turn, task in tasks.items() if task not in done}
        gone = {turn for turn in tasks if dropped[turn] in done}
        if timer in done:
            timer = None
            if overdue := sorted((tasks.keys() & cancelled) - gone):
                _give_up(body, ctx, job, [(turn, ids[turn]) for turn in overdue])
                gone.update(overdue)
        late |= gone
        tasks = {turn: task for turn, task in tasks.items() if turn not in gone}
        for turn in [turn for turn in tasks if turn in told and told[turn] in done]:
            del told[turn]
            cancelled.add(turn)
            timer = ctx.sleep(body.cleanup_timeout, name="cleanup_timeout")
    return late


def _give_up(body: Body, ctx: Context, job: Dispatch, turns: list[tuple[int, str]]) -> None:
    """Cancel these once more, and let nobody else wait for them: the object notes it."""
    for _, task_id in turns:
        ctx.cancel_invocation(task_id)
    note = json.dumps({"turns": [turn for turn, _ in turns]}).encode()
    ctx.generic_send(body.name, "give_up", note, key=job["session"])


async def _tell(work: _Work, task: Task, end: Interrupted) -> None:
    try:
        await shield(work.body.on_interrupted(work.ctx, task))
    except BaseException as error:
        work.watch.check()
        if asks_for_a_retry(error) or not (isinstance(error, Exception) or is_stray(error)):
            raise
        failure = terminal_cause(error)
        said = failure.message if failure is not None else repr(error)
        report(end, [{"step": "on_interrupted", "error": said}])

"""The task as `run` has it: the conversation, and what a turn can do besides."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, overload

from restate import TerminalError

from interruptible._cancel.steps import in_step
from interruptible._task import delegate
from interruptible._task.attempt import Attempt, check_outside
from interruptible._task.delegate import Named
from interruptible._task.earlier import Before
from interruptible._task.waits import Waits
from interruptible._wire.native import from_stored
from interruptible._wire.output import (
    Conversation,
    OutputMessage,
    WrongOutput,
    new_output,
)
from interruptible._wire.said import without_said
from interruptible._wire.types import Message, Origin, Outcome, Policy, Receipt, Turn
from interruptible.formats._neutral import text_of

T = TypeVar("T")


class Task(Waits):
    """The turn that a task works on.

    Attributes:
        session: The session's key.
        turn: The turn's number in the session.
        id: The task's invocation id.
        messages: The conversation up to and with this turn's messages, to be read; `append` adds
            to it.
        input: The messages that this turn was begun for; none, if it goes on with another one.
        input_metadata: What their senders noted of each of them, which no model sees.
        resumes: The turn that it goes on with, without a message, if with one.
        forked_from: If the session is a fork: the session in which its copied turns were worked on,
            and the last of them. After a reset it is none.
    """

    def __init__(
        self, attempt: Attempt, messages: list[Message], begun: list[Message], before: Before
    ) -> None:
        self._attempt = attempt
        self._before = before
        self.session, self.turn = attempt.session, attempt.turn
        self.id = attempt.ctx.request().id
        self.messages = Conversation(messages)
        self.input = begun
        self.input_metadata: Sequence[Mapping[str, Any]] = [{} for _ in begun]
        self.resumes = attempt.job.get("resumes")
        self._turns: Sequence[Turn] | None = None
        origin = attempt.job.get("forked_from")
        self.forked_from = None if origin is None else Origin(*origin)

    @property
    def text(self) -> str:
        """All that the user said in this turn so far, as text; parts that are no text are left out.

        That is `input`, and what `steering` has taken, each message a paragraph.
        """
        return text_of([*self.input, *self._attempt.taken.values()])

    @property
    def turns(self) -> Sequence[Turn]:
        """The earlier turns of the conversation; what was discarded or reset is not among them.

        They are all there, unless the agent has a `conversation` of its own that does not look at
        all of them. Then they are the latest; to look at one before them raises an error, and
        `earlier` reads it. Of more than 12 MiB, compressed, they are the latest that fit.
        """
        if self._turns is None:
            self._turns = self._before.turns()
        return self._turns

    async def earlier(self) -> int:
        """Read some of the turns before those that `turns` has: twice as much each time.

        After an interruption, those may be missing that were discarded with this turn.

        Returns:
            How many came, and are in `turns` now; 0 if all are there.

        Raises:
            Interrupted: The turn was cancelled.
        """
        check_outside("`task.earlier` was called")
        try:
            return await self._before.further()
        finally:
            self._turns = None

    def append(self, *messages: OutputMessage, final: bool = False, output: Any = None) -> None:
        """Put out messages: they stay in the conversation, also when the turn is interrupted later.

        Once an await has raised `Interrupted`, what `run` puts out does not count: code that turns
        every exception into text would put out that. What was `shield`ed does, and so does what
        `on_interrupted` puts out. Half a surrogate pair, as a tool may print it, becomes U+FFFD.

        Args:
            messages: Messages, what an SDK hands out as such (an object with `model_dump`), or
                text, which stands for a message of the assistant.
            final: Whether the last of them, or of those before if there are none, is the turn's
                answer. If `run` returns that too, as text or as what its JSON stands for, it is
                not put out twice.
            output: What the answer is to the program, if `final`: an object that was read from it.
                If `run` returns just that, nothing is put out twice, whatever it is.

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
        if self._attempt.watch.counts:
            self._put(added)
            self._attempt.answered, self._attempt.output = final, output if final else None

    def _put(self, messages: list[Message]) -> None:
        self._attempt.put(messages)
        if self._attempt.teller is not None:
            self._attempt.teller.put(messages)
        self._attempt.answered, self._attempt.output = False, None
        self.messages.grow(map(from_stored, messages))

    async def steering(self) -> list[Message]:
        """Take the messages that a user has steered at this turn since the last time.

        They are added to `messages`, and stay in the conversation at this place. What a turn has
        not taken when it ends becomes the next turn's. It is one call to the agent's object.

        Returns:
            The messages, in the order in which they were accepted.

        Raises:
            Interrupted: The turn was cancelled.
        """
        said = await self._attempt.take_steered()
        messages = [without_said(message) for _, message in said]
        taken = zip((x.number for x, _ in said), messages, strict=True)
        self._attempt.taken.update(taken)
        self._attempt.put_out += messages
        if self._attempt.teller is not None:
            self._attempt.teller.took([message for _, message in said])
        self.messages.grow(messages)
        return messages

    @property
    def partial(self) -> Callable[[str | None], None]:
        """Takes what the model says, piece by piece, while a step is streaming it.

        Give it to the step as an argument. When the step ends, the pieces are forgotten. When the
        turn is interrupted while it runs, they stay in the conversation as the assistant's words;
        without a `stream`, unless the worker dies. `None` says nothing, as in some events of SDKs.

        Raises:
            RuntimeError: It was read inside a step, or what it gave is called outside of one.
            TypeError: What it gave is called with something else. It is a `TerminalError`, too.
        """
        return self._attempt.pieces()

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
        with self._attempt.working_on(call):
            yield

    def partial_result(self, call: str | None = None) -> Callable[[str | None], None]:
        """Takes what comes of a tool's call, piece by piece, while a step is running it.

        It is like `partial`; but what had come when the turn is interrupted stays as the result of
        the call, with a note that it was cut off there. A result that was put out counts instead.

        Args:
            call: The call's id, in a message that this turn has put out; by default that of the
                `task.call` in whose block this is. It has begun by now.

        Raises:
            RuntimeError: It was called inside a step, or what it gave is called outside of one; or
                there is no call. Like all of these, it is a `TerminalError`, too: the turn fails.
            TypeError: The id, or what it gave is called with, is no text.
        """
        return self._attempt.pieces_of_result(call)

    def publish(self, event: Mapping[str, Any]) -> None:
        """Tell those who follow the session of an event of the agent's own.

        In a step, which may be given this method, it may be lost with the worker; elsewhere it is
        kept once. After a `gap` it comes again. Without a `stream`, nothing happens.

        Args:
            event: JSON with a `type` of its own, `{"type": "reasoning", "text": …}`, or
                `{"type": "tool", "call": …, "name": …, "state": "waits"}` of a call that waits.

        Raises:
            TypeError: It is none, or is one that the library tells. It is a `TerminalError`, too.
        """
        self._attempt.publish(event)

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
        attempt, name = self._attempt, agent if isinstance(agent, str) else agent.name
        waits = not background and (policy or attempt.body.policy) in ("queue", "steer")
        if waits and (name, session) == (attempt.body.name, self.session):
            raise TerminalError(
                f"delegate: turn {self.turn} would wait for a message that waits for turn "
                f"{self.turn}. Send it to another session, or in the background.",
                400,
            )
        receipt = await delegate.send_message(attempt, name, session, content, policy)
        if background:
            return receipt
        return await delegate.await_outcome(attempt, name, session, receipt)

    def __repr__(self) -> str:
        return f"Task(session={self.session!r}, turn={self.turn}, id={self.id!r})"

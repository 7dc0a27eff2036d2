"""`Session`: the typed way into a conversation, from a client and from a handler alike.

The types of all that its methods take and return are here, too.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload
from urllib.parse import quote

from restate import Context, HttpError, RestateClient, TerminalError

from interruptible._agent import Agent
from interruptible._task.approval import Approval
from interruptible._wire.added import added_to
from interruptible._wire.cause import Cause
from interruptible._wire.output import Output
from interruptible._wire.types import (
    Cancelled,
    LiveTurn,
    Message,
    Origin,
    Outcome,
    PendingMessage,
    Policy,
    Receipt,
    Rewound,
    Status,
    TakenBack,
    Turn,
    Turns,
    TurnStatus,
    WaitingApproval,
)

if TYPE_CHECKING:
    from interruptible._stream.events import Event

__all__ = [
    "Approval",
    "Cause",
    "LiveTurn",
    "Message",
    "Origin",
    "Outcome",
    "Output",
    "PendingMessage",
    "Policy",
    "Receipt",
    "Rewound",
    "Session",
    "Status",
    "TakenBack",
    "Turn",
    "TurnStatus",
    "Turns",
    "WaitingApproval",
]

A = TypeVar("A")
R = TypeVar("R")


class Session:
    """One conversation of an agent.

    Args:
        via: The `ctx` of a Restate handler, or a `RestateClient`.
        agent: The agent, or its name where it is defined elsewhere.
        key: The session's key.

    All methods raise a `TerminalError` with the status and reason of a refusal, whatever `via` is.
    """

    def __init__(self, via: Context | RestateClient, agent: Agent | str, key: str) -> None:
        if not key:
            msg = "A session needs a key that is not empty. Name the conversation."
            raise ValueError(msg)
        self._via = via
        self._agent = agent if isinstance(agent, str) else agent.name
        self.key = key

    async def send(
        self,
        content: str | Sequence[Mapping[str, Any]],
        *,
        policy: Policy | None = None,
        if_turn: int | None = None,
        if_idle: bool = False,
        now: bool = False,
        keep_queued: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Send a message, and return as soon as it is accepted.

        Args:
            content: Text, or a list of parts.
            policy: What it does to a live turn; by default the agent's.
            if_turn: Send it only if this turn is at work.
            if_idle: Send it only if no turn is live.
            now: Have the turn at work read it at once, with the policy `steer`: a model's call that
                is awaited as `task.steerable` is cut off for it.
            keep_queued: Whether turns that are queued are spared; by default as the agent says.
            metadata: What is to be kept with it, and shown to no model: JSON, at most 4 KiB.
            idempotency_key: Restate takes messages of one key for one message.

        Returns:
            The message's id, the turn that it became, or became part of, and the turns that it
            interrupted.

        Raises:
            TerminalError: When the message is refused; then nothing has changed. 400 or 413: there
                is something wrong with it. 412: `if_turn` or `if_idle` does not hold. 423: a turn
                is live, and the policy is `reject`. 429: too much is pending.
        """
        body: dict[str, Any] = {"content": content}
        if policy is not None:
            body["policy"] = policy
        if if_turn is not None:
            body["if_turn"] = if_turn
        if if_idle:
            body["if_idle"] = True
        if now:
            body["now"] = True
        if keep_queued is not None:
            body["keep_queued"] = keep_queued
        if metadata is not None:
            body["metadata"] = metadata
        return cast("Receipt", await self._call("message", body, idempotency_key))

    async def ask(
        self,
        content: str | Sequence[Mapping[str, Any]],
        *,
        policy: Policy | None = None,
        if_turn: int | None = None,
        if_idle: bool = False,
        now: bool = False,
        keep_queued: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Send a message, as `send` does, and wait for the outcome of the turn that answers it.

        Returns:
            The outcome; of a message that was steered, that of the turn that took it.

        Raises:
            TerminalError: When the message is refused, as by `send`. 410: somebody has taken it
                back.
        """
        receipt = await self.send(
            content,
            policy=policy,
            if_turn=if_turn,
            if_idle=if_idle,
            now=now,
            keep_queued=keep_queued,
            metadata=metadata,
            idempotency_key=idempotency_key,
        )
        outcome = await self.attach(message=receipt["message"])
        if outcome["status"] == "withdrawn":
            reason = f"message: {receipt['message']} was withdrawn, and nobody answers it."
            raise TerminalError(reason, 410)
        return outcome

    async def cancel(
        self, turn: int | None = None, *, reason: str | None = None, after_step: bool = False
    ) -> list[int]:
        """Cancel everything live, or one turn.

        Args:
            turn: Which; without it, everything live.
            reason: Why; it is kept with the turn.
            after_step: Let what is in flight end, and keep what comes of it; nothing else begins.
                To cancel once more, without this, cuts it off.

        Returns:
            The turns that this cancelled; what is over already is no error.

        Raises:
            TerminalError: 404 when there is no such turn.
        """
        body: dict[str, Any] = {"turn": turn, "reason": reason}
        if after_step:
            body["after_step"] = True
        return cast("Cancelled", await self._call("cancel", body))["cancelled"]

    async def withdraw(self, message: int, *, idempotency_key: str | None = None) -> None:
        """Take back a message that no model has read yet; `status` lists them as `pending`.

        Args:
            message: Its id, as its receipt says.
            idempotency_key: Restate takes requests of one key for one request.

        Raises:
            TerminalError: 404: there is no such message. 412: it was read, or its turn has begun.
        """
        await self._call("withdraw", {"message": message}, idempotency_key)

    async def replace(
        self,
        message: int,
        content: str | Sequence[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Say something else in a message that no model has read yet; its place and id stay.

        Args:
            message: Its id, as its receipt says.
            content: Text, or a list of parts.
            idempotency_key: Restate takes requests of one key for one request.

        Raises:
            TerminalError: 404: there is no such message. 412: it was read, or its turn has begun.
                400 or 413: there is something wrong with the content.
        """
        body = {"message": message, "content": content}
        return cast("Receipt", await self._call("replace", body, idempotency_key))

    async def promote(
        self,
        message: int,
        policy: Literal["interrupt", "steer"],
        *,
        now: bool = False,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Do not let a message wait that no model has read yet.

        Args:
            message: Its id, as its receipt says.
            policy: `interrupt`: what is at work is cancelled, its turn is the next, and the others
                wait behind it. `steer`: the turn at work takes it.
            now: Have that turn read it at once, as with `send`.
            idempotency_key: Restate takes requests of one key for one request.

        Returns:
            The turn that has it from now on.

        Raises:
            TerminalError: 404: there is no such message. 412: it was read, or its turn has begun.
        """
        body: dict[str, Any] = {"message": message, "policy": policy}
        if now:
            body["now"] = True
        return cast("Receipt", await self._call("promote", body, idempotency_key))

    async def resume(
        self, turn: int | None = None, *, idempotency_key: str | None = None
    ) -> Receipt:
        """Go on where the last turn stopped, with no new message: nothing done is done again.

        Args:
            turn: Which, for who wants to be sure; by default the last.
            idempotency_key: Restate takes requests of one key for one request.

        Returns:
            The new turn.

        Raises:
            TerminalError: 404: there is no such turn. 412: it has completed, is live, or is not the
                last of the conversation.
        """
        body = None if turn is None else {"turn": turn}
        return cast("Receipt", await self._call("resume", body, idempotency_key))

    async def edit(
        self,
        turn: int,
        content: str | Sequence[Mapping[str, Any]],
        *,
        if_last: int | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Say something else in the place of a turn; it is discarded, and so are all after it.

        Args:
            turn: Which.
            content: Text, or a list of parts.
            if_last: Do it only if this is the session's last turn.
            idempotency_key: Restate takes requests of one key for one request.

        Returns:
            The new turn, the live ones that were cancelled, and all that were discarded.

        Raises:
            TerminalError: 404: there is no such turn in the conversation. 412: `if_last` does not
                hold. 400 or 413: there is something wrong with the content.
        """
        body: dict[str, Any] = {"turn": turn, "content": content}
        if if_last is not None:
            body["if_last"] = if_last
        return cast("Receipt", await self._call("edit", body, idempotency_key))

    async def answer(
        self,
        approval: int,
        approved: bool,  # noqa: FBT001
        *,
        reason: str | None = None,
        value: Any = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Answer what a turn waits for; `status` lists it as one of `waiting_for`.

        Args:
            approval: Its id.
            approved: Whether that is a yes.
            reason: Why.
            value: What else the turn is to know: JSON, at most 64 KiB.
            idempotency_key: Restate takes requests of one key for one request.

        Raises:
            TerminalError: 404: there is no such approval. 410: it was answered, withdrawn, or is
                over.
        """
        body: dict[str, Any] = {"approval": approval, "approved": approved}
        if reason is not None:
            body["reason"] = reason
        if value is not None:
            body["value"] = value
        await self._call("answer", body, idempotency_key)

    async def regenerate(
        self,
        turn: int | None = None,
        *,
        if_last: int | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Have a turn's messages answered again; it is discarded, and so are all after it.

        Args:
            turn: Which; by default the last.
            if_last: Do it only if this is the session's last turn.
            idempotency_key: Restate takes requests of one key for one request.

        Returns:
            The new turn, the live ones that were cancelled, and all that were discarded.

        Raises:
            TerminalError: 404: there is no such turn in the conversation. 412: `if_last` does not
                hold.
        """
        body = {} if turn is None else {"turn": turn}
        if if_last is not None:
            body["if_last"] = if_last
        return cast("Receipt", await self._call("regenerate", body or None, idempotency_key))

    async def rewind(
        self,
        turn: int,
        *,
        reason: str | None = None,
        if_last: int | None = None,
        idempotency_key: str | None = None,
    ) -> Rewound:
        """Take back a turn and all after it: they are cancelled, and discarded.

        Args:
            turn: The first that goes.
            reason: Why; it is kept with those that were live.
            if_last: Do it only if this is the session's last turn: so that nobody takes back what
                they have not seen.
            idempotency_key: Restate takes requests of one key for one request.

        Raises:
            TerminalError: 404: there is no such turn. 412: `if_last` does not hold.
        """
        body: dict[str, Any] = {"turn": turn, "reason": reason}
        if if_last is not None:
            body["if_last"] = if_last
        return cast("Rewound", await self._call("rewind", body, idempotency_key))

    async def reset(self, *, reason: str | None = None) -> list[int]:
        """Cancel what is live and remove the conversation; the numbers of the turns go on.

        Returns:
            The turns that this cancelled.
        """
        body = None if reason is None else {"reason": reason}
        return cast("Cancelled", await self._call("reset", body))["cancelled"]

    async def fork(
        self, key: str, turn: int | None = None, *, idempotency_key: str | None = None
    ) -> "Session":
        """Copy the conversation into a new session, in which it can go on another way.

        Args:
            key: The new session's key.
            turn: The last turn to take along; by default the last before all that are live.
            idempotency_key: Restate takes requests of one key for one request.

        Returns:
            The new session.

        Raises:
            TerminalError: 404: there is no such turn. 412: there is a session of this key already.
                413: more than 12 MiB are to be copied. 423: the turn is live, or one before it.
        """
        await self._call("fork", {"session": key, "turn": turn}, idempotency_key)
        return Session(self._via, self._agent, key)

    @overload
    async def attach(self, turn: int | None = None) -> Outcome: ...
    @overload
    async def attach(self, *, message: int) -> Outcome | TakenBack: ...
    async def attach(
        self, turn: int | None = None, *, message: int | None = None
    ) -> Outcome | TakenBack:
        """Wait for the outcome of a turn, by default the newest.

        Args:
            turn: Which.
            message: Instead: the turn that answers this message, whichever that will be. If it is
                taken back, the status is `withdrawn`.

        Raises:
            TerminalError: 404 when there is no such turn or message.
        """
        body = {name: x for name, x in (("turn", turn), ("message", message)) if x is not None}
        # One key for all tries: a wait that is cut off is taken up again, not begun once more.
        key = None if isinstance(self._via, Context) else f"attach-{uuid.uuid4()}"
        return cast("Outcome", await self._call("attach", body or None, key))

    async def history(self) -> list[Message]:
        """The conversation, in the order of the turns.

        Raises:
            TerminalError: 413: it has more than 24 MiB. `turns` gives it in parts.
        """
        return cast("list[Message]", await self._call("get_history"))

    async def turns(self, *, before: int | None = None, limit: int | None = None) -> Turns:
        """The record of the turns, discarded ones too, a page at a time from the newest on.

        Args:
            before: Turns before this one, as the last page says; by default the newest.
            limit: How many; by default, and at most, 100. If they have more than 24 MiB, fewer.
        """
        return cast("Turns", await self._call("get_turns", {"before": before, "limit": limit}))

    async def status(self) -> Status:
        """Whether the session is at work, and on what."""
        return cast("Status", await self._call("get_status"))

    def follow(self, after: int | None = None) -> AsyncGenerator["Event", None]:
        """What the session's turns do, as they do it; only of an agent with a `stream`.

        It goes on over lost connections, and over workers and servers that end; it ends when it is
        closed. *Show tokens as they come* says what a follower does with them, to come to what is
        on record. From a handler, each answer is kept in its journal.

        Args:
            after: The `id` of the last event that is known. Without it, or if that is known no
                more, a `gap` comes first, and then all there is of the newest turn.

        Raises:
            TerminalError: 404: the agent has no stream.
        """
        from interruptible._stream.following import follow  # noqa: PLC0415 - who does not, has it not

        async def pull(body: Any) -> Any:
            try:
                return await self._call("pull", body, of="Stream")
            except TerminalError as error:
                if error.status_code != 404:  # noqa: PLR2004
                    raise
                raise TerminalError(
                    f"There is no {self._agent}Stream. Make {self._agent} with `stream=Stream()`, "
                    "register its services again, or correct its name.",
                    404,
                ) from error

        return follow(pull, after, durable=isinstance(self._via, Context))

    @overload
    async def call(
        self,
        handler: Callable[[Any, A], Awaitable[R]],
        argument: A,
        *,
        idempotency_key: str | None = None,
    ) -> R: ...
    @overload
    async def call(
        self, handler: Callable[[Any], Awaitable[R]], *, idempotency_key: str | None = None
    ) -> R: ...
    @overload
    async def call(
        self, handler: str, argument: Any = None, *, idempotency_key: str | None = None
    ) -> Any: ...
    async def call(
        self, handler: Any, argument: Any = None, *, idempotency_key: str | None = None
    ) -> Any:
        """Call a handler that was added to the agent with `@handler`.

        Args:
            handler: Which: `agent.handler`, or its name where the agent is defined elsewhere.
            argument: What it takes, if anything; JSON when it is given by name.
            idempotency_key: Restate takes calls of one key for one call.

        Returns:
            What it returns; JSON when it is given by name.

        Raises:
            TerminalError: What the handler raises, with its status.
            ValueError: The function is no handler of this agent.
        """
        if isinstance(handler, str):
            return await self._call(handler, argument, idempotency_key, nothing=b"")
        added = added_to(self._agent, handler)
        if added is None:
            name = getattr(handler, "__qualname__", repr(handler))
            raise ValueError(
                f"{name} is no handler of {self._agent}. Write it as `agent.handler` of the agent, "
                "or as its name."
            )
        io = added.handler_io
        arg = io.input_serde.serialize(argument)
        answer = await self._send(added.name, arg, idempotency_key, io.content_type)
        return io.output_serde.deserialize(answer)

    async def _call(
        self,
        handler: str,
        body: Any = None,
        key: str | None = None,
        nothing: bytes = b"null",
        of: str = "",
    ) -> Any:
        arg = json.dumps(body).encode() if body is not None else nothing
        answer = await self._send(handler, arg, key, of=of)
        return json.loads(answer) if answer else None

    async def _send(
        self,
        handler: str,
        arg: bytes,
        key: str | None,
        content_type: str = "application/json",
        of: str = "",
    ) -> bytes:
        name = f"{self._agent}{of}"
        if isinstance(self._via, Context):
            return await self._via.generic_call(
                name, handler, arg, key=self.key, idempotency_key=key
            )
        session = quote(self.key, safe="")  # the client of restate-sdk takes it for a path
        headers = {"Content-Type": content_type} if arg else {}
        return await _post(self._via, name, handler, arg, session, key, headers)


async def _post(
    client: RestateClient,
    agent: str,
    handler: str,
    arg: bytes,
    session: str,
    idempotency_key: str | None,
    headers: dict[str, str],
) -> bytes:
    while True:
        try:
            return await client.generic_call(
                agent, handler, arg, key=session, idempotency_key=idempotency_key, headers=headers
            )
        except HttpError as error:
            raise TerminalError(_reason(error), error.status_code) from error
        except Exception as error:
            # The client of restate-sdk gives up after five silent seconds.
            if handler != "attach" or type(error).__name__ != "ReadTimeout":
                raise
            await asyncio.sleep(0)


def _reason(error: HttpError) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return error.body or error.message

"""`Session`: the typed way into a conversation, from a client and from a handler alike."""

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote

from restate import Context, HttpError, RestateClient, TerminalError

from interruptible._agent import Agent
from interruptible._types import (
    Cancelled,
    LiveTurn,
    Message,
    Outcome,
    Policy,
    Receipt,
    Status,
)

__all__ = ["LiveTurn", "Outcome", "Receipt", "Session", "Status"]

T = TypeVar("T")


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
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Send a message, and return as soon as it is accepted.

        Args:
            content: Text, or a list of parts.
            policy: What it does to a live turn; by default the agent's.
            if_turn: Send it only if this turn is at work.
            if_idle: Send it only if no turn is live.
            idempotency_key: Restate takes messages of one key for one message.

        Returns:
            The turn that it became, and the turns that it interrupted.

        Raises:
            TerminalError: When the message is refused; then nothing has changed. 400 or 413: there
                is something wrong with it. 412: `if_turn` or `if_idle` does not hold. 423: a turn
                is live, and the policy is `reject`. 429: too many turns are queued.
        """
        body: dict[str, Any] = {"content": content}
        if policy is not None:
            body["policy"] = policy
        if if_turn is not None:
            body["if_turn"] = if_turn
        if if_idle:
            body["if_idle"] = True
        return cast("Receipt", await self._call("message", body, idempotency_key))

    async def ask(
        self,
        content: str | Sequence[Mapping[str, Any]],
        *,
        policy: Policy | None = None,
        if_turn: int | None = None,
        if_idle: bool = False,
    ) -> Outcome:
        """Send a message and wait for the outcome of its turn.

        Raises:
            TerminalError: When the message is refused, as by `send`.
        """
        receipt = await self.send(content, policy=policy, if_turn=if_turn, if_idle=if_idle)
        return await self.attach(receipt["turn"])

    async def cancel(self, turn: int | None = None, *, reason: str | None = None) -> list[int]:
        """Cancel everything live, or one turn.

        Args:
            turn: Which; without it, everything live.
            reason: Why; it is kept with the turn.

        Returns:
            The turns that this cancelled; what is over already is no error.

        Raises:
            TerminalError: 404 when there is no such turn.
        """
        body = {"turn": turn, "reason": reason}
        return cast("Cancelled", await self._call("cancel", body))["cancelled"]

    async def attach(self, turn: int | None = None) -> Outcome:
        """Wait for the outcome of a turn, by default the newest.

        Raises:
            TerminalError: 404 when there is no such turn.
        """
        body = None if turn is None else {"turn": turn}
        # One key for all tries: a wait that is cut off is taken up again, not begun once more.
        key = None if isinstance(self._via, Context) else f"attach-{uuid.uuid4()}"
        return cast("Outcome", await self._call("attach", body, key))

    async def history(self) -> list[Message]:
        """The conversation, in the order of the turns."""
        return cast("list[Message]", await self._call("get_history"))

    async def status(self) -> Status:
        """Whether the session is at work, and on what."""
        return cast("Status", await self._call("get_status"))

    async def _call(self, handler: str, body: Any = None, key: str | None = None) -> Any:
        arg = json.dumps(body).encode()
        if isinstance(self._via, Context):
            answer = await self._via.generic_call(
                self._agent, handler, arg, key=self.key, idempotency_key=key
            )
        else:
            session = quote(self.key, safe="")  # the client of restate-sdk takes it for a path
            answer = await _post(self._via, self._agent, handler, arg, session, key)
        return json.loads(answer)


async def _post(
    client: RestateClient,
    agent: str,
    handler: str,
    arg: bytes,
    session: str,
    idempotency_key: str | None,
) -> bytes:
    headers = {"Content-Type": "application/json"}
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

"""What the page's scripts may do with a conversation: the whole of Restate that they get.

What changes something takes a `key` of the page's making: it tries again when it got no answer, and
Restate takes all tries for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Literal
from urllib.parse import quote

from restate import RestateClient, TerminalError

from interruptible import Session
from interruptible.client import Policy
from interruptible.stream import Event

AGENT = "CodingAgent"
MOST_TEXT = 1024 * 1024  # bytes, as the library has it
POLICIES: tuple[Policy, ...] = ("interrupt", "steer", "queue")
Call = Callable[..., Awaitable[Any]]


class Calls:
    """The calls, by name; the first argument of each is the session.

    Args:
        client: The way to Restate.
        ui: Restate's admin API, for links into its UI.
        agent: The agent's name.
    """

    def __init__(self, client: RestateClient, ui: str, agent: str = AGENT) -> None:
        self.client = client
        self.ui = ui
        self.agent = agent
        self.reading: dict[str, Call] = {
            f.__name__: f for f in (self.record, self.attach, self.diff)
        }
        talk = (self.send, self.edit, self.regenerate, self.resume, self.cancel, self.answer)
        waits = (self.withdraw, self.replace, self.promote)
        self.changing: dict[str, Call] = {f.__name__: f for f in (*talk, *waits)}

    # -- reading ---------------------------------------------------------------------------------

    async def record(
        self, session: str, *, before: int | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        """A page of the turns, oldest first, and what the session is doing."""
        it = self._session(session)
        page, status = await asyncio.gather(it.turns(before=before, limit=limit), it.status())
        return {
            "turns": [{**turn, "link": self._link(turn.get("task_id"))} for turn in page["turns"]],
            "before": page["before"],
            "status": status,
        }

    async def attach(self, session: str, *, turn: int) -> dict[str, Any]:
        """Wait until the record has the end of a turn."""
        outcome = await self._session(session).attach(turn)
        return {"turn": outcome["turn"], "status": outcome["status"]}

    async def diff(self, session: str, *, turn: int | None = None) -> Any:
        """The files as they are, against those at the start of a turn."""
        return await self._session(session).call("get_diff", {"turn": turn})

    def follow(self, session: str, after: int | None) -> AsyncGenerator[Event, None]:
        """What the session does, from an event on."""
        return self._session(session).follow(after)

    # -- changing --------------------------------------------------------------------------------

    async def send(self, session: str, *, content: str, policy: Policy, key: str) -> Any:
        """Send a message."""
        _check_text(content)
        if policy not in POLICIES:
            raise ValueError(f"policy: must be one of {', '.join(POLICIES)}.")
        return await self._session(session).send(content, policy=policy, idempotency_key=_key(key))

    async def edit(
        self, session: str, *, turn: int, content: str, key: str, last: int | None = None
    ) -> Any:
        """Say something else in the place of a turn, if there is none after the `last` seen."""
        _check_text(content)
        it = self._session(session)
        return await it.edit(turn, content, if_last=last, idempotency_key=_key(key))

    async def regenerate(
        self, session: str, *, turn: int, key: str, last: int | None = None
    ) -> Any:
        """Have a turn answered again, if there is none after the `last` that was seen."""
        it = self._session(session)
        return await it.regenerate(turn, if_last=last, idempotency_key=_key(key))

    async def resume(self, session: str, *, turn: int, key: str) -> Any:
        """Go on where the last turn stopped."""
        return await self._session(session).resume(turn, idempotency_key=_key(key))

    async def cancel(
        self, session: str, *, turn: int | None = None, after_step: bool = False
    ) -> Any:
        """Stop one turn, or all that is live: at once, or when what it is at has ended."""
        return {"cancelled": await self._session(session).cancel(turn, after_step=after_step)}

    async def answer(self, session: str, *, approval: int, yes: bool, key: str) -> Any:
        """Say yes or no to a command that waits for it."""
        return await self._session(session).answer(approval, yes, idempotency_key=_key(key))

    async def withdraw(self, session: str, *, message: int, key: str) -> Any:
        """Take back a message that is not read yet."""
        return await self._session(session).withdraw(message, idempotency_key=_key(key))

    async def replace(self, session: str, *, message: int, content: str, key: str) -> Any:
        """Say something else in a message that is not read yet."""
        _check_text(content)
        it = self._session(session)
        return await it.replace(message, content, idempotency_key=_key(key))

    async def promote(self, session: str, *, message: int, now: bool, key: str) -> Any:
        """Have a message read now by the turn at work, or else have it interrupt that."""
        it, once = self._session(session), _key(key)
        policy: Literal["steer", "interrupt"] = "steer" if now else "interrupt"
        return await it.promote(message, policy, now=now, idempotency_key=once)

    # -- how -------------------------------------------------------------------------------------

    def _session(self, session: str) -> Session:
        return Session(self.client, self.agent, session)

    def _link(self, task: str | None) -> str | None:
        return f"{self.ui}/ui/invocations/{quote(task)}" if task else None


def _key(key: str) -> str:
    if not isinstance(key, str) or not (key.isascii() and key.isalnum() and len(key) <= 64):  # noqa: PLR2004
        raise ValueError("key: must be at most 64 letters and digits.")
    return key


def _check_text(content: str) -> None:
    if not isinstance(content, str) or not content.strip():
        raise ValueError("content: is empty. Write something.")
    try:
        size = len(content.encode())
    except UnicodeEncodeError:
        raise ValueError("content: has half a surrogate pair, which is no text.") from None
    if size > MOST_TEXT:
        raise TerminalError(f"content: has {size} bytes; at most {MOST_TEXT} are accepted.", 413)

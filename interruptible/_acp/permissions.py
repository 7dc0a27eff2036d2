"""The approvals that an agent waits for, as permissions that an ACP client is asked for."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from acp.interfaces import Client
from acp.schema import AllowedOutcome, PermissionOption, ToolCallUpdate
from restate import TerminalError

from interruptible._acp.calls_told import approval_call, approval_is_over
from interruptible._acp.reaching import reached
from interruptible._acp.telling import Update
from interruptible._wire.types import WaitingApproval
from interruptible.client import Session

ALLOW: Final = PermissionOption(option_id="allow", name="Allow", kind="allow_once")
REJECT: Final = PermissionOption(option_id="reject", name="Reject", kind="reject_once")

_log = logging.getLogger("interruptible.acp")


class Permissions:
    """What one client was asked for in a session; each approval once.

    | an approval              | leaves it when                                            |
    | ------------------------ | --------------------------------------------------------- |
    | is asked                 | the client decides, or it does not wait any more          |
    | is asked, and was put off | (the client said `cancelled`) it does not wait any more  |
    | is over                  | never                                                     |

    Args:
        client: The way to the client.
        session: The session.
        tell: Tells the client something.
    """

    def __init__(
        self,
        client: Client,
        session: Session,
        tell: Callable[[Sequence[Update]], Awaitable[None]],
    ) -> None:
        self._client, self._session, self._tell = client, session, tell
        self._asked: dict[int, _Permission] = {}

    def are_new(self, waiting: Sequence[WaitingApproval]) -> list[WaitingApproval]:
        """Those that were not asked yet."""
        return [x for x in waiting if x["id"] not in self._asked]

    async def ask(self, approval: WaitingApproval) -> None:
        """Ask the client."""
        await self._tell([approval_call(approval)])
        task = asyncio.ensure_future(self._permission(approval))
        self._asked[approval["id"]] = _Permission(approval["turn"], task)

    async def keep(self, waiting: Sequence[WaitingApproval]) -> None:
        """Ask no more for what is not among those that wait."""
        ids = {x["id"] for x in waiting}
        await self._withdraw([x for x in self._asked if x not in ids])

    async def end(self, turn: int) -> None:
        """Ask no more for what a turn waited for: it is over."""
        await self._withdraw([x for x, asked in self._asked.items() if asked.turn == turn])

    async def close(self) -> None:
        """Ask for nothing any more."""
        tasks = [x.task for x in self._asked.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _withdraw(self, approvals: Sequence[int]) -> None:
        for name in approvals:
            if not self._asked[name].is_over:
                self._asked[name].is_over = True
                self._asked[name].task.cancel()
                await self._tell([approval_is_over(name, approved=None)])

    async def _permission(self, approval: WaitingApproval) -> None:
        name = approval["id"]
        call = approval_call(approval)
        shown = ToolCallUpdate(
            tool_call_id=call.tool_call_id,
            title=call.title,
            status="pending",
            raw_input=call.raw_input,
        )
        try:
            given = await self._client.request_permission(self._session.key, shown, [ALLOW, REJECT])
        except Exception as error:  # noqa: BLE001 - also of an answer that makes no sense
            _log.warning("The client was not asked for approval %d (%s).", name, error)
            return
        if not isinstance(given.outcome, AllowedOutcome):
            return  # its turn is cancelled; or else it goes on waiting, for whoever answers it
        approved = given.outcome.option_id == ALLOW.option_id
        self._asked[name].is_over = True
        # Told before it is answered: then it is told before the turn can end.
        await self._tell([approval_is_over(name, approved=approved)])
        key = f"acp-{uuid.uuid4()}"
        try:
            await reached(lambda: self._session.answer(name, approved, idempotency_key=key))
        except TerminalError as refusal:
            if refusal.status_code not in (404, 410):
                _log.warning("Approval %d was not answered (%s).", name, refusal)
            await self._tell([approval_is_over(name, approved=None)])


@dataclass
class _Permission:
    """An approval that the client was asked for."""

    turn: int
    task: "asyncio.Future[None]"
    is_over: bool = False

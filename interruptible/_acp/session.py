"""One session that an ACP client has open: what is said goes to it, what it does is told."""

import asyncio
import logging
import uuid
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal, cast

from acp.interfaces import Client
from restate import TerminalError

from interruptible._acp.content import PromptPart
from interruptible._acp.permissions import Permissions
from interruptible._acp.reaching import reached
from interruptible._acp.telling import Retelling, Update
from interruptible._stream.events import Event
from interruptible._wire.types import Outcome, Receipt, TakenBack, Turn, WaitingApproval
from interruptible.client import Session

LOOK: Final = 1.0
"""Seconds between two looks at a session that is at work and has no stream."""
FEW: Final = 4
"""Turns that are read of a conversation of which all but the last are known."""

_log = logging.getLogger("interruptible.acp")


class OpenSession:
    """A session, and the one client that has it open.

    Args:
        client: The way to the client.
        session: The session.
    """

    def __init__(self, client: Client, session: Session) -> None:
        self._client, self._session = client, session
        self._telling = Retelling()
        self._lock = asyncio.Lock()
        """What is told at once stays together, and in the order in which it was found out."""
        self._saying = asyncio.Lock()
        """What the client says arrives in the order in which it says it; also what it cancels."""
        self._waits: set[asyncio.Future[Any]] = set()
        self._permissions = Permissions(client, session, self._tell_locked)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()
        self._is_closed = False

    # -- Its life. ---------------------------------------------------------------------------------

    async def check(self) -> None:
        """Fail if there is no such agent, or the ingress does not answer."""
        await self._session.status()

    async def replay(self) -> None:
        """Tell all that has happened."""
        await self.check()
        async with self._lock:
            await self._catch_up()

    def follow(self) -> None:
        """Tell all that happens, from now on, and before that what has happened."""
        if not self._is_closed:  # it may have been opened once more meanwhile
            self._spawn(self._follow())

    async def close(self) -> None:
        """Stop telling; what is at work goes on."""
        self._is_closed = True
        open_ = [*self._tasks, *self._waits]
        for task in open_:
            task.cancel()
        if open_:
            await asyncio.wait(open_)
        await self._permissions.close()

    # -- What the client says. ---------------------------------------------------------------------

    async def prompt(self, content: str | list[PromptPart]) -> Outcome | TakenBack:
        """Send a message, and tell all of the turn that answers it.

        Returns:
            Its outcome; that it is withdrawn also if the session was closed or emptied meanwhile.

        Raises:
            TerminalError: It is refused.
        """
        self._telling.prompted()
        number = (await self._send(content))["message"]
        if self._is_closed:
            return {"status": "withdrawn"}
        wait = asyncio.ensure_future(self._unless_emptied(message=number))
        self._waits.add(wait)
        self._stirred.set()
        try:
            await asyncio.wait([wait])
            if wait.cancelled():  # it was closed
                return {"status": "withdrawn"}
            outcome = wait.result()
        finally:
            wait.cancel()
            self._waits.discard(wait)
        await self._tell_outcome(outcome)
        return outcome

    async def cancel(self) -> None:
        """Cancel all that is live: also what was said just before, and nothing said after."""
        async with self._saying:
            await reached(self._session.cancel)

    async def steer(
        self, content: str | list[PromptPart], *, only_if_at_work: bool
    ) -> Literal["steered", "begun", "idle"]:
        """Have the turn at work read this at once.

        Args:
            content: What.
            only_if_at_work: Whether nothing is to be done if there is no such turn. Otherwise it
                begins one.
        """
        while True:
            status = await reached(self._session.status)
            at_work = {x["turn"] for x in status["live"] if x["cancelled"] is None}
            turn = status["turn"] if status["turn"] in at_work else None
            if turn is None and only_if_at_work:
                return "idle"
            try:
                receipt = await self._send(
                    content, policy="steer", if_turn=turn, now=turn is not None
                )
            except TerminalError as refusal:
                if refusal.status_code != 412 or turn is None:  # noqa: PLR2004
                    raise
                continue  # it has ended meanwhile
            self._stirred.set()
            return "steered" if receipt["status"] in ("steered", "joined") else "begun"

    async def _send(self, content: str | list[PromptPart], **options: Any) -> Receipt:
        key = uuid.uuid4().hex
        async with self._saying:
            receipt = await reached(
                lambda: self._session.send(content, idempotency_key=key, **options)
            )
            self._telling.knows(receipt["message"])
            return receipt

    async def _sent(self) -> None:
        """Wait until it is known which messages are the client's own."""
        async with self._saying:
            return

    # -- What the client is told. ------------------------------------------------------------------

    async def _tell(self, updates: Sequence[Update]) -> None:
        for update in updates:
            await self._client.session_update(self._session.key, update)

    async def _unless_emptied(self, **which: int) -> Outcome | TakenBack:
        """The outcome of a turn or a message; if there is none any more, it was taken back."""
        attach: Any = self._session.attach
        try:
            return cast("Outcome | TakenBack", await reached(lambda: attach(**which)))
        except TerminalError as error:
            if error.status_code != 404:  # noqa: PLR2004
                raise
            return {"status": "withdrawn"}

    async def _tell_outcome(self, outcome: Outcome | TakenBack) -> None:
        if outcome["status"] == "withdrawn":
            return
        turn = outcome["turn"]
        async with self._lock:
            if self._telling.lags(turn):
                await self._catch_up()
                told = self._telling.outcome(turn, outcome["messages"], has_ids=False)
                await self._tell(told)
        await self._permissions.end(turn)

    async def _catch_up(self) -> None:
        """Tell what is on record and was not told yet."""
        await self._sent()
        known = self._telling.settled()
        turns: list[Turn] = []
        before: int | None = None
        while True:
            page = await self._page(before, FEW if known else None)
            turns = [*page["turns"], *turns]
            before = page["before"]
            if before is None or before <= known + 1:
                break
        for turn in turns:
            await self._tell(self._telling.record(turn))

    async def _page(self, before: int | None, limit: int | None) -> Any:
        return await reached(lambda: self._session.turns(before=before, limit=limit))

    async def _tell_input(self, turn: int) -> None:
        """Tell what was said by others in a turn that is at work."""
        await self._sent()
        for found in (await self._page(turn + 1, 1))["turns"]:
            if found["turn"] == turn:
                await self._tell(self._telling.input(turn, found["input"]))

    async def _follow(self) -> None:
        try:
            async with aclosing(self._session.follow()) as events:
                async for event in events:
                    await self._take(event)
        except TerminalError as error:
            if error.status_code != 404:  # noqa: PLR2004
                _log.warning("The stream cannot be followed (%s); answers come whole.", error)
        await self._look()

    async def _take(self, event: Event) -> None:
        async with self._lock:
            await self._tell(self._telling.event(event))
            if event["type"] == "gap":
                await self._catch_up()
            elif self._telling.asks_for_input(event):
                await self._tell_input(event["turn"])
        if self._telling.asks_for_outcome(event):
            await self._tell_outcome(await self._unless_emptied(turn=event["turn"]))
        if event["type"] in ("gap", "approval"):
            await self._ask((await reached(self._session.status))["waiting_for"])

    async def _look(self) -> None:
        """Without a stream: look what has happened, as long as something may."""
        while True:
            status = await reached(self._session.status)
            async with self._lock:
                await self._catch_up()
            await self._ask(status["waiting_for"])
            if status["status"] == "idle" and not self._waits:
                self._stirred.clear()
                await self._stirred.wait()
            else:
                await asyncio.sleep(LOOK)

    # -- How. --------------------------------------------------------------------------------------

    async def _tell_locked(self, updates: Sequence[Update]) -> None:
        async with self._lock:
            await self._tell(updates)

    async def _ask(self, waiting: list[WaitingApproval]) -> None:
        """Ask what is not asked yet, and no more what is over."""
        await self._permissions.keep(waiting)
        for approval in self._permissions.are_new(waiting):
            async with self._lock:
                await self._tell_input(approval["turn"])
            await self._permissions.ask(approval)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ConnectionError):  # the client is gone
            _log.error("What happens is not told any more.", exc_info=error)

"""The talk with one session: obeys what a person types, and keeps what is shown up to date.

It reads the record when the stream says that it may have changed, when a turn ends, after whatever
was typed, and now and then: others may talk to the session, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, TypeVar

import httpx
from restate import RestateClient, TerminalError

from examples.coding_agent.chat import orders, view
from examples.coding_agent.chat.orders import Order
from examples.coding_agent.chat.turns import Conversation, Record
from examples.coding_agent.chat.view import Row
from interruptible import Session

PAGE = 20  # turns that are read at a time
LOOK = 5.0  # seconds between two looks at the record when nothing has happened
AGAIN = 0.5  # seconds until what got no answer is tried again
LOOK_AGAIN = 0.1  # seconds until it is looked at again when it does not yet say what is known
T = TypeVar("T")


class Shows(Protocol):
    """What a talk needs of a screen."""

    @property
    def width(self) -> int:
        """How many cells a row may have."""

    def print(self, rows: list[Row]) -> None:
        """Print rows for good."""

    def changed(self) -> None:
        """What is live has changed."""

    def put_back(self, text: str) -> None:
        """Give back what was typed, and not sent."""

    def close(self) -> None:
        """End."""


class Answer(NamedTuple):
    """A yes or a no to what waits for it, or waited when the person last saw it."""

    approval: int
    yes: bool


class Talk:
    """A talk with one session.

    Args:
        client: The way to Restate.
        agent: The agent's name.
        key: The session's.
    """

    screen: Shows

    def __init__(self, client: RestateClient, agent: str, key: str) -> None:
        self.conversation = Conversation()
        self.unsent: list[str] = []
        self.trouble = ""
        self._session = Session(client, agent, key)
        self._typed: asyncio.Queue[Order | Answer] = asyncio.Queue()
        self._question: int | None = None
        self._stopping: set[int | None] = set()
        self._away = ""
        self._look = asyncio.Event()
        self._reading = asyncio.Lock()
        self._awaited: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # -- what the screen asks for ----------------------------------------------------------------

    def live_rows(self, width: int, height: int) -> list[Row]:
        """What is not for good yet."""
        away = self._away and f"{self._away} does not answer; it is tried again."
        trouble = "\n".join(filter(None, [self.trouble, away]))
        return view.live_rows(self.conversation, self.unsent, trouble, width, height)

    def status_row(self, typed: str, width: int) -> Row:
        """What is at work, and what the keys do."""
        return view.status_row(self.conversation, typed, width)

    def enter(self, typed: str) -> bool:
        """Do what was typed, after all that was typed before; says whether it was no order."""
        self.trouble = ""
        if not typed.strip():
            return False
        yes = orders.answer(typed)
        if yes is not None and self._question is not None:
            self._typed.put_nowait(Answer(self._question, yes))
            return False
        order = orders.read(typed)
        if isinstance(order, str):
            self.trouble = order
            return True
        if order.what == "help":
            self.screen.print(view.columns(view.HELP, self.screen.width))
        elif order.what == "quit":
            self.screen.close()
        elif order.what == "stop":
            self._stop(order.turn)
        else:
            self._stopping.clear()
            if order.sends:
                self.unsent.append(order.text)
            self._typed.put_nowait(order)
        return False

    def stop(self) -> bool:
        """Stop what is live after its step, or at once; says whether there is anything."""
        live = self.conversation.record.status["live"]
        busy = any(not x.get("given_up") for x in live) or bool(self.unsent)
        if busy:
            self._stop(None)
        return busy

    def _stop(self, turn: int | None) -> None:
        """Whoever says it again wants it at once."""
        again = turn in self._stopping or self.conversation.stops(turn)
        self._stopping.add(turn)
        self._typed.put_nowait(Order("cut" if again else "stop", turn=turn))

    # -- running ---------------------------------------------------------------------------------

    async def run(self, until: Awaitable[None]) -> None:
        """Talk until something ends; it fails as its parts do."""
        for part in (self._obey(), self._watch(), self._keep_reading()):
            self._spawn(part)
        ending = asyncio.ensure_future(until)
        try:
            await asyncio.wait({ending, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            self.screen.close()
            await ending
            if self._failed.done():
                self._failed.result()
        finally:
            tasks = [ending, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, part: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(part)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._failed.done():
            self._failed.set_exception(error)

    # -- obeying ---------------------------------------------------------------------------------

    async def _obey(self) -> None:
        while True:
            order = await self._typed.get()
            try:
                if isinstance(order, Answer):
                    await self._answer(order)
                else:
                    await self._do(order)
            except TerminalError as error:
                self.trouble = _why(order, error)
                if isinstance(order, Order) and order.text:
                    self.screen.put_back(order.typed)
            await self._refresh()
            if isinstance(order, Order) and order.sends:
                self.unsent.remove(order.text)
            self.screen.changed()

    async def _do(self, order: Order) -> None:
        """Do it once: Restate takes all tries of one key for one."""
        it, key = self._session, uuid.uuid4().hex
        turn = order.turn or self.conversation.last
        if order.sends:
            self._question = None
            now = order.what == "now"
            policy: Any = "steer" if now else order.what
            await self._patiently(
                lambda: it.send(order.text, policy=policy, now=now, idempotency_key=key)
            )
        elif order.message is not None:
            await self._change(order.what, order.message, order.text, key)
        elif order.what == "pending":
            await self._refresh()
            pending = self.conversation.record.pending
            self.screen.print(view.pending_rows(pending, self.screen.width))
        elif order.what in ("stop", "cut"):
            gently = order.what == "stop"
            await self._patiently(lambda: it.cancel(order.turn, after_step=gently))
        elif turn is None:
            self.trouble = "There is no turn yet."
        elif order.what == "continue":
            await self._patiently(lambda: it.resume(turn, idempotency_key=key))
        elif order.what == "again":
            await self._patiently(lambda: it.regenerate(turn, idempotency_key=key))
        elif order.what == "back":
            await self._patiently(lambda: it.rewind(turn, idempotency_key=key))
        elif order.what == "diff":
            answer = await self._patiently(lambda: it.call("get_diff", {"turn": turn}))
            self.screen.print(view.diff_rows(answer, self.screen.width))

    async def _change(self, what: str, message: int, text: str, key: str) -> None:
        """Change a message that waits, once."""
        it = self._session
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "withdraw": lambda: it.withdraw(message, idempotency_key=key),
            "replace": lambda: it.replace(message, text, idempotency_key=key),
            "promote": lambda: it.promote(message, "interrupt", idempotency_key=key),
            "now": lambda: it.promote(message, "steer", now=True, idempotency_key=key),
        }
        await self._patiently(calls[what])

    async def _answer(self, answer: Answer) -> None:
        key = uuid.uuid4().hex
        try:
            await self._patiently(lambda: self._session.answer(*answer, idempotency_key=key))
        finally:
            if self._question == answer.approval:
                self._question = None  # what is typed next is a message, also if this was too late

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Try until there is an answer."""
        while True:
            try:
                answer = await call()
            except httpx.TransportError as error:
                silent = isinstance(error, httpx.ReadTimeout)  # Restate waits for the worker
                self._away = "The worker" if silent else "Restate"
                self.screen.changed()
                await asyncio.sleep(AGAIN)
            else:
                self._away = ""
                return answer

    # -- the record ------------------------------------------------------------------------------

    async def _keep_reading(self) -> None:
        while True:
            self._look.clear()
            await self._refresh()
            seconds = LOOK if self.conversation.settled else LOOK_AGAIN
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._look.wait(), seconds)

    async def _refresh(self) -> None:
        try:
            await self._patiently(self._read)
        except TerminalError as error:
            self.trouble = error.message

    async def _read(self) -> None:
        """Read the record, and show what is new in it."""
        async with self._reading:
            it = self._session
            page, status = await asyncio.gather(it.turns(limit=PAGE), it.status())
            turns = page["turns"]
            while page["before"] is not None and self.conversation.needs_before(turns[0]):
                page = await it.turns(before=page["before"], limit=PAGE)
                turns = [*page["turns"], *turns]
            record = Record(turns, page["before"] is None, status)
            for news in self.conversation.read(record):
                self.screen.print(view.news_rows(news, self.screen.width))
        if record.approvals:
            self._ask(record.approvals[0])
        if not status["live"]:
            self._stopping.clear()
        for turn in turns:
            if turn["status"] == "running" and turn["turn"] not in self._awaited:
                self._awaited.add(turn["turn"])
                self._spawn(self._await_end(turn["turn"]))
        self.screen.changed()

    def _ask(self, asked: Mapping[str, Any]) -> None:
        if asked["id"] != self._question:
            self._question = asked["id"]
            rows = view.question_rows(asked, self.screen.width)
            if view.is_long(rows):
                self.screen.print([*rows, []])

    async def _await_end(self, turn: int) -> None:
        """Read the record when it has the end of a turn."""
        try:
            await self._patiently(lambda: self._session.attach(turn))
        except TerminalError:
            await asyncio.sleep(AGAIN)  # it was removed, as the record will say
        self._awaited.discard(turn)
        self._look.set()

    # -- the stream ------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Follow the stream."""
        while True:
            try:
                async for event in self._session.follow():
                    if self.conversation.hear(event):
                        self._look.set()
                    self.screen.changed()
            except TerminalError as error:
                self.trouble = error.message
                await asyncio.sleep(AGAIN)


def _why(order: Order | Answer, error: TerminalError) -> str:
    """Why an order was refused; who was too late is told no more than that."""
    if isinstance(order, Answer) and error.status_code == HTTPStatus.GONE:
        return "Too late: it was answered, or its turn is stopped or over."
    if (
        isinstance(order, Order)
        and order.message
        and error.status_code == HTTPStatus.PRECONDITION_FAILED
    ):
        return f"Too late: message {order.message} was just read, or taken back."
    return str(error.message)

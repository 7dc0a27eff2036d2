"""The talk with one session: obeys what a person types, and keeps what is shown up to date.

It reads the record when the stream says that it may have changed, after whatever was typed, and
now and then: others may talk to the session, too. Whatever gets no answer is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import anyio
import httpx
from restate import RestateClient, TerminalError

from examples.coding_agent.chat import orders, view
from examples.coding_agent.chat.orders import OF_LAST, ORDERS, Order
from examples.coding_agent.chat.screen import Screen
from examples.coding_agent.chat.turns import Conversation
from examples.coding_agent.chat.view import Line
from interruptible import Session

PAGE = 20  # turns that are read at a time
LOOK = 5.0  # seconds between two looks at the record when nothing has happened
LOOK_AGAIN = 0.1  # seconds until it is looked at again when it does not yet say what is known
AGAIN = 0.5  # seconds until what got no answer is tried again
COMING_UP = "make sure to register"  # says a Restate that has just come up, of all services
SHOWN = {"/diff": view.diff, "/pending": view.pending}  # answers that are printed
T = TypeVar("T")


class Talk:
    """A talk with one session, in the terminal of this process."""

    def __init__(self, client: RestateClient, agent: str, key: str, label: str) -> None:
        self.conversation = Conversation()
        self.screen = Screen(label, self)
        self._session = Session(client, agent, key)
        self._typed: asyncio.Queue[Order] = asyncio.Queue()
        self._unsent: list[str] = []
        self._asked: int | None = None  # the approval that a person has seen last
        self._trouble = self._away = ""
        self._unknown = 0  # how often it may say so: after it was away
        self._look = asyncio.Event()
        self._reading = asyncio.Lock()

    async def run(self) -> None:
        """Talk until the screen is closed."""
        async with anyio.create_task_group() as parts:
            for part in (self._obey, self._follow, self._keep_reading):
                parts.start_soon(part)
            await self.screen.run()
            parts.cancel_scope.cancel()

    def live(self) -> Iterator[Line]:
        """What is not for good yet."""
        away = self._away and f"{self._away} does not answer; it is tried again."
        trouble = "\n".join(filter(None, [self._trouble, away]))
        return view.live(self.conversation, self._unsent, trouble)

    def status(self, typed: str) -> tuple[Line, Sequence[str]]:
        """What is at work, and what the keys do."""
        return view.status(self.conversation, typed)

    def enter(self, typed: str) -> bool:
        """Do what was typed, after all that was typed before; says whether it was no order."""
        order = orders.read(typed, self._asked) if typed.strip() else None
        self._trouble = order if isinstance(order, str) else ""
        if isinstance(order, Order):
            if order.name == "/help":
                self.screen.print(view.columns(orders.HELP))
            elif order.name == "/quit":
                self.screen.close()
            else:
                self._unsent += [order.text] * order.sends
                self._typed.put_nowait(order)
        return bool(self._trouble)

    def stop(self) -> bool:
        """Stop what is live after its step, or at once; says whether there is anything."""
        live = self.conversation.status["live"]
        busy = any(not x.get("given_up") for x in live) or bool(self._unsent)
        if busy:
            self._typed.put_nowait(Order("/stop"))
        return busy

    async def _obey(self) -> None:
        while True:
            order = await self._typed.get()
            if order.sends:
                self._asked = None  # there is something else to be done
            try:
                answer = await self._do(order)
                if show := SHOWN.get(order.name):
                    self.screen.print(show(answer))
            except TerminalError as error:
                self._trouble = error.message
                if error.status_code == HTTPStatus.GONE:
                    self._trouble = "Too late: it was answered, or its turn is stopped or over."
                elif error.status_code == HTTPStatus.PRECONDITION_FAILED and order.is_of_message:
                    which = f"message {order.number}"
                    self._trouble = f"Too late: {which} was just read, or taken back."
                if order.text:
                    self.screen.put_back(order.typed)
            if order.name in ("y", "n") and self._asked == order.number:
                self._asked = None  # what is typed next is a message, also if this was too late
            await self._read()
            if order.sends:
                self._unsent.remove(order.text)
            self.screen.changed()

    async def _do(self, order: Order) -> Any:
        """Decide once what it is about, and try until there is an answer."""
        order.again = self.conversation.stops(order.number)
        if order.name in OF_LAST and order.number is None:
            order.number = self.conversation.last.get("turn")
            if order.number is None:
                raise TerminalError("There is no turn yet.")
        return await self._patiently(lambda: ORDERS[order.name][1](self._session, order))

    async def _follow(self) -> None:
        while True:
            try:
                async for event in self._session.follow():
                    if self.conversation.hear(event):
                        self._look.set()
                    self.screen.changed()
            except TerminalError as error:
                self._trouble = error.message
                await asyncio.sleep(AGAIN)

    async def _keep_reading(self) -> None:
        while True:
            self._look.clear()
            await self._read()
            with anyio.move_on_after(LOOK if self.conversation.settled else LOOK_AGAIN):
                await self._look.wait()

    async def _read(self) -> None:
        """Read the record as far back as it may have changed, and show what is new in it."""
        it, known = self._session, self.conversation

        async def record() -> Any:
            page, status = await asyncio.gather(it.turns(limit=PAGE), it.status())
            turns = page["turns"]
            while page["before"] is not None and known.needs_before(turns[0]):
                page = await it.turns(before=page["before"], limit=PAGE)
                turns = [*page["turns"], *turns]
            return {"turns": turns, "status": status, "complete": page["before"] is None}

        async with self._reading:
            try:
                news = known.read(**await self._patiently(record))
            except TerminalError as error:
                self._trouble = error.message
                return
            self.screen.print(view.news(news))
        for asked in known.status["waiting_for"][:1]:
            if asked["id"] != self._asked and view.is_long(asked):
                self.screen.print(view.question(asked))
            self._asked = asked["id"]
        self.screen.changed()

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Try until there is an answer."""
        while True:
            try:
                answer = await call()
            except httpx.TransportError as error:
                silent = isinstance(error, httpx.ReadTimeout)  # Restate waits for the worker
                self._away, self._unknown = "The worker" if silent else "Restate", 20
                self.screen.changed()
                await asyncio.sleep(AGAIN)
            except TerminalError as error:
                if self._unknown <= 0 or COMING_UP not in error.message:
                    raise
                self._unknown -= 1
                await asyncio.sleep(AGAIN)
            else:
                self._away = ""
                return answer

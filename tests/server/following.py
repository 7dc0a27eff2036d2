"""A follower of a session, as a page would be one: what it knows after each event of the stream.

`View` is the rules: it is told of events and of the record, and says what it would show. `Follower`
feeds one from `Session.follow`, and reads the record where the rules say so.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from restate import TerminalError

from interruptible.formats._calls import id_answered

from .conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from interruptible import Session
    from interruptible.testing import Restate

PATIENCE = 30
"""Seconds that something may take which has to happen."""

Ended = tuple[str, list[Any]]
"""A turn that is over: how it ended, and what it put out."""


@dataclass
class LiveTurn:
    """A turn of which the stream tells."""

    status: str | None = None
    messages: list[Any] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    def add(self, message: dict[str, Any]) -> None:
        """One more message, which replaces what was live of it."""
        self.messages.append(message)
        if message["role"] == "assistant":
            self.text = self.reasoning = ""
        content = message.get("content")
        for part in (message, *(content if isinstance(content, list) else [])):
            if isinstance(part, dict) and (call := id_answered(part)) is not None:
                self.outputs.pop(call, None)

    def end(self, status: str) -> None:
        self.status = status
        self.text = self.reasoning = ""
        self.outputs.clear()


class View:
    """What a follower knows: the record as it has read it last, and what was told since."""

    def __init__(self) -> None:
        self.recorded: dict[int, Ended] = {}
        self.live: dict[int, LiveTurn] = {}
        self.discarded: set[int] = set()

    def read(self, record: Sequence[Any]) -> None:
        """There was a gap: what was live is forgotten, and this is the record."""
        self.live = {}
        self.recorded = {
            x["turn"]: (x["status"], x["messages"]) for x in record if x["status"] != "running"
        }
        self.discarded = {x["turn"] for x in record if x.get("discarded")}

    def take(self, event: dict[str, Any]) -> None:
        """The next event; a gap is for `read`."""
        if event["type"] == "discarded":
            self.discarded |= {*event["turns"]}
            return
        if event["turn"] in self.recorded or event["type"] in ("gap", "pending"):
            return
        if event["type"] == "turn" and event["state"] == "begins":
            self.live[event["turn"]] = LiveTurn()
            return
        turn = self.live.setdefault(event["turn"], LiveTurn())
        match event["type"]:
            case "turn":
                turn.end(event["status"])
            case "message" | "steered":
                turn.add(event["message"])
            case "text":
                turn.text += event["text"]
            case "reasoning":
                turn.reasoning += event["text"]
            case "output":
                turn.outputs[event["call"]] = turn.outputs.get(event["call"], "") + event["text"]

    @property
    def ended(self) -> dict[int, Ended]:
        """The turns of the conversation that are over, as it would show them."""
        told = {n: (x.status, x.messages) for n, x in self.live.items() if x.status is not None}
        return {n: x for n, x in {**told, **self.recorded}.items() if n not in self.discarded}

    @property
    def now(self) -> LiveTurn:
        """The newest turn that has not ended."""
        return next((x for _, x in sorted(self.live.items(), reverse=True) if not x.status), _NONE)

    @property
    def text(self) -> str:
        """What the model is saying."""
        return self.now.text

    @property
    def outputs(self) -> dict[str, str]:
        """What comes of the calls."""
        return self.now.outputs


_NONE = LiveTurn()


class Follower:
    """Follows a session within `async with`.

    Args:
        session: The session.
        after: The last event that is known.
        view: What is known by then.
        check: Is called after each event; what it raises comes out of `until`.
    """

    def __init__(
        self,
        session: Session,
        after: int | None = None,
        view: View | None = None,
        check: Callable[[Self], None] = lambda _: None,
    ) -> None:
        self.session, self.after, self.view = session, after, view or View()
        self.events: list[Any] = []
        self._check = check
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._run())
        self._task.add_done_callback(lambda _: self._changed.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            await self._task

    async def until(self, check: Callable[[View], Any], what: str = "it") -> None:
        """Wait until that holds of what it knows; after a gap it may know nothing of a turn."""

        def holds() -> Any:
            try:
                return check(self.view)
            except KeyError:
                return False

        async def wait() -> None:
            while not holds():
                if self._task.done():
                    await self._task
                self._changed.clear()
                await self._changed.wait()

        try:
            await asyncio.wait_for(wait(), PATIENCE)
        except asyncio.TimeoutError:
            msg = f"{what} did not come; the view is {self.view.__dict__} after {self.events[-20:]}"
            raise AssertionError(msg) from None

    async def until_text(self, text: str) -> None:
        """Wait until the model has said just that since its last message."""
        await self.until(lambda view: view.text == text, f"{text!r}")

    async def until_event(self, last: int) -> None:
        """Wait until it has an event as late as this."""
        await self.until(lambda _: (self.after or 0) >= last, f"event {last}")

    async def _run(self) -> None:
        async with aclosing(self.session.follow(self.after)) as events:
            async for event in events:
                await self.take(dict(event))

    async def take(self, event: dict[str, Any]) -> None:
        """One event more; their ids grow."""
        assert event["id"] > (self.after or 0), f"{event} came after event {self.after}"
        self.after = event["id"]
        self.events.append(event)
        if event["type"] == "gap":
            self.view.read(await record_of(self.session))
        self.view.take(event)
        self._changed.set()
        self._check(self)


async def record_of(session: Session) -> list[Any]:
    """The record of all turns, whatever happens to the server meanwhile."""
    while True:
        try:
            return list((await session.turns())["turns"])
        except (httpx.TransportError, TerminalError) as error:
            if isinstance(error, TerminalError) and error.status_code < 500:
                raise
            await asyncio.sleep(0.02)


async def ended_of(session: Session) -> dict[int, Ended]:
    """What every follower has to come to."""
    return {
        x["turn"]: (x["status"], x["messages"])
        for x in await record_of(session)
        if not x.get("discarded")
    }


async def pull(session: Session, **body: Any) -> Any:
    return await session._call("pull", {"wait": 0, **body}, of="Stream")


async def told_all(env: Restate, session: Session) -> int:
    """Wait until nothing is under way; returns the id of the last event."""
    agent = session._agent
    names = f"'{agent}', '{agent.removesuffix('Agent')}Task', '{agent}Stream'"
    where = (
        f"target_service_name IN ({names}) AND status != 'completed' "
        f"AND (target_service_key = '{session.key}' OR target_service_key IS NULL) "
        f"AND target_handler_name NOT IN ('pull', 'subscribe')"
    )

    async def quiet() -> bool:
        return not await env.invocations(where)

    await eventually(quiet)
    return int((await pull(session, offset=0))["nextOffset"])


async def all_converge(env: Restate, session: Session, *followers: Follower) -> None:
    """Wait until nothing is under way; these, and one that comes now, then know the record."""
    last = await told_all(env, session)
    record = await ended_of(session)
    async with Follower(session) as late:
        for follower in (*followers, late):
            await follower.until_event(last)
            assert follower.view.ended == record, follower.events


def stays(events: Sequence[Any]) -> list[Any]:
    """Events without their ids, and without those that tell of pieces or of a gap."""
    return [
        {name: x for name, x in event.items() if name != "id"}
        for event in events
        if event["type"] not in ("text", "reasoning", "output", "gap")
    ]

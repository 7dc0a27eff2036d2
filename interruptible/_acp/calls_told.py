"""What an ACP client has been told of a turn's calls of tools. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from acp import start_tool_call, tool_content, update_tool_call
from acp.schema import ContentToolCallContent, ToolCallProgress, ToolCallStart, ToolCallStatus

from interruptible._acp.content import blocks_of_content
from interruptible._stream.events import OutputEvent, ToolEvent
from interruptible._wire.checks import Malformed, parse
from interruptible._wire.types import Message, WaitingApproval
from interruptible.formats._calls import Call, answers, calls_of, id_answered
from interruptible.formats._values import as_json, items, text_in, type_of, value_in

SHOWN: Final = 8000
"""Characters of the output of a call that runs: each update has all that is shown."""


@dataclass
class _CallTold:
    """A call as the client knows it."""

    id: str
    status: ToolCallStatus
    call: Call | None = None
    output: str = ""
    has_ended: bool = False

    @property
    def is_over(self) -> bool:
        return self.status in ("completed", "failed")


@dataclass
class CallsTold:
    """The calls of a turn: its tools are called by an id of their own, which no other turn has."""

    turn: int
    _calls: dict[str, _CallTold] = field(default_factory=dict[str, _CallTold])
    _count: int = 0

    def hear_again(self) -> None:
        """What comes of the calls that run is said again, from the beginning."""
        for told in self._calls.values():
            told.output = ""

    def called(self, message: Message) -> Iterator[ToolCallStart | ToolCallProgress]:
        """The assistant calls tools."""
        for call in calls_of(message):
            told = self._calls.get(call.id or call.name)
            arguments = _arguments_of(call)
            if told is None or told.is_over:
                yield self._start(call.id or call.name, call.name, "pending", arguments)
                self._calls[call.id or call.name].call = call
            else:
                told.call = call
                yield update_tool_call(told.id, title=call.name, raw_input=arguments)

    def answered(self, message: Message) -> Iterator[ToolCallStart | ToolCallProgress]:
        """A message has results."""
        for given in (message, *items(message.get("content"))):
            if (call := id_answered(given)) is None:
                continue
            told = self._answered_by(given, call)
            if told is None:
                name = text_in(given, "name") or text_in(given, "tool_name")
                yield self._start(call or name, name or "tool", "in_progress")
                told = self._calls[call or name]
            inner = given["toolResult"] if type_of(given) == "toolResult" else given
            failed = value_in(inner, "is_error") is True or value_in(inner, "status") == "error"
            told.status = "failed" if failed else "completed"
            shown = _shown(value_in(inner, "content"))
            yield update_tool_call(told.id, status=told.status, content=shown)

    def heard(self, event: ToolEvent | OutputEvent) -> Iterator[ToolCallStart | ToolCallProgress]:
        """The stream tells what becomes of a call."""
        told = self._calls.get(event["call"])
        if told is not None and told.is_over:
            return
        if event["type"] == "output":
            if told is None:
                yield self._start(event["call"], "tool", "in_progress")
                told = self._calls[event["call"]]
            told.output += event["text"]
            told.status = "in_progress"
            shown = _shown(told.output[-SHOWN:])
            yield update_tool_call(told.id, status=told.status, content=shown)
        elif told is None:
            begins = event["state"] == "begins"
            yield self._start(event["call"], event["name"], "in_progress" if begins else "pending")
            if event["state"] in ("ends", "cut off"):
                yield from self.heard(event)
        elif event["state"] == "ends":
            told.has_ended = True
        elif event["state"] == "cut off":
            yield self._end(told, "failed")
        elif event["state"] == "begins" and told.status == "pending":
            told.status = "in_progress"
            yield update_tool_call(told.id, status=told.status)

    def end(self) -> Iterator[ToolCallProgress]:
        """The turn is over, so its calls are."""
        for told in self._calls.values():
            if not told.is_over:
                yield self._end(told, "completed" if told.has_ended else "failed")

    def _start(
        self, call: str, title: str, status: ToolCallStatus, arguments: Any = None
    ) -> ToolCallStart:
        self._count += 1
        made = _CallTold(f"{self.turn}/{self._count}/{call}", status)
        self._calls[call] = made
        return start_tool_call(made.id, title, status=status, raw_input=arguments)

    def _end(self, told: _CallTold, status: ToolCallStatus) -> ToolCallProgress:
        told.status = status
        return update_tool_call(told.id, status=status)

    def _answered_by(self, given: Message, call: str) -> _CallTold | None:
        if call:
            return self._calls.get(call)
        known = (x for x in self._calls.values() if x.call is not None and not x.is_over)
        return next((x for x in known if x.call is not None and answers(given, x.call)), None)


# -- Approvals, which are shown as calls. ----------------------------------------------------------


def approval_call(approval: WaitingApproval) -> ToolCallStart:
    """What is asked, as a call that waits for somebody's yes."""
    name, asked = _name_of_approval(approval["id"]), approval.get("value")
    return start_tool_call(name, approval["title"], status="pending", raw_input=asked)


def approval_is_over(approval: int, *, approved: bool | None) -> ToolCallProgress:
    """It was answered with yes or no, or, with `None`, not by this client."""
    name = _name_of_approval(approval)
    if approved is not None:
        return update_tool_call(name, status="completed" if approved else "failed")
    why = "Nobody is asked any more: it was answered elsewhere, or its time or its turn is over."
    return update_tool_call(name, status="completed", content=_shown(why))


def _name_of_approval(approval: int) -> str:
    return f"approval/{approval}"


def _arguments_of(call: Call) -> Any:
    """The arguments of a call, as JSON if they are."""
    body = call.whole
    for key in ("function", "custom", "toolUse"):
        if isinstance(inner := value_in(body, key), dict):
            body = inner  # pyright: ignore[reportUnknownVariableType]
            break
    given = next(
        (x for key in ("arguments", "input") if (x := value_in(body, key)) is not None), None
    )
    if not isinstance(given, str):
        return given
    parsed = parse(given.encode(errors="surrogatepass"))
    return given if isinstance(parsed, Malformed) else parsed


def _shown(content: Any) -> list[ContentToolCallContent]:
    """What came of a call."""
    blocks = blocks_of_content(content)
    if not blocks and content:
        blocks = blocks_of_content(as_json(content))
    return [tool_content(block) for block in blocks]

"""A client of AG-UI for tests, and what AG-UI's validator says of what it heard."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import httpx
import pytest
from ag_ui.core import BaseEvent, Message


class Client:
    """What a client makes of the events: as npm's `@ag-ui/client` 1.0 does."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self.messages: list[dict[str, Any]] = [x.model_dump(by_alias=True) for x in messages]
        self.heard: list[dict[str, Any]] = []
        self.custom: list[Any] = []

    def hear(self, events: Iterable[BaseEvent]) -> None:
        for event in events:
            self.apply(json.loads(event.model_dump_json(by_alias=True)))

    def apply(self, e: dict[str, Any]) -> None:
        self.heard.append(e)
        of = {x["id"]: x for x in self.messages}
        match e["type"]:
            case "TEXT_MESSAGE_START":
                if e["messageId"] not in of:
                    made = {"id": e["messageId"], "role": e["role"], "content": ""}
                    self.messages.append(made)
            case "TEXT_MESSAGE_CONTENT":
                message = of[e["messageId"]]
                message["content"] = (message.get("content") or "") + e["delta"]
            case "TOOL_CALL_START":
                tool = {"name": e["toolCallName"], "arguments": ""}
                call = {"id": e["toolCallId"], "type": "function", "function": tool}
                of[e["parentMessageId"]].setdefault("toolCalls", []).append(call)
            case "TOOL_CALL_ARGS":
                self._call(e)["function"]["arguments"] += e["delta"]
            case "TOOL_CALL_RESULT":
                made = {"role": "tool", "content": e["content"], "toolCallId": e["toolCallId"]}
                self.messages.append({"id": e["messageId"], **made})
            case "MESSAGES_SNAPSHOT":
                new = {x["id"]: x for x in e["messages"]}
                kept = [new[x["id"]] for x in self.messages if x["id"] in new]
                had = {x["id"] for x in kept}
                self.messages = [*kept, *(x for x in e["messages"] if x["id"] not in had)]
            case "CUSTOM":
                self.custom.append((e["name"], e["value"]))

    def _call(self, e: dict[str, Any]) -> Any:
        calls = [y for x in self.messages for y in x.get("toolCalls") or ()]
        return next(x for x in calls if x["id"] == e["toolCallId"])

    @property
    def shown(self) -> list[Any]:
        return shown(self.messages)


class Page(Client):
    """A page of a browser that runs an agent, over HTTP.

    Args:
        http: What reaches the gateway.
        agent: The agent.
        thread: The session.
    """

    def __init__(self, http: httpx.AsyncClient, agent: str, thread: str) -> None:
        super().__init__()
        self._http, self._url, self._thread = http, f"/ag-ui/{agent}", thread

    def say(self, content: Any, name: str | None = None) -> None:
        name = name or f"{self._thread}-{len(self.messages)}"
        self.messages.append({"id": name, "role": "user", "content": content})

    async def until(self, check: Callable[[list[Any]], bool]) -> None:
        """What the page shows is so, at last."""
        async with asyncio.timeout(60) if hasattr(asyncio, "timeout") else AsyncExitStack():
            while not check(self.shown):
                await asyncio.sleep(0.01)

    async def run(
        self,
        run: str,
        *,
        until: Callable[[dict[str, Any]], bool] | None = None,
        mode: str | None = None,
        resume: Sequence[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Run the agent on what was said; returns the last event that was heard.

        Args:
            run: The run's id.
            until: Of which event on it hears nothing more, and hangs up.
            mode: The policy.
            resume: What is answered.
        """
        body: dict[str, Any] = {"threadId": self._thread, "runId": run, "messages": self.messages}
        body |= {"state": {}, "tools": [], "context": []}
        body["forwardedProps"] = {"mode": mode} if mode else {}
        if resume is not None:
            body["resume"] = resume
        async with self._http.stream("POST", self._url, json=body) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            async with events_of(answer) as events:
                async for _, event in events:
                    self.apply(event)
                    if until is not None and until(event):
                        break
        return self.heard[-1]


@asynccontextmanager
async def events_of(answer: httpx.Response) -> AsyncIterator[AsyncIterator[tuple[str | None, Any]]]:
    """The server-sent events of an answer: the id of each, and its data.

    Who hears no more closes them: what is left to the garbage collector ends in another test.
    """
    async with aclosing(answer.aiter_lines()) as lines, aclosing(_events_in(lines)) as events:  # type: ignore[type-var]
        yield events


async def _events_in(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str | None, Any]]:
    name: str | None = None
    data: list[str] = []
    async for line in lines:
        field, _, value = line.partition(": ")
        if field == "id":
            name = value
        elif field == "data":
            data.append(value)
        elif not line and data:
            yield name, json.loads("\n".join(data))
            data = []


def shown(messages: Iterable[dict[str, Any]]) -> list[Any]:
    return [
        (x["id"], x["role"], x.get("content") or "", *calls_in(x))
        for x in messages
        if x["role"] != "reasoning"
    ]


def calls_in(message: dict[str, Any]) -> list[Any]:
    return [(x["id"], x["function"]["arguments"]) for x in message.get("toolCalls") or ()]


def complaints(heard: Sequence[dict[str, Any]]) -> list[str]:
    """What AG-UI's validator says of a run of these events."""
    if sys.version_info < (3, 11):
        pytest.skip("AG-UI's validator needs Python 3.11")
    from ag_ui_validate import create_validator  # noqa: PLC0415 - see above

    validator = create_validator()
    for x in heard:
        validator.feed(x)
    validator.finalize()
    return [f"{x.rule} {x.message}" for x in validator.report().diagnostics]

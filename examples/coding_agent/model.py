"""One call to the model: any endpoint that speaks OpenAI's protocol, streamed.

Read here how its words are told as they come, how a call that is interrupted hangs up, and which
failures are tried again: by Restate, and by nobody else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from openai import APIStatusError, AsyncOpenAI
from restate import TerminalError

RETRIED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)


@dataclass(frozen=True)
class Model:
    """Where the model is.

    Attributes:
        name: Which model.
        base_url: Of the endpoint; by default OpenAI's.
        key: Its key.
        most: Characters of one answer; what comes after is not waited for, nor paid.
    """

    name: str
    base_url: str | None = None
    key: str = ""
    most: int = 200_000

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.base_url!r})"  # without the key

    async def complete(
        self,
        messages: list[Any],
        tools: list[Any],
        say: Callable[[str], None],
        tell: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        """Ask for the next message; when this is cancelled, the request is cut off.

        Args:
            messages: The conversation.
            tools: What it may call.
            say: Is given the text of the answer as it comes.
            tell: Is given the events `{"type": "model", "state": …}`: it "begins"; it is "cut off";
                it "fails", and `text` says why.

        Raises:
            TerminalError: The endpoint refuses the request, and would again.
        """
        tell({"type": "model", "state": "begins"})
        try:
            return await self._stream(messages, tools, say)
        except asyncio.CancelledError:
            tell({"type": "model", "state": "cut off"})
            raise
        except Exception as error:
            why = str(error.message if isinstance(error, APIStatusError) else error)
            tell({"type": "model", "state": "fails", "text": why})
            if isinstance(error, APIStatusError) and is_final(error.status_code):
                # With a status of our own: Restate's tools would show a 409 as cancelled.
                raise TerminalError(f"The model refused the request: {why}") from error
            raise

    async def _stream(
        self, messages: list[Any], tools: list[Any], say: Callable[[str], None]
    ) -> dict[str, Any]:
        text, size = "", 0
        calls: dict[int, dict[str, Any]] = {}
        # No retries here, for Restate retries.
        async with AsyncOpenAI(base_url=self.base_url, api_key=self.key, max_retries=0) as client:
            stream = await client.chat.completions.create(
                model=self.name, messages=messages, tools=tools, stream=True
            )
            async with stream:
                async for chunk in stream:
                    delta = chunk.choices[0].delta if chunk.choices else None
                    if delta is None:
                        continue
                    if delta.content:
                        text += delta.content
                        size += len(delta.content)
                        say(delta.content)
                    for part in delta.tool_calls or ():
                        size += _add(calls, part)
                    if size > self.most:
                        calls.clear()  # the last may be half said
                        text += "\n[Cut off: this answer was too long.]"
                        break
        answer: dict[str, Any] = {"role": "assistant", "content": text or None}
        if calls:
            used = {x["id"] for m in messages for x in m.get("tool_calls") or ()}
            answer["tool_calls"] = _named([calls[x] for x in sorted(calls)], used)
        return answer


def is_final(status: int) -> bool:
    """Whether the endpoint would refuse the same request again."""
    return status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in RETRIED


def _add(calls: dict[int, dict[str, Any]], part: Any) -> int:
    """Add a piece of a tool call; returns how long it is."""
    function = {"name": "", "arguments": ""}
    call = calls.setdefault(part.index, {"id": "", "type": "function", "function": function})
    call["id"] = part.id or call["id"]
    if part.function is None:
        return 0
    call["function"]["name"] += part.function.name or ""
    call["function"]["arguments"] += part.function.arguments or ""
    return len(part.function.name or "") + len(part.function.arguments or "")


def _named(calls: list[dict[str, Any]], used: set[str]) -> list[dict[str, Any]]:
    """Give each call an id of its own, where the endpoint did not."""
    for call in calls:
        if not call["id"] or call["id"] in used:
            call["id"] = f"call_{len(used) + 1}_{os.urandom(3).hex()}"
        used.add(call["id"])
    return calls


def from_environment() -> Model | None:
    """The model of `OPENAI_API_KEY`, `OPENAI_BASE_URL` and `OPENAI_MODEL`; none without a key."""
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        return None
    url = os.environ.get("OPENAI_BASE_URL") or None
    return Model(os.environ.get("OPENAI_MODEL") or "gpt-4o-mini", url, key)

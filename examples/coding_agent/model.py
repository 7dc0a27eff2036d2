"""One call to the model: any endpoint that speaks OpenAI's protocol, streamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from openai import APIStatusError, AsyncOpenAI
from restate import TerminalError

from examples.coding_agent.live import Watched

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
        watched: Watched,
        number: int,
    ) -> dict[str, Any]:
        """Ask for the next message; when this is cancelled, the request is cut off.

        Args:
            messages: The conversation.
            tools: What it may call.
            say: Is given the text of the answer as it comes.
            watched: Where the same goes for whoever watches.
            number: Which call of the turn this is.

        Raises:
            TerminalError: The endpoint refuses the request, and would again.
        """
        watched.publish("model", model=number, state="begins")
        state, why = "cut off", {}
        try:
            answer = await self._stream(messages, tools, say, watched, number)
            state = "ends"
        except APIStatusError as error:
            state, why = "fails", {"text": str(error.message)}
            if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR and (
                error.status_code not in RETRIED
            ):
                # With a status of our own: Restate's tools would show a 409 as cancelled.
                raise TerminalError(f"The model refused the request: {error.message}") from error
            raise
        except Exception as error:
            state, why = "fails", {"text": str(error)}
            raise
        finally:
            watched.publish("model", model=number, state=state, **why)
        return answer

    async def _stream(
        self,
        messages: list[Any],
        tools: list[Any],
        say: Callable[[str], None],
        watched: Watched,
        number: int,
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
                        watched.publish("token", model=number, text=delta.content)
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

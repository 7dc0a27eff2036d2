"""Google ADK's events, whose contents are Gemini's; google-adk has to be installed.

Who speaks stands in events alone. It is the agent to which the last `transfer_to_agent` led.
"""

import json
from collections.abc import Iterable
from typing import Final

from google.adk.agents import BaseAgent
from google.adk.events import Event
from google.genai import types
from pydantic_core import to_jsonable_python

from interruptible._wire.native import with_native
from interruptible._wire.types import Message
from interruptible.formats import _neutral, gemini

__all__ = ["from_messages", "to_messages"]

TRANSFER: Final = "transfer_to_agent"
INTERNAL: Final = "adk_request_"
"""How the names of calls begin by which ADK asks its caller for something: no model gets them."""
UNSEEN: Final = "adk-"
"""How the ids of calls begin that ADK tells to those models alone that need ids."""


def to_messages(event: Event) -> list[Message]:
    """Make messages of an event, to be put out by a task.

    Each result of a tool is one message, and what the agent says is another.

    Args:
        event: An event that is whole; not one of the user's own words.
    """
    parts = (event.content and event.content.parts) or []
    results = [_result(x.function_response) for x in parts if x.function_response]
    said = [x for x in parts if not x.function_response and not _is_internal(x.function_call)]
    if not said or event.author == "user":
        return results
    # Words beside a result are what the user is told of it.
    return results + gemini.to_messages([types.Content(role="model", parts=said)])


def from_messages(messages: Iterable[Message], root: BaseAgent) -> list[Event]:
    """Make events of messages, for a session.

    Args:
        messages: `task.messages`, for example; of any provider.
        root: The agent that speaks first.
    """
    speaker, events, called = root.name, list[Event](), dict[str, types.FunctionCall]()
    for message in messages:
        made = (call.id for call in _neutral.calls(message))
        answered = (call for call, _ in _neutral.results(message))
        for given in gemini.from_messages([message]):
            # Only in JSON are signatures and data read as the bytes that they are.
            content = types.Content.model_validate_json(json.dumps(given))
            results: list[types.Part] = []
            said: list[types.Part] = []
            next_speaker = speaker
            for part in content.parts or []:
                if part.function_call:
                    own = next(made, "")
                    part.function_call.id = part.function_call.id or UNSEEN + own
                    called[own] = part.function_call
                if result := part.function_response:
                    call = called.get(next(answered, ""), types.FunctionCall())
                    result.id, result.name = call.id or result.id, call.name or result.name
                    next_speaker = _led_to(call, result, root) or next_speaker
                (results if part.function_response else said).append(part)
            _add(events, speaker, "user", results)
            speaker = next_speaker
            _add(events, "user" if content.role == "user" else speaker, content.role, said)
    return events


def _add(events: list[Event], author: str, role: str | None, parts: list[types.Part]) -> None:
    """Add an event; results of one answer are one event."""
    last = events[-1].content if events and events[-1].get_function_responses() else None
    if last and last.parts and parts and parts[0].function_response:
        last.parts += parts
    elif parts:
        events.append(Event(author=author, content=types.Content(role=role, parts=parts)))


def _led_to(
    call: types.FunctionCall, result: types.FunctionResponse, root: BaseAgent
) -> str | None:
    """The agent that speaks from here on, if the call was to lead to one, and has."""
    if call.name != TRANSFER or "result" not in (result.response or {}):
        return None
    to = root.find_agent(str((call.args or {}).get("agent_name")))
    return None if to is None else to.name


def _result(given: types.FunctionResponse) -> Message:
    response = to_jsonable_python(given.response or {}, fallback=str)
    result = given.model_copy(update={"response": response})
    content = types.Content(role="user", parts=[types.Part(function_response=result)])
    [message] = gemini.to_messages([content])
    if response.keys() == {"result"} and isinstance(response["result"], str):
        own = content.model_dump(mode="json", by_alias=True, exclude_none=True)
        return with_native({**message, "content": response["result"]}, gemini.FORMAT, own)
    return message


def _is_internal(call: types.FunctionCall | None) -> bool:
    return call is not None and (call.name or "").startswith(INTERNAL)

"""What each provider refuses, as a check: what it yields is why a conversation is refused.

The rules have the names that they have in `interruptible/formats/_dialects.py`, where their sources
are. They are written here a second time, from the sources and not from the library.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from interruptible import Message

Oracle = Callable[[Sequence[Message]], Iterator[str]]

SAYS = (
    *("refusal", "audio", "function_call"),
    *("images", "reasoning_content", "reasoning_details", "reasoning", "thinking"),
)
"""What an assistant may have instead of content, with one provider or another."""


def is_object(text: Any) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (TypeError, ValueError):
        return False


def is_blank(text: Any) -> bool:
    return not isinstance(text, str) or not text.strip()


def openai(messages: Sequence[Message]) -> Iterator[str]:  # noqa: C901, PLR0912 - many rules
    """OpenAI's chat API, and who speaks it."""
    waiting: list[str] = []
    legacy: str | None = None
    for message in messages:
        role, content = message["role"], message.get("content")
        if legacy is not None and (role != "function" or message["name"] != legacy):
            yield f"O6: no message of the function {legacy}"
        elif role == "function" and legacy is None:
            yield "O6: a message of a function that was not called"
        legacy = None
        if role == "tool":
            call = message.get("tool_call_id")
            if call not in waiting:
                yield "O2: messages with role 'tool' must be a response to 'tool_calls'"
            if not content and content != "":
                yield "O5: content of a tool message is text or parts"
            waiting = [x for x in waiting if x != call]
            continue
        if waiting:
            yield f"O1: tool_call_ids without response messages: {waiting}"
        waiting = []
        if role == "assistant":
            calls: list[Message] = message.get("tool_calls") or []
            if "tool_calls" in message and not calls:
                yield "O3: tool_calls is an array that is not empty"
            waiting = [call["id"] for call in calls]
            if len(set(waiting)) < len(waiting):
                yield "O3: the ids of tool_calls differ"
            given = [call["function"]["arguments"] for call in calls]
            if message.get("function_call"):
                legacy = message["function_call"]["name"]
                given.append(message["function_call"]["arguments"])
            if not all(map(is_object, given)):
                yield "O4: arguments must be a valid JSON object string"
            if content == []:
                yield "O5: content is an empty array"
            has_words = isinstance(content, list) or not is_blank(content)
            if not (calls or has_words or any(map(message.get, SAYS))):
                yield "O5: content is required"
        elif role != "function" and not content:
            yield "O5: content is required"
    if waiting:
        yield f"O1: tool_call_ids without response messages: {waiting}"
    if legacy is not None:
        yield f"O6: no message of the function {legacy}"


def ollama(messages: Sequence[Message]) -> Iterator[str]:
    """Ollama's own chat API: names instead of ids, and arguments that are objects."""
    waiting: list[str] = []
    for message in [*messages, {"role": "user", "content": "after"}]:
        if message["role"] == "tool":
            if waiting[:1] != [message.get("tool_name")]:
                yield f"L1: a result of {message.get('tool_name')}, and wanted is one of {waiting}"
            waiting = waiting[1:]
            continue
        if waiting:
            yield f"L1: no result of {waiting}"
        calls: list[Message] = message.get("tool_calls", [])
        waiting = [call["function"]["name"] for call in calls]
        if any(not isinstance(call["function"]["arguments"], dict) for call in calls):
            yield "O4: the arguments are no object"
        if not calls and is_blank(message.get("content")) and not any(map(message.get, SAYS)):
            yield "O5: it says nothing"


def blocks_of(message: Message) -> list[Message]:
    """The blocks of a message in Anthropic's dialect."""
    content: Any = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])


def as_anthropic_joins(messages: Sequence[Message]) -> list[tuple[str, list[Message]]]:
    """The turns of a conversation: what one role says in several messages is one."""
    turns: list[tuple[str, list[Message]]] = []
    for message in messages:
        if turns and turns[-1][0] == message["role"]:
            turns[-1][1].extend(blocks_of(message))
        else:
            turns.append((message["role"], blocks_of(message)))
    return turns


def anthropic(messages: Sequence[Message]) -> Iterator[str]:  # noqa: C901, PLR0912 - many rules
    """Anthropic's Messages API."""
    used: list[str] = []
    after: Message = {"role": "user", "content": "after"}
    for message in [*messages, after]:
        if set(message) != {"role", "content"} or message["role"] not in {"user", "assistant"}:
            yield "A4: extra inputs are not permitted"
        blocks = blocks_of(message)
        inner = [x for block in blocks if block["type"] == "tool_result" for x in _inside(block)]
        if not blocks:
            yield "A4: all messages must have non-empty content"
        if any(x["type"] == "text" and is_blank(x["text"]) for x in [*blocks, *inner]):
            yield "A4: text content blocks must be non-empty"
        kinds = [block["type"] for block in blocks]
        if ("tool_result" if message["role"] == "assistant" else "tool_use") in kinds:
            yield f"A3: a message of the {message['role']} has none of these: {kinds}"
        if kinds != sorted(kinds, key=lambda kind: kind != "tool_result"):
            yield "A1: tool_result blocks must come first"
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if set(answered) - set(used):
            yield "A3: unexpected tool_use_id found in tool_result blocks"
        if set(used) - set(answered):
            yield "A1: tool_use ids were found without tool_result blocks immediately after"
        if len(set(answered)) < len(answered):
            yield "A2: each tool_use must have a single result"
        used = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(used)) < len(used):
            yield "A2: tool_use ids must be unique"
        if message["role"] == "assistant" and kinds[-1:] in (["thinking"], ["redacted_thinking"]):
            yield "A6: the final block in an assistant message cannot be `thinking`"
        for block in blocks:
            if block["type"] == "thinking" and not block.get("signature"):
                yield "A5: thinking.signature: Field required"
            is_use = block["type"] in {"tool_use", "server_tool_use", "mcp_tool_use"}
            if is_use and not isinstance(block.get("input"), dict):
                yield "A9: tool_use.input: Input should be a valid dictionary"
    yield from _server_tools([*messages, after])


def _inside(block: Message) -> list[Message]:
    return block["content"] if isinstance(block.get("content"), list) else []


def _server_tools(messages: Sequence[Message]) -> Iterator[str]:
    """The provider's own tools, whose results stand in messages of the assistant."""
    waiting: list[str] = []
    for role, blocks in as_anthropic_joins(messages):
        if role == "user":
            if waiting and any(block["type"] != "tool_result" for block in blocks):
                yield f"A7: tool use was found without a corresponding result block: {waiting}"
                waiting = []
            continue
        before, waiting = waiting, []
        for block in blocks:
            if block["type"] in {"server_tool_use", "mcp_tool_use"}:
                waiting.append(block["id"])
            elif block["type"].endswith("_tool_result"):
                call = block["tool_use_id"]
                for ids in (waiting, before):
                    if call in ids:
                        ids.remove(call)
                        break
                else:
                    yield f"A8: {block['type']} must have a `server_tool_use` before it: {call}"
        if before:
            yield f"A7: tool use was found without a corresponding result block: {before}"


def converse(messages: Sequence[Message]) -> Iterator[str]:
    """Bedrock's Converse, with a model of Anthropic's; that roles alternate is checked apart."""
    used: list[str] = []
    for message in [*messages, {"role": "user", "content": "after"}]:
        content: Any = message["content"]
        blocks: list[Message] = [{"text": content}] if isinstance(content, str) else content or []
        if not blocks:
            yield "B2: the content field in the Message object is empty"
        results = [block["toolResult"] for block in blocks if "toolResult" in block]
        if not all(isinstance(x.get("content"), list) for x in results):
            yield "B4: the content of a result is a list"
        inside = [x for block in results for x in block["content"] or [{"text": ""}]]
        if any("text" in x and is_blank(x["text"]) for x in [*blocks, *inside]):
            yield "B2: the text field in the ContentBlock object is blank"
        order = ["toolResult" not in block for block in blocks]
        if order != sorted(order):
            yield "B1: toolResult blocks come first"
        answered = [x["toolUseId"] for x in results]
        if sorted(answered) != sorted(used):
            yield f"B1: expected toolResult blocks for {used}, and there are {answered}"
        uses = [block["toolUse"] for block in blocks if "toolUse" in block]
        used = [x["toolUseId"] for x in uses]
        if len(set(used)) < len(used):
            yield "B1: the ids of toolUse differ"
        if not all(isinstance(x.get("input"), dict) for x in uses):
            yield "B4: the input of a call is an object"
        if message["role"] == "assistant" and "reasoningContent" in (blocks or [{}])[-1]:
            yield "B3: the final block cannot be reasoning"
        for block in blocks:
            reasoning: Message = block.get("reasoningContent", {}).get("reasoningText", {})
            if reasoning and not reasoning.get("signature"):
                yield "B3: the signature of reasoning is missing"


ORACLES: dict[str, Oracle] = {
    "openai": openai,
    "ollama": ollama,
    "anthropic": anthropic,
    "converse": converse,
}


def alternating(messages: Sequence[Message]) -> Iterator[str]:
    """What the templates of Mistral's models ask for, and Bedrock of blocks.

    The template leaves out calls and results (github.com/vllm-project/vllm/issues/6862); behind a
    result, Mistral wants the assistant (github.com/anomalyco/opencode/issues/7488).
    """
    rest = list(messages)
    while rest and rest[0]["role"] == "system":
        rest.pop(0)
    if len(messages) - len(rest) > 1:
        yield "M1: more than one system message"
    if any(x["role"] not in {"user", "assistant", "tool", "function"} for x in rest):
        yield "M1: only user, assistant and tool roles are supported"
    for one, other in pairwise(rest):
        roles = (one["role"], other["role"])
        if roles in {("user", "user"), ("assistant", "assistant")}:
            yield f"M2: roles must alternate: {roles}"
        if roles[0] in {"tool", "function"} and roles[1] not in {roles[0], "assistant"}:
            yield "M3: unexpected role 'user' after role 'tool'"
    turns = [x["role"] for x in rest if x["role"] in {"user", "assistant"}]
    shown = [
        x["role"]
        for x in rest
        if x["role"] in {"user", "assistant"} and not x.get("tool_calls")
        if not x.get("function_call")
    ]
    if turns[:1] == ["assistant"]:
        yield "M2: the first is the user's"
    if any(one == other for one, other in pairwise(shown)):
        yield f"M2: conversation roles must alternate user/assistant/user/assistant: {shown}"

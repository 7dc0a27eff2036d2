"""What providers refuse of what an assistant said, in the dialects of chat APIs.

Four dialects are understood as they are: OpenAI's chat API (and who speaks it: DeepSeek,
OpenRouter, Mistral), Ollama's, Anthropic's blocks, and those of Bedrock's Converse. These are the
rules that repair keeps; `tests/unit/oracles.py` has each as a check, under the same name.

OpenAI's chat API:

- O1: after a message with `tool_calls` come tool messages that answer each call, each once
  (github.com/evalstate/fast-agent/issues/314, github.com/agno-agi/agno/issues/5116).
- O2: a tool message answers a call of the message before it
  (github.com/miurla/morphic/issues/136).
- O3: `tool_calls` is not empty (github.com/openai/openai-python/issues/2061), and its ids differ.
- O4: the arguments of a call are a JSON object (github.com/justrach/codegraff/issues/752,
  github.com/local-inference-lab/vllm/issues/684).
- O5: an assistant's message says something: it has content, or something instead of it
  (`ChatCompletionAssistantMessageParam`), as `reasoning_content` for DeepSeek
  (api-docs.deepseek.com/guides/thinking_mode). A tool message has content.
- O6: a `function_call` is answered by the message that follows, of the role `function` and with
  its name (`ChatCompletionFunctionMessageParam`, deprecated).

Ollama:

- L1: calls may have no id; what answers them follows in tool messages, in their order, each with
  the `tool_name` (docs.ollama.com/capabilities/tool-calling).

Anthropic:

- A1: all `tool_result` blocks stand in the message after the one with their `tool_use` blocks,
  before all else in it
  (platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls).
- A2: each `tool_use` has one result (github.com/sipeed/picoclaw/pull/1793), and its own id.
- A3: a `tool_result` has its `tool_use` in the message before
  (github.com/CherryHQ/cherry-studio/issues/4301).
- A4: a message has content; text is not empty
  (github.com/anthropics/anthropic-sdk-python/issues/461), nor only white space
  (github.com/anthropics/claude-code/issues/23369).
- A5: a thinking block has its signature
  (github.com/JohnnyZ93/oai-compatible-copilot/issues/217), and is as it came
  (github.com/anthropics/anthropic-sdk-python/issues/1598).
- A6: a message of the assistant does not end in thinking, redacted or not
  (github.com/tailcallhq/forgecode/issues/2107, github.com/NousResearch/hermes-agent/pull/16921).
- A7: `server_tool_use` and `mcp_tool_use` have their result after them in the same message
  (github.com/BerriAI/litellm/pull/30486, github.com/vercel/ai/issues/13040). It may also come with
  the next message of the assistant, with nothing but results of other calls in between
  (platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools).
- A8: a result of such a tool has its use before it
  (github.com/anthropics/claude-code/issues/65726).
- A9: the `input` of a call is an object (github.com/prism-php/prism/issues/659).

Bedrock's Converse:

- B1: as A1 to A3, for `toolUse` and `toolResult` (github.com/zeroclaw-labs/zeroclaw/pull/1476).
- B2: as A4 (github.com/OpenHands/OpenHands/issues/5339), also in a result
  (github.com/NousResearch/hermes-agent/issues/55092).
- B3: as A5 and A6, for `reasoningContent`, when the model is Anthropic's; no model takes an empty
  signature (github.com/laravel/ai/pull/785).
- B4: as A9; and the `content` of a result is a list
  (docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolResultBlock.html).
"""

from collections.abc import Container, Iterable, Sequence
from typing import Any, Final

from interruptible._wire.native import changed
from interruptible._wire.types import Message
from interruptible.formats._calls import Call, Place, calls_of, id_answered, in_places, server_use
from interruptible.formats._values import (
    is_blank,
    is_blank_text,
    items,
    text_in,
    type_of,
    value_in,
)

_BESIDE_CONTENT: Final = (
    *("refusal", "audio", "images"),
    *("reasoning_content", "reasoning_details", "reasoning", "thinking"),
)
"""What an assistant may have that says nothing in words."""
_THINKING: Final = ("thinking", "redacted_thinking", "reasoningContent")


def accepted(message: Message, calls: Iterable[Call], lost: Container[Place]) -> Message | None:
    """A message without what providers refuse, or `None` if it says nothing.

    Args:
        message: If it does not change, or if it is not the assistant's, it is the same object.
        calls: Those of its calls that stay.
        lost: The places that `lost_blocks` found.
    """
    if message.get("role") != "assistant":
        return message
    whole = {call.place: call.whole for call in calls}
    kept: dict[str, list[Any]] = {"tool_calls": [], "content": [], "function_call": []}
    for place, item, form in in_places(message):
        field, _ = place
        if form is not None:
            kept[field] += [whole[place]] if place in whole else []
        elif not (place in lost or is_blank_text(item) or _is_unsigned(item)):
            kept[field].append(item)
    while kept["content"] and type_of(kept["content"][-1]) in _THINKING:
        kept["content"].pop()
    new = {**message, "tool_calls": kept["tool_calls"]}
    if not kept["tool_calls"]:
        del new["tool_calls"]
    if kept["function_call"]:
        new["function_call"] = kept["function_call"][0]
    elif message.get("function_call") is not None:
        del new["function_call"]
    if isinstance(message.get("content"), (list, tuple)):
        new["content"] = kept["content"] or None
    says = whole or not is_blank(new.get("content")) or any(map(new.get, _BESIDE_CONTENT))
    return changed(message, new) if says else None


def lost_blocks(messages: Sequence[Message]) -> list[set[Place]]:
    """The places of calls of the provider's own tools, and of their results, that lack the other.

    Returns:
        For each message those in it.
    """
    lost: list[set[Place]] = [set() for _ in messages]
    waiting: dict[str, tuple[int, Place]] = {}
    asked: set[str] = set()
    for number, message in enumerate(messages):
        if message.get("role") != "assistant":
            ids = [id_answered(block) for block in items(message.get("content"))]
            if not ids or len(set(ids)) < len(ids) or not asked.issuperset(ids):
                waiting = {}  # more than results of the calls beside them came in between
            asked.difference_update(ids)
            continue
        before, waiting = waiting, {}
        asked = {call.id for call in calls_of(message) if call.id}
        for index, block in enumerate(items(message.get("content"))):
            use, answer, place = server_use(block), _server_result(block), ("content", index)
            at = waiting.pop(answer, None) or before.pop(answer, None) if answer else None
            if at is not None:
                lost[at[0]].remove(at[1])
            elif use is not None or answer is not None:
                lost[number].add(place)
            if use and use not in waiting:
                waiting[use] = (number, place)
    return lost


def _server_result(block: Any) -> str | None:
    """The id of the call that a block in a message of the assistant is the result of, or `None`."""
    is_its = type_of(block).endswith("_tool_result")
    return text_in(block, "tool_use_id") if is_its else id_answered(block)


def _is_unsigned(block: Any) -> bool:
    """Whether it is thinking that was cut off; Mistral's, which is a list, is never signed."""
    match type_of(block):
        case "thinking":
            is_mistrals = isinstance(block.get("thinking"), list)
            return not is_mistrals and not text_in(block, "signature").strip()
        case "redacted_thinking":
            return not text_in(block, "data")
        case "reasoningContent":
            inner = block["reasoningContent"]
            signature = text_in(value_in(inner, "reasoningText"), "signature")
            return not signature.strip() and not value_in(inner, "redactedContent")
        case _:
            return False

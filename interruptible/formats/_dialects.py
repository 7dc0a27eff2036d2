"""What messages say in the dialects of chat APIs, and what of it each provider refuses.

Four dialects are understood as they are: OpenAI's chat API (and who speaks it: DeepSeek,
OpenRouter, Mistral), Ollama's, Anthropic's blocks, and those of Bedrock's Converse. These are the
rules that `_repair` keeps; `tests/unit/oracles.py` has each as a check, under the same name.

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

import json
from collections.abc import Container, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from interruptible._wire.checks import parse
from interruptible._wire.types import Message

Kind: TypeAlias = Literal["tool", "function", "tool_result", "toolResult"]
"""What answers a call: a message of this role, or a block of this type."""

_BESIDE_CONTENT: Final = (
    *("refusal", "audio", "images"),
    *("reasoning_content", "reasoning_details", "reasoning", "thinking"),
)
"""What an assistant may have that says nothing in words."""
_THINKING: Final = ("thinking", "redacted_thinking", "reasoningContent")
_SERVER_TOOLS: Final = ("server_tool_use", "mcp_tool_use")
_OF_CONVERSE: Final = ("toolUse", "toolResult", "reasoningContent", "text")
"""The blocks of Bedrock's Converse have no type; their only key says what they are."""


class Call(NamedTuple):
    """A call in a message of the assistant."""

    key: str
    """Tells it from the others of its message."""
    id: str
    """Empty where the dialect has none."""
    name: str
    kind: Kind
    half: bool
    """Whether its arguments are half said."""


def calls_of(message: Message) -> dict[str, Call]:
    """The calls of a message by their keys, in order; what is malformed is no call."""
    return {call.key: call for call in _placed(message).values()}


def said(message: Message, answered: Container[str], lost: Container[int]) -> Message | None:
    """A message of the assistant without what providers refuse, or `None` if it says nothing.

    Args:
        message: The message; if it does not change, it is the same object.
        answered: The keys of its calls that have a result; other calls that are half said go.
        lost: The places of the blocks that `lost_blocks` found.
    """
    placed = _placed(message).items()
    calls = {at for at, call in placed if not call.half or call.key in answered}
    new = dict(message)
    if "tool_calls" in message:
        whole = enumerate(map(_whole, items(message["tool_calls"])))
        new["tool_calls"] = [x for place, x in whole if ("tool_calls", place) in calls]
        if not new["tool_calls"]:
            del new["tool_calls"]
    if isinstance(message.get("content"), (list, tuple)):
        blocks = [
            block
            for place, block in enumerate(map(_whole, items(message["content"])))
            if place not in lost and not is_blank_text(block) and not _is_unsigned(block)
            if not _is_use(block) or ("content", place) in calls
        ]
        while blocks and type_of(blocks[-1]) in _THINKING:
            blocks.pop()
        new["content"] = blocks or None
    if message.get("function_call") is not None:
        new["function_call"] = _with_whole(message["function_call"], "arguments", as_text=True)
        if ("function_call", 0) not in calls:
            del new["function_call"]
    says = calls or not is_blank(new.get("content")) or any(map(new.get, _BESIDE_CONTENT))
    return changed(message, new) if says else None


def lost_blocks(messages: Sequence[Message]) -> list[set[int]]:
    """The places of calls of the provider's own tools, and of their results, that lack the other.

    Returns:
        For each message those in its content.
    """
    lost: list[set[int]] = [set() for _ in messages]
    waiting: dict[str, tuple[int, int]] = {}
    asked: set[str] = set()
    for number, message in enumerate(messages):
        if message.get("role") != "assistant":
            if not _only_answers(message, asked):
                _lose(lost, waiting)
            continue
        before, waiting, asked = waiting, {}, set(calls_of(message))
        for place, block in enumerate(items(message.get("content"))):
            use, answer = _server_use(block), _server_result(block)
            if use and use not in waiting:
                waiting[use] = (number, place)
            elif use is not None or (
                answer is not None
                and not waiting.pop(answer, None)
                and not before.pop(answer, None)
            ):
                lost[number].add(place)
        _lose(lost, before)
    _lose(lost, waiting)
    return lost


def result(call: Call, message: Message, content: str) -> Message:
    """A result for a call of a message that has none: a message, or a block."""
    if call.kind == "tool":
        by_id = {"tool_call_id": call.id} if call.id else {}
        by_name = {"tool_name": call.name} if _is_ollamas(message) or not call.id else {}
        return {"role": "tool", **by_id, **by_name, "content": content}
    if call.kind == "function":
        return {"role": "function", "name": call.name, "content": content}
    if call.kind == "tool_result":
        block = {"type": "tool_result", "tool_use_id": call.id, "content": content}
        return {**block, "is_error": True}
    text = [{"text": content}]
    return {"toolResult": {"toolUseId": call.id, "content": text, "status": "error"}}


def answered_by(block: Any) -> str | None:
    """The id of the call that a block is the result of; `None` if it is no result."""
    if type_of(block) == "tool_result":
        return text_in(block, "tool_use_id")
    return text_in(block["toolResult"], "toolUseId") if type_of(block) == "toolResult" else None


def fit(given: Message, nothing: str) -> Message:
    """A result, message or block, with content that its provider takes.

    Args:
        given: The result; if it does not change, it is the same object.
        nothing: What stands for no content where there has to be some.
    """
    if type_of(given) == "toolResult":
        inner = given["toolResult"]
        content = inner.get("content")
        if not isinstance(content, (list, tuple)):
            content = [{"text": content if isinstance(content, str) else as_json(content)}]
        kept = [x for x in items(content) if not is_blank_text(x)] or [{"text": nothing}]
        return changed(given, {**given, "toolResult": {**inner, "content": kept}})
    content = given.get("content", None if "role" in given else "")
    if isinstance(content, str):
        return given
    kept = [x for x in items(content) if "role" in given or not is_blank_text(x)]
    is_list = isinstance(content, (list, tuple)) and "role" not in given
    if kept == items(content) and (kept or is_list):
        return given
    return changed(given, {**given, "content": kept if is_list else as_json(content)})


# -- What is in a message. -------------------------------------------------------------------------


def _placed(message: Message) -> dict[tuple[str, int], Call]:
    """The calls of a message, each with where it stands: in which field, and at which place."""
    found = {
        (field, place): call
        for field, read in (("tool_calls", _call), ("content", _use))
        for place, item in enumerate(items(message.get(field)))
        if (call := read(item, str(place))) is not None
    }
    legacy = message.get("function_call")
    if name := text_in(legacy, "name"):
        half = _given(_in(legacy, "arguments"), as_text=True)[1]
        found["function_call", 0] = Call("function_call", "", name, "function", half)
    first: dict[str, tuple[str, int]] = {}
    for at, call in found.items():
        first.setdefault(call.key, at)
    return {at: found[at] for at in first.values()}


def _call(item: Any, place: str) -> Call | None:
    id_, function = text_in(item, "id"), _in(item, "function")
    name = text_in(function, "name") or text_in(_in(item, "custom"), "name")
    if (not name and function is not None) or not (id_ or name):
        return None
    half = _given(_in(function, "arguments"), as_text=True)[1]
    return Call(id_ or f"tool_calls/{place}", id_, name, "tool", half)


def _use(block: Any, _: str) -> Call | None:
    if not _is_use(block):
        return None
    kind: Kind = "tool_result" if type_of(block) == "tool_use" else "toolResult"
    use = block if kind == "tool_result" else block["toolUse"]
    id_, name = text_in(use, "id" if kind == "tool_result" else "toolUseId"), text_in(use, "name")
    if not id_ or not name:
        return None
    return Call(id_, id_, name, kind, _given(_in(use, "input"), as_text=False)[1])


def _is_use(block: Any) -> bool:
    return type_of(block) in ("tool_use", "toolUse") and _server_use(block) is None


def _server_use(block: Any) -> str | None:
    """The id of a call of the provider's own tool, empty if it is malformed; `None` for no such."""
    use, key = block, "id"
    if type_of(block) == "toolUse":
        use, key = block["toolUse"], "toolUseId"
    if _in(use, "type") not in _SERVER_TOOLS:
        return None
    return text_in(use, key) if isinstance(_in(use, "input"), dict) else ""


def _server_result(block: Any) -> str | None:
    """The id of the call that a block in a message of the assistant is the result of, or `None`."""
    kind = type_of(block)
    if isinstance(kind, str) and kind.endswith("_tool_result"):
        return text_in(block, "tool_use_id")
    return answered_by(block)


def _only_answers(message: Message, asked: set[str]) -> bool:
    """Whether a message has nothing but results of these calls, each once; then they have them."""
    blocks = items(message.get("content"))
    ids = [answered_by(block) for block in blocks]
    if not ids or len(set(ids)) < len(ids) or not all(id_ in asked for id_ in ids):
        return False
    asked.difference_update(id_ for id_ in ids if id_)
    return True


def _lose(lost: list[set[int]], uses: dict[str, tuple[int, int]]) -> None:
    for number, place in uses.values():
        lost[number].add(place)
    uses.clear()


def _is_unsigned(block: Any) -> bool:
    """Whether it is thinking that was cut off; Mistral's, which is a list, is never signed."""
    kind = type_of(block)
    if kind == "thinking":
        is_mistrals = isinstance(block.get("thinking"), list)
        return not is_mistrals and not text_in(block, "signature").strip()
    if kind == "redacted_thinking":
        return not text_in(block, "data")
    if kind == "reasoningContent":
        inner = block["reasoningContent"]
        signature = text_in(_in(inner, "reasoningText"), "signature")
        return not signature.strip() and not _in(inner, "redactedContent")
    return False


def _is_ollamas(message: Message) -> bool:
    calls = [_in(x, "function") for x in items(message.get("tool_calls"))]
    return any(isinstance(_in(x, "arguments"), dict) for x in calls)


def _whole(item: Any) -> Any:
    """A call with its arguments as its provider takes them; anything else as it is."""
    if type_of(item) == "tool_use":
        return _with_whole(item, "input", as_text=False)
    if type_of(item) == "toolUse" and isinstance(item["toolUse"], dict):
        use = _with_whole(item["toolUse"], "input", as_text=False)
        return item if use is item["toolUse"] else {**item, "toolUse": use}
    function = _in(item, "function")
    if isinstance(function, dict) and "arguments" in function:
        whole = _with_whole(function, "arguments", as_text=True)
        return item if whole is function else {**item, "function": whole}
    return item


def _with_whole(call: Any, key: str, *, as_text: bool) -> Any:
    given = _given(_in(call, key), as_text=as_text)[0]
    has_it = _in(call, key) == given
    return call if has_it or not isinstance(call, dict) else {**cast("Message", call), key: given}


def _given(arguments: Any, *, as_text: bool) -> tuple[Any, bool]:
    """The arguments of a call as its provider takes them, and whether they are half said."""
    if isinstance(arguments, dict):
        return cast("Message", arguments), False
    parsed = arguments
    if isinstance(arguments, str):
        parsed = parse(arguments.strip().encode(errors="surrogatepass"))
    if isinstance(parsed, dict):
        return (arguments if as_text else cast("Message", parsed)), False
    half = bool(parsed) or isinstance(parsed, (int, float))
    whole = {"malformed": arguments} if half else {}
    return (as_json(whole) if as_text else whole), half


# -- What is said about JSON. ----------------------------------------------------------------------


def changed(old: Message, new: Message) -> Message:
    """A message that was made of another: the same if nothing changed, or else not its native."""
    if new == old:
        return old
    return {key: value for key, value in new.items() if key != "native"}


def type_of(block: Any) -> Any:
    """What a block is; those of Bedrock's Converse say it by their key."""
    if not isinstance(block, dict):
        return None
    if "type" in block:
        return cast("Message", block)["type"]
    return next((key for key in _OF_CONVERSE if key in block), None)


def items(value: Any) -> list[Any]:
    """A list as a list, anything else as an empty one."""
    return list(cast("Sequence[Any]", value)) if isinstance(value, (list, tuple)) else []


def text_in(item: Any, key: str) -> str:
    """The text in a field, or an empty one."""
    value = _in(item, key)
    return value if isinstance(value, str) else ""


def _in(item: Any, key: str) -> Any:
    return cast("Message", item).get(key) if isinstance(item, dict) else None


def is_blank(content: Any) -> bool:
    """Whether content says nothing."""
    return not (content.strip() if isinstance(content, str) else content)


def is_blank_text(block: Any) -> bool:
    """Whether it is a block of text that says nothing."""
    return type_of(block) == "text" and is_blank(block.get("text"))


def as_json(value: Any) -> str:
    """Any value as text."""
    return json.dumps(value, ensure_ascii=False)

"""OpenAI's Responses API: its items, which are a request's input and a response's output.

What its API asks for:

- A `reasoning` item goes together with the item after it: "Item 'rs_…' of type 'reasoning' was
  provided without its required following item" (github.com/openai/openai-node/issues/1567), and
  the other way round: "Item 'fc_…' of type 'function_call' was provided without its required
  'reasoning' item" (github.com/cline/cline/issues/12242). It tells by the items' ids; what is
  written anew has none.
- A call goes together with its output: "No tool output found for function call …"
  (github.com/bytedance/trae-agent/issues/245), "No tool call found for function call output …"
  (github.com/can1357/oh-my-pi/issues/106).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from interruptible._wire.native import native
from interruptible._wire.types import Message
from interruptible.formats import _neutral
from interruptible.formats._values import as_json, items

__all__ = ["from_messages", "to_messages"]

Item = dict[str, Any]

FORMAT: Final = "responses"
_CALLS: Final = (
    "function_call",
    "custom_tool_call",
    "computer_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
)
"""What the caller of the API has to answer, each with an item of the type `…_output`."""
_TEXT: Final = ("function_call", "custom_tool_call")
"""Those whose output may be any text."""
_HALF_DONE: Final = (
    "in_progress",
    "searching",
    "generating",
    "interpreting",
    "calling",
    "incomplete",
)


def to_messages(items: Iterable[Any]) -> list[Message]:
    """Make messages of items, to be put out by a task.

    All that the model said between two inputs is one message, reasoning and hosted tools included;
    each output of a call is one, too. A message that would not come back as it was has its items as
    its native form. Calls that are half said are left out, and reasoning with nothing after it.

    Args:
        items: Dicts, or the objects of OpenAI's SDK; a response's whole `output`, for example.

    Raises:
        TypeError: One of them is neither.
    """
    messages: list[Message] = []
    output: list[Item] = []
    called: dict[str, str] = {}
    for item in (_neutral.plain(x, exclude_unset=True) for x in items):
        kind = _type(item)
        call = item.get("call_id") or item.get("id") or ""
        if kind in _CALLS:
            called |= {item.get("id") or "": item["call_id"], item["call_id"]: item["call_id"]}
        is_result = kind.removesuffix("_output") in _CALLS and kind.endswith("_output")
        by_reference = call not in called and any(_type(x) == "item_reference" for x in output)
        if (is_result and not by_reference) or (kind == "message" and item["role"] != "assistant"):
            messages += _said(output)
            output = []
            messages.append(_result(item, called.get(call, call)) if is_result else _input(item))
        else:
            output.append(item)
    return [*messages, *_said(output)]


def from_messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Make items of messages, for a request's `input`.

    A message comes back as the items that it was made of, if it still has them as its native form;
    all others are written anew.

    Args:
        messages: `task.messages`, for example; of any provider.
    """
    messages = list(messages)
    items: list[Item] = []
    called: dict[str, str] = {}
    for place, message in enumerate(messages):
        own: list[Item] | None = native(message, FORMAT)
        fits = own is not None and _fits(own, messages, place, called)
        written = own if own is not None and fits else [*_written(message, called)]
        called |= {x["call_id"]: _type(x) for x in written if _type(x) in _CALLS}
        items += written
    return items


def _fits(own: list[Item], messages: Sequence[Message], place: int, called: dict[str, str]) -> bool:
    """Whether a message's items can stand as they are, next to those around them.

    What has been cut off has a text as its result, and not every kind of call takes one: such a
    call is written anew, as one of a function, and with it the message that it is in.
    """
    if messages[place]["role"] == "tool":
        kind = called.get(messages[place]["tool_call_id"])
        return kind is None or _type(own[0]) == f"{kind}_output"
    calls = {x["call_id"]: f"{_type(x)}_output" for x in own if _needs_more(x)}
    answered: dict[str, list[str]] = {}
    for after in messages[place + 1 :] if calls else ():
        types = [*map(_type, native(after, FORMAT) or [])]
        answered.setdefault(after.get("tool_call_id") or "", types)
    return all(answered.get(call) == [kind] for call, kind in calls.items())


def _needs_more(item: Item) -> bool:
    return _type(item) in _CALLS and _type(item) not in _TEXT


def _type(item: Item) -> str:
    return str(item.get("type") or ("message" if "role" in item else "item_reference"))


# -- From items. -----------------------------------------------------------------------------------


def _said(items: list[Item]) -> list[Message]:
    """The message that a model's items make, if they say anything."""
    whole: list[Item] = []
    reasoning: list[Item] = []
    for item in items:
        reasoning.append(item)
        if _type(item) != "reasoning":
            whole += reasoning if _is_whole(item) else []
            reasoning = []
    if not whole:
        return []
    said = [x for x in whole if _type(x) == "message"]
    text = "\n\n".join(filter(None, (_neutral.words(x["content"]) for x in said)))
    calls = [_call(x) for x in whole if _type(x) in _CALLS]
    others = [_type(x) for x in whole if _type(x) != "reasoning"]
    return [_kept(_neutral.said(text, calls, others), whole)]


def _is_whole(item: Item) -> bool:
    if _type(item) == "message":
        return True
    if item.get("status") in _HALF_DONE:
        return False
    try:
        json.loads(item.get("arguments") or "{}")
    except ValueError:
        return False
    return True


def _call(item: Item) -> dict[str, Any]:
    call, name = item["call_id"], item.get("name", "")
    if _type(item) == "function_call":
        return _neutral.function(call, name, item["arguments"])
    if _type(item) == "custom_tool_call":
        return {"id": call, "type": "custom", "custom": {"name": name, "input": item["input"]}}
    rest = {k: v for k, v in item.items() if k not in ("type", "id", "call_id", "status")}
    return _neutral.function(call, _type(item), as_json(rest))


def _result(item: Item, call: str) -> Message:
    output: Any = item.get("output")
    if output is None:  # a patch without words
        output = f"[{item.get('status')}]"
    elif not isinstance(output, str):  # parts, what a shell printed, or a screenshot
        parts = items(output) if isinstance(output, list) else [output]
        output = "".join(map(_words, parts))
    message = {"role": "tool", "tool_call_id": call, "content": output}
    return _kept(message, [item], {call: _type(item).removesuffix("_output")})


def _words(part: dict[str, Any]) -> str:
    return part.get("text") or (f"[{part['type']}]" if "type" in part else as_json(part))


def _input(item: Item) -> Message:
    content = item["content"]
    if not isinstance(content, str):
        content = [_part(x) for x in content]
    return _kept({"role": item["role"], "content": content}, [item])


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part["type"]
    if kind in ("input_text", "output_text"):
        return {"type": "text", "text": part["text"]}
    if kind == "input_image" and part.get("image_url"):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    file = {k: part[k] for k in ("file_data", "file_id", "filename") if part.get(k)}
    if kind in ("input_image", "input_file") and ("file_data" in file or "file_id" in file):
        return {"type": "file", "file": file}
    return {"type": "text", "text": f"[{part.get('file_url') or kind}]"}


def _kept(message: Message, items: list[Item], called: dict[str, str] | None = None) -> Message:
    return _neutral.kept(message, FORMAT, items, list(_written(message, called or {})))


# -- To items. -------------------------------------------------------------------------------------


def _written(message: Message, called: dict[str, str]) -> Iterator[Item]:
    """The items of a message, written anew; `called` has the type of each call before."""
    role, content = message["role"], message.get("content")
    if role == "assistant":
        if text := _neutral.words(content) or message.get("refusal"):
            yield {"role": "assistant", "content": text}
        for call in _neutral.calls(message):
            kind = "custom_tool_call" if call.custom else "function_call"
            key = "input" if call.custom else "arguments"
            yield {"type": kind, "call_id": call.id, "name": call.name, key: call.arguments}
        return
    for answered, result in _neutral.results(message):
        kind = called.get(answered, "function_call")
        whole = isinstance(result, str)
        output = result if whole else [*map(_written_part, _neutral.parts(result))]
        yield {"type": f"{kind}_output", "call_id": answered, "output": output}
    if role == "tool":
        return
    role = role if role in ("user", "system", "developer") else "user"
    if isinstance(content, str):
        yield {"role": role, "content": content}
    elif rest := [*map(_written_part, _neutral.parts(content))]:
        yield {"role": role, "content": rest}


def _written_part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "input_text", "text": part["text"]}
    if part["type"] == "image_url":
        image, detail = part["image_url"], part["image_url"].get("detail", "auto")
        return {"type": "input_image", "image_url": image["url"], "detail": detail}
    if part["type"] == "file":
        return {"type": "input_file", **part["file"]}
    return {"type": "input_text", "text": f"[{part['type']}]"}

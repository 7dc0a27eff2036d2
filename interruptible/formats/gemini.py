"""Gemini's API: its contents, of the roles `user` and `model`, with their parts.

What its API asks for:

- All responses to a content's calls stand in the next content: "the number of function response
  parts is equal to the number of function call parts of the function call turn"
  (github.com/google-gemini/gemini-cli/issues/4217), and a call comes "immediately after a user turn
  or after a function response turn" (github.com/google-gemini/gemini-cli/issues/26486).
- A response has the id of its call, if that has one: "functionResponse.id does not match
  functionCall.id" (github.com/router-for-me/CLIProxyAPI/issues/5199); older models refuse any id
  (github.com/vellum-ai/vellum-assistant/pull/26282). What is written anew has none.
- Gemini 3 wants a thought signature with the first call of each content of the current turn. For
  calls of other models there is one that it does not check
  (ai.google.dev/gemini-api/docs/thought-signatures, and the same of Vertex AI,
  docs.cloud.google.com/vertex-ai/generative-ai/docs/thought-signatures).
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from interruptible._wire.native import native
from interruptible._wire.types import Message
from interruptible.formats import _neutral
from interruptible.formats._values import as_json, items

__all__ = ["from_messages", "to_messages"]

Content = dict[str, Any]
Part = dict[str, Any]

FORMAT: Final = "gemini"
UNSIGNED: Final = "skip_thought_signature_validator"
"""The thought signature of a call that has none."""


def to_messages(contents: Iterable[Any]) -> list[Message]:
    """Make messages of contents, to be put out by a task.

    Each content of the model is one message, and so is each response to a call. A message that
    would not come back as it was has its content as its native form. Calls that are half said are
    left out, and thoughts with nothing after them. A call without an id gets one from its
    function's name and its number among the calls of that function.

    Args:
        contents: Dicts, in either spelling of their keys, or the objects of Google's SDK.

    Raises:
        TypeError: One of them is neither.
    """
    messages: list[Message] = []
    ids = _Ids()
    for content in (_neutral.plain(x, exclude_none=True) for x in contents):
        if content.get("role") == "model":
            messages += _said(content, ids)
        else:
            messages += _given(content, ids)
    return messages


def from_messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Make contents of messages, for a request.

    A message comes back as it was given, if it still has that as its native form; all others are
    written anew. Neighbours of one role become one content. Gemini has no messages of a system:
    they become the user's.

    Args:
        messages: `task.messages`, for example; of any provider.
    """
    contents: list[Content] = []
    called: dict[str, _Called] = {}
    for message in messages:
        own: Content | None = native(message, FORMAT)
        content = own if own is not None and _fits(own, message, called) else None
        content = content or _written(message, called)
        if message["role"] == "assistant":
            made = filter(None, (_get(x, "functionCall") for x in content["parts"]))
            calls = zip(_neutral.calls(message), made, strict=False)
            called |= {call.id: (x["name"], x.get("id")) for call, x in calls}
        if contents and _is_model(contents[-1]) == _is_model(content):
            parts = [*contents[-1]["parts"], *content["parts"]]
            contents[-1] = {**contents[-1], "parts": parts}
        elif content["parts"]:
            contents.append(content)
    return contents


_Called = tuple[str, str | None]
"""How a call goes out: its function's name, and its id, if it has one."""


def _fits(own: Content, message: Message, called: dict[str, _Called]) -> bool:
    """Whether a response's call goes out as it came; all else stands as it is."""
    if message["role"] != "tool":
        return True
    response = _get(own["parts"][0], "functionResponse")
    identity = (response["name"], response.get("id"))
    return called.get(message["tool_call_id"], identity) == identity


def _is_model(content: Content) -> bool:
    return content.get("role") == "model"


def _get(part: Part, key: str) -> Any:
    """A part's value, however its key is spelled."""
    return part.get(key, part.get(re.sub("[A-Z]", lambda x: f"_{x[0].lower()}", key)))


class _Ids:
    """The ids of calls that have none, and of the responses to them."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}
        self._responses: dict[str, int] = {}

    def of_call(self, call: dict[str, Any]) -> str:
        return str(call.get("id") or self._next(self._calls, call["name"]))

    def of_response(self, response: dict[str, Any]) -> str:
        return str(response.get("id") or self._next(self._responses, response["name"]))

    def answered(self) -> None:
        """What has had no response by now gets none."""
        self._responses = dict(self._calls)

    def _next(self, counts: dict[str, int], name: str) -> str:
        counts[name] = counts.get(name, 0) + 1
        # As Anthropic (letters, digits, _ and -) and OpenAI (at most 64) take ids.
        return f"{re.sub('[^a-zA-Z0-9_-]', '_', name)[:48]}-{counts[name]}"


# -- From contents. --------------------------------------------------------------------------------


def _said(content: Content, ids: _Ids) -> Iterator[Message]:
    ids.answered()
    given = items(content.get("parts"))
    parts = [x for x in given if not _is_half_said(_get(x, "functionCall"))]
    calls = [x for x in (_get(part, "functionCall") for part in parts) if x]
    text = "".join(_words(x) for x in parts if not x.get("thought"))
    others = [kind for x in parts if not x.get("thought") for kind in _others(x)]
    if not (text.strip() or calls or others):
        return
    made = [
        _neutral.function(ids.of_call(x), x["name"], as_json(x.get("args") or {})) for x in calls
    ]
    yield _kept(_neutral.said(text, made, others), {**content, "parts": parts})


def _is_half_said(call: dict[str, Any] | None) -> bool:
    return bool(call and (_get(call, "willContinue") or _get(call, "partialArgs")))


def _words(part: Part) -> str:
    code, result = _get(part, "executableCode"), _get(part, "codeExecutionResult")
    if code:
        return f"\n```{str(code.get('language', '')).lower()}\n{code['code']}\n```\n"
    if result:
        return f"\n```\n{result.get('output', '')}\n```\n"
    return part.get("text") or ""


def _others(part: Part) -> list[str]:
    known = ("text", "thoughtSignature", "thought_signature")
    return [str(key) for key in part if key not in known]


def _given(content: Content, ids: _Ids) -> Iterator[Message]:
    said: list[Part] = []
    for part in items(content.get("parts")):
        response = _get(part, "functionResponse")
        if response is None:
            said.append(part)
            continue
        if said:
            yield _kept(_user(said), {**content, "parts": said})
            said = []
        result = _result(response.get("response") or {})
        call = ids.of_response(response)
        message: Message = {"role": "tool", "tool_call_id": call, "content": result}
        called: dict[str, _Called] = {call: (response["name"], response.get("id"))}
        yield _kept(message, {**content, "parts": [part]}, called)
    if said:
        yield _kept(_user(said), {**content, "parts": said})


def _user(parts: list[Part]) -> Message:
    content = [_neutral_part(x) for x in parts]
    only_text = len(content) == 1 and content[0]["type"] == "text"
    return {"role": "user", "content": content[0]["text"] if only_text else content}


def _neutral_part(part: Part) -> dict[str, Any]:
    data, file = _get(part, "inlineData"), _get(part, "fileData")
    kind = str(_get(data or file or {}, "mimeType") or "")
    if part.get("text"):
        return {"type": "text", "text": part["text"]}
    if data is None and (file is None or not kind.startswith("image/")):
        uri = _get(file or {}, "fileUri")
        return {"type": "text", "text": f"[{uri or ' '.join(_others(part)) or 'nothing'}]"}
    url = _get(file, "fileUri") if data is None else f"data:{kind};base64,{data['data']}"
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": "file", "file_data": url}}


def _result(response: dict[str, Any]) -> str:
    """What a tool gave, as text: its words where they are all, or else JSON."""
    output = response.get("output")
    if isinstance(output, str) and response.keys() == {"output"}:
        return output
    return as_json(response)


def _kept(message: Message, content: Content, called: dict[str, _Called] | None = None) -> Message:
    return _neutral.kept(message, FORMAT, content, _written(message, called or {}))


# -- To contents. ----------------------------------------------------------------------------------


def _written(message: Message, called: dict[str, _Called]) -> Content:
    """The content of a message, written anew; `called` has the calls before."""
    content = message.get("content")
    if message["role"] == "assistant":
        text = _neutral.words(content) or message.get("refusal")
        parts: list[Part] = [{"text": text}] if text else []
        signed = False
        for call in _neutral.calls(message):
            part: Part = {"functionCall": {"name": call.name, "args": _args(call)}}
            parts.append(part if signed else {**part, "thoughtSignature": UNSIGNED})
            signed = True
        return {"role": "model", "parts": parts}
    parts = []
    for answered, result in _neutral.results(message):
        name, own = called.get(answered, (answered, None))
        identity = {"name": name} if own is None else {"id": own, "name": name}
        parts.append({"functionResponse": {**identity, "response": _response(result)}})
    if message["role"] != "tool":
        parts += [_written_part(x) for x in _neutral.parts(content)]
    return {"role": "user", "parts": parts}


def _args(call: _neutral.NeutralCall) -> dict[str, Any]:
    if call.custom:
        return {"input": call.arguments}
    args = _object(call.arguments)
    return {"arguments": call.arguments} if args is None else args


def _response(result: Any) -> dict[str, Any]:
    text = result if isinstance(result, str) else _neutral.words(_neutral.parts(result))
    response = _object(text)
    return {"output": text} if response is None else response


def _object(text: str) -> dict[str, Any] | None:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _written_part(part: dict[str, Any]) -> Part:
    if part["type"] == "text":
        return {"text": part["text"]}
    file: dict[str, Any] = part.get("file") or {}
    url: str = part["image_url"]["url"] if "image_url" in part else file.get("file_data", "")
    if part["type"] == "input_audio":
        audio = part["input_audio"]
        url = f"data:audio/{audio['format']};base64,{audio['data']}"
    data = re.fullmatch(r"data:([^;,]*);base64,(.*)", url, re.DOTALL)
    if data is not None:
        # What is none is left out: else all that is ever said after it would be refused.
        own = "".join(data[2].split())
        inline = {"inlineData": {"mimeType": data[1], "data": own}}
        return inline if _is_base64(own) else {"text": f"[{part['type']}]"}
    if url:
        return {"fileData": {"fileUri": url}}
    return {"text": f"[{file.get('filename') or 'file'}]"}


def _is_base64(data: str) -> bool:
    try:
        return bool(base64.b64decode(data, validate=True))
    except ValueError:
        return False

"""Makes roles alternate, for models whose chat template insists on it.

After an interruption the user speaks several times in a row: a message, the note, a message. The
templates of Gemma, Mistral and many models on local servers refuse that
(github.com/vllm-project/vllm/issues/6862), as Bedrock's Converse does
(github.com/langchain-ai/langchain-aws/issues/130); Mistral also refuses a user right behind a
tool's result (github.com/anomalyco/opencode/issues/7488). They take one system message, the first.
"""

from collections.abc import Iterable
from typing import Any, Final

from interruptible._wire.native import changed
from interruptible._wire.types import Message
from interruptible.formats._values import items

BETWEEN: Final = "[…]"
"""What stands in a message that only keeps the roles apart."""

_SPEAKERS: Final = {"developer": "system", "function": "tool"}
"""The roles that templates take for another."""
_JOINED: Final = ("content", "reasoning_content", "reasoning", "thinking")
"""Texts that are joined; of other fields that differ, the later one counts."""


def alternating(messages: Iterable[Message]) -> list[Message]:
    """Messages in which user and assistant take turns, beginning with the user.

    Neighbours of one role become one: text and text are joined by a blank line, and parts are put
    one after the other. What a system says later is the user's. Where nothing can be joined, a
    message `[…]` stands in between. Results of tools stay where they are.

    Args:
        messages: The messages; one that does not change is the same object.
    """
    done: list[Message] = []
    for given in messages:
        message, speaker = given, _speaker(given)
        before = _speaker(done[-1]) if done else None
        if speaker == "system" and any(_speaker(x) != "system" for x in done):
            message, speaker = changed(given, {**given, "role": "user"}), "user"
        if speaker == before and speaker in ("system", "user", "assistant"):
            done[-1] = _joined(done[-1], message)
            continue
        if speaker == "user" and before == "tool":
            done.append({"role": "assistant", "content": BETWEEN})
        elif speaker == "assistant" and before in (None, "system"):
            done.append({"role": "user", "content": BETWEEN})
        done.append(message)
    return done


def _speaker(message: Message) -> Any:
    role: Any = message.get("role")
    return _SPEAKERS.get(role, role)


def _joined(one: Message, other: Message) -> Message:
    both = {**one, **other, "role": one.get("role")}
    for key in one.keys() & other.keys():
        a, b = one[key], other[key]
        if key == "content":
            both[key] = _contents(a, b)
        elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            both[key] = [*items(a), *items(b)]
        elif key in _JOINED and isinstance(a, str) and isinstance(b, str):
            both[key] = _contents(a, b)
    return changed(one, both)


def _contents(one: Any, other: Any) -> Any:
    if not one or not other:
        return one or other
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n\n{other}"
    is_typed = all("type" in x for x in items(one) + items(other) if isinstance(x, dict))

    def as_parts(content: Any) -> list[Any]:
        if not isinstance(content, str):
            return items(content)
        return [{"type": "text", "text": content} if is_typed else {"text": content}]

    return [*as_parts(one), *as_parts(other)]

"""Messages of a turn in each dialect, and any turn, cut off anywhere, to test repair with."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from interruptible import Message
from interruptible._task import repair
from interruptible._task.repair import INTERRUPTED
from interruptible.formats._values import type_of

from .oracles import ORACLES

often = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no failure


def repaired(turn: Sequence[Message], outputs: Sequence[tuple[str, str]] = ()) -> list[Message]:
    return repair.repaired(turn, outputs).messages


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def text(said: str) -> Message:
    return {"type": "text", "text": said}


# OpenAI's shape.


def function(call: str) -> Message:
    return {"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def calling(*calls: str, content: Any = None) -> Message:
    return assistant(content, tool_calls=[function(call) for call in calls])


def tool(call: str, content: Any) -> Message:
    return {"role": "tool", "tool_call_id": call, "content": content}


def cut_tool(call: str) -> Message:
    return tool(call, INTERRUPTED)


# Anthropic's shape.


def tool_use(call: str) -> Message:
    return {"type": "tool_use", "id": call, "name": "f", "input": {}}


def using(*calls: str, said: Sequence[Message] = ()) -> Message:
    return assistant([*said, *map(tool_use, calls)])


def result(call: str, content: Any) -> Message:
    return {"type": "tool_result", "tool_use_id": call, "content": content}


def cut_result(call: str) -> Message:
    return {**result(call, INTERRUPTED), "is_error": True}


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.org/x.png"}}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "x"}


def legacy(name: str = "f", arguments: str = "{}") -> Message:
    return assistant(None, function_call={"name": name, "arguments": arguments})


def naming(*names: str) -> Message:
    """A message of Ollama's."""
    calls = [{"function": {"name": name, "arguments": {}}} for name in names]
    return assistant("", tool_calls=calls)


def named(name: str, content: str) -> Message:
    return {"role": "tool", "tool_name": name, "content": content}


def half(call: str, arguments: str) -> Message:
    return {"id": call, "type": "function", "function": {"name": "f", "arguments": arguments}}


def searching(call: str) -> Message:
    return {"type": "server_tool_use", "id": call, "name": "web_search", "input": {"query": "x"}}


def found(call: str) -> Message:
    return {"type": "web_search_tool_result", "tool_use_id": call, "content": []}


def to_use(*calls: str, said: Sequence[Message] = ()) -> Message:
    """A message of Converse's."""
    uses = [{"toolUse": {"toolUseId": call, "name": "f", "input": {}}} for call in calls]
    return assistant([*said, *uses])


def used(call: str, content: Any, **more: Any) -> Message:
    return {"toolResult": {"toolUseId": call, "content": content, **more}}


def reasoning(signature: str = "x") -> Message:
    return {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": signature}}}


UNSIGNED = {"type": "thinking", "thinking": "Hm"}
REDACTED = {"type": "redacted_thinking", "data": "x"}
SAYS = {"text": "1"}


# -- Any turn, cut off anywhere. -------------------------------------------------------------------


class Script:
    """Writes a turn in a dialect; each text and each result that it writes is another one."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], dialect: str) -> None:
        self.draw = draw
        self.dialect = dialect
        self.has_blocks = dialect in {"anthropic", "converse"}
        self.messages: list[Message] = []
        self.open: list[tuple[str, str]] = []
        """The calls without a result: their ids and names."""
        self.written = 0

    def write(self) -> str:
        self.written += 1
        return str(self.written)

    def text(self, said: str) -> Message:
        return {"text": said} if self.dialect == "converse" else text(said)

    def put(self, message: Message) -> None:
        """Put out a message, perhaps with its native form."""
        native = {"native": {"format": "x", "value": self.write()}}
        keeps = self.dialect != "anthropic" and self.draw(st.booleans())
        self.messages.append({**message, **native} if keeps else message)

    def says(self, *, whole: bool) -> None:
        """The assistant says something, calls tools, or both."""
        unique = self.dialect != "ollama"  # there, calls have no ids
        names = self.draw(st.lists(st.sampled_from("abcd"), unique=unique, max_size=3))
        said = [self.text(self.write()) for _ in range(self.draw(st.integers(not names, 2)))]
        if not whole and self.draw(st.booleans()):
            said.insert(self.draw(st.integers(0, len(said))), self.text(self.draw(blank)))
        calls = [(name, name) for name in names]
        if self.has_blocks:
            self.put(assistant(self.blocks(said, names, whole=whole)))
        elif self.dialect == "ollama":
            told: Message = {"thinking": "Hm."} if self.draw(st.booleans()) else {}
            content = "".join(block["text"] for block in said)
            self.put({**naming(*names), **told} if names else assistant(content, **told))
            calls = [("", name) for name in names]
        else:
            self.put(self.chat(said, names, whole=whole))
        self.open += calls

    def chat(self, said: list[Message], names: list[str], *, whole: bool) -> Message:
        plain: Any = "".join(block["text"] for block in said) or self.draw(nothing)
        content = said if said and self.draw(st.booleans()) else plain
        reasons = {"reasoning_content": "Hm."} if self.draw(st.booleans()) else {}
        if not names:
            return assistant(content, **reasons)
        arguments = st.just('{"x": 1}') if whole else st.sampled_from(['{"x": 1}', '{"x": ', ""])
        calls = [half(name, self.draw(arguments)) for name in names]
        return assistant(content, tool_calls=calls, **reasons)

    def blocks(self, said: list[Message], names: list[str], *, whole: bool) -> list[Message]:
        converse = self.dialect == "converse"
        given: Any = st.just({}) if whole else st.sampled_from([{}, '{"x": ', '{"x": 1}', None])
        uses: list[Message] = []
        for name in names:
            use = {"name": name, "input": self.draw(given)}
            as_block = {"toolUse": {"toolUseId": name, **use}}
            uses.append(as_block if converse else {"type": "tool_use", "id": name, **use})
        searches: list[Message] = []
        if not converse and self.draw(st.booleans()):
            search = self.write()
            searches = [searching(search), found(search)]
            if not whole:
                searches = searches[self.draw(st.integers(0, 1)) :][: self.draw(st.integers(0, 2))]
        blocks = [*searches, *said, *uses]
        signed = [reasoning()] if converse else [THINKING, REDACTED]
        unsigned = [reasoning("")] if converse else [UNSIGNED]
        thinking = self.draw(st.lists(st.sampled_from(signed if whole else signed + unsigned)))
        for block in thinking[:3]:
            at = self.draw(st.integers(0, len(blocks) - 1 if whole else len(blocks)))
            blocks.insert(at, block)
        return blocks

    def steers(self, *, whole: bool) -> None:
        """The user says something."""
        image = {"image": {"format": "png"}} if self.dialect == "converse" else IMAGE
        parts = [self.text(self.write()), image]
        parts += [] if whole else [self.text(self.draw(blank))]
        content = [
            self.write(),
            *([self.draw(st.permutations(parts))] * (self.dialect != "ollama")),
        ]
        self.put(user(self.draw(st.sampled_from(content))))

    def gives(self, calls: Sequence[tuple[str, str]], *, whole: bool) -> None:
        """The tools give results; as blocks in one message."""
        given = [(call, name, self.write()) for call, name in calls]
        if self.dialect == "openai":
            for call, _, content in given:
                self.put(tool(call, content))
        elif self.dialect == "ollama":
            for _, name, content in given:
                self.put(named(name, content))
        else:
            rest = [self.text(self.write()) for _ in range(self.draw(st.integers(0, 2)))]
            blocks = [
                used(call, [{"text": content}])
                if self.dialect == "converse"
                else result(call, content)
                for call, _, content in given
            ] + rest
            self.put(user(blocks if whole else self.draw(st.permutations(blocks))))
        for call in calls:
            self.open.remove(call)


blank = st.sampled_from(["", " ", "\n"])
nothing = st.sampled_from([None, ""])
dialects = st.sampled_from(list(ORACLES))


@st.composite
def whole_turns(draw: Any, dialect: str) -> list[Message]:
    """A turn that went well: each call has its result in its place."""
    script = Script(draw, dialect)
    for _ in range(draw(st.integers(0, 4))):
        script.says(whole=True)
        if script.open:
            in_order = dialect == "ollama"
            calls = script.open if in_order else draw(st.permutations(script.open))
            script.gives(list(calls), whole=True)
        while draw(st.integers(0, 2)) == 0:
            script.steers(whole=True)
    return script.messages


@st.composite
def disordered_turns(draw: Any, dialect: str) -> list[Message]:
    """A turn with its results late and split, and the user's messages anywhere."""
    script = Script(draw, dialect)
    for _ in range(draw(st.integers(0, 8))):
        step = draw(st.sampled_from(["says", "steers", "gives", "gives"]))
        if step == "says":
            script.says(whole=False)
        elif step == "steers":
            script.steers(whole=False)
        elif script.open:
            calls = draw(st.permutations(script.open))
            script.gives(calls[: draw(st.integers(1, len(calls)))], whole=False)
    return script.messages


@st.composite
def cut_turns(draw: Any, dialect: str) -> list[Message]:
    """A turn that was cut off after any message, or within one."""
    turn: list[Message] = draw(whole_turns(dialect) | disordered_turns(dialect))
    turn = turn[: draw(st.integers(0, len(turn)))]
    for key in ("content", "tool_calls"):
        if turn and isinstance(turn[-1].get(key), list):
            turn[-1] = {**turn[-1], key: turn[-1][key][: draw(st.integers(0, len(turn[-1][key])))]}
    return turn


@st.composite
def jumbled_turns(draw: Any, dialect: str) -> list[Message]:
    """Messages of a turn in any order, some twice and some not at all."""
    turn = draw(cut_turns(dialect))
    jumbled: list[Message] = draw(
        st.lists(st.sampled_from(turn), max_size=8) if turn else st.just([])
    )
    return jumbled


outputs = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y\n"])), max_size=3)
"""What had come of calls that were cut off."""

NO_WORDS = {
    *("tool_use", "tool_result", "toolUse", "toolResult"),
    *("thinking", "redacted_thinking", "reasoningContent"),
    *("server_tool_use", "web_search_tool_result"),
}


def without_native(messages: Sequence[Message]) -> list[Message]:
    """What a provider is sent of them."""
    return [{key: x for key, x in each.items() if key != "native"} for each in messages]


def refused(dialect: str, messages: Sequence[Message]) -> list[str]:
    """Why a conversation with these messages is refused."""
    return list(ORACLES[dialect](without_native([user("before"), *messages, user("after")])))


def blocks_of(message: Message) -> list[Message]:
    content: Any = message.get("content")
    return [text(content)] if isinstance(content, str) else content or []


def said_by(role: str, messages: Sequence[Message]) -> list[Message]:
    """Every text of one role that is not empty, and what else it put in, in order."""
    return [
        block
        for message in messages
        for block in blocks_of(message)
        if message["role"] == role
        and type_of(block) not in NO_WORDS
        and (type_of(block) != "text" or block["text"].strip())
    ]


def results_in(messages: Sequence[Message]) -> list[tuple[str, Any]]:
    """The results, by the id or the name of their call, in order."""
    found: list[tuple[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            call = message.get("tool_call_id") or message.get("tool_name")
            found.append((str(call), message["content"]))
        for block in blocks_of(message):
            if block.get("type") == "tool_result":
                found.append((block["tool_use_id"], block["content"]))
            elif "toolResult" in block:
                (said,) = block["toolResult"]["content"]
                found.append((block["toolResult"]["toolUseId"], said["text"]))
    return found


def calls_in(messages: Sequence[Message]) -> list[tuple[str, Any]]:
    """The calls by their ids or names, and their arguments, in order."""
    calls: list[tuple[str, Any]] = []
    for message in messages:
        calls += [
            (x.get("id") or x["function"]["name"], x["function"]["arguments"])
            for x in message.get("tool_calls", [])
        ]
        for block in blocks_of(message):
            use = {"id": block.get("toolUse", {}).get("toolUseId"), **block.get("toolUse", block)}
            if block.get("type") == "tool_use" or "toolUse" in block:
                calls.append((use["id"], use["input"]))
    return calls


def is_half(arguments: Any) -> bool:
    return arguments == '{"x": '


MALFORMED = ({"malformed": '{"x": '}, json.dumps({"malformed": '{"x": '}))
"""What stands for half-said arguments of a call that has a result all the same."""

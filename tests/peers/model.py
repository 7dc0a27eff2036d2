"""A model server that speaks OpenAI's chat completions, streamed: `python -m tests.peers.model`.

The last message of the user is an order, in JSON, that says how long the answer takes. The server
notes when a call begins, when its client hangs up, and when it is answered to the end. It is a
process of its own, so that it notices at once, and ends when its input does.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tests.benchmarks.events import note

TOKEN = 0.02  # seconds between two pieces of an answer
WORD, LAST = "tok ", "end."
CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": "{}"},
}


def kind_of(message: Mapping[str, Any]) -> str:
    """What a message is, in a word or two; of the user's, its tag."""
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    if message.get("role") == "user":
        with suppress(ValueError):
            return str(json.loads(content)["tag"])
    if message.get("role") == "tool" or message.get("type") == "function_call_output":
        return "a tool's result"
    if message.get("tool_calls") or message.get("type") == "function_call":
        return "a call of a tool"
    if content.endswith(LAST):
        return "an answer"
    return "half an answer" if content.startswith(WORD) else "a note"


def ordered(messages: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], int]:
    """The user's last order, and how many answers there are to it."""
    place = max(i for i, each in enumerate(messages) if each["role"] == "user")
    answers = sum(each["role"] == "assistant" for each in messages[place + 1 :])
    return json.loads(messages[place]["content"]), answers


def chunk(delta: dict[str, Any], why: str | None = None) -> bytes:
    """A piece of an answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": why}
    said = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "any"}
    return f"data: {json.dumps({**said, 'choices': [choice]})}\n\n".encode()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One call."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        body = json.loads(await reader.readexactly(int(fields[b"content-length"])))
    except (asyncio.IncompleteReadError, ConnectionError):  # cut off before it had asked
        writer.close()
        return
    order, step = ordered(body["messages"])
    tag = f"{order['tag']}-{step}" if "steps" in order else order["tag"]
    note("started", tag, *map(kind_of, body["messages"]))
    loop = asyncio.get_running_loop()
    end = loop.time() + order["seconds"]
    hung_up = asyncio.create_task(reader.read())
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    writer.write(chunk({"role": "assistant", "content": ""}))
    while (left := end - loop.time()) > 0 and not hung_up.done():
        writer.write(chunk({"content": WORD}))
        await asyncio.wait({hung_up}, timeout=min(left, TOKEN))
    if hung_up.done():
        note("cut off", tag)
    else:
        if body.get("tools") and step + 1 < order.get("steps", 1):
            writer.write(chunk({"tool_calls": [CALL]}) + chunk({}, "tool_calls"))
        else:
            writer.write(chunk({"content": LAST}) + chunk({}, "stop"))
        writer.write(b"data: [DONE]\n\n")
        note("finished", tag)
    hung_up.cancel()
    with suppress(asyncio.CancelledError, OSError):
        await hung_up
    writer.close()


async def main() -> None:
    """Serve until the input ends."""
    server = await asyncio.start_server(answer, "127.0.0.1", limit=2**26)
    note("serving", "", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())

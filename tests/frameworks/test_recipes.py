"""What the pages say of frameworks that need no module, followed where their package is."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from interruptible import Session
from interruptible.testing import serve
from tests.docs.pages import RECIPES, Page, Reader
from tests.server.conftest import normal_mode

from .anthropic_api import AnthropicApi, Block
from .contract import NOTE, plain

if TYPE_CHECKING:
    from pathlib import Path

    from interruptible.testing import Restate

pytestmark = [pytest.mark.anyio, normal_mode]


def skip_without(package: str) -> None:
    """Skip the test, unless the package is there; it is not imported, as that takes seconds."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"there is no {package}")


# -- LiteLLM ---------------------------------------------------------------------------------------

SPEAKS = '''
class Offline(litellm.CustomLLM):
    """A provider of one's own: it says half an answer, and stays."""

    async def astreaming(self, *_, messages, **__):
        words = {"Stop.": [f"{len(messages)} messages."]}
        for word in words.get(messages[-1]["content"], ["Half ", "an ", "answer ", None]):
            if word is None:
                print("stays")
                await asyncio.sleep(60)
            text = {"text": word, "tool_use": None, "usage": None, "index": 0}
            yield {**text, "is_finished": False, "finish_reason": None}
        yield {**text, "text": "", "is_finished": True, "finish_reason": "stop"}


litellm.custom_provider_map = [{"provider": "offline", "custom_handler": Offline()}]
'''


async def test_how_to_use_litellm(
    restate_env: Restate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without("litellm")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    async with Reader(Page(RECIPES["litellm"]), restate_env, tmp_path) as page:
        text = page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("find_hotels Rome")
        # What the page says of refusals, of steering, of thinking, and of words that had come.
        session = Session(restate_env.client, "TravelAgent", "bob")
        refuse = 'return {"mock_response": "litellm.ContextWindowExceededError"}'
        refuse = f'    if messages[-1]["content"] == "Refuse.":\n        {refuse}\n'
        offline = text.replace("    if messages", f"{refuse}    if messages").replace("60)", "1)")
        thinking = [{"type": "thinking", "thinking": "Hm.", "signature": "eA=="}]
        offline = offline.replace('"I look."', f'"I look.", "thinking_blocks": {thinking}')
        (tmp_path / "refuses.py").write_text(offline)
        await page.serve("refuses.py")
        outcome = await session.ask("Refuse.")
        assert outcome["status"] == "failed"
        assert "ContextWindowExceededError" in str(outcome)
        await session.send("A weekend in Rome.")
        await page.until_said("find_hotels Rome", 2)
        await session.send("Stop. What is there to eat?", policy="steer")
        outcome = await session.attach()
        assert plain(outcome["messages"])[-2:] == [
            ("user", "Stop. What is there to eat?"),
            ("assistant", "I was sent 6 messages."),
        ]
        await session.send("A weekend in Rome.")
        await page.until_said("find_hotels Rome", 3)
        await session.cancel()
        first = await session.attach()
        assert first["status"] == "interrupted"
        assert first["messages"][0]["thinking_blocks"] == thinking
        offline = text.replace("openai/gpt-5", "offline/any").replace("**offline(messages),", "")
        offline = offline.replace("def offline", f"{SPEAKS}\n\ndef offline")
        (tmp_path / "speaks.py").write_text(offline)
        await page.serve("speaks.py")
        await session.send("Speak.")
        await page.until_said("stays")
        outcome = await session.ask("Stop.")
        first = await session.attach(4)
        assert (first["status"], first.get("partial")) == ("interrupted", 1)
        assert plain(first["messages"]) == [("assistant", "Half an answer ")]
        assert plain(await session.history())[-4:] == [
            ("assistant", "Half an answer "),
            ("user", NOTE),
            ("user", "Stop."),
            ("assistant", "16 messages."),
        ]


# -- Claude Agent SDK ------------------------------------------------------------------------------


def travel(blocks: list[dict[str, Any]]) -> list[Block]:
    """What the model of the page's agent says: trains first, then hotels."""
    last = blocks[-1]
    if last["type"] == "tool_result":
        was_first = "trains" in str(last["content"])
        return ["Now the hotels.", look_up("hotels")] if was_first else ["All is found."]
    match last["text"].rpartition("\n\n")[2]:
        case "Only the trains.":
            return ["There are trains."]
        case "Speak.":
            return ["Half an ", None]
        case "Refuse.":
            raise ValueError("We refuse.")
        case _:
            return ["Let me see.", look_up("trains")]


def look_up(what: str) -> Block:
    return {"type": "tool_use", "name": "mcp__travel__look_up", "input": {"what": what}}


async def test_how_to_use_the_claude_agent_sdk(
    restate_env: Restate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without("claude_agent_sdk")
    for name in [x for x in os.environ if x.startswith(("ANTHROPIC", "CLAUDE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "offline")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "first"))
    monkeypatch.setenv("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
    api = AnthropicApi(travel)
    async with (
        serve(api) as url,
        Reader(Page(RECIPES["claude_agent_sdk"]), restate_env, tmp_path) as page,
    ):
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        text = page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("looking up hotels")
        # What the page says of a request that is cut off, and of the task in tools.
        heard = text.replace("60)", "0.1)").replace(
            "say(text)", 'say(text) or print(f"heard {text}")'
        )
        heard = heard.replace("interruptible import", "interruptible import current_task,")
        heard = heard.replace("looking up {", "{current_task().id} looks up {")
        (tmp_path / "heard.py").write_text(heard)
        await page.serve("heard.py")
        session = Session(restate_env.client, "TravelAgent", "bob")
        await session.send("Speak.")
        await page.until_said("heard Half an")
        begun = time.monotonic()
        await session.cancel()
        first = await session.attach(1)
        assert time.monotonic() - begun < 4  # it takes 5 without `interrupt`
        assert (first["status"], first.get("partial")) == ("interrupted", 1)
        assert plain(first["messages"]) == [("assistant", "Half an ")]
        await asyncio.wait_for(api.hung_up.wait(), 30)
        assert not [*tmp_path.glob("first/**/*.jsonl")]
        # Of another worker.
        monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "second"))
        await page.serve("heard.py")
        outcome = await session.ask("Only the trains.")
        assert plain(outcome["messages"])[0][0] == "assistant"
        assert "Half an " in api.requests[-1][0]["text"]
        # Of a turn that comes to its end, also beside another.
        other = Session(restate_env.client, "TravelAgent", "carl")
        await session.send("Go on.")
        task = (await other.send("To Oslo."))["task_id"]
        outcome, _ = await session.attach(), await other.attach()
        await page.until_said(f"{task} looks up hotels")
        assert [(x["role"], [b["type"] for b in x["content"]]) for x in outcome["messages"]] == [
            ("assistant", ["text"]),
            ("assistant", ["tool_use"]),
            ("user", ["tool_result"]),
            ("assistant", ["text"]),
            ("assistant", ["tool_use"]),
            ("user", ["tool_result"]),
            ("assistant", ["text"]),
        ]
        outcome = await other.ask("Refuse.")
        assert outcome["status"] == "failed"
        assert "We refuse." in str(outcome)

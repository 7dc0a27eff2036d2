"""An editor that speaks the Agent Client Protocol, as PyPI's `agent-client-protocol` has it."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import acp
from acp.schema import AllowedOutcome, DeniedOutcome, RequestPermissionResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from interruptible.testing import Restate

ROOT = Path(__file__).parents[2]
KINDS = {
    "user_message_chunk": "user",
    "agent_message_chunk": "agent",
    "agent_thought_chunk": "thought",
}
PATIENCE = 40
"""Seconds that something may take which has to happen."""


@dataclass
class Entry:
    """What an editor shows: words of somebody, or a call of a tool."""

    kind: str
    text: str = ""
    call: dict[str, Any] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return self.brief == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.brief)

    @property
    def brief(self) -> tuple[str, str]:
        """Its kind and its words; of a call its title and its state, and what came of it."""
        if self.kind != "call":
            return self.kind, self.text
        shown = "".join(x["content"].get("text", "?") for x in self.call.get("content") or [])
        return "call", f"{self.call['title']} {self.call.get('status')}: {shown}"


class Editor:
    """What is shown of each session, as an editor would do it; permissions wait to be decided."""

    def __init__(self) -> None:
        self.shown: dict[str, list[Entry]] = {}
        self.asked: list[tuple[str, asyncio.Future[str]]] = []
        """What it was asked, by title, and where the answer goes: the option, or `cancelled`."""
        self._changed = asyncio.Event()

    def on_connect(self, conn: Any) -> None:
        self.agent: Any = conn

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        entries = self.shown.setdefault(session_id, [])
        told = update.model_dump(by_alias=True, exclude_none=True, mode="json")
        kind = told.pop("sessionUpdate")
        if kind == "tool_call":
            entries.append(Entry("call", call=told))
        elif kind == "tool_call_update":
            [entry] = [x for x in entries if x.call.get("toolCallId") == told["toolCallId"]]
            entry.call.update(told)
        else:
            self._add(entries, KINDS[kind], told["content"])
        self._changed.set()

    def _add(self, entries: list[Entry], kind: str, content: dict[str, Any]) -> None:
        text = content.get("text", f"[{content['type']}]")
        if entries and entries[-1].kind == kind:
            entries[-1].text += text
        else:
            entries.append(Entry(kind, text))

    async def request_permission(
        self, session_id: str, tool_call: Any, options: Any, **_: Any
    ) -> RequestPermissionResponse:
        assert [(x.option_id, x.kind) for x in options] == [
            ("allow", "allow_once"),
            ("reject", "reject_once"),
        ]
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked.append((tool_call.title, answer))
        self._changed.set()
        chosen = await answer
        if chosen == "cancelled":
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        if chosen == "nonsense":
            return RequestPermissionResponse.model_construct(outcome="nonsense")  # type: ignore[arg-type]
        selected = AllowedOutcome(outcome="selected", option_id=chosen)
        return RequestPermissionResponse(outcome=selected)

    def prompt(self, session: str, *blocks: Any) -> asyncio.Task[Any]:
        """Say something: the user sees it at once."""
        prompt = [acp.text_block(x) if isinstance(x, str) else x for x in blocks]
        for block in prompt:
            told = block.model_dump(by_alias=True, exclude_none=True, mode="json")
            self._add(self.shown.setdefault(session, []), "user", told)
        return asyncio.ensure_future(self.agent.prompt(session_id=session, prompt=prompt))

    async def until(self, check: Callable[[], Any], what: object = "it") -> None:
        """Wait until that holds of what is shown."""

        async def wait() -> None:
            while not check():
                self._changed.clear()
                await self._changed.wait()

        try:
            await asyncio.wait_for(wait(), PATIENCE)
        except asyncio.TimeoutError:
            msg = f"{what} did not come; shown is {self.shown}, asked {self.asked}"
            raise AssertionError(msg) from None

    async def until_shown(self, session: str, *entries: tuple[str, str]) -> None:
        """Wait until the editor shows just this."""
        await self.until(lambda: self.shown.get(session, []) == [*entries], entries)


async def stop_reason(prompt: asyncio.Task[Any]) -> str:
    """How a prompt was answered."""
    return str((await asyncio.wait_for(prompt, PATIENCE)).stop_reason)


def command(env: Restate, agent: str, *more: str) -> tuple[str, ...]:
    """What an editor runs."""
    where = ("--agent", agent, "--ingress", env.ingress_url)
    return (sys.executable, "-m", "interruptible.acp", *where, *more)


@asynccontextmanager
async def editor_of(*command: str, **env: str) -> AsyncGenerator[Editor, None]:
    """An editor that has this started."""
    editor = Editor()
    async with acp.spawn_agent_process(
        editor,  # type: ignore[arg-type] - what no test needs it does not have
        *command,
        env={"PATH": os.environ["PATH"], **env},
        cwd=ROOT,
        transport_kwargs={"stderr": None, "limit": 1 << 24, "shutdown_timeout": PATIENCE},
        use_unstable_protocol=True,
    ) as (agent, process):
        editor.agent, editor.process = agent, process  # type: ignore[attr-defined]
        await editor.agent.initialize(protocol_version=acp.PROTOCOL_VERSION)
        yield editor


@asynccontextmanager
async def editing(env: Restate, agent: str, *more: str) -> AsyncGenerator[Editor, None]:
    """An editor that has the command started for an agent."""
    async with editor_of(*command(env, agent, *more)) as editor:
        yield editor


async def new_session(editor: Editor) -> str:
    """Open what `session/new` opens."""
    return str((await editor.agent.new_session(cwd=str(ROOT), mcp_servers=[])).session_id)

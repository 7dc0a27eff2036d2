"""An agent of this library as an agent of the Agent Client Protocol."""

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final

import httpx
from acp import (
    PROTOCOL_VERSION,
    InitializeResponse,
    LoadSessionResponse,
    NewSessionResponse,
    PromptRequest,
    PromptResponse,
    RequestError,
)
from acp.interfaces import Client
from acp.schema import (
    AgentCapabilities,
    CloseSessionResponse,
    Implementation,
    PromptCapabilities,
    SessionCapabilities,
    SessionCloseCapabilities,
)
from pydantic import ValidationError
from restate import RestateClient, TerminalError

from interruptible._acp.content import Block, content_of_prompt
from interruptible._acp.session import OpenSession
from interruptible.client import Session
from interruptible.formats._values import value_in

STEERING: Final = "session/steering"
"""The extension by which a client has the turn at work read something, without its underscore."""
INVALID_PARAMS: Final = -32602
INVALID_REQUEST: Final = -32600
NOT_FOUND: Final = -32002
INTERNAL_ERROR: Final = -32603
_CODES: Final = {
    400: INVALID_PARAMS,
    413: INVALID_PARAMS,
    404: NOT_FOUND,
    409: INVALID_REQUEST,
    410: INVALID_REQUEST,
    412: INVALID_REQUEST,
    423: INVALID_REQUEST,
    429: INVALID_REQUEST,
}
"""What JSON-RPC and ACP call the refusals of a session."""


class EditorsAgent:
    """What an ACP client talks to.

    Args:
        client: The way to Restate.
        agent: The agent's name.
        key: The session that `session/new` opens; by default each time a new one.
        where: How the ingress is named in errors.
    """

    def __init__(self, client: RestateClient, agent: str, key: str | None, where: str) -> None:
        self._restate, self._agent, self._key, self._where = client, agent, key, where
        self._open: dict[str, OpenSession] = {}

    def on_connect(self, conn: Client) -> None:
        """The client is there."""
        self._client = conn

    async def close(self) -> None:
        """The client is gone; what is at work goes on."""
        for conversation in self._open.values():
            await conversation.close()

    async def initialize(self, **_: Any) -> InitializeResponse:
        """Say what it can."""
        return InitializeResponse(
            protocol_version=PROTOCOL_VERSION,
            agent_capabilities=AgentCapabilities(
                load_session=True,
                prompt_capabilities=PromptCapabilities(
                    image=True, audio=True, embedded_context=True
                ),
                session_capabilities=SessionCapabilities(close=SessionCloseCapabilities()),
            ),
            agent_info=Implementation(
                name="interruptible", title=self._agent, version=version("restate-interruptible")
            ),
            field_meta={"steering": {"supported": True}},
        )

    async def new_session(self, **_: Any) -> NewSessionResponse:
        """Open the session that was named, or a new one."""
        key = self._key or str(uuid.uuid4())
        conversation = await self._opened(key)
        with self._errors(), self._unknown_agent():
            await conversation.check()
        # The client knows the session only when it has the answer: what has happened comes after.
        conversation.follow()
        return NewSessionResponse(session_id=key)

    async def load_session(self, session_id: str, **_: Any) -> LoadSessionResponse:
        """Open a session, and tell all that has happened in it.

        Each key is a session. One without turns is as good as new: an editor may have opened it,
        and closed it before anything was said.
        """
        if not session_id:
            raise RequestError(INVALID_PARAMS, "sessionId: is empty. Name a session.")
        conversation = await self._opened(session_id)
        with self._errors(), self._unknown_agent():
            await conversation.replay()
        conversation.follow()
        return LoadSessionResponse()

    async def prompt(self, session_id: str, prompt: list[Block], **_: Any) -> PromptResponse:
        """Send a message, and answer when the turn that answers it is over, and told."""
        conversation = self._found(session_id)
        with self._errors():
            outcome = await conversation.prompt(content_of_prompt(prompt))
        if outcome["status"] in ("failed", "killed"):
            why = "The turn was killed: somebody has ended its task in Restate."
            if outcome["status"] == "failed":
                why = f"The turn failed: {outcome.get('error')}"
            told = {"turn": outcome.get("turn"), "status": outcome["status"]}
            raise RequestError(INTERNAL_ERROR, why, told)
        is_done = outcome["status"] == "completed"
        return PromptResponse(stop_reason="end_turn" if is_done else "cancelled")

    async def cancel(self, session_id: str, **_: Any) -> None:
        """Cancel all that is live; the prompts are answered after its cleanup."""
        await self._found(session_id).cancel()

    async def close_session(self, session_id: str, **_: Any) -> CloseSessionResponse:
        """Stop telling of a session; what is at work goes on."""
        closed = self._found(session_id)
        del self._open[session_id]
        await closed.close()
        return CloseSessionResponse()

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Steer the turn at work, as other agents have it as an extension."""
        if method != STEERING:
            raise RequestError.method_not_found(f"_{method}")
        try:
            asked = PromptRequest.model_validate(params)
        except ValidationError as error:
            raise RequestError(INVALID_PARAMS, f"steering: {error}") from error
        steering: Any = (asked.field_meta or {}).get("steering")
        idle = value_in(steering, "idleBehavior")
        if idle not in (None, "promptRequired"):
            reason = f"idleBehavior: must be promptRequired, not {idle!r}. Leave it out."
            raise RequestError(INVALID_PARAMS, reason)
        if not asked.prompt:
            raise RequestError(INVALID_PARAMS, "prompt: is empty. Say something.")
        conversation = self._found(asked.session_id)
        with self._errors():
            became = await conversation.steer(
                content_of_prompt(asked.prompt), only_if_at_work=idle is not None
            )
        if became == "idle":
            return {"outcome": "promptRequired", "reason": "noRunningTurn"}
        return {"outcome": "injected" if became == "steered" else "startedNewTurn"}

    def _found(self, key: str) -> OpenSession:
        if key not in self._open:
            reason = f"Session {key!r} is not open here. Open it with session/load."
            raise RequestError(NOT_FOUND, reason)
        return self._open[key]

    async def _opened(self, key: str) -> OpenSession:
        """A session that this client has open once, however often it opens it."""
        before = self._open.get(key)
        opened = OpenSession(self._client, Session(self._restate, self._agent, key))
        self._open[key] = opened
        if before is not None:
            await before.close()
        return opened

    @contextmanager
    def _errors(self) -> Generator[None, None, None]:
        """Refusals of a session, as ACP has them."""
        try:
            yield
        except TerminalError as error:
            code = _CODES.get(error.status_code, INTERNAL_ERROR)
            raise RequestError(code, error.message, {"status": error.status_code}) from error
        except (httpx.TransportError, OSError) as error:
            reason = (
                f"Restate's ingress at {self._where} does not answer ({error!r}). Start it, or "
                "correct --ingress."
            )
            raise RequestError(INTERNAL_ERROR, reason) from error

    @contextmanager
    def _unknown_agent(self) -> Generator[None, None, None]:
        """What to do if Restate does not know the agent."""
        try:
            yield
        except TerminalError as error:
            if error.status_code != 404:  # noqa: PLR2004
                raise
            why = error.message.rstrip(".")
            reason = (
                f"There is no {self._agent} at {self._where}: {why}. Register it with Restate, or "
                "correct --agent."
            )
            raise TerminalError(reason, 404) from error

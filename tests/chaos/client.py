"""Clients of the chaos run: they retry through anything, and record what they were answered."""

import asyncio
import random
import time
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import httpx
from restate import RestateClient

from .records import History, Op

TRY: Final = 15.0
"""Seconds for one try; the next one asks for the same invocation."""
PATIENCE: Final = 120.0
"""Seconds until a client gives up, and nobody knows."""
DOWN: Final = frozenset({429, 500, 502, 503, 504})
"""Answers that may be the server's own, when it is not well."""


class Client:
    """Calls handlers through the ingress of any node, and writes down what it was answered."""

    def __init__(
        self,
        urls: Sequence[str],
        http: httpx.AsyncClient,
        history: History,
        ways: Sequence[RestateClient] = (),
    ) -> None:
        self.urls, self.http, self.history = urls, http, history
        self.ways = ways
        """The clients of restate-sdk for those who follow, one for each node."""
        self.retries = 0

    async def call(
        self,
        agent: str,
        session: str,
        name: str,
        body: Any = None,
        *,
        patience: float = PATIENCE,
    ) -> Op:
        """Ask, with one idempotency key for all tries."""
        op = self.history.ask(agent, session, name, body)
        status, answer = await self._ask(op, time.monotonic() + patience)
        self.history.answer(op, status, answer)
        return op

    async def read(self, agent: str, session: str, name: str, body: Any = None) -> Any:
        """Ask what changes nothing, until there is an answer; no check is to know of it."""
        while True:
            op = Op(0, agent, session, name, body, time.time())
            status, answer = await self._ask(op, time.monotonic() + PATIENCE)
            if status == HTTPStatus.OK:
                return answer
            await asyncio.sleep(0.2)

    async def _ask(self, op: Op, deadline: float) -> tuple[int | None, Any]:
        path = f"/{op.agent}/{op.session}/{op.name}"
        headers = {"idempotency-key": uuid.uuid4().hex}
        if op.body is None:
            headers["content-length"] = "0"
        broken = 0
        while time.monotonic() < deadline:
            url = random.choice(self.urls) + path  # noqa: S311
            try:
                response = await self.http.post(url, json=op.body, headers=headers, timeout=TRY)
                answer = response.json() if response.content else None
            except (httpx.HTTPError, ValueError):
                self.retries += 1
                await asyncio.sleep(0.1)
                continue
            broken += response.status_code == 500
            if _is_servers_own(response.status_code, answer) and broken < 5:
                self.retries += 1
                await asyncio.sleep(0.2)
                continue
            return response.status_code, answer
        return None, None


def _is_servers_own(status: int, answer: Any) -> bool:
    said = answer if isinstance(answer, dict) else {}
    if status == HTTPStatus.NOT_FOUND:  # a node that has just come knows no services yet
        return said.get("source") == "ingress"
    return status in DOWN and not str(said.get("message", "")).startswith("policy:")

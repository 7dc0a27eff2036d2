"""What the pages of the frameworks say is so, of those frameworks that are installed."""

from __future__ import annotations

import asyncio
import importlib
import re
from typing import TYPE_CHECKING

import httpx
import pytest

from interruptible import Session
from tests.docs.pages import OF_FRAMEWORKS, Page, Reader
from tests.server.conftest import normal_mode

if TYPE_CHECKING:
    from pathlib import Path

    from interruptible.testing import Restate

pytestmark = [pytest.mark.anyio, normal_mode]


@pytest.mark.parametrize("framework", OF_FRAMEWORKS)
async def test_the_page_of_a_framework(
    restate_env: Restate, tmp_path: Path, framework: str
) -> None:
    try:
        importlib.import_module(f"interruptible.ext.{framework}")
    except ImportError as error:
        pytest.skip(str(error))
    async with Reader(Page(OF_FRAMEWORKS[framework]), restate_env, tmp_path) as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("found trains")
        page.write("own.py")
        await page.serve("own.py")
        await page.shell()
        if framework == "langchain":
            page.write("graph.py")
            await page.serve("graph.py")
            await page.shell()
        page.write("approval.py")
        await page.serve("approval.py")
        session = Session(restate_env.client, "Payer", "ada")
        await session.send("Pay.")
        promise = await asked(page)
        async with httpx.AsyncClient(base_url=restate_env.ingress_url) as http:
            await http.post(f"/restate/awakeables/{promise}/resolve", json=True)
        messages = (await session.attach())["messages"]
        assert "paid" in messages[1]["content"]


async def asked(page: Reader) -> str:
    """The promise by which the page's program waits for an approval."""
    while True:
        for line in page.said:
            if found := re.fullmatch(r"may I pay \d+\? (\S+)", line):
                return found[1]
        await asyncio.sleep(0.02)

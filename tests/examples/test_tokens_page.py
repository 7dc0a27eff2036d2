"""The page of *Show tokens as they come*, in two tabs of a real browser."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from interruptible.testing import Restate, restate_server
from tests.docs.pages import Page, Reader
from tests.server.process import free_port

from .web_browser import SCREENSHOTS, chromium, missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

SHOWN = "document.getElementById('shown').textContent"


@contextlib.asynccontextmanager
async def two_tabs(server: Restate, folder: Path) -> AsyncIterator[tuple[Any, Any]]:
    """The page, as it is written, in two tabs."""
    reader = Reader(Page("docs/how-to/show-tokens.md"), server, folder)
    pause = "asyncio.sleep(0.1)"  # the first story goes on only until it is interrupted
    held = "asyncio.sleep(600 if word == 'under' and 'mouse' in story else 0.1)"
    reader.write("agent.py", {pause: held})
    for name in ("page.py", "page.html"):
        reader.write(name)
    port = free_port()
    hypercorn = (sys.executable, "-m", "hypercorn", "page:app", "--bind", f"localhost:{port}")
    try:
        await reader.serve("agent.py")
        await reader.start(*hypercorn, until="Running on", cwd=folder)
        async with chromium() as browser:
            context = await browser.new_context()
            tabs = [await context.new_page() for _ in range(2)]
            for tab in tabs:
                await tab.goto(f"http://localhost:{port}/")
            yield tabs[0], tabs[1]
    finally:
        reader.unused.clear()
        await reader.__aexit__(None, None, None)


async def comes_to(tab: Any, text: str) -> None:
    """Wait until a tab shows this, and nothing else."""
    try:
        await tab.wait_for_function(f"told => {SHOWN} === told", arg=text)
    except Exception as error:
        shown = await tab.evaluate(SHOWN)
        raise AssertionError(f"It shows {shown!r}, and not {text!r}.") from error


async def test_two_tabs_show_the_tokens_and_come_to_what_is_on_record(tmp_path: Path) -> None:
    async with restate_server() as server, two_tabs(server, tmp_path) as (left, right):
        await left.fill("#text", "mouse")
        await left.press("#text", "Enter")
        for tab in (left, right):
            await tab.wait_for_function(f"{SHOWN}.includes('a mouse slept ')")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await right.screenshot(path=SCREENSHOTS / "tokens.png")
        await right.fill("#text", "no, a dragon")
        await right.press("#text", "Enter")
        for tab in (left, right):
            await tab.wait_for_function(f"{SHOWN}.endsWith('old tree. \\n')")
        text = await left.evaluate(SHOWN)
        for tab in (left, right):
            await tab.reload()
            await comes_to(tab, text)
    first, cut, second, end = text.splitlines()
    assert (first, second) == ("user: mouse", "user: no, a dragon")
    assert cut.startswith("assistant: Once upon a time a mouse slept ")
    story = "Once upon a time a no, a dragon slept under a very large and very old tree. "
    assert end == f"assistant: {story}"

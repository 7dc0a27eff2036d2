"""A real Chromium, driven by Playwright, and the page in it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from examples.coding_agent.web.page import Page
from interruptible.testing import serve

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"  # git ignores it
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """The browser of `CHROMIUM`, or else the one on the `PATH`."""
    return shutil.which(os.environ.get("CHROMIUM", "")) or next(
        filter(None, map(shutil.which, NAMES)), None
    )


def missing() -> str | None:
    """What this machine lacks for these tests."""
    if find_chromium() is None:
        return "no chromium on the PATH (Debian: apt-get install chromium), nor in CHROMIUM"
    lacks = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
    return f"no {' and no '.join(lacks)} (make web-test installs them)" if lacks else None


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    assert missing() is None, missing()
    from playwright.async_api import async_playwright  # noqa: PLC0415

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


class Desk:
    """One person at one page of one session."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._console)
        page.set_default_timeout(30_000)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(message.text)

    async def open(self) -> Desk:
        await self.page.goto(self.url)
        await self.status("Idle|Turn")
        return self

    async def say(self, text: str, policy: str = "interrupts") -> None:
        await self.page.get_by_role("radio", name=policy).check(force=True)
        await self.page.get_by_label("Message", exact=True).fill(text)
        await self.page.get_by_label("Message", exact=True).press("Enter")

    async def status(self, pattern: str) -> None:
        await self.see(self.page.get_by_role("status").filter(has_text=re.compile(pattern)))

    async def see(self, locator: Any) -> None:
        await locator.first.wait_for()

    async def see_text(self, text: str, turn: int | None = None) -> None:
        where = self.page.locator(f"#turn-{turn}") if turn else self.page.locator("#log")
        await self.see(where.get_by_text(text))

    async def fate(self, turn: int, fate: str) -> None:
        await self.see(
            self.page.locator(f"#turn-{turn} > header .fate").filter(
                has_text=re.compile(f"^{fate}$")
            )
        )

    async def conversation(self) -> str:
        """All that is shown, as text."""
        return str(await self.page.locator("#log").inner_text())

    async def shot_for_all(self, name: str) -> None:
        """A screenshot, once nobody is kept from using what it shows, as far as axe can tell."""
        from axe_playwright_python.async_playwright import Axe  # noqa: PLC0415

        await self.shot(name)
        found = (await Axe().run(self.page)).response["violations"]
        faults = [(x["id"], [node["html"] for node in x["nodes"]]) for x in found]
        assert not faults, f"{name}: {faults}"

    async def shot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")


class House:
    """The page's server for one stage, and the browser."""

    def __init__(self, browser: Any, stage: Any, url: str, page: Page) -> None:
        self.browser, self.stage, self.url, self.server = browser, stage, url, page
        self._stack = contextlib.AsyncExitStack()
        self.desks: list[Desk] = []

    async def desk(self, **context: Any) -> Desk:
        """A new browser with nothing in it, at the session's page."""
        made = await self.browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, **context}
        )
        self._stack.push_async_callback(made.close)
        return await self.tab(made)

    async def tab(self, context: Any) -> Desk:
        where = f"{self.url}/c/{quote(self.stage.session.key, safe='')}"
        desk = Desk(await context.new_page(), where)
        self.desks.append(desk)
        return await desk.open()

    async def close(self) -> None:
        await self._stack.aclose()


@contextlib.asynccontextmanager
async def house(browser: Any, stage: Any, agent: str | None = None) -> AsyncIterator[House]:
    """The page of a `Stage`, or of what has a `restate` and a `session` as it has."""
    restate = stage.restate
    agent = agent or stage.agent.name
    async with contextlib.AsyncExitStack() as stack:
        page = Page(ingress=restate.ingress_url, ui=restate.admin_url, agent=agent)
        url = await stack.enter_async_context(serve(page))  # type: ignore[arg-type]
        made = House(browser, stage, url, page)
        try:
            yield made
        finally:
            for number, desk in enumerate(made.desks):
                await desk.shot(f"last-{number}")
            await made.close()
            page.gateway.hang_up()
    faults = [fault for desk in made.desks for fault in desk.faults]
    assert not faults, faults


skip = pytest.mark.skipif(
    missing() is not None and not os.environ.get("CI"),  # there nobody would see that they skip
    reason=str(missing()),
)

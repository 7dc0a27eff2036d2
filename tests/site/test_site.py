"""The documentation as a site: `make docs-site` has built it. It is looked at in Chromium."""

from __future__ import annotations

import html.parser
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles

from interruptible.testing import serve
from tests.examples.web_browser import chromium, skip
from tests.server.npm import installed

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build/site"
SCREENSHOTS = ROOT / "build/screenshots"
MERMAID = re.compile(r"https://unpkg\.com/(mermaid@\d+)/(dist/mermaid\.min\.js)")
"""What the theme fetches where there is a diagram; here it comes from npm."""


class Page(html.parser.HTMLParser):
    """The links of a page, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[x] for x in ("id", "name") if given.get(x)}
        if tag in ("a", "link", "script", "img"):
            self.links += [given[x] for x in ("href", "src") if given.get(x)]


def test_every_link_of_the_site_leads_somewhere() -> None:
    pages = {path: Page(path) for path in SITE.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 50
    broken = set()
    for path, page in pages.items():
        for link in page.links:
            where = urlsplit(link)
            if where.scheme or where.netloc:
                continue
            to = (path.parent / unquote(where.path)).resolve() if where.path else path
            to = to / "index.html" if to.is_dir() else to
            anchor = unquote(where.fragment)
            known = not anchor or to not in pages or anchor in pages[to].anchors
            if not (to.is_file() and known):
                broken.add((str(path.relative_to(SITE)), link))
    assert not broken


@pytest.fixture(scope="module")
def mermaid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The version of Mermaid that the theme wants."""
    [script] = (SITE / "assets/javascripts").glob("bundle.*.min.js")
    found = MERMAID.search(script.read_text(encoding="utf-8"))
    assert found
    folder = installed(tmp_path_factory.mktemp("npm"), found[1])
    return (folder / "node_modules/mermaid" / found[2]).read_bytes()


@pytest.fixture
async def site() -> AsyncIterator[tuple[str, Any]]:
    """Where it is served, and a browser."""
    app = Starlette()
    app.mount("/", StaticFiles(directory=SITE, html=True))
    async with serve(app) as url, chromium() as browser:  # type: ignore[arg-type]
        yield url, browser


async def opened(browser: Any, mermaid: bytes, faults: list[str], **context: Any) -> Any:
    """A new window, which notes what goes wrong and what is asked of others."""
    made = await browser.new_context(**context)

    async def ask(route: Any) -> None:
        address = route.request.url
        if MERMAID.fullmatch(address):
            await route.fulfill(body=mermaid, content_type="text/javascript")
        elif urlsplit(address).hostname == "127.0.0.1":
            await route.continue_()
        else:
            faults.append(f"asks for {address}")
            await route.abort()

    await made.route("**/*", ask)
    page = await made.new_page()
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: said.type == "error" and faults.append(said.text))
    return page


WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@skip
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_it_looks_as_it_should(
    site: tuple[str, Any], mermaid: bytes, window: dict[str, int], scheme: str
) -> None:
    url, browser = site
    faults: list[str] = []
    page = await opened(browser, mermaid, faults, viewport=window, color_scheme=scheme)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    shades = []
    for where, diagrams in ("", 1), ("explanation/protocol", 2), ("which-way", 0), ("reference", 0):
        await page.goto(f"{url}/{where}/".replace("//", "/").replace(":/", "://"))
        await page.locator("h1").wait_for()
        if diagrams:
            await page.wait_for_function(
                "n => [...document.querySelectorAll('div.mermaid')]"
                ".filter(x => x.clientHeight > 100).length === n",
                arg=diagrams,
            )
        wider = "document.documentElement.scrollWidth - window.innerWidth"
        assert await page.evaluate(wider) <= 0, where
        shades.append(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        name = f"site-{where.replace('/', '-') or 'first'}-{window['width']}-{scheme}.png"
        await page.screenshot(path=SCREENSHOTS / name, animations="disabled")
    brightness = {sum(map(int, re.findall(r"\d+", x)[:3])) > 3 * 128 for x in shades}
    assert brightness == {scheme == "light"}
    assert not faults
    await page.context.close()


@skip
async def test_it_can_be_searched_and_copied_from(site: tuple[str, Any], mermaid: bytes) -> None:
    url, browser = site
    faults: list[str] = []
    allowed = ["clipboard-read", "clipboard-write"]
    page = await opened(browser, mermaid, faults, viewport=WIDE, permissions=allowed)
    await page.goto(f"{url}/tutorial/")
    await page.locator(".highlight").first.hover()
    await page.locator(".highlight button").first.click()
    code = await page.locator(".highlight code").first.inner_text()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied.split() == code.split()
    await page.keyboard.press("/")
    await page.get_by_role("combobox", name="Search").fill("quiet window")
    await page.get_by_role("option", name="A quiet window").first.click()
    await page.wait_for_url("**/policies/**")
    assert not faults
    await page.context.close()

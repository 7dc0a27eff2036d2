"""How an agent is put before browsers: the gateway, mounted in an app, and who may reach it.

    GET  /                                  goes to a conversation
    GET  /c/<session>                       the page
    GET  /static/<file>                     its parts
    GET  /agents/<agent>/<session>/events   what the session does, as server-sent events
    POST /agents/<agent>/<session>/<what>   one of the handlers that `OFFERED` names

The last two are the gateway's. A browser sends what any page asks it to, also to this machine. So
only requests that name this machine are answered (a page elsewhere may point its name here, but
`Host` still has that name), and what tells or changes something only if it comes from this page
(`Origin`, `Sec-Fetch-Site`).
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from interruptible.gateway import Gateway

AGENT = "CodingAgent"
STATIC = Path(__file__).parent / "static"
FIRST_SESSION = "main"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
READS = {"get_turns", "get_status", "get_diff", "attach"}
TALKS = {"message", "edit", "regenerate", "resume", "cancel", "answer"}
OFFERED = {*READS, *TALKS, "withdraw", "replace", "promote"}
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def install_libraries() -> None:
    """Have npm bring what `static/package.json` names, once."""
    if not (STATIC / "node_modules/preact").exists():
        npm = shutil.which("npm") or sys.exit("The page needs npm. Install Node.js (nodejs.org).")
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
        subprocess.run([npm, "install", "--prefix", STATIC, *options], check=True)  # noqa: S603


class Page:
    """The page, as an ASGI app.

    Args:
        ingress: The address of Restate's ingress.
        ui: Restate's admin API, for links into its UI.
        agent: The agent's name.
        names: Other names of this machine that a browser may use, beside the loopback ones.
    """

    def __init__(
        self, *, ingress: str, ui: str, agent: str = AGENT, names: Collection[str] = ()
    ) -> None:
        self.names = {*LOOPBACK, *names}
        filled = {"{agent}": agent, "{ui}": ui}
        self.html = re.sub(
            r"\{(agent|ui)\}",
            lambda found: html.escape(filled[found[0]]),
            (STATIC / "index.html").read_text(encoding="utf-8"),
        )
        self.gateway = Gateway(
            agents=[agent], authorize=authorize, ingress=ingress, handlers=["get_diff"]
        )
        self.app = Starlette(
            routes=[
                Route("/", lambda _: RedirectResponse(f"/c/{FIRST_SESSION}", 303)),
                Route("/c/{session:path}", lambda _: HTMLResponse(self.html)),
                Mount("/static", StaticFiles(directory=STATIC)),
                Mount("/agents", self.gateway),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, if it is for this machine."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        host = Request(scope).headers.get("host", "")
        ours = re.sub(r":\d+$", "", host) in self.names
        await (self.app if ours else MISDIRECTED)(scope, receive, with_headers)


MISDIRECTED: Response = PlainTextResponse(
    "This page is served to this machine alone. Open it as http://localhost:…", 421
)


def authorize(request: Request, _agent: str, _session: str) -> bool:
    """Let the page alone call the agent, and only what it offers: whoever sees it may do all that.

    Raises:
        HTTPException: 403: another page has sent the request. 404: the page does not offer this.
    """
    ours = f"http://{request.headers.get('host')}"
    origin = request.headers.get("origin", None if request.method == "POST" else ours)
    if origin != ours:
        raise HTTPException(403, f"Not from this page. Send Origin: {ours}")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "Another page has sent this request.")
    if request.path_params.get("handler", "attach") not in OFFERED:
        raise HTTPException(404, "The page does not offer this.")
    return True

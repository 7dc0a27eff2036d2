"""How the gateway says no: as Restate does, with a code and a message."""

from collections.abc import Mapping
from typing import Any, Final

import httpx
from restate import TerminalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from interruptible._stream.publisher import NoIngress

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal, as Restate writes it."""
    body = {"code": status, "message": message}
    return JSONResponse(body, status, {**_HEADERS, **(headers or {})})


def passed_on(answer: httpx.Response) -> Response:
    """An answer of Restate, as it is."""
    kind = answer.headers.get("content-type")
    return Response(answer.content, answer.status_code, _HEADERS, media_type=kind)


async def _on_http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette has looked
    return _refusal(error.status_code, error.detail, error.headers)


async def _on_terminal_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TerminalError)  # noqa: S101 - Starlette has looked
    return _refusal(error.status_code, error.message)


async def _on_no_ingress(_: Request, error: Exception) -> Response:
    return _refusal(503, f"Restate's ingress {error}.")


async def _on_hung_up(_: Request, error: Exception) -> Response:
    return _refusal(499, f"The request was given up ({type(error).__name__}).")


async def _on_transport_error(_: Request, error: Exception) -> Response:
    return _refusal(503, f"Restate does not answer ({type(error).__name__}). Try again.")


REFUSALS: Final[Mapping[Any, Any]] = {
    HTTPException: _on_http_exception,
    TerminalError: _on_terminal_error,
    NoIngress: _on_no_ingress,
    httpx.TransportError: _on_transport_error,
    ClientDisconnect: _on_hung_up,
}
"""What is caught, and how it is said."""

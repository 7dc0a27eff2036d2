"""One real server for all pages; each page serves programs of its own to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from interruptible.testing import Restate, restate_server

from .pages import Page, Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path


@pytest.fixture(scope="session")
async def server(anyio_backend: str) -> AsyncIterator[Restate]:
    del anyio_backend
    async with restate_server() as running:
        yield running


@pytest.fixture
def reading(
    server: Restate, tmp_path: Path
) -> Callable[[str], AbstractAsyncContextManager[Reader]]:
    """Follow a page, block by block, in an empty folder."""
    return lambda path: Reader(Page(path), server, tmp_path)

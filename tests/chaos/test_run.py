"""How a run is played, without a server."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from .client import Client
from .faults import Faults
from .run import Options, _play


class Deaf:
    """A client that is never answered."""

    ways = ()

    async def call(self, *_: Any, **__: Any) -> None:
        await asyncio.Event().wait()


class Broken:
    """Faults of which one cannot be undone."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    async def run(self, *_: Any) -> None:
        raise RuntimeError("a server did not start again")


def test_what_cannot_be_put_in_order_again_fails_the_run_at_once(tmp_path: Path) -> None:
    client, faults = cast("Client", Deaf()), cast("Faults", Broken())
    with pytest.raises(RuntimeError, match="a server did not start again"):
        asyncio.run(_play(Options(turns=1), client, faults, tmp_path))

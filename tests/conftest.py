"""What holds for all tests: how they run side by side, run in part, and end.

`-n 4` runs them in four processes (pytest-xdist), each with a server of its own; `--every 10` runs
a tenth of them. SIGTERM ends them as Ctrl-C does.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from types import FrameType

FIRST = ("test_compare", "test_scripts", "test_long")
"""The modules that take longest: begun last, each would keep all others waiting at the end."""

_workers: dict[str, int] = {}
"""The processes of pytest-xdist, by name."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every", type=int, default=1, metavar="N", help="run each N-th test alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    every = config.getoption("every")
    config.hook.pytest_deselected(items=[x for n, x in enumerate(items) if n % every])
    items[:] = sorted(items[::every], key=lambda x: x.path.stem not in FIRST)


def pytest_configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGTERM, _end)
    if hasattr(config, "workerinput"):  # a shell may have had it ignored: this is no job of its own
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_newgateway(gateway: Any) -> None:
    _workers[gateway.id] = gateway._rinfo().pid


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _workers.pop(node.gateway.id, None)


def _end(_: int, __: FrameType | None) -> NoReturn:
    """End the tests in a way in which fixtures end what they have started."""
    for worker in _workers.values():
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGTERM)
    raise KeyboardInterrupt

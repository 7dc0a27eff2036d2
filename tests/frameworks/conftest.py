"""One real server for all tests of a framework; what is retried in vain ends its test."""

import pytest
import restate

from interruptible.testing import fixture
from tests.server.conftest import REPLAY, deploy

from .offline import Log

__all__ = ["deploy"]

nothing = restate.Service("Nothing")


@nothing.handler()
async def nothing_at_all(ctx: restate.Context) -> None: ...


# A worker that is started again imports its framework first, which takes seconds.
restate_env = fixture(
    restate.app([nothing]), always_replay=REPLAY, fail_on_retries=20, scope="session"
)


@pytest.fixture
async def log() -> Log:
    return Log()

"""A worker process: `python -m tests.chaos.worker PORT LOG VERSION INGRESS`.

It ends with its parent.
"""

import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config

from . import agent, steps
from .records import Appender

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Linux kills the process when the one that started it ends, however that ends."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    die_with_parent()
    port, log, version, ingress = sys.argv[1:5]
    steps.WORKER = os.getpid()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 2**31 - 1
    config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = 3600.0
    app = agent.app(Appender(Path(log)), version, ingress)
    asyncio.run(serve(app, config, mode="asgi"))


if __name__ == "__main__":
    main()

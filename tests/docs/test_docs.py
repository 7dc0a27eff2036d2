"""What README and docs say is so: every example runs, every link leads somewhere, every name is there."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import restate

import interruptible
from interruptible import client, testing
from interruptible.testing import Restate

from .pages import LANGUAGES, PATHS, ROOT, Page, Reader

pytestmark = pytest.mark.anyio

Reading = Callable[[str], AbstractAsyncContextManager[Reader]]

NOT_RUN = {
    ("README.md", "$ make demo"),
    ("README.md", "make demo"),
    ("README.md", "pip install '.[client,testing]'"),
    ("README.md", "make serve"),
    ("docs/how-to/adopt-cleanup.md", "ignored: cancelled"),
    ("docs/how-to/clean-up.md", "lock taken by inv_…"),
    ("docs/how-to/run-on-lambda.md", "part 1 begins"),
    ("docs/reference.md", "from interruptible.testing import fixture"),
    ("docs/tutorial.md", "mkdir first-steps"),
    ("docs/tutorial.md", '"$(python -m interruptible.testing)"'),
    ("docs/tutorial.md", "python -m hypercorn --bind localhost:9080 agent:app"),
    (
        "docs/tutorial.md",
        "curl localhost:9070/deployments --json '{\"uri\": \"http://localhost:9080\"}'",
    ),
    ("docs/tutorial.md", "thinking of an outline of a poem about rain"),
    ("docs/tutorial.md", "pip install pytest anyio"),
}
"""The blocks that no test runs: what installs or starts something, and what a program prints."""


# -- the examples ------------------------------------------------------------------------------


async def test_tutorial(reading: Reading) -> None:
    async with reading("docs/tutorial.md") as page:
        assert Path((await page.shell()).strip()).exists()
        page.write("agent.py", {"SECONDS = 10.0": "SECONDS = 1.5"})
        await page.serve("agent.py")
        await page.shell()
        await page.until_said("thinking of an outline of a poem about rain")
        await page.shell()
        await page.until_said("thinking of an outline of no, about snow")
        assert page.said == [
            "thinking of an outline of a poem about rain",
            "cut off: an outline of a poem about rain",
            "thinking of an outline of no, about snow",
        ]
        await page.shell()
        await page.shell()
        page.said.clear()
        page.write("agent.py", {"SECONDS = 10.0": "SECONDS = 1.5"})
        await page.serve("agent.py")
        await page.shell({"sleep 15": "sleep 2.25"})
        assert page.said.index("deleting work-1") > page.said.index("cut off: a poem about rain")
        assert not (page.folder / "work-1").exists()
        page.write("test_agent.py")
        assert "1 passed" in await page.shell()


async def test_how_to_stop_the_work(reading: Reading) -> None:
    async with reading("docs/how-to/stop-the-work.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        await page.shell()
        names = await page.run_lines()
        # What the page says of Restate's UI and CLI, which use the admin API.
        session = interruptible.Session(page.server.client, "SlowAgent", "carl")
        for end, outcome in ((page.server.cancel, "interrupted"), (page.server.kill, "killed")):
            receipt = await session.send("a long story")
            await end(receipt["task_id"])
            assert (await session.attach())["status"] == outcome
        assert names["outcome"]["turn"] == 1


async def test_how_to_keep_what_was_done(reading: Reading) -> None:
    async with reading("docs/how-to/keep-what-was-done.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        history = await interruptible.Session(page.server.client, "PlannerAgent", "ada").history()
        assert [message["role"] for message in history] == ["user", "assistant", "user"]


async def test_how_to_clean_up(reading: Reading) -> None:
    async with reading("docs/how-to/clean-up.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        said = [re.sub(r"inv_\w+", "inv_…", line) for line in page.said]
        assert said == shown(page, "lock taken by inv_…")
        page.write("notify.py")
        await page.serve("notify.py")
        session = interruptible.Session(page.server.client, "PoliteAgent", "ada")
        await session.send("Hello")
        await session.cancel()
        if (await session.attach())["status"] == "interrupted":
            await page.until_said("turn 1 was interrupted; 1 message(s) so far")


async def test_how_to_change_the_note(reading: Reading) -> None:
    async with reading("docs/how-to/change-the-note.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        session = interruptible.Session(page.server.client, "BareAgent", "ada")
        await session.send("paint it red")
        outcome = await session.ask("no, green")
        assert outcome["messages"][0]["content"] == "I was sent 2 messages."


async def test_how_to_adopt_cleanup(reading: Reading) -> None:
    async with reading("docs/how-to/adopt-cleanup.md") as page:
        page.write("service.py")
        await page.serve("service.py")
        await page.shell()
        await page.until_said("told that moon was interrupted")
        assert page.said == shown(page, "ignored: cancelled")
        (row,) = await page.server.invocations("target_service_name = 'Renderer'")
        assert row["id"].startswith("inv_")


async def test_how_to_add_a_handler(reading: Reading) -> None:
    async with reading("docs/how-to/add-a-handler.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()


async def test_how_to_call_an_agent(reading: Reading) -> None:
    async with reading("docs/how-to/call-an-agent.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        page.write("talk.py")
        await page.shell()
        await page.shell()
        page.write("impatient.py")
        await page.serve("impatient.py")
        session = interruptible.Session(page.server.client, "ThinkerAgent", "ada")
        handle = await page.server.client.generic_send("Hotline", "call", b'"ada"')
        while (await session.status())["status"] == "idle":
            pass
        await page.server.cancel(handle.invocation_id)
        assert (await session.attach())["status"] == "interrupted"


async def test_how_to_use_a_framework(reading: Reading) -> None:
    async with reading("docs/how-to/use-a-framework.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        assert page.said == ["fetching one", "fetching two"]


async def test_how_to_choose_timeouts_and_retries(reading: Reading) -> None:
    async with reading("docs/how-to/timeouts-and-retries.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{page.server.admin_url}/services/PatientTask")
        service = answer.json()
        assert (service["inactivity_timeout"], service["abort_timeout"]) == ("20m", "5m")
        assert service["journal_retention"] == service["idempotency_retention"] == "7days"
        assert service["retry_policy"] == {
            "initial_interval": "50ms",
            "exponentiation_factor": 2.0,
            "max_attempts": 100,
            "on_max_attempts": "Pause",
            "max_interval": "1s",
        }


async def test_how_to_test_without_docker(reading: Reading) -> None:
    async with reading("docs/how-to/test-without-docker.md") as page:
        for name in ("agent.py", "test_agent.py", "check.py", "test_replay.py"):
            page.write(name)
        assert "2 passed" in await page.shell()
        await page.shell()
        assert "1 passed" in await page.shell()


async def test_how_to_run_on_lambda(reading: Reading) -> None:
    async with reading("docs/how-to/run-on-lambda.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        assert page.said == shown(page, "part 1 begins")


def shown(page: Reader, first: str) -> list[str]:
    """The lines that a page shows as the output of its program."""
    (block,) = [b for b in page.page.blocks if b.text.startswith(f"{first}\n")]
    return block.text.splitlines()

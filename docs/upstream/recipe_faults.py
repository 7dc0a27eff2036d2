"""Faults of the recipe "Interrupt & Regenerate", shown by its own code on a real server.

    restate-server &  # a fresh one, with its defaults
    python recipe_faults.py path/to/python-restate-only/examples/interrupt-regenerate/agent.py

It needs restate-sdk, hypercorn, httpx and pydantic, and nothing of this repository. The model is
replaced by one that thinks for as long as it is let. All stories run at once, each in a session of
its own. It takes a minute and a half, because F12 waits for the server's inactivity timeout of one
minute. It prints what it finds, and exits with the number of faults.
"""

import argparse
import asyncio
import json
import logging
import os
import re
import sys
import time
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from pydantic import BaseModel
from restate.extensions import current_context

PATIENCE = 90.0
CLEANUP = 5.0  # seconds; the recipe waits for up to 30
INACTIVITY_TIMEOUT = 60.0  # seconds; the server's default


class Answer(BaseModel):
    """What the recipe reads of an answer."""

    content: str


class Session:
    """A conversation with the agent, and the model that answers in it."""

    def __init__(self, story: str, ingress: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
        self.key = f"{story}-{time.time_ns()}"
        self.ingress, self.admin = ingress, admin
        self.has_cleanup = False
        self.cleaning: str | None = None  # the id of the task that is in its cleanup
        self.beside_cleanup: list[str] = []  # the calls of the model that were open when it began
        self.cleaned = False
        self.calls: list[list[str]] = []  # what was said in each call of the model
        self.open: list[str] = []
        self.fails: Exception | None = None  # how a call about message 1 ends at once
        self.end = asyncio.Event()  # no other ends before

    async def begin(self, *, has_cleanup: bool = False) -> None:
        """Send a message, and wait until the model works on it."""
        self.has_cleanup = has_cleanup
        await self.say(1)
        await self.until_asked(1)

    async def say(self, number: int) -> float:
        """Send a message. Returns how many seconds it took."""
        started = time.monotonic()
        url, body = f"/CodingAgent/{self.key}/message", {"content": f"#{number}"}
        (await self.ingress.post(url, json=body)).raise_for_status()
        return time.monotonic() - started

    async def history(self) -> list[str]:
        """What was said in it."""
        answer = await self.ingress.post(f"/CodingAgent/{self.key}/get_history")
        return [each["content"] for each in answer.json()]

    async def think(self, messages: list[dict[str, str]]) -> Answer:
        """Answer a message, when it is time to."""
        self.calls.append([each["content"] for each in messages])
        about = self.calls[-1][-1]
        if self.fails and about == "#1":
            raise self.fails
        self.open.append(about)
        try:
            await self.end.wait()
        finally:
            self.open.remove(about)
        return Answer(content=f"about {about}")

    async def clean_up(self, task_id: str) -> None:
        """What the recipe has room for: a step that releases something."""
        self.cleaning, self.beside_cleanup = task_id, [*self.open]
        await asyncio.sleep(CLEANUP)
        self.cleaned = True

    async def until_asked(self, number: int, times: int = 1) -> None:
        """Wait until the model was asked about a message."""
        asked = f"#{number}"
        await until(
            lambda: sum(said[-1] == asked for said in self.calls) >= times,
            f"a call of the model about {asked} in {self.key}",
        )


async def until(check: Callable[[], bool], what: str) -> None:
    """Wait for something that is to come."""
    end = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"This did not come: {what}")
        await asyncio.sleep(0.02)


async def not_alone(session: Session, newest: str) -> str | None:
    """Whether the model works on more than the newest message."""
    await asyncio.sleep(2)
    if session.open == [newest]:
        return None
    return f"the model works on {', '.join(session.open)} at once; it should on {newest} alone"


async def f1(session: Session) -> str | None:
    """Four messages, each while the model works on the one before."""
    for n in range(1, 5):
        await session.say(n)
        await session.until_asked(n)
    return await not_alone(session, "#4")


async def f2(session: Session) -> str | None:
    """Two messages while the task of the one before cleans up."""
    await session.begin(has_cleanup=True)
    took = max([await session.say(2), await session.say(3)])
    if took > CLEANUP / 2:
        return f"a message was taken after {took:.1f} s, when the cleanup of {CLEANUP:g} s was over"
    await session.until_asked(3)
    return None if session.cleaned else "the model was asked about #3 before the cleanup was over"


async def f3(session: Session) -> str | None:
    """A task that cleans up is cancelled once more, in the UI for instance."""
    await session.begin(has_cleanup=True)
    second = asyncio.ensure_future(session.say(2))
    await until(lambda: session.cleaning is not None, "a cleanup")
    await session.admin.patch(f"/invocations/{session.cleaning}/cancel")
    await asyncio.sleep(CLEANUP + 1)
    await second
    return None if session.cleaned else "its cleanup was broken off"


async def f4(session: Session) -> str | None:
    """A task is interrupted while the model works, and cleans up."""
    await session.begin(has_cleanup=True)
    await session.say(2)
    await until(lambda: session.cleaning is not None, "a cleanup")
    went_on = session.beside_cleanup
    return f"the model went on with {went_on[0]} beside the cleanup" if went_on else None


async def f6(session: Session) -> str | None:
    """A step fails for good, with a conflict that some API has answered. Nobody interrupts."""
    session.fails = restate.TerminalError("this name is taken", status_code=409)
    await session.begin()
    await asyncio.sleep(2)
    last = (await session.history())[-1]
    return f"the history says: {last}" if "cancel" in last else None


async def f7(session: Session) -> str | None:
    """A message while the model works on the one before."""
    await session.begin()
    await session.say(2)
    await session.until_asked(2)
    await asyncio.sleep(2)
    history, given = await session.history(), session.calls[-1]
    if history[-1] == "#2" and given == history:
        return None
    return f"the history is {', '.join(history)}; the new task was given {', '.join(given)}"


async def f8(session: Session) -> str | None:
    """Six messages in a burst."""
    for n in range(1, 7):
        await session.say(n)
    await session.until_asked(6)
    return await not_alone(session, "#6")


async def f11(session: Session) -> str | None:
    """Somebody calls the handlers that are not for users."""
    task = {"agent_id": session.key, "messages": [{"role": "user", "content": "#0"}]}
    calls = {
        f"/CodingAgent/{session.key}/append_message": {"content": "forged"},
        "/CodingTask/run_task/send": task,
    }
    answers = {url: await session.ingress.post(url, json=calls[url]) for url in calls}
    accepted = [url.replace(session.key, "…") for url in calls if answers[url].is_success]
    return f"accepted: {', '.join(accepted)}" if accepted else None


async def f12(session: Session) -> str | None:
    """A message when the model has worked on the one before for more than a minute."""
    await session.begin()
    await asyncio.sleep(INACTIVITY_TIMEOUT + 5)
    second = asyncio.ensure_future(session.say(2))
    await asyncio.sleep(5)
    goes_on = "#1" in session.open
    took = await second
    if not goes_on:
        return None
    await session.until_asked(2)
    open_now = " and ".join(session.open)
    return f"#2 was taken after {took:.0f} s, and the model works on {open_now} then"


async def f13(session: Session) -> str | None:
    """A message when six calls of the model have failed."""
    session.fails = ConnectionError("the model cannot be reached")
    await session.say(1)
    await session.until_asked(1, times=6)
    started = time.monotonic()
    await session.say(2)
    await session.until_asked(2)
    took = time.monotonic() - started
    return f"the model was asked about it {took:.0f} s later" if took > CLEANUP else None


STORIES = {f.__name__.upper(): f for f in (f1, f2, f3, f4, f6, f7, f8, f11, f12, f13)}
OF_THE_SDK = ("F3", "F4")


def app_of(code: str, sessions: list[Session]) -> Any:
    """The recipe's code with another model, and with a cleanup where a story has one."""
    by_key = {session.key: session for session in sessions}

    async def llm_call(messages: list[dict[str, str]], **_: object) -> Answer:
        body: Any = current_context().request().body  # type: ignore[union-attr]
        return await by_key[json.loads(body)["agent_id"]].think(messages)

    def clean_up_of(ctx: restate.Context, key: str) -> Callable[[], Any] | None:
        clean_up = partial(by_key[key].clean_up, ctx.request().id)
        return clean_up if by_key[key].has_cleanup else None

    source, places = re.subn(
        r"^( +)except TerminalError as err:\n",
        r"\g<0>\1    if clean_up := clean_up_of(ctx, inp.agent_id):\n"
        r"\1        await ctx.run_typed('release a resource', clean_up)\n",
        code,
        flags=re.MULTILINE,
    )
    if places != 1:
        sys.exit("There is no place for a cleanup: `except TerminalError as err:` in run_task.")
    stand_in, recipe = types.ModuleType("util.litellm_call"), types.ModuleType("recipe")
    stand_in.llm_call = llm_call  # type: ignore[attr-defined]
    recipe.clean_up_of = clean_up_of  # type: ignore[attr-defined]
    sys.modules |= {"util": types.ModuleType("util"), stand_in.__name__: stand_in, "recipe": recipe}
    exec(compile(source, "agent.py", "exec"), vars(recipe))  # noqa: S102 - the file that was named
    return restate.app(services=[recipe.agent, recipe.task_service])


async def main() -> None:
    """Show them all."""
    logging.disable(logging.CRITICAL)  # what there is to say is of connections that are closed
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agent", type=Path, help="the recipe's agent.py")
    parser.add_argument("--ingress", default="http://localhost:8080")
    parser.add_argument("--admin", default="http://localhost:9070")
    parser.add_argument("--uri", default="http://127.0.0.1:9080", help="where to serve the recipe")
    options = parser.parse_args()
    code = options.agent.read_text()
    async with (
        httpx.AsyncClient(base_url=options.ingress, timeout=PATIENCE) as ingress,
        httpx.AsyncClient(base_url=options.admin, timeout=PATIENCE) as admin,
    ):
        sessions = [Session(name, ingress, admin) for name in STORIES]

        async def play(name: str, session: Session) -> str | None:
            try:
                return await STORIES[name](session)
            finally:
                session.end.set()

        config = Config()
        config.bind, config.errorlog = [options.uri.removeprefix("http://")], None
        serving = asyncio.ensure_future(serve(app_of(code, sessions), config))
        await asyncio.wait({serving}, timeout=0.5)
        body = {"uri": options.uri, "force": True}
        (await admin.post("/deployments", json=body)).raise_for_status()
        found = await asyncio.gather(*map(play, STORIES, sessions))
    for name, fault in zip(STORIES, found, strict=True):
        whose = "the SDK's" if name in OF_THE_SDK else "the page's"
        print(f"{name} ({whose}): {STORIES[name].__doc__}\n    {fault or 'as it should be'}")
    sys.stdout.flush()
    os._exit(len(found) - found.count(None))  # the recipe's tasks are not waited for


if __name__ == "__main__":
    asyncio.run(main())

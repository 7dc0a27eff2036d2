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
import logging
import re
import sys
import time
import types
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from pydantic import BaseModel

PATIENCE = 90.0
CLEANUP = 5.0  # seconds; the recipe waits for up to 30
INACTIVITY_TIMEOUT = 60.0  # seconds; the server's default


class Answer(BaseModel):
    """What the recipe reads of an answer."""

    content: str


class Session:
    """A conversation with the agent, and the model that answers in it."""

    def __init__(self, story: str, ingress: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
        self.story, self.key = story, f"{story}-{time.time_ns()}"
        self.ingress, self.admin = ingress, admin
        self.has_cleanup = False
        self.cleaning: str | None = None  # the id of the task that is in its cleanup
        self.beside_cleanup: list[str] = []  # the calls of the model that were open when it began
        self.cleaned = False
        self.calls: list[tuple[str, list[dict[str, str]]]] = []
        self.open: list[str] = []
        self.fails: Exception | None = None  # how a call about message 1 ends at once
        self.end = asyncio.Event()  # no other ends before

    async def say(self, number: int) -> float:
        """Send a message. Returns how many seconds it took."""
        started = time.monotonic()
        url = f"/CodingAgent/{self.key}/message"
        (
            await self.ingress.post(url, json={"content": f"{self.story} #{number}"})
        ).raise_for_status()
        return time.monotonic() - started

    async def history(self) -> list[str]:
        """What was said in it."""
        answer = await self.ingress.post(f"/CodingAgent/{self.key}/get_history")
        return contents(answer.json())

    async def think(self, text: str, messages: list[dict[str, str]]) -> Answer:
        """Answer a message, when it is time to."""
        self.calls.append((text, messages))
        if self.fails and text == "#1":
            raise self.fails
        self.open.append(text)
        try:
            await self.end.wait()
        finally:
            self.open.remove(text)
        return Answer(content=f"about {text}")

    async def clean_up(self, task_id: str) -> None:
        """What the recipe has room for: a step that releases something."""
        self.cleaning, self.beside_cleanup = task_id, [*self.open]
        await asyncio.sleep(CLEANUP)
        self.cleaned = True

    async def until_asked(self, number: int, times: int = 1) -> None:
        """Wait until the model was asked about a message."""
        text = f"#{number}"
        await until(
            lambda: sum(about == text for about, _ in self.calls) >= times,
            f"a call of the model about {text} in {self.story}",
        )


def contents(messages: list[dict[str, str]]) -> list[str]:
    """What messages say, less the names of stories."""
    return [re.sub(r"^F\d+ (?=#)", "", each["content"]) for each in messages]


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
    session.has_cleanup = True
    await session.say(1)
    await session.until_asked(1)
    took = max([await session.say(2), await session.say(3)])
    if took > CLEANUP / 2:
        return f"a message was taken after {took:.1f} s, when the cleanup of {CLEANUP:g} s was over"
    await session.until_asked(3)
    return None if session.cleaned else "the model was asked about #3 before the cleanup was over"


async def f3(session: Session) -> str | None:
    """A task that cleans up is cancelled once more, in the UI for instance."""
    session.has_cleanup = True
    await session.say(1)
    await session.until_asked(1)
    second = asyncio.ensure_future(session.say(2))
    await until(lambda: session.cleaning is not None, "a cleanup")
    await session.admin.patch(f"/invocations/{session.cleaning}/cancel")
    await asyncio.sleep(CLEANUP + 1)
    await second
    return None if session.cleaned else "its cleanup was broken off"


async def f4(session: Session) -> str | None:
    """A task is interrupted while the model works, and cleans up."""
    session.has_cleanup = True
    await session.say(1)
    await session.until_asked(1)
    await session.say(2)
    await until(lambda: session.cleaning is not None, "a cleanup")
    went_on = session.beside_cleanup
    return f"the model went on with {went_on[0]} beside the cleanup" if went_on else None


async def f6(session: Session) -> str | None:
    """A step fails for good, with a conflict that some API has answered. Nobody interrupts."""
    session.fails = restate.TerminalError("this name is taken", status_code=409)
    await session.say(1)
    await session.until_asked(1)
    await asyncio.sleep(2)
    last = (await session.history())[-1]
    return f"the history says: {last}" if "cancel" in last else None


async def f7(session: Session) -> str | None:
    """A message while the model works on the one before."""
    await session.say(1)
    await session.until_asked(1)
    await session.say(2)
    await session.until_asked(2)
    await asyncio.sleep(2)
    history, given = await session.history(), contents(session.calls[-1][1])
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
    task = {"agent_id": session.key, "messages": [{"role": "user", "content": "F11 #0"}]}
    calls = {
        f"/CodingAgent/{session.key}/append_message": {"content": "forged"},
        "/CodingTask/run_task/send": task,
    }
    answers = {url: await session.ingress.post(url, json=calls[url]) for url in calls}
    accepted = [url.replace(session.key, "…") for url in calls if answers[url].is_success]
    return f"accepted: {', '.join(accepted)}" if accepted else None


async def f12(session: Session) -> str | None:
    """A message when the model has worked on the one before for more than a minute."""
    await session.say(1)
    await session.until_asked(1)
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


OF_THE_PAGE = {"F1": f1, "F2": f2, "F6": f6, "F7": f7, "F8": f8, "F11": f11, "F12": f12, "F13": f13}
OF_THE_SDK = {"F3": f3, "F4": f4}


@asynccontextmanager
async def served(code: str, sessions: dict[str, Session], uri: str) -> AsyncIterator[None]:
    """Serve the recipe's code with another model, and with a cleanup in the sessions that have one.

    Each message begins with the name of its story.
    """

    async def llm_call(messages: list[dict[str, str]], **_: object) -> Answer:
        newest = [each["content"] for each in messages if each["role"] == "user"][-1]
        return await sessions[newest.split()[0]].think(newest.split()[1], messages)

    def clean_up(ctx: restate.Context, key: str) -> Callable[[], Any] | None:
        session = sessions[key.partition("-")[0]]
        return partial(session.clean_up, ctx.request().id) if session.has_cleanup else None

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
    recipe.clean_up_of = clean_up  # type: ignore[attr-defined]
    sys.modules |= {"util": types.ModuleType("util"), stand_in.__name__: stand_in, "recipe": recipe}
    exec(compile(source, "agent.py", "exec"), vars(recipe))  # noqa: S102 - the file that was named
    config, stop = Config(), asyncio.Event()
    config.bind, config.errorlog = [uri.removeprefix("http://")], None
    app: Any = restate.app(services=[recipe.agent, recipe.task_service])
    serving = asyncio.ensure_future(serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    await asyncio.sleep(0.5)
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(serving, return_exceptions=True)


async def main() -> int:
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
    sessions: dict[str, Session] = {}
    async with (
        httpx.AsyncClient(base_url=options.ingress, timeout=PATIENCE) as ingress,
        httpx.AsyncClient(base_url=options.admin, timeout=PATIENCE) as admin,
        served(code, sessions, options.uri),
    ):
        body = {"uri": options.uri, "force": True}
        (await admin.post("/deployments", json=body)).raise_for_status()
        stories = OF_THE_PAGE | OF_THE_SDK
        sessions |= {story: Session(story, ingress, admin) for story in stories}

        async def tell(name: str) -> str | None:
            try:
                return await stories[name](sessions[name])
            finally:
                sessions[name].end.set()

        faults = dict(zip(stories, await asyncio.gather(*map(tell, stories)), strict=True))
    for title, names in ("Of the page:", OF_THE_PAGE), ("Of the SDK:", OF_THE_SDK):
        print(title)
        for name in names:
            print(f"{name}: {stories[name].__doc__}\n    {faults[name] or 'as it should be'}")
    return sum(fault is not None for fault in faults.values())


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

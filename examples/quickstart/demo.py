"""Two conversations with the quickstart agent, shown as they happen: `make demo`.

Alice says one thing and gets her answer. Bob changes his mind twice, each time while the model is
answering. All of it is real (server, HTTP, cancellation), except the model: without an
`OPENAI_API_KEY` it is an offline stand-in, which can tell which requests were cut off. What must
have happened is checked at the end, and the exit code tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import openai

from examples.quickstart import agent
from examples.quickstart.offline_model import ModelCall, endpoint
from examples.quickstart.screen import Screen
from interruptible.testing import restate_server, serve

if TYPE_CHECKING:
    from typing_extensions import Self

    from examples.quickstart.offline_model import OfflineModel
    from interruptible.testing import Restate

ALICE = "Write a command that counts words."
BOB = (
    "Write a to-do app with Flask.",
    "Stop: use FastAPI instead.",
    "And keep the to-dos in SQLite, not in memory.",
)
PLAN, DRAFT = "Make a plan.", "Write a draft."  # what the agent asks the model for
A_FEW_TOKENS = 4  # so many have arrived when Bob changes his mind


async def main() -> None:
    """Start everything, play both conversations, check what happened, and stop everything."""
    screen = Screen()
    screen.title("Interruptible agents on Restate: the quickstart, live")
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(endpoint())
        screen.event("model", model.label if model else await try_real_model())
        url = await stack.enter_async_context(serve(agent.app))
        restate = await stack.enter_async_context(restate_server())
        await restate.register(url)
        screen.event("agent", f"CodingAgent (object) and CodingTask (service) on {url}")
        screen.event("restate", f"ingress on {restate.ingress_url}, agent registered")
        screen.event("Restate UI", f"{restate.admin_url}/ui/ (while this runs)", "cyan")

        http = await stack.enter_async_context(httpx.AsyncClient(base_url=restate.ingress_url))
        demo = stack.enter_context(Demo(screen, restate, http, model))
        try:
            await demo.happy_path()
            await demo.interruption_path()
            await demo.show_conversation()
            await demo.show_tasks()
            demo.check()
        except NotAsToldError as error:
            msg = f"{error}{await demo.failures()}"
            raise NotAsToldError(msg) from error
    screen.line()
    screen.line(f"All as told, in {screen.seconds():.0f} s. To try it by hand: make serve")


async def try_real_model() -> str:
    """Ask the endpoint that the environment names for a word, and return which one it is."""
    where = os.environ.get("OPENAI_BASE_URL", "OpenAI")
    try:
        await agent.ask([], "Say hello.")
    except openai.OpenAIError as error:
        msg = f"the model at {where} does not answer: {error}"
        raise NotAsToldError(msg) from error
    return f"the real one at {where}, because OPENAI_API_KEY is set"


class NotAsToldError(RuntimeError):
    """Something did not happen as the demo tells it."""


class Demo(logging.Handler):
    """Both conversations from a client's side, and what agent and stand-in say they are doing.

    Those two speak through `logging`; in its `with` block the demo listens to them.
    """

    def __init__(
        self,
        screen: Screen,
        restate: Restate,
        http: httpx.AsyncClient,
        model: OfflineModel | None,
    ) -> None:
        super().__init__()
        self.screen = screen
        self.restate = restate
        self.http = http
        self.model = model
        self.patience = 15.0 if model else 180.0  # seconds until something counts as not happening
        self.log: list[logging.LogRecord] = []
        self.logged = asyncio.Event()
        self.spoke_at = 0.0
        self.history: list[dict[str, Any]] = []  # Bob's, at the end
        self.tasks: dict[str, str] = {}  # Bob's: how each ended

    # -- what is said ------------------------------------------------------------------------

    async def happy_path(self) -> None:
        """Alice sends one message and waits for its outcome."""
        self.screen.title("1. Happy path: Alice says one thing and waits for the answer")
        receipt = await self.say("alice", ALICE)
        await self.answer("alice", receipt["turn"])

    async def interruption_path(self) -> None:
        """Bob sends three messages, the second and the third each into a model call."""
        self.screen.title("2. Interruption path: Bob changes his mind twice, in mid-answer")
        self.log.clear()
        await self.say("bob", BOB[0], one_way=True)
        await self.until_answering(BOB[0], PLAN)
        first = await self.post("bob", "get_status")

        second = await self.say("bob", BOB[1])
        await self.until_answering(BOB[1], DRAFT)

        third = await self.say("bob", BOB[2])
        await self.answer("bob", third["turn"])
        self.tasks = {turn["task_id"]: "unknown" for turn in (first, second, third)}

    async def say(self, session: str, text: str, *, one_way: bool = False) -> Any:
        """Send a message, and show its receipt; one that is sent one-way has none."""
        self.screen.event(session, f"“{text}”", "bold")
        self.spoke_at = time.time()
        if one_way:
            return await self.post(session, "message/send", {"content": text})
        receipt = await self.post(session, "message", {"content": text})
        interrupts = "".join(f", interrupts turn {turn}" for turn in receipt["interrupted"])
        self.screen.event("receipt", f"turn {receipt['turn']}{interrupts}")
        return receipt

    async def answer(self, session: str, turn: int) -> None:
        """Wait for a turn's outcome, and show the answer."""
        outcome = await self.post(session, "attach", {"turn": turn})
        expect(outcome["status"] == "completed", f"turn {turn} of {session}: {outcome}")
        self.screen.event("answer", outcome["messages"][-1]["content"], "green")

    async def post(self, session: str, handler: str, body: object = None) -> Any:
        """Call a handler of the agent through Restate's ingress."""
        path = f"/CodingAgent/{session}/{handler}"
        try:
            response = await self.http.post(path, json=body, timeout=self.patience)
        except httpx.HTTPError as error:
            msg = f"no answer from {handler} of {session}: {error!r}"
            raise NotAsToldError(msg) from error
        expect(response.is_success, f"{handler} of {session} was refused: {response.text}")
        return response.json()

    # -- what happens ------------------------------------------------------------------------

    def __enter__(self) -> Self:
        logger = logging.getLogger("quickstart")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("quickstart").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep and show what the agent or the stand-in says."""
        self.log.append(record)
        self.logged.set()
        more = ""
        if is_cut_off(record):
            more = f" ({(record.created - self.spoke_at) * 1000:.0f} ms after Bob spoke)"
        self.screen.record(record, more)

    async def until_answering(self, wish: str, prompt: str) -> None:
        """Wait until the model is in the middle of answering this very question."""

        def answering(call: ModelCall) -> bool:
            asked = [message["content"] for message in call.messages]
            return asked[-1] == prompt and wish in asked and call.tokens >= A_FEW_TOKENS

        try:
            if self.model:
                await self.model.wait_for(answering, timeout=self.patience)
            else:  # a real endpoint does not tell how far it is; that it is being asked must do
                await asyncio.wait_for(self.until_logged(f"model call: {prompt}"), self.patience)
        except asyncio.TimeoutError:
            msg = f"the model was not asked “{prompt}” for “{wish}”"
            raise NotAsToldError(msg) from None

    async def until_logged(self, text: str) -> None:
        """Wait until somebody says so after Bob has spoken."""
        while not any(r.getMessage() == text and r.created > self.spoke_at for r in self.log):
            self.logged.clear()
            await self.logged.wait()

    async def failures(self) -> str:
        """Return why Restate's last attempts failed, if there is one that did."""
        rows = await self.restate.invocations("last_failure IS NOT NULL")
        return "".join(f"\n  {row['target']} failed: {row['last_failure']}" for row in rows)

    # -- what has come of it -----------------------------------------------------------------

    async def show_conversation(self) -> None:
        """Show what the agent remembers of Bob's conversation."""
        self.screen.title("Bob's conversation, as the agent keeps it (get_history)")
        self.history = await self.post("bob", "get_history")
        for message in self.history:
            style = "bold" if message["content"] in BOB else ""
            self.screen.row(message["role"], message["content"], style)

    async def show_tasks(self) -> None:
        """Show what Restate has recorded of Bob's tasks."""
        self.screen.title("Bob's tasks, as Restate recorded them (sys_invocation)")
        ids = ", ".join(f"'{task}'" for task in self.tasks)
        rows = {row["id"]: row for row in await self.restate.invocations(f"id IN ({ids})")}
        expect(len(rows) == len(BOB), f"Restate knows of {len(rows)} tasks, not {len(BOB)}")
        heading = f"{'invocation of CodingTask/run_task':<38}   lasted  ended"
        self.screen.row("", heading, "dim")
        for turn, task in enumerate(self.tasks, 1):
            row = rows[task]
            failure = row.get("completion_failure", "")
            ending = "cancelled" if failure == "[409] cancelled" else failure or row["status"]
            self.tasks[task] = ending
            style = {"cancelled": "yellow", "completed": "green"}.get(ending, "red")
            took = seconds(row["created_at"], row["completed_at"])
            self.screen.row(f"turn {turn}", f"{task}  {took:5.2f} s  {ending}", style)

    def check(self) -> None:
        """Check that all was as told, and say what was checked."""
        self.screen.title("Checked")
        if self.model is None:
            skipped = "what the model saw: only the stand-in can tell what was cut off and sent"
            self.screen.row("skipped", skipped, "yellow")
        else:
            self.screen.row("ok", self.check_model(self.model), "green")
        for check in (self.check_cleanup, self.check_history, self.check_tasks):
            self.screen.row("ok", check(), "green")

    def check_model(self, model: OfflineModel) -> str:
        """Two requests were cut off, unfinished; none ran beside another; the last had it all."""
        calls = model.calls
        cut = [call for call in calls if call.status == "cut off"]
        prompts = [call.messages[-1]["content"] for call in cut]
        expect(prompts == [PLAN, DRAFT], f"these requests were cut off: {prompts}")
        expect(all(call.tokens < call.tokens_in_all for call in cut), "an answer was complete")
        expect(model.stats["in_flight"] == 0, "a request is still in flight")
        overlap = any(a.started + a.seconds > b.started for a, b in pairwise(calls))
        expect(not overlap, "two requests ran side by side")
        got = [message["content"] for message in calls[-1].messages]
        missed = [m["content"] for m in self.history[:-1] if m["content"] not in got]
        expect(not missed, f"the last request lacked: {missed}")
        return (
            f"{len(calls)} model calls, one at a time; 2 cut off before they were complete; "
            "the last was sent all that had been said and done"
        )

    def check_cleanup(self) -> str:
        """Each sandbox was deleted, after its request was cut off, before the next was made."""
        verbs = {"create sandbox": "made", "delete sandbox": "deleted"}
        story: list[str] = []
        sandboxes: list[str] = []
        for record in self.log:
            text, _, path = record.getMessage().rpartition(" ")
            if is_cut_off(record):
                story.append("cut off")
            elif text in verbs:
                story.append(verbs[text])
                sandboxes.append(path)
        turn = ["made", "cut off", "deleted"] if self.model else ["made", "deleted"]
        expect(story == [*turn, *turn, "made", "deleted"], f"not in order: {', '.join(story)}")
        expect(sandboxes[::2] == sandboxes[1::2], f"not the same sandboxes: {sandboxes}")
        left = [path for path in sandboxes if Path(path).exists()]
        expect(not left, f"left behind: {left}")
        return "each turn's cleanup ran once, before the next turn's first step; nothing is left"

    def check_history(self) -> str:
        """All that Bob said is there in order, and what was done for it before he said the next."""
        said = [m["content"] if m["content"] in BOB else m["role"] for m in self.history]
        told = [each for each in said if each in (*BOB, "assistant")]  # the rest are notes
        expected = [*BOB[:2], "assistant", BOB[2], *["assistant"] * 3]
        expect(told == expected, f"the history is not in order: {told}")
        return "the history is in order, with the plan of the interrupted turn in its place"

    def check_tasks(self) -> str:
        """Restate shows two tasks as cancelled and the last as completed."""
        endings = list(self.tasks.values())
        expect(endings == ["cancelled", "cancelled", "completed"], f"tasks ended: {endings}")
        return "Restate recorded: cancelled, cancelled, completed"


def expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise unless something holds."""
    if not holds:
        raise NotAsToldError(otherwise)


def is_cut_off(record: logging.LogRecord) -> bool:
    """Tell whether it is the stand-in that says that a request was cut off."""
    call = getattr(record, "call", None)
    return isinstance(call, ModelCall) and call.status == "cut off"


def seconds(begin: str, end: str) -> float:
    """Return the time between two of Restate's timestamps."""
    started, ended = (datetime.fromisoformat(each.replace("Z", "+00:00")) for each in (begin, end))
    return (ended - started).total_seconds()


async def until_stopped() -> int:
    """Run the demo; Ctrl-C and SIGTERM stop it, and all that it has started.

    Returns:
        The exit code.
    """
    task = asyncio.ensure_future(main())
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
    try:
        await task
    except RuntimeError as error:  # ours, or that there is no server
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(until_stopped()))

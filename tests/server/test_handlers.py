"""The handlers of the generated object, as clients call them."""

import asyncio
import contextlib
import json
import secrets
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import httpx
import pytest
import restate
from restate import Context, ObjectContext, ObjectSharedContext, TerminalError

from interruptible import Agent, Session, Task, agent, handler
from interruptible._session import effects, storage, stored_record
from interruptible._session.record import Record
from interruptible._task import outcome, waiting
from interruptible.testing import AdminError, Restate

from .conftest import LONG, Deploy, Log, eventually, is_idle, once

pytestmark = pytest.mark.anyio

IDLE = {
    "status": "idle",
    "turn": None,
    "task_id": None,
    "live": [],
    "steered": 0,
    "pending": [],
    "waiting_for": [],
}


class Worker(Agent):
    """Notes its turns; a message that begins with "long" keeps it at work."""

    def __init__(self, log: Log, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log

    async def run(self, ctx: Context, task: Task) -> str:
        text = str(task.input[0]["content"])
        seconds = LONG if text.startswith("long") else 0.0
        return await ctx.run_typed("work", self.log.step, name=task.turn, seconds=seconds)


class Ingress:
    """The agent's handlers over plain HTTP, like `curl`."""

    def __init__(self, env: Restate, name: str, key: str) -> None:
        self.url = f"{env.ingress_url}/{name}/{key}"

    async def post(
        self, handler: str, body: Any = None, raw: bytes | None = None
    ) -> httpx.Response:
        headers = {} if body is None and raw is None else {"content-type": "application/json"}
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        async with httpx.AsyncClient(timeout=60) as client:
            return await client.post(f"{self.url}/{handler}", content=content, headers=headers)


async def test_every_handler_speaks_plain_json_over_http(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "WireAgent")
    await deploy(worker)
    wire = Ingress(restate_env, "WireAgent", "alice")
    assert (await wire.post("get_status")).json() == IDLE
    assert (await wire.post("get_history")).json() == []
    assert (await wire.post("cancel")).json() == {"cancelled": []}
    receipt = (await wire.post("message", {"content": "long"})).json()
    assert receipt == {
        "turn": 1,
        "message": 1,
        "task_id": receipt["task_id"],
        "status": "running",
        "interrupted": [],
    }
    await log.until("begin", 1)
    assert (await wire.post("get_status")).json() == {
        "status": "running",
        "turn": 1,
        "task_id": receipt["task_id"],
        "live": [{"turn": 1, "task_id": receipt["task_id"], "cancelled": None}],
        "steered": 0,
        "pending": [],
        "waiting_for": [],
    }
    assert (await wire.post("cancel", {"turn": 1})).json() == {"cancelled": [1]}
    interrupted = {"turn": 1, "status": "interrupted", "messages": []}
    assert (await wire.post("attach", {"turn": 1})).json() == interrupted
    sent = await wire.post("message/send", {"content": [{"type": "text", "text": "hi"}]})
    assert sent.status_code == 202
    done = {"turn": 2, "status": "completed", "messages": [{"role": "assistant", "content": "2"}]}

    async def second_is_done() -> bool:
        answer = await wire.post("attach", {"turn": 2})
        return answer.status_code == 200 and answer.json() == done

    await eventually(second_is_done)
    assert (await wire.post("attach")).json() == done
    assert (await wire.post("cancel", {"turn": 1})).json() == {"cancelled": []}
    history = (await wire.post("get_history")).json()
    assert [message["role"] for message in history] == ["user", "user", "user", "assistant"]
    assert history[2] == {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    assert (await wire.post("get_status")).json() == IDLE


REFUSED: list[tuple[str, Any, int, str]] = [
    ("message", {}, 400, "content: is missing"),
    ("message", {"content": ""}, 400, "content: is empty"),
    ("message", {"content": []}, 400, "content: is empty"),
    ("message", {"content": 7}, 400, "content: must be text"),
    ("message", {"content": ["hi"]}, 400, "content[0]: must be an object"),
    ("message", {"content": "hi", "role": "assistant"}, 400, "role: must be"),
    ("message", {"content": "hi", "policy": "ignore"}, 400, "policy: must be one of"),
    ("message", {"content": "hi", "colour": "red"}, 400, "colour: is not a field"),
    ("message", {"content": "x" * 101}, 413, "content: has 101 bytes"),
    ("message", ["hi"], 400, "body: must be a JSON object"),
    ("message", b"{not json", 400, "body: is not JSON"),
    ("message", b"null", 400, "body: must be a JSON object"),
    ("message", b"", 400, "input validation error: Empty body not allowed"),
    ("cancel", {"turn": "one"}, 400, "turn: must be a whole number"),
    ("cancel", {"turns": 1}, 400, "turns: is not a field"),
    ("cancel", {"turn": 2}, 404, "turn: there is no turn 2"),
    ("cancel", {"turn": 0}, 404, "turn: there is no turn 0"),
    ("attach", {"turn": True}, 400, "turn: must be a whole number"),
    ("attach", {"turn": 9}, 404, "turn: there is no turn 9"),
]


@once
async def test_bad_input_is_refused_with_the_field_and_changes_nothing(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    release = asyncio.Event()

    @agent(name="StrictAgent", max_content=100)
    async def strict(ctx: Context, task: Task) -> str:
        await log.add("begin")
        return await ctx.run_typed("wait", wait)

    async def wait() -> str:
        await release.wait()
        return "done"

    await deploy(strict)
    wire = Ingress(restate_env, "StrictAgent", "one")
    await wire.post("message", {"content": "go"})
    before = (await wire.post("get_status")).json()
    for name, body, status, reason in REFUSED:
        raw = body if isinstance(body, bytes) else None
        answer = await wire.post(name, None if raw is not None else body, raw)
        said = answer.json().get("message", "")
        assert (name, body, answer.status_code) == (name, body, status), said
        assert said.startswith(reason), (name, body, said)
    assert (await wire.post("get_status")).json() == before
    release.set()
    outcome = (await wire.post("attach")).json()
    assert (outcome["turn"], outcome["status"]) == (1, "completed")
    assert len((await wire.post("get_history")).json()) == 2
    empty = Ingress(restate_env, "StrictAgent", "nobody")
    answer = await empty.post("attach")
    assert (answer.status_code, "no turns yet" in answer.text) == (404, True)


@once
async def test_private_handlers_are_refused_through_the_ingress(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "PrivateAgent")
    await deploy(worker)
    # The ingress may close a connection on which it has refused a request without reading it.
    once = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=once) as client:
        services = (await client.get(f"{restate_env.admin_url}/services")).json()["services"]
        handlers = {
            (service["name"], service["ty"], h["name"])
            for service in services
            if service["name"] in ("PrivateAgent", "PrivateTask")
            for h in service["handlers"]
        }
        public = {
            "message",
            "cancel",
            "attach",
            "get_history",
            "get_status",
            "get_turns",
            "regenerate",
            "rewind",
            "reset",
            "fork",
            "withdraw",
            "replace",
            "promote",
            "resume",
            "edit",
            "answer",
        }
        assert {h for _, _, h in handlers} == public | {
            "settle",
            "recover",
            "load",
            "take",
            "give_up",
            "get_cause",
            "adopt",
            "quiet",
            "begin",
            "ask_approval",
            "close_approval",
            "run_task",
            "relay",
            "mark",
        }
        for service, ty, name in handlers:
            key = "/one" if ty == "VirtualObject" else ""
            answer = await client.post(
                f"{restate_env.ingress_url}/{service}{key}/{name}", json={"content": "hi"}
            )
            refused = answer.status_code == 400 and "not public" in answer.text
            assert refused == (name not in public), (name, answer.status_code, answer.text)


TOLD = (
    "settle",
    "take",
    "give_up",
    "adopt",
    "recover",
    "get_cause",
    "quiet",
    "begin",
    "ask_approval",
    "close_approval",
)
"""The private handlers that tasks and other handlers tell something."""
GARBAGE = (b"", b"{", b"null", b"7", b"[]", b"{}", b'{"turn": NaN}', b"[" * 970 + b"]" * 970)
DEEP = b'{"content":' * 900 + b"1" + b"}" * 900
SETTLEMENT = b'{"outcome": {"turn": 1, "status": "completed", "messages": [%s]}}'
NO_SETTLEMENT = (b"1", b"NaN", b'{"role": "assistant", "content": 1e999}', DEEP)


@once
async def test_whatever_another_service_tells_the_object_is_refused_and_the_lock_comes_back(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker, caller = Worker(log, "ToldAgent"), restate.Service("Teller")

    @caller.handler()
    async def tell(ctx: Context) -> list[Any]:
        told: list[Any] = []
        for name in TOLD:
            more = [SETTLEMENT % x for x in NO_SETTLEMENT] if name == "settle" else []
            for body in (*GARBAGE, *more):
                try:
                    await ctx.generic_call("ToldAgent", name, body, key="one")
                except TerminalError as error:
                    told.append((name, error.status_code))
        return told

    await deploy(worker, caller)
    session = Session(restate_env.client, worker, "one")
    await session.send("long")
    await log.until("begin", 1)
    told = await restate_env.client.service_call(tell, None)
    counts = [len(GARBAGE) + len(NO_SETTLEMENT), *[len(GARBAGE)] * (len(TOLD) - 1)]
    assert told == [[name, 400] for name, n in zip(TOLD, counts, strict=True) for _ in range(n)]
    assert (await session.ask("go on"))["status"] == "completed"
    assert await restate_env.client.object_call(worker.get_status, "one", None) == IDLE


@once
async def test_a_conversation_without_a_name_is_refused(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "NamelessAgent")
    await deploy(worker)
    wire = Ingress(restate_env, "NamelessAgent", "")
    for name in ("message", "cancel", "attach", "get_status", "get_history", "get_turns", "reset"):
        answer = await wire.post(name, {"content": "hi"} if name == "message" else {})
        assert answer.status_code == 400, (name, answer.text)
        assert answer.json()["message"] == "session: the key is empty. Name the conversation."


async def test_a_killed_task_is_told_by_status_and_attach_and_the_next_message_runs(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "KilledAgent", retention=timedelta(hours=1))
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    killed = {"turn": 1, "status": "killed", "messages": []}

    receipt = await session.send("long")
    await log.until("begin", 1)
    await restate_env.kill(receipt["task_id"])
    assert await session.status() == IDLE
    assert await session.attach(1) == killed

    other = Session(restate_env.client, worker, "two")
    receipt = await other.send("long")
    await log.until("begin", 1, times=2)
    await restate_env.kill(receipt["task_id"])
    outcome = await other.ask("next")
    assert (outcome["turn"], outcome["status"]) == (2, "completed")
    assert await other.attach(1) == killed
    texts = [message["content"] for message in await other.history()]
    assert texts == ["long", "next", "2"]
    await eventually(lambda: is_idle(other))


async def _completed(env: Restate, where: str) -> bool:
    return [row["status"] for row in await env.invocations(where)] == ["completed"]


@pytest.mark.parametrize("then", ["status", "attach", "message"])
async def test_an_invocation_that_restate_has_forgotten_leaves_nobody_waiting(
    restate_env: Restate, deploy: Deploy, log: Log, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    for module in (outcome, waiting):  # by default half a minute in all
        monkeypatch.setattr(module, "UNKNOWN", (timedelta(milliseconds=10),) * 2)
    worker = Worker(log, f"Forgotten{then}", retention=timedelta(0))
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    receipt = await session.send("long")
    where = f"id = '{receipt['task_id']}'"
    await log.until("begin", 1)
    await restate_env.kill(receipt["task_id"])
    await eventually(lambda: _completed(restate_env, where))
    await restate_env.purge(receipt["task_id"])

    async def gone() -> bool:
        return not await restate_env.invocations(where)

    await eventually(gone)
    if then == "status":
        await eventually(lambda: is_idle(session))
        assert await session.status() == IDLE
    if then == "message":
        assert (await session.ask("next"))["status"] == "completed"
    assert (await session.attach(1))["status"] == "killed"
    await eventually(lambda: is_idle(session))


@pytest.mark.skipif(version("restate-sdk") == "1.0.4", reason="it drops a retention of zero")
async def test_of_what_is_only_read_restate_keeps_no_journal(
    restate_env: Restate, deploy: Deploy
) -> None:
    @agent(name="ReadAgent")
    async def read(ctx: Context, task: Task) -> str:
        return secrets.token_hex(15_000)  # so that a later turn has to load it

    await deploy(read)
    session = Session(restate_env.client, read, "one")
    for _ in range(2):
        await session.ask("more")
    await session.history()
    await session.turns()
    await session.status()

    async def without_the_reads() -> bool:
        rows = await restate_env.invocations("target_service_name IN ('ReadAgent', 'ReadTask')")
        names = {x["target_handler_name"] for x in rows}
        return names == {"message", "run_task", "settle", "attach", "get_status"}

    await eventually(without_the_reads)
    (status,) = await restate_env.invocations(
        "target_service_name = 'ReadAgent' AND target_handler_name = 'get_status'"
    )
    assert status["status"] == "completed"
    entries = await restate_env.query(f"SELECT id FROM sys_journal WHERE id = '{status['id']}'")  # noqa: S608
    assert entries == []


async def test_a_status_that_is_asked_for_again_with_its_key_is_the_one_that_was_given(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """The ingress of a cluster asks again with one key when a node dies.

    Was it begun anew, the task's end, which the first one had attached to, would come to the second
    one before that had attached; restate-server 1.7.12 then stops the partition for good.
    """
    worker = Worker(log, "AskedAgainAgent")
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")

    async def status(key: str) -> Any:
        url = f"{restate_env.ingress_url}/AskedAgainAgent/one/get_status"
        async with httpx.AsyncClient(timeout=30.0) as http:
            return (await http.post(url, headers={"idempotency-key": key})).json()

    receipt = await session.send("long")
    await log.until("begin", 1)
    first = await status("one")
    assert (first["status"], first["turn"]) == ("running", 1)

    await session.cancel()
    await session.attach(1)
    await eventually(lambda: is_idle(session))

    assert await status("one") == first
    assert await status("two") == await session.status() == IDLE
    where = "target_service_name = 'AskedAgainAgent' AND target_handler_name = 'get_status'"
    rows = await restate_env.invocations(f"{where} AND idempotency_key IN ('one', 'two')")
    assert sorted(row["idempotency_key"] for row in rows) == ["one", "two"]
    assert receipt["task_id"] == first["task_id"]


async def test_a_report_that_goes_missing_is_made_up_for_by_the_next_turn(
    restate_env: Restate, deploy: Deploy, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(log, "MuteAgent")
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    with monkeypatch.context() as patch:
        patch.setattr("interruptible._task.life.report_outcome", lambda *_, **__: None)
        receipt = await session.send("first")

        async def over() -> bool:
            rows = await restate_env.invocations(f"id = '{receipt['task_id']}'")
            return bool(rows) and rows[0]["status"] == "completed"

        await eventually(over)
    assert len(await session.history()) == 1
    assert (await session.ask("second"))["status"] == "completed"

    async def whole() -> bool:
        return [m["content"] for m in await session.history()] == ["first", "1", "second", "2"]

    await eventually(whole)
    assert await session.status() == IDLE


@pytest.mark.parametrize("end", ["cancel", "kill", "kill then status"])
async def test_a_message_whose_own_invocation_is_ended_leaves_no_task_that_nobody_knows(
    restate_env: Restate,
    deploy: Deploy,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    """The worst moment: the task is sent, and its id is not stored yet.

    A kill, other than a cancellation, takes the task along, although it was sent one-way.
    """
    name = f"Ended{end.replace(' ', '')}"
    worker = Worker(log, name)
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    held = asyncio.Event()
    real = effects.shield

    async def hold(future: Any) -> Any:
        task_id = await real(future)
        await held.wait()
        return task_id

    monkeypatch.setattr(effects, "shield", hold)
    sending = asyncio.ensure_future(session.send("long"))
    await log.until("begin", 1)
    (row,) = await restate_env.invocations(
        f"target_handler_name = 'message' AND target_service_name = '{name}'"
    )
    (task,) = await restate_env.invocations(f"target_service_name = '{name}Task'")
    if end == "cancel":
        await restate_env.cancel(row["id"])
        held.set()
        assert (await sending)["task_id"] == task["id"]
    else:
        await restate_env.kill(row["id"])
        with pytest.raises(TerminalError, match="killed"):
            await sending
        held.set()
    monkeypatch.undo()
    if end == "kill then status":
        assert await session.status() == IDLE
    receipt = await session.send("next")
    if end != "kill then status":
        assert receipt["interrupted"] == [1]
    assert (await session.attach(2))["status"] == "completed"
    expected = "interrupted" if end == "cancel" else "killed"
    assert (await session.attach(1))["status"] == expected
    tasks = await restate_env.invocations(
        f"target_service_name = '{name}Task' AND target_handler_name = 'run_task'"
    )
    assert [(x["id"] == task["id"], x["completion_result"]) for x in tasks] == [
        (True, "failure"),
        (False, "success"),
    ]


async def test_messages_ended_at_any_moment_leave_every_task_known_and_nothing_live(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "AnyMoment")
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    async with httpx.AsyncClient(timeout=60) as client:
        for number in range(24):
            sent = await client.post(
                f"{restate_env.ingress_url}/AnyMoment/one/message/send", json={"content": "long"}
            )
            await asyncio.sleep(number % 8 / 1000)
            end = restate_env.kill if number % 2 else restate_env.cancel
            with contextlib.suppress(AdminError):  # it was over already
                await end(sent.json()["invocationId"])
    assert (await session.ask("last"))["status"] == "completed"
    await eventually(lambda: is_idle(session))
    tasks = await restate_env.invocations(
        "target_service_name = 'AnyMomentTask' AND target_handler_name = 'run_task'"
    )
    assert {x["status"] for x in tasks} == {"completed"}
    keys = [x["idempotency_key"] for x in tasks]
    turns = sorted(int(key.rsplit("/", 1)[1]) for key in keys)
    assert len(set(turns)) == len(turns)
    history = await session.history()
    said = [m for m in history if m["content"] in ("long", "last")]
    assert len(said) == turns[-1] == (await session.attach())["turn"]


@once
async def test_the_cost_of_a_message_is_the_same_after_10_turns_and_after_2000(
    restate_env: Restate, deploy: Deploy
) -> None:
    class CostAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return "x" * 100

        @handler()
        async def grow_old(self, ctx: ObjectContext, turns: int) -> None:
            """Store a long past, as that many messages would have left it."""
            record = Record("past", next=turns + 1, paged=True, older="01234567")
            said, answer = [{"role": "user", "content": "y" * 100}], "x" * 100
            for first in range(1, turns + 1, storage.TURNS_PER_PAGE):
                page = [
                    {
                        "turn": turn,
                        "status": "completed",
                        "input": said,
                        "messages": [{"role": "assistant", "content": answer}],
                    }
                    for turn in range(first, min(first + storage.TURNS_PER_PAGE, turns + 1))
                ]
                ctx.set(storage.page_key(first), page, serde=storage.PACKED)
            ctx.set("session", stored_record.dump_record(record))

    cost = CostAgent()
    await deploy(cost)

    async def entries(key: str, turns: int) -> list[tuple[str, int]]:
        await restate_env.client.object_call(cost.grow_old, key, turns)
        session = Session(restate_env.client, cost, key)
        receipt = await session.send("y" * 100)
        assert receipt["turn"] == turns + 1
        await session.attach()
        assert len(await session.history()) == 2 * (turns + 1)
        where = f"target_handler_name = 'message' AND target_service_key = '{key}'"
        (row,) = await restate_env.invocations(where)
        rows = await restate_env.query(
            f"SELECT entry_type, raw_length FROM sys_journal WHERE id = '{row['id']}' "  # noqa: S608
            "AND entry_type <> 'Command: Input' ORDER BY index"
        )
        return [(row["entry_type"], row["raw_length"]) for row in rows]

    early, late = await entries("at-10-turns", 10), await entries("at-2k-turns", 2000)
    timed = ["Command: Run", "Notification: Run"]  # they come beside the read, before it or after
    for journal in (early, late):
        assert sorted(name for name, _ in journal if name in timed) == timed
    early, late = ([x for x in journal if x[0] not in timed] for journal in (early, late))
    assert (
        [name for name, _ in early]
        == [name for name, _ in late]
        == [
            "Command: GetLazyState",
            "Notification: GetLazyState",
            "Command: SetState",
            "Command: OneWayCall",
            "Notification: CallInvocationId",
            "Command: SetState",
            "Command: Output",
        ]
    )
    # Only the turn's number has more digits; it stands at most three times in one entry. And with
    # many turns, a task is told by what it loads the older ones.
    assert all(
        0 <= size - small <= 3 * (len("2001") - len("11")) + len(',"older":[1921,"01234567"]')
        for (_, small), (_, size) in zip(early, late, strict=True)
    ), (early, late)


async def test_a_repeated_message_of_one_idempotency_key_is_one_message(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "OnceAgent")
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    receipts = await asyncio.gather(*(session.send("hello", idempotency_key="k") for _ in range(5)))
    outcomes = [await session.ask("hello", idempotency_key="k") for _ in range(2)]
    assert [outcome["turn"] for outcome in outcomes] == [1, 1]
    assert [receipt["turn"] for receipt in receipts] == [1] * 5
    await session.attach()
    assert [m["content"] for m in await session.history()] == ["hello", "1"]


@once
async def test_two_agents_and_two_hundred_sessions_do_not_hear_each_other(
    restate_env: Restate, deploy: Deploy
) -> None:
    class EchoAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            texts = [m["content"] for m in task.messages if m["role"] == "user"]
            assert all(text.startswith(("[", f"{self.name}/{task.session}/")) for text in texts)
            return f"{self.name}/{task.session}/{task.turn}"

    agents = [EchoAgent("EchoOneAgent"), EchoAgent("EchoTwoAgent")]
    await deploy(*agents)
    at_once = asyncio.Semaphore(40)  # of more connections, httpx looks through all for each request

    async def talk(echo: Agent, key: str) -> None:
        session = Session(restate_env.client, echo, key)
        mine = f"{echo.name}/{key}"
        async with at_once:
            await session.send(f"{mine}/a")
            last = await session.ask(f"{mine}/b")
            assert last["messages"] == [{"role": "assistant", "content": f"{mine}/2"}]
            for message in await session.history():
                assert message["content"].startswith(("[", mine))

    await asyncio.gather(*(talk(agents[n % 2], f"session-{n}") for n in range(200)))


@once
async def test_a_session_is_the_same_from_a_handler_and_from_a_client(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "CalledAgent")
    caller = restate.Service("Caller")

    @caller.handler()
    async def call(ctx: Context) -> list[Any]:
        session = Session(ctx, "CalledAgent", "from a handler/ü?")
        receipt = await session.send("one")
        told: list[Any] = [receipt["turn"], await session.attach(), await session.ask("two")]
        told += [await session.history(), await session.status(), await session.cancel()]
        try:
            await session.send("")
        except TerminalError as error:
            told.append([error.status_code, error.message])
        return told

    await deploy(worker, caller)
    inside = await restate_env.client.service_call(call, None)
    session = Session(restate_env.client, worker, "from a client/ü?")
    receipt = await session.send("one")
    outside: list[Any] = [receipt["turn"], await session.attach(), await session.ask("two")]
    outside += [await session.history(), await session.status(), await session.cancel()]
    with pytest.raises(TerminalError) as refusal:
        await session.send("")
    outside.append([refusal.value.status_code, refusal.value.message])
    assert inside == outside
    assert inside[-1] == [400, "content: is empty. Send text, or a list of parts."]


@once
async def test_an_agent_can_have_handlers_of_its_own_and_typed_clients_call_all_of_them(
    restate_env: Restate, deploy: Deploy
) -> None:
    class NotesAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return await ctx.object_call(self.get_title, task.session, None) or "untitled"

        @handler()
        async def set_title(self, ctx: ObjectContext, title: str) -> None:
            """Name the conversation."""
            ctx.set("title", title)

        @handler(kind="shared")
        async def get_title(self, ctx: ObjectSharedContext) -> str | None:
            return await ctx.get("title", type_hint=str)

    notes = NotesAgent()
    await deploy(notes)
    client = restate_env.client
    await client.object_call(notes.set_title, "one", "Todo CLI")
    receipt = await client.object_call(notes.message, "one", {"content": "hi"})
    assert receipt["turn"] == 1
    outcome = await client.object_call(notes.attach, "one", {"turn": 1})
    assert outcome["messages"] == [{"role": "assistant", "content": "Todo CLI"}]
    assert len(await client.object_call(notes.get_history, "one", None)) == 2


async def test_a_large_turn_stays_out_of_its_page_and_in_its_place(
    restate_env: Restate, deploy: Deploy
) -> None:
    @agent(name="LargeAgent")
    async def large(ctx: Context, task: Task) -> str:
        return task.input[0]["content"].upper()

    await deploy(large)
    session = Session(restate_env.client, large, "one")
    said = ["a", secrets.token_hex(50_000), "c"]
    for text in said:
        await session.ask(text)
    expected = [t for text in said for t in (text, text.upper())]
    assert [m["content"] for m in await session.history()] == expected
    assert (await session.attach(2))["messages"][0]["content"] == said[1].upper()
    for text in ("d", "e", "f", "g"):  # until the tail of the record is outgrown
        await session.ask(text * 3_500)
    state = await restate_env.query(
        "SELECT key, encode(value, 'hex') AS value FROM state WHERE service_name = 'LargeAgent'"
    )
    sizes = {row["key"]: len(row["value"]) // 2 for row in state}
    assert sorted(sizes) == ["page/0", "session", "turn/2"]
    assert sizes["page/0"] + sizes["session"] < 4_000

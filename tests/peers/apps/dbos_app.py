"""DBOS on SQLite: a message cancels the session's workflow, and starts another.

Calls of the model are preemptible steps. What is said is in a table of the app's own. A cleanup is
plain code in a `finally`: as a step it is not run any more, once the workflow is cancelled.

With the policy `wait`, the new workflow waits until the code of the old one has ended.
"""

import asyncio
import sqlite3
from typing import Any

import web
from dbos import DBOS, SetEnqueueOptions
from shared import WINDOW, ask, clean_up, order_of

DBOS(
    config={
        "name": "peer",
        "system_database_url": "sqlite:///dbos.sqlite",
        "run_admin_server": False,
        "log_level": "ERROR",
        "application_version": "1",  # both, so that what was at work goes on after a crash
        "executor_id": "one",
    }
)

SCHEMA = """
pragma journal_mode = wal;
create table if not exists said (n integer primary key, session text, role text, content text);
create index if not exists said_in on said (session, n);
create table if not exists newest (session text primary key, workflow text);
"""

locks: dict[str, asyncio.Lock] = {}
at_work: dict[str, asyncio.Event] = {}
"""Of each workflow of this process, whether its code has ended; after a crash, none has to."""
begun: set[str] = set()
"""The workflows that have called the model; others have nothing to clean up."""


def database() -> sqlite3.Connection:
    return sqlite3.connect("talk.sqlite", timeout=10)


def append(session: str, role: str, content: str) -> int:
    with database() as db:
        sql = "insert into said (session, role, content) values (?, ?, ?)"
        return db.execute(sql, (session, role, content)).lastrowid or 0


def last(session: str, upto: int = 1 << 60, limit: int = 1 << 30) -> list[dict[str, Any]]:
    with database() as db:
        sql = "select role, content from said where session = ? and n <= ? order by n desc limit ?"
        rows = db.execute(sql, (session, upto, limit)).fetchall()
    return [{"role": role, "content": content} for role, content in reversed(rows)]


def replace_newest(session: str, workflow: str) -> None:
    with database() as db:
        db.execute("insert or replace into newest values (?, ?)", (session, workflow))


def newest(session: str) -> str | None:
    with database() as db:
        sql = "select workflow from newest where session = ?"
        row = db.execute(sql, (session,)).fetchone()
    return row[0] if row else None


@DBOS.step(preemptible=True)
async def model(session: str, upto: int) -> str:
    begun.add(str(DBOS.workflow_id))
    return await ask(await asyncio.to_thread(last, session, upto, WINDOW))


@DBOS.step()
async def save(session: str, content: str) -> int:
    return await asyncio.to_thread(append, session, "assistant", content)


@DBOS.workflow()
async def work(session: str, upto: int, order: dict[str, Any], before: str | None = None) -> None:
    ended = at_work[str(DBOS.workflow_id)] = asyncio.Event()
    if before in at_work:
        await at_work[before].wait()
    try:
        for _ in range(order.get("steps", 1)):
            upto = await save(session, await model(session, upto))
    finally:
        if "cleanup" in order and DBOS.workflow_id in begun:
            await clean_up(order["tag"], order["cleanup"])
        ended.set()


async def say(session: str, content: str, policy: str) -> None:
    async with locks.setdefault(session, asyncio.Lock()):
        upto = await asyncio.to_thread(append, session, "user", content)
        order = order_of({"content": content})
        if policy == "queue":
            with SetEnqueueOptions(queue_partition_key=session):
                handle = await DBOS.enqueue_workflow_async("turns", work, session, upto, order)
        else:
            before = await asyncio.to_thread(newest, session)
            if before:
                await DBOS.cancel_workflow_async(before)
            after = before if policy == "wait" else None
            handle = await DBOS.start_workflow_async(work, session, upto, order, after)
        await asyncio.to_thread(replace_newest, session, handle.get_workflow_id())


async def read(session: str) -> list[Any]:
    return await asyncio.to_thread(last, session)


async def launch() -> None:
    with database() as db:
        db.executescript(SCHEMA)
    DBOS.launch()
    await DBOS.register_queue_async("turns", partition_concurrency=1, polling_interval_sec=0.1)


if __name__ == "__main__":
    web.serve(say, read, launch)

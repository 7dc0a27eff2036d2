"""To go on where a turn stopped, on a real server."""

from typing import Any

import pytest

from interruptible import Session
from interruptible.testing import Restate

from .conftest import Deploy, Log
from .gated import Gated, finish, history, open_session, record, start
from .test_pending import refused

pytestmark = pytest.mark.anyio


async def cut_off_and_resumed(session: Session, worker: Gated, said: str) -> None:
    """A turn puts out "one" and is cancelled; then another one goes on with it."""
    await start(session, worker, said)
    worker.tell(1, "one", "look")
    await worker.log.until("took", 1, [])
    await session.cancel()
    worker.stop(1)
    await session.attach(1)
    await session.resume()
    await worker.log.until("begin", 2)


async def test_a_turn_goes_on_where_an_interrupted_one_stopped(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "ResumedAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "count to three")
    worker.tell(1, "one", "two ", "look")
    await log.until("took", 1, [])
    await session.cancel()
    worker.stop(1)
    assert (await session.attach(1))["status"] == "interrupted"
    assert (await history(session))[-1] == "note: cancelled"
    receipt = await session.resume()
    assert (receipt["turn"], receipt["message"], receipt["interrupted"]) == (2, 1, [])
    await log.until("begin", 2)
    assert worker.seen[2] == ["count to three", "one", "two"]
    assert await refused(session.resume()) == 412
    worker.tell(2, "three")
    await finish(session, worker, 2)
    said = ["count to three", "one", "two", "three", "answer 2"]
    assert await history(session) == said
    assert await record(session, "turn", "status", "resumes") == [
        (1, "interrupted", None),
        (2, "completed", 1),
    ]
    assert await refused(session.resume()) == 412
    assert await refused(session.resume(1)) == 412
    assert await refused(session.resume(7)) == 404
    outcome = await session.attach(message=1)
    assert (outcome["status"], outcome.get("turn")) == ("completed", 2)
    await start(session, worker, "and then?")
    assert worker.seen[3] == [*said, "and then?"]
    await finish(session, worker, 3)
    assert (await session.rewind(2))["discarded"] == [2, 3]
    assert (await history(session))[-1] == "note: cancelled"


async def test_a_turn_that_goes_on_with_another_does_so_again_when_it_is_regenerated(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "RegeneratedResumedAgent")
    session = await open_session(restate_env, deploy, worker)
    await cut_off_and_resumed(session, worker, "count to three")
    await finish(session, worker, 2)
    receipt = await session.regenerate()
    assert (receipt["turn"], receipt.get("discarded")) == (3, [2])
    await log.until("begin", 3)
    assert worker.seen[3] == ["count to three", "one"]
    await finish(session, worker, 3)
    assert await record(session, "turn", "resumes") == [(1, None), (2, 1), (3, 1)]
    assert (await session.attach(message=1)).get("turn") == 3


async def test_a_failed_and_a_killed_turn_are_resumed_and_an_empty_session_is_not(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "FailedResumedAgent")
    session = await open_session(restate_env, deploy, worker)
    assert await refused(session.resume()) == 404
    await start(session, worker, "try")
    worker.tell(1, "half", "fail")
    assert (await session.attach(1))["status"] == "failed"
    await session.resume()
    await log.until("begin", 2)
    assert worker.seen[2] == ["try", "half"]
    await restate_env.kill(worker.tasks[2])
    assert (await session.attach(2))["status"] == "killed"
    await session.resume(2)
    await log.until("begin", 3)
    assert worker.seen[3] == ["try", "half"]
    await finish(session, worker, 3)


async def test_a_note_says_go_on_where_a_provider_wants_one(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class Polite(Gated):
        def resume_note(self, turn: Any) -> str:
            return f"Go on, from turn {turn['turn']}."

    worker = Polite(log, "PoliteAgent")
    session = await open_session(restate_env, deploy, worker)
    await cut_off_and_resumed(session, worker, "count")
    assert worker.seen[2] == ["count", "one", "Go on, from turn 1."]
    await finish(session, worker, 2)

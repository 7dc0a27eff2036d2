"""An editor that speaks the Agent Client Protocol, in front of an agent on a real server."""

import asyncio
import json
import subprocess
from importlib.metadata import version
from typing import Any

import acp
import httpx
import pytest
from restate import Context
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interruptible import Agent, Session, Task
from interruptible.testing import Restate, serve

from .conftest import Deploy, Log, Speaking, eventually, once
from .editing import PATIENCE, ROOT, Editor, command, editing, editor_of, new_session, stop_reason
from .gated import Gated
from .streaming import CALLING, Speaker
from .test_approval import Asking

pytestmark = [pytest.mark.anyio, once]


async def refused(call: Any) -> acp.RequestError:
    """The error that a call is answered with."""
    with pytest.raises(acp.RequestError) as caught:
        await asyncio.wait_for(call, PATIENCE)
    return caught.value


async def load(editor: Editor, session: str) -> None:
    await editor.agent.load_session(cwd=str(ROOT), session_id=session, mcp_servers=[])


# -- A turn. ---------------------------------------------------------------------------------------


async def test_an_answer_is_shown_as_it_comes(restate_env: Restate, speaking: Speaking) -> None:
    agent = await speaking("EditedAgent")
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        prompt = editor.prompt(session, "hello")
        agent.tell(1, "think Hm. ", "say Hello")
        shown = [("user", "hello"), ("thought", "Hm. "), ("agent", "Hello")]
        await editor.until_shown(session, *shown)
        agent.tell(1, "say , you", "Hello, you!", "More.", "end")
        assert await stop_reason(prompt) == "end_turn"
        whole = "Hello, you!\n\nMore."
        assert editor.shown[session] == [*shown[:2], ("agent", whole)]
        prompt = editor.prompt(session, "on")
        agent.tell(2, "And so on.", "end")
        assert await stop_reason(prompt) == "end_turn"
        shown = [*shown[:2], ("agent", whole), ("user", "on"), ("agent", "And so on.")]
        assert editor.shown[session] == shown


async def test_a_call_of_a_tool_is_shown_with_what_comes_of_it(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("EditedToolAgent")
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        prompt = editor.prompt(session, "search")
        agent.tell(1, "call", "say line 1\n")
        said = ("user", "search")
        await editor.until_shown(session, said, ("call", "search in_progress: line 1\n"))
        agent.tell(1, "say line 2\n", "two lines")
        await editor.until_shown(session, said, ("call", "search completed: two lines"))
        agent.tell(1, "call")
        done = [said, ("call", "search completed: two lines")]
        await editor.until_shown(session, *done, ("call", "search in_progress: "))
        await editor.agent.cancel(session_id=session)
        there = Session(restate_env.client, agent, session)
        await eventually(lambda: _cancelled(there))
        agent.stop(1)
        assert await stop_reason(prompt) == "cancelled"
        # What the model is told of a call that was cut off is its result.
        last = editor.shown[session][-1]
        assert editor.shown[session][:-1] == done
        assert last.call["status"] in ("failed", "completed")
        assert last.call["rawInput"] == {}
        ids = [x.call["toolCallId"] for x in editor.shown[session][1:]]
        assert len({*ids}) == 2  # the provider's ids are the same


async def _cancelled(session: Session) -> bool:
    return all(x["cancelled"] for x in (await session.status())["live"])


async def test_what_is_said_meanwhile_interrupts_the_turn_and_both_prompts_are_answered(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("EditedInterruptAgent")
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        first = editor.prompt(session, "one")
        agent.tell(1, "say Once")
        await editor.until_shown(session, ("user", "one"), ("agent", "Once"))
        second = editor.prompt(session, "two")
        agent.stop(1)
        agent.tell(2, "say Two", "Two.", "end")
        assert [await stop_reason(x) for x in (first, second)] == ["cancelled", "end_turn"]
        assert editor.shown[session] == [
            ("user", "one"),
            ("agent", "Once"),
            ("user", "two"),
            ("agent", "Two."),
        ]


async def test_what_is_said_meanwhile_is_steered_if_that_is_the_policy_and_answered_with_the_turn(
    restate_env: Restate, log: Log, speaking: Speaking
) -> None:
    agent = await speaking("EditedSteerAgent", policy="steer")
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        first = editor.prompt(session, "one")
        await log.until("begin", 1)
        second = editor.prompt(session, "and this")
        there = Session(restate_env.client, agent, session)
        await eventually(lambda: _steered(there))
        assert not first.done()
        agent.tell(1, "look", "Both.", "end")
        assert [await stop_reason(x) for x in (first, second)] == ["end_turn", "end_turn"]
        assert editor.shown[session] == [("user", "oneand this"), ("agent", "Both.")]


async def _steered(session: Session) -> bool:
    return bool((await session.status())["steered"])


async def test_a_cancelled_prompt_is_answered_when_its_cleanup_is_done(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Speaker(log, "EditedCancelAgent", restate_env)
    agent.hold(1)
    await deploy(agent)
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        prompt = editor.prompt(session, "go")
        await log.until("begin", 1)
        await editor.agent.cancel(session_id=session)
        agent.stop(1)
        await log.until("cleaning", 1)
        assert not prompt.done()
        agent.free(1)
        assert await stop_reason(prompt) == "cancelled"
        assert ("cleaned", 1) in log.events
        await editor.agent.cancel(session_id=session)  # nothing is live
        prompt = editor.prompt(session, "again")
        agent.tell(2, "Well.", "end")
        assert await stop_reason(prompt) == "end_turn"


async def test_a_turn_that_fails_is_an_error_with_its_reason_after_what_it_said(
    restate_env: Restate, log: Log, speaking: Speaking
) -> None:
    agent = await speaking("EditedFailingAgent")
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        prompt = editor.prompt(session, "go")
        agent.tell(1, "It began.", "fail")
        error = await refused(prompt)
        assert (error.code, str(error)) == (-32603, "The turn failed: no luck")
        assert error.data == {"turn": 1, "status": "failed"}
        assert editor.shown[session] == [("user", "go"), ("agent", "It began.")]
        prompt = editor.prompt(session, "again")
        await log.until("begin", 2)
        await _kill(restate_env, Session(restate_env.client, agent, session))
        assert str(await refused(prompt)) == (
            "The turn was killed: somebody has ended its task in Restate."
        )


async def _kill(env: Restate, session: Session) -> None:
    task = (await session.status())["task_id"]
    assert task is not None
    await env.kill(task)


# -- Steering. -------------------------------------------------------------------------------------


def steering(editor: Editor, session: str, text: str, **idle: str) -> Any:
    """The extension `_session/steering`, as its clients send it."""
    block = {"type": "text", "text": text}
    meta = {"_meta": {"steering": idle}} if idle else {}
    params = {"sessionId": session, "prompt": [block], **meta}
    return editor.agent.ext_method("session/steering", params)


async def test_a_turn_at_work_is_steered_and_an_idle_session_says_why_not(
    restate_env: Restate, log: Log, speaking: Speaking
) -> None:
    agent = await speaking("EditedSteeringAgent")
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        idle = {"idleBehavior": "promptRequired"}
        nothing = {"outcome": "promptRequired", "reason": "noRunningTurn"}
        assert await steering(editor, session, "before", **idle) == nothing
        prompt = editor.prompt(session, "go")
        await log.until("begin", 1)
        assert await steering(editor, session, "shorter", **idle) == {"outcome": "injected"}
        assert await steering(editor, session, "louder") == {"outcome": "injected"}
        agent.tell(1, "look", "Short!", "end")
        assert await stop_reason(prompt) == "end_turn"
        there = Session(restate_env.client, agent, session)
        said = [x["content"] for x in await there.history()]
        assert said == ["go", "shorter", "louder", "Short!"]
        assert editor.shown[session] == [("user", "go"), ("agent", "Short!")]
        assert await steering(editor, session, "again") == {"outcome": "startedNewTurn"}
        agent.tell(2, "Again.", "end")
        await editor.until_shown(session, ("user", "go"), ("agent", "Short!\n\nAgain."))


async def test_steering_that_is_not_allowed_or_makes_no_sense_is_refused(
    restate_env: Restate, log: Log, speaking: Speaking
) -> None:
    agent = await speaking("EditedUnsteeredAgent", allowed_policies=["interrupt"])
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        prompt = editor.prompt(session, "go")
        await log.until("begin", 1)
        error = await refused(steering(editor, session, "shorter"))
        assert (error.code, str(error)) == (
            -32602,
            'policy: must be one of interrupt, not "steer".',
        )
        error = await refused(steering(editor, session, "x", idleBehavior="other"))
        assert error.code == -32602
        params = {"sessionId": session, "prompt": []}
        error = await refused(editor.agent.ext_method("session/steering", params))
        assert (error.code, str(error)) == (-32602, "prompt: is empty. Say something.")
        error = await refused(editor.agent.ext_method("session/steering", {}))
        assert error.code == -32602
        assert (await refused(steering(editor, "unknown", "x"))).code == -32002
        assert (await refused(editor.agent.ext_method("session/other", {}))).code == -32601
        agent.tell(1, "end")
        assert await stop_reason(prompt) == "end_turn"


# -- Permissions. ----------------------------------------------------------------------------------


class AskingStream(Asking):
    """An `Asking` agent that streams."""

    def __init__(self, log: Log, name: str, env: Restate, **options: Any) -> None:
        from interruptible.stream import Stream  # noqa: PLC0415

        Agent.__init__(self, name, stream=Stream(ingress=env.ingress_url), **options)
        self.log, self.timeout = log, None


@pytest.mark.parametrize("streams", [True, False])
async def test_an_approval_is_asked_of_the_editor_and_its_answer_is_the_agents(
    restate_env: Restate, deploy: Deploy, log: Log, streams: bool
) -> None:
    agent: Agent = AskingStream(log, "EditedAskingAgent", restate_env)
    if not streams:
        agent = Asking(log, "EditedQuietAskingAgent")
    await deploy(agent)
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        prompt = editor.prompt(session, "push, pull")
        await editor.until(lambda: len(editor.asked) == 2)
        answers = dict(editor.asked)
        asked = [x.call for x in editor.shown[session][1:]]
        assert sorted((x["title"], x["rawInput"]["what"], x["status"]) for x in asked) == [
            ("pull", "pull", "pending"),
            ("push", "push", "pending"),
        ]
        answers["push"].set_result("allow")
        answers["pull"].set_result("reject")
        assert await stop_reason(prompt) == "end_turn"
        titles = {x.call["title"]: x.call["status"] for x in editor.shown[session] if x.call}
        assert titles == {"push": "completed", "pull": "failed"}
        assert editor.shown[session][-1] == ("agent", "yes no")
        prompt = editor.prompt(session, "delete")
        await editor.until(lambda: len(editor.asked) == 3)
        there = Session(restate_env.client, agent, session)
        [waits] = (await there.status())["waiting_for"]
        await there.answer(waits["id"], approved=True)  # elsewhere
        assert await stop_reason(prompt) == "end_turn"
        await editor.until(lambda: "answered elsewhere" in repr(editor.shown[session]))
        editor.asked[2][1].set_result("reject")  # too late
        prompt = editor.prompt(session, "drop")
        await editor.until(lambda: len(editor.asked) == 4)
        await editor.agent.cancel(session_id=session)
        editor.asked[3][1].set_result("cancelled")
        assert await stop_reason(prompt) == "cancelled"
        assert [[y[0] for y in x[1]] for x in log.of("told")] == [[True, False], [True]]


async def test_an_approval_that_waits_is_asked_of_who_loads_the_session(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = AskingStream(log, "EditedLoadedAskingAgent", restate_env)
    await deploy(agent)
    there = Session(restate_env.client, agent, "one")
    receipt = await there.send("push")
    async with editing(restate_env, agent.name) as editor:
        await load(editor, "one")
        await editor.until(lambda: editor.asked)
        assert [x[0] for x in editor.asked] == ["push"]
        editor.asked[0][1].set_result("allow")
        assert (await there.attach(receipt["turn"]))["status"] == "completed"
        await editor.until_shown(
            "one", ("user", "push"), ("call", "push completed: "), ("agent", "yes")
        )


async def test_an_answer_that_makes_no_sense_is_none(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = AskingStream(log, "EditedNonsenseAskingAgent", restate_env)
    await deploy(agent)
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        there = Session(restate_env.client, agent, session)
        prompt = editor.prompt(session, "push")
        await editor.until(lambda: editor.asked)
        editor.asked[0][1].set_result("nonsense")
        await editor.agent.initialize(protocol_version=acp.PROTOCOL_VERSION)  # it has been read
        [waits] = (await there.status())["waiting_for"]
        await there.answer(waits["id"], approved=True)
        assert await stop_reason(prompt) == "end_turn"
        assert editor.shown[session][-1] == ("agent", "yes")


# -- What is said and shown besides text. ----------------------------------------------------------


PIXEL = "iVBORw0KGgo="


async def test_images_sounds_and_resources_reach_the_agent_and_what_it_shows_reaches_the_editor(
    restate_env: Restate, deploy: Deploy
) -> None:
    class EditedPartsAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            task.append(CALLING)
            picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
            content = [{"type": "text", "text": "look"}, picture]
            task.append({"role": "tool", "tool_call_id": "c1", "content": content})
            task.append(json.dumps(task.messages[-3]["content"]))

    await deploy(EditedPartsAgent())
    text = acp.embedded_text_resource("file:///a.py", "print(1)")
    blob = acp.embedded_blob_resource("file:///b%20c.pdf", PIXEL, mime_type="application/pdf")
    async with editing(restate_env, "EditedPartsAgent") as editor:
        session = await new_session(editor)
        blocks = [
            "see",
            acp.image_block(PIXEL, "image/png"),
            acp.audio_block(PIXEL, "audio/wav"),
            acp.resource_link_block("a.py", "file:///a.py"),
            acp.resource_block(text),
            acp.resource_block(blob),
        ]
        assert await stop_reason(editor.prompt(session, *blocks)) == "end_turn"
        [call, answer] = editor.shown[session][-2:]
        assert [x["content"]["type"] for x in call.call["content"]] == ["text", "image"]
        assert json.loads(answer.text) == [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}},
            {"type": "text", "text": "[a.py](file:///a.py)"},
            {
                "type": "text",
                "text": '<resource uri="file:///a.py">\nprint(1)\n</resource>',
            },
            {
                "type": "file",
                "file": {
                    "filename": "b c.pdf",
                    "file_data": f"data:application/pdf;base64,{PIXEL}",
                },
            },
        ]
        async with editing(restate_env, "EditedPartsAgent") as other:
            await load(other, session)
            said = "see[image][audio][a.py](file:///a.py)[resource][resource]"
            shown = [("user", said), *editor.shown[session][1:]]
            await other.until(lambda: other.shown.get(session) == shown, shown)


# -- Sessions that others use, too. ----------------------------------------------------------------


async def test_a_session_that_is_loaded_is_replayed_and_then_live(
    restate_env: Restate, log: Log, speaking: Speaking
) -> None:
    agent = await speaking("EditedLoadAgent")
    there = Session(restate_env.client, agent, "one")
    await there.send("first")
    agent.tell(1, "call", "found", "It is there.", "end")
    await there.attach(1)
    await there.send("taken back")
    agent.tell(2, "No.", "end")
    await there.attach(2)
    await there.rewind(2)
    await there.send("second")
    agent.tell(3, "Whole.", "say Half")
    await log.until("begin", 3)
    before = [
        ("user", "first"),
        ("call", "search completed: found"),
        ("agent", "It is there."),
    ]
    async with editing(restate_env, agent.name) as editor:
        await load(editor, "one")
        await editor.until(lambda: editor.shown.get("one", [])[:3] == before, before)
        live = [*before, ("user", "second"), ("agent", "Whole.\n\nHalf")]
        await editor.until_shown("one", *live)
        agent.tell(3, "say  more", "Half more", "end")
        await editor.until_shown("one", *live[:-1], ("agent", "Whole.\n\nHalf more"))
        prompt = editor.prompt("one", "third")
        agent.tell(4, "Third.", "end")
        assert await stop_reason(prompt) == "end_turn"
        shown = editor.shown.pop("one")
        await load(editor, "one")  # once more, in the same process
        await editor.until(lambda: editor.shown.get("one") == shown, shown)
        assert shown[-2:] == [("user", "third"), ("agent", "Third.")]


async def test_a_session_that_is_loaded_twice_at_once_is_told_of_once(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("EditedTwiceAgent")
    async with editing(restate_env, agent.name) as editor:
        await asyncio.gather(*(load(editor, "one") for _ in range(4)))
        for n in (1, 2):
            prompt = editor.prompt("one", f"ask {n}")
            agent.tell(n, "say Once", "Once.", "end")
            assert await stop_reason(prompt) == "end_turn"
        said = [("user", "ask 1"), ("agent", "Once."), ("user", "ask 2"), ("agent", "Once.")]
        assert editor.shown["one"] == said


async def test_what_others_say_is_shown_and_what_comes_of_it(
    restate_env: Restate, log: Log, speaking: Speaking
) -> None:
    agent = await speaking("EditedSharedAgent")
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        there = Session(restate_env.client, agent, session)
        await there.send("from elsewhere")
        agent.tell(1, "say Hi", "Hi!")
        shown = [("user", "from elsewhere"), ("agent", "Hi!")]
        await editor.until_shown(session, *shown)
        await there.send("and this", policy="steer")
        agent.tell(1, "look")
        await editor.until_shown(session, *shown, ("user", "and this"))
        prompt = editor.prompt(session, "mine")
        agent.stop(1)
        await log.until("begin", 2)
        await there.cancel()
        agent.stop(2)
        assert await stop_reason(prompt) == "cancelled"
        prompt = editor.prompt(session, "one")
        await log.until("begin", 3)
        other = asyncio.ensure_future(there.ask("two", policy="queue"))
        agent.tell(3, "One.", "end")
        agent.tell(4, "Two.", "end")
        assert await stop_reason(prompt) == "end_turn"
        assert (await other)["status"] == "completed"
        await editor.until_shown(
            session,
            *shown,
            ("user", "and thismineone"),
            ("agent", "One."),
            ("user", "two"),
            ("agent", "Two."),
        )


async def test_a_prompt_that_waits_and_is_withdrawn_is_cancelled(
    restate_env: Restate, log: Log, speaking: Speaking
) -> None:
    agent = await speaking("EditedQueueAgent", policy="queue")
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        first = editor.prompt(session, "one")
        await log.until("begin", 1)
        second = editor.prompt(session, "two")
        there = Session(restate_env.client, agent, session)
        [waits] = await eventually(lambda: _pending(there))
        await there.withdraw(waits["id"])
        assert await stop_reason(second) == "cancelled"
        agent.tell(1, "end")
        assert await stop_reason(first) == "end_turn"


async def test_a_prompt_of_a_session_that_is_emptied_is_cancelled(
    restate_env: Restate, log: Log, speaking: Speaking
) -> None:
    agent = await speaking("EditedResetAgent")
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        prompt = editor.prompt(session, "one")
        await log.until("begin", 1)
        await Session(restate_env.client, agent, session).reset()
        agent.stop(1)
        assert await stop_reason(prompt) == "cancelled"
        prompt = editor.prompt(session, "two")
        agent.tell(2, "Two.", "end")
        assert await stop_reason(prompt) == "end_turn"


async def _pending(session: Session) -> Any:
    return (await session.status())["pending"]


async def test_an_agent_without_a_stream_is_shown_in_whole_messages(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Gated(log, "EditedQuietAgent")
    await deploy(agent)
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        prompt = editor.prompt(session, "one")
        agent.tell(1, "Hm.", "end")
        assert await stop_reason(prompt) == "end_turn"
        shown = [("user", "one"), ("agent", "Hm.\n\nanswer 1")]
        assert editor.shown[session] == shown
        there = Session(restate_env.client, agent, session)
        await there.send("elsewhere")
        prompt = editor.prompt(session, "two")
        agent.stop(2)
        agent.tell(3, "end")
        assert await stop_reason(prompt) == "end_turn"
        shown = [*shown, ("user", "twoelsewhere"), ("agent", "answer 3")]
        assert editor.shown[session] == shown
        await there.send("live")
        async with editing(restate_env, agent.name) as other:
            await load(other, session)
            agent.tell(4, "end")
            await other.until(lambda: other.shown[session][-1] == ("agent", "answer 4"))


# -- What ends, and what does not. -----------------------------------------------------------------


async def test_the_work_goes_on_when_the_editor_is_gone_and_another_one_loads_it(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("EditedLeftAgent")
    async with editing(restate_env, agent.name, "--session", "mine") as editor:
        assert await new_session(editor) == "mine"
        prompt = editor.prompt("mine", "work")
        agent.tell(1, "say Begun")
        await editor.until_shown("mine", ("user", "work"), ("agent", "Begun"))
        editor.process.stdin.close()  # type: ignore[attr-defined]
        code = await asyncio.wait_for(editor.process.wait(), PATIENCE)  # type: ignore[attr-defined]
        assert code == 0
        with pytest.raises(ConnectionError):
            await prompt
    there = Session(restate_env.client, agent, "mine")
    assert (await there.status())["status"] == "running"
    async with editing(restate_env, agent.name, "--session", "mine") as editor:
        assert await new_session(editor) == "mine"
        await editor.until_shown("mine", ("user", "work"), ("agent", "Begun"))
        agent.tell(1, "say , done", "Begun, done.", "end")
        assert (await there.attach())["status"] == "completed"
        await editor.until_shown("mine", ("user", "work"), ("agent", "Begun, done."))


async def test_it_ends_with_its_editor_also_if_that_does_not_read(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("EditedUnreadAgent")
    said = "x" * (1 << 20)
    agent.tell(1, said, "end")
    there = Session(restate_env.client, agent, "long")
    await there.ask("go")
    pipe = subprocess.PIPE
    where = command(restate_env, agent.name)
    process = subprocess.Popen(where, stdin=pipe, stdout=pipe, cwd=ROOT)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        params = {"cwd": "/", "sessionId": "long", "mcpServers": []}
        request = {"jsonrpc": "2.0", "id": 1, "method": "session/load", "params": params}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        assert await asyncio.to_thread(process.stdout.read, 1) == b"{"
        process.stdin.close()
        assert await asyncio.to_thread(process.wait, PATIENCE) == 0


async def test_a_session_that_is_closed_goes_on(
    restate_env: Restate, log: Log, speaking: Speaking
) -> None:
    agent = await speaking("EditedClosedAgent")
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        prompt = editor.prompt(session, "work")
        await log.until("begin", 1)
        await editor.agent.close_session(session_id=session)
        assert await stop_reason(prompt) == "cancelled"
        assert (await refused(editor.prompt(session, "x"))).code == -32002
        assert (await refused(editor.agent.close_session(session_id=session))).code == -32002
        there = Session(restate_env.client, agent, session)
        assert (await there.status())["status"] == "running"
        agent.tell(1, "Done.", "end")
        assert (await there.attach())["status"] == "completed"


# -- What is wrong. --------------------------------------------------------------------------------


async def test_what_is_wrong_is_said_with_its_reason(
    restate_env: Restate, log: Log, speaking: Speaking
) -> None:
    agent = await speaking("EditedStrictAgent", policy="reject")
    async with editing(restate_env, "NobodysAgent") as editor:
        error = await refused(new_session(editor))
        assert error.code == -32002
        assert str(error).startswith(f"There is no NobodysAgent at {restate_env.ingress_url}:")
        assert "correct --agent" in str(error)
        assert (await refused(load(editor, "one"))).code == -32002
    async with editing(restate_env, agent.name) as editor:
        assert (await refused(editor.prompt("unknown", "x"))).code == -32002
        await editor.agent.cancel(session_id="unknown")  # a notification has no answer
        assert (await refused(load(editor, ""))).code == -32602
        await load(editor, "new")  # each key is a session
        assert "new" not in editor.shown
        error = await refused(editor.prompt("new"))
        assert error.code == -32602
        assert "content" in str(error)
        error = await refused(editor.prompt("new", acp.image_block("x" * (1 << 20), "image/png")))
        assert (error.code, error.data) == (-32602, {"status": 413})
        prompt = editor.prompt("new", "work")
        await log.until("begin", 1)
        error = await refused(editor.prompt("new", "more"))
        assert (error.code, error.data) == (-32600, {"status": 423})
        agent.tell(1, "end")
        assert await stop_reason(prompt) == "end_turn"


async def test_an_ingress_that_is_not_there_is_said(restate_env: Restate) -> None:
    class Nowhere:
        ingress_url = "http://127.0.0.1:9"

    where: Any = Nowhere()
    async with editing(where, "AnyAgent") as editor:
        error = await refused(new_session(editor))
        assert error.code == -32603
        assert "Restate's ingress at http://127.0.0.1:9 does not answer" in str(error)
        assert "correct --ingress" in str(error)


def in_front(answer: Any) -> Any:
    """What stands in front of an ingress."""
    return Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])


async def passed_on(env: Restate, request: Request) -> Response:
    """What the ingress answers."""
    kept = ("content-type", "idempotency-key")
    passed = [(x, y) for x, y in request.headers.items() if x in kept]
    async with httpx.AsyncClient(base_url=env.ingress_url, timeout=60) as http:
        given = await http.post(request.url.path, content=await request.body(), headers=passed)
    return Response(given.content, given.status_code, media_type="application/json")


async def test_what_is_said_after_a_cancellation_is_not_cancelled_by_it(
    restate_env: Restate, speaking: Speaking, log: Log
) -> None:
    agent = await speaking("EditedOrderAgent")
    slow = Log()
    may_pass = asyncio.Event()

    async def answer(request: Request) -> Response:
        what = request.url.path.rpartition("/")[2]
        if what in ("cancel", "message"):
            await slow.add(what)
            if what == "cancel":
                await may_pass.wait()
        return await passed_on(restate_env, request)

    async with (
        serve(in_front(answer)) as url,
        editor_of(*command(restate_env, agent.name, "--ingress", url)) as editor,
    ):
        session = await new_session(editor)
        prompt = editor.prompt(session, "go")
        await log.until("begin", 1)
        await editor.agent.cancel(session_id=session)
        await slow.until("cancel")
        agent.stop(1)
        again = editor.prompt(session, "again")
        await new_session(editor)  # it has read what came before, and had the time to send it
        await new_session(editor)
        assert slow.events == [("message",), ("cancel",)]
        may_pass.set()
        agent.tell(2, "Well.", "end")
        assert await stop_reason(prompt) == "cancelled"
        assert await stop_reason(again) == "end_turn"


async def test_an_ingress_that_wants_a_key_gets_it(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("EditedGuardedAgent")

    async def answer(request: Request) -> Response:
        if request.headers.get("authorization") != "Bearer sesame":
            return JSONResponse({"code": 401, "message": "Who are you?"}, 401)
        return await passed_on(restate_env, request)

    async with serve(in_front(answer)) as url:
        run = command(restate_env, agent.name, "--ingress", url)
        async with editor_of(*run) as editor:
            error = await refused(new_session(editor))
            assert (error.data, "Who are you?" in str(error)) == ({"status": 401}, True)
        async with editor_of(*run, RESTATE_AUTH_TOKEN="sesame\n") as editor:  # noqa: S106
            prompt = editor.prompt(await new_session(editor), "Hi")
            agent.tell(1, "Hello.", "end")
            assert await stop_reason(prompt) == "end_turn"


async def test_nothing_but_the_protocol_is_on_stdout(
    restate_env: Restate, speaking: Speaking
) -> None:
    agent = await speaking("EditedPureAgent")
    agent.tell(1, "say é", "é!", "end")
    process = await asyncio.create_subprocess_exec(
        *command(restate_env, agent.name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: list[Any] = []

    async def answer(number: int, method: str, **params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        while not lines or lines[-1].get("id") != number:
            lines.append(json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE)))
        return lines[-1]

    hello = await answer(0, "initialize", protocolVersion=1, clientCapabilities={})
    assert hello["result"] == {
        "protocolVersion": 1,
        "agentCapabilities": {
            "loadSession": True,
            "promptCapabilities": {"image": True, "audio": True, "embeddedContext": True},
            "sessionCapabilities": {"close": {}},
        },
        "agentInfo": {
            "name": "interruptible",
            "title": "EditedPureAgent",
            "version": version("restate-interruptible"),
        },
        "_meta": {"steering": {"supported": True}},
    }
    process.stdin.write(b"no json\n")
    session = (await answer(1, "session/new", cwd="/", mcpServers=[]))["result"]["sessionId"]
    prompt = [{"type": "text", "text": "go"}]
    done = await answer(2, "session/prompt", sessionId=session, prompt=prompt)
    updates = [x["params"]["update"] for x in lines[:-1] if x.get("method") == "session/update"]
    assert "".join(x["content"]["text"] for x in updates) == "é!"  # all of it, before the answer
    assert done["result"] == {"stopReason": "end_turn"}
    unknown = await answer(3, "session/set_mode", sessionId=session, modeId="x")
    assert unknown["error"]["code"] == -32601
    process.stdin.close()
    rest, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    lines += [json.loads(line) for line in rest.splitlines()]
    assert {x["jsonrpc"] for x in lines} == {"2.0"}
    assert process.returncode == 0


def test_the_command_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from interruptible.acp import main  # noqa: PLC0415

    monkeypatch.delenv("RESTATE_INGRESS_URL", raising=False)
    for arguments, said in (
        ([], "--agent"),
        (["--agent", "A"], "--ingress is missing"),
        (["--agent", "A", "--ingress", "localhost:8080"], "which is no address"),
        (["--agent", "A", "--ingress", "http://x", "--session", ""], "--session is empty"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert said in capsys.readouterr().err

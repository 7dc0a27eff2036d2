"""What an agent is told with `stream`, and the client that its turns share."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import restate
from restate import HttpError, TerminalError

from interruptible import Agent, Session, _ingress, agent
from interruptible._stream import bodies
from interruptible._stream.teller import Teller
from interruptible._task import attempt
from interruptible.stream import Stream

RUN = object()


class IdleAgent(Agent):
    """It is not asked to run anything."""

    async def run(self, ctx: Any, task: Any) -> None: ...


# -- What it is set to. ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"every": 50}, TypeError, "Stream: every is 50. Write it as a `datetime.timedelta`."),
        ({"every": None}, TypeError, "Stream: every is None. Write it as a `datetime.timedelta`."),
        (
            {"every": timedelta(milliseconds=-1)},
            ValueError,
            "Stream: every=-1 day, 23:59:59.999000 is in the past. Make it positive.",
        ),
        (
            {"ingress": 8080},
            TypeError,
            "Stream: ingress is 8080. Write it as text, such as `http://localhost:8080`.",
        ),
        ({"headers": "x: y"}, TypeError, "Stream: headers is 'x: y'. Write it as a dict of text."),
    ],
)
def test_a_stream_that_makes_no_sense_is_refused(options: Any, error: Any, reason: str) -> None:
    with pytest.raises(error) as refused:
        Stream(**options)
    assert str(refused.value) == reason


def test_a_stream_takes_its_options_by_name_alone() -> None:
    made: Any = Stream
    with pytest.raises(TypeError):
        made("http://localhost:8080")
    assert Stream().every == timedelta(milliseconds=50)
    assert Stream(every=timedelta(0)).every == timedelta(0)


@pytest.mark.parametrize("given", [5, "http://localhost:8080", Stream, True, {"every": 1}])
def test_an_agent_whose_stream_is_none_is_refused(given: Any) -> None:
    reason = f"IdleAgent: stream is {given!r}. Write it as an `interruptible.stream.Stream`."
    with pytest.raises(TypeError) as refused:
        IdleAgent(stream=given)
    assert str(refused.value) == reason


def test_an_agent_has_an_object_more_only_if_it_streams() -> None:
    assert [x.name for x in IdleAgent().services] == ["IdleAgent", "IdleTask"]
    assert [x.name for x in IdleAgent(stream=None).services] == ["IdleAgent", "IdleTask"]
    streaming = IdleAgent(stream=Stream())
    assert [x.name for x in streaming.services] == ["IdleAgent", "IdleTask", "IdleAgentStream"]
    assert isinstance(streaming.services[2], restate.VirtualObject)
    restate.app(services=streaming.services)


def test_a_stream_may_be_an_attribute_of_the_class_and_an_option_of_the_decorator() -> None:
    class Poet(IdleAgent):
        stream = Stream()

    @agent(stream=Stream(), name="Writer")
    async def write(ctx: restate.Context, task: Any) -> None: ...

    assert [x.name for x in Poet().services][2:] == ["PoetStream"]
    assert [x.name for x in write.services][2:] == ["WriterStream"]


def test_agents_may_share_a_stream_and_each_has_an_object_of_its_own() -> None:
    shared = Stream()
    one, two = IdleAgent("One", stream=shared), IdleAgent("Two", stream=shared)
    assert [x.services[2].name for x in (one, two)] == ["OneStream", "TwoStream"]


def test_nobody_can_guess_a_key() -> None:
    keys = {Stream().new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert min(map(len, keys)) >= 22


# -- The client. -----------------------------------------------------------------------------------


class Ingress:
    """Restate's ingress, by the clients that are made for it."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.closed = 0
        self.called: list[Any] = []
        self.answers: list[Any] = []
        self.is_called = asyncio.Event()

    @asynccontextmanager
    async def create(self, url: str, headers: Any = None) -> AsyncGenerator[Any, None]:
        self.made.append((url, headers))
        try:
            yield SimpleNamespace(generic_call=self.call)
        finally:
            self.closed += 1

    async def call(self, service: str, handler: str, arg: bytes, **options: Any) -> bytes:
        self.called.append((service, handler, json.loads(arg), options))
        self.is_called.set()
        answer = self.answers.pop(0) if self.answers else {"taken": 1}
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer).encode()

    async def said(self, teller: Teller, text: str) -> None:
        """Something is said, and published."""
        await self.calls(teller, text, len(self.called) + 1)

    async def calls(self, teller: Teller, text: str, count: int) -> None:
        """Something is said, and it was called so often by then."""
        teller.say({"type": "text", "text": text}, 1, RUN)
        while len(self.called) < count:
            self.is_called.clear()
            await asyncio.wait_for(self.is_called.wait(), 30)


@pytest.fixture
def ingress(monkeypatch: pytest.MonkeyPatch) -> Ingress:
    made = Ingress()
    monkeypatch.setattr(_ingress, "create_client", made.create)
    monkeypatch.delenv(_ingress.INGRESS, raising=False)
    return made


def a_teller(of: Stream, session: str = "session", agent: str = "Poet") -> Teller:
    return of.teller(agent, session, 1, "key", lambda *_: None)


def test_the_turns_of_an_event_loop_share_a_client_which_goes_with_the_last(
    ingress: Ingress,
) -> None:
    async def run() -> None:
        made = Stream(ingress="http://restate:8080", headers={"a": "b"})
        one, two = a_teller(made), a_teller(made)
        await ingress.said(one, "a")
        await ingress.said(two, "b")
        assert ingress.made == [("http://restate:8080", {"a": "b"})]
        await one.close()
        assert ingress.closed == 0
        await two.close()
        assert ingress.closed == 1
        three = a_teller(made)
        await ingress.said(three, "c")
        await three.close()
        assert (len(ingress.made), ingress.closed) == (2, 2)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_each_event_loop_has_a_client_of_its_own(ingress: Ingress) -> None:
    made = Stream(ingress="http://restate:8080")

    async def run() -> None:
        ingress.is_called = asyncio.Event()
        teller = a_teller(made)
        await ingress.said(teller, "a")
        await teller.close()

    asyncio.run(run())
    asyncio.run(run())
    assert (len(ingress.made), ingress.closed) == (2, 2)


def test_a_turn_that_says_nothing_needs_no_client(ingress: Ingress) -> None:
    async def run() -> None:
        teller = a_teller(Stream(ingress="http://restate:8080"))
        teller.tell({"type": "mine"})
        await teller.close()

    asyncio.run(run())
    assert ingress.made == []


def test_what_is_said_is_published_to_the_stream_of_the_session(ingress: Ingress) -> None:
    async def run() -> None:
        teller = a_teller(Stream(ingress="http://restate:8080"), "a/b ü")
        await ingress.said(teller, "Hi")
        await teller.close()

    asyncio.run(run())
    [(service, handler, batch, options)] = ingress.called
    assert (service, handler) == ("PoetStream", "publish")
    assert options == {
        "key": "a%2Fb%20%C3%BC",
        "headers": {"Content-Type": "application/json"},
    }
    voice = batch["voice"]
    said = {"event": {"type": "text", "text": "Hi"}, "after": 0, "step": 1}
    assert batch == {"key": "key", "voice": voice, "seq": 1, "events": [said]}


def test_the_address_is_read_when_it_is_first_needed(
    ingress: Ingress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        made = Stream()
        monkeypatch.setenv(_ingress.INGRESS, "http://late:8080")
        teller = a_teller(made)
        await ingress.said(teller, "a")
        await teller.close()

    asyncio.run(run())
    assert ingress.made == [("http://late:8080", {})]


async def warned(of: Stream, warnings: list[logging.LogRecord]) -> None:
    """Turns say something, of which nothing comes but a warning."""
    for _ in range(3):
        teller = a_teller(of)
        teller.say({"type": "text", "text": "a"}, 1, RUN)
        await asyncio.sleep(0)
        while not warnings:
            await asyncio.sleep(0)
        await teller.close()


def test_that_nobody_says_where_the_ingress_is_is_said_once(
    ingress: Ingress, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        await asyncio.wait_for(warned(Stream(), caplog.records), 30)

    asyncio.run(run())
    [said] = caplog.records
    assert (said.name, said.levelno) == ("interruptible.stream", logging.WARNING)
    assert said.getMessage() == (
        "Poet streams no tokens for now: Restate's ingress is named nowhere. Set "
        "RESTATE_INGRESS_URL, or `ingress=...`. Its turns go on, and are on record as "
        "always."
    )


@pytest.mark.parametrize("url", ["localhost:8080", "no address", "ftp://restate"])
def test_an_address_without_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"which is no address\. Write it as `http"):
        Stream(ingress=url)


@pytest.mark.parametrize("url", ["http://a:b:c", "localhost:8080", "http://\x7f"])
def test_an_address_that_is_none_is_said_once_and_hurts_no_turn(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTATE_INGRESS_URL", url)

    async def run() -> None:
        await asyncio.wait_for(warned(Stream(), caplog.records), 30)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    [said] = caplog.records
    assert said.getMessage().startswith(
        f"Poet streams no tokens for now: Restate's ingress at {url} "
    )


def test_an_ingress_that_refuses_is_said_with_its_reason(
    ingress: Ingress, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        ingress.answers = [HttpError(404, "Not found", "no such service")] * 3
        await asyncio.wait_for(warned(Stream(ingress="http://restate:8080"), caplog.records), 30)

    asyncio.run(run())
    [said] = caplog.records
    assert "no such service" in said.getMessage()


def test_an_answer_that_is_none_is_tried_again(ingress: Ingress) -> None:
    async def run() -> None:
        ingress.answers = [{"nothing": 1}, {"taken": 1}]
        teller = a_teller(Stream(ingress="http://restate:8080", every=timedelta(0)))
        await ingress.calls(teller, "a", 2)
        await teller.close()
        first, second = ingress.called
        assert first == second

    asyncio.run(run())


# -- What a task tells. ----------------------------------------------------------------------------


def told(*what: Any) -> list[Any]:
    """What a teller sends to the stream, as each of these is done with it."""

    async def run() -> list[Any]:
        sent: list[Any] = []
        made = Stream()
        teller = made.teller("Poet", "session", 4, "key", lambda *x: sent.append(x))
        for name, *given in what:
            getattr(teller, name)(*given)
        await teller.close()
        return sent

    return asyncio.run(run())


def said(content: str, role: str = "assistant") -> Any:
    return {"role": role, "content": content}


BEGIN = ("begin", {"turn": 4, "key": "key"})
ENDS = {"type": "turn", "state": "ends", "status": "completed"}


def tells(*events: Any, **more: Any) -> Any:
    return "tell", {"turn": 4, "events": [*events], **more}


def outcome(*messages: Any) -> Any:
    return {"turn": 4, "status": "completed", "messages": [*messages]}


def test_a_turn_tells_what_it_did_in_order() -> None:
    assert told(
        ("put", [said("a"), said("b")]),
        ("took", [said("c", "user")]),
        ("tool", "1", "look", "begins"),
        ("tell", {"type": "mine"}),
        (
            "ends",
            {**outcome(*map(said, "ab"), said("c", "user"), said("d")), "cut_off": ["1", "2"]},
        ),
    ) == [
        BEGIN,
        tells({"type": "message", "message": said("a")}, {"type": "message", "message": said("b")}),
        tells({"type": "steered", "message": said("c", "user")}),
        tells({"type": "mine"}),
        tells(
            {"type": "tool", "call": "1", "name": "look", "state": "cut off"},
            {"type": "message", "message": said("d")},
            ENDS,
        ),
    ]


def test_a_turn_whose_outcome_differs_tells_all_of_it_anew() -> None:
    assert told(("put", [said("a"), said("b")]), ("ends", outcome(said("b"), said("c"))))[2:] == [
        tells(
            {"type": "message", "message": said("b")},
            {"type": "message", "message": said("c")},
            ENDS,
            anew=True,
        )
    ]


def test_a_turn_that_put_out_nothing_tells_its_end_and_nothing_else() -> None:
    assert told(("put", []), ("took", []), ("ends", outcome())) == [BEGIN, tells(ENDS)]


def test_what_steps_say_knows_what_was_told_by_then_and_goes_when_a_message_replaces_it(
    ingress: Ingress,
) -> None:
    async def run() -> list[Any]:
        teller = a_teller(Stream(ingress="http://restate:8080", every=timedelta(0)))
        teller.put([said("a")])
        teller.tell({"type": "mine"})
        await ingress.said(teller, "first")
        teller.say({"type": "text", "text": "replaced"}, 1, RUN)
        teller.say({"type": "output", "call": "1", "text": "replaced"}, 1, RUN)
        teller.say({"type": "output", "call": "2", "text": "stays"}, 1, RUN)
        teller.put([said("b"), {"role": "tool", "tool_call_id": "1", "content": "c"}])
        await ingress.calls(teller, "last", 2)
        await teller.close()
        return [[(y["event"]["text"], y["after"]) for y in x[2]["events"]] for x in ingress.called]

    ingress.answers = [{"taken": 1}, {"taken": 2}]
    assert asyncio.run(run()) == [[("first", 2)], [("stays", 2), ("last", 3)]]


def test_whoever_follows_an_agent_without_a_stream_is_told_so() -> None:
    class Client:
        async def generic_call(self, *_: Any, **__: Any) -> bytes:
            raise HttpError(404, "Not found", "service not found")

    async def run() -> None:
        client: Any = Client()
        with pytest.raises(TerminalError) as refused:
            await anext(Session(client, "Poet", "key").follow())
        assert refused.value.status_code == 404
        assert refused.value.message == (
            "There is no PoetStream. Make Poet with `stream=Stream()`, register its services "
            "again, or correct its name."
        )

    asyncio.run(run())


def test_an_agent_publishes_no_event_that_the_library_tells() -> None:
    assert {*attempt._RESERVED, *attempt._FIELDS} == bodies._SHAPES.keys()

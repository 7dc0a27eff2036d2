"""How an agent is made: its names, what is refused, and what Restate discovers of it."""

import asyncio
import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
import restate
from restate.discovery import compute_discovery_json
from restate.endpoint import Endpoint
from typing_extensions import TypedDict

import interruptible
from interruptible import Agent, Session, Task, _agent, agent, handler
from interruptible._handlers import HANDLERS, PUBLIC
from interruptible._wire import types
from interruptible._wire.shapes import shape
from interruptible.stream import Stream

from .handling import body_of


async def run(self: Any, ctx: Any, task: Any) -> None:
    """Does nothing."""


async def plain_handler(self: Any, ctx: Any) -> None: ...


def subclass(name: str = "OddAgent", /, **attributes: Any) -> Any:
    """A class of agents, made when it is called for."""
    return type(name, (Agent,), {"run": run, **attributes})


# For what type checkers would find, but not everybody has one.
an_agent: Any = agent
a_handler: Any = handler
a_session: Any = Session


def discovered(*agents: Agent) -> dict[str, Any]:
    """What Restate is told about the services, by their names."""
    endpoint = cast("Any", Endpoint)()
    for each in agents:
        for service in each.services:
            endpoint.bind(service)
    answer = json.loads(compute_discovery_json(endpoint, 4, "bidi"))
    return {service["name"]: service for service in answer["services"]}


def names(of: Agent) -> tuple[str, str]:
    """Those of the object and of the task service."""
    object_, service = of.services
    return object_.name, service.name


# -- Names. ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made_of", "expected"),
    [
        ("CodingAgent", ("CodingAgent", "CodingTask")),
        ("Bot", ("Bot", "BotTask")),
        ("AgentSmith", ("AgentSmith", "AgentSmithTask")),
        ("Agent", ("Agent", "Task")),
    ],
)
def test_an_agent_is_named_after_its_class_and_its_tasks_after_the_agent(
    made_of: str, expected: tuple[str, str]
) -> None:
    assert names(subclass(made_of)()) == expected


def test_a_name_that_is_given_comes_before_that_of_the_class() -> None:
    made = subclass("CodingAgent")("ReviewAgent")
    assert names(made) == ("ReviewAgent", "ReviewTask")
    assert (made.name, made.task_name) == ("ReviewAgent", "ReviewTask")


def test_one_class_makes_several_agents_under_names_of_their_own() -> None:
    made = subclass("CodingAgent")
    agents = [made("One"), made("Two"), made()]
    assert [each.name for each in agents] == ["One", "Two", "CodingAgent"]
    assert discovered(*agents).keys() == {
        "One",
        "OneTask",
        "Two",
        "TwoTask",
        "CodingAgent",
        "CodingTask",
    }


def test_an_agent_can_be_defined_again_as_in_a_notebook() -> None:
    first, second = subclass("AgainAgent")(), subclass("AgainAgent")()
    assert names(first) == names(second) == ("AgainAgent", "AgainTask")


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("TwinAgent", "TwinAgent", "TwinAgent"),
        ("Odd", "OddAgent", "OddTask"),
        ("OddAgent", "OddTask", "OddTask"),
    ],
)
def test_two_agents_of_one_name_are_not_served_together(one: str, other: str, both: str) -> None:
    agents = [subclass(one)(), subclass(other)()]
    with pytest.raises(ValueError, match=f"Service {both} already exists"):
        restate.app(services=[x for agent in agents for x in agent.services])


# -- Options as attributes of the class. -----------------------------------------------------------


class PatientAgent(Agent):
    """Has its options in its class."""

    name = "Patient"
    policy = "queue"
    allowed_policies = ("queue", "reject")
    debounce = timedelta(seconds=1)
    inactivity_timeout = None
    run = run


def test_an_attribute_of_the_class_is_the_default_of_an_option() -> None:
    made = PatientAgent()
    assert names(made) == ("Patient", "PatientTask")
    assert (made.policy, made.allowed_policies) == ("queue", ("queue", "reject"))
    assert (made.debounce, made.merges) == (timedelta(seconds=1), True)
    assert "inactivityTimeout" not in discovered(made)["PatientTask"]
    other = PatientAgent("Other", policy="reject", debounce=None)
    assert names(other) == ("Other", "OtherTask")
    assert (other.policy, other.debounce) == ("reject", None)
    assert PatientAgent.policy == "queue"


def test_an_attribute_that_is_set_before_the_agent_is_made_is_meant_too() -> None:
    class EagerAgent(Agent):
        run = run

        def __init__(self) -> None:
            self.policy = "queue"
            super().__init__()

    assert EagerAgent().policy == "queue"


@dataclasses.dataclass
class DataAgent(Agent):
    """Has an `__init__` that does not call that of `Agent`."""

    model: str
    max_pending: int = 3
    policy = "reject"
    run = run


class LazyAgent(Agent):
    """Likewise."""

    run = run
    greet = handler()(plain_handler)

    def __init__(self, model: str) -> None:
        self.model = model


@pytest.mark.parametrize("made", [DataAgent, LazyAgent])
def test_an_agent_works_whose_init_does_not_call_that_of_agent(made: Any) -> None:
    for use in (
        lambda x: x.services,
        lambda x: x.name,
        lambda x: x.task_name,
        lambda x: x.message,
        lambda x: Session(cast("Any", None), x, "key"),
    ):
        each = made("small")
        use(each)
        assert names(each) == (made.__name__, f"{made.__name__.removesuffix('Agent')}Task")
        assert each.model == "small"
    assert (DataAgent("small").policy, DataAgent("small", 5).max_pending) == ("reject", 5)
    assert "greet" in [x["name"] for x in discovered(LazyAgent("x"))["LazyAgent"]["handlers"]]


def test_an_attribute_that_there_is_not_is_missed_by_its_name() -> None:
    for made in (subclass()(), DataAgent("small")):
        with pytest.raises(AttributeError, match=f"'{type(made).__name__}' .* 'messages'"):
            _ = made.messages
        assert not hasattr(made, "__wrapped__")


# -- Of a function. --------------------------------------------------------------------------------


def test_a_function_makes_an_agent_of_its_name_in_camel_case() -> None:
    @agent
    async def coding_agent(ctx: restate.Context, task: Task) -> str:
        """Writes code."""
        return f"{ctx} {task}"

    assert isinstance(coding_agent, Agent)
    assert names(coding_agent) == ("CodingAgent", "CodingTask")
    assert discovered(coding_agent)["CodingAgent"]["documentation"] == "Writes code."


def test_a_function_with_options_makes_an_agent_with_these() -> None:
    @agent(name="ReviewAgent", cleanup_timeout=timedelta(seconds=5))
    async def coding_agent(ctx: restate.Context, task: Task) -> str:
        return f"{ctx} {task}"

    assert isinstance(coding_agent, Agent)
    assert names(coding_agent) == ("ReviewAgent", "ReviewTask")
    assert coding_agent.cleanup_timeout == timedelta(seconds=5)


def test_the_function_is_what_the_agent_runs() -> None:
    @agent()
    async def bot(ctx: Any, task: Any) -> str:
        return f"{ctx} {task}"

    assert names(bot) == ("Bot", "BotTask")
    done = asyncio.run(cast("Any", bot).run("ctx", "task"))
    assert done == "ctx task"


def test_a_function_takes_the_options_that_a_class_takes() -> None:
    assert sorted(_agent.NamedOptions.__annotations__) == sorted(
        Agent.__annotations__.keys() - {"_handlers"}
    )


# -- What is refused. ------------------------------------------------------------------------------


def sync_run(self: Any, ctx: Any, task: Any) -> None: ...
async def run_without_ctx(self: Any, task: Any) -> None: ...


async def run_the_other_way_round(self: Any, task: Any, ctx: Any) -> None: ...


async def run_without_task(self: Any, ctx: Any) -> None: ...
async def run_with_nothing(self: Any) -> None: ...
async def run_with_more(self: Any, ctx: Any, task: Any, extra: Any, more: Any) -> None: ...
async def run_with_a_keyword(self: Any, ctx: Any, task: Any, *, extra: Any) -> None: ...
async def run_with_options(self: Any, ctx: Any, task: Any, x: int = 0, *, y: int = 0) -> None: ...
async def run_with_anything(self: Any, ctx: Any, task: Any, *args: Any, **more: Any) -> None: ...
async def run_by_name(self: Any, ctx: Any, *, task: Any) -> None: ...
async def run_that_yields(self: Any, ctx: Any, task: Any) -> Any:
    yield "Done."


async def async_note(self: Any, turn: Any) -> None: ...
async def plain(self: Any, ctx: Any) -> None: ...


class Incomplete(TypedDict):
    """Names what is there for type checkers alone."""

    x: "Missing"  # type: ignore[name-defined]  # noqa: F821


async def takes_what_is_missing(self: Any, ctx: Any, x: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def takes_what_is_missing_inside(self: Any, ctx: Any, x: list[Incomplete]) -> None: ...
async def gives_what_is_missing(self: Any, ctx: Any) -> "Missing": ...  # type: ignore[name-defined]  # noqa: F821


def renamed(name: str) -> Any:
    """A handler that has another name than its method."""

    async def method(self: Any, ctx: Any) -> None: ...

    return handler(name)(method)


@handler()
async def greet(self: Any, ctx: Any) -> None: ...


async def greet_nobody(self: Any) -> None: ...
async def greet_many(self: Any, ctx: Any, one: Any, other: Any = None) -> None: ...
async def greet_by_name(self: Any, ctx: Any, *, one: Any) -> None: ...
async def greet_all(self: Any, ctx: Any, *all: Any) -> None: ...  # noqa: A002
def sync_greet(self: Any, ctx: Any) -> None: ...


def sync_function(ctx: Any, task: Any) -> None: ...
async def function_without_task(ctx: Any) -> None: ...
async def function(ctx: Any, task: Any) -> None: ...
async def function_that_yields(ctx: Any, task: Any) -> Any:
    yield "Done."


class Mixin:
    """Has a `run` but is no agent."""

    run = run_without_task


class MessageMixin:
    """Has a method that an attribute of every agent would hide."""

    message = plain


class ConversationMixin:
    """Has an `async` hook but is no agent."""

    conversation = async_note


class Greeter(Agent):
    """Has a handler to inherit."""

    run = run_with_anything
    greet = greet


class NoRun(Agent):
    pass


Make = Callable[[], Any]

CLASSES: list[tuple[Make, str]] = [
    (
        lambda: subclass(run=sync_run),
        "OddAgent.run is not `async`. Write `async def run(self, ctx, task)`.",
    ),
    *(
        (
            lambda wrong=wrong: subclass(run=wrong),
            f"OddAgent.run takes {takes}. Write `async def run(self, ctx, task)`.",
        )
        for wrong, takes in (
            (run_without_task, "(self, ctx)"),
            (run_without_ctx, "(self, task)"),
            (run_the_other_way_round, "(self, task, ctx)"),
            (run_with_nothing, "(self)"),
            (run_with_more, "(self, ctx, task, extra, more)"),
            (run_with_a_keyword, "(self, ctx, task, *, extra)"),
            (run_by_name, "(self, ctx, *, task)"),
        )
    ),
    (
        lambda: subclass(run=run_that_yields),
        "OddAgent.run yields. Put out messages with `task.append`, and return the last one.",
    ),
    (
        lambda: type("OddAgent", (Mixin, Agent), {}),
        "OddAgent.run takes (self, ctx). Write `async def run(self, ctx, task)`.",
    ),
    (
        lambda: subclass(on_interrupted=sync_run),
        (
            "OddAgent.on_interrupted is not `async`. "
            "Write `async def on_interrupted(self, ctx, task)`."
        ),
    ),
    (
        lambda: subclass(on_interrupted=run_without_task),
        (
            "OddAgent.on_interrupted takes (self, ctx). "
            "Write `async def on_interrupted(self, ctx, task)`."
        ),
    ),
    (
        lambda: subclass(greet=a_handler()(sync_greet)),
        "OddAgent.greet is a handler but not `async`. Make it `async def`.",
    ),
    *(
        (
            lambda wrong=wrong: subclass(greet=a_handler()(wrong)),
            (
                f"OddAgent.greet takes {signature}; a handler takes (self, ctx), or "
                "(self, ctx, body). Put what else it takes into its body, such as a `TypedDict`."
            ),
        )
        for wrong, signature in (
            (greet_nobody, "(self)"),
            (greet_many, "(self, ctx, one, other=None)"),
            (greet_by_name, "(self, ctx, *, one)"),
            (greet_all, "(self, ctx, *all)"),
        )
    ),
    *(
        (
            lambda name=name: subclass(**{name: async_note}),
            (
                f"OddAgent.{name} is `async`, but for the same turns it must always return the "
                "same. Write `def`."
            ),
        )
        for name in ("interruption_note", "call_note", "conversation")
    ),
    (
        lambda: type("OddAgent", (ConversationMixin, Agent), {}),
        (
            "OddAgent.conversation is `async`, but for the same turns it must always return the "
            "same. Write `def`."
        ),
    ),
    *(
        (
            lambda name=name: subclass(**{name: greet}),
            f"OddAgent.{name} would replace `{name}`, which every agent has. Give it another name.",
        )
        for name in HANDLERS
    ),
    *(
        (
            lambda name=name: subclass(greet=renamed(name)),
            f"OddAgent.greet would replace `{name}`, which every agent has. Give it another name.",
        )
        for name in HANDLERS
    ),
    (
        lambda: subclass(message=plain),
        "OddAgent.message would replace `message`, which every agent has. Give it another name.",
    ),
    *(
        (
            lambda name=name: subclass(**{name: greet}),
            f"OddAgent.{name} would replace `Agent.{name}`. Give the handler another name.",
        )
        for name in (
            "services",
            "interruption_note",
            "call_note",
            "conversation",
            "merges",
            "name",
            "task_name",
            *_agent.Options.__annotations__,
        )
    ),
    (
        lambda: subclass(_greet=greet),
        "OddAgent._greet is a handler, and so not private. Take the `_` off its name.",
    ),
    (
        lambda: type("OddAgent", (Greeter,), {"greet": sync_greet}),
        "OddAgent.greet is a handler but not `async`. Make it `async def`.",
    ),
    (
        lambda: type("OddAgent", (MessageMixin, Agent), {}),
        (
            "MessageMixin.message would replace `message`, which every agent has. "
            "Give it another name."
        ),
    ),
    *(
        (
            lambda name=name: subclass(**{name: plain}),
            f"OddAgent.{name} would replace `{name}`, which every agent has. Give it another name.",
        )
        for name in ("get_turns", "regenerate", "rewind", "reset", "fork")
    ),
    (
        lambda: a_handler(kind="loud")(plain),
        'There is no kind \'loud\' of handler. Choose "exclusive" or "shared".',
    ),
    (
        lambda: a_handler(plain),
        "`@handler` was written without brackets. Write `@handler()`.",
    ),
    (
        lambda: an_agent(sync_function),
        "sync_function is not `async`. Write `async def sync_function(ctx, task)`.",
    ),
    (
        lambda: an_agent(function_without_task),
        "function_without_task takes (ctx). Write `async def function_without_task(ctx, task)`.",
    ),
    (
        lambda: an_agent(function_that_yields),
        (
            "function_that_yields yields. Put out messages with `task.append`, "
            "and return the last one."
        ),
    ),
    (
        lambda: an_agent(5),
        "@agent takes a function, not 5. Write `async def f(ctx, task)`.",
    ),
    (
        lambda: an_agent(name="Odd")(sync_function),
        "sync_function is not `async`. Write `async def sync_function(ctx, task)`.",
    ),
]

NO_NAMES = ["", "a/b", "_odd", "my agent", "1st", "Äpfel", "a\n", "restate", "OpenAPI"]

NUMBERS = ("max_content", "max_pending")
DURATIONS = ("cleanup_timeout", "debounce", "inactivity_timeout", "abort_timeout", "retention")

OBJECTS: list[tuple[Make, str]] = [
    (
        lambda: subclass()(5),
        "The name of an agent is 5. Write it as text.",
    ),
    (
        NoRun,
        "NoRun has no `run`. Add `async def run(self, ctx, task)`, which works on one turn.",
    ),
    (
        lambda: subclass()(policy="shout"),
        f"OddAgent: there is no policy 'shout'. Choose from {', '.join(types.POLICIES)}.",
    ),
    (
        lambda: an_agent(policy="shout")(function),
        f"Function: there is no policy 'shout'. Choose from {', '.join(types.POLICIES)}.",
    ),
    *(
        (
            lambda option=option: subclass()(**{option: 30}),
            f"OddAgent: {option} is 30. Write it as a `datetime.timedelta`.",
        )
        for option in DURATIONS
    ),
    (
        lambda: subclass()(cleanup_timeout=None),
        "OddAgent: cleanup_timeout is None. Write it as a `datetime.timedelta`.",
    ),
    *(
        (
            lambda option=option: subclass()(**{option: -timedelta(seconds=1)}),
            f"OddAgent: {option}=-1 day, 23:59:59 is in the past. Make it positive.",
        )
        for option in DURATIONS
    ),
    (
        lambda: subclass()(allowed_policies="queue"),
        "OddAgent: allowed_policies is 'queue'. Write it as a list or a tuple.",
    ),
    (
        lambda: subclass()(policy="queue", allowed_policies=["queue", "shout"]),
        f"OddAgent: there is no policy 'shout'. Choose from {', '.join(types.POLICIES)}.",
    ),
    (
        lambda: subclass()(allowed_policies=[None]),
        f"OddAgent: there is no policy None. Choose from {', '.join(types.POLICIES)}.",
    ),
    *(
        (
            lambda allowed=allowed: subclass()(allowed_policies=allowed),
            (
                "OddAgent: its policy 'interrupt' is not among its allowed_policies. "
                "Add it there, or choose another `policy`."
            ),
        )
        for allowed in ((), ["queue", "reject"])
    ),
    *(
        (
            lambda option=option, value=value: subclass()(**{option: value}),
            f"OddAgent: {option} is {value!r}. Write True or False.",
        )
        for value in (1, 0, "yes", None)
        for option in ("keep_queued", "alternate_roles")
    ),
    *(
        (
            lambda value=value: subclass()(burst=value, debounce=timedelta(seconds=1)),
            f"OddAgent: there is no burst {value!r}. Choose from merge, supersede.",
        )
        for value in ("join", "", None, True, ["merge"])
    ),
    (
        lambda: subclass()(burst="supersede"),
        "OddAgent: burst='supersede' does nothing without a quiet window. Set `debounce`.",
    ),
    (
        lambda: an_agent(burst="join")(function),
        "Function: there is no burst 'join'. Choose from merge, supersede.",
    ),
    *(
        (
            lambda option=option: subclass()(**{option: 0}),
            f"OddAgent: {option}=0 would refuse every message. Raise it.",
        )
        for option in NUMBERS
    ),
    *(
        (
            lambda option=option, value=value: subclass()(**{option: value}),
            f"OddAgent: {option} is {value!r}. Write it as a whole number.",
        )
        for option in NUMBERS
        for value in ("5", 5.0, True, None)
    ),
    (
        lambda: subclass()(retry_policy=5),
        "OddAgent: retry_policy is 5. Write it as a `restate.InvocationRetryPolicy`.",
    ),
    *(
        (
            lambda name=name: subclass()(name),
            (
                f"{name!r} cannot be the name of a Restate object. Give the agent a `name` of "
                "letters, digits, `.`, `_` and `-` that begins with a letter."
            ),
        )
        for name in NO_NAMES
    ),
    *(
        (
            subclass(greet=a_handler()(wrong)),
            (
                f"The annotations of {wrong.__name__} cannot be read: name 'Missing' is not "
                "defined. Import what they name also when the program runs, not for type "
                "checkers alone."
            ),
        )
        for wrong in (takes_what_is_missing, takes_what_is_missing_inside, gives_what_is_missing)
    ),
    (
        lambda: subclass()(window=5),
        "OddAgent has no option 'window'. Choose from name, "
        + ", ".join(_agent.Options.__annotations__)
        + ".",
    ),
    (
        subclass(policy="shout"),
        f"OddAgent: there is no policy 'shout'. Choose from {', '.join(types.POLICIES)}.",
    ),
    (
        subclass(name=5),
        "The name of an agent is 5. Write it as text.",
    ),
    (
        lambda: subclass(task_name="OtherTask"),
        (
            "OddAgent.task_name has no effect: the name of the tasks is made of the agent's. "
            "Set `name`."
        ),
    ),
    (
        lambda: a_session(None, "OddAgent", ""),
        "A session needs a key that is not empty. Name the conversation.",
    ),
]


@pytest.mark.parametrize(
    ("make", "message"), CLASSES + OBJECTS, ids=[x for _, x in CLASSES + OBJECTS]
)
def test_a_mistake_is_refused_with_the_culprit_and_the_remedy(make: Make, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value) == message


def test_what_is_odd_but_works_is_accepted() -> None:
    class Base(Agent):
        """Has no `run` of its own; its subclasses do."""

    class OddAgent(Base):
        run = run_with_options

    assert OddAgent().name == "OddAgent"
    assert subclass("Odd-1.x_", run=run_with_anything)().task_name == "Odd-1.x_Task"
    made = subclass()(cleanup_timeout=timedelta(0), inactivity_timeout=None, retry_policy=None)
    assert made.cleanup_timeout == timedelta(0)


def test_an_agent_interrupts_allows_every_policy_and_has_a_bound_unless_it_says_otherwise() -> None:
    made = subclass("PlainAgent")()
    assert (made.policy, made.max_pending) == ("interrupt", 32)
    assert made.allowed_policies == types.POLICIES
    assert types.POLICIES == ("interrupt", "rollback", "queue", "steer", "reject")
    allowed: list[Any] = ["queue", "reject"]
    made = subclass("QueueAgent")(policy="queue", allowed_policies=allowed, max_pending=1)
    assert (made.policy, made.max_pending) == ("queue", 1)
    allowed.append("interrupt")  # what is allowed does not change any more
    assert made.allowed_policies == ("queue", "reject")
    made = an_agent(policy="reject", allowed_policies=("reject",), max_pending=2)(function)
    assert (made.policy, made.allowed_policies, made.max_pending) == ("reject", ("reject",), 2)


@pytest.mark.parametrize("policy", types.POLICIES)
def test_each_policy_can_be_that_of_an_agent(policy: Any) -> None:
    made = subclass("PolicyAgent")(policy=policy, allowed_policies=[policy])
    assert (made.policy, made.allowed_policies) == (policy, (policy,))


def test_an_agent_spares_nothing_and_waits_for_no_quiet_unless_it_says_otherwise() -> None:
    made = subclass("PlainAgent")()
    assert (made.keep_queued, made.debounce, made.burst, made.merges) == (
        False,
        None,
        "merge",
        False,
    )
    quiet = timedelta(milliseconds=300)
    made = an_agent(keep_queued=True, debounce=quiet, burst="supersede")(function)
    assert (made.keep_queued, made.debounce, made.burst) == (True, quiet, "supersede")
    assert subclass("PlainAgent")(alternate_roles=True).alternate_roles
    assert not made.alternate_roles


@pytest.mark.parametrize(
    ("debounce", "burst", "merges"),
    [
        (None, "merge", False),
        (timedelta(0), "merge", True),
        (timedelta(seconds=1), "merge", True),
        (timedelta(seconds=1), "supersede", False),
    ],
)
def test_only_with_a_quiet_window_do_the_messages_of_a_burst_become_one_turn(
    debounce: timedelta | None, burst: Any, merges: bool
) -> None:
    assert subclass("BurstAgent")(debounce=debounce, burst=burst).merges is merges


def test_a_hook_that_is_no_coroutine_gives_the_conversation() -> None:
    class WindowAgent(Agent):
        run = run_with_anything

        def conversation(self, turns: Any) -> Any:
            return super().conversation(turns[-1:])

    hello: Any = {"status": "completed", "messages": [], "input": [{"role": "user", "content": 1}]}
    assert WindowAgent().conversation([hello, hello]) == hello["input"]
    assert subclass("PlainAgent")().conversation([hello, hello]) == hello["input"] * 2


def test_the_names_that_are_taken_are_those_of_the_handlers_and_attributes_of_an_agent() -> None:
    made = subclass("CodingAgent")()
    public = {name for name in vars(made) if not name.startswith("_")}
    assert public - set(PUBLIC) == {"name", "task_name", *_agent.Options.__annotations__}
    assert public & HANDLERS.keys() == set(PUBLIC)


# -- What Restate discovers. -----------------------------------------------------------------------


def test_the_object_has_these_handlers_in_this_order_and_the_internal_ones_are_private() -> None:
    handlers = discovered(subclass("CodingAgent")())["CodingAgent"]["handlers"]
    assert [
        (x["name"], x["ty"], x.get("ingressPrivate", False), x.get("enableLazyState", True))
        for x in handlers
    ] == [
        ("message", "EXCLUSIVE", False, True),
        ("cancel", "EXCLUSIVE", False, True),
        ("attach", "SHARED", False, True),
        ("get_history", "SHARED", False, True),
        ("get_status", "SHARED", False, True),
        ("get_turns", "SHARED", False, True),
        ("regenerate", "EXCLUSIVE", False, True),
        ("rewind", "EXCLUSIVE", False, True),
        ("reset", "EXCLUSIVE", False, True),
        ("fork", "SHARED", False, True),
        ("withdraw", "EXCLUSIVE", False, True),
        ("replace", "EXCLUSIVE", False, True),
        ("promote", "EXCLUSIVE", False, True),
        ("resume", "EXCLUSIVE", False, True),
        ("edit", "EXCLUSIVE", False, True),
        ("answer", "EXCLUSIVE", False, True),
        ("settle", "EXCLUSIVE", True, True),
        ("quiet", "EXCLUSIVE", True, True),
        ("begin", "EXCLUSIVE", True, True),
        ("ask_approval", "EXCLUSIVE", True, True),
        ("close_approval", "EXCLUSIVE", True, True),
        ("take", "EXCLUSIVE", True, True),
        ("give_up", "EXCLUSIVE", True, True),
        ("adopt", "EXCLUSIVE", True, True),
        ("recover", "SHARED", True, True),
        ("get_cause", "SHARED", True, True),
        ("load", "SHARED", True, True),
    ]


def test_the_public_handlers_have_schemas_of_what_they_take_and_give() -> None:
    handlers = discovered(subclass("CodingAgent")())["CodingAgent"]["handlers"]
    assert {
        x["name"]: (x["input"].get("jsonSchema"), x["output"]["jsonSchema"])
        for x in handlers
        if not x.get("ingressPrivate")
    } == {
        "message": (body_of("message").schema(), shape(types.Receipt).schema),
        "cancel": (body_of("cancel").schema(), shape(types.Cancelled).schema),
        "attach": (
            body_of("attach").schema(),
            {"anyOf": [shape(types.Outcome).schema, shape(types.TakenBack).schema]},
        ),
        "get_history": (None, shape(types.History).schema),
        "get_status": (None, shape(types.Status).schema),
        "get_turns": (body_of("get_turns").schema(), shape(types.Turns).schema),
        "regenerate": (body_of("regenerate").schema(), shape(types.Receipt).schema),
        "rewind": (body_of("rewind").schema(), shape(types.Rewound).schema),
        "reset": (body_of("reset").schema(), shape(types.Cancelled).schema),
        "fork": (body_of("fork").schema(), shape(types.Forked).schema),
        "withdraw": (body_of("withdraw").schema(), shape(types.Withdrawn).schema),
        "replace": (body_of("replace").schema(), shape(types.Receipt).schema),
        "promote": (body_of("promote").schema(), shape(types.Receipt).schema),
        "resume": (body_of("resume").schema(), shape(types.Receipt).schema),
        "edit": (body_of("edit").schema(), shape(types.Receipt).schema),
        "answer": (body_of("answer").schema(), shape(types.Answered).schema),
    }


def test_everything_is_json_and_nothing_has_to_be_sent() -> None:
    for service in discovered(subclass("CodingAgent")()).values():
        for each in service["handlers"]:
            assert each["input"].get("required", False) is False
            assert {each[x].get("contentType") for x in ("input", "output")} <= {
                "application/json",
                None,
            }


def test_every_handler_and_service_is_documented() -> None:
    class CodingAgent(Agent):
        """Writes code.

        And tests.
        """

        run = run

    for service in discovered(CodingAgent()).values():
        for each in (service, *service["handlers"]):
            assert each["documentation"].rstrip().endswith(".")
    assert discovered(CodingAgent())["CodingAgent"]["documentation"] == "Writes code.\n\nAnd tests."


def test_an_agent_without_a_docstring_is_not_documented_as_the_library_is() -> None:
    assert "documentation" not in discovered(subclass("CodingAgent")())["CodingAgent"]


def test_the_state_of_the_object_is_read_as_it_is_needed() -> None:
    services = discovered(subclass("CodingAgent")())
    assert services["CodingAgent"]["enableLazyState"] is True
    assert services["CodingAgent"]["ty"] == "VIRTUAL_OBJECT"


def options(service: dict[str, Any]) -> dict[str, Any]:
    """What a service has beside its name, its handlers and words for people."""
    return {
        k: v for k, v in service.items() if k not in ("name", "ty", "handlers", "documentation")
    }


def test_the_task_service_is_private_and_can_be_interrupted_while_a_step_is_silent_or_fails() -> (
    None
):
    service = discovered(subclass("CodingAgent")())["CodingTask"]
    assert service["ty"] == "SERVICE"
    assert [x["name"] for x in service["handlers"]] == ["run_task", "relay", "mark"]
    assert options(service) == {
        "ingressPrivate": True,
        "inactivityTimeout": 60 * 60 * 1000,
        "abortTimeout": 60 * 60 * 1000,
        "retryPolicyInitialInterval": 100,
        "retryPolicyExponentiationFactor": 2.0,
        "retryPolicyMaxInterval": 1500,
        "retryPolicyMaxAttempts": 2000,
        "retryPolicyOnMaxAttempts": "PAUSE",
    }


def test_all_of_these_can_be_set() -> None:
    made = subclass("CodingAgent")(
        inactivity_timeout=timedelta(minutes=1),
        abort_timeout=timedelta(minutes=2),
        retention=timedelta(minutes=6),
        retry_policy=restate.InvocationRetryPolicy(max_attempts=4),
    )
    services = discovered(made)
    assert options(services["CodingTask"]) == {
        "ingressPrivate": True,
        "inactivityTimeout": 60_000,
        "abortTimeout": 120_000,
        "journalRetention": 360_000,
        "idempotencyRetention": 360_000,
        "retryPolicyMaxAttempts": 4,
    }
    assert options(services["CodingAgent"]) == {
        "enableLazyState": True,
        "journalRetention": 360_000,
    }


@pytest.mark.parametrize("minutes", [0, 4])
def test_the_result_of_a_task_is_kept_for_five_minutes_at_least(minutes: int) -> None:
    made = subclass("CodingAgent")(retention=timedelta(minutes=minutes))
    assert discovered(made)["CodingTask"]["idempotencyRetention"] == 300_000


def test_without_them_those_of_the_server_hold() -> None:
    made = subclass("CodingAgent")(inactivity_timeout=None, abort_timeout=None, retry_policy=None)
    assert options(discovered(made)["CodingTask"]) == {"ingressPrivate": True}


def test_the_handlers_of_a_session_are_tried_again_as_soon_as_its_tasks_are_by_default() -> None:
    services = discovered(subclass("CodingAgent")(retry_policy=None, stream=Stream()))
    for name in ("CodingAgent", "CodingAgentStream"):
        for each in services[name]["handlers"]:
            assert each["retryPolicyMaxInterval"] == 1500, each["name"]
            assert each["retryPolicyOnMaxAttempts"] == "PAUSE", each["name"]


def test_a_handler_that_is_added_is_one_of_the_objects_like_any_other() -> None:
    class CodingAgent(Agent):
        run = run

        @handler(kind="shared", ingress_private=True)
        async def count(self, ctx: restate.ObjectSharedContext, start: int) -> int:
            """Count."""
            return len(ctx.key()) + start

        @handler(name="say_hello")
        async def greet(self, ctx: restate.ObjectContext) -> str:
            return ctx.key()

    class LoudAgent(CodingAgent):
        @handler()
        async def shout(self, ctx: restate.ObjectContext) -> str:
            return ctx.key()

    handlers = {x["name"]: x for x in discovered(CodingAgent())["CodingAgent"]["handlers"]}
    assert list(handlers)[-2:] == ["count", "say_hello"]
    assert handlers["count"]["ty"] == "SHARED"
    assert handlers["count"]["ingressPrivate"] is True
    assert handlers["count"]["documentation"] == "Count."
    assert handlers["count"]["input"]["jsonSchema"] == {"type": "integer"}
    assert handlers["say_hello"]["ty"] == "EXCLUSIVE"
    inherited = discovered(LoudAgent())["LoudAgent"]["handlers"]
    assert [x["name"] for x in inherited][-3:] == ["count", "say_hello", "shout"]


# -- The public names. -----------------------------------------------------------------------------


def test_the_public_names_are_few_sorted_and_there() -> None:
    assert sorted(interruptible.__all__) == interruptible.__all__
    assert len(set(interruptible.__all__)) == len(interruptible.__all__) <= 12
    public = {name for name in vars(interruptible) if not name.startswith("_")}
    modules = {"acp", "client", "formats", "gateway", "stream", "testing"}  # as others import them
    assert public - modules == set(interruptible.__all__)


def test_a_handler_of_a_mixin_is_a_handler_and_a_method_may_be_called_like_an_internal_one() -> (
    None
):
    class Greeting:
        greet = greet

    class MixedAgent(Greeting, Agent):
        run = run_with_anything
        load = plain

    assert "greet" in [h["name"] for h in discovered(MixedAgent())["MixedAgent"]["handlers"]]

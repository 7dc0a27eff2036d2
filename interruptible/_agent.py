"""`Agent` and `@agent`: build the virtual object and the task service."""

import gc
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal, TypeVar, overload
from weakref import WeakValueDictionary

from restate import Context, InvocationRetryPolicy, Service, VirtualObject
from restate.serde import Serde

from interruptible import _object, _types
from interruptible._task import Task, work
from interruptible._types import POLICIES, Message, Policy, Turn

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
Output = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None
"""What a turn puts out: text (a message of the assistant), a message, a list of these, nothing."""
Run = Callable[[Context, Task], Awaitable[Output]]

_HANDLER: Final = "_interruptible_handler"
_agents: WeakValueDictionary[str, "Agent"] = WeakValueDictionary()

RETRY_POLICY: Final = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=2),
    max_attempts=2000,
    on_max_attempts="pause",
)
"""A step in retry back-off is interrupted at its next attempt: within two seconds. The number of
attempts makes a task that keeps failing pause after about as long as Restate's own default."""

INACTIVITY_TIMEOUT: Final = timedelta(hours=1)
"""A call that is silent for longer cannot be interrupted, for Restate has hung up. A task that
waits keeps its connection that long."""


class Agent:
    """A conversation that every new message interrupts.

    Subclass it, write `run`, and give `services` of an instance to `restate.app`. Restate then has
    a virtual object of this name, whose keys are sessions, and a service for its tasks.

    Args:
        name: The object's name; by default the class's. The service is called the same, with
            "Agent" at the end replaced by "Task", or "Task" added.
        policy: What a message does to a live turn.
        cleanup_timeout: How long a new turn waits for the cleanup of the one it interrupted.
        inactivity_timeout: How long a step may be silent and still be interrupted at once;
            `None` for the server's default.
        abort_timeout: How long after that Restate waits before it gives the attempt up;
            `None` for the server's default.
        retry_policy: How Restate retries a task; its longest interval is how long a step in
            back-off takes to be interrupted. `None` for the server's default.
        retention: How long Restate keeps a finished task's journal and result;
            `None` for the server's default, a day.
        max_content: The largest content of a message, in bytes.

    Raises:
        TypeError: `run` is missing, or an option has the wrong type.
        ValueError: An option makes no sense, or there is an agent of this name already.
    """

    _handlers: ClassVar[dict[str, Any]] = {}

    def __init__(  # noqa: PLR0913
        self,
        name: str | None = None,
        *,
        policy: Policy = "interrupt",
        cleanup_timeout: timedelta = timedelta(seconds=30),
        inactivity_timeout: timedelta | None = INACTIVITY_TIMEOUT,
        abort_timeout: timedelta | None = INACTIVITY_TIMEOUT,
        retry_policy: InvocationRetryPolicy | None = RETRY_POLICY,
        retention: timedelta | None = None,
        max_content: int = _types.MAX_CONTENT,
    ) -> None:
        self.name = name if name is not None else type(self).__name__
        if type(self).run is Agent.run:
            msg = (
                f"{type(self).__name__} has no `run`. Add `async def run(self, ctx, task)`, "
                "which works on one turn."
            )
            raise TypeError(msg)
        _check_options(
            self.name,
            policy=policy,
            max_content=max_content,
            cleanup_timeout=cleanup_timeout,
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            retention=retention,
        )
        self.task_name = f"{self.name.removesuffix('Agent')}Task"
        self.policy: Policy = policy
        self.cleanup_timeout = cleanup_timeout
        self.max_content = max_content
        _claim(self)
        self._object = VirtualObject(
            self.name,
            description=inspect.getdoc(type(self)),
            enable_lazy_state=True,
            journal_retention=retention,
        )
        self._service = Service(
            self.task_name,
            description=f"The tasks of {self.name}: one invocation works on one turn.",
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            journal_retention=retention,
            idempotency_retention=retention,
            invocation_retry_policy=retry_policy,
            ingress_private=True,
        )
        self._add_handlers()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, parameters in {
            "run": ["self", "ctx", "task"],
            "on_interrupted": ["self", "ctx", "task"],
        }.items():
            if name in vars(cls):
                _check_signature(f"{cls.__name__}.{name}", vars(cls)[name], parameters)
        own = {k: v for k, v in vars(cls).items() if hasattr(v, _HANDLER)}
        for name, method in own.items():
            if getattr(Agent, name, None) is not None or name in _RESERVED:
                msg = (
                    f"{cls.__name__}.{name} would replace a handler of every agent. "
                    "Give it another name."
                )
                raise TypeError(msg)
            if not inspect.iscoroutinefunction(method):
                msg = f"{cls.__name__}.{name} is a handler but not `async`. Make it `async def`."
                raise TypeError(msg)
        cls._handlers = {**cls._handlers, **own}

    @property
    def services(self) -> list[Service | VirtualObject]:
        """What `restate.app` takes: the object and the task service."""
        return [self._object, self._service]

    async def run(self, ctx: Context, task: Task) -> Output:
        """Work on one turn; to be written by the subclass.

        A cancellation raises `Interrupted` at the await that is pending and at every later one.

        Args:
            ctx: The context of the task's Restate handler.
            task: The conversation, and where to put out messages.

        Returns:
            What the turn puts out last: text, a message, a list of messages, or nothing.
        """
        raise NotImplementedError

    async def on_interrupted(self, ctx: Context, task: Task) -> None:
        """Called, shielded, when a turn that had begun was interrupted, after its cleanup."""

    def interruption_note(self, turn: Turn) -> str | Message | None:
        """What the model is told after an interrupted turn, so that it does not quietly resume it.

        Args:
            turn: The record of the interrupted turn. The same record must give the same note.

        Returns:
            Text (a message of the user), a message, or `None` for no note.
        """
        del turn
        return (
            "[I interrupted you before you were done. Do not resume that work by yourself: "
            "go on from what I say next.]"
        )

    def _add_handlers(self) -> None:
        # Kept as attributes, so that the SDK's typed clients can call them by reference.
        self.message = self._handler("message", _object.message, _types.MESSAGE_IN, _types.RECEIPT)
        self.cancel = self._handler("cancel", _object.cancel, _types.CANCEL_IN, _types.CANCELLED)
        self.attach = self._handler(
            "attach", _object.attach, _types.ATTACH_IN, _types.OUTCOME, kind="shared"
        )
        self.get_history = self._handler(
            "get_history",
            _object.get_history,
            _types.NOTHING_IN,
            _types.HISTORY,
            kind="shared",
            enable_lazy_state=False,
        )
        self.get_status = self._handler(
            "get_status", _object.get_status, _types.NOTHING_IN, _types.STATUS, kind="shared"
        )
        private: dict[str, Any] = {"ingress_private": True}
        self._handler("settle", _object.settle_turn, {}, {}, **private)
        self._handler("recover", _object.recover, {}, {}, kind="shared", **private)
        self._handler(
            "load", _object.load, {}, {}, kind="shared", enable_lazy_state=False, **private
        )
        for name, method in self._handlers.items():
            options = dict(getattr(method, _HANDLER))
            added = self._object.handler(name=options.pop("name") or name, **options)
            setattr(self, name, added(getattr(self, name)))

        @self._service.handler(input_serde=_JSON, output_serde=_JSON)
        async def run_task(ctx: Context, job: Any) -> Any:
            """Work on one turn of a session."""
            return await work(self, ctx, job)

        @self._service.handler(idempotency_retention=timedelta(0))
        async def mark(ctx: Context) -> None:
            """Answer at once."""

    def _handler(  # noqa: PLR0913
        self,
        name: str,
        effect: Callable[..., Awaitable[Any]],
        takes: dict[str, Any],
        gives: dict[str, Any],
        *,
        kind: Literal["exclusive", "shared"] = "exclusive",
        **options: Any,
    ) -> Any:
        add = self._object.handler(
            name=name, kind=kind, input_serde=_JSON, output_serde=_JSON, **options
        )

        async def handle(ctx: Any, body: Any) -> Any:
            return await effect(self, ctx, body)

        handle.__doc__ = effect.__doc__
        added = add(handle)
        io = self._object.handlers[name].handler_io
        for hint, schema in ((io.input_type, takes), (io.output_type, gives)):
            if hint is not None and schema:
                hint.annotation = dict
                hint.generate_json_schema = lambda schema=schema: schema
        return added


@overload
def agent(run: Run, /) -> Agent: ...
@overload
def agent(*, name: str | None = None, **options: Any) -> Callable[[Run], Agent]: ...
def agent(run: Run | None = None, /, **options: Any) -> Agent | Callable[[Run], Agent]:
    """Make an agent of an `async def f(ctx, task)`, without a class.

    Args:
        run: The function; its name in camel case is the agent's name, unless `name` is given.
        options: Those of `Agent`.

    Returns:
        The agent, or with options, a decorator that makes it.

    Raises:
        TypeError: The function does not take `(ctx, task)`, or an option has the wrong type.
        ValueError: An option makes no sense, or there is an agent of this name already.
    """
    if run is None:
        return lambda function: _from_function(function, **options)
    return _from_function(run, **options)


def handler(
    name: str | None = None,
    *,
    kind: Literal["exclusive", "shared"] = "exclusive",
    **options: Any,
) -> Callable[[F], F]:
    """Add a method of an `Agent` to its object as one more Restate handler.

    Args:
        name: The handler's name; by default the method's.
        kind: Exclusive handlers of a session run one at a time, shared ones side by side.
        options: Those of `restate.VirtualObject.handler`.
    """

    def decorate(method: F) -> F:
        setattr(method, _HANDLER, {"name": name, "kind": kind, **options})
        return method

    return decorate


class _JsonSerde(Serde[Any]):
    # An error raised while the SDK reads the input would become a 500; ours are to be a 400.
    def deserialize(self, buf: bytes) -> Any:
        return _types.parse(buf)

    def serialize(self, obj: Any) -> bytes:
        return json.dumps(obj).encode()


_JSON: Final = _JsonSerde()
_RESERVED: Final = {"settle", "recover", "load"}


def _from_function(function: Run, **options: Any) -> Agent:
    _check_signature(function.__name__, function, ["ctx", "task"])

    async def run(self: Agent, ctx: Context, task: Task) -> Output:  # noqa: ARG001
        return await function(ctx, task)

    name = "".join(word[:1].upper() + word[1:] for word in function.__name__.split("_"))
    made: type[Agent] = type(name, (Agent,), {"run": run, "__doc__": function.__doc__})
    return made(**options)


def _check_signature(name: str, function: Any, parameters: list[str]) -> None:
    wanted = f"({', '.join(parameters)})"
    if not inspect.iscoroutinefunction(function):
        msg = f"{name} is not `async`. Write `async def {name.split('.')[-1]}{wanted}`."
        raise TypeError(msg)
    taken = list(inspect.signature(function).parameters.values())
    extra = [p for p in taken[len(parameters) :] if p.default is p.empty]
    if len(taken) < len(parameters) or extra:
        signature = f"({', '.join(p.name for p in taken)})"
        verb = "Add" if len(taken) < len(parameters) else "Remove"
        which = parameters[len(taken) :] or [p.name for p in extra]
        msg = f"{name} takes {signature}; it has to take {wanted}. {verb} {_quoted(which)}."
        raise TypeError(msg)


def _check_options(
    name: str, *, policy: str, max_content: int, **durations: Any
) -> None:
    if not name or "/" in name or name.startswith("_"):
        msg = f"{name!r} cannot be the name of a Restate object. Give the agent another `name`."
        raise ValueError(msg)
    if policy not in POLICIES:
        msg = f"{name}: there is no policy {policy!r}. Choose one of {', '.join(POLICIES)}."
        raise ValueError(msg)
    if max_content < 1:
        msg = f"{name}: max_content={max_content} would refuse every message. Raise it."
        raise ValueError(msg)
    for option, value in durations.items():
        if value is not None and not isinstance(value, timedelta):
            msg = f"{name}: {option} is {value!r}. Write it as a `datetime.timedelta`."
            raise TypeError(msg)
        if value is not None and value < timedelta(0):
            msg = f"{name}: {option}={value} is in the past. Make it positive."
            raise ValueError(msg)


def _claim(agent: Agent) -> None:
    if agent.name in _agents:
        gc.collect()  # an agent that nobody holds any more does not count
    if agent.name in _agents:
        msg = f"There is an agent {agent.name} already. Give one of them another `name`."
        raise ValueError(msg)
    _agents[agent.name] = agent


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

"""`Agent` and `@agent`: build the virtual object and the task service."""

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypedDict, TypeVar, overload

from restate import Context, InvocationRetryPolicy, Service, TerminalError, VirtualObject
from restate.serde import BytesSerde, Serde

from interruptible import _checks
from interruptible._session import private, public
from interruptible._session import turns as _turns
from interruptible._task import delegate
from interruptible._task.life import work
from interruptible._task.repair import call_note
from interruptible._task.task import Task
from interruptible._wire import added as _added
from interruptible._wire import schemas
from interruptible._wire.output import Output
from interruptible._wire.types import (
    MAX_CONTENT,
    POLICIES,
    Burst,
    Message,
    Policy,
    Turn,
    parse,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
Run = Callable[[Context, Task], Awaitable[Output]]

_HANDLER: Final = "_interruptible_handler"
_SHARED: Final[dict[str, Any]] = {"kind": "shared"}
# What these have read is not kept: it would be the whole history, once for each time. Not for what
# is sent and attached to, as `get_cause` and `attach`: that has to be kept.
_READS: Final[dict[str, Any]] = {
    **_SHARED,
    "journal_retention": timedelta(0),
    "idempotency_retention": timedelta(0),
}
_PRIVATE: Final[dict[str, Any]] = {"ingress_private": True}

RETRY_POLICY: Final = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=1.5),
    max_attempts=2000,
    on_max_attempts="pause",
)
"""A step in retry back-off is interrupted at its next attempt: within two seconds, for Restate adds
up to 30 % to an interval. After the last attempt it pauses the task."""

MIN_RETENTION: Final = timedelta(minutes=5)
"""How long the result of a task is kept at least, for its successor and for `attach`."""

_LOOKS: Final[dict[str, Any]] = {**_READS, "idempotency_retention": MIN_RETENTION}
"""Of a reader that attaches to tasks, and ends without having heard of them. Asked again with one
idempotency key, as the ingress of a cluster does by itself, it must not begin anew: the server
would take what comes of the first time for part of the second, and stop the whole partition."""

INACTIVITY_TIMEOUT: Final = timedelta(hours=1)
"""A call that is silent for longer cannot be interrupted, for Restate has hung up. A task that
waits keeps its connection that long."""


class Options(TypedDict, total=False):
    """The options of `Agent`."""

    policy: Policy
    allowed_policies: Sequence[Policy]
    keep_queued: bool
    debounce: timedelta | None
    burst: Burst
    max_pending: int
    cleanup_timeout: timedelta
    inactivity_timeout: timedelta | None
    abort_timeout: timedelta | None
    retry_policy: InvocationRetryPolicy | None
    retention: timedelta | None
    max_content: int
    alternate_roles: bool


class Agent:
    """A conversation that a new message can interrupt.

    Subclass it, write `run`, and give `services` of an instance to `restate.app`. Restate then has
    a virtual object of this name, whose keys are sessions, and a service for its tasks.

    Each argument may also be an attribute of the class, such as `policy = "queue"`; then that is
    its default. The class may be a dataclass.

    Args:
        name: The object's name; by default the class's. The service is called the same, with
            "Agent" at the end replaced by "Task", or "Task" added.
        policy: What a message does to a live turn, unless it says so itself: `interrupt` cancels
            all that is live, `rollback` discards it, too, `queue` waits for it, `steer` is taken by
            it, `reject` is refused with a 423.
        allowed_policies: What messages may choose from; by default all. Others get a 400.
        keep_queued: Whether `interrupt` and `rollback` cancel the turn at work alone, and spare
            those that are queued.
        debounce: How long it has to be quiet before a turn begins; `None` for not at all.
        burst: What a message does to a turn that waits for quiet: `merge` makes it part of it,
            `supersede` leaves it to the policy.
        max_pending: How many turns and steered messages may be at work or wait; one more that
            asks to wait is refused with a 429.
        cleanup_timeout: How long a new turn waits for the cleanup of those that were cancelled.
            Then they are given up: no later turn waits for them.
        inactivity_timeout: How long a step may be silent and still be interrupted at once;
            `None` for the server's default.
        abort_timeout: How long after that Restate waits before it gives the attempt up;
            `None` for the server's default.
        retry_policy: How Restate retries a task; its longest interval is how long a step in
            back-off takes to be interrupted. `None` for the server's default.
        retention: How long Restate keeps a finished task's journal and result (the result five
            minutes at least); `None` for the server's default, a day.
        max_content: The largest content of a message, in bytes.
        alternate_roles: Whether `task.messages` begins with messages in which user and assistant
            take turns, for models whose chat template insists on it; see
            `interruptible.formats.alternating`.

    Raises:
        TypeError: `run` is missing, or an option has the wrong type.
        ValueError: An option makes no sense.
    """

    name: str
    policy: Policy = "interrupt"
    allowed_policies: Sequence[Policy] = POLICIES
    keep_queued: bool = False
    debounce: timedelta | None = None
    burst: Burst = "merge"
    max_pending: int = 32
    cleanup_timeout: timedelta = timedelta(seconds=30)
    inactivity_timeout: timedelta | None = INACTIVITY_TIMEOUT
    abort_timeout: timedelta | None = INACTIVITY_TIMEOUT
    retry_policy: InvocationRetryPolicy | None = RETRY_POLICY
    retention: timedelta | None = None
    max_content: int = MAX_CONTENT
    alternate_roles: bool = False

    _handlers: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str | None = None, **options: "Unpack[Options]") -> None:
        cls = type(self)
        self.name = name if name is not None else vars(self).get("name") or _name_of(cls)
        if cls.run is Agent.run:
            msg = (
                f"{cls.__name__} has no `run`. Add `async def run(self, ctx, task)`, "
                "which works on one turn."
            )
            raise TypeError(msg)
        _checks.check_known(cls, options, Options.__annotations__)
        chosen = {option: getattr(self, option) for option in Options.__annotations__} | options
        _checks.check_options(self.name, **chosen)
        for option, value in chosen.items():
            setattr(self, option, value)
        self.allowed_policies = tuple(self.allowed_policies)
        self.task_name = f"{self.name.removesuffix('Agent')}Task"
        self._object = VirtualObject(
            self.name,
            description=inspect.cleandoc(cls.__doc__ or "") or None,
            enable_lazy_state=True,
            journal_retention=self.retention,
        )
        kept = self.retention
        self._service = Service(
            self.task_name,
            description=f"The tasks of {self.name}: one invocation works on one turn.",
            inactivity_timeout=self.inactivity_timeout,
            abort_timeout=self.abort_timeout,
            journal_retention=kept,
            idempotency_retention=None if kept is None else max(kept, MIN_RETENTION),
            invocation_retry_policy=self.retry_policy,
            ingress_private=True,
        )
        self._add_handlers()

    if not TYPE_CHECKING:  # or every attribute would be right

        def __getattr__(self, name: str) -> Any:
            # The `__init__` of a dataclass, and many a subclass's, does not call this one.
            if name in _MADE and "_object" not in vars(self):
                Agent.__init__(self)
            return object.__getattribute__(self, name)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {
            name: x
            for parent in reversed(cls.__mro__)
            for name, x in vars(parent).items()
            if hasattr(x, _HANDLER)
        }
        _checks.check_class(cls, Agent, {x: getattr(own[x], _HANDLER)["name"] or x for x in own})
        cls._handlers = own

    @property
    def merges(self) -> bool:
        """Whether messages of a burst become one turn."""
        return self.debounce is not None and self.burst == "merge"

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
            Text (a message of the user), a message, or `None` for no note; by default one that
            `never_began` has none.
        """
        if turn.get("never_began"):
            return None
        return (
            "[I interrupted you before you were done. Do not resume that work by yourself: "
            "go on from what I say next.]"
        )

    def call_note(self, name: str | None, *, begun: bool, output: str | None) -> str:
        """What the model is told as the result of a call that has none, in whatever turn.

        It is made once, when the turn ends, and is stored.

        Args:
            name: The tool's name; `None` if the call is not among what the turn put out.
            begun: Whether the call may have had an effect. If not, it was never begun.
            output: What had come of it, if that was given to `task.partial_result`.

        Returns:
            Text; the same arguments must give the same text. By default, and where it is blank, it
            says which it is, after the output, if there is some.
        """
        return call_note(name, begun=begun, output=output)

    def conversation(self, turns: Sequence[Turn]) -> list[Message]:
        """What the model is told of the turns before; this turn's messages come after it.

        Override it to leave out what does not fit the model, or to sum it up.

        Args:
            turns: All earlier turns but the discarded. The same turns must give the same messages.

        Returns:
            By default all their messages, with the notes on those that were interrupted.
        """
        return _turns.conversation(turns, self.interruption_note)

    def _add_handlers(self) -> None:
        # Kept as attributes, so that the SDK's typed clients can call them by reference.
        add, s = self._handler, schemas
        self.message = add("message", public.on_message, s.MESSAGE_IN, s.RECEIPT)
        self.cancel = add("cancel", public.on_cancel, s.CANCEL_IN, s.CANCELLED)
        self.attach = add("attach", public.on_attach, s.ATTACH_IN, s.OUTCOME, **_SHARED)
        # With a schema, Restate would refuse an empty body: so what takes nothing has none.
        self.get_history = add("get_history", public.on_get_history, None, s.HISTORY, **_READS)
        self.get_status = add("get_status", public.on_get_status, None, s.STATUS, **_LOOKS)
        self.get_turns = add("get_turns", public.on_get_turns, s.TURNS_IN, s.TURNS, **_READS)
        self.regenerate = add("regenerate", public.on_regenerate, s.REGENERATE_IN, s.RECEIPT)
        self.rewind = add("rewind", public.on_rewind, s.REWIND_IN, s.REWOUND)
        self.reset = add("reset", public.on_reset, s.RESET_IN, s.CANCELLED)
        self.fork = add("fork", public.on_fork, s.FORK_IN, s.FORKED, **_SHARED)
        add("settle", private.on_settle, **_PRIVATE)
        add("take", private.on_take, **_PRIVATE)
        add("give_up", private.on_give_up, **_PRIVATE)
        add("adopt", private.on_adopt, **_PRIVATE)
        add("recover", private.on_recover, **_SHARED, **_PRIVATE)
        add("get_cause", private.on_get_cause, **_SHARED, **_PRIVATE)
        add("load", private.on_load, **_READS, **_PRIVATE, output_serde=BytesSerde())
        for name, method in self._handlers.items():
            options = dict(getattr(method, _HANDLER))
            exposed = options.pop("name") or name
            setattr(self, name, _added.add(self._object, exposed, getattr(self, name), options))

        @self._service.handler(input_serde=_OURS, output_serde=_JSON)
        async def run_task(ctx: Context, job: Any) -> Any:
            """Work on one turn of a session."""
            _added.check(job, dict)
            return await work(self, ctx, job)

        @self._service.handler(
            input_serde=_JSON,
            output_serde=_JSON,
            invocation_retry_policy=delegate.RETRY_POLICY,
        )
        async def relay(ctx: Context, job: Any) -> Any:
            """Send a message to another agent."""
            return await delegate.relay(ctx, job)

        @self._service.handler(idempotency_retention=timedelta(0))
        async def mark(ctx: Context) -> None:
            """Answer at once."""

    def _handler(
        self,
        name: str,
        effect: Callable[..., Awaitable[Any]],
        takes: dict[str, Any] | None = None,
        gives: dict[str, Any] | None = None,
        *,
        kind: Literal["exclusive", "shared"] = "exclusive",
        **options: Any,
    ) -> Any:
        options = {"input_serde": _JSON, "output_serde": _JSON, **options}
        public = not options.get("ingress_private", False)
        add = self._object.handler(name=name, kind=kind, **options)

        async def handle(ctx: Any, body: Any) -> Any:
            if public and not ctx.key():
                raise TerminalError("session: the key is empty. Name the conversation.", 400)
            return await effect(self, ctx, body)

        handle.__doc__ = effect.__doc__
        added = add(handle)
        io = self._object.handlers[name].handler_io
        _added.describe(io.input_type, takes)
        _added.describe(io.output_type, gives)
        return added


class NamedOptions(Options, total=False):
    """The options of `Agent`, for `@agent`."""

    name: str | None


@overload
def agent(run: Run, /) -> Agent: ...
@overload
def agent(**options: "Unpack[NamedOptions]") -> Callable[[Run], Agent]: ...
def agent(
    run: Run | None = None, /, **options: "Unpack[NamedOptions]"
) -> Agent | Callable[[Run], Agent]:
    """Make an agent of an `async def f(ctx, task)`, without a class.

    Args:
        run: The function; its name in camel case is the agent's name, unless `name` is given.
        options: Those of `Agent`.

    Returns:
        The agent, or with options, a decorator that makes it.

    Raises:
        TypeError: The function does not take `(ctx, task)`, or an option has the wrong type.
        ValueError: An option makes no sense.
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

    A body that is no JSON, or not of the type that the method says it takes, is refused with a 400,
    unless there is an `input_serde`. An exclusive handler that keeps failing is killed after about
    ten seconds, so that it does not hold the session's lock for ever; `invocation_retry_policy`
    sets it otherwise.

    Args:
        name: The handler's name; by default the method's.
        kind: Exclusive handlers of a session run one at a time, shared ones side by side.
        options: Those of `restate.VirtualObject.handler`.

    Raises:
        TypeError: It was written without brackets.
        ValueError: There is no such kind.
    """
    if callable(name):
        msg = "`@handler` was written without brackets. Write `@handler()`."
        raise TypeError(msg)
    if kind not in ("exclusive", "shared"):
        msg = f'There is no kind {kind!r} of handler. Choose "exclusive" or "shared".'
        raise ValueError(msg)

    def decorate(method: F) -> F:
        setattr(method, _HANDLER, {"name": name, "kind": kind, **options})
        return method

    return decorate


class _JsonSerde(Serde[Any]):
    # An error raised while the SDK reads the input would become a 500; ours are to be a 400.
    def __init__(self, *, ours: bool = False) -> None:
        self._ours = ours

    def deserialize(self, buf: bytes) -> Any:
        return parse(buf, lenient=self._ours)

    def serialize(self, obj: Any) -> bytes:
        return json.dumps(obj).encode()


_JSON: Final = _JsonSerde()
_OURS: Final = _JsonSerde(ours=True)
"""What our own tasks and handlers send: not all that an earlier version puts out is JSON."""

_MADE: Final = {*_checks.PUBLIC, "name", "task_name", "_object", "_service"}
"""The attributes that `Agent.__init__` alone sets."""


def _name_of(cls: type[Agent]) -> Any:
    return getattr(cls, "name", cls.__name__)


def _from_function(function: Run, **options: "Unpack[NamedOptions]") -> Agent:
    _checks.check_function(function)

    async def run(self: Agent, ctx: Context, task: Task) -> Output:  # noqa: ARG001
        return await function(ctx, task)

    name = "".join(word[:1].upper() + word[1:] for word in function.__name__.split("_"))
    made: type[Agent] = type(name, (Agent,), {"run": run, "__doc__": function.__doc__})
    return made(**options)

"""`Agent` and `@agent`: build the virtual object and the task service."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, overload

from restate import Context, InvocationRetryPolicy, Service, VirtualObject

from interruptible import _checks, _options
from interruptible._handlers import PUBLIC, add_handlers, add_task_handlers
from interruptible._options import INACTIVITY_TIMEOUT, RETRY_POLICY, NamedOptions, Options
from interruptible._session import turns as _turns
from interruptible._task.body import Streaming
from interruptible._task.repair import call_note
from interruptible._task.task import Task
from interruptible._wire.added import add, handler, marked
from interruptible._wire.output import Output
from interruptible._wire.types import MAX_CONTENT, POLICIES, Burst, Message, Policy, Turn

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Agent", "agent", "handler"]

RunFunction = Callable[[Context, Task], Awaitable[Output]]


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
        alternate_roles: Whether user and assistant take turns in what `task.messages` begins with,
            as some models insist on; see `interruptible.formats.alternating`.
        stream: An `interruptible.stream.Stream`, for those who follow what a session's turns do. It
            adds an object, called as the agent with "Stream" added.

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
    stream: Streaming | None = None

    _handlers: ClassVar[dict[str, tuple[str, dict[str, Any]]]] = {}

    def __init__(self, name: str | None = None, **options: "Unpack[Options]") -> None:
        cls = type(self)
        given: Any = vars(self).get("name") or getattr(cls, "name", cls.__name__)
        self.name = name if name is not None else given
        if cls.run is Agent.run:
            msg = (
                f"{cls.__name__} has no `run`. Add `async def run(self, ctx, task)`, "
                "which works on one turn."
            )
            raise TypeError(msg)
        chosen = {x: getattr(self, x) for x in _options.OPTIONS} | options
        _options.check_options(cls.__name__, self.name, chosen)
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
            idempotency_retention=None if kept is None else max(kept, _options.MIN_RETENTION),
            invocation_retry_policy=self.retry_policy,
            ingress_private=True,
        )
        # Kept as attributes, so that the SDK's typed clients can call them by reference.
        vars(self).update(add_handlers(self._object, self))
        for method, (exposed, chosen) in self._handlers.items():
            setattr(self, method, add(self._object, exposed, getattr(self, method), chosen))
        add_task_handlers(self._service, self)
        self._stream = None if self.stream is None else self.stream.object_of(self.name)

    if TYPE_CHECKING:
        message: Any
        cancel: Any
        attach: Any
        get_history: Any
        get_status: Any
        get_turns: Any
        regenerate: Any
        rewind: Any
        reset: Any
        fork: Any
        withdraw: Any
        replace: Any
        promote: Any
        resume: Any
        edit: Any
        answer: Any
    else:  # or every attribute would be right

        def __getattr__(self, name: str) -> Any:
            # The `__init__` of a dataclass, and many a subclass's, does not call this one.
            if name in _MADE and "_object" not in vars(self):
                Agent.__init__(self)
            return object.__getattribute__(self, name)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._handlers = marked(cls)
        _checks.check_class(cls, Agent, {x: exposed for x, (exposed, _) in cls._handlers.items()})

    @property
    def merges(self) -> bool:
        """Whether messages of a burst become one turn."""
        return self.debounce is not None and self.burst == "merge"

    @property
    def tells_all(self) -> bool:
        """Whether `conversation` is ours, which tells the model all turns."""
        return "conversation" not in vars(self) and type(self).conversation is Agent.conversation

    @property
    def services(self) -> list[Service | VirtualObject]:
        """What `restate.app` takes: the object, the task service, and the stream if it has one."""
        streams = [] if self._stream is None else [self._stream]
        return [self._object, self._service, *streams]

    async def run(self, ctx: Context, task: Task) -> Output:
        """Work on one turn; to be written by the subclass.

        A cancellation raises `Interrupted` at the await that is pending and at every later one.

        Args:
            ctx: The context of the task's Restate handler.
            task: The conversation, and where to put out messages.

        Returns:
            What the turn puts out last, as text, a message, a list of messages, or nothing.
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
        if (turn.get("reason") or "").startswith("stopped"):
            return (
                "[I stopped you after the step that you were at; it is done. Do not resume that "
                "work by yourself: go on from what I say next.]"
            )
        return (
            "[I interrupted you before you were done. Do not resume that work by yourself: "
            "go on from what I say next.]"
        )

    def resume_note(self, turn: Turn) -> str | Message | None:  # noqa: ARG002
        """What the model is told after a turn that is resumed, to go on where that one stopped.

        Override it for a provider that refuses a conversation with an assistant's message at its
        end, or a framework that asks it nothing then: `return "Go on."`.

        Args:
            turn: The record of the turn that is resumed. The same record must give the same note.

        Returns:
            Text (a message of the user), a message, or `None` for no note, as by default.
        """
        return None

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

        Override it to leave out what does not fit the model, or to sum it up. Of a long one, only
        what it looks at is read: `turns[-8:]`, `reversed(turns)`. It is called again for more.

        Args:
            turns: All earlier turns but the discarded. The same turns must give the same messages.

        Returns:
            By default all their messages, with the notes on those that were interrupted.
        """
        return _turns.whole_conversation(turns, self.interruption_note, self.resume_note)


@overload
def agent(run: RunFunction, /) -> Agent: ...
@overload
def agent(**options: "Unpack[NamedOptions]") -> Callable[[RunFunction], Agent]: ...
def agent(
    run: RunFunction | None = None, /, **options: "Unpack[NamedOptions]"
) -> Agent | Callable[[RunFunction], Agent]:
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


_MADE: Final = {*PUBLIC, "name", "task_name", "_object", "_service", "_stream"}
"""The attributes that `Agent.__init__` alone sets."""


def _from_function(function: RunFunction, **options: "Unpack[NamedOptions]") -> Agent:
    _checks.check_function(function)

    async def run(self: Agent, ctx: Context, task: Task) -> Output:  # noqa: ARG001
        return await function(ctx, task)

    name = "".join(word[:1].upper() + word[1:] for word in function.__name__.split("_"))
    made: type[Agent] = type(name, (Agent,), {"run": run, "__doc__": function.__doc__})
    return made(**options)

"""The handlers that every agent has, in a table: Restate, the checks and the docs go by it."""

import functools
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple, cast

from restate import Context, Service, TerminalError, VirtualObject
from restate.serde import BytesSerde, Serde
from typing_extensions import is_typeddict

from interruptible._options import MIN_RETENTION, RETRY_POLICY
from interruptible._session import changes, private, public, views
from interruptible._session.effects import Settings
from interruptible._session.storage import compact
from interruptible._task import delegate
from interruptible._task.body import AgentBody
from interruptible._task.life import work
from interruptible._wire import types
from interruptible._wire.added import describe
from interruptible._wire.checks import Body, parse
from interruptible._wire.shapes import shape

_SHARED: Final[Mapping[str, Any]] = {"kind": "shared"}
# What these have read is not kept: it would be the whole history, once for each time. Not for what
# is sent and attached to, as `get_cause` and `attach`: that has to be kept.
_READS: Final[Mapping[str, Any]] = {
    **_SHARED,
    "journal_retention": timedelta(0),
    "idempotency_retention": timedelta(0),
}
_LOOKS: Final[Mapping[str, Any]] = {**_READS, "idempotency_retention": MIN_RETENTION}
"""Of a reader that attaches to tasks, and ends without having heard of them. Asked again with one
idempotency key, as the ingress of a cluster does by itself, it must not begin anew: the server
would take what comes of the first time for part of the second, and stop the whole partition."""

_LOADS: Final[Mapping[str, Any]] = {**_READS, "idempotency_retention": timedelta(hours=1)}
"""Of what tasks load. The older turns are asked for by a key: Restate then has the answer already,
and it passes through no handler, and through the log once instead of three times."""


class Handler(NamedTuple):
    """A handler of an object: its signature says what it takes and gives."""

    does: Callable[..., Awaitable[Any]]
    example: str | None = None
    """What callers could send, "" where that is nothing; other fields are refused."""
    options: Mapping[str, Any] = {}
    is_open: bool = False
    """Whether callers may send any other fields, too. One with neither is private."""

    @property
    def is_public(self) -> bool:
        return self.is_open or self.example is not None

    @property
    def body(self) -> Body[Any] | None:
        """What it takes, if that has fields."""
        return _body(self.does, self.example)

    @property
    def gives(self) -> Any:
        """The type of what it answers."""
        return self.does.__annotations__["return"]


@functools.cache
def _body(does: Callable[..., Any], example: str | None) -> Body[Any] | None:
    taken = tuple(does.__annotations__.values())[2]
    return Body(taken, example) if is_typeddict(taken) else None


HANDLERS: Final[Mapping[str, Handler]] = {
    "message": Handler(public.on_message, '{"content": "Hello"}'),
    "cancel": Handler(public.on_cancel, '{"turn": 1}'),
    "attach": Handler(views.on_attach, '{"turn": 1}', _SHARED),
    "get_history": Handler(views.on_get_history, "", _READS),
    "get_status": Handler(views.on_get_status, "", _LOOKS),
    "get_turns": Handler(views.on_get_turns, '{"limit": 10}', _READS),
    "regenerate": Handler(public.on_regenerate, '{"turn": 1}'),
    "rewind": Handler(public.on_rewind, '{"turn": 1}'),
    "reset": Handler(public.on_reset, '{"reason": "…"}'),
    "fork": Handler(public.on_fork, '{"session": "copy"}', _SHARED),
    "withdraw": Handler(changes.on_withdraw, '{"message": 1}'),
    "replace": Handler(changes.on_replace, '{"message": 1, "content": "Hello"}'),
    "promote": Handler(changes.on_promote, '{"message": 1, "policy": "interrupt"}'),
    "resume": Handler(public.on_resume, '{"turn": 1}'),
    "edit": Handler(public.on_edit, '{"turn": 1, "content": "Hello"}'),
    "answer": Handler(changes.on_answer, '{"approval": 1, "approved": true}'),
    "settle": Handler(private.on_settle),
    "quiet": Handler(private.on_quiet),
    "begin": Handler(private.on_begin),
    "ask_approval": Handler(private.on_ask_approval),
    "close_approval": Handler(private.on_close_approval),
    "take": Handler(private.on_take),
    "give_up": Handler(private.on_give_up),
    "adopt": Handler(private.on_adopt),
    "recover": Handler(private.on_recover, options=_SHARED),
    "get_cause": Handler(private.on_get_cause, options=_SHARED),
    "load": Handler(private.on_load, options={**_LOADS, "output_serde": BytesSerde()}),
}
PUBLIC: Final = [name for name, handler in HANDLERS.items() if handler.is_public]


def add_handlers(to: VirtualObject, agent: Settings) -> dict[str, Any]:
    """Add them to an agent's object; returns the public ones, for the SDK's typed clients."""
    added = {name: add_handler(to, agent, name, handler) for name, handler in HANDLERS.items()}
    return {name: added[name] for name in PUBLIC}


def add_task_handlers(to: Service, agent: AgentBody) -> None:
    """Add the handlers of an agent's tasks to their service."""

    @to.handler(input_serde=_OURS, output_serde=_OURS)
    async def run_task(ctx: Context, job: Any) -> Any:
        """Work on one turn of a session."""
        if not isinstance(job, dict):
            raise TerminalError("body: must be a JSON object, as the object sends it.", 400)
        return await work(agent, ctx, cast("types.Dispatch", job))

    @to.handler(
        input_serde=_JSON,
        output_serde=_JSON,
        invocation_retry_policy=delegate.RELAY_RETRY_POLICY,
    )
    async def relay(ctx: Context, job: Any) -> Any:
        """Send a message to another agent."""
        return await delegate.relay(ctx, job)

    @to.handler(idempotency_retention=timedelta(0))
    async def mark(ctx: Context) -> None:
        """Answer at once."""


def add_handler(to: VirtualObject, whose: Any, name: str, handler: Handler) -> Any:
    """Add one handler to an object.

    Args:
        to: The object.
        whose: What the handler is given first.
        name: Its name.
        handler: What it does.
    """
    takes, is_public = handler.body, handler.is_public

    async def handle(ctx: Any, body: Any) -> Any:
        if is_public and not ctx.key():
            raise TerminalError("session: the key is empty. Name the conversation.", 400)
        return await handler.does(whose, ctx, body if takes is None else takes(body))

    handle.__doc__ = handler.does.__doc__
    chosen: dict[str, Any] = {"input_serde": _JSON, "output_serde": _JSON, **handler.options}
    # When workers were away, they are asked again as soon as they are back.
    chosen.setdefault("invocation_retry_policy", RETRY_POLICY)
    added = to.handler(name, ingress_private=None if is_public else True, **chosen)(handle)
    io = to.handlers[name].handler_io
    describe(io.input_type, takes.schema if takes is not None and is_public else None)
    describe(io.output_type, (lambda: shape(handler.gives).schema) if is_public else None)
    return added


class _JsonSerde(Serde[Any]):
    # An error raised while the SDK reads the input would become a 500; ours are to be a 400.
    def __init__(self, *, ours: bool = False) -> None:
        self._ours = ours

    def deserialize(self, buf: bytes) -> Any:
        return parse(buf, lenient=self._ours)

    def serialize(self, obj: Any) -> bytes:
        return compact(obj) if self._ours else json.dumps(obj).encode()


_JSON: Final = _JsonSerde()
_OURS: Final = _JsonSerde(ours=True)
"""What our own tasks and handlers send: not all that an earlier version puts out is JSON."""

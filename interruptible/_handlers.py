"""The handlers that every agent has, in a table: Restate, the checks and the docs go by it."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple, cast

from restate import Context, Service, TerminalError, VirtualObject
from restate.serde import BytesSerde, Serde

from interruptible._options import MIN_RETENTION, RETRY_POLICY
from interruptible._session import changes, private, public, views
from interruptible._session.effects import Settings
from interruptible._session.storage import compact
from interruptible._task import delegate
from interruptible._task.body import AgentBody
from interruptible._task.life import work
from interruptible._wire import requests, types
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
    """A handler of the agent's object."""

    does: Callable[..., Awaitable[Any]]
    takes: Body[Any] | None = None
    """What callers send; only Restate can call a handler of which this is not said."""
    gives: Any = None
    options: Mapping[str, Any] = {}


_ATTACHED: Final[Any] = types.Outcome | types.TakenBack


HANDLERS: Final[Mapping[str, Handler]] = {
    "message": Handler(public.on_message, requests.MESSAGE_IN, types.Receipt),
    "cancel": Handler(public.on_cancel, requests.CANCEL_IN, types.Cancelled),
    "attach": Handler(views.on_attach, requests.ATTACH_IN, _ATTACHED, _SHARED),
    "get_history": Handler(views.on_get_history, requests.NOTHING_IN, types.History, _READS),
    "get_status": Handler(views.on_get_status, requests.NOTHING_IN, types.Status, _LOOKS),
    "get_turns": Handler(views.on_get_turns, requests.GET_TURNS_IN, types.Turns, _READS),
    "regenerate": Handler(public.on_regenerate, requests.REGENERATE_IN, types.Receipt),
    "rewind": Handler(public.on_rewind, requests.REWIND_IN, types.Rewound),
    "reset": Handler(public.on_reset, requests.RESET_IN, types.Cancelled),
    "fork": Handler(public.on_fork, requests.FORK_IN, types.Forked, _SHARED),
    "withdraw": Handler(changes.on_withdraw, requests.WITHDRAW_IN, types.Withdrawn),
    "replace": Handler(changes.on_replace, requests.REPLACE_IN, types.Receipt),
    "promote": Handler(changes.on_promote, requests.PROMOTE_IN, types.Receipt),
    "resume": Handler(public.on_resume, requests.RESUME_IN, types.Receipt),
    "edit": Handler(public.on_edit, requests.EDIT_IN, types.Receipt),
    "answer": Handler(changes.on_answer, requests.ANSWER_IN, types.Answered),
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
PUBLIC: Final = [name for name, handler in HANDLERS.items() if handler.takes is not None]


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
        invocation_retry_policy=delegate.RETRY_POLICY,
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
    takes, gives = handler.takes, handler.gives

    async def handle(ctx: Any, body: Any) -> Any:
        if takes is not None and not ctx.key():
            raise TerminalError("session: the key is empty. Name the conversation.", 400)
        return await handler.does(whose, ctx, body)

    handle.__doc__ = handler.does.__doc__
    chosen: dict[str, Any] = {"input_serde": _JSON, "output_serde": _JSON, **handler.options}
    # When workers were away, they are asked again as soon as they are back.
    chosen.setdefault("invocation_retry_policy", RETRY_POLICY)
    added = to.handler(name, ingress_private=takes is None or None, **chosen)(handle)
    io = to.handlers[name].handler_io
    describe(io.input_type, takes.schema if takes is not None else None)
    describe(io.output_type, (lambda: shape(gives).schema) if gives is not None else None)
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

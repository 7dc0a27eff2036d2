"""The virtual object of a stream: its handlers carry out the rules.

Its wire is that of `@restatedev/pubsub`: `pull`, `publish`, `subscribe` and `truncate`. Callers may
pull, and publish if they know the key of the turn at work; all else is for the agent and its tasks.
"""

import json
from datetime import timedelta
from typing import Annotated, Any, Final

import restate
from restate import ObjectContext, ObjectSharedContext, TerminalError, VirtualObject
from typing_extensions import NotRequired, Required, TypedDict

from interruptible._handlers import Handler, add_handler
from interruptible._options import MIN_RETENTION
from interruptible._session.storage import JSON, compact
from interruptible._stream import log as rules
from interruptible._stream.log import Batch, Change, Entry, Log, Page, Plan, Progress
from interruptible._wire.checks import Body
from interruptible._wire.types import Count, Rule, TurnNumber, within

MOST: Final = 1 << 20
"""Bytes of an answer to `pull`, about; what there is more is the next one's."""
TOLD: Final = 64 << 10
"""Bytes that each follower who waits is sent; of more it hears that there is something."""
WAIT: Final = 30.0
"""Seconds that `pull` waits for something new, unless it is asked for less."""


class PullIn(TypedDict, total=False):
    """What `pull` takes."""

    offset: Annotated[
        int,
        within(0),
        Rule({"description": "The id of the last event that is known; by default the newest's."}),
    ]
    wait: Annotated[
        float,
        Rule(
            {"description": "Seconds to wait for something new.", "minimum": 0, "maximum": WAIT},
            lambda x: None if 0 <= x <= WAIT else f"must be 0 to {WAIT:g}.",
        ),
    ]


class Pulled(TypedDict):
    """The answer to `pull`: events, and the offset to go on from; none if nothing new came."""

    messages: list[dict[str, Any]]
    nextOffset: Count


class SaidIn(TypedDict):
    """One event of what is published."""

    event: dict[str, Any]
    after: Count
    step: NotRequired[int | None]


class PublishIn(TypedDict, total=False):
    """What `publish` takes: what one attempt at a turn says."""

    key: Required[str]
    voice: Required[str]
    seq: Required[TurnNumber]
    events: Required[list[SaidIn]]
    gap: bool


class Published(TypedDict):
    """The answer to `publish`: how many of the events were taken; the rest is to come again."""

    taken: Count


class SubscribeIn(TypedDict):
    """What `subscribe` takes: an awakeable, and what it waits to be more than; `None`: no more."""

    id: str
    offset: NotRequired[Count | None]


class BeginIn(TypedDict):
    """What a task tells as its turn begins: the key that publishes for it."""

    turn: TurnNumber
    key: str


class TellIn(TypedDict):
    """What a task tells of its turn; `anew`, if these are all its events."""

    turn: TurnNumber
    events: list[dict[str, Any]]
    anew: NotRequired[bool]


class EndIn(TypedDict):
    """What the agent's object tells when a turn is on record."""

    turn: TurnNumber
    status: str
    messages: Count


class OfTurnIn(TypedDict):
    """A turn, and nothing else."""

    turn: TurnNumber


PULL_IN: Final = Body(PullIn, 'an offset: {"offset": 0}')
PUBLISH_IN: Final = Body(PublishIn)
SUBSCRIBE_IN: Final = Body(SubscribeIn)
BEGIN_IN: Final = Body(BeginIn)
TELL_IN: Final = Body(TellIn)
END_IN: Final = Body(EndIn)
OF_TURN_IN: Final = Body(OfTurnIn)


async def on_pull(stream: str, ctx: ObjectSharedContext, body: Any) -> Pulled:
    """The events after an offset, or the next ones; it waits for them, half a minute at most."""
    fields = PULL_IN(body)
    log = await _read(ctx)
    offset, wait = fields.get("offset", log.tail), fields.get("wait", WAIT)
    while not (answer := await _since(ctx, log, offset))["messages"] and wait:
        name, news = ctx.awakeable(serde=JSON)
        _send(ctx, stream, "subscribe", {"id": name, "offset": offset})
        done, _ = await restate.wait_completed(news, ctx.sleep(timedelta(seconds=wait)))
        if news not in done:
            _send(ctx, stream, "subscribe", {"id": name})
            break
        told: Pulled | None = await news
        if told is not None:
            return told
        log = await _read(ctx)
    return answer


async def on_publish(_: str, ctx: ObjectContext, body: Any) -> Published:
    """For the steps of a task: say what they say, piece by piece."""
    fields = PUBLISH_IN(body)
    say = [(x["after"], _event(x["event"]), x.get("step")) for x in fields["events"]]
    batch = Batch(fields["key"], fields["voice"], fields["seq"], say, fields.get("gap", False))
    log, waiting = await _known(ctx)
    plan = rules.publish(log, batch)
    if isinstance(plan, str):
        raise TerminalError(f"{plan} Only the task at work publishes.", 403)
    if isinstance(plan, int):
        return {"taken": plan}
    await _carry_out(ctx, plan, waiting)
    return {"taken": plan.log.took}


async def on_subscribe(_: str, ctx: ObjectContext, body: Any) -> None:
    """For `pull`: resolve an awakeable as soon as there is more than at an offset."""
    fields = SUBSCRIBE_IN(body)
    name, offset = fields["id"], fields.get("offset")
    log, waiting = await _known(ctx)
    if offset is None:
        ctx.set("followers", [x for x in waiting if x[1] != name], serde=JSON)
    elif offset == log.tail:
        ctx.set("followers", [*waiting, (offset, name)], serde=JSON)
    else:
        ctx.resolve_awakeable(name, None, serde=JSON)


async def on_truncate(_: str, ctx: ObjectContext, body: Any) -> None:
    """Forget the oldest events, as many."""
    if type(body) is not int or body < 0:
        raise TerminalError(f"body: must be how many events to forget, not {body!r}.", 400)
    _store(ctx, rules.truncate(await _read(ctx), body))


async def on_begin(_: str, ctx: ObjectContext, body: Any) -> None:
    """For a task: its turn begins."""
    fields = BEGIN_IN(body)
    log, waiting = await _known(ctx)
    await _carry_out(ctx, rules.begin(log, fields["turn"], fields["key"]), waiting)


async def on_tell(_: str, ctx: ObjectContext, body: Any) -> None:
    """For a task: what its turn did."""
    fields = TELL_IN(body)
    events = [_event(x) for x in fields["events"]]
    log, waiting = await _known(ctx)
    plan = rules.tell(log, fields["turn"], events, anew=fields.get("anew", False))
    await _carry_out(ctx, plan, waiting)


async def on_end(_: str, ctx: ObjectContext, body: Any) -> None:
    """For the agent's object: a turn is on record."""
    fields = END_IN(body)
    log, waiting = await _known(ctx)
    plan = rules.end(log, fields["turn"], fields["status"], fields["messages"])
    await _carry_out(ctx, plan, waiting)


async def on_note(_: str, ctx: ObjectContext, body: Any) -> None:
    """For the agent's object: what has become of the session."""
    fields = TELL_IN(body)
    log, waiting = await _known(ctx)
    say = [(fields["turn"], _event(x), None) for x in fields["events"]]
    await _carry_out(ctx, Plan(log, say, anew=fields.get("anew", False)), waiting)


async def on_words(_: str, ctx: ObjectContext, body: Any) -> list[tuple[str | None, str]]:
    """For a task: what an attempt at its turn had said that is no message yet."""
    turn = OF_TURN_IN(body)["turn"]
    return rules.words(await _entries(ctx, await _read(ctx)), turn)


def stream_object(stream: str) -> VirtualObject:
    """The object of a stream.

    Args:
        stream: Its name.
    """
    made = VirtualObject(
        stream,
        description="What the turns of a session do, as they do it. Its keys are sessions.",
        enable_lazy_state=True,
        journal_retention=timedelta(0),
        idempotency_retention=timedelta(0),
    )
    for name, handler in HANDLERS.items():
        add_handler(made, stream, name, handler)
    return made


HANDLERS: Final = {
    # It ends without having heard of its timer: see `_LOOKS` in `_handlers.py`.
    "pull": Handler(
        on_pull, PULL_IN, Pulled, {"kind": "shared", "idempotency_retention": MIN_RETENTION}
    ),
    "publish": Handler(on_publish, PUBLISH_IN, Published),
    "subscribe": Handler(on_subscribe),
    "truncate": Handler(on_truncate),
    "begin": Handler(on_begin),
    "tell": Handler(on_tell),
    "end": Handler(on_end),
    "note": Handler(on_note),
    "words": Handler(on_words),
}


# -- How. ------------------------------------------------------------------------------------------

Waiting = list[tuple[int, str]]
"""Who waits for something new: since which offset, and by which awakeable."""


def page_of_stream(first: int) -> str:
    """Where the page is that begins with this id."""
    return f"page/{first}"


async def _read(ctx: ObjectSharedContext | ObjectContext) -> Log:
    return _parsed(await ctx.get("log", serde=JSON))


async def _known(ctx: ObjectContext) -> tuple[Log, Waiting]:
    """The log and who waits, both asked for at once."""
    log = ctx.get("log", serde=JSON)
    waiting = ctx.get("followers", serde=JSON)
    found: Any = await waiting or []
    return _parsed(await log), [(offset, name) for offset, name in found]


async def _entries(ctx: ObjectSharedContext | ObjectContext, log: Log) -> list[Entry]:
    """All that a new follower is given."""
    kept = rules.since(log, 0).pages
    pages: list[Any] = [ctx.get(page_of_stream(page.first), serde=JSON) for page in kept]
    found = [Entry(*x) for page in pages for x in await page]
    return [*found, *log.recent]


async def _since(ctx: ObjectSharedContext, log: Log, offset: int) -> Pulled:
    while True:
        found = rules.since(log, offset)
        entries = await _some_entries(ctx, found.pages)
        if entries is None:  # the log was changed meanwhile
            log = await _read(ctx)
            continue
        last = entries[-1].id if entries else 0
        if not found.pages or last == found.pages[-1].last:
            entries, last = [*entries, *found.recent], log.tail
        return {"messages": rules.shown(log, found, entries), "nextOffset": last}


async def _some_entries(ctx: ObjectSharedContext, pages: list[Page]) -> list[Entry] | None:
    """The entries of these pages, or of as many as fit into an answer; `None` if one is gone."""
    entries: list[Entry] = []
    size = 0
    for page in pages:
        stored: Any = await ctx.get(page_of_stream(page.first), serde=JSON)
        if stored is None:
            return None
        entries += [Entry(*x) for x in stored]
        size += len(json.dumps(stored))
        if size > MOST:
            break
    return entries


async def _carry_out(ctx: ObjectContext, plan: Plan | None, waiting: Waiting) -> None:
    if plan is None:
        return
    change = rules.changed(plan, await _entries(ctx, plan.log) if plan.anew else ())
    _store(ctx, change)
    if not change.fresh or not waiting:
        return
    start = change.fresh[0].id - 1
    found = rules.Since(gap=False, start=start, pages=[], recent=[])
    events = rules.shown(change.log, found, change.fresh)
    told: Pulled | None = {"messages": events, "nextOffset": change.log.tail}
    if len(json.dumps(events)) > TOLD:
        told = None
    for _, name in waiting:
        ctx.resolve_awakeable(name, told, serde=JSON)
    ctx.clear("followers")


def _store(ctx: ObjectContext, change: Change) -> None:
    for first in change.drop:
        ctx.clear(page_of_stream(first))
    for first, entries in change.write.items():
        ctx.set(page_of_stream(first), entries, serde=JSON)
    ctx.set("log", _dumped_log(change.log), serde=JSON)


def _dumped_log(log: Log) -> dict[str, Any]:
    return {name: x for name, x in log._asdict().items() if x != Log._field_defaults[name]}


def _parsed(stored: Any) -> Log:
    fields: dict[str, Any] = stored or {}
    if "turns" in fields:
        fields["turns"] = tuple((turn, Progress(*x)) for turn, x in fields["turns"])
    if "pages" in fields:
        fields["pages"] = tuple(_page(*x) for x in fields["pages"])
    if "recent" in fields:
        fields["recent"] = tuple(Entry(*x) for x in fields["recent"])
    for name in ("answered", "silent"):
        if name in fields:
            fields[name] = tuple(fields[name])
    return Log(**fields)


def _page(first: int, last: int, period: int, live: list[str] | None) -> Page:
    return Page(first, last, period, None if live is None else tuple(live))


def _event(given: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(given.get("type"), str):
        raise TerminalError("events: one of them has no `type`.", 400)
    return given


def _send(ctx: ObjectSharedContext, stream: str, handler: str, body: Any) -> None:
    ctx.generic_send(stream, handler, compact(body), key=ctx.key())

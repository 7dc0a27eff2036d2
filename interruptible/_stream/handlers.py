"""The virtual object of a stream: its handlers carry out the rules.

Its wire is that of `@restatedev/pubsub`. Callers may pull, and publish if they know the key of the
turn at work; all else is for the agent and its tasks.
"""

import json
from datetime import timedelta
from typing import Any, Final

import restate
from restate import ObjectContext, ObjectSharedContext, TerminalError, VirtualObject

from interruptible._handlers import Handler, add_handler
from interruptible._options import MIN_RETENTION
from interruptible._session.storage import JSON, compact
from interruptible._stream import bodies, keeping
from interruptible._stream import log as rules
from interruptible._stream.keeping import Change
from interruptible._stream.log import Batch, Entry, Log, Page, Plan, Progress

MOST: Final = 1 << 20
"""Bytes of an answer to `pull`, about; what there is more is the next one's."""
TOLD: Final = 64 << 10
"""Bytes that each follower who waits is sent; of more it hears that there is something."""


async def on_pull(stream: str, ctx: ObjectSharedContext, fields: bodies.PullIn) -> bodies.Pulled:
    """The events after an offset, or the next ones; it waits for them, half a minute at most."""
    log = await _read(ctx)
    offset, wait = fields.get("offset", log.tail), fields.get("wait", bodies.MOST_WAIT)
    while not (answer := await _since(ctx, log, offset))["messages"] and wait:
        name, news = ctx.awakeable(serde=JSON)
        _send(ctx, stream, "subscribe", {"id": name, "offset": offset})
        done, _ = await restate.wait_completed(news, ctx.sleep(timedelta(seconds=wait)))
        if news not in done:
            _send(ctx, stream, "subscribe", {"id": name})
            break
        told: bodies.Pulled | None = await news
        if told is not None:
            return told
        log = await _read(ctx)
    return answer


async def on_publish(_: str, ctx: ObjectContext, fields: bodies.PublishIn) -> bodies.Published:
    """For the steps of a task: say what they say, piece by piece."""
    say = [(x["after"], bodies.said_in(x["event"]), x.get("step")) for x in fields["events"]]
    batch = Batch(fields["key"], fields["voice"], fields["seq"], say, fields.get("gap", False))
    log, waiting = await _known(ctx)
    plan = rules.publish(log, batch)
    if isinstance(plan, str):
        raise TerminalError(f"{plan} Only the task at work publishes.", 403)
    if isinstance(plan, int):
        return {"taken": plan}
    await _carry_out(ctx, plan, waiting)
    return {"taken": plan.log.took}


async def on_subscribe(_: str, ctx: ObjectContext, fields: bodies.SubscribeIn) -> None:
    """For `pull`: resolve an awakeable as soon as there is more than at an offset."""
    name, offset = fields["id"], fields.get("offset")
    log, waiting = await _known(ctx)
    if offset is None:
        left = [x for x in waiting if x[1] != name]
        ctx.set("followers", left, serde=JSON) if left else ctx.clear("followers")
    elif offset == log.tail:
        ctx.set("followers", [*waiting, (offset, name)], serde=JSON)
    else:
        ctx.resolve_awakeable(name, None, serde=JSON)


async def on_truncate(_: str, ctx: ObjectContext, body: Any) -> None:
    """Forget the oldest events, as many."""
    if type(body) is not int or body < 0:
        raise TerminalError(f"body: must be how many events to forget, not {body!r}.", 400)
    _store(ctx, keeping.truncate(await _read(ctx), body))


async def on_turn_begins(_: str, ctx: ObjectContext, fields: bodies.BeginIn) -> None:
    """For a task: its turn begins."""
    log, waiting = await _known(ctx)
    await _carry_out(ctx, rules.turn_begins(log, fields["turn"], fields["key"]), waiting)


async def on_tell(_: str, ctx: ObjectContext, fields: bodies.TellIn) -> None:
    """For a task: what its turn did."""
    events = [bodies.told_in(x) for x in fields["events"]]
    log, waiting = await _known(ctx)
    plan = rules.tell(log, fields["turn"], events, anew=fields.get("anew", False))
    await _carry_out(ctx, plan, waiting)


async def on_end(_: str, ctx: ObjectContext, fields: bodies.EndIn) -> None:
    """For the agent's object: a turn is on record."""
    log, waiting = await _known(ctx)
    plan = rules.end(log, fields["turn"], fields["status"], fields["messages"])
    await _carry_out(ctx, plan, waiting)


async def on_note(_: str, ctx: ObjectContext, fields: bodies.TellIn) -> None:
    """For the agent's object: what has become of the session."""
    log, waiting = await _known(ctx)
    say = [(fields["turn"], bodies.told_in(x), None) for x in fields["events"]]
    anew = fields.get("anew", False)
    await _carry_out(ctx, Plan(log, say, anew, keeps_live=True), waiting)


async def on_words(
    _: str, ctx: ObjectContext, fields: bodies.WordsIn
) -> list[tuple[str | None, str]]:
    """For a task: what an attempt at its turn had said that is no message yet."""
    ended = {*fields.get("ended", [])}
    said = [x for x in await _entries(ctx, await _read(ctx)) if x.step not in ended]
    return keeping.live_words(said, fields["turn"])


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
    for name, handler in STREAM_HANDLERS.items():
        add_handler(made, stream, name, handler)
    return made


STREAM_HANDLERS: Final = {
    # It ends without having heard of its timer: see `_LOOKS` in `_handlers.py`.
    "pull": Handler(
        on_pull,
        'an offset: {"offset": 0}',
        {"kind": "shared", "idempotency_retention": MIN_RETENTION},
    ),
    "publish": Handler(on_publish, is_open=True),
    "subscribe": Handler(on_subscribe),
    "truncate": Handler(on_truncate),
    "begin": Handler(on_turn_begins),
    "tell": Handler(on_tell),
    "end": Handler(on_end),
    "note": Handler(on_note),
    # It is sent and attached to, so its answer has to be kept.
    "words": Handler(on_words, options={"journal_retention": MIN_RETENTION}),
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
    kept = keeping.since(log, 0).pages
    pages: list[Any] = [ctx.get(page_of_stream(page.first), serde=JSON) for page in kept]
    found = [Entry(*x) for page in pages for x in await page]
    return [*found, *log.recent]


async def _since(ctx: ObjectSharedContext, log: Log, offset: int) -> bodies.Pulled:
    while True:
        found = keeping.since(log, offset)
        entries = await _some_entries(ctx, found.pages)
        if entries is None:  # the log was changed meanwhile
            log = await _read(ctx)
            continue
        last = entries[-1].id if entries else 0
        if not found.pages or last == found.pages[-1].last:
            entries, last = [*entries, *found.recent], log.tail
        return {"messages": keeping.shown(log, found, entries), "nextOffset": last}


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
    change = keeping.change_of(plan, await _entries(ctx, plan.log) if plan.anew else ())
    _store(ctx, change)
    if not change.fresh or not waiting:
        return
    start = change.fresh[0].id - 1
    found = keeping.Since(gap=False, start=start, pages=[], recent=[])
    events = keeping.shown(change.log, found, change.fresh)
    told: bodies.Pulled | None = {"messages": events, "nextOffset": change.log.tail}
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
    if "answered" in fields:
        fields["answered"] = tuple((call, told) for call, told in fields["answered"])
    for name in ("silent", "live", "closed"):
        if name in fields:
            fields[name] = tuple(fields[name])
    return Log(**fields)


def _page(first: int, last: int, period: int, only: list[str] | None) -> Page:
    return Page(first, last, period, None if only is None else tuple(only))


def _send(ctx: ObjectSharedContext, stream: str, handler: str, body: Any) -> None:
    ctx.generic_send(stream, handler, compact(body), key=ctx.key())

"""What shows a session, and what waits for its turns: public handlers that are shared."""

from typing import cast

from restate import ObjectSharedContext, TerminalError

from interruptible._session import approvals, effects, pending, reading, storage
from interruptible._session.effects import Settings, require, require_message
from interruptible._session.reading import Moment, read_moment, read_record, read_steered
from interruptible._session.record import Live, Record
from interruptible._session.storage import JSON
from interruptible._session.turns import whole_conversation, with_resumed
from interruptible._wire import requests
from interruptible._wire import types as wire
from interruptible._wire.checks import Refusal
from interruptible._wire.native import neutral
from interruptible._wire.said import as_shown, ids_of, metadata_of


async def on_attach(
    agent: Settings, ctx: ObjectSharedContext, fields: requests.AttachIn
) -> wire.Outcome | wire.TakenBack:
    """Wait for the outcome of a turn, by default the newest, or of that which answers a message."""
    turn, message = fields.get("turn"), fields.get("message")
    record = await read_record(ctx)
    if message is not None:
        if turn is not None:
            raise Refusal("message: cannot be asked for together with turn. Send one of them.")
        return await _answer_to(agent, ctx, record, message)
    if turn is None:
        turn = max(1, record.next - 1)
    require(record, turn)
    return await effects.recorded_outcome(agent, ctx, record, turn)


async def _answer_to(
    agent: Settings, ctx: ObjectSharedContext, record: Record, message: int
) -> wire.Outcome | wire.TakenBack:
    """Wait for the turn that answers a message; it may become another one's meanwhile."""
    require_message(record, message)
    while True:
        turn = await _turn_of(ctx, record, message)
        if turn is None:
            return {"status": "withdrawn"}
        outcome = await effects.recorded_outcome(agent, ctx, record, turn)
        record = await read_record(ctx)
        if await _turn_of(ctx, record, message) == turn:
            return outcome


async def _turn_of(ctx: ObjectSharedContext, record: Record, message: int) -> int | None:
    """The turn that has a message, the newest if it was answered again; none if it is withdrawn.

    Raises:
        TerminalError: 404; it is on record no more.
    """
    live = record.turn_of(message)
    if live is not None:
        return live
    goes_on: dict[int, int] = {}
    discarded: int | None = None
    withdrawn = False
    async for turn in Moment(ctx, record).each_newest_first():
        number, said = turn["turn"], turn["messages"]
        mine = [*turn["input"], *(said[x] for x in turn.get("steered", []))]
        is_discarded = turn.get("discarded", False)
        if "resumes" in turn and not is_discarded:
            goes_on.setdefault(turn["resumes"], number)
        withdrawn = withdrawn or message in ids_of(turn.get("withdrawn", []))
        if message not in ids_of(mine):
            continue
        if not is_discarded:
            while number in goes_on:
                number = goes_on[number]
            return number
        discarded = discarded or number
    if discarded is None and not withdrawn:
        raise TerminalError(f"message: {message} was removed from this session.", 404)
    return None if withdrawn else discarded  # it was taken back when it was to be answered again


async def on_get_history(
    agent: Settings, ctx: ObjectSharedContext, _: requests.NothingIn
) -> wire.History:
    """The conversation: what was said and put out, in the order of the turns."""
    session = await read_moment(ctx)
    instead = "Read the conversation with get_turns, which gives it in parts."
    last = session.record.next - 1
    turns = with_resumed(await conversation(session, last, reading.MAX_ANSWER, instead))
    notes = (agent.interruption_note, agent.resume_note)
    return whole_conversation(map(neutral, turns), *notes)


async def on_get_turns(
    _: Settings, ctx: ObjectSharedContext, fields: requests.GetTurnsIn
) -> wire.Turns:
    """The record of the turns, discarded ones too, a page at a time from the newest on."""
    before, limit = fields.get("before"), fields.get("limit") or wire.MAX_TURNS
    session = await read_moment(ctx)
    newest = session.record.next
    stop = newest if before is None else min(before, newest)
    start = max(1, stop - limit)
    turns, more = await session.turns(range(start, stop), reading.MAX_ANSWER)
    if more:
        start = turns[0]["turn"]
    return {"turns": [neutral(x, as_shown) for x in turns], "before": start if start > 1 else None}


async def on_get_status(
    agent: Settings, ctx: ObjectSharedContext, _: requests.NothingIn
) -> wire.Status:
    """Whether the session is at work, and on what.

    The record alone would call a turn live whose task was killed, so each task is asked for.
    """
    record = await read_record(ctx)
    looked = await effects.look(agent, ctx, record)
    for x, end in looked:
        if end is not None:
            effects.send_recover(agent, ctx, x.turn)
    live = tuple(x for x, end in looked if end is None or end.reported or end.unknown)
    seen = record._replace(live=live)
    busy = seen.at_work
    return {
        "status": "idle" if busy is None else "running",
        "turn": None if busy is None else busy.turn,
        "task_id": None if busy is None else busy.task_id,
        "live": [_shown_live(x) for x in live],
        "steered": len(seen.untaken),
        "pending": await _pending(ctx, seen),
        "waiting_for": await _waiting_for(ctx, seen),
    }


async def _pending(ctx: ObjectSharedContext, record: Record) -> list[wire.PendingMessage]:
    """What no model has read, with what it says."""
    found = pending.pending(record)
    said = {x.id: message for x, message in await read_steered(ctx, record.untaken)}
    for turn in {x.turn for x in found if x.addition is None}:
        stored = await storage.live_turn(ctx, record, turn)
        said |= {number: x for x in stored["input"] for number in ids_of([x])}
    messages: list[wire.PendingMessage] = []
    for x in found:
        if x.id in said:  # else it is settled meanwhile
            content = said[x.id]["content"]
            messages.append({"id": x.id, "turn": x.turn, "kind": x.kind, "content": content})
            if metadata := metadata_of(said[x.id]):
                messages[-1]["metadata"] = dict(metadata)
    return messages


async def _waiting_for(ctx: ObjectSharedContext, record: Record) -> list[wire.WaitingApproval]:
    """The approvals that turns wait for, with what they ask."""
    waits = approvals.waiting_approvals(record)
    reading_them = [(x, ctx.get(storage.approval_key(x.id), JSON)) for x in waits]
    asked = [(x, await what) for x, what in reading_them]
    told = [{"id": x.id, "turn": x.turn, **what} for x, what in asked if what is not None]
    return cast("list[wire.WaitingApproval]", told)


def _shown_live(x: Live) -> wire.LiveTurn:
    told: wire.LiveTurn = {"turn": x.turn, "task_id": x.task_id, "cancelled": x.cancelled}
    if x.given_up:
        told["given_up"] = True
    if x.after_step:
        told["after_step"] = True
    return told


async def conversation(session: Moment, last: int, most: int, instead: str) -> list[wire.Turn]:
    """All turns of the conversation up to one; or a refusal, which says what to do instead."""
    turns, more = await session.turns(range(1, last + 1), most, discarded=False)
    if more:
        raise TerminalError(f"The turns have more than {most // 1024**2} MiB. {instead}", 413)
    return turns

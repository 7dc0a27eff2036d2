"""What turns make: the record of one that has ended, and the conversation. Only pure functions."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

from interruptible._session.record import Addition, Live
from interruptible._wire.output import told_to_model
from interruptible._wire.said import said_again
from interruptible._wire.types import Message, TaskOutcome, Turn

TurnNote = Callable[[Turn], "str | Message | None"]
Added = tuple[Addition, Message]
"""A steered message and what it says."""

_AS_TOLD: Final = ("error", "partial", "cut_short", "cut_off", "not_begun", "never_began")
"""What the record of a turn has of its outcome as the task told it, if it did."""


def whole_conversation(
    turns: Iterable[Turn], interruption_note: TurnNote, resume_note: TurnNote
) -> list[Message]:
    """The conversation that the turns make, in their order, with the notes on how some ended."""
    messages: list[Message] = []
    for turn in turns:
        if turn.get("discarded"):
            continue
        said = [*turn["input"], *turn["messages"]]
        if turn.get("resumed"):
            said = [*said[:-1], *map(_without_end_space, said[-1:])]
            said += told_to_model("resume_note", resume_note(turn), "user")
        elif turn["status"] == "interrupted":
            said += told_to_model("interruption_note", interruption_note(turn), "user")
        messages += said
    return messages


def with_resumed(turns: Sequence[Turn], resumes: int | None = None) -> list[Turn]:
    """The turns of a conversation, with a mark at those that were resumed.

    Args:
        turns: The turns.
        resumes: What the turn that comes after them goes on with, if with one.
    """
    counts = (x for x in turns if not (x.get("discarded") or x.get("never_began")))
    resumed = {resumes, *(x.get("resumes") for x in counts)} - {None}
    return [{**x, "resumed": True} if x["turn"] in resumed else x for x in turns]


def _without_end_space(message: Message) -> Message:
    """What the model has said, to go on with: Anthropic refuses it if there is space at its end."""
    content: Any = message.get("content")
    if message.get("role") != "assistant" or message.get("tool_calls"):
        return message
    if isinstance(content, str):
        return {**message, "content": content.rstrip()} if content != content.rstrip() else message
    parts: list[Any] = [*content] if isinstance(content, list) else []
    last: Any = parts[-1] if parts else None
    text: Any = cast("Message", last).get("text") if isinstance(last, dict) else None
    if not isinstance(text, str) or text == text.rstrip():
        return message
    return {**message, "content": [*parts[:-1], {**last, "text": text.rstrip()}]}


def asked(turn: Turn) -> list[Message]:
    """All that the user said in a turn."""
    steered = turn.get("steered", [])
    return [*turn["input"], *(turn["messages"][place] for place in steered)]


def finished_turn(turn: Turn, outcome: TaskOutcome, kept: Iterable[Added]) -> Turn:
    """The record of a turn that has ended.

    Args:
        turn: The record of the live turn, without what was steered at it.
        outcome: How it ended.
        kept: What was steered at it and stays with it, taken or not.
    """
    taken, kept = dict(outcome.get("taken", [])), list(kept)
    others = [(x._replace(taken=False), said) for x, said in kept if x.number not in taken]
    joined, left = _split(turn["turn"], others)
    said, cut = list(outcome["messages"]), len(outcome["messages"]) - outcome.get("partial", 0)
    for x, message in kept:
        place = taken.get(x.number, len(said))
        if place < len(said):
            said[place] = said_again(said[place], message)
    ended: dict[str, Any] = {
        **turn,
        "status": outcome["status"],
        "input": with_joined(turn["turn"], turn["input"], joined),
        "messages": [*said[:cut], *left, *said[cut:]],
        **{name: value for name, value in outcome.items() if name in _AS_TOLD},
    }
    if steered := [*taken.values(), *range(cut, cut + len(left))]:
        ended["steered"] = steered
    if outcome["status"] == "interrupted":
        ended.setdefault("reason", "cancelled")
    else:
        ended.pop("reason", None)
    return cast("Turn", ended)


def as_live(turn: Turn, live: Live, steered: Sequence[Added] = ()) -> Turn:
    """The record of a live turn, with what the session knows of it, and what was steered at it."""
    shown: Turn = {**turn, "task_id": live.task_id}
    if live.cancelled is not None:
        shown["reason"] = live.cancelled
    if live.given_up:
        shown["given_up"] = True
    joined, messages = _split(live.turn, [x for x in steered if x[0].turn == live.turn])
    shown["input"] = with_joined(live.turn, turn["input"], joined)
    if messages:
        shown["messages"], shown["steered"] = messages, list(range(len(messages)))
    return shown


def with_joined(turn: int, begun: Sequence[Message], joined: Iterable[Added]) -> list[Message]:
    """All messages that a turn begins with, in the order in which they were accepted."""
    joined = list(joined)
    earlier = [message for x, message in joined if x.at <= turn]
    return [*earlier, *begun, *(message for x, message in joined if x.at > turn)]


def _split(turn: int, steered: Sequence[Added]) -> tuple[list[Added], list[Message]]:
    """What belongs to the messages that a turn began with, and what came later.

    What passed on from an earlier turn stands before this one's own message, in the order in which
    they were accepted, unless the turn has taken it while it worked.
    """

    def is_first(x: Addition) -> bool:
        return x.joined or (not x.taken and x.at <= turn)

    joined = [(x, said) for x, said in steered if is_first(x)]
    return joined, [said for x, said in steered if not is_first(x)]

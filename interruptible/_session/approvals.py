"""The rules of approvals: what a turn may not do before somebody has said yes.

| state | in the record | leaves it when                                                      |
| ----- | ------------- | ------------------------------------------------------------------- |
| waits | an `Asked`    | it is answered, its time is over, or its turn is cancelled, or ends |
| over  | its id alone  | never                                                               |

The object decides: an answer that it has taken in reaches the task. When the time of one is over,
its task asks the object, which has an answer by then, or takes none any more.
"""

from interruptible._session.record import Asked, Record, Refused


def ask_step(record: Record, turn: int, number: int) -> tuple[Record, Asked | None]:
    """A turn asks for something; one that is cancelled asks for nothing any more."""
    if not record.goes_on(turn):
        return record, None
    asks = Asked(record.asked + 1, turn, number)
    return record._replace(asked=asks.id, approvals=(*record.approvals, asks)), asks


def find_approval(record: Record, approval: int) -> Asked | Refused:
    """An approval that waits; or why it cannot be answered."""
    found = next((x for x in record.approvals if x.id == approval), None)
    if found is not None and record.goes_on(found.turn):
        return found
    if not 1 <= approval <= record.asked:
        known = f"there were 1 to {record.asked}" if record.asked else "none was asked for"
        return Refused(404, f"approval: there is no approval {approval} in this session; {known}.")
    return is_over(approval)


def is_over(approval: int) -> Refused:
    """Why an approval cannot be answered that nobody waits for any more."""
    return Refused(
        410,
        f"approval: {approval} is over: it was answered, its time or its turn has ended, or that "
        "was interrupted. Look at what waits.",
    )


def waiting_approvals(record: Record) -> tuple[Asked, ...]:
    """Those that can be answered."""
    return tuple(x for x in record.approvals if record.goes_on(x.turn))


def close_step(record: Record, approval: Asked) -> Record:
    """Nobody can answer it any more."""
    return record._replace(approvals=tuple(x for x in record.approvals if x != approval))

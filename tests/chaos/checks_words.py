"""Partial answers: the words of a step that was cut off. What they decide of I6."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from .records import Line
from .view import SessionView, Violation

SPOKEN = re.compile(r"(?:\d+/\d+/\w+ )+")
"""A text of words: the number of each, the turn and the attempt that said it."""
STREAM = re.compile(r"stream(x\d+)?")
"""The step that says them; begun again in the same attempt, it says so."""


def words_stand_where_they_were_said(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I6: the words of a turn that was cut off stand in it, and only there: all that were said.

    So do those that were cut off by a message that was to be read at once.

    Allowed: those of an attempt that died are lost, or the last of them, which it had not streamed.
    """
    said: dict[tuple[int, str], list[Line]] = defaultdict(list)
    for line in view.lines:
        if STREAM.fullmatch(line.step):
            said[line.turn, line.attempt + line.step.removeprefix("stream")].append(line)
    for text in (*_standing(view, said, count), *_missing(view, said, count)):
        yield Violation("I6", view.agent, view.session, text)


def _standing(
    view: SessionView, said: dict[tuple[int, str], list[Line]], count: Counter[str]
) -> Iterator[str]:
    for number, turn in view.turns.items():
        if number <= view.copied:
            continue  # said in another session
        partial = turn.get("partial", 0)
        if partial and turn["status"] != "interrupted":
            yield f"turn {number} {turn['status']}, and has words that were cut off"
        short = turn.get("cut_short", [])
        whole = len(turn["messages"]) - partial
        texts = [str(message["content"]) for message in turn["messages"]]
        for place, text in enumerate(texts):
            if not SPOKEN.fullmatch(text):
                if place >= whole or place in short:
                    yield f"turn {number} was cut off in {text!r}, which no step has said"
                continue
            count["I6"] += 1
            _, by, attempt = text.split()[0].split("/")
            lines = said.get((int(by), attempt), [])
            if int(by) != number:
                yield f"words of turn {by} stand in turn {number}: {text!r}"
            died = lines != [] and _died(view, lines)
            if text != _words(lines) and not (died and _words(lines).startswith(text)):
                yield f"turn {number} has {text!r}, and what was said is {_words(lines)!r}"
            if (
                place < whole
                and place not in short
                and "done" not in [line.event for line in lines]
            ):
                yield f"turn {number} has {text!r} as a whole answer, and it was cut off"
            if texts.count(text) > 1:
                yield f"turn {number} has {text!r} more than once"


def _missing(
    view: SessionView, said: dict[tuple[int, str], list[Line]], count: Counter[str]
) -> Iterator[str]:
    attempts: dict[int, set[str]] = defaultdict(set)
    for line in view.lines:
        attempts[line.turn].add(line.attempt)
    for (number, _), lines in said.items():
        turn = view.turns.get(number)
        cut = lines[-1].event == "aborted" and len(attempts[number]) == 1
        if turn is None or turn["status"] in ("killed", "running") or not cut:
            continue
        if not _words(lines):
            continue
        count["I6"] += 1
        if _words(lines) not in [message["content"] for message in turn["messages"]]:
            yield f"turn {number} was cut off when it had said {_words(lines)!r}, which is lost"


def _died(view: SessionView, lines: list[Line]) -> bool:
    """Whether another attempt at the turn came after the one that said this."""
    first = lines[0]
    starts = [x for x in view.lines if x.turn == first.turn and x.event == "start"]
    return any(x.attempt != first.attempt and x.at > first.at for x in starts)


def _words(lines: list[Line]) -> str:
    return "".join(word for line in lines if line.event == "said" for word in line.seen)

"""The results as tables, in the part of a page that lies between two marks, and as JSON."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.benchmarks import report
from tests.benchmarks.report import DOCS, pipes

from .figures import Samples, counted, of, timed, times
from .verdicts import verdicts

PAGE: Final = DOCS / "how-it-compares.md"
MARKS: Final = "<!-- peers: written by `make bench-peers` -->", "<!-- end of peers -->"

Table = list[list[str]]

NEXT: Final = ("acknowledged", "cut off", "next call")


def machine() -> dict[str, str]:
    """Where it is measured, and what."""
    command = " ".join(["python -m tests.peers", *sys.argv[1:]])
    return {**report.machine(), "command": command}


def load() -> str:
    """How busy the machine has been, in the last 1, 5 and 15 minutes."""
    return " ".join(f"{each:.1f}" for each in os.getloadavg())


def contenders(about: Sequence[Mapping[str, Any]]) -> Table:
    """What was compared."""
    rows = [
        [
            each["name"],
            ", ".join(f"{name} {version}" for name, version in each["versions"].items()),
            each["installed"],
            each["setting"],
        ]
        for each in about
    ]
    return [["", "versions", "installed on", "how it is used"], *rows]


def interrupted(samples: Samples) -> Table:
    """How long it takes until a message is acknowledged, the call cut off, and the next begun."""
    head = ["", "message acknowledged", "call cut off", "next call", "calls at once"]
    rows = [
        [side, *(timed(samples, side, name) for name in NEXT), counted(samples, side, "at once")]
        for side in samples
    ]
    return [head, *rows]


def cleanup(samples: Samples) -> Table:
    """The same, with a cleanup."""
    head = [
        "",
        *("message acknowledged", "one in the cleanup acknowledged", "call cut off"),
        *("it ran to its end", "calls begun before its end", "its end to the last one's call"),
    ]
    rows = []
    for side in samples:
        early = any(x is not None and x < 0 for x in of(samples, side, "its end to next call"))
        after = "before its end" if early else timed(samples, side, "its end to next call")
        rows.append(
            [
                side,
                *(timed(samples, side, x) for x in ("acknowledged", "acknowledged in cleanup")),
                timed(samples, side, "cut off"),
                times(samples, side, "ran to its end"),
                counted(samples, side, "calls before its end"),
                after,
            ]
        )
    return [head, *rows]


def burst(samples: Samples) -> Table:
    """What a burst costs."""
    names = ("begun", "paid to the end", "at once", "kept")
    head = [
        "",
        *("calls begun", "calls paid to the end", "calls at once"),
        *("messages in the history", "the last one is answered"),
    ]
    rows = [
        [
            side,
            *(counted(samples, side, name) for name in names),
            times(samples, side, "the last is answered"),
        ]
        for side in samples
    ]
    return [head, *rows]


def history(samples: Samples) -> Table:
    """What the model is sent next."""
    names = ("in mid-stream", "in step 2 of 3")
    rows = [
        [side, *(" · ".join(taken[0][name]) if "error" not in taken[0] else "" for name in names)]
        for side, taken in samples.items()
    ]
    return [["", *(f"interrupted {name}" for name in names)], *rows]


def queued(samples: Samples) -> Table:
    """How long a message waits that may begin."""
    names = ("acknowledged", "end to next call")
    rows = [[side, *(timed(samples, side, name) for name in names)] for side in samples]
    return [["", "message acknowledged", "end of one call to the next"], *rows]


def killed(samples: Samples, later: Samples) -> Table:
    """What is left after a SIGKILL."""
    head = [
        "",
        *("the message is answered", "messages in the history, of 3"),
        *("interrupted call begins again", "up again", "from then to the answer, of 1 s"),
    ]
    both = [
        *((side, side, samples) for side in samples),
        *((side, f"{side}, after it has saved", {**samples, **later}) for side in later),
    ]
    rows = [
        [
            title,
            times(some, side, "answered"),
            counted(some, side, "kept"),
            times(some, side, "begun again"),
            timed(some, side, "up again"),
            timed(some, side, "answered"),
        ]
        for side, title, some in both
    ]
    return [head, *rows]


def tables(given: Mapping[str, Samples]) -> list[tuple[str, Table]]:
    """All of them, with what each is of."""
    return [
        ("What each does right", verdicts(given)),
        ("A message interrupts a call that streams", interrupted(given["interrupt"])),
        ("The same, with a cleanup of 5 s", cleanup(given["cleanup"])),
        ("Ten messages in a burst, 20 ms apart, calls of 1 s", burst(given["burst"])),
        ("What the model is sent next", history(given["history"])),
        ("A message that waits for the turn at work", queued(given["queue"])),
        ("After 200 messages of 20 KB", interrupted(given["long"])),
        (
            "SIGKILL of everything, 10 ms after a message was acknowledged",
            killed(given["killed"], given["killed later"]),
        ),
    ]


def markdown(results: Mapping[str, Any]) -> str:
    """All results as Markdown."""
    parts = [
        "\n".join(f"- {name}: {value}" for name, value in results["about"].items()),
        pipes(contenders(results["contenders"])),
    ]
    for title, table in tables(results["samples"]):
        parts += [f"### {title}", pipes(table)]
    return "\n\n".join(parts)


def write(results: Mapping[str, Any]) -> None:
    """Write what `docs/` has of the results."""
    file = DOCS / "benchmarks" / "peers.json"
    file.write_text(f"{json.dumps(rounded(results), indent=1)}\n")
    begin, end = MARKS
    marked = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    written = f"{begin}\n\n{markdown(results)}\n\n{end}"
    if PAGE.exists():
        PAGE.write_text(marked.sub(lambda _: written, PAGE.read_text()))


def again(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results that are there, with some that were measured once more."""
    there = json.loads((DOCS / "benchmarks" / "peers.json").read_text())
    names, about = ", ".join(results["samples"]), results["about"]
    how = f"{about['when']}, commit {about['commit']}, load before {about['load before']}"
    there["about"][f"{names}, measured again"] = how
    return {**there, "samples": {**there["samples"], **results["samples"]}}


def rounded(value: Any) -> Any:
    """Four digits, which is more than any of this is known to."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return value

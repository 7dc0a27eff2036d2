"""What a run leaves behind, and all that the checker reads.

Three append-only files of JSON lines: what clients asked and were answered (with the faults among
it, as in Jepsen), what the steps did, and at the end what Restate and the sessions say. Times are
seconds since 1970, of one machine's clock.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

REFUSED = frozenset({400, 404, 410, 412, 413, 423, 429})
"""Statuses that say: refused, and nothing has changed."""

SAYS = ("message", "edit")
"""The requests that say something new."""
CHANGES = ("withdraw", "replace", "promote")
"""The requests that change a message that is pending."""


@dataclass
class Op:
    """A request of a client; `status` is `None` when nobody knows what became of it."""

    id: int
    agent: str
    session: str
    name: str
    body: Any
    asked: float
    answered: float | None = None
    status: int | None = None
    answer: Any = None

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def unknown(self) -> bool:
        """It may have happened, or not: no answer, or one that says that it was broken off."""
        return not self.ok and self.status not in REFUSED

    @property
    def said(self) -> str | None:
        """The token of the message that it says, which no other message has."""
        if self.name not in SAYS:
            return None
        return token(self.body["content"])


@dataclass
class Line:
    """What a step did. `attempt` is one execution of the body; a task may have several."""

    at: float
    agent: str
    session: str
    turn: int
    task: str
    attempt: str
    worker: int
    version: str
    event: str
    """`start`, `end` of the body; `begin`, `said`, `done`, `failed`, `aborted` of a step; …"""
    step: str = ""
    phase: str = "body"
    """`body`, or `interrupt`, `error`, `exit` for a step of cleanup."""
    seen: list[str] = field(default_factory=list)
    """The conversation at `start`; what was taken at `took`; a word at `said`; the other's message
    at `delegate`."""
    keys: list[str] = field(default_factory=list)
    """What else than its content each of those messages may have had: the names of all fields."""
    noted: list[Any] = field(default_factory=list)
    """What the senders noted of a turn's own messages, at `start`; the answer, at `answered`."""
    steerable: bool = False
    """Whether a message that is to be read at once ends the step."""


@dataclass
class Told:
    """An event, as a follower of a session got it; or `record`: what it has read after a gap."""

    at: float
    agent: str
    session: str
    follower: int
    event: dict[str, Any]


@dataclass
class Fault:
    """What the run did to the system, and until when it was in force."""

    kind: str
    target: str
    begun: float
    ended: float | None = None


@dataclass
class Invocation:
    """A task, as Restate tells of it."""

    id: str
    service: str
    status: str
    result: str | None = None
    failure: str | None = None
    ended: float | None = None

    @property
    def outcome(self) -> str | None:
        """The outcome of a turn that has this task."""
        if self.status != "completed":
            return None
        if self.result == "success":
            return "completed"
        failure = self.failure or ""
        if "409" in failure and "cancelled" in failure:
            return "interrupted"
        if "409" in failure and "killed" in failure:
            return "killed"
        return "failed"


@dataclass
class Final:
    """A session when all is over; `turns` is `None` where there is no record of turns."""

    agent: str
    session: str
    status: Any
    turns: list[dict[str, Any]] | None
    history: list[dict[str, Any]]


@dataclass
class Records:
    """Everything that is known of a run."""

    ops: list[Op] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    invocations: list[Invocation] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    callers: dict[str, str] = field(default_factory=dict)
    """By which invocation each was sent; Restate's kill takes along what an invocation has sent."""
    cleanup_timeout: dict[str, float] = field(default_factory=dict)
    """Of each agent, in seconds; 30 where none is named."""
    debounce: dict[str, float] = field(default_factory=dict)
    """Of each agent that waits for quiet, in seconds."""
    merges: list[str] = field(default_factory=list)
    """The agents of which a message joins the turn that waits for quiet."""
    told: list[Told] = field(default_factory=list)
    """What followers got, until nothing more came."""


def token(content: Any) -> str:
    """The first word of a message, which sets it apart."""
    return str(content).split(" ", 1)[0]


class Appender:
    """A file of JSON lines, each one write, so that many processes may append to it."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def add(self, **entry: Any) -> None:
        os.write(self._fd, json.dumps({"at": time.time(), **entry}).encode() + b"\n")

    def close(self) -> None:
        os.close(self._fd)


class History:
    """The clients' file: each request before it goes out, each answer when it is in."""

    def __init__(self, path: Path) -> None:
        self._file = Appender(path)
        self._next = 0
        self.ops: list[Op] = []
        self.faults: list[Fault] = []

    def ask(self, agent: str, session: str, name: str, body: Any) -> Op:
        op = Op(self._next, agent, session, name, body, asked=time.time())
        self._next += 1
        self.ops.append(op)
        entry = asdict(op)
        self._file.add(kind="ask", **{k: entry[k] for k in ("id", "agent", "session", "name")})
        return op

    def answer(self, op: Op, status: int | None, answer: Any) -> None:
        op.answered, op.status, op.answer = time.time(), status, answer
        self._file.add(kind="answer", **asdict(op))

    def fault(self, kind: str, target: str) -> Fault:
        fault = Fault(kind, target, time.time())
        self.faults.append(fault)
        self._file.add(kind="fault", what=kind, target=target)
        return fault

    def over(self, fault: Fault) -> None:
        fault.ended = time.time()
        self._file.add(kind="fault", what=fault.kind, target=fault.target, over=True)


def read_lines(path: Path) -> list[Line]:
    """The steps' file, without the line that is being written: a reader may see half of a write."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    return [Line(**json.loads(text)) for text in whole.splitlines()]


def dump(records: Records, path: Path) -> None:
    """Write everything into one file, for `check` to read again."""
    path.write_text(json.dumps(asdict(records)))


def load(path: Path) -> Records:
    """Read what `dump` has written."""
    stored = json.loads(path.read_text())
    return Records(
        [Op(**x) for x in stored["ops"]],
        [Line(**x) for x in stored["lines"]],
        [Fault(**x) for x in stored["faults"]],
        [Invocation(**x) for x in stored["invocations"]],
        [Final(**x) for x in stored["finals"]],
        stored.get("callers", {}),
        stored["cleanup_timeout"],
        stored.get("debounce", {}),
        stored.get("merges", []),
        [Told(**x) for x in stored.get("told", [])],
    )

"""A session with a stream: its tasks, their attempts, the object, what is under way, and followers.

What is sent from one invocation arrives in order, and what is sent once that has ended comes after
it: so there is one row of what was sent durably. What is published comes at any time, and anew.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from . import streams
from .stream_expected import Expected
from .stream_oracle import Event, Follower, Recorded, is_replaced

MOST_TURNS: Final = 12
OWN: Final = ("progress", "tool", "reasoning")


@dataclass
class Attempt:
    """One attempt of a task; also one that is dead and does not know."""

    voice: str
    told: int = 0
    seq: int = 0
    queue: list[Any] = field(default_factory=list[Any])
    sent: Any = None
    gap: bool = False
    heard: bool = False
    deaf: bool = False

    def forget(self, events: list[Event]) -> None:
        """It has told these: what they replace is not said any more."""
        self.told += 1
        self.queue = [x for x in self.queue if not any(is_replaced(x["event"], y) for y in events)]


@dataclass
class Task:
    """What works on a turn."""

    turn: int
    key: str
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    told: list[list[Event]] = field(default_factory=list[list[Event]])
    messages: list[Any] = field(default_factory=list[Any])
    calls: dict[str, tuple[int, int | None]] = field(default_factory=dict[str, Any])
    """When its calls and their results were told."""
    steps: int = 0
    given_up: bool = False
    ended: str | None = None

    @property
    def newest(self) -> Attempt:
        return self.attempts[-1]


class World:
    """All of it. Each event takes the randomness by which it chooses what exactly happens."""

    def __init__(self, happened: Counter[str]) -> None:
        self.happened = happened
        self.stream = Expected(happened)
        self.names = 0
        # What the agent's object knows.
        self.next = 1
        self.tasks: dict[int, Task] = {}
        self.record: Recorded = {}
        self.discarded: set[int] = set()
        # What is under way.
        self.row: list[tuple[str, Any]] = []
        self.posts: list[tuple[Attempt, Any]] = []
        self.followers = [Follower()]

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind} {self.names}"

    # -- What the agent's object and its tasks do. -------------------------------------------------

    def a_message_is_accepted(self, _: Random) -> None:
        if self.next <= MOST_TURNS and len(self.tasks) < 6:
            self.tasks[self.next] = Task(self.next, self.name("key"))
            self.next += 1

    def a_turn_begins(self, random: Random) -> None:
        """The first that waits for nobody; those that are slow to end are given up, rarely."""
        for task in self.tasks.values():
            is_slow = random.random() < 0.1
            if not task.attempts and task.ended is None and (task.given_up == is_slow):
                task.attempts = [Attempt(self.name("voice"))]
                self.row.append(("begin", {"turn": task.turn, "key": task.key}))
                return
            if task.ended is None and not task.given_up:
                if not is_slow:
                    return
                task.given_up = True
                self.happened["a turn is given up"] += 1

    def a_task_tells(self, random: Random) -> None:
        task = self._at_work(random)
        if task is None:
            return
        attempt = task.newest
        if attempt.told < len(task.told):  # it is replayed
            attempt.forget(task.told[attempt.told])
            return
        events = [self._something(task, random) for _ in range(random.choice([1, 1, 2]))]
        self._tell(task, events)

    def a_step_speaks(self, random: Random) -> None:
        task = self._at_work(random)
        if task is None:
            return
        attempt = random.choice([*task.attempts, task.newest, task.newest])
        open_calls = [
            call
            for call, (begun, ended) in task.calls.items()
            if begun <= attempt.told and (ended is None or attempt.told < ended)
        ]
        kinds = ["text"] * 6 + ["output"] * 6 * bool(open_calls) + [*OWN]
        for _ in range(random.randint(1, 4)):
            task.steps += random.random() < 0.3
            event: Event = {"type": random.choice(kinds), "text": f"{self.name('w')} "}
            if random.random() < 0.1 and event["type"] == "text":
                event["text"] = " "
            if event["type"] == "output":
                event["call"] = random.choice(open_calls)
            if event["type"] == "tool":
                event = {"type": "tool", "call": "1", "name": event["text"], "state": "waits"}
            said = {"event": event, "after": attempt.told, "step": max(task.steps, 1)}
            attempt.queue.append(said)
        if random.random() < 0.5:
            self.a_batch_is_posted(random)

    def a_batch_is_posted(self, random: Random) -> None:
        task = self._at_work(random)
        attempt = None if task is None else random.choice(task.attempts)
        if task is None or attempt is None or attempt.deaf:
            return
        if attempt.sent is None:
            if not attempt.queue and not attempt.gap:
                return
            size = random.randint(1, 6)
            batch, attempt.queue = attempt.queue[:size], attempt.queue[size:]
            attempt.seq += 1
            attempt.sent = {
                "key": task.key,
                "voice": attempt.voice,
                "seq": attempt.seq,
                "events": batch,
                **({"gap": True} if attempt.gap else {}),
            }
            attempt.gap = False
        elif random.random() < 0.3:
            self.happened["a batch is sent again"] += 1
        else:
            return
        self.posts.append((attempt, attempt.sent))

    def much_is_lost(self, random: Random) -> None:
        task = self._at_work(random)
        if task is not None and random.random() < 0.2:
            attempt = random.choice(task.attempts)
            attempt.queue, attempt.gap = [], True

    def a_worker_dies(self, random: Random) -> None:
        task = self._at_work(random)
        if task is not None and len(task.attempts) < 4 and random.random() < 0.4:
            task.attempts.append(Attempt(self.name("voice")))

    def a_step_is_run_again(self, random: Random) -> None:
        task = self._at_work(random)
        if task is not None and random.random() < 0.4:
            attempt = random.choice(task.attempts)
            attempt.voice, attempt.seq = self.name("voice"), 0
            attempt.queue, attempt.sent, attempt.heard = [], None, True

    def a_task_ends(self, random: Random) -> None:
        task = self._at_work(random)
        if task is None or random.random() < 0.7:
            return
        while task.newest.told < len(task.told):
            task.newest.forget(task.told[task.newest.told])
        task.ended = random.choice(["completed", "interrupted", "failed"])
        end = {"type": "turn", "state": "ends", "status": task.ended}
        if random.random() < 0.2:
            count = len(task.messages)
            task.messages = [self._message("assistant") for _ in range(count)]
            events = [{"type": "message", "message": x} for x in task.messages]
            self._tell(task, [*events, end], anew=True)
            self.happened["an outcome differs from what was told"] += 1
        else:
            more = [self._message("assistant") for _ in range(random.randint(0, 1))]
            task.messages += more
            self._tell(task, [*({"type": "message", "message": x} for x in more), end])

    def an_outcome_is_recorded(self, random: Random) -> None:
        over = [x for x in self.tasks.values() if x.ended is not None]
        if over:
            task = random.choice(over)
            kept = [self._message("user") for _ in range(random.choice([0, 0, 0, 1]))]
            self._record(task, str(task.ended), [*task.messages, *kept])

    def a_task_is_killed(self, random: Random) -> None:
        if self.tasks and random.random() < 0.3:
            task = random.choice([*self.tasks.values()])
            kept = [self._message("user") for _ in range(random.choice([0, 0, 1, 2]))]
            if not task.attempts and random.random() < 0.7:
                self._record(task, "interrupted", kept)
                self.happened["a turn ends that never began"] += 1
            else:
                self._record(task, "killed", kept)
                self.happened["a turn is killed"] += 1

    def something_is_noted(self, random: Random) -> None:
        if self.next == 1 or random.random() < 0.5:
            return
        note: Any = {"turn": self.next - 1, "events": [{"type": "pending"}]}
        if self.record and random.random() < 0.5:
            turns = random.sample([*self.record], 1)
            self.discarded |= {*turns}
            note["discards"] = turns
            if random.random() < 0.3:
                note["anew"] = True
            else:
                note["events"].insert(0, {"type": "discarded", "turns": turns})
        self.row.append(("note", note))

    # -- What arrives at the stream. ---------------------------------------------------------------

    def what_was_sent_arrives(self, random: Random) -> None:
        for _ in range(min(random.randint(1, 4), len(self.row))):
            handler, body = self.row.pop(0)
            getattr(self.stream, f"arrives_{handler}")(body)
            self.stream.check()
            self._deliver()

    def a_batch_arrives(self, random: Random) -> None:
        if not self.posts:
            self.a_step_speaks(random)
            return
        attempt, body = self.posts.pop(random.randrange(len(self.posts)))
        taken = self.stream.arrives_batch(body)
        self.stream.check()
        self._deliver()
        if random.random() < 0.15:
            self.posts.append((attempt, body))  # it comes a second time
        if attempt.sent is not body or random.random() < 0.2:
            return  # nobody hears of it
        if taken is None:
            attempt.deaf = attempt.deaf or attempt.heard
            return
        attempt.heard = True
        attempt.queue, attempt.sent = [*body["events"][taken:], *attempt.queue], None

    def something_is_forged(self, random: Random) -> None:
        event = {"event": {"type": "text", "text": "forged"}, "after": 0}
        voice = self.stream.voice or "mine"
        for key in ("", "key", self.name("key"), "\ud800", *(x.key for x in self.tasks.values())):
            if not key or key != self.stream.key:
                body = {"key": key, "voice": voice, "seq": 99, "events": [event]}
                self.stream.is_refused(body)

    def somebody_truncates(self, random: Random) -> None:
        if random.random() < 0.1:
            self.stream.truncates(random.randint(0, 6))
            self.stream.check()

    # -- What followers do. ------------------------------------------------------------------------

    def somebody_comes(self, _: Random) -> None:
        if len(self.followers) < 4:
            self.followers.append(Follower())

    def somebody_pulls(self, random: Random) -> None:
        self._pull(random.choice(self.followers))

    def somebody_waits(self, random: Random) -> None:
        follower = random.choice(self.followers)
        if follower.waits is None and follower.mail is None and follower.offset:
            follower.waits = self.name("awakeable")
            body = {"id": follower.waits, "offset": follower.offset}
            streams.call(self.stream.ctx, "subscribe", body)
            self._deliver()

    def somebody_waits_no_more(self, random: Random) -> None:
        follower = random.choice(self.followers)
        if follower.waits is not None:
            streams.call(self.stream.ctx, "subscribe", {"id": follower.waits})
            follower.waits = None

    def somebody_reads_the_record(self, random: Random) -> None:
        place = random.randrange(len(self.followers))
        if self.followers[place].owes:
            self.followers[place] = self.followers[place].read(self.record, self.discarded)
            self._check(self.followers[place])

    # -- In the end. -------------------------------------------------------------------------------

    def all_comes_to_rest(self) -> None:
        """Nobody acts any more, and all that is under way arrives."""
        for task in [*self.tasks.values()]:
            kept = [self._message("user") for _ in range(self.names % 3)]
            self._record(task, "killed", kept)
        while self.row:
            self.what_was_sent_arrives(Random(0))  # noqa: S311
        for follower in self.followers:
            follower.owes = follower.owes or not follower.offset
            while follower.offset != self.stream.tail or follower.mail is not None:
                self._pull(follower)
            knows = follower.read(self.record, self.discarded) if follower.owes else follower
            assert {turn: knows.view(turn) for turn in self.record} == self.record
            assert knows.discarded == self.discarded
        assert len(self.stream.ctx.pages) <= 40

    # -- How. --------------------------------------------------------------------------------------

    def _at_work(self, random: Random) -> Task | None:
        """A task that works; where none does, one is to."""
        tasks = [x for x in self.tasks.values() if x.attempts and x.ended is None]
        if not tasks:
            self.a_message_is_accepted(random)
            self.a_turn_begins(random)
            return None
        return random.choice(tasks)

    def _message(self, role: str, **more: Any) -> Any:
        return {"role": role, "content": self.name(role), **more}

    def _something(self, task: Task, random: Random) -> Event:
        waiting = [call for call, (_, ended) in task.calls.items() if ended is None]
        when = len(task.told) + 1
        kind = random.choice(["assistant", "assistant", "tool", "tool", "steered", "progress"])
        if kind == "progress":
            return {"type": "progress", "text": self.name("p")}
        if kind == "tool" and waiting:
            call = random.choice(waiting)
            task.calls[call] = (task.calls[call][0], when)
            message = self._message("tool", tool_call_id=call)
        elif kind == "assistant":
            calls = [self.name("call") for _ in range(random.choice([0, 1, 2]))]
            if task.calls and not waiting and random.random() < 0.5:
                calls = [random.choice([*task.calls])]  # some models count from one again
            task.calls |= dict.fromkeys(calls, (when, None))
            called = [{"id": x, "function": {"name": "f", "arguments": "{}"}} for x in calls]
            message = self._message("assistant", tool_calls=called)
        else:
            message = self._message("user")
        task.messages.append(message)
        return {"type": "message" if kind != "steered" else "steered", "message": message}

    def _tell(self, task: Task, events: list[Event], *, anew: bool = False) -> None:
        task.told.append(events)
        task.newest.forget(events)
        body: Any = {"turn": task.turn, "events": events, **({"anew": True} if anew else {})}
        self.row.append(("tell", body))

    def _record(self, task: Task, status: str, messages: list[Any]) -> None:
        del self.tasks[task.turn]
        self.record[task.turn] = (status, messages)
        self.row.append(("end", {"turn": task.turn, "status": status, "messages": len(messages)}))

    def _pull(self, follower: Follower) -> None:
        answer = None
        if follower.mail is not None:
            (answer,), follower.mail = follower.mail, None
            self.happened["who waits is told at once"] += answer is not None
            self.happened["who waits is told that there is something"] += answer is None
        elif follower.waits is not None:
            return
        answer = answer or self.stream.pull(follower.offset)
        gaps = [x for x in answer["messages"] if x["type"] == "gap"]
        self.happened["an offset is gone"] += (
            bool(gaps) and gaps[0]["id"] not in self.stream.said_in
        )
        self.happened["an answer has a part of what there is"] += (
            answer["nextOffset"] < self.stream.tail
        )
        follower.take(answer)
        self._check(follower)

    def _check(self, follower: Follower) -> None:
        self.stream.check_follower(follower, self.record, self.discarded)

    def _deliver(self) -> None:
        """Those who wait hear what the stream has resolved."""
        for name, answer in self.stream.ctx.resolved:
            for follower in self.followers:
                if follower.waits == name:
                    follower.waits, follower.mail = None, (answer,)
        self.stream.ctx.resolved.clear()


EVENTS: Final[list[Callable[[World, Random], None]]] = [
    *[World.a_message_is_accepted] * 2,
    *[World.a_turn_begins] * 2,
    *[World.a_task_tells] * 6,
    *[World.a_step_speaks] * 4,
    *[World.a_batch_is_posted] * 5,
    World.much_is_lost,
    World.a_worker_dies,
    World.a_step_is_run_again,
    World.a_task_ends,
    *[World.an_outcome_is_recorded] * 2,
    World.a_task_is_killed,
    World.something_is_noted,
    *[World.what_was_sent_arrives] * 6,
    *[World.a_batch_arrives] * 7,
    World.something_is_forged,
    World.somebody_truncates,
    World.somebody_comes,
    *[World.somebody_pulls] * 5,
    *[World.somebody_waits] * 2,
    World.somebody_waits_no_more,
    World.somebody_reads_the_record,
]

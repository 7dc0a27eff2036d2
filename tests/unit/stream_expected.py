"""What a stream is to do with what arrives, and what has to hold of it then."""

from collections import Counter
from typing import Any

from restate import TerminalError

from . import streams
from .stream_oracle import (
    BEGINS,
    MOST_UNRECORDED,
    Delta,
    Event,
    Follower,
    Recorded,
    Told,
    is_delta,
    is_replaced,
    words,
)

NOTED = ("discarded", "pending", "approval")
"""What the session notes of a turn, which the turn does not tell anew."""


class Expected:
    """A stream, and beside it what it is to hold."""

    def __init__(self, happened: Counter[str]) -> None:
        self.happened = happened
        self.ctx = streams.Kept()
        self.turn, self.tail = 0, 1
        self.begun: list[int] = []
        self.key = self.voice = ""
        self.silent: set[str] = set()
        self.batch = (0, 0)
        """The number of the last batch, and how many of its events were taken."""
        self.live: list[Delta] = []
        self.told: dict[int, Told] = {}
        self.recorded: set[int] = set()
        """The turns that are on record, as the stream knows."""
        self.taken_back: set[int] = set()
        """Those that are discarded, as it has told."""
        self.said_in: dict[int, int] = {}
        """The newest turn when an entry came."""

    @property
    def log(self) -> Any:
        return self.ctx.stored("log") or {}

    def tells(
        self, handler: str, body: Any, say: list[tuple[int, Event]], *, gap: bool = False
    ) -> list[int]:
        """Call a handler, and see that it tells this and nothing else; returns the ids."""
        base = self.log.get("base", 1)
        streams.call(self.ctx, handler, body)
        new: list[Any] = []
        offset = self.tail
        while (answer := self.pull(offset))["messages"]:
            new += answer["messages"]
            offset = answer["nextOffset"]
        gaps = [place for place, x in enumerate(new) if x["type"] == "gap"]
        assert gaps == [0] * gap, f"{handler}: a gap that is not to be, or none where it is to be"
        told = [(x["turn"], {k: v for k, v in x.items() if k not in ("id", "turn")}) for x in new]
        assert told[len(told) - len(say) :] == say, f"{handler}: tells something else"
        assert gap or len(told) == len(say), f"{handler}: tells more than it is to"
        if gap:
            again = told[1 : len(told) - len(say)]
            void = say[0][0] if say and handler in ("tell", "end") else None
            stands = (turn != void or x == BEGINS or x["type"] in NOTED for turn, x in again)
            assert all(stands), "what is void is told"
            is_live = handler in ("end", "note") and void != self.turn
            before = [x for x in self.live if is_live and x.id > base]
            self.live = []
            for x, (turn, event) in zip(new[1:], again, strict=False):
                if turn == self.turn:
                    self.live = [y for y in self.live if not is_replaced(y.event, event)]
                self.live += [Delta(x["id"], event, 0)] if is_delta(event) else []
            assert [x.event for x in self.live] == [x.event for x in before], "live words are lost"
            steps = [x.step for x in before]
            self.live = [x._replace(step=y) for x, y in zip(self.live, steps, strict=True)]
            self.happened[f"a gap by {handler}"] += 1
            if before:
                self.happened[f"words stay live at a gap by {handler}"] += 1
        newest = max(self.turn, body["turn"] if handler == "begin" else 0)
        self.said_in |= {x["id"]: newest for x in new}
        self.tail = offset
        return [x["id"] for x in new[len(new) - len(say) :]]

    def pull(self, offset: int) -> Any:
        return streams.call(self.ctx, "pull", {"offset": offset, "wait": 0})

    # -- What arrives. -----------------------------------------------------------------------------

    def arrives_begin(self, body: Any) -> None:
        turn = body["turn"]
        is_newer = turn > self.turn
        self.tells("begin", body, [(turn, BEGINS)] if is_newer else [])
        if is_newer:
            if self.told:
                self.happened["a turn begins before another is on record"] += 1
            self.turn, self.key, self.voice, self.batch, self.live = (
                turn,
                body["key"],
                "",
                (0, 0),
                [],
            )
            self.begun.append(turn)
            self.told[turn] = Told()
            while len(self.told) > MOST_UNRECORDED:
                del self.told[min(self.told)]
                self.happened["a turn is too old to be kept"] += 1
        else:
            self.happened["a turn begins too late"] += 1

    def arrives_tell(self, body: Any) -> None:
        turn, events, anew = body["turn"], body["events"], "anew" in body
        told = self.told.get(turn)
        counts = told is not None and turn == self.turn
        gap = counts and anew
        self.tells("tell", body, [(turn, x) for x in events] if counts else [], gap=gap)
        if told is None:
            return
        told.times += 1
        told.replaced += [(told.times, x) for x in events]
        if not counts:
            told.is_behind = True
            self.happened["a turn that was given up tells something"] += 1
            return
        if gap:
            noted = [x for x in told.events if x["type"] in NOTED]
            told.events, told.is_behind = [BEGINS, *noted], False
        told.events += events
        before = len(self.live)
        self.live = [x for x in self.live if not any(is_replaced(x.event, y) for y in events)]
        self.happened["a message replaces what was said"] += len(self.live) < before
        self.happened["a message replaces a part of what was said"] += 0 < len(self.live) < before
        if any("status" in x for x in events):
            self.key = ""

    def arrives_end(self, body: Any) -> None:
        turn, status, count = body["turn"], body["status"], body["messages"]
        told = self.told.pop(turn, None)
        if told is None and turn > self.turn:
            end: Any = (None, 0)
        else:
            end = None if told is None or told.is_behind else told.end
        is_known = end == (status, count)
        is_empty = end == (None, 0) and not count
        ends = {"type": "turn", "state": "ends", "status": status}
        gap = not is_known and not is_empty
        self.tells("end", body, [] if is_known else [(turn, ends)], gap=gap)
        self.recorded.add(turn)
        if turn == self.turn:
            self.key = ""
            self.live = [] if gap or is_empty else self.live
        self.happened["a turn ends as it has told"] += is_known
        self.happened["a turn ends that told no message"] += is_empty

    def arrives_note(self, body: Any) -> None:
        turn, events, discards = body["turn"], body["events"], body.pop("discards", [])
        self.tells("note", body, [(turn, x) for x in events], gap="anew" in body)
        self.taken_back |= {*discards}
        if turn in self.told:
            self.told[turn].events += [x for x in events if x["type"] != "discarded"]

    def arrives_batch(self, body: Any) -> int | None:
        """Returns how many of its events were taken; `None` if it is refused."""
        if not self.key or body["key"] != self.key:
            self.happened["a batch comes for a turn that is over"] += 1
            self.is_refused(body)
            return None
        voice, told = body["voice"], self.told[self.turn]
        if voice in self.silent:
            self.happened["a voice is silent"] += 1
            self.is_refused(body)
            return None
        if voice == self.voice and body["seq"] <= self.batch[0]:
            self.tells("publish", body, [])
            self.happened["a batch comes twice"] += 1
            return self.answered(body) if body["seq"] == self.batch[0] else 0
        after = [x["after"] for x in body["events"]]
        taken = next((n for n, x in enumerate(after) if x > told.times), len(after))
        self.happened["a batch comes too early"] += taken < len(after)
        said = [
            x
            for x in body["events"][:taken]
            if not is_delta(x["event"])
            or not any(n > x["after"] and is_replaced(x["event"], y) for n, y in told.replaced)
        ]
        self.happened["something is said too late"] += len(said) < taken
        takes_over = voice != self.voice
        gap = "gap" in body or (takes_over and bool(self.live))
        self.happened["a voice takes over what is live"] += takes_over and gap and bool(self.voice)
        self.happened["something is lost before a batch"] += "gap" in body
        ids = self.tells("publish", body, [(self.turn, x["event"]) for x in said], gap=gap)
        self.silent |= {self.voice} if takes_over and self.voice else set()
        self.voice, self.batch = voice, (body["seq"], taken)
        self.live += [
            Delta(n, x["event"], x["step"])
            for n, x in zip(ids, said, strict=True)
            if is_delta(x["event"])
        ]
        told.events += [x["event"] for x in said if not is_delta(x["event"])]
        assert self.answered(body) == taken, "it takes another number of events than it is to"
        return taken

    def answered(self, body: Any) -> int:
        """What is answered to a batch that was here before; it changes nothing."""
        before = dict(self.ctx.state)
        taken: int = streams.call(self.ctx, "publish", body)["taken"]
        assert taken == self.batch[1], "a batch that comes again gets another answer"
        assert self.ctx.state == before, "a batch that comes again changes something"
        return taken

    def is_refused(self, body: Any) -> None:
        before = dict(self.ctx.state)
        status = 200
        try:
            streams.call(self.ctx, "publish", body)
        except TerminalError as refusal:
            status = refusal.status_code
        assert (status, self.ctx.state) == (403, before), "what is not the turn's is taken"

    def truncates(self, count: int) -> None:
        base = self.log.get("base", 1)
        streams.call(self.ctx, "truncate", count)
        if self.log.get("base", 1) > base:
            self.happened["the log is truncated"] += 1
            for told in self.told.values():
                told.is_hurt = told.is_behind = True

    # -- What has to hold. -------------------------------------------------------------------------

    def check(self) -> None:
        self.check_storage()
        self.check_words()

    def check_storage(self) -> None:
        """Nothing is kept that nobody can need."""
        log = self.log
        pages = log.get("pages", [])
        assert sorted(self.ctx.pages) == sorted(f"page/{x[0]}" for x in pages)
        live = {x.id for x in self.live}
        assert {x[0] for x in log.get("recent", []) if is_delta(x[2])} <= live
        stored = {x[0] for x in log.get("recent", [])}
        for first, last, *_ in pages:
            entries = self.ctx.stored(f"page/{first}")
            stored |= {x[0] for x in entries}
            assert (entries[0][0], entries[-1][0]) == (first, last)
            assert any(not is_delta(x[2]) or x[0] in live for x in entries), "a page of dead words"
            period = self.said_in[last]
            newer = [turn for turn in self.begun if turn > period]
            is_needed = any(turn <= period for turn in self.told)
            assert len(newer) < 2 or is_needed, "a page is left of what is on record for long"
        assert {x for x in live if x > log.get("base", 1)} <= stored, "live words are lost"
        self.happened["there are three pages or more"] += len(pages) > 2

    def check_words(self) -> None:
        """What an interrupted turn would keep is what is live of its last step."""
        if all(x.id > self.log.get("base", 1) for x in self.live):
            given = streams.call(self.ctx, "words", {"turn": max(self.turn, 1)})
            assert dict(given) == words(self.live), "the words of the turn are others"
            assert len(given) == len(words(self.live))
            self.happened["words are live"] += bool(given)

    def check_follower(self, follower: Follower, record: Recorded, discarded: set[int]) -> None:
        """One that has seen everything, and read the record if it is to, knows what there is."""
        if follower.offset != self.tail or follower.mail is not None:
            return
        knows = follower.read(record, discarded) if follower.owes else follower
        for turn in self.recorded:
            assert knows.view(turn) == record[turn], f"turn {turn} is shown as it is not on record"
        assert self.taken_back <= knows.discarded, "what is discarded is shown"
        for turn, told in self.told.items():
            if turn not in knows.record and not told.is_hurt:
                assert knows.live[turn].events == told.events, f"turn {turn} is not shown as it is"
        if self.turn in self.told and self.turn not in knows.record:
            live = [x.event for x in self.live if x.id > knows.gap]
            assert knows.live[self.turn].deltas == live, "what is live is not shown as it is"
            self.happened["a follower sees live words"] += bool(live)
        self.happened["a follower has seen everything"] += 1

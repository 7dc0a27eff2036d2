"""A task's life, from the wait to the outcome.

| state       | what it does                                                | what comes next      |
| ----------- | ----------------------------------------------------------- | -------------------- |
| quiet       | waits until no message has come for a while, if it is to    | waits                |
| waits       | waits for the ends of the turns before                      | begins               |
| begins      | reads the conversation, and makes the `Task` of it          | works                |
| works       | `run`                                                       | ends: `completed`    |
|             | it let `Steered` out: takes what was said                   | works                |
| interrupted | keeps what was cut off; tells the agent, if the turn worked | ends: `interrupted`  |
| ends        | tells its outcome to the object, and to all who attached    |                      |

A cancellation interrupts it in any of the first four, and a `TerminalError` ends it: `failed`. One
that is told to stop in order is interrupted at once before it works; then, as `_cancel/state.py`
has it; and not at all once `run` has returned. What ends an attempt alone changes nothing: the next
attempt comes to the same state.
"""

import functools
from collections.abc import Sequence
from typing import Any

from restate import Context

from interruptible._cancel.cleanup import report
from interruptible._cancel.shielding import shield
from interruptible._cancel.steered import Scope, is_steered
from interruptible._cancel.watch import Interrupted, Watch
from interruptible._session.storage import JSON
from interruptible._session.turns import with_joined
from interruptible._task.attempt import Attempt, Begun, begun_of
from interruptible._task.body import AgentBody
from interruptible._task.current import CURRENT
from interruptible._task.earlier import Before, NewestTurns
from interruptible._task.outcome import failure_of, report_outcome, what_ends, with_outcome
from interruptible._task.signals import STOP, now_signal
from interruptible._task.task import Task
from interruptible._task.waiting import wait_for_ends, wait_for_quiet, wait_to_begin
from interruptible._task.words import partials_of
from interruptible._wire.native import from_stored
from interruptible._wire.output import last_output, told_to_model
from interruptible._wire.said import metadata_of
from interruptible._wire.text import sayable
from interruptible._wire.types import Dispatch, Message, TaskOutcome, Turn
from interruptible.formats._alternate import alternating


async def work(body: AgentBody, ctx: Context, job: Dispatch) -> TaskOutcome:
    """Work on one turn: its outcome is the outcome of this invocation."""
    with Watch.of(ctx) as watch, sayable():
        attempt = Attempt(body, ctx, watch, job)
        _listen(ctx, watch)
        task: Task | None = None
        try:
            task = await _wait_and_begin(attempt)
            watch.works = True
            await attempt.begin_telling()
            returned = await _run(attempt, task)
            answer = attempt.put_out[-1] if attempt.answered and attempt.put_out else None
            result = last_output(returned, task.messages, answer, attempt.output)
            watch.check()
            if watch.must_end:
                raise Interrupted  # noqa: TRY301
            await watch.end_work()  # what `run` left in flight must not outlast its turn
            attempt.put(result)
        except BaseException as error:  # noqa: BLE001 - what ends no task is raised again
            end = what_ends(error, watch)
            await watch.end_work()
            if isinstance(end, Interrupted):
                outcome = await _interrupted(attempt, task, end)
            else:
                outcome = attempt.outcome("failed", error=end.message)
            _tell_end(attempt, outcome)
            raise with_outcome(end, ctx, outcome) from (None if end is error else error)
        else:
            outcome = attempt.outcome("completed")
            _tell_end(attempt, outcome)
            return outcome
        finally:
            if attempt.teller is not None:
                await attempt.teller.close()


def _listen(ctx: Context, watch: Watch) -> None:
    def now(number: int) -> Any:
        return ctx.signal(now_signal(number), serde=JSON)

    watch.listen(ctx.signal(STOP, serde=JSON), now)


async def _run(attempt: Attempt, task: Task) -> Any:
    """Call `run`; once more, whenever it lets go of a message that is to be read at once."""
    watch = attempt.watch
    while True:
        with Scope("run") as scope:
            raised = watch.steered
            try:
                return await attempt.body.run(attempt.ctx, task)
            except BaseException as error:
                if not is_steered(error) or watch.must_end or watch.steered == raised:
                    raise
        await watch.end_scope(scope)  # what it left in flight would go on beside the next
        await task.steering()


def _tell_end(attempt: Attempt, outcome: TaskOutcome) -> None:
    """Tell how the turn ended: those who follow the session, and then the session."""
    if attempt.teller is not None:
        attempt.teller.ends(outcome)
    report_outcome(attempt.ctx, attempt.body.name, attempt.session, outcome, attempt.ends)


async def _wait_and_begin(attempt: Attempt) -> Task:
    """Wait, and read the conversation; only then is it this turn's turn.

    A short conversation comes with the dispatch, which saves two hops. A longer one is loaded:
    after an interrupt, where time counts, during the wait; but by a queued task after it, as what
    becomes of the others, and why, comes to be meanwhile. It then gets a short one together with
    its messages.
    """
    body, ctx, job, turn = attempt.body, attempt.ctx, attempt.job, attempt.turn
    after = job["after"]
    tasks = {x["turn"]: ctx.attach_invocation(x["task_id"], serde=JSON) for x in after}
    sent, before = job.get("turns"), Before(attempt)
    # An earlier version did not say so.
    queued = job.get("queued", not all(x["cancelled"] for x in after))
    loading = await before.ask() if sent is None and not queued else None
    begun = await wait_for_quiet(attempt)
    have_told = await wait_for_ends(attempt, tasks)
    if queued:
        loading = await before.ask() if job.get("long") else None  # beside it
        answer = await wait_to_begin(attempt, is_told=have_told)
        begun, sent = begun_of(answer), answer.get("turns")
    if sent is not None and loading is None:
        before.sent(sent)
    else:
        await before.take(await (loading or await before.ask()))
    if before.cancelled:
        raise Interrupted  # Restate is about to tell
    if queued and before.steered:  # between the two it may have become another turn's
        await before.take(await (await before.ask()))
    begun = begun or Begun(job["input"], [])
    mine = {(x.number, x.at) for x, _ in begun.said}  # a number may be used again, later
    before.steered = [(x, said) for x, said in before.steered if (x.number, x.at) not in mine]
    past = await before.reading(functools.partial(_past, body))
    said = with_joined(turn, begun.input, begun.said)
    begins = [*map(from_stored, said)]
    messages = [*past, *begins]
    task = Task(
        attempt, alternating(messages) if body.alternate_roles else messages, begins, before
    )
    task.input_metadata = [metadata_of(x) for x in said]
    CURRENT.set((task, attempt.watch))
    return task


def _past(body: AgentBody, turns: Sequence[Turn]) -> list[Message]:
    """What the model is told of the turns before."""
    told = body.conversation(turns)
    read = turns.read if isinstance(turns, NewestTurns) else turns
    known = [message for x in read for message in (*x["input"], *x["messages"])]
    return [*map(from_stored, told_to_model("conversation", told, known=known))]


async def _interrupted(attempt: Attempt, task: Task | None, end: Interrupted) -> TaskOutcome:
    if task is None:
        return attempt.outcome("interrupted", never_began=True)
    partials = await partials_of(attempt) if attempt.streams else []
    try:
        await shield(attempt.body.on_interrupted(attempt.ctx, task))
    except BaseException as error:  # noqa: BLE001 - what is not a failure is raised again
        attempt.watch.check()
        report(end, [{"step": "on_interrupted", "error": failure_of(error)}])
    words = [text for call, text in partials if call is None]
    results = [(call, text) for call, text in partials if call is not None]
    attempt.put_out += [{"role": "assistant", "content": text} for text in words]
    return attempt.outcome("interrupted", results, partial=len(words))

"""What comes out of a body: whether it ends the task, or its attempt alone."""

from restate import TerminalError

from interruptible._cancel import sdk
from interruptible._cancel.watch import Interrupted, Watch


def terminal(error: BaseException | None, watch: Watch) -> TerminalError | None:
    """What ends the task when `error`, or nothing, comes out of its body.

    After a cancellation whatever comes out of the body is the interruption: frameworks make other
    exceptions of it, and groups of them. For the rest this is the SDK's own rule
    (`ServerInvocationContext.enter`): a `TerminalError`, also as an error's cause. `None` for an
    error that ends the attempt only, and for nothing if it is all well.

    Raises:
        BaseException: What ended the attempt, if it is over, whatever `error` says.
    """
    watch.check()
    if error is not None and sdk.is_of_the_worker(error):
        return None
    cause = sdk.terminal_cause(error)
    if cause is None and error is not None:
        watch.learn_of_cancellation()
    if watch.must_end:
        return error if isinstance(error, Interrupted) else Interrupted()
    return cause


def is_of_the_attempt(error: BaseException, watch: Watch) -> bool:
    """Whether this ends the attempt, and no code of the task has a say in it.

    Raises:
        BaseException: What ended the attempt, if it is over, whatever `error` says.
    """
    watch.check()
    return sdk.is_of_the_worker(error) or sdk.is_of_the_sdk(error)

"""What an agent can be set to, and which settings make no sense."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypedDict, cast, get_args

from restate import InvocationRetryPolicy

from interruptible._task.body import Streaming
from interruptible._wire.types import POLICIES, Burst, Policy

RETRY_POLICY: Final = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=1.5),
    max_attempts=2000,
    on_max_attempts="pause",
)
"""A step in retry back-off is interrupted at its next attempt: within two seconds, for Restate adds
up to 30 % to an interval. After the last attempt it pauses the task."""

MIN_RETENTION: Final = timedelta(minutes=5)
"""How long the result of a task is kept at least, for its successor and for `attach`."""

INACTIVITY_TIMEOUT: Final = timedelta(hours=1)
"""A call that is silent for longer cannot be interrupted, for Restate has hung up. A task that
waits keeps its connection that long."""


class Options(TypedDict, total=False):
    """The options of `Agent`."""

    policy: Policy
    allowed_policies: Sequence[Policy]
    keep_queued: bool
    debounce: timedelta | None
    burst: Burst
    max_pending: int
    cleanup_timeout: timedelta
    inactivity_timeout: timedelta | None
    abort_timeout: timedelta | None
    retry_policy: InvocationRetryPolicy | None
    retention: timedelta | None
    max_content: int
    alternate_roles: bool
    stream: Streaming | None


class NamedOptions(Options, total=False):
    """The options of `Agent`, for `@agent`."""

    name: str | None


OPTIONS: Final[Mapping[str, Any]] = Options.__annotations__

_WRITTEN: Final[Mapping[Any, str]] = {
    bool: "True or False",
    int: "it as a whole number",
    timedelta: "it as a `datetime.timedelta`",
    Streaming: "it as an `interruptible.stream.Stream`",
    InvocationRetryPolicy: "it as a `restate.InvocationRetryPolicy`",
}
_NAME: Final = r"[A-Za-z][A-Za-z0-9._-]*"
_TAKEN: Final = {"restate", "openapi"}


def check_options(made_of: str, name: Any, options: Mapping[str, Any]) -> None:
    """Refuse options that there are not, or that make no sense, alone or together.

    Args:
        made_of: The class of the agent.
        name: The name of the agent.
        options: All of them.
    """
    for option in options.keys() - OPTIONS.keys():
        raise TypeError(
            f"{made_of} has no option {option!r}. Choose from name, {', '.join(OPTIONS)}."
        )
    if not isinstance(name, str):
        raise TypeError(f"The name of an agent is {name!r}. Write it as text.")
    if not re.fullmatch(_NAME, name) or name.lower() in _TAKEN:
        raise ValueError(
            f"{name!r} cannot be the name of a Restate object. Give the agent a `name` of letters, "
            "digits, `.`, `_` and `-` that begins with a letter."
        )
    for option, hint in OPTIONS.items():
        _check_option(name, option, options[option], *(get_args(hint) or [hint]))
    _check_policies(name, options["policy"], options["allowed_policies"])
    burst, known = options["burst"], get_args(Burst)
    if burst not in known:
        raise ValueError(f"{name}: there is no burst {burst!r}. Choose from {', '.join(known)}.")
    if burst != "merge" and options["debounce"] is None:
        raise ValueError(
            f"{name}: burst={burst!r} does nothing without a quiet window. Set `debounce`."
        )


def _check_option(name: str, option: str, value: Any, *kinds: Any) -> None:
    kind: Any = kinds[0]
    if kind not in _WRITTEN or (value is None and type(None) in kinds):
        return
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{name}: {option} is {value!r}. Write {_WRITTEN[kind]}.")
    if isinstance(value, timedelta) and value < timedelta(0):
        raise ValueError(f"{name}: {option}={value} is in the past. Make it positive.")
    if isinstance(value, int) and kind is int and value < 1:
        raise ValueError(f"{name}: {option}={value} would refuse every message. Raise it.")


def _check_policies(name: str, policy: Any, allowed: Any) -> None:
    if not isinstance(allowed, (list, tuple)):
        raise TypeError(f"{name}: allowed_policies is {allowed!r}. Write it as a list or a tuple.")
    for chosen in (policy, *cast("Sequence[Any]", allowed)):
        if chosen not in POLICIES:
            raise ValueError(
                f"{name}: there is no policy {chosen!r}. Choose from {', '.join(POLICIES)}."
            )
    if policy not in allowed:
        raise ValueError(
            f"{name}: its policy {policy!r} is not among its allowed_policies. Add it there, or "
            "choose another `policy`."
        )

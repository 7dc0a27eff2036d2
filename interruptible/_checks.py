"""What is refused when an agent's class or object is made."""

import inspect
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, cast

from restate import InvocationRetryPolicy

from interruptible._wire.types import BURSTS, POLICIES

_NAME: Final = r"[A-Za-z][A-Za-z0-9._-]*"
_TAKEN: Final = {"restate", "openapi"}
PUBLIC: Final = {
    "message",
    "cancel",
    "attach",
    "get_history",
    "get_status",
    "get_turns",
    "regenerate",
    "rewind",
    "reset",
    "fork",
}
"""The handlers of every agent that are attributes of it, too."""
PRIVATE: Final = {"settle", "take", "give_up", "adopt", "recover", "get_cause", "load"}
"""Those that only Restate calls."""
ATTRIBUTES: Final = {
    "name",
    "task_name",
    "policy",
    "allowed_policies",
    "keep_queued",
    "debounce",
    "burst",
    "cleanup_timeout",
    "inactivity_timeout",
    "abort_timeout",
    "retry_policy",
    "retention",
    "max_content",
    "max_pending",
    "alternate_roles",
}


def check_class(cls: type[Any], base: type[Any], exposed: Mapping[str, str]) -> None:
    """Refuse an agent class that cannot work.

    Args:
        cls: The subclass.
        base: `Agent`.
        exposed: Its methods that are handlers, with the names that Restate will know.
    """
    for name in exposed:
        _check_handler(cls, base, name, exposed[name])
    for parent in cls.__mro__[: cls.__mro__.index(base)]:
        for name in vars(parent).keys() & PUBLIC:
            raise TypeError(
                f"{parent.__name__}.{name} would replace `{name}`, which every agent has. "
                "Give it another name."
            )
        if "task_name" in vars(parent):
            raise TypeError(
                f"{parent.__name__}.task_name has no effect: the name of the tasks is made of the "
                "agent's. Set `name`."
            )
    for name in ("run", "on_interrupted"):
        if getattr(cls, name) is not getattr(base, name):
            _check_signature(f"{cls.__name__}.{name}", getattr(cls, name), ["self", "ctx", "task"])
    for name in ("interruption_note", "call_note", "conversation"):
        if inspect.iscoroutinefunction(getattr(cls, name)):
            raise TypeError(
                f"{cls.__name__}.{name} is `async`, but for the same turns it must always return "
                "the same. Write `def`."
            )


def check_function(function: Any) -> None:
    """Refuse what `@agent` cannot make an agent of."""
    if not inspect.isfunction(function):
        msg = f"@agent takes a function, not {function!r}. Write `async def f(ctx, task)`."
        raise TypeError(msg)
    _check_signature(function.__name__, function, ["ctx", "task"])


def check_options(
    name: Any,
    *,
    policy: Any,
    allowed_policies: Any,
    keep_queued: Any,
    burst: Any,
    max_content: Any,
    max_pending: Any,
    retry_policy: Any,
    alternate_roles: Any,
    **durations: Any,
) -> None:
    """Refuse options that make no sense, alone or together."""
    if not isinstance(name, str):
        raise TypeError(f"The name of an agent is {name!r}. Write it as text.")
    if not re.fullmatch(_NAME, name) or name.lower() in _TAKEN:
        msg = (
            f"{name!r} cannot be the name of a Restate object. Give the agent a `name` of letters, "
            "digits, `.`, `_` and `-` that begins with a letter."
        )
        raise ValueError(msg)
    _check_switches(name, keep_queued=keep_queued, alternate_roles=alternate_roles)
    _check_policies(name, policy, allowed_policies, burst=burst)
    if burst != "merge" and durations["debounce"] is None:
        raise ValueError(
            f"{name}: burst={burst!r} does nothing without a quiet window. Set `debounce`."
        )
    for option, number in {"max_content": max_content, "max_pending": max_pending}.items():
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{name}: {option} is {number!r}. Write it as a whole number.")
        if number < 1:
            raise ValueError(f"{name}: {option}={number} would refuse every message. Raise it.")
    if not isinstance(retry_policy, (InvocationRetryPolicy, type(None))):
        raise TypeError(
            f"{name}: retry_policy is {retry_policy!r}. Write it as a "
            "`restate.InvocationRetryPolicy`."
        )
    for option, value in durations.items():
        if value is None and option != "cleanup_timeout":
            continue
        if not isinstance(value, timedelta):
            raise TypeError(f"{name}: {option} is {value!r}. Write it as a `datetime.timedelta`.")
        if value < timedelta(0):
            raise ValueError(f"{name}: {option}={value} is in the past. Make it positive.")


def check_known(cls: type[Any], options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse options that there are not."""
    for option in options.keys() - known.keys():
        raise TypeError(
            f"{cls.__name__} has no option {option!r}. Choose from name, {', '.join(known)}."
        )


def _check_switches(name: str, **switches: Any) -> None:
    for option, value in switches.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name}: {option} is {value!r}. Write True or False.")


def _check_policies(name: str, policy: Any, allowed: Any, *, burst: Any) -> None:
    if burst not in BURSTS:
        raise ValueError(f"{name}: there is no burst {burst!r}. Choose from {', '.join(BURSTS)}.")
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


def _check_handler(cls: type[Any], base: type[Any], name: str, exposed: str) -> None:
    if name in PUBLIC or exposed in PUBLIC | PRIVATE:
        taken = exposed if exposed in PUBLIC | PRIVATE else name
        raise TypeError(
            f"{cls.__name__}.{name} would replace `{taken}`, which every agent has. "
            "Give it another name."
        )
    if hasattr(base, name) or name in ATTRIBUTES:
        raise TypeError(
            f"{cls.__name__}.{name} would replace `{base.__name__}.{name}`. "
            "Give the handler another name."
        )
    if name.startswith("_"):
        raise TypeError(
            f"{cls.__name__}.{name} is a handler, and so not private. Take the `_` off its name."
        )
    if not inspect.iscoroutinefunction(getattr(cls, name)):
        raise TypeError(f"{cls.__name__}.{name} is a handler but not `async`. Make it `async def`.")
    takes = list(inspect.signature(getattr(cls, name)).parameters.values())
    one_by_one = all(x.kind in (x.POSITIONAL_ONLY, x.POSITIONAL_OR_KEYWORD) for x in takes)
    if len(takes) not in (2, 3) or not one_by_one:
        raise TypeError(
            f"{cls.__name__}.{name} takes {_shown(takes)}; a handler takes (self, ctx), or "
            "(self, ctx, body). Put what else it takes into its body, such as a `TypedDict`."
        )


def _check_signature(name: str, function: Any, parameters: list[str]) -> None:
    wanted = f"({', '.join(parameters)})"
    if inspect.isasyncgenfunction(function):
        msg = f"{name} yields. Put out messages with `task.append`, and return the last one."
        raise TypeError(msg)
    if not inspect.iscoroutinefunction(function):
        msg = f"{name} is not `async`. Write `async def {name.rpartition('.')[2]}{wanted}`."
        raise TypeError(msg)
    taken = list(inspect.signature(function).parameters.values())
    positional = [p for p in taken if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    extra = [
        p
        for p in taken
        if p.default is p.empty
        and p not in positional[: len(parameters)]
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    names = [p.name for p in positional]
    swapped = names != parameters and sorted(names) == sorted(parameters)
    if len(positional) < len(parameters) or extra or swapped:
        signature = _shown(taken)
        if swapped:
            remedy = "Put them in this order"
        elif len(positional) < len(parameters) and not extra:
            missing = [x for x in parameters if x not in names] or parameters
            remedy = f"Add {_quoted(missing[len(positional) - len(parameters) :])}"
        elif len(positional) < len(parameters):
            remedy = f"Make {_quoted([p.name for p in extra])} positional"
        else:
            remedy = f"Remove {_quoted([p.name for p in extra])}"
        msg = f"{name} takes {signature}; it has to take {wanted}. {remedy}."
        raise TypeError(msg)


def _shown(parameters: Sequence[inspect.Parameter]) -> str:
    return str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters]))


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

"""What is refused when an agent's class is made."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from interruptible._handlers import HANDLERS, PUBLIC


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
        for name in vars(parent).keys() & set(PUBLIC):
            raise _replaces(parent, name)
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


def _replaces(cls: type[Any], name: str, taken: str | None = None) -> TypeError:
    return TypeError(
        f"{cls.__name__}.{name} would replace `{taken or name}`, which every agent has. "
        "Give it another name."
    )


def _check_handler(cls: type[Any], base: type[Any], name: str, exposed: str) -> None:
    if exposed in HANDLERS or name in PUBLIC:
        raise _replaces(cls, name, exposed if exposed in HANDLERS else name)
    if hasattr(base, name) or name in ("name", "task_name"):
        raise TypeError(
            f"{cls.__name__}.{name} would replace `{base.__name__}.{name}`. "
            "Give the handler another name."
        )
    if name.startswith("_"):
        raise TypeError(
            f"{cls.__name__}.{name} is a handler, and so not private. Take the `_` off its name."
        )
    method = getattr(cls, name)
    if not inspect.iscoroutinefunction(method):
        raise TypeError(f"{cls.__name__}.{name} is a handler but not `async`. Make it `async def`.")
    takes = list(inspect.signature(method).parameters.values())
    if len(takes) not in (2, 3) or takes != _positional(takes):
        raise TypeError(
            f"{cls.__name__}.{name} takes {_listed(takes)}; a handler takes (self, ctx), or "
            "(self, ctx, body). Put what else it takes into its body, such as a `TypedDict`."
        )


def _check_signature(name: str, function: Any, wanted: Sequence[str]) -> None:
    remedy = f"Write `async def {name.rpartition('.')[2]}({', '.join(wanted)})`."
    if inspect.isasyncgenfunction(function):
        msg = f"{name} yields. Put out messages with `task.append`, and return the last one."
        raise TypeError(msg)
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{name} is not `async`. {remedy}")
    signature = inspect.signature(function)
    takes = list(signature.parameters.values())
    names = [p.name for p in _positional(takes)]
    try:
        signature.bind(*wanted)
        fits = names == wanted or sorted(names) != sorted(wanted)  # or they are in another order
    except TypeError:
        fits = False
    if not fits:
        raise TypeError(f"{name} takes {_listed(takes)}. {remedy}")


def _positional(takes: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    return [p for p in takes if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _listed(parameters: Sequence[inspect.Parameter]) -> str:
    return str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters]))

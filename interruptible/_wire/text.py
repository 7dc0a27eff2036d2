"""Text that UTF-8 can have, in what is stored and in errors. Knows nobody."""

import functools
import inspect
import json
import traceback
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any


def mended(text: str) -> str:
    """Text without half surrogate pairs: two halves are joined, and one becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class sayable(ContextDecorator):  # noqa: N801
    """Mend the text of what is raised: restate-sdk gets stuck on half a surrogate pair in it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception):
            mend(error)
            text = "".join(traceback.format_exception(error))
            if mended(text) != text:
                reason = mended(f"{type(error).__name__}: {error}")
                raise RuntimeError(reason) from None


def mend(error: Any) -> None:
    """Mend the text of an error, and the metadata of a `TerminalError`."""
    error.args = tuple(mended(x) if isinstance(x, str) else x for x in error.args)
    if hasattr(error, "message"):
        error.message = mended(str(error.message))
    if getattr(error, "metadata", None):
        error.metadata = {mended(str(k)): mended(str(x)) for k, x in error.metadata.items()}


def with_sayable_errors(action: Callable[[], Any]) -> Callable[[], Any]:
    """A step's action, with the text of what it raises mended."""
    if not inspect.iscoroutinefunction(action):
        return sayable()(action)

    @functools.wraps(action)
    async def aborts() -> Any:
        with sayable():
            return await action()

    return aborts


def brief(value: Any, limit: int = 60) -> str:
    """A value as JSON, to be quoted in an error."""
    text = json.dumps(value, default=str)
    return text if len(text) <= limit else f"{text[:limit]}…"

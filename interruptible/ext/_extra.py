"""What a module says whose framework is not installed."""

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Generator[None, None, None]:
    """Import what an extra brings.

    Raises:
        ImportError: It is not there; names the extra.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"interruptible.ext.{name.replace('-', '_')} needs what its extra installs ({error}). "
            f"Run: pip install 'restate-interruptible[{name}]'",
            name=error.name,
            path=error.path,
        ) from error

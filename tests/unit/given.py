"""What is awaited where no server is needed to see what is done."""

from collections.abc import Generator
from typing import Generic, TypeVar

T = TypeVar("T")


class Given(Generic[T]):
    """What is awaited and there already; it need not be awaited at all."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, T]:
        return self.value
        yield

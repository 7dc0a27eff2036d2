"""What a value has to be beside its type. Knows nobody."""

from collections.abc import Callable, Mapping
from typing import Any, Final

MAX_NUMBER: Final = 2**53 - 1
"""The largest whole number that every reader of JSON keeps exact (RFC 8259, section 6)."""


class Rule:
    """What a value has to be beside its type. It stands in `Annotated`, and `shapes` reads it.

    Args:
        schema: What its JSON schema says besides.
        wrong: What is wrong with a value of the type, if anything.
        called: What it must be, in words, where those for its type say too little.
        remedy: What to do about one that is missing or wrong.
    """

    def __init__(
        self,
        schema: Mapping[str, Any] | None = None,
        wrong: Callable[[Any], str | None] | None = None,
        called: str | None = None,
        remedy: str = "",
    ) -> None:
        self.schema = schema or {}
        self.wrong = wrong
        self.called = called
        self.remedy = remedy


def within(least: int, most: int = MAX_NUMBER) -> Rule:
    """A number between these two; it never goes beyond what JSON carries safely."""

    def wrong(value: int) -> str | None:
        if abs(value) > MAX_NUMBER:
            return f"is a number beyond {MAX_NUMBER}, which JSON cannot carry safely."
        return None if least <= value <= most else f"must be {least} to {most}, not {value}."

    return Rule({"minimum": least, **({"maximum": most} if most < MAX_NUMBER else {})}, wrong)

"""A message, and what became of it as clients know."""

from collections.abc import Sequence
from dataclasses import dataclass

from .records import CHANGES, Op, token


@dataclass
class Said:
    """A message: the request that said it, and those that changed it, or may have."""

    op: Op
    id: int | None
    """If that is known."""
    changes: list[Op]

    @classmethod
    def of(cls, op: Op, writes: Sequence[Op]) -> "Said":
        """What a request said, and which of all others have changed that."""
        number = op.answer.get("message") if op.ok else None
        changes = [x for x in writes if number and x.name in CHANGES]
        return cls(op, number, [x for x in changes if x.body["message"] == number])

    def named(self, name: str) -> list[Op]:
        return [x for x in self.changes if x.name == name]

    @property
    def tokens(self) -> list[str]:
        """What it says, or may say."""
        return [str(self.op.said), *(token(x.body["content"]) for x in self.named("replace"))]

    @property
    def last(self) -> set[str]:
        """What it may say in the end: nothing that was certainly replaced since."""
        said = [(self.op, str(self.op.said))]
        said += [(x, token(x.body["content"])) for x in self.named("replace")]
        certain = [x for x, _ in said[1:] if x.ok]
        return {
            text
            for op, text in said
            if not any(
                x is not op and (op is self.op or (op.answered or float("inf")) < x.asked)
                for x in certain
            )
        }

"""What `make demo` and `make serve` write: aligned columns, and colour on a terminal only."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_INDENT = 22  # where the text of an event begins


class Screen:
    """Prints what happens, with the seconds since the screen was made."""

    def __init__(self) -> None:
        self.began = time.time()
        self.width = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
        self._colour = (
            sys.stdout.isatty()
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
        )

    def seconds(self) -> float:
        """Return how long ago the screen was made."""
        return time.time() - self.began

    def title(self, text: str) -> None:
        """Begin a part."""
        self.line()
        self.line(self.paint(text, "bold"))

    def line(self, text: str = "") -> None:
        """Print a line as it is."""
        print(text, flush=True)

    def event(self, who: str, text: str, style: str = "", *, at: float | None = None) -> None:
        """Print what `who` did, and when (in Unix time; now, if it is not said)."""
        seconds = (at or time.time()) - self.began
        first, *rest = self.wrap(text, _INDENT)
        self.line(f"{seconds:7.2f} s  {self.paint(f'{who:<11}', 'dim')}{self.paint(first, style)}")
        for line in rest:
            self.line(" " * _INDENT + self.paint(line, style))

    def record(self, record: logging.LogRecord, more: str = "") -> None:
        """Print what the agent or the stand-in has logged; its ids are cut short."""
        text = re.sub(r"(inv_\w{8})\w+", r"\1…", record.getMessage()) + more
        who = "model" if record.name == "quickstart.model" else "step"
        if text.startswith("delete"):
            who = "cleanup"
        self.event(who, text, "yellow" if "cut off" in text else "", at=record.created)

    def row(self, head: str, text: str, style: str = "", *, indent: int = 15) -> None:
        """Print a line that has a heading."""
        first, *rest = self.wrap(text, indent)
        self.line(f"  {self.paint(f'{head:<{indent - 2}}', 'dim')}{self.paint(first, style)}")
        for line in rest:
            self.line(" " * indent + self.paint(line, style))

    def wrap(self, text: str, indent: int) -> list[str]:
        """Break a text so that it fits behind the indent; leave words that are too long whole."""
        return textwrap.wrap(
            text, self.width - indent, break_long_words=False, break_on_hyphens=False
        ) or [""]

    def paint(self, text: str, style: str) -> str:
        """Return the text in a style, on a terminal."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colour and style else text

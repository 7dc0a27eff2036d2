"""The terminal: here alone what somebody has said is made harmless, and broken into rows.

What a model says and what its commands print is untrusted. A control character in it could move the
cursor, rename the window, or rewrite what stands above; a mark of direction could make a command
read like another one. So all that is shown is a `Line`, and has passed `plain`. The first cells of
a row are this program's own: nothing that a model says can pass for a row that says what it did.

What is printed scrolls away, and is never touched again: so nothing is printed but what is on
record. What is live stands between that and the prompt, and is drawn anew with each event.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from prompt_toolkit import layout as ui
from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples as Row
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth as cells

from examples.coding_agent.chat.view import GREY, Line, note

if TYPE_CHECKING:
    from examples.coding_agent.chat.talk import Talk

MOST_TYPED = 8  # rows of the prompt
ESCAPE = 0.1  # seconds after which Esc is Esc, and not the start of another key
WIDE = "\0"  # stands for the first cell of a wide character; `plain` leaves none


class Screen:
    """The terminal of this process; a talk says what is shown, and takes what is typed."""

    def __init__(self, label: str, talk: Talk) -> None:
        self._label, self._talk = label, talk
        self._typed = Buffer(multiline=False, accept_handler=lambda typed: talk.enter(typed.text))
        output = Vt100_Output.from_pty(sys.stdout, term=os.environ.get("TERM"))
        output.enable_cpr = False
        prompt = ui.Window(
            ui.BufferControl(self._typed),
            height=ui.Dimension(min=1, max=MOST_TYPED),
            wrap_lines=True,
            dont_extend_height=True,
            get_line_prefix=lambda n, wrapped: [("bold", "  " if n or wrapped else "» ")],
        )
        above, below = (
            ui.Window(ui.FormattedTextControl(text), dont_extend_height=True)
            for text in (self._above, self._below)
        )
        keys = KeyBindings()
        keys.add("escape")(lambda _: talk.stop())
        keys.add("c-c")(lambda _: self.interrupted())
        keys.add("c-d", filter=Condition(lambda: not self._typed.text))(lambda _: self.close())
        keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
        keys.add("c-z")(lambda event: event.app.suspend_to_background())
        layout = ui.HSplit([above, prompt, below], align=ui.VerticalAlign.TOP)
        self._app: Application[None] = Application(
            layout=ui.Layout(layout, focused_element=prompt),
            key_bindings=keys,
            output=output,
            erase_when_done=True,
            min_redraw_interval=0.03,
            refresh_interval=1.0,
        )
        self._app.ttimeoutlen = self._app.timeoutlen = ESCAPE
        self.changed = self._app.invalidate

    async def run(self) -> None:
        """Read keys and draw, until `close`, or until the terminal is gone."""
        with contextlib.suppress(EOFError, OSError):  # the terminal is gone
            await self._app.run_async(handle_sigint=False, set_exception_handler=False)

    def close(self) -> None:
        """End `run`."""
        if self._app.is_running and not self._app.is_done:
            self._app.exit()

    def print(self, lines: Iterable[Line]) -> None:
        """Print lines for good, above all that moves."""
        with contextlib.suppress(OSError):  # the terminal is gone
            if self._app.is_running:
                self._app.renderer.erase()
            shown = [piece for row in rows(lines, self._width) for piece in (*row, ("", "\n"))]
            print_formatted_text(self._app.output, shown, Style([]))
        self.changed()

    def put_back(self, text: str) -> None:
        """Put what was not sent back into the prompt, if nothing else was typed meanwhile."""
        if not self._typed.text:
            self._typed.insert_text(text)

    def interrupted(self) -> None:
        """What Ctrl-C does: it stops what is at work, or else clears what is typed."""
        if not self._talk.stop():
            self._typed.reset()

    @property
    def _width(self) -> int:
        """How many cells a row may have; the last stays free, where some terminals wrap."""
        return max(self._app.output.get_size().columns - 1, 12)

    def _above(self) -> Row:
        width, height = self._width, self._app.output.get_size().rows
        typed = sum(cells(x) // (width - 1) + 1 for x in self._typed.text.split("\n"))
        shown = end_of(self._talk.live(), width, height - 3 - min(typed, MOST_TYPED))
        label = cut(f" {plain(self._label)} ", width - 4)
        rule = (GREY, f"──{label}{'─' * (width - 2 - cells(label))}")
        return [*(piece for row in shown for piece in (*row, ("", "\n"))), rule]

    def _below(self) -> Row:
        return sides(*self._talk.status(self._typed.text), self._width)


def rows(lines: Iterable[Line], width: int) -> list[Row]:
    """What a terminal shows of lines, in rows of at most so many cells."""
    return [row for line in lines for row in _rows(*line, width)]


def _rows(
    style: str, mark: str, text: str, end: str | None, text_style: str | None, width: int
) -> list[Row]:
    text_style = style if text_style is None else text_style
    room = max(width - cells(mark), 1)
    if end is None:
        broken = [row for x in plain(text).strip("\n").split("\n") for row in wrap(x, room)]
        marks = [mark, *[" " * cells(mark)] * len(broken)]
        return [[(style, x), (text_style, row)] for x, row in zip(marks, broken, strict=False)]
    text = re.sub(r"\s*\n\s*", " ", plain(text))
    end = cut(plain(end), max(room * 3 // 5, room - cells(text)))
    return [[(style, mark), (text_style, cut(text, room - cells(end))), (style, end)]]


def end_of(lines: Iterable[Line], width: int, height: int) -> list[Row]:
    """The end of what is live, if it is more than fits."""
    shown = rows(lines, width)
    if (left_out := len(shown) - max(height, 1) + 1) <= 1:
        return shown
    above = note(f"{left_out} rows above, shown when the turn ends")
    return [*rows([above], width), *shown[left_out:]]


def sides(left: Line, hints: Sequence[str], width: int) -> Row:
    """One row: a line, and at the right as many hints as there is room for."""
    ((mark, words, _),) = rows([left], width)
    room = width - cells(mark[1] + words[1])
    while hints and cells(" · ".join(hints)) + 3 > room:
        hints = hints[:-1]
    return [mark, words, (GREY, f"{' · '.join(hints):>{room}}")]


def plain(text: str) -> str:
    """The text with every character visible; what a terminal might obey is spelled out."""
    return re.sub(r"[^\n -~]", _visible, text.replace("\r\n", "\n").expandtabs(4))


def _visible(found: re.Match[str]) -> str:
    c = found[0]
    if c.isprintable() or unicodedata.category(c) == "Zs":
        return c if c.isprintable() else " "
    return chr(0x2400 + ord(c)) if c < " " else f"\\u{ord(c):04x}"  # the first have pictures


@lru_cache(10_000)  # what is live is drawn with each word, and only its last line has changed
def wrap(line: str, width: int) -> list[str]:
    """Break one plain line into rows, between words where that can be."""
    if not line.isascii():
        line = "".join(WIDE * (cells(c) - 1) + c for c in line)
        width -= 1  # so that a wide character may begin in its first cell, or before it
    broken = textwrap.wrap(line, max(width, 1), break_on_hyphens=False)
    return [row.replace(WIDE, "") for row in broken] or [""]


def cut(text: str, width: int) -> str:
    """As much of one plain line as fits, and a sign that there was more."""
    if cells(text) <= width:
        return text
    fit = sum(used < width for used in accumulate(cells(c) for c in text[:width]))
    return text[:fit] + "…"

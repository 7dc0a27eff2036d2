"""The terminal: the prompt, what moves above it, and what has scrolled away above that.

Rows that are printed scroll away and are never touched again. So nothing is printed but what is on
record. What is live stands between that and the prompt, and is drawn anew with each event.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    VerticalAlign,
    Window,
)
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style

from examples.coding_agent.chat.text import wrap
from examples.coding_agent.chat.view import PROMPT, Row

MOST_TYPED = 8  # rows of the prompt
ESCAPE = 0.1  # seconds after which Esc is Esc, and not the start of another key
STYLE = Style.from_dict(
    {
        "user": "bold",
        "tool": "",
        "done": "ansigreen",
        "failed": "ansired",
        "at-work": "ansicyan",
        "waits": "ansiyellow bold",
        "cut-off": "ansiyellow",
        "not-begun": "ansiyellow",
        "cut": "ansiyellow",
        "printed": "ansibrightblack",
        "end": "ansibrightblack",
        "rule": "ansibrightblack",
        "hint": "ansibrightblack",
        "prompt": "bold",
    }
)


class Screen:
    """The terminal of this process.

    Args:
        live: What is live, as rows for a width and a height.
        rule: The line above the prompt.
        status: The line below it, for what is typed.
        enter: Is called with what was typed; says whether it is to stay in the prompt.
        stop: Is called for Esc and Ctrl-C; says whether there was anything to stop.
    """

    def __init__(
        self,
        *,
        live: Callable[[int, int], Sequence[Row]],
        rule: Callable[[int], Row],
        status: Callable[[str, int], Row],
        enter: Callable[[str], bool],
        stop: Callable[[], bool],
    ) -> None:
        self._live, self._rule, self._status, self._stop = live, rule, status, stop
        self._rows: Sequence[Row] = ()
        self._typed = Buffer(multiline=False, accept_handler=lambda typed: enter(typed.text))
        term = os.environ.get("TERM")
        output = Vt100_Output(sys.stdout, _size, term=term, enable_cpr=False)
        self._app: Application[None] = Application(
            layout=self._layout(),
            key_bindings=self._keys(),
            style=STYLE,
            output=output,
            erase_when_done=True,
            min_redraw_interval=0.03,
            refresh_interval=1.0,
            before_render=lambda _: self._measure(),
        )
        self._app.ttimeoutlen = self._app.timeoutlen = ESCAPE

    @property
    def width(self) -> int:
        """How many cells a row may have; the last stays free, where some terminals wrap."""
        return max(_size().columns - 1, 12)

    async def run(self) -> None:
        """Read keys and draw, until `close`, or until the terminal is gone."""
        with contextlib.suppress(EOFError, OSError):  # the terminal is gone
            await self._app.run_async(handle_sigint=False, set_exception_handler=False)

    def close(self) -> None:
        """End `run`."""
        if self._app.is_running and not self._app.is_done:
            self._app.exit()

    def changed(self) -> None:
        """Draw what is live anew."""
        self._app.invalidate()

    def print(self, rows: Sequence[Row]) -> None:
        """Print rows for good, above all that moves."""
        if not rows:
            return
        pieces: StyleAndTextTuples = [x for row in rows for x in [*row, ("", "\n")]]
        with contextlib.suppress(OSError):  # the terminal is gone
            if self._app.is_running:
                self._app.renderer.erase()
            print_formatted_text(self._app.output, pieces, STYLE)
        self._app.invalidate()

    def put_back(self, text: str) -> None:
        """Put what was not sent back into the prompt, if nothing else was typed meanwhile."""
        if not self._typed.text:
            self._typed.text = text
            self._typed.cursor_position = len(text)

    # -- how -------------------------------------------------------------------------------------

    def _measure(self) -> None:
        typed = len(wrap(self._typed.text, self.width - 1))
        room = _size().rows - 3 - min(typed, MOST_TYPED)
        self._rows = self._live(self.width, max(room, 1))

    def _layout(self) -> Layout:
        def window(rows: Callable[[], Sequence[Row]]) -> Window:
            control = FormattedTextControl(lambda: _lines(rows()))
            return Window(control, dont_extend_height=True)

        prompt = Window(
            BufferControl(self._typed),
            height=Dimension(min=1, max=MOST_TYPED),
            wrap_lines=True,
            dont_extend_height=True,
            get_line_prefix=lambda number, wrapped: [
                ("class:prompt", "  " if number or wrapped else PROMPT)
            ],
        )
        parts = [
            ConditionalContainer(window(lambda: self._rows), Condition(lambda: bool(self._rows))),
            window(lambda: [self._rule(self.width)]),
            prompt,
            window(lambda: [self._status(self._typed.text, self.width)]),
        ]
        return Layout(HSplit(parts, align=VerticalAlign.TOP), focused_element=prompt)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        nothing_typed = Condition(lambda: not self._typed.text)

        @keys.add("escape")
        def _(_: KeyPressEvent) -> None:
            self._stop()

        @keys.add("c-c")
        def _(_: KeyPressEvent) -> None:
            self.interrupted()

        @keys.add("c-d", filter=nothing_typed)
        def _(_: KeyPressEvent) -> None:
            self.close()

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-z")
        def _(event: KeyPressEvent) -> None:
            event.app.suspend_to_background()

        return keys

    def interrupted(self) -> None:
        """What Ctrl-C does: it stops what is at work, or else clears what is typed."""
        if not self._stop():
            self._typed.reset()


def _lines(rows: Sequence[Row]) -> StyleAndTextTuples:
    pieces: StyleAndTextTuples = []
    for number, row in enumerate(rows):
        pieces += [("", "\n"), *row] if number else row
    return pieces


def _size() -> Size:
    try:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
    except OSError:  # it is gone
        columns, rows = 0, 0
    return Size(rows=rows or 24, columns=columns or 80)

"""Text for a terminal: nothing in it that a terminal would obey, and broken into rows.

What a model says and what its commands print is untrusted. A control character in it could move the
cursor, rename the window, or rewrite what stands above; a mark of direction could make a command
read like another one.
"""

from __future__ import annotations

import unicodedata

from prompt_toolkit.utils import get_cwidth


def plain(text: str) -> str:
    """The text with every character visible; what a terminal might obey is spelled out."""
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else _spelled(c) for c in text.expandtabs(4))


def _spelled(c: str) -> str:
    code = ord(c)
    if c == "\n" or unicodedata.category(c) == "Zs":
        return c if c == "\n" else " "
    if code < 0x20:  # noqa: PLR2004 - those have pictures
        return chr(0x2400 + code)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def line(text: str) -> str:
    """The same in one line."""
    return " ".join(plain(text).split())


def wrap(text: str, width: int) -> list[str]:
    """Break plain text into rows of at most so many cells, between words where that can be."""
    rows: list[str] = []
    for each in text.split("\n"):
        start = 0
        while (end := _fit(each, start, width)) < len(each):
            space = each.rfind(" ", start, end + 1)
            if space <= start or not each[start:space].strip():
                rows.append(each[start:end])
                start = end
            else:
                rows.append(each[start:space])
                start = space + 1
        rows.append(each[start:])
    return rows


def cut(text: str, width: int) -> str:
    """As much of one plain line as fits, and a sign that there was more."""
    end = _fit(text, 0, width)
    return text if end == len(text) else text[: _fit(text, 0, width - 1)] + "…"


def cells(text: str) -> int:
    """How many cells of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(get_cwidth, text))


def _fit(text: str, start: int, width: int) -> int:
    """Where the text that begins at `start` and fits ends; at least one character fits."""
    if text.isascii():
        return min(len(text), start + max(width, 1))
    used, end = 0, start
    while end < len(text):
        used += get_cwidth(text[end])
        if used > width and end > start:
            break
        end += 1
    return end

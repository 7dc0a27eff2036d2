"""A picture of how something grows, as SVG: two logarithmic axes, a line for each side."""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

from .figures import FLOOR, LIBRARY, REFERENCE, Growth, quartiles

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 72, 52
COLOURS: Final = {LIBRARY: "#0b63ce", REFERENCE: "#c4441c", FLOOR: "#707880"}
INK, GRID = "#24292f", "#dfe3e8"

Scale = Callable[[float], float]


def draw(growth: Growth) -> str:
    """The picture: medians with quartiles, and the exponents in the legend."""
    lines = {side: growth.line(side) for side in growth.points}
    xs = sorted({x for line in lines.values() for x, _ in line})
    values = [y for points in growth.points.values() for x in xs for y in quartiles(points[x])]
    low, high = _decades(y for y in values if y > 0)
    x_at = _scale(xs[0], max(xs[-1], xs[0] + 1), LEFT, WIDTH - RIGHT)
    y_at = _scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">'
        ),
        f"<title>{escape(growth.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 24, f"{growth.title}, {growth.unit}", size=14, bold=True),
        *_grid(xs, low, high, x_at, y_at),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, growth.x, anchor="middle"),
    ]
    for place, (side, line) in enumerate(lines.items()):
        colour = COLOURS[side]
        points = " ".join(f"{x_at(x):.1f},{y_at(max(y, low)):.1f}" for x, y in line)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        for x, y in line:
            first, third = (y_at(max(each, low)) for each in quartiles(growth.points[side][x]))
            parts.append(
                f'<path d="M{x_at(x):.1f} {first:.1f}V{third:.1f}" stroke="{colour}"/>'
                f'<circle cx="{x_at(x):.1f}" cy="{y_at(max(y, low)):.1f}" r="3.5" fill="{colour}"/>'
            )
        left = LEFT + place * 180
        said = f"{side} (exponent {signed(growth.exponent(side))})"
        parts.append(f'<circle cx="{left + 5}" cy="45" r="4" fill="{colour}"/>')
        parts.append(_text(left + 14, 49, said))
    return "\n".join([*parts, "</svg>\n"])


def signed(x: float) -> str:
    """A number with two digits after the point, and no sign before nothing."""
    return f"{x:.2f}".replace("-0.00", "0.00")


def _grid(xs: Sequence[int], low: float, high: float, x_at: Scale, y_at: Scale) -> list[str]:
    parts: list[str] = []
    for step in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = y_at(10.0**step)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{10.0**step:,g}", anchor="end"))
    for x in xs:
        parts.append(f'<path d="M{x_at(x):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
        parts.append(_text(x_at(x), HEIGHT - BOTTOM + 18, f"{x:,}", anchor="middle"))
    return parts


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, bold: bool = False
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight} '
        f'fill="{INK}">{escape(text)}</text>'
    )


def _scale(low: float, high: float, first: float, last: float) -> Scale:
    slope = (last - first) / (math.log(high) - math.log(low))
    return lambda x: first + slope * (math.log(x) - math.log(low))


def _decades(values: Iterable[float]) -> tuple[float, float]:
    known = list(values)
    low = 10.0 ** math.floor(math.log10(min(known)))
    high = 10.0 ** math.ceil(math.log10(max(known)))
    return low, high if high > low else low * 10

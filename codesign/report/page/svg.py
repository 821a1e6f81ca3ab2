"""Figures as SVG: scales with ticks, marks, words.  Colours are names of the palette of the page, which has two themes.

Every word is escaped here, so what a drawing gives is safe to place in a page.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH = 1000.0
"""Of every figure, in its own units: a page scales it to its column."""
FONT = 12.0
LETTER = 0.58 * FONT
"""Mean width of a letter of the page's sans-serif, on the wide side."""
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis: values from `low` to `high` at places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value stands; what lies outside is drawn at the edge."""
        low, high, at = (math.log10(v) for v in (self.low, self.high, max(value, self.low))) if self.log else (
            self.low, self.high, value)  # fmt: skip
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and names of the ticks: decades, or about six round steps."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [(self.place(10.0**p), power_of_ten(p)) for p in powers]
        step = _round_step((self.high - self.low) / 6)
        first = math.ceil(self.low / step - 1e-9)
        steps = range(first, math.floor(self.high / step + 1e-9) + 1)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(self.place(n * step), _short(n * step, digits, step)) for n in steps]


def linear(values: Sequence[float], start: float, end: float, zero: bool = False) -> Scale:
    """An axis around values with a little air, or from 0."""
    low, high = (0.0 if zero else min(values)), max(values)
    air = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(0.0 if zero else low - air, high + air, start, end)


def decades(values: Sequence[float], start: float, end: float) -> Scale:
    """A logarithmic axis over whole decades around values above 0."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Scale(10.0**low, 10.0 ** max(high, low + 1), start, end, log=True)


def power_of_ten(power: int) -> str:
    """1000 as such, 10⁴ and beyond as powers."""
    return f"{10.0**power:g}" if -3 <= power <= 3 else f"10{str(power).translate(SUPERSCRIPTS)}"


def _round_step(step: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    if step <= 0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(step))
    return next(m * decade for m in (1, 2, 5, 10) if m * decade >= step * (1 - 1e-9))


def _short(value: float, digits: int, step: float) -> str:
    if value and not 1e-4 <= step < 1e6:
        return f"{value:.3g}"
    return f"{value:,.{digits}f}"


@dataclass
class Drawing:
    """Marks in the order in which they are drawn; `svg` is the element."""

    height: float
    marks: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, anchor: str = "start", kind: str = "", turned: bool = False) -> None:
        """Words; `turned` runs them upwards."""
        turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
        self.marks.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}"{turn}>{html.escape(words)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "rule") -> None:
        """A straight line."""
        self.marks.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def shape(self, path: str, colour: str, kind: str, said: str = "", style: str = "", link: str = "") -> None:
        """A path in a colour of the palette; `said` is shown where a pointer rests, `link` is where a click leads."""
        title = f"<title>{html.escape(said)}</title>" if said else ""
        mark = f'<path d="{path}" class="c-{colour} {kind}"{f" style={chr(34)}{style}{chr(34)}" if style else ""}>'
        mark += f"{title}</path>"
        if link:
            mark = f'<a href="{html.escape(link, quote=True)}" aria-label="{html.escape(said, quote=True)}">{mark}</a>'
        self.marks.append(mark)

    def rect(self, x: float, y: float, width: float, height: float, colour: str, said: str = "") -> None:
        """A filled rectangle."""
        self.shape(f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z", colour, "fill", said)

    def across(self, scale: Scale, top: float, bottom: float, title: str, named: bool = True) -> None:
        """A horizontal axis with its grid between `top` and `bottom`."""
        for x, name in scale.ticks():
            self.line(x, top, x, bottom)
            if named:
                self.text(x, bottom + 17, name, "middle", "quiet")
        if title:
            self.text((scale.start + scale.end) / 2, bottom + 38, title, "middle")

    def upright(self, scale: Scale, left: float, right: float, title: str) -> None:
        """A vertical axis with its grid between `left` and `right`."""
        for y, name in scale.ticks():
            self.line(left, y, right, y)
            self.text(left - 7, y + 4, name, "end", "quiet")
        self.text(left - 58, (scale.start + scale.end) / 2, title, "middle", turned=True)

    def legend(self, entries: Sequence[tuple[str, str]], x: float, y: float) -> None:
        """Names beside their colours, in a row."""
        for name, colour in entries:
            self.rect(x, y - 9, 11, 11, colour)
            self.text(x + 16, y + 1, name)
            x += 36 + width_of(name)

    def svg(self, caption: str, links: bool = False) -> str:
        """The element; one with links is a group, since an image has no parts."""
        role = "group" if links else "img"
        head = f'<svg viewBox="0 0 {WIDTH:g} {self.height:.0f}" role="{role}" aria-label="{html.escape(caption)}">'
        return head + "".join(self.marks) + "</svg>"


def marker(symbol: str, x: float, y: float, size: float = 6.0) -> str:
    """The path of a mark: circle, square or diamond."""
    if symbol == "circle":
        return (
            f"M{x - size:.1f} {y:.1f}a{size:g} {size:g} 0 1 0 {2 * size:g} 0a{size:g} {size:g} 0 1 0 {-2 * size:g} 0z"
        )
    if symbol == "square":
        side = 1.8 * size
        return f"M{x - side / 2:.1f} {y - side / 2:.1f}h{side:g}v{side:g}h{-side:g}z"
    return f"M{x:.1f} {y - 1.3 * size:.1f}l{size:g} {1.3 * size:g}l{-size:g} {1.3 * size:g}l{-size:g} {-1.3 * size:g}z"


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """The path through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def cut(name: str, longest: int = 48) -> str:
    """A name for a figure: a long one is cut."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def width_of(words: str) -> float:
    """About how wide words are."""
    return LETTER * len(words)

"""Curves over a logarithmic axis as a standalone SVG, one panel beside the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 300, 200, 46, 56, 46, 28
COLOURS = ("#1f77b4", "#7f7f7f", "#d62728")


@dataclass(frozen=True, slots=True)
class Line:
    """A named curve of (x, y)."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """A title, the labelled places of the x axis, and the curves."""

    title: str
    ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]


def draw(panels: Sequence[Panel], title: str) -> str:
    """The SVG; every panel has the same y axis, logarithmic too."""
    values = [y for panel in panels for line in panel.lines for _, y in line.points]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
    total = len(panels) * (WIDTH + LEFT + GAP)
    names = panels[0].lines
    legend = "".join(
        f'<text x="{LEFT + 220 + 190 * i}" y="20" fill="{COLOURS[i]}">{escape(line.name)}</text>'
        for i, line in enumerate(names)
    )
    body = "".join(
        _panel(panel, i * (WIDTH + LEFT + GAP) + LEFT, low, high) for i, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {TOP + HEIGHT + BOTTOM}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{LEFT}" y="20" font-weight="bold">{escape(title)}</text>{legend}{body}</svg>\n'
    )


def _panel(panel: Panel, left: float, low: float, high: float) -> str:
    first, last = math.log10(panel.ticks[0][0]), math.log10(panel.ticks[-1][0])

    def across(x: float) -> float:
        return left + WIDTH * (math.log10(x) - first) / ((last - first) or 1)

    def down(y: float) -> float:
        return TOP + HEIGHT * (1 - math.log10(y / low) / math.log10(high / low))

    parts = [f'<text x="{left}" y="{TOP - 12}">{escape(panel.title)}</text>']
    decade = low
    while decade <= high:
        parts.append(
            f'<path d="M{left} {down(decade):.1f}h{WIDTH}" stroke="#ddd"/>'
            f'<text x="{left - 6}" y="{down(decade) + 4:.1f}" text-anchor="end">{decade:g}</text>'
        )
        decade *= 10
    parts += [
        f'<text x="{across(x):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle" font-size="9">'
        f"{escape(label)}</text>"
        for x, label in panel.ticks
    ]
    for colour, line in zip(COLOURS, panel.lines, strict=False):
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{colour}"/>' for x, y in line.points
        ]
    return "".join(parts)

"""Lines that stay at the bottom of a terminal: erased and drawn again below whatever is printed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console
from rich.text import Text

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
CLEAR = "\x1b[H\x1b[2J"


class Region:
    """Each drawing is one write. Raises OSError, ValueError where the terminal is gone."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: list[int] = []  # widths of the lines that stand now, in cells

    @property
    def size(self) -> tuple[int, int]:
        """(columns, lines) as the terminal has them now."""
        with suppress(OSError, ValueError, AttributeError):
            columns, lines = os.get_terminal_size(self._console.file.fileno())
            if columns and lines:
                return columns, lines
        return self._console.width, self._console.height

    def start(self) -> None:
        self._write(HIDE)

    def stop(self) -> None:
        """Leave what stands; what is printed next begins below it."""
        self._write(("\n" if self._drawn else "") + SHOW)
        self._drawn = []

    def draw(self, above: Sequence[Text], below: Sequence[Text], *, clear: bool = False) -> None:
        """Print `above` for good, then `below` until the next drawing; lines of `below` are cut to fit."""
        columns, _ = self.size
        text = CLEAR if clear else self._erasure(columns)
        below = [line.copy() for line in below]
        for line in below:
            line.truncate(max(1, columns - 1), overflow="ellipsis")
        with self._console.capture() as captured:
            for line in above:
                self._console.print(line)
            if below:
                self._console.print(Text("\n").join(below), end="")
        self._write(text + captured.get())
        self._drawn = [line.cell_len for line in below]

    def _erasure(self, columns: int) -> str:
        """Back to the first line that was drawn. Since then the terminal may have become narrower, and
        shows a line of it in several."""
        height = sum(max(1, -(-width // columns)) for width in self._drawn)
        return "\r" + (f"\x1b[{height - 1}A" if height > 1 else "") + "\x1b[J"

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()

"""A small terminal: what stands on its screen after the bytes that a program wrote.

Lines are wrapped, and wrapped again at another size, as tmux does."""

from __future__ import annotations

import re

_PIECE = re.compile(
    r"\x1b\[(?P<numbers>[0-9;?]*)(?P<what>[A-Za-z])|\x1b[=>]|(?P<control>[\r\n\b\x07])|(?P<text>[^\x1b\r\n\b\x07]+)"
)


class Emulator:
    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self.lines = columns, lines
        self._rows: list[str] = [""]  # with what has scrolled out above
        self._wrapped: list[bool] = [False]  # whether the row goes on in the next one
        self._top = 0
        self._row = self._column = 0  # the row counts from the first one of all
        self.cursor = True

    def feed(self, text: str) -> None:
        for piece in _PIECE.finditer(text):
            if piece["text"] is not None:
                self._print(piece["text"])
            elif piece["control"] is not None:
                self._control(piece["control"])
            elif piece["what"]:
                self._sequence(piece["what"], piece["numbers"])

    def resize(self, columns: int, lines: int) -> None:
        cursor = self._logical_place()
        logical: list[str] = []
        joined = False
        for row, wrapped in zip(self._rows, self._wrapped, strict=True):
            logical.append(logical.pop() + row if joined else row)
            joined = wrapped
        self._rows, self._wrapped = [], []
        for number, line in enumerate(logical):
            pieces = [line[at : at + columns] for at in range(0, len(line), columns)] or [""]
            if number == cursor[0]:
                offset = min(cursor[1], len(line))
                self._row = len(self._rows) + min(offset // columns, len(pieces) - 1)
                self._column = offset % columns
            self._rows += pieces
            self._wrapped += [True] * (len(pieces) - 1) + [False]
        self.columns, self.lines = columns, lines
        self._top = max(0, self._row - lines + 1, min(self._top, len(self._rows) - lines))

    def _logical_place(self) -> tuple[int, int]:
        line = offset = 0
        for number in range(self._row):
            line, offset = (
                (line, offset + len(self._rows[number])) if self._wrapped[number] else (line + 1, 0)
            )
        return line, offset + self._column

    @property
    def screen(self) -> list[str]:
        """The rows that are seen, without blanks at their ends, nor empty ones at the end."""
        rows = [row.rstrip() for row in self._rows[self._top : self._top + self.lines]]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def history(self) -> list[str]:
        """All rows, with those that have scrolled out."""
        return [row.rstrip() for row in self._rows]

    def _print(self, text: str) -> None:
        for char in text:
            if self._column >= self.columns:
                self._wrapped[self._row] = True
                self._column = 0
                self._down()
            row = self._rows[self._row].ljust(self._column)
            self._rows[self._row] = row[: self._column] + char + row[self._column + 1 :]
            self._column += 1

    def _control(self, char: str) -> None:
        if char == "\r":
            self._column = 0
        elif char == "\n":
            self._wrapped[self._row] = False
            self._down()
        elif char == "\b":
            self._column = max(0, self._column - 1)

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append("")
            self._wrapped.append(False)
        self._top = max(self._top, self._row - self.lines + 1)

    def _sequence(self, what: str, numbers: str) -> None:
        count = int(numbers) if numbers.isdigit() else 1
        if what == "A":
            self._row = max(self._top, self._row - count)
        elif what == "H":
            self._row, self._column = self._top, 0
        elif what == "J":
            self._erase(everything=numbers == "2")
        elif what in "hl" and numbers == "?25":
            self.cursor = what == "h"

    def _erase(self, *, everything: bool) -> None:
        if everything:
            del self._rows[self._top :], self._wrapped[self._top :]
            self._rows += [""] * (self._row - self._top + 1)
            self._wrapped += [False] * (self._row - self._top + 1)
            return
        del self._rows[self._row + 1 :], self._wrapped[self._row + 1 :]
        self._rows[self._row] = self._rows[self._row][: self._column]
        self._wrapped[self._row] = False

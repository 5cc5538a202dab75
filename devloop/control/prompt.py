"""A question below the rows, answered key by key: a name out of some, or any text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

ESCAPE, ENTER, TAB, BACKSPACES, ERASE_LINE = "\x1b", "\r", "\t", ("\x7f", "\x08"), "\x15"


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` is one of the choices, or "" for what Enter alone means; of a free question, what was typed."""

    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """`question`: "rebuild"; `empty`: what Enter alone means, "all". Without `choices` any text will do."""

    question: str
    empty: str
    choices: tuple[str, ...] = ()
    text: str = ""
    turn: int = 0  # how often Tab was typed: which of the matching choices stands there
    wrong: bool = False  # the last Enter met no choice

    def typed(self, key: str) -> Prompt | Answer | None:
        """The prompt after one more key, its answer, or None: given up."""
        if key == ESCAPE:
            return None
        if key == ENTER:
            return self._answer()
        if key == TAB:
            return replace(self, turn=self.turn + 1, wrong=False)
        if key in BACKSPACES:
            return replace(self, text=self._standing[:-1], turn=0, wrong=False)
        if key == ERASE_LINE:
            return replace(self, text="", turn=0, wrong=False)
        if not key.isprintable():
            return self
        return replace(self, text=self._standing + key, turn=0, wrong=False)

    def shown(self) -> tuple[str, str]:
        """(what is typed, with its question; what may be typed)"""
        hint = f"Enter: {self.empty}, Esc: back"
        if self.choices:
            first = ", ".join(self._matching[:3])
            hint = "no such service, Esc: back" if self.wrong else f"{hint}, Tab: {first}"
        return f"{self.question}: {self._standing}", hint

    @property
    def _matching(self) -> Sequence[str]:
        """Those that begin with what was typed, then those that have it anywhere."""
        begins = [name for name in self.choices if name.startswith(self.text)]
        return [*begins, *(name for name in self.choices if self.text in name and name not in begins)]

    @property
    def _standing(self) -> str:
        """What stands there now: what was typed, or the choice that Tab put there."""
        matching = self._matching
        return matching[(self.turn - 1) % len(matching)] if self.turn and matching else self.text

    def _answer(self) -> Prompt | Answer:
        text = self._standing
        if not self.choices or not text or text in self.choices:
            return Answer(text)
        matching = self._matching
        return Answer(matching[0]) if matching else replace(self, wrong=True)

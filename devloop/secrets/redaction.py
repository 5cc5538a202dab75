"""What must not be shown, and how it is taken out of whatever devloop tells: the one owner of that (S30).

`Secrets` knows the values that `secret_values` finds. `Secrets.event` cleans each event before any sink
has it, `Secrets.outcome` and `DevloopError.conceal` what does not go through events. What devloop itself
names (services, images, states, paths) stays: only texts that may quote somebody else are searched.
"""

from __future__ import annotations

import base64
import copy
import html
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from devloop.events import Checked, Event, TripEnded, TripStarted
from devloop.model import Failed, Outcome
from devloop.secrets.sources import Sources

WHOLE_WORD = 6  # a shorter value is hidden only where it stands alone: else it would blot out parts of words
CUT = 8  # characters of a value at the end or the start of a line that show that the line was cut within it
# Fields of events that hold devloop's own words and the names of things.
OWN = frozenset(
    "service services stage state phase pod container ref how unit level before after reason what "  # noqa: SIM905
    "changed".split()
)
# In a file of settings (.env, .npmrc, netrc, JSON) the value may be printed without its name.
_SETTING = re.compile(
    r"""(?:^\s*(?:export\s+)?[A-Za-z_]\w*\s*=|(?:password|token|secret|key)["']?\s*(?:[:=]|\s))\s*"""
    r"""["']?(?P<value>[^\s"',]{6,})""",
    re.IGNORECASE,
)
_COLOUR = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_TOKEN_END = re.compile(r"[\s\"'`(),;=<>\[\]{}|]")

Hide = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Shape:
    """One text in which a value may appear."""

    text: str
    shown: str
    alone: bool  # only as a whole word

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        start = text.find(self.text)
        while start >= 0:
            end = start + len(self.text)
            if not self.alone or _is_word(text, start, end):
                yield start, end
            start = text.find(self.text, start + 1)


class Secrets:
    """Puts [NAME] in the place of every known value, in whatever shape it appears."""

    def __init__(self, sources: Sources | None = None) -> None:
        self._shapes: dict[str, _Shape] = {}
        self._begins: dict[str, list[_Shape]] = {}  # by their first CUT characters: there may be thousands
        self._short: list[_Shape] = []
        self._all = ""
        self._roots: tuple[Path, ...] = ()
        self._sources = Sources()
        self._stamp: tuple[object, ...] = ()
        if sources is not None:
            self.learn(sources)

    def learn(self, sources: Sources) -> None:
        """Hide these from now on, and go on hiding what was known: text of earlier builds may still come."""
        self._sources, self._stamp = sources, sources.stamp()
        self._roots = tuple(dict.fromkeys([*self._roots, *sources.roots()]))
        public = sources.public()
        for name, value in sources.values():
            for shape in _shapes(name, value):
                if shape.text not in public:
                    self._shapes.setdefault(shape.text, shape)
        self._begins = {}
        for shape in self._shapes.values():
            self._begins.setdefault(shape.text[:CUT], []).append(shape)
        self._short = [shape for begin in self._begins if len(begin) < CUT for shape in self._begins[begin]]
        self._all = "\0".join(self._shapes)

    def refresh(self) -> None:
        """Read again what changed on disk: a token may be renewed while devloop runs."""
        if self._sources.stamp() != self._stamp:
            self.learn(self._sources)

    # --- what is shown

    def event(self, event: Event) -> Event:
        """The event as sinks may have it."""
        if isinstance(event, TripStarted):
            self.refresh()
        found = {}
        for field in fields(event):
            if field.name in OWN:
                continue
            value = getattr(event, field.name)
            clean = self._checked(value) if isinstance(event, Checked) else self._clean(value)
            if clean != value or (isinstance(event, TripEnded) and clean is not value):
                found[field.name] = clean
        return replace(event, **found) if found else event

    def outcome(self, outcome: Outcome) -> Outcome:
        """The outcome with nothing secret in its error."""
        if not isinstance(outcome, Failed):
            return outcome
        error = copy.copy(outcome.error)
        error.conceal(self)
        return replace(outcome, error=error)

    def __call__(self, text: str) -> str:
        """The text without any value."""
        shown = self._hide(text)
        if "\x1b" in shown and (bare := _COLOUR.sub("", shown)) != (hidden := self._hide(bare)):
            return hidden  # colours within a value
        return shown

    def _hide(self, text: str) -> str:
        spans = sorted(self._found(text), key=lambda span: (span[0], -span[1]))
        if not spans:
            return text
        pieces, at = [], 0
        for start, end, shown in spans:
            if start >= at:
                pieces += [text[at:start], shown]
            at = max(at, end)  # values may overlap: what is left of the second goes with the first
        return "".join((*pieces, text[at:]))

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self(value)
        if isinstance(value, tuple):
            return tuple(map(self._clean, value))
        return self.outcome(value) if isinstance(value, Failed) else value

    def _checked(self, value: Any) -> Any:
        """Findings are (severity, text)."""
        return tuple((grade, self(text)) for grade, text in value) if isinstance(value, tuple) else value

    def _found(self, text: str) -> Iterator[tuple[int, int, str]]:
        begins = {text[start : start + CUT] for start in range(len(text) - CUT + 1)} & self._begins.keys()
        for shape in (*self._short, *(shape for begin in begins for shape in self._begins[begin])):
            for start, end in shape.spans(text):
                if not self._in_path(text, start, end):
                    yield start, end, shape.shown
        yield from self._cut(text)

    def _cut(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Parts of values at the ends of lines: somebody broke or cut the text there."""
        offset = 0
        for line in text.splitlines(keepends=True):
            body = line.strip()
            begin = offset + line.index(body) if body else offset
            offset += len(line)
            if len(body) < CUT:
                continue
            head, tail = body[:CUT], body[-CUT:]
            if head not in self._all and tail not in self._all:
                continue
            for shape in self._shapes.values():
                if len(shape.text) <= CUT:
                    continue
                if tail in shape.text and (size := _overlap(shape.text, body)):
                    yield begin + len(body) - size, begin + len(body), shape.shown
                if head in shape.text and (size := _overlap(body, shape.text)):
                    yield begin, begin + size, shape.shown
                if body in shape.text:
                    yield begin, begin + len(body), shape.shown

    def _in_path(self, text: str, start: int, end: int) -> bool:
        """Whether this is part of the path of a file of the project, or of any that is there."""
        before = [found.end() for found in _TOKEN_END.finditer(text, 0, start)]
        after = _TOKEN_END.search(text, end)
        token = text[before[-1] if before else 0 : after.start() if after else len(text)].rstrip(":.")
        token = re.sub(r"(:\d+)+:?$", "", token)
        if "/" not in token or "://" in token:
            return False
        if token.startswith("/"):
            known = any(Path(token).is_relative_to(root) for root in self._roots)
            return known or os.path.lexists(token)
        return any(os.path.lexists(root / token) for root in self._roots)


def _overlap(first: str, second: str) -> int:
    """How many characters, at least CUT, begin `first` and end `second`; 0 for the whole or for none."""
    longest = min(len(first), len(second))
    return next((n for n in range(longest, CUT - 1, -1) if second.endswith(first[:n])), 0)


def _shapes(name: str, value: str) -> Iterator[_Shape]:
    """The value itself, its lines, and as JSON, URLs, HTML and base64 write it."""
    whole = value.strip()
    if not whole:
        return
    shown = f"[{name}]"
    lines = [line.strip() for line in whole.splitlines()]
    settings = [
        found["value"] for line in lines if len(lines) > 1 or " " in line for found in _SETTING.finditer(line)
    ]
    pieces = [piece for piece in (*lines, *settings) if len(lines) == 1 or any(map(str.isalnum, piece))]
    for text in dict.fromkeys((whole, *pieces)):
        yield _Shape(text, shown, alone=len(text) < WHOLE_WORD)
    for text in (value, whole, *(pieces if len(pieces) <= 100 else ())):
        raw = text.encode("utf-8", "surrogateescape")
        written = (
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
            *(_quoted(text)),
            html.escape(text),
            base64.b64encode(raw).decode().rstrip("="),
            base64.urlsafe_b64encode(raw).decode().rstrip("="),
        )
        yield from (_Shape(one, shown, alone=False) for one in written if len(one) >= WHOLE_WORD)


def _quoted(text: str) -> Iterator[str]:
    with suppress(UnicodeEncodeError):
        yield quote(text, safe="")
        yield quote(text)
        yield quote_plus(text)


def _is_word(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before and (before[-1].isalnum() or before[-1] in "_/-\\"):
        return False
    if len(before) == 2 and before[1] in ".:" and before[0].isalnum() and before[1] == ".":
        return False
    if after and (after[0].isalnum() or after[0] in "_/-\\"):
        return False
    return not (len(after) == 2 and after[0] == "." and after[1].isalnum())

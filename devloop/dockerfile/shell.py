"""Variables in a Dockerfile, expanded as BuildKit's shell lexer does it (frontend/dockerfile/shell)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from devloop.dockerfile.wildcards import STAR, expression

# Value of a variable, None where it is known to be unset. Raises UnresolvableError where it is unknown.
Lookup = Callable[[str], str | None]

_SPECIAL_PARAMETERS = "@*#?-$!0"


class ExpansionError(ValueError):
    """The word is wrong: BuildKit refuses it too."""


class UnresolvableError(Exception):
    """The value hangs on something that only the build knows, as the environment of a base image."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def expand(word: str, lookup: Lookup, escape: str = "\\") -> str:
    """The word without its quotes and escapes, its variables replaced.

    Raises ExpansionError, UnresolvableError.
    """
    return _WordReader(word, lookup, escape).read(None)


def expand_text(text: str, lookup: Lookup) -> str:
    """A heredoc's content: variables replaced, quotes left alone."""
    return _WordReader(text, lookup, "\\", quotes=False).read(None)


@dataclass(slots=True)
class _WordReader:
    """One pass over one word. `raw_escapes`: keep the escape character (inside `${x#pattern}`)."""

    text: str
    lookup: Lookup
    escape: str
    quotes: bool = True
    raw_escapes: bool = False
    at: int = field(default=0, init=False)

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        char = self.peek()
        self.at += len(char)
        return char

    def read(self, stop: str | None) -> str:
        out: list[str] = []
        while char := self.peek():
            if char == stop:
                self.next()
                return "".join(out)
            if char == "$":
                out.append(self.dollar())
            elif self.quotes and char == "'":
                out.append(self.single_quoted())
            elif self.quotes and char == '"':
                out.append(self.double_quoted())
            elif char == self.escape:
                self.next()
                out.append((self.escape if self.raw_escapes else "") + self.next())
            else:
                out.append(self.next())
        if stop is not None:
            raise ExpansionError(f"unexpected end of statement while looking for matching {stop}")
        return "".join(out)

    def single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise ExpansionError("unexpected end of statement while looking for matching single-quote")
        inside, self.at = self.text[self.at + 1 : end], end + 1
        return inside

    def double_quoted(self) -> str:
        self.next()
        out: list[str] = []
        while char := self.peek():
            if char == '"':
                self.next()
                return "".join(out)
            if char == "$":
                out.append(self.dollar())
                continue
            self.next()
            if char == self.escape:
                if self.raw_escapes:
                    out.append(char)
                if not self.peek():
                    continue
                if self.peek() in ('"', "$", self.escape):
                    char = self.next()
            out.append(char)
        raise ExpansionError("unexpected end of statement while looking for matching double-quote")

    def dollar(self) -> str:
        self.next()
        if self.peek() != "{":
            name = self.name()
            return (self.lookup(name) or "") if name else "$"
        self.next()
        if not self.peek():
            raise ExpansionError("syntax error: missing '}'")
        if self.peek() in "{}:":
            raise ExpansionError("syntax error: bad substitution")
        name, operator = self.name(), self.next()
        if operator == "}":
            return self.lookup(name) or ""
        if operator == "/":
            return self.replaced(name)
        empty_is_unset = operator == ":"
        return self.modified(name, self.next() if empty_is_unset else operator, empty_is_unset)

    def modified(self, name: str, operator: str, empty_is_unset: bool) -> str:
        trims = operator in ("#", "%")
        if operator not in ("+", "-", "?", "#", "%") or (trims and empty_is_unset):
            raise ExpansionError(f"unsupported modifier ({operator}) in substitution")
        word = self.nested("}", raw=trims)
        value = self.lookup(name)
        missing = value is None or (empty_is_unset and not value)
        if operator == "-":
            return word if missing else value or ""
        if operator == "+":
            return "" if missing else word
        if operator == "?":
            if missing:
                raise ExpansionError(f"{name}: {word or 'is not allowed to be unset'}")
            return value or ""
        greedy = word.startswith(operator)
        return _trim(value or "", word[1:] if greedy else word, greedy, at_end=operator == "%")

    def replaced(self, name: str) -> str:
        everywhere = self.peek() == "/"
        if everywhere:
            self.next()
        pattern = re.compile(_pattern(self.nested("/", raw=True), greedy=True))
        replacement = self.nested("}", raw=True)
        return pattern.sub(lambda _: replacement, self.lookup(name) or "", count=0 if everywhere else 1)

    def nested(self, stop: str, *, raw: bool) -> str:
        before, self.raw_escapes = self.raw_escapes, raw
        try:
            return self.read(stop)
        finally:
            self.raw_escapes = before

    def name(self) -> str:
        rest = self.text[self.at :]
        if rest[:1].isdigit():
            found = re.match(r"\d+", rest)
            name = found[0] if found else ""
        elif rest[:1] and rest[0] in _SPECIAL_PARAMETERS:
            name = rest[0]
        else:
            found = re.match(r"\w*", rest)
            name = found[0] if found else ""
        self.at += len(name)
        return name


def _pattern(shell: str, *, greedy: bool) -> str:
    """A shell pattern (`*`, `?`, no brackets) as a regular expression."""
    out: list[str] = []
    at = 0
    while at < len(shell):
        char = shell[at]
        at += 1
        if char == "*":
            out.append(STAR)
        elif char == "?":
            out.append(".")
        elif char == "\\":
            following = shell[at : at + 1]
            if following not in ("}", "/", "*", "?", "\\") or not following:
                raise ExpansionError(f"invalid escape '\\{following}'")
            out.append(re.escape(following))
            at += 1
        else:
            out.append(re.escape(char))
    return expression(out, greedy=greedy)


def _trim(value: str, shell: str, greedy: bool, *, at_end: bool) -> str:
    if not at_end:
        found = re.match(_pattern(shell, greedy=greedy), value)
        return value[found.end() :] if found else value
    # The shortest or longest suffix: try where it may begin.
    whole = re.compile(_pattern(shell, greedy=True) + r"\Z")
    starts = range(len(value) + 1) if greedy else range(len(value), -1, -1)
    return next((value[:start] for start in starts if whole.match(value, start)), value)

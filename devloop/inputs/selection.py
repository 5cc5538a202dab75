"""Which paths of a context the stages read: sources of COPY part by part, and the ignore rules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from devloop.dockerfile.dockerignore import BadPatternError, IgnoreRules
from devloop.dockerfile.ignore_pattern import check_glob
from devloop.dockerfile.plan import Read, has_wildcard
from devloop.dockerfile.wildcards import STAR, expression

# A part of a pattern: a name as it is, or an expression for it.
Part = str | re.Pattern[str]


@dataclass(frozen=True, slots=True)
class SourcePattern:
    """One source of a COPY, part by part; no parts = the whole context."""

    parts: tuple[Part, ...]
    parents: bool = False
    hops: int = field(default=0, compare=False)  # links it took to come here

    def follows(self, depth: int) -> bool:
        literal = all(isinstance(part, str) for part in self.parts[:depth])
        return depth == len(self.parts) or (depth < len(self.parts) and literal)

    def fits(self, parts: tuple[str, ...]) -> bool:
        """Do the path and the pattern agree as far as the shorter one goes?"""
        for wanted, part in zip(self.parts, parts, strict=False):
            if wanted != part if isinstance(wanted, str) else not wanted.fullmatch(part):
                return False
        return True


class Selection:
    """What the stages read, and what the ignore file leaves of it. Paths are context-relative."""

    def __init__(self, patterns: Iterable[SourcePattern], rules: IgnoreRules) -> None:
        unique = tuple(dict.fromkeys(patterns))
        whole = [p for p in unique if not p.parts]
        self.patterns = tuple(whole[:1]) if whole else unique
        self.rules = rules

    @classmethod
    def of(cls, reads: Iterable[Read], rules: IgnoreRules) -> Selection:
        return cls((_pattern(read) for read in reads), rules)

    def takes(self, path: str) -> bool:
        """Would a COPY take a file of this path?"""
        return self.selects(split(path)) and not self.rules.leaves_out(path)

    def concerns(self, path: str) -> bool:
        """Can a change of this path change what is read? Directories on the way to a source count."""
        parts = split(path)
        if not any(p.fits(parts) for p in self.patterns):
            return False
        return not self.rules.leaves_out(path) or self.rules.may_descend(path)

    def selects(self, parts: tuple[str, ...]) -> bool:
        return any(
            p.fits(parts) and (len(parts) >= len(p.parts) or p.parents) and bool(parts) for p in self.patterns
        )

    def leads_to(self, parts: tuple[str, ...]) -> list[SourcePattern]:
        """The patterns that the path is a source of, or lies on the way to: there a link is followed,
        but none below a wildcard, unless it is the source itself."""
        return [p for p in self.patterns if p.fits(parts) and p.follows(len(parts))]


def split(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")) if path and path != "." else ()


def _pattern(read: Read) -> SourcePattern:
    return pattern_of(read.pattern, parents=read.parents)


def pattern_of(text: str, *, parents: bool = False) -> SourcePattern:
    """A source as BuildKit reads it: cleaned, context-relative, wildcards and all."""
    parts: list[Part] = []
    for part in split(text):
        if not has_wildcard(part):
            parts.append(re.sub(r"\\(.)", r"\1", part))
            continue
        expression = _glob(part)
        if expression is None:
            break  # what cannot be matched part by part counts from here on as a whole
        parts.append(expression)
    return SourcePattern(tuple(parts), parents)


def _glob(part: str) -> re.Pattern[str] | None:
    """One part of a filepath.Match pattern as an expression; None for a class that may match a slash."""
    try:
        check_glob(part)
    except BadPatternError:
        return None
    out: list[str] = []
    at = 0
    while at < len(part):
        char = part[at]
        at += 1
        if char == "*":
            out.append(STAR)
        elif char == "?":
            out.append(".")
        elif char == "[":
            found = re.compile(r"((?:\\.|[^\\\]])+)\]", re.DOTALL).match(part, at)
            if part[at] == "^" or not found:
                return None
            inside = re.sub(r"\\?([^-\\])", lambda m: re.escape(m[1]), found[1])
            out.append(f"[{inside}]")
            at = found.end()
        elif char == "\\":
            out.append(re.escape(part[at : at + 1]))
            at += 1
        else:
            out.append(re.escape(char))
    return re.compile(expression(out), re.DOTALL)

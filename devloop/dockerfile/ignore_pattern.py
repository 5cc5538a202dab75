"""One line of .dockerignore, compiled as moby compiles it and as Docker 20.10 does."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass

from devloop.dockerfile.go_regexp import BadPatternError, UnsureError, compile_go

Match = Callable[[str], bool]
Match2010 = Callable[[str], bool | None]  # None: unknown
BOM = "\ufeff"
_ESCAPED_BY_2010 = frozenset(".$")
_ESCAPED = frozenset(".+()$")  # moby means `| { }` too, but its table of bits is too small for them
# What Go's strings.TrimSpace takes off; Python's strip takes more.
SPACE = "".join(char for char in map(chr, range(0x3001)) if char.isspace() and char not in "\x1c\x1d\x1e\x1f")


@dataclass(frozen=True, slots=True)
class IgnorePattern:
    """One line of an ignore file, compiled. `again` = it began with `!`."""

    text: str
    again: bool
    line: int
    match: Match
    may_match_below: Match  # of a directory: can the pattern match anything in it?
    match_2010: Match2010
    parts: int
    unsure: bool = False  # what newer commands make of it is not known


def go_clean(path: str) -> str:
    """Go's filepath.Clean: Python's normpath, but two leading slashes become one."""
    cleaned = posixpath.normpath(path) if path else "."
    return "/" + cleaned.lstrip("/") if cleaned.startswith("//") else cleaned


def compile_pattern(line: str, number: int) -> IgnorePattern:
    text = line.strip(SPACE)
    again = text.startswith("!")
    if again:
        text = text[1:].strip(SPACE)
        if not text:
            raise BadPatternError('illegal exclusion pattern: "!"')
    text = go_clean(text)
    if len(text) > 1 and text.startswith("/"):
        text = text[1:]
    text = go_clean(text.strip(SPACE))
    if not again and text.startswith("!"):  # `/!x`, `./!x`: what is cleaned is read again
        again, text = True, text[1:]
        if not text:
            raise BadPatternError('illegal exclusion pattern: "!"')
    check_glob(text)
    kind, expression = translate(text, _ESCAPED)
    parts = text.count("/") + 1
    try:
        match = _compile(text, kind, expression)
    except (
        BadPatternError,
        UnsureError,
    ):  # docker may refuse it when it comes to this line, or never come to it
        return IgnorePattern(
            text, again, number, lambda _: again, lambda _: True, lambda _: None, parts, unsure=True
        )
    return IgnorePattern(text, again, number, match, _below(text), _match_2010(text, match), parts)


def check_glob(glob: str) -> None:
    """Refuse what Go's filepath.Match calls a bad pattern: raises BadPatternError."""
    index, end = 0, len(glob)
    while index < end:
        if glob[index] == "\\":
            index += 1
            if index >= end:
                raise BadPatternError("syntax error in pattern")
        elif glob[index] == "[":
            index = _check_class(glob, index + 1)
        index += 1


def _check_class(glob: str, index: int) -> int:
    """Index of the "]" that ends the class that begins at `index`."""
    if glob[index : index + 1] == "^":
        index += 1
    ranges = 0
    while True:
        if glob[index : index + 1] == "]" and ranges:
            return index
        index = _check_class_char(glob, index)
        if glob[index : index + 1] == "-":
            index = _check_class_char(glob, index + 1)
        ranges += 1


def _check_class_char(glob: str, index: int) -> int:
    if glob[index : index + 1] in ("", "-", "]"):
        raise BadPatternError("syntax error in pattern")
    if glob[index] == "\\":
        index += 1
    if index + 1 >= len(glob):
        raise BadPatternError("syntax error in pattern")
    return index + 1


def _compile(text: str, kind: str, expression: str) -> Match:
    """Moby's Pattern.compile: the same four kinds of match, the same regular expression."""
    if kind == "exact":
        return text.__eq__
    if kind == "prefix":
        prefix = text[:-2]
        return lambda path: path.startswith(prefix)
    if kind == "suffix":
        suffix = text[2:]
        bare = suffix[1:] if suffix.startswith("/") else None
        return lambda path: path.endswith(suffix) or path == bare
    found = compile_go(expression)
    return found.found_in


def _match_2010(text: str, newer: Match) -> Match2010:
    """What 20.10 makes of it: always a regular expression, and that of its own."""
    try:
        own = compile_go(translate(text, _ESCAPED_BY_2010)[1])
    except BadPatternError:
        return newer  # it refuses to build, so there is nothing to differ from
    except UnsureError:
        return lambda path: None
    return own.found_in


def translate(text: str, special: frozenset[str]) -> tuple[str, str]:
    """(exact | prefix | suffix | regex, the expression), character by character as moby does it."""
    kind, out, index = "exact", ["^"], int(text.startswith(BOM))  # Go's scanner drops a mark in front
    while index < len(text):
        char, start = text[index], index
        index += 1
        if text.startswith("**", start):
            kind, expression, index = _translate_stars(text, start, kind)
            out.append(expression)
        elif char in "*?":
            out.append("[^/]*" if char == "*" else "[^/]")
            kind = "regex"
        elif char in special:
            out.append("\\" + char)
        elif char == "\\":
            out.append("\\" + text[index : index + 1])
            kind = "regex"
            index += 1
        else:
            out.append(char)
            kind = "regex" if char in "[]" else kind
    return kind, "".join(out) + "$"


def _translate_stars(text: str, start: int, kind: str) -> tuple[str, str, int]:
    """`**` at `start`, with the slash after it: kind of match, expression, where to go on."""
    index = start + 2 + text.startswith("/", start + 2)
    if index < len(text):
        kind, expression = "regex", "(.*/)?"
    elif kind == "exact":
        kind, expression = "prefix", ".*"
    else:
        kind, expression = "regex", ".*"
    return "suffix" if start == 0 else kind, expression, index


def _below(text: str) -> Match:
    """Can the pattern match something below a directory? Never False where it can."""
    wanted: list[Match | None] = []
    for part in text.split("/"):
        if "**" in part or "[" in part or "]" in part or "\\" in part or "^" in part:
            wanted.append(None)  # from here on anything is possible
            break
        try:
            wanted.append(_compile(part, *translate(part, _ESCAPED)))
        except (BadPatternError, UnsureError):
            wanted.append(None)
            break

    def may_match_below(directory: str) -> bool:
        for match, part in zip(wanted, directory.split("/"), strict=False):
            if match is None:
                return True
            if not match(part):
                return False
        return True

    return may_match_below

"""What a build context leaves out: Docker's .dockerignore rules, and editors' files. Long as the rules are.

The rules are those of moby's patternmatcher (`MatchesOrParentMatches`): the last pattern that matches
the path or one of its parents decides, `!` takes back, `*` and `?` stop at a slash, `**` does not.
docker-py's own matcher differs from this in nine of fifteen cases that were tried; nothing here uses it.

Docker 20.10 (Debian 12) reads some lines in its own way, nearly all of them with `!` behind a directory
that is left out. Where it would take a file that newer ones leave out, or the other way round, the path
is `disputed`: it counts as an input, so that no edit is lost on either, and no delta is made from it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devloop.errors import FingerprintError

Match = Callable[[str], bool]

_BOM = "\ufeff"
_MOST_REMEMBERED = 200_000  # directories; a daemon is asked about new ones for weeks
_REGEX_SPECIAL = frozenset(".+()|{}$")
# Escapes that a pattern may hold by accident (`\d`) and that mean the same to Go and to Python.
_SHARED_ESCAPES = frozenset("dDwWsSbBAafnrtv")
_POSIX_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "space": r"\t\n\v\f\r ",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
    "punct": r"!-/:-@\[-`{-~",
}


class BadPatternError(ValueError):
    """A pattern that Docker refuses as well."""


def candidates(context: Path, dockerfile: Path) -> tuple[Path, Path]:
    """Where the rules may stand; the first that exists is the only one that counts."""
    return dockerfile.with_name(dockerfile.name + ".dockerignore"), context / ".dockerignore"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of an ignore file, compiled. `again` = it began with `!`."""

    text: str
    again: bool
    line: int
    match: Match
    may_match_below: Match  # of a directory: can the pattern match anything in it?
    match_2010: Match
    parts: int


class IgnoreRules:
    """The rules of one ignore file. Paths are relative to the context, "/" separated.

    Directories that were asked for are remembered, so a walk costs one look per path.
    """

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.patterns = patterns
        self._last = len(patterns) - 1
        self._deciders: dict[str, int] = {"": -1, ".": -1}
        # Without a `!` a matched directory is pruned by both, which leaves only `**x` to differ on.
        self._versions_differ = any(p.again or re.match(r"\*\*[^/]", p.text) for p in patterns)
        self._pruned_2010: dict[str, bool] = {"": False, ".": False}

    @classmethod
    def parse(cls, text: str, name: str = ".dockerignore") -> IgnoreRules:
        """Raises FingerprintError naming the line of a pattern that Docker would refuse."""
        patterns = []
        # bufio.Scanner breaks lines at \n alone and drops one \r before it.
        for number, line in enumerate(text.removeprefix(_BOM).split("\n"), 1):
            if line.startswith("#") or not line.strip():
                continue
            try:
                patterns.append(_pattern(line, number))
            except BadPatternError as problem:
                raise FingerprintError(
                    f"{name}:{number}: {problem}: {line.strip()!r}",
                    reason="BadIgnorePattern",
                    hint="docker build refuses this line too; see docs.docker.com, .dockerignore files",
                ) from problem
        return cls(tuple(patterns))

    def matches(self, path: str) -> bool:
        """Is the path left out of the context? The context itself ("" or ".") never is."""
        decider = self._decider(path)
        return decider >= 0 and not self.patterns[decider].again

    def matches_directory(self, path: str) -> bool:
        """As `matches`, remembering the answer for what lies below."""
        decider = self._directory_decider(path)
        return decider >= 0 and not self.patterns[decider].again

    def leaves_out(self, path: str) -> bool:
        """Does every version of Docker leave the path out?"""
        return self.matches(path) and not (self._versions_differ and self._taken_by_2010(path))

    def disputed(self, path: str) -> bool:
        """Do versions of Docker differ on the path?"""
        return self._versions_differ and self.matches(path) == self._taken_by_2010(path)

    def may_descend(self, directory: str) -> bool:
        """Can anything below the directory be in the context? False prunes it from a walk."""
        decider = self._directory_decider(directory)
        if decider < 0 or self.patterns[decider].again:
            return True
        if any(p.again and p.may_match_below(directory) for p in self.patterns[decider + 1 :]):
            return True
        return self._versions_differ and not self._prunes_2010(directory)

    def _taken_by_2010(self, path: str) -> bool:
        return not (self._prunes_2010(path.rpartition("/")[0]) or self._matches_2010(path))

    def _prunes_2010(self, directory: str) -> bool:
        """20.10 enters a matched directory only where the text of a `!` pattern begins with its path."""
        known = self._pruned_2010.get(directory)
        if known is None:
            inside = directory + "/"
            known = self._prunes_2010(directory.rpartition("/")[0]) or (
                self._matches_2010(directory)
                and not any(p.again and f"{p.text}/".startswith(inside) for p in self.patterns)
            )
            self._pruned_2010[directory] = known
        return known

    def _matches_2010(self, path: str) -> bool:
        """Of the parents it looks only at the one with as many parts as the pattern has."""
        parents = path.split("/")[:-1]
        for p in reversed(self.patterns):
            if p.match_2010(path) or (
                0 < p.parts <= len(parents) and p.match_2010("/".join(parents[: p.parts]))
            ):
                return not p.again
        return False

    def _decider(self, path: str) -> int:
        """Index of the last pattern that matches the path or a parent of it; -1 = none."""
        known = self._deciders.get(path)
        if known is not None:
            return known
        inherited = self._directory_decider(path.rpartition("/")[0])
        patterns = self.patterns
        for index in range(self._last, inherited, -1):
            if patterns[index].match(path):
                return index
        return inherited

    def _directory_decider(self, directory: str) -> int:
        known = self._deciders.get(directory)
        if known is None:
            if len(self._deciders) > _MOST_REMEMBERED:
                self._deciders = {"": -1, ".": -1}
                self._pruned_2010 = {"": False, ".": False}
            known = self._deciders[directory] = self._decider(directory)
        return known


NO_RULES = IgnoreRules(())


def go_clean(path: str) -> str:
    """Go's filepath.Clean: Python's normpath, but two leading slashes become one."""
    cleaned = posixpath.normpath(path) if path else "."
    return "/" + cleaned.lstrip("/") if cleaned.startswith("//") else cleaned


def _pattern(line: str, number: int) -> Pattern:
    text = line.strip()
    again = text.startswith("!")
    if again:
        text = text[1:].strip()
        if not text:
            raise BadPatternError('illegal exclusion pattern: "!"')
    text = go_clean(text)
    if len(text) > 1 and text.startswith("/"):
        text = text[1:]
    text = go_clean(text.strip())
    check_glob(text)
    match, match_2010 = _compile(text)
    return Pattern(text, again, number, match, _below(text), match_2010, text.count("/") + 1)


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


def _compile(text: str) -> tuple[Match, Match]:
    """Moby's Pattern.compile: the same four kinds of match, the same regular expression. The second
    is what 20.10 makes of it: always the regular expression."""
    kind, expression = _translate(text)
    try:
        search = re.compile(_for_python(expression), re.ASCII).search
    except re.error as problem:
        raise BadPatternError("syntax error in pattern") from problem

    def match_2010(path: str) -> bool:
        return search(path) is not None

    if kind == "exact":
        return text.__eq__, match_2010
    if kind == "prefix":
        prefix = text[:-2]
        return lambda path: path.startswith(prefix), match_2010
    if kind == "suffix":
        suffix = text[2:]
        bare = suffix[1:] if suffix.startswith("/") else None
        return lambda path: path.endswith(suffix) or path == bare, match_2010
    return match_2010, match_2010


def _translate(text: str) -> tuple[str, str]:
    """(exact | prefix | suffix | regex, the expression), character by character as moby does it."""
    kind, out, index = "exact", ["^"], 0
    while index < len(text):
        char, start = text[index], index
        index += 1
        if text.startswith("**", start):
            kind, expression, index = _translate_stars(text, start, kind)
            out.append(expression)
        elif char in "*?":
            out.append("[^/]*" if char == "*" else "[^/]")
            kind = "regex"
        elif char in _REGEX_SPECIAL:
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


def _for_python(expression: str) -> str:
    """A Go regular expression as a Python one that means the same, or BadPatternError."""
    out, index, end, in_class = [], 0, len(expression), 0
    while index < end:
        char = expression[index]
        if char == "\\":
            following = expression[index + 1]
            if following.isalnum() and following not in _SHARED_ESCAPES:
                raise BadPatternError(f"invalid escape \\{following}")
            out.append(char + following if following.isalnum() else re.escape(following))
            index += 2
            continue
        if in_class:
            named = re.compile(r"\[:(\w+):\]").match(expression, index)
            if named and named[1] in _POSIX_CLASSES:
                out.append(_POSIX_CLASSES[named[1]])
                index = named.end()
                continue
            if char == "]" and index > in_class:
                in_class = 0
            out.append("\\" + char if char in "[&~|" else char)
        elif char == "[":
            negated = expression[index + 1 : index + 2] == "^"
            in_class = index + 1 + negated  # a "]" at this very place is a literal
            out.append("[^" if negated else "[")
            index += 1 + negated
            if expression[index : index + 1] == "]":
                out.append("\\]")
                index += 1
            continue
        else:
            out.append(r"\Z" if char == "$" else char)
        index += 1
    return "".join(out)


def _below(text: str) -> Match:
    """Can the pattern match something below a directory? Never says no where it is yes."""
    wanted: list[Match | None] = []
    for part in text.split("/"):
        if "**" in part or "[" in part or "]" in part or "\\" in part or "^" in part:
            wanted.append(None)  # from here on anything is possible
            break
        wanted.append(_compile(part)[0])

    def may_match_below(directory: str) -> bool:
        for match, part in zip(wanted, directory.split("/"), strict=False):
            if match is None:
                return True
            if not match(part):
                return False
        return True

    return may_match_below


# --- editors -------------------------------------------------------------------------------------

EDITOR_TEMPORARIES = re.compile(
    r"""
    .*~                             # vim and emacs backups, numbered ones too
    | \.[^/]*\.sw[a-z] | \.sw[a-z]  # vim and nano swap files
    | \.\#.* | \#.*\#               # emacs locks and auto-saves
    | .*___jb_(tmp|old|bak)___      # JetBrains' safe write
    | \.?[^/]*\.kate-swp
    | \.goutputstream-[A-Z0-9]{6}   # GNOME
    | .*\.vsctmp | \.vscode-.*tmp   # VS Code
    | (?=.*[A-Z0-9])sed[A-Za-z0-9]{6}  # sed -i
    | \.tmp[A-Za-z0-9]{6}           # Zed, and whatever uses Rust's tempfile
    | \.subl[a-z0-9]+\.tmp          # Sublime Text
    | \.~lock\..*\# | ~\$.*         # office programs
    | \.nfs[0-9a-f]{8,} | \.fuse_hidden[0-9a-f]+
    | \.DS_Store
    """,
    re.VERBOSE | re.DOTALL,
)


def is_editor_temporary(name: str) -> bool:
    """Does a file of this base name come and go while an editor saves? For the watcher alone:
    whatever a COPY takes counts in the fingerprint, however it is called."""
    if name.isdecimal() and name.isascii():
        # vim probes whether a directory is writable with 4913, then 5036, 5159, ...
        return 4913 <= int(name) < 4913 + 123 * 20 and (int(name) - 4913) % 123 == 0
    return EDITOR_TEMPORARIES.fullmatch(name) is not None

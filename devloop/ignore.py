"""What a build context leaves out: Docker's .dockerignore rules, and editors' files. Long as the rules are.

The rules are those of moby's patternmatcher (`MatchesOrParentMatches`): the last pattern that matches
the path or one of its parents decides, `!` takes back, `*` and `?` stop at a slash, `**` does not.
docker-py's own matcher differs from this in nine of fifteen cases that were tried; nothing here uses it.

It is the docker command that applies them, not the engine, and older commands read some lines in their own
way: 20.10 (Debian 12) those with `!` behind a directory that is left out, and up to buildx 0.13 (Debian 13)
those with `( ) + | { }`, which they take for a part of their regular expressions. Where one would take a file
that another leaves out, the path is `disputed`: it counts as an input, so that no edit is lost with any, and
no delta is made from it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from devloop.errors import FingerprintError
from devloop.go_regexp import BadPatternError, UnsureError, compile_go

__all__ = ["BadPatternError", "IgnoreRules"]

Match = Callable[[str], bool]
Match2010 = Callable[[str], bool | None]  # None: it cannot be told

_BOM = "\ufeff"
_MOST_REMEMBERED = 200_000  # directories; a daemon is asked about new ones for weeks
_REGEX_SPECIAL = frozenset(".+()|{}$")
_NOT_ESCAPED_BY_2010 = frozenset("+()|{}")
_READ_OTHERWISE = _NOT_ESCAPED_BY_2010 | {_BOM}
# What Go's strings.TrimSpace takes off; Python's strip takes more.
_SPACE = "".join(
    char for char in map(chr, range(0x3001)) if char.isspace() and char not in "\x1c\x1d\x1e\x1f"
)


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
    match_2010: Match2010
    match_unescaped: Match2010
    parts: int


class IgnoreRules:
    """The rules of one ignore file. Paths are relative to the context, "/" separated.

    Directories that were asked for are remembered, so a walk costs one look per path.
    """

    def __init__(self, patterns: tuple[Pattern, ...], *, others: bool = True) -> None:
        """`others`: whether readings of older commands count, too."""
        self.patterns = patterns
        self._unsure, self._others = False, tuple[IgnoreRules, ...]()
        if others:
            self._read_unescaped()
        self._last = len(patterns) - 1
        self._deciders: dict[str, int] = {"": -1, ".": -1}
        # Without a `!` a matched directory is pruned by both, which leaves only `**x` to differ on.
        self._versions_differ = others and any(
            p.again or re.match(r"\*\*[^/]", p.text) or set(p.text) & _READ_OTHERWISE for p in patterns
        )
        self._pruned_2010: dict[str, bool | None] = {"": False, ".": False}

    def _read_unescaped(self) -> None:
        """Commands between 20.10 and the newest: their rules, with 20.10's regular expressions. What
        cannot be told is read both ways."""
        special = [p for p in self.patterns if set(p.text) & _READ_OTHERWISE]
        if special:
            self._unsure = any(p.match_unescaped("") is None for p in special)
            self._others = tuple(
                IgnoreRules(tuple(_unescaped(p, assumed) for p in self.patterns), others=False)
                for assumed in ((True, False) if self._unsure else (True,))
            )

    @classmethod
    def parse(cls, text: str, name: str = ".dockerignore") -> IgnoreRules:
        """Raises FingerprintError naming the line of a pattern that Docker would refuse."""
        patterns = []
        # bufio.Scanner breaks lines at \n alone and drops one \r before it.
        for number, line in enumerate(text.removeprefix(_BOM).split("\n"), 1):
            if line.startswith("#") or not line.strip(_SPACE):
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
        if not self.matches(path) or not all(other.matches(path) for other in self._others):
            return False
        return not self._versions_differ or self._taken_by_2010(path) is False

    def disputed(self, path: str) -> bool:
        """Do versions of Docker differ on the path?"""
        matched = self.matches(path)
        if self._unsure or any(other.matches(path) != matched for other in self._others):
            return True
        return self._versions_differ and self._taken_by_2010(path) is not (not matched)

    def may_descend(self, directory: str) -> bool:
        """Can anything below the directory be in the context? False prunes it from a walk."""
        decider = self._directory_decider(directory)
        if decider < 0 or self.patterns[decider].again:
            return True
        if any(p.again and p.may_match_below(directory) for p in self.patterns[decider + 1 :]):
            return True
        if any(other.may_descend(directory) for other in self._others):
            return True
        return self._versions_differ and self._prunes_2010(directory) is not True

    def _taken_by_2010(self, path: str) -> bool | None:
        """None: it cannot be told."""
        pruned = self._prunes_2010(path.rpartition("/")[0])
        matched = True if pruned else self._matches_2010(path)
        if matched is None or (pruned is None and not matched):
            return None
        return not matched

    def _prunes_2010(self, directory: str) -> bool | None:
        """20.10 enters a matched directory only where the text of a `!` pattern begins with its path."""
        if directory not in self._pruned_2010:
            above, inside = self._prunes_2010(directory.rpartition("/")[0]), directory + "/"
            matched: bool | None = False
            if not any(p.again and f"{p.text}/".startswith(inside) for p in self.patterns):
                matched = self._matches_2010(directory)
            self._pruned_2010[directory] = above or matched if above is not None else matched or None
        return self._pruned_2010[directory]

    def _matches_2010(self, path: str) -> bool | None:
        """Of the parents it looks only at the one with as many parts as the pattern has."""
        parents = path.split("/")[:-1]
        unsure: set[bool] = set()  # what may come out by patterns of which it cannot be told
        out = False
        for p in reversed(self.patterns):
            found = p.match_2010(path)
            if not found and 0 < p.parts <= len(parents):
                above = p.match_2010("/".join(parents[: p.parts]))
                found = above if above or found is not None else None
            if found is None:
                unsure.add(not p.again)
            elif found:
                out = not p.again
                break
        return out if unsure <= {out} else None

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
    text = line.strip(_SPACE)
    again = text.startswith("!")
    if again:
        text = text[1:].strip(_SPACE)
        if not text:
            raise BadPatternError('illegal exclusion pattern: "!"')
    text = go_clean(text)
    if len(text) > 1 and text.startswith("/"):
        text = text[1:]
    text = go_clean(text.strip(_SPACE))
    check_glob(text)
    match, match_2010, match_unescaped = _compile(text)
    parts = text.count("/") + 1
    return Pattern(text, again, number, match, _below(text), match_2010, match_unescaped, parts)


def _unescaped(pattern: Pattern, assumed: bool) -> Pattern:
    """The pattern as commands between 20.10 and the newest read it; `assumed` where that cannot be told."""
    unescaped = pattern.match_unescaped
    if not set(pattern.text) & _READ_OTHERWISE:
        return pattern

    def match(path: str) -> bool:
        found = unescaped(path)
        return assumed if found is None else found

    return replace(pattern, match=match, may_match_below=lambda directory: True)


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


def _compile(text: str) -> tuple[Match, Match2010, Match2010]:
    """Moby's Pattern.compile: the same four kinds of match, the same regular expression. The second is what
    20.10 makes of it: always a regular expression, and that of its own. The third is what commands after
    it made of it (buildx 0.13): the four kinds, with that expression."""
    kind, expression = _translate(text, _REGEX_SPECIAL)
    try:
        newer = compile_go(expression)
    except UnsureError as doubt:
        raise BadPatternError("syntax error in pattern") from doubt
    if kind == "exact":
        match: Match = text.__eq__
    elif kind == "prefix":
        prefix = text[:-2]
        match = lambda path: path.startswith(prefix)  # noqa: E731 - one of four
    elif kind == "suffix":
        suffix = text[2:]
        bare = suffix[1:] if suffix.startswith("/") else None
        match = lambda path: path.endswith(suffix) or path == bare  # noqa: E731 - one of four
    else:
        match = lambda path: newer.search(path) is not None  # noqa: E731 - one of four
    match_2010 = _match_2010(text, newer)
    return match, match_2010, match_2010 if kind == "regex" else match


def _match_2010(text: str, newer: re.Pattern[str]) -> Match2010:
    own = _translate(text, _REGEX_SPECIAL - _NOT_ESCAPED_BY_2010)[1]
    try:
        expression = compile_go(own)
    except BadPatternError:
        expression = newer  # it refuses to build, so there is nothing to differ from
    except UnsureError:
        return lambda path: None
    return lambda path: expression.search(path) is not None


def _translate(text: str, special: frozenset[str]) -> tuple[str, str]:
    """(exact | prefix | suffix | regex, the expression), character by character as moby does it."""
    kind, out, index = "exact", ["^"], int(text.startswith(_BOM))  # Go's scanner drops a mark in front
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

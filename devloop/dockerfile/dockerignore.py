"""What a build context leaves out: Docker's .dockerignore rules, and editors' files. Long as the rules are.

The rules are those of moby's patternmatcher (`MatchesOrParentMatches`): the last pattern that matches
the path or one of its parents decides, `!` takes back, `*` and `?` stop at a slash, `**` does not.
docker-py's own matcher differs from this in nine of fifteen cases that were tried; nothing here uses it.

It is the docker command that applies them, not the engine, and that of 20.10 (Debian 12) reads some lines in
its own way: those with `!` behind a directory that is left out, and those with `( ) + | { }`, which it takes
for a part of its regular expressions. Where it takes a file that newer ones leave out, or the other way
round, the path is `disputed`: it counts as an input, so that no edit is lost with either, and no delta is
made from it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devloop.dockerfile.go_regexp import BadPatternError, UnsureError, compile_go
from devloop.errors import FingerprintError

__all__ = ["BadPatternError", "IgnoreRules"]

Match = Callable[[str], bool]
Match2010 = Callable[[str], bool | None]  # None: it cannot be told

_BOM = "\ufeff"
_MOST_REMEMBERED = 200_000  # directories; a daemon is asked about new ones for weeks
_ESCAPED_BY_2010 = frozenset(".$")
_ESCAPED = frozenset(".+()$")  # moby means `| { }` too, but its table of bits is too small for them
_READ_OTHERWISE = frozenset("+()|{}") | {_BOM}
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
    parts: int
    unsure: bool = False  # what newer commands make of it is not known


class IgnoreRules:
    """The rules of one ignore file. Paths are relative to the context, "/" separated.

    Directories that were asked for are remembered, so a walk costs one look per path.
    """

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.patterns = patterns
        self._unsure = any(p.unsure for p in patterns)
        self._last = len(patterns) - 1
        self._deciders: dict[str, int] = {"": -1, ".": -1}
        # Without a `!` a matched directory is pruned by both, which leaves only `**x` to differ on.
        self._versions_differ = any(
            p.again or re.match(r"\*\*[^/]", p.text) or set(p.text) & _READ_OTHERWISE for p in patterns
        )
        self._pruned_2010: dict[str, bool | None] = {"": False, ".": False}

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
        return self.matches(path) and (not self._versions_differ or self._taken_by_2010(path) is False)

    def disputed(self, path: str) -> bool:
        """Do versions of Docker differ on the path?"""
        if self._unsure:
            return True
        return self._versions_differ and self._taken_by_2010(path) is not (not self.matches(path))

    def may_descend(self, directory: str) -> bool:
        """Can anything below the directory be in the context? False prunes it from a walk."""
        decider = self._directory_decider(directory)
        if decider < 0 or self.patterns[decider].again:
            return True
        if any(p.again and p.may_match_below(directory) for p in self.patterns[decider + 1 :]):
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
    kind, expression = _translate(text, _ESCAPED)
    parts = text.count("/") + 1
    try:
        match = _compile(text, kind, expression)
    except (
        BadPatternError,
        UnsureError,
    ):  # docker may refuse it when it comes to this line, or never come to it
        return Pattern(
            text, again, number, lambda _: again, lambda _: True, lambda _: None, parts, unsure=True
        )
    return Pattern(text, again, number, match, _below(text), _match_2010(text, match), parts)


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
    return lambda path: found.search(path) is not None


def _match_2010(text: str, newer: Match) -> Match2010:
    """What 20.10 makes of it: always a regular expression, and that of its own."""
    try:
        own = compile_go(_translate(text, _ESCAPED_BY_2010)[1])
    except BadPatternError:
        return newer  # it refuses to build, so there is nothing to differ from
    except UnsureError:
        return lambda path: None
    return lambda path: own.search(path) is not None


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
        try:
            wanted.append(_compile(part, *_translate(part, _ESCAPED)))
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

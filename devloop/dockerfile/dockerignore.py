"""What a build context leaves out: Docker's .dockerignore rules.

The rules are those of moby's patternmatcher (`MatchesUsingParentResults`, by which the docker command walks):
the last pattern that matches the path or one of its parents decides, `!` takes back, `*` and `?` stop at a
slash, `**` does not. A pattern is not tried on a directory that an earlier one left out already, and so is
forgotten for what lies below: of `docs`, `!docs/a`, `docs` the last line changes nothing.
docker-py's own matcher differs from this in nine of fifteen cases that were tried; nothing here uses it.

It is the docker command that applies them, not the engine, and that of 20.10 (Debian 12) reads some lines in
its own way: those with `!` behind a directory that is left out, and those with `( ) + | { }`, which it takes
for a part of its regular expressions. Where it takes a file that newer ones leave out, or the other way
round, the path is `disputed`: it counts as an input, so that no edit is lost with either, and no delta is
made from it.
"""

from __future__ import annotations

import re
from pathlib import Path

from devloop.dockerfile.go_regexp import BadPatternError
from devloop.dockerfile.ignore_pattern import BOM, SPACE, IgnorePattern, compile_pattern
from devloop.errors import FingerprintError

__all__ = ["BadPatternError", "IgnoreRules"]

_MOST_REMEMBERED = 200_000  # directories; a daemon is asked about new ones for weeks
_READ_OTHERWISE = frozenset("+()|{}") | {BOM}


def candidates(context: Path, dockerfile: Path) -> tuple[Path, Path]:
    """Where the rules may stand; the first that exists is the only one that counts."""
    return dockerfile.with_name(dockerfile.name + ".dockerignore"), context / ".dockerignore"


class IgnoreRules:
    """The rules of one ignore file. Paths are relative to the context, "/" separated.

    Directories that were asked for are remembered, so a walk costs one look per path.
    """

    def __init__(self, patterns: tuple[IgnorePattern, ...]) -> None:
        self.patterns = patterns
        self._unsure = any(p.unsure for p in patterns)
        self._nothing = (False,) * len(patterns)
        self._found: dict[str, tuple[bool, ...]] = {"": self._nothing, ".": self._nothing}
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
        for number, line in enumerate(text.removeprefix(BOM).split("\n"), 1):
            if line.startswith("#") or not line.strip(SPACE):
                continue
            try:
                patterns.append(compile_pattern(line, number))
            except BadPatternError as problem:
                raise FingerprintError(
                    f"{name}:{number}: {problem}: {line.strip()!r}",
                    reason="BadIgnorePattern",
                    hint="docker build refuses this line too; see docs.docker.com, .dockerignore files",
                ) from problem
        return cls(tuple(patterns))

    def matches(self, path: str) -> bool:
        """Is the path left out of the context? The context itself ("" or ".") never is."""
        return self._is_out(self._found.get(path) or self._find(path))

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
        found = self._find_directory(directory)
        if not self._is_out(found):
            return True
        taken_out_by = found.index(True)  # what stands before it cannot take anything back
        if any(p.again and p.may_match_below(directory) for p in self.patterns[taken_out_by + 1 :]):
            return True
        return self._versions_differ and self._prunes_2010(directory) is not True

    def _taken_by_2010(self, path: str) -> bool | None:
        """None: unknown."""
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
        unsure: set[bool] = set()  # what may come out by patterns that are undecidable
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

    def _is_out(self, found: tuple[bool, ...]) -> bool:
        """The last pattern that was found to match decides."""
        for index in range(len(found) - 1, -1, -1):
            if found[index]:
                return not self.patterns[index].again
        return False

    def _find(self, path: str) -> tuple[bool, ...]:
        """Which patterns match the path, or matched a directory above. One that would change nothing is not
        tried, and does not count for what lies below."""
        above = self._find_directory(path.rpartition("/")[0])
        found, out = [], False
        for pattern, matched in zip(self.patterns, above, strict=True):
            matched = matched or (pattern.again is out and pattern.match(path))
            found.append(matched)
            if matched:
                out = not pattern.again
        return tuple(found)

    def _find_directory(self, directory: str) -> tuple[bool, ...]:
        known = self._found.get(directory)
        if known is None:
            if len(self._found) > _MOST_REMEMBERED:
                self._found = {"": self._nothing, ".": self._nothing}
                self._pruned_2010 = {"": False, ".": False}
            known = self._found[directory] = self._find(directory)
        return known


NO_RULES = IgnoreRules(())


# --- editors -------------------------------------------------------------------------------------

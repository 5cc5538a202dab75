"""The text of a Dockerfile as instructions: what stands in which line.

A port of BuildKit's parser (frontend/dockerfile/parser). The parsers on PyPI know neither heredocs
together with `# escape` (dockerfile-parse) nor how to do without a Go runtime of 6 MB (dockerfile).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from devloop.dockerfile.arguments import heredoc_words, json_list, parse_arguments, split_command
from devloop.dockerfile.instructions import DockerfileError, Heredoc, Instruction, Stage

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile. `arguments` are the ARG instructions before the first FROM."""

    stages: tuple[Stage, ...]
    arguments: tuple[Instruction, ...]
    escape: str
    syntax: str  # of `# syntax=`, "" without
    check_before_escape: bool = False  # a BuildKit that knows no `# check=` stops reading directives there

    @classmethod
    def parse(cls, text: str) -> Dockerfile:
        """Raises DockerfileError. Unknown instructions are kept: newer engines may know them."""
        reading = _Lines(text)
        stages: list[Stage] = []
        arguments: list[Instruction] = []
        for instruction in reading.instructions():
            if instruction.keyword == "FROM":
                stages.append(_stage(instruction, len(stages)))
            elif stages:
                last = stages[-1]
                stages[-1] = Stage(
                    last.index,
                    last.name,
                    last.base,
                    last.platform,
                    (*last.instructions, instruction),
                    last.line,
                )
            elif instruction.keyword == "ARG":
                arguments.append(instruction)
            else:
                raise DockerfileError(
                    "no build stage in current context", instruction.line, evidence=instruction.text
                )
        if not stages:
            raise DockerfileError("no FROM instruction")
        return cls(
            tuple(stages), tuple(arguments), reading.escape, reading.syntax, reading.check_before_escape
        )


def parse_trigger(text: str) -> Instruction:
    """One ONBUILD line of a base image, "COPY . /app". Raises DockerfileError."""
    found = list(_Lines(text).instructions())
    if len(found) != 1:
        raise DockerfileError("onbuild trigger should be a single expression", evidence=text)
    return found[0]


def _stage(instruction: Instruction, index: int) -> Stage:
    words = instruction.args
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not re.fullmatch(r"[a-z][a-z0-9-_.]*", name):
            raise DockerfileError(
                f"invalid name for build stage: {words[2]!r}", instruction.line, evidence=instruction.text
            )
    elif len(words) != 1:
        raise DockerfileError(
            "FROM requires either one or three arguments", instruction.line, evidence=instruction.text
        )
    return Stage(index, name, words[0], instruction.flag("platform") or "", (), instruction.line)


class _Lines:
    """The lines of one Dockerfile, on their way to instructions."""

    def __init__(self, text: str) -> None:
        self._lines = text.removeprefix("\ufeff").removesuffix("\n").split("\n")
        self._at = 0
        self.escape, self.syntax = "\\", _syntax_after_shebang(self._lines)
        self.check_before_escape = False
        self._directives: set[str] | None = set()  # None: the place for directives is over

    def instructions(self) -> Iterator[Instruction]:
        while self._at < len(self._lines):
            self._at += 1
            start = self._at
            line = self._lines[start - 1].rstrip("\r").lstrip()
            self._read_directive(line, start)
            if line.startswith("#"):
                continue
            text, goes_on = self._continued(line)
            if not goes_on and not text:
                continue
            while goes_on and self._at < len(self._lines):
                following = self._lines[self._at].rstrip("\r")
                self._at += 1
                if not following.strip() or following.lstrip().startswith("#"):
                    continue
                more, goes_on = self._continued(following)
                text += more
            if text.strip():
                yield self._instruction(text, start)

    def _continued(self, line: str) -> tuple[str, bool]:
        """The line without a continuation character at its end, and whether there was one."""
        escape = re.escape(self.escape)
        found = re.search(rf"(?:^|[^{escape}])({escape}[ \t]*)\Z", line)
        return (line[: found.start(1)], True) if found else (line, False)

    def _read_directive(self, line: str, number: int) -> None:
        if self._directives is None:
            return
        found = _DIRECTIVE.match(line)
        name = found[1].lower() if found else ""
        if not found or name not in ("syntax", "escape", "check"):
            self._directives = None
            return
        if name in self._directives:
            raise DockerfileError(f"only one {name} parser directive can be used", number, evidence=line)
        self._directives.add(name)
        if name == "syntax":
            self.syntax = found[2].split(" ")[0]
        elif name == "escape":
            if found[2] not in ("\\", "`"):
                raise DockerfileError(f"invalid escape token '{found[2]}'", number, evidence=line)
            self.escape = found[2]
            self.check_before_escape = "check" in self._directives

    def _instruction(self, text: str, line: int) -> Instruction:
        try:
            keyword, flags, rest = split_command(text, self.escape)
            trigger = None
            if keyword == "ONBUILD" and rest:
                inner, inner_flags, inner_rest = split_command(rest, self.escape)
                heredocs = self._heredocs(inner, inner_rest, rest, line)
                args, is_json = parse_arguments(inner, inner_rest, self.escape)
                trigger = Instruction(inner, inner_flags, args, is_json, heredocs, line, self._at, rest)
                args, is_json, heredocs = (), False, ()
            else:
                args, is_json = parse_arguments(keyword, rest, self.escape)
                heredocs = () if is_json else self._heredocs(keyword, rest, text, line)
        except ValueError as problem:
            raise DockerfileError(str(problem), line, evidence=text.strip()) from problem
        return Instruction(keyword, flags, args, is_json, heredocs, line, self._at, text.strip(), trigger)

    def _heredocs(self, keyword: str, rest: str, text: str, line: int) -> tuple[Heredoc, ...]:
        if keyword not in ("ADD", "COPY", "RUN") or "<<" not in rest or json_list(rest) is not None:
            return ()
        return tuple(
            Heredoc(name, self._content(name, chomp, text, line), expand, chomp)
            for name, expand, chomp in heredoc_words(text)
        )

    def _content(self, name: str, chomp: bool, text: str, line: int) -> str:
        content: list[str] = []
        while self._at < len(self._lines):
            following = self._lines[self._at]
            self._at += 1
            bare = following.rstrip("\r")
            if (bare.lstrip("\t") if chomp else bare) == name:
                return "".join(content)
            content.append(following + "\n")
        raise DockerfileError("unterminated heredoc", line, evidence=text.strip())


def _syntax_after_shebang(lines: list[str]) -> str:
    """BuildKit looks past a first line `#!…` for `# syntax=`, and for nothing else."""
    if not lines[0].startswith("#!"):
        return ""
    for line in lines[1:]:
        found = _DIRECTIVE.match(line.strip())
        if not found or found[1].lower() not in ("syntax", "escape", "check"):
            break
        if found[1].lower() == "syntax":
            return found[2].split(" ")[0]
    return ""

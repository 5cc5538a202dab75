"""What a Dockerfile is made of: stages of instructions, heredocs, and the error that names a line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from devloop.errors import BuildError


class DockerfileError(BuildError):
    """The Dockerfile cannot be read; the message begins with file and line."""

    default_reason = "BadDockerfile"

    def __init__(self, problem: str, line: int = 0, *, evidence: str = "", hint: str | None = None) -> None:
        super().__init__(
            f"Dockerfile:{line}: {problem}" if line else f"Dockerfile: {problem}",
            evidence=(f"{line:>4} | {evidence}",) if evidence else (),
            hint=hint or "mend it: `docker build` refuses it too",
        )
        self.problem, self.line = problem, line


@dataclass(frozen=True, slots=True)
class Heredoc:
    """`<<name`. `expand`: variables in the content are replaced; `chomp`: leading tabs go (`<<-`)."""

    name: str
    content: str
    expand: bool
    chomp: bool

    @property
    def text(self) -> str:
        return re.sub(r"(?m)^\t+", "", self.content) if self.chomp else self.content


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction as written, before variables are expanded.

    `args`: for ADD, COPY, VOLUME, FROM, EXPOSE the words; for ARG "name" or "name=value"; for ENV and
    LABEL name, value, name, value, …; for ONBUILD nothing (see `trigger`); else the list of the JSON
    form (`json`) or the one text.
    """

    keyword: str  # upper case, may be unknown to us
    flags: tuple[str, ...]  # "--from=builder", quotes taken off
    args: tuple[str, ...]
    json: bool
    heredocs: tuple[Heredoc, ...]
    line: int
    end_line: int
    text: str  # continuation lines joined
    trigger: Instruction | None = None

    def flag(self, name: str) -> str | None:
        """Value of `--name=value`, "true" of a bare `--name`, None without it. The last one wins."""
        value = None
        for flag in self.flags:
            key, equals, given = flag.removeprefix("--").partition("=")
            if key == name:
                value = given if equals else "true"
        return value

    def is_set(self, name: str) -> bool:
        """A flag that is on or off. BuildKit reads its value in any case and refuses all but true, false."""
        return (self.flag(name) or "").lower() == "true"

    def flag_names(self) -> frozenset[str]:
        return frozenset(flag.removeprefix("--").partition("=")[0] for flag in self.flags)

    def flag_values(self, name: str) -> tuple[str, ...]:
        return tuple(f.partition("=")[2] for f in self.flags if f.startswith(f"--{name}="))


@dataclass(frozen=True, slots=True)
class Stage:
    """One `FROM` and what follows it. `name` is lower case, "" without AS."""

    index: int
    name: str
    base: str  # as written
    platform: str  # as written, "" without --platform
    instructions: tuple[Instruction, ...]
    line: int

"""The text of a Dockerfile as instructions: what stands in which line. Long as its grammar is.

A port of BuildKit's parser (frontend/dockerfile/parser). The parsers on PyPI know neither heredocs
together with `# escape` (dockerfile-parse) nor how to do without a Go runtime of 6 MB (dockerfile).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from devloop.errors import BuildError

_SPACE = re.compile(r"[\t\v\f\r ]+")
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<]*)")

_LISTS = frozenset({"ADD", "COPY", "VOLUME", "RUN", "CMD", "ENTRYPOINT", "SHELL"})
_WORDS = frozenset({"ADD", "COPY", "VOLUME", "FROM", "EXPOSE"})


class DockerfileError(BuildError):
    """The Dockerfile cannot be read; the message begins with file and line."""

    default_reason = "BadDockerfile"

    def __init__(self, problem: str, line: int = 0, *, evidence: str = "", hint: str | None = None) -> None:
        super().__init__(
            f"Dockerfile:{line}: {problem}" if line else f"Dockerfile: {problem}",
            evidence=(f"{line:>4} | {evidence}",) if evidence else (),
            hint=hint,
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
        self._lines = text.removeprefix("\ufeff").split("\n")
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
            keyword, flags, rest = _split_command(text, self.escape)
            trigger = None
            if keyword == "ONBUILD" and rest:
                inner, inner_flags, inner_rest = _split_command(rest, self.escape)
                heredocs = self._heredocs(inner, inner_rest, rest, line)
                args, is_json = _arguments(inner, inner_rest, self.escape)
                trigger = Instruction(inner, inner_flags, args, is_json, heredocs, line, self._at, rest)
                args, is_json, heredocs = (), False, ()
            else:
                args, is_json = _arguments(keyword, rest, self.escape)
                heredocs = () if is_json else self._heredocs(keyword, rest, text, line)
        except ValueError as problem:
            raise DockerfileError(str(problem), line, evidence=text.strip()) from problem
        return Instruction(keyword, flags, args, is_json, heredocs, line, self._at, text.strip(), trigger)

    def _heredocs(self, keyword: str, rest: str, text: str, line: int) -> tuple[Heredoc, ...]:
        if keyword not in ("ADD", "COPY", "RUN") or "<<" not in rest or _json_list(rest) is not None:
            return ()
        return tuple(
            Heredoc(name, self._content(name, chomp, text, line), expand, chomp)
            for name, expand, chomp in _heredoc_words(text)
        )

    def _content(self, name: str, chomp: bool, text: str, line: int) -> str:
        content: list[str] = []
        while self._at < len(self._lines):
            following = self._lines[self._at]
            self._at += 1
            bare = following.rstrip("\r")
            if (bare.lstrip("\t") if chomp else bare) == name:
                return "".join(content)
            content.append(following + ("\n" if self._at < len(self._lines) else ""))
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


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _split_command(line: str, escape: str) -> tuple[str, tuple[str, ...], str]:
    """KEYWORD, its --flags, the rest."""
    head, *tail = _SPACE.split(line.strip(), maxsplit=1)
    if not tail:
        return head.upper(), (), ""
    rest, flags = tail[0], list[str]()
    while True:
        rest = rest.lstrip()
        if not rest.startswith("--"):
            return head.upper(), tuple(flags), rest.strip()
        word, rest = _flag_word(rest, escape)
        if word == "--":
            return head.upper(), tuple(flags), rest.strip()
        flags.append(word)


def _flag_word(rest: str, escape: str) -> tuple[str, str]:
    """The first word without quotes and escapes, and what follows it."""
    out: list[str] = []
    quote, at = "", 0
    while at < len(rest):
        char = rest[at]
        at += 1
        if not quote and char.isspace():
            return "".join(out), rest[at - 1 :]
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == escape:
            out.append(rest[at : at + 1])
            at += 1
        else:
            out.append(char)
    return "".join(out), ""


def _arguments(keyword: str, rest: str, escape: str) -> tuple[tuple[str, ...], bool]:
    if keyword in _LISTS:
        listed = _json_list(rest)
        if listed is not None:
            return listed, True
    if keyword in _WORDS:
        return tuple(_SPACE.split(rest)) if rest else (), False
    if keyword == "ARG":
        return tuple(_words(rest, escape)), False
    if keyword in ("ENV", "LABEL"):
        return _pairs(keyword, rest, escape), False
    return ((rest,) if rest else ()), False


def _json_list(rest: str) -> tuple[str, ...] | None:
    """The strings of a JSON array, None if it is none. Raises ValueError for other elements."""
    if not rest.lstrip().startswith("["):
        return None
    try:
        listed = json.loads(rest.lstrip(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in listed):
        raise ValueError("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(listed)


def _words(rest: str, escape: str) -> list[str]:
    """Words between spaces; quotes and escapes hold a word together and stay in it."""
    words: list[str] = []
    word: list[str] = []
    quote, at = "", 0
    while at < len(rest):
        char = rest[at]
        at += 1
        if not quote and char.isspace():
            if word:
                words.append("".join(word))
            word = []
            continue
        if char == escape and quote != "'":
            if at < len(rest):
                word.append(char + rest[at])
            at += 1
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        word.append(char)
    return [*words, "".join(word)] if word else words


def _pairs(keyword: str, rest: str, escape: str) -> tuple[str, ...]:
    words = _words(rest, escape)
    if not words:
        return ()
    if "=" not in words[0]:
        name, *value = _SPACE.split(rest, maxsplit=1)
        if not value:
            raise ValueError(f"{keyword} must have two arguments")
        return name, value[0]
    flat: list[str] = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"can't find = in {word!r}: must be of the form name=value")
        flat += [name, text]
    return tuple(flat)


def heredoc_name(word: str) -> str | None:
    """The name in a word `<<name` of a COPY, None if the word is none."""
    found = _HEREDOC.fullmatch(word)
    return re.sub(r"['\"\\]", "", found[3]) or None if found else None


def _heredoc_words(line: str) -> Iterator[tuple[str, bool, bool]]:
    """(name, expand, chomp) of each `<<word`, `<<-word`, `<<"word"` that is no part of a quoted text."""
    for word in _words(re.sub(r"<<(-?)[ \t\r]+", r"<<\1", line), "\\"):
        found = _HEREDOC.fullmatch(word)
        if found and found[3]:
            name = re.sub(r"['\"\\]", "", found[3])
            yield name, not re.search(r"['\"]", found[3]), found[2] == "-"

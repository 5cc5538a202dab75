"""Docker's own code answers: BuildKit's parser, planner and lexer, moby's patterns, what a command sends.

`main.go` is built within a checkout of BuildKit, whose vendored packages it needs (`build CHECKOUT TARGET`);
the environment variable DEVLOOP_ORACLE names the program. Without it the parser is asked in the package
`dockerfile` (BuildKit 0.12), and some of its answers are in `recorded.json`, where `python -m
tests.differential.engineless --cases 60 --record` has put them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import dockerfile

PROGRAM = "DEVLOOP_ORACLE"
FILE = Path(__file__).with_name("recorded.json")
RECORDED = frozenset({"plan", "expand", "ignore"})
LAYER = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class OracleError(Exception):
    """Docker refuses what it was asked about; the text is Docker's."""


@dataclass(frozen=True)
class Line:
    """One instruction. `sub`: of an ONBUILD. `heredocs`: name, content, expand, chomp. None: unknown."""

    keyword: str
    sub: str
    json: bool
    flags: tuple[str, ...] | None
    words: tuple[str, ...]
    heredocs: tuple[tuple[str, str, bool, bool], ...] | None
    lines: tuple[int, int]


class Parser(Protocol):
    def parse(self, text: str) -> list[Line]:
        """Raises OracleError."""


class Package:
    """The parser in PyPI's `dockerfile`: of BuildKit 0.12."""

    @staticmethod
    def is_too_old_for(text: str) -> bool:
        """It sees no heredoc in a line with a variable of a newer form, as `${A#b}`."""
        return "<<" in text and re.search(r"\$\{[^}]*[#%/]", text) is not None

    def parse(self, text: str) -> list[Line]:
        try:
            commands = dockerfile.parse_string(text)
        except dockerfile.GoParseError as problem:
            raise OracleError(str(problem)) from problem
        return [
            Line(
                one.cmd.upper(),
                (one.sub_cmd or "").upper(),
                one.json,
                None if one.sub_cmd else tuple(one.flags),
                tuple(one.value),
                None,
                (one.start_line, one.end_line),
            )
            for one in commands
        ]


def _line(node: Mapping[str, Any]) -> Line:
    """Of a node of main.go. Pairs are three nodes each: name, value, and what stands between."""
    inner: Mapping[str, Any] = node
    rest = node["Rest"] or ()
    if rest and rest[0]["Rest"]:
        inner = rest[0]["Rest"][0]
    words = tuple(one["Value"] for one in inner["Rest"] or ())
    if inner["Value"].upper() in ("ENV", "LABEL"):
        words = tuple(word for at, word in enumerate(words) if at % 3 < 2)
    flags = [*(node["Flags"] or ()), *((inner["Flags"] or ()) if inner is not node else ())]
    return Line(
        node["Value"].upper(),
        inner["Value"].upper() if inner is not node else "",
        inner["JSON"],
        tuple(flags),
        words,
        tuple((one["Name"], one["Content"], one["Expand"], one["Chomp"]) for one in inner["Heredocs"] or ()),
        (node["Lines"][0], node["Lines"][1]),
    )


class Oracle:
    """The program, running. Every method raises OracleError."""

    def __init__(self, program: str) -> None:
        self.recorded: list[tuple[dict[str, Any], dict[str, Any]]] | None = None
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    @classmethod
    def found(cls) -> Oracle | None:
        program = os.environ.get(PROGRAM)
        return cls(program) if program else None

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def parse(self, text: str) -> list[Line]:
        return [_line(node) for node in self._ask(Kind="parse", Text=text)["Nodes"] or ()]

    def plan(
        self, text: str, args: Mapping[str, str], bases: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Reads, Local, Bases and Copy. `bases`: reference -> the config of the image."""
        configs = {
            ref: {
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": [LAYER]},
                "config": config,
            }
            for ref, config in bases.items()
        }
        return self._ask(Kind="plan", Text=text, Args=dict(args), Bases=configs)

    def expand(self, word: str, variables: Mapping[str, str], escape: str) -> str:
        pairs = [f"{name}={value}" for name, value in variables.items()]
        return str(self._ask(Kind="expand", Text=word, Env=pairs, Escape=escape)["Word"] or "")

    def ignores(self, rules: str, paths: Sequence[str]) -> list[bool]:
        """Which of the paths the rules leave out."""
        out: list[bool] = self._ask(Kind="ignore", Text=rules, Paths=list(paths))["Out"] or []
        return out

    def copied(
        self, context: str, rules: str, sources: Sequence[str], copies: Sequence[Any], scratch: str
    ) -> tuple[dict[str, str], list[list[str]]]:
        """path -> "file", "dir" or "link": what the docker command sends, everything where there are no
        sources; and what each of `copies` (of a plan) makes of it, a line a file. `scratch`: an existing
        directory."""
        answer = self._ask(
            Kind="walk",
            Text=rules,
            Context=context,
            Paths=list(sources),
            Copies=list(copies),
            Scratch=scratch,
        )
        sent = {path: kind for kind, _, path in (line.partition(" ") for line in answer["Sent"] or ())}
        return sent, answer["Taken"] or []

    def _ask(self, **question: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the oracle died of {question}")
        answer: dict[str, Any] = {name: value for name, value in json.loads(line).items() if value}
        if self.recorded is not None and question["Kind"] in RECORDED:
            self.recorded.append((question, answer))
        return _checked(answer)


class Replay(Oracle):
    """The answers that were recorded; whatever else is asked is a KeyError."""

    def __init__(self) -> None:
        self.questions: list[dict[str, Any]] = []
        self._answers: dict[str, dict[str, Any]] = {}
        for question, answer in json.loads(FILE.read_text()):
            self.questions.append(question)
            self._answers[json.dumps(question, sort_keys=True)] = answer

    def close(self) -> None:
        return None

    def _ask(self, **question: object) -> dict[str, Any]:
        return _checked(self._answers[json.dumps(question, sort_keys=True)])


def _checked(answer: Mapping[str, Any]) -> dict[str, Any]:
    """All that there may be in an answer: main.go leaves out nothing, the recorded ones what is empty."""
    if problem := answer.get("Error"):
        raise OracleError(problem)
    return defaultdict(lambda: None, answer)

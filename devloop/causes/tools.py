"""Compilers, bundlers and package managers: the first error of a compiler, what npm complains of. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from devloop.causes.cause import Cause, place

# file, line and what is wrong on one line; TypeScript and C#, C and Java, Go, Maven, Kotlin.
_COMPILERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"^\s*(?P<file>[^\s:()]+)\((?P<line>\d+),\d+\): error (?P<text>.*)$",
        r"^\s*(?P<file>[^\s:()]+):(?P<line>\d+):\d+ - error (?P<text>.*)$",
        r"^(?P<file>[^\s:()'\"]+\.\w+):(?P<line>\d+)(?::\d+)?: (?:fatal )?error: (?P<text>.*)$",
        r"^(?:vet: )?(?P<file>\S+\.go):(?P<line>\d+):\d+: (?P<text>.*)$",
        r"^(?P<file>\S*go\.mod):(?P<line>\d+): (?P<text>.*)$",
        r"^\[ERROR\] (?P<file>/\S+):\[(?P<line>\d+),\d+\] (?P<text>.*)$",
        r"^e: (?P<file>(?:file://)?/\S+?\.kts?):(?: \()?(?P<line>\d+)[:,] ?\d+\)?:? (?P<text>.*)$",
    )
)
_HEADS = (  # what is wrong, and some lines below it the place: esbuild and Vite, Rust
    (
        re.compile(r"^[✘X] \[ERROR\] (?P<text>.*)$"),
        re.compile(r"^\s+(?P<file>[^\s:]+):(?P<line>\d+):\d+:$"),
    ),
    (
        re.compile(r"^error(?:\[E\d+\])?: (?P<text>.*)$"),
        re.compile(r"^\s+--> (?P<file>\S+):(?P<line>\d+):\d+$"),
    ),
)
_WEBPACK = re.compile(r"^ERROR in (?P<file>\./\S+?)(?: (?P<line>\d+):\d+(?:-\d+)?)?$")
_NPM = re.compile(r"^npm (?:ERR!|error)(?: (?P<text>.*))?$")
_NPM_NOISE = re.compile(
    r"^(?:code\b|errno\b|syscall\b|path\b|dest\b|command\b|Exit status|Failed at|This is probably|workspace\b"
    r"|location\b|Lifecycle script|A complete log|Log files|\S+@\S+ \w+: |in workspace|signal\b|\d{3}\s*$"
    r"|ERESOLVE$|\s*$)"
)
BELOW = 6  # lines below what is wrong in which its place stands


def compile_errors(lines: Sequence[str]) -> Iterator[Cause]:
    for at, line in enumerate(lines):
        for pattern in _COMPILERS:
            if found := pattern.match(line):
                yield Cause(found["text"], at, place(found["file"]), int(found["line"]))
                break
        if webpack := _WEBPACK.match(line):
            text = next((one.strip() for one in lines[at + 1 : at + 3] if one.strip()), line)
            yield Cause(text, at, webpack["file"], int(webpack["line"] or 0))
        for head, where in _HEADS:
            if not (begun := head.match(line)):
                continue
            below = (where.match(one) for one in lines[at + 1 : at + 1 + BELOW])
            if there := next((match for match in below if match), None):
                yield Cause(begun["text"], at, there["file"], int(there["line"]))


def npm_errors(lines: Sequence[str]) -> Iterator[Cause]:
    """The first line of npm's own that is no bookkeeping."""
    for at, line in enumerate(lines):
        found = _NPM.match(line)
        text = (found["text"] or "").strip() if found else ""
        if text and not _NPM_NOISE.match(text):
            yield Cause(text, at)

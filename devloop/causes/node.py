"""Node: the error above a run of `    at …` lines, with the `file:line` above its source line. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from devloop.causes.cause import Cause, place

Frame = tuple[str, int]

_FRAME = re.compile(r"^\s+at (?:.*\()?(?P<file>[^()\s]+?):(?P<line>\d+):\d+\)?(?: \{)?$")
_ANY_FRAME = re.compile(r"^\s+at \S")
_THROWN = re.compile(
    r"^\s*(?P<cause>\[cause\]: )?(?:Uncaught )?(?P<name>[A-Z][\w$.]*(?: \[\w+\])?)(?P<text>: .*)?$"
)
_HEADER = re.compile(r"^(?P<file>(?:file://|node:|/|[A-Za-z]:\\|internal/)[^\s:()]*):(?P<line>\d+)$")
_REQUIRED_BY = re.compile(r"^- (?P<file>/\S+)$")
_FOREIGN = re.compile(r"^node:|^internal/|/node_modules/|^<|^native")
_REASON = re.compile(r'rejected with the reason "(?P<reason>.*)"\.?$')
ABOVE = 12  # lines above its stack in which an error begins


def crashes(lines: Sequence[str]) -> Iterator[Cause]:
    """One for each stack; that of a `[cause]` takes the place of the error that it caused."""
    outer: tuple[Frame, ...] = ()
    for first, frames in _stacks(lines):
        thrown = _thrown(lines, first)
        if thrown is None:
            continue
        at, match = thrown
        name = match["name"]
        if name == "TSError":
            continue  # the compiler's own line says what is wrong, and where
        found = _own(frames) or _own(_header(lines, at)) or (_own(outer) if match["cause"] else None)
        if name == "SyntaxError":
            found = _own(_header(lines, at)) or found
        file, line = found or _required_by(lines, at, first)
        outer = frames
        yield Cause(_text(name, match["text"] or ""), at, file, line)


def _stacks(lines: Sequence[str]) -> Iterator[tuple[int, tuple[Frame, ...]]]:
    """The first line of each run of frames, and the frames."""
    at = 0
    while at < len(lines):
        first, frames = at, []
        while at < len(lines) and _ANY_FRAME.match(lines[at]):
            if frame := _FRAME.match(lines[at]):
                frames.append((place(frame["file"]), int(frame["line"])))
            at += 1
        if frames:
            yield first, tuple(frames)
        at += at == first


def _thrown(lines: Sequence[str], first: int) -> tuple[int, re.Match[str]] | None:
    """The nearest line above the stack that names an error; its message may go on for some lines."""
    for at in range(first - 1, max(-1, first - 1 - ABOVE), -1):
        match = _THROWN.match(lines[at])
        if match and (match["text"] or match["name"].endswith(("Error", "Exception"))):
            return at, match
        if _ANY_FRAME.match(lines[at]):
            return None
    return None


def _header(lines: Sequence[str], at: int) -> tuple[Frame, ...]:
    """`/app/server.js:12`, then the source line and a caret, then the error."""
    for above in range(at - 1, max(-1, at - 8), -1):
        if header := _HEADER.match(lines[above]):
            return ((place(header["file"]), int(header["line"])),)
    return ()


def _required_by(lines: Sequence[str], at: int, first: int) -> Frame:
    found = (_REQUIRED_BY.match(line) for line in lines[at:first])
    return next(((match["file"], 0) for match in found if match), ("", 0))


def _own(frames: Sequence[Frame]) -> Frame | None:
    """The frame nearest to the error in the project's own code."""
    return next((frame for frame in frames if not _FOREIGN.search(frame[0])), None)


def _text(name: str, text: str) -> str:
    if name.startswith("UnhandledPromiseRejection") and (reason := _REASON.search(text)):
        return f"{name}: {reason['reason']}"
    return name + text

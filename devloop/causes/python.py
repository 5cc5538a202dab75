"""Python: the exception at the end of a traceback, of the last one where several are chained. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from devloop.causes.cause import Cause, last_name

Frame = tuple[str, int]

# Frames of a group of exceptions stand behind "  | ".
_FRAME = re.compile(r'^(?P<margin>[\s|]*)File "(?P<file>.+?)", line (?P<line>\d+)(?:, in .*)?$')
_RAISED = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(?P<text>: .*|:)?$")
_FOREIGN = re.compile(r"/(?:site|dist)-packages/|/lib/python\d|^<")
_SYNTAX = ("SyntaxError", "IndentationError", "TabError")
_MARGIN = re.compile(r"^[\s|]*")


def crashes(lines: Sequence[str]) -> Iterator[Cause]:
    frames: list[Frame] = []
    base = 0  # where a traceback's first and last line begin
    for at, line in enumerate(lines):
        frame = _FRAME.match(line)
        if frame:
            base = len(frame["margin"]) - 2
            frames.append((frame["file"], int(frame["line"])))
            continue
        margin = len(_MARGIN.match(line)[0])  # type: ignore[index]  # it matches anything
        if not frames or not line.strip() or margin > base:
            continue
        raised = _RAISED.match(line[margin:])
        if raised and margin == base:
            name = last_name(raised["name"])
            file, number = frames[-1] if name in _SYNTAX else _own(frames)
            yield Cause(name + (raised["text"] or "").rstrip(": "), at, file, number)
        frames = []


def _own(frames: Sequence[Frame]) -> Frame:
    """The deepest frame in the project's own code; where there is none, the deepest."""
    return next((frame for frame in reversed(frames) if not _FOREIGN.search(frame[0])), frames[-1])

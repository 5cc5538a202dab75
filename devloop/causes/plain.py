"""The last line that looks like a cause, where no runtime or tool is recognized. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from devloop.causes.cause import Cause

_LOUD = re.compile(r"(?:^|[\s\[|])(?:FATAL|CRITICAL|PANIC|ERROR|EMERG|fatal|Fatal error|panic|Error|error)\b")
_LIKELY = re.compile(
    r"\b(?:fatal|panic\w*|uncaught|unhandled|error|errors|exception|failed|failure|cannot|can't|could not"
    r"|couldn't|unable|no such|no module|not found|denied|refused|rejected|invalid|missing|already in use"
    r"|undefined|unknown|unrecognized|unsupported|unexpected|does not exist|out of memory|segmentation fault"
    r"|not set|no main)\b",
    re.IGNORECASE,
)
_NOISE = re.compile(
    r"\b(?:INFO|DEBUG|TRACE|NOTICE)\b|\b(?:no|0) (?:errors|failures)\b|did not complete successfully|"
    r"executor failed running|exit(?:ed with)? (?:status|code):? ?\d+|ELIFECYCLE|This error originates from|"
    r"^\s*(?:at|from) |^\s*\^|^npm (?:ERR!|error)|^\[notice\]|returned a non-zero code",
)
_STAMP = re.compile(
    r"^\[?(?:\d{4}[-/]\d\d[-/]\d\d[T ])?\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z| ?[+-]\d\d:?\d\d| UTC)?\]?\s*"
    r"(?:\[\d+\]\s*)?"
)
_LEVEL = re.compile(r"^\[?(?:FATAL|CRITICAL|PANIC|ERROR)\]?:?\s+(?=\S)")
_LEVELS = ("error", "fatal", "critical", "panic", "50", "60")  # of structured logs; the numbers are pino's


def likely(lines: Sequence[str]) -> Iterator[Cause]:
    """The last line that is loud, else the last one with a word of failure."""
    loud: Cause | None = None
    quiet: Cause | None = None
    for at, line in enumerate(lines):
        entry = _entry(line) if line.startswith("{") else None
        if entry is not None:
            loud = Cause(text, at) if (text := _report(entry)) else loud
        elif line.strip() and not _NOISE.search(line):
            if _LOUD.search(line):
                loud = Cause(_short(line), at)
            elif _LIKELY.search(line):
                quiet = Cause(_short(line), at)
    if loud or quiet:
        yield loud or quiet  # type: ignore[misc]  # one of them is there


def _short(line: str) -> str:
    """Without time and level."""
    return _LEVEL.sub("", _STAMP.sub("", line.strip()))


def _entry(line: str) -> dict[str, Any] | None:
    """A line of a structured log."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _report(entry: dict[str, Any]) -> str:
    """What it says at level error or above, "" below that."""
    level = entry.get("level", entry.get("severity", ""))
    if str(level).lower() not in _LEVELS:
        return ""
    error = entry.get("err", entry.get("error", entry.get("exception", "")))
    if isinstance(error, dict):
        error = error.get("message", "")
    texts = (entry.get("msg") or entry.get("message") or entry.get("event"), error)
    found = [text.partition("\n")[0] for text in texts if isinstance(text, str) and text]
    return ": ".join(dict.fromkeys(found))

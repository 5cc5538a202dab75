"""Go: the panic or the runtime's fatal error, with the first own frame of the goroutine below it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from devloop.causes.cause import Cause

_ENDED = re.compile(r"^(?P<kind>panic|fatal error): (?P<text>.*)$")
_GOROUTINE = re.compile(r"^(?:goroutine \d+ .*\[.*\]:|runtime stack:)$")
_FRAME = re.compile(r"^\t(?P<file>\S+\.(?:go|s)):(?P<line>\d+)(?: \+0x[0-9a-f]+)?$")
_FOREIGN = re.compile(
    r"/(?:usr/local|usr/lib|opt|root/sdk)/go[\w.-]*/(?:src|pkg)/|/pkg/mod/|@v\d|^runtime/|/vendor/"
)
_RUNTIME = re.compile(r"^(?:runtime[./]|panic\(|testing\.|internal/)")
BELOW = 12  # lines below its message in which the goroutine begins


def crashes(lines: Sequence[str]) -> Iterator[Cause]:
    for at, line in enumerate(lines):
        ended = _ENDED.match(line)
        if not ended:
            continue
        begin = next(
            (n for n in range(at + 1, min(len(lines), at + BELOW)) if _GOROUTINE.match(lines[n])), None
        )
        if begin is None:
            continue
        text = re.sub(r" \[recovered.*\]$", "", ended["text"])
        yield Cause(f"{ended['kind']}: {text}", at, *_place(lines, begin))


def _place(lines: Sequence[str], begin: int) -> tuple[str, int]:
    first: tuple[str, int] = ("", 0)
    for at in range(begin + 1, len(lines)):
        if not lines[at].strip() and first != ("", 0):
            break  # the next goroutine's
        frame = _FRAME.match(lines[at])
        if not frame or _RUNTIME.match(lines[at - 1]):
            continue
        found = frame["file"], int(frame["line"])
        if not _FOREIGN.search(frame["file"]):
            return found
        first = first if first[0] else found
    return first

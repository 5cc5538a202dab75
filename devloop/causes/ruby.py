"""Ruby: `app.rb:3:in 'foo': message (NameError)`, above its `from` lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from devloop.causes.cause import Cause, last_name

_RAISED = re.compile(
    r"^(?P<file>[^\s:][^:]*|<internal:[^>]+>):(?P<line>\d+):in ['`](?P<method>.+?)': (?P<text>.*?)"
    r"(?: \((?P<name>[A-Z]\w*(?:::\w+)*)\))?$"
)
_FROM = re.compile(r"^\s+from (?P<file><internal:[^>]+>|[^:]+):(?P<line>\d+):in ")
_SYNTAX = re.compile(
    r"^(?P<file>[^\s:]+\.(?:rb|ru|rake|gemspec)|[^\s:]*(?:Gemfile|Rakefile)):(?P<line>\d+):"
    r" (?P<text>.*syntax error.*?)(?: \(SyntaxError\))?$"
)
_POINTED = re.compile(r"^\s*\|[\s^~]*\^[~^]*\s*(?P<text>\S.*)$")  # what Ruby 3.4 says below the source line
_FOREIGN = re.compile(r"/gems/|^<internal:|/lib/ruby/|/rubygems/|/bin/bundle")


def crashes(lines: Sequence[str]) -> Iterator[Cause]:
    for at, line in enumerate(lines):
        if syntax := _SYNTAX.match(line):
            text = _pointed(lines, at) if "found" in syntax["text"] else syntax["text"]
            message = f"SyntaxError: {text.removeprefix('syntax error, ')}"
            yield Cause(message, at, syntax["file"], int(syntax["line"]))
            continue
        raised = _RAISED.match(line)
        # One that follows the frames of another is what that one was raised for.
        if not raised or not (raised["name"] or _is_frame(lines, at + 1)) or _is_frame(lines, at - 1):
            continue
        file, number = _own(lines, at, (raised["file"], int(raised["line"])))
        name = last_name((raised["name"] or "").replace("::", "."))
        text = raised["text"] or next((one.strip() for one in lines[at + 1 : at + 3] if one.strip()), "")
        yield Cause(f"{name}: {text}" if name else text, at, file, number)


def _is_frame(lines: Sequence[str], at: int) -> bool:
    return 0 <= at < len(lines) and _FROM.match(lines[at]) is not None


def _own(lines: Sequence[str], at: int, raised: tuple[str, int]) -> tuple[str, int]:
    """Where it was raised; if that is in a gem, the nearest caller in the project's own code."""
    frames = [raised]
    for line in lines[at + 1 :]:
        if frame := _FROM.match(line):
            frames.append((frame["file"], int(frame["line"])))
        elif len(frames) > 1:
            break
    return next((frame for frame in frames if not _FOREIGN.search(frame[0])), raised)


def _pointed(lines: Sequence[str], at: int) -> str:
    found = (_POINTED.match(line) for line in lines[at + 1 : at + 12])
    return next((match["text"] for match in found if match), "syntax errors found")

"""The JVM: the last `Caused by:` of the last stack trace, and what Spring Boot and the launcher say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from devloop.causes.cause import Cause, last_name

Frame = tuple[str, int]

_FRAME = re.compile(
    r"^\s+at (?P<module>[\w.@-]*/+)*(?P<method>[\w.$<>/-]+)\((?P<file>[\w$]+\.\w+):(?P<line>\d+)\)"
)
_ANY_FRAME = re.compile(r"^\s+(?:at [\w.@$/<>-]+\([^)]*\)|\.\.\. \d+ (?:more|common frames omitted))")
_THROWN = re.compile(
    r"^(?:Exception in thread \"[^\"]*\" |(?P<caused>Caused by: ))?"
    r"(?P<name>(?:[\w$]+\.)+[A-Z][\w$]*|[A-Z]\w*(?:Exception|Error))(?P<text>: .*)?$"
)
_FOREIGN = re.compile(
    r"^(?:java|javax|jdk|sun|jakarta|kotlin|kotlinx|scala|groovy|akka|reactor|okhttp3|"
    r"com\.(?:sun|zaxxer|fasterxml|mysql|google|mongodb)|ch\.qos|"
    r"org\.(?:springframework|apache|hibernate|eclipse|postgresql|slf4j|junit|gradle|codehaus|jboss|flywaydb)|"
    r"io\.(?:netty|micronaut|quarkus|vertx|lettuce|grpc|ktor))\."
)
_LAUNCHER = re.compile(
    r"^Error: (?:Could not find or load main class|Unable to access jarfile|Main method not found"
    r"|Unable to initialize main class|LinkageError)|^no main manifest attribute"
)
ABOVE = 10  # lines above its stack in which an exception begins


def crashes(lines: Sequence[str]) -> Iterator[Cause]:
    outer: list[Frame] = []  # frames of the project's own code in the chain so far
    for first, frames in _stacks(lines):
        found = _thrown(lines, first)
        if found is None:
            continue
        at, match = found
        mine = [(file, line) for method, file, line in frames if not _FOREIGN.match(method)]
        outer = [*mine, *outer] if match["caused"] else mine
        foreign = next(((file, line) for _, file, line in frames), ("", 0))
        file, line = (outer or [foreign])[0]
        yield Cause(last_name(match["name"]) + (match["text"] or ""), at, file, line)
    for at, text in enumerate(lines):
        if _LAUNCHER.match(text):
            yield Cause(text.removeprefix("Error: "), at)
    yield from _spring(lines)


def _stacks(lines: Sequence[str]) -> Iterator[tuple[int, list[tuple[str, str, int]]]]:
    """The first line of each run of frames, and of each frame method, file and line."""
    at = 0
    while at < len(lines):
        first, frames = at, []
        while at < len(lines) and _ANY_FRAME.match(lines[at]):
            if frame := _FRAME.match(lines[at]):
                frames.append((frame["method"], frame["file"], int(frame["line"])))
            at += 1
        if at > first and (frames or "\tat " in lines[first]):
            yield first, frames
        at += at == first


def _thrown(lines: Sequence[str], first: int) -> tuple[int, re.Match[str]] | None:
    for at in range(first - 1, max(-1, first - 1 - ABOVE), -1):
        if match := _THROWN.match(lines[at]):
            return at, match
        if _ANY_FRAME.match(lines[at]):
            return None
    return None


def _spring(lines: Sequence[str]) -> Iterator[Cause]:
    """The paragraph below "Description:" of the banner that a start that failed ends with."""
    banner = max((at for at, line in enumerate(lines) if line == "APPLICATION FAILED TO START"), default=None)
    if banner is None:
        return
    below = next((at for at in range(banner, len(lines)) if lines[at] == "Description:"), None)
    if below is None:
        return
    words: list[str] = []
    at = below
    for number in range(below + 1, len(lines)):
        if words and not lines[number].strip():
            break
        if lines[number].strip():
            at = at if words else number
            words.append(lines[number].strip())
    if words:
        yield Cause(" ".join(words), at)

"""The output of a build as it runs: lines for the screen, steps as progress, and the proof of a failure."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread

from devloop import activity
from devloop.causes.cause import Cause
from devloop.causes.find import excerpt, find_cause, instruction_cause
from devloop.dockerfile.parser import Dockerfile
from devloop.errors import BuildError
from devloop.events import Emit, Output, Progress
from devloop.files import read_text

TAIL = 200  # lines of a step that are kept, to find in them why it failed
# What the builder reports of a registry, a network or a disk: nothing of it is in the tree. What a RUN prints
# of its own failure is not looked at: the next build would fail as this one did, at the same cost.
_OUTSIDE = re.compile(
    r"no such host|i/o timeout|TLS handshake|connection re(?:fused|set)|temporary failure|no space left"
    r"|failed to (?:resolve source metadata|fetch|authorize|do request)|toomanyrequests|unexpected status",
    re.IGNORECASE,
)
# What is left of a build whose connection to the engine ended before it did.
_CUT = re.compile(
    r"did not provide an image ID|error during connect|cannot connect to the docker daemon|no active session"
    r"|code = (?:Unavailable|Canceled)|transport is closing|context canceled|connection reset by peer"
    r"|broken pipe|server closed|unexpected EOF|: EOF$",
    re.IGNORECASE,
)
_STEP = re.compile(r"^\[(?:(?P<stage>[^\]\s]+)\s+)?(?P<step>\d+)/(?P<steps>\d+)\]\s+(?P<text>.*)$", re.DOTALL)
_LAYERED = ("RUN", "COPY", "ADD", "WORKDIR")  # the instructions that BuildKit counts as steps
_BAD_LINE = re.compile(r"(?:parse error(?: on)? line |Dockerfile:|line )(?P<line>\d+)", re.IGNORECASE)


@dataclass(slots=True)
class BuildStep:
    """One vertex of the build graph."""

    name: str
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))
    done: bool = False
    error: str = ""


class Transcript:
    """Fed with what happens, it emits Output and Progress, and in the end reports what went wrong."""

    def __init__(self, service: str, emit: Emit) -> None:
        self._service, self._emit = service, emit
        self._steps: dict[str, BuildStep] = {}
        self._total: dict[str, int] = {}  # steps of each stage
        self._ended: set[tuple[str, str]] = set()
        self._shown = (0, 0)

    def begin(self, key: str, name: str) -> None:
        """A vertex was named. Naming it again changes nothing."""
        if key in self._steps:
            return
        self._steps[key] = BuildStep(name)
        numbered = _STEP.match(name)
        if numbered:
            self._total[numbered["stage"] or ""] = int(numbered["steps"])
            self._say(" ".join(name.split()))

    def say(self, key: str, line: str) -> None:
        """A vertex printed a line."""
        step = self._steps.get(key)
        if step is not None:
            step.lines.append(line)
        self._say(line)

    def end(self, key: str, error: str = "") -> None:
        """A vertex is through, or failed."""
        step = self._steps.get(key)
        if step is None or (step.done and not error):
            return
        step.done, step.error = True, error or step.error
        numbered = _STEP.match(step.name)
        if numbered:
            self._ended.add((numbered["stage"] or "", numbered["step"]))
        now = (len(self._ended), sum(self._total.values()))
        if numbered and not error and now != self._shown:
            self._shown = now
            note = " ".join(step.name.split())
            self._emit(Progress(self._service, "build", now[0], now[1], "steps", note))

    def failure(self, what: str, message: str, dockerfile: str) -> BuildError:
        """The build's error with its evidence: instruction, its last lines, and its place in the Dockerfile.

        `what` was tried, `message` is the builder's last message, `dockerfile` the text of the Dockerfile.
        """
        failed = next((step for step in self._steps.values() if step.error), None)
        lines = tuple(failed.lines) if failed is not None else ()
        found = find_cause(lines)
        evidence: list[str] = []
        if failed is not None:
            evidence.append(" ".join(failed.name.split()))
            evidence.extend(excerpt(lines, found))
        place = locate(dockerfile, failed.name if failed else "", message)
        if place is not None:
            evidence.append(f"Dockerfile:{place[0]} | {place[1]}")
        reason = (failed.error if failed else "") or message or "the builder gave no reason"
        cut = _CUT.search(reason) is not None
        if "did not provide an image ID" in reason:
            reason = "the engine ended the build without an image: it was stopped, or restarted"
        return BuildError(
            f"{what}: {reason}",
            reason="BuildFailed",
            evidence=tuple(evidence),
            hint=_advice(reason),
            cause=_cause(found, reason, place),
            outside_tree=cut or _OUTSIDE.search(reason) is not None,
        )

    def _say(self, line: str) -> None:
        activity.note(line)
        self._emit(Output(self._service, "build", line))


def locate(dockerfile: str, step: str, message: str) -> tuple[int, str] | None:
    """Line number and text of what failed: by a step's name, else by a line that the message names."""
    lines = dockerfile.splitlines()
    numbered = _STEP.match(step)
    line = _line_of(dockerfile, numbered) if numbered else 0
    if not line:
        named = _BAD_LINE.search(message)
        line = int(named["line"]) if named else 0
    return (line, lines[line - 1].strip()) if 0 < line <= len(lines) else None


def _cause(found: Cause | None, reason: str, place: tuple[int, str] | None) -> str:
    """What the failed step printed, else what the builder says; without a place, at its instruction."""
    if found is not None and found.file:
        return str(found)
    line = place[0] if place is not None else 0
    message = found.message if found is not None else instruction_cause(reason)
    return str(Cause(message, 0, "Dockerfile" if line else "", line))


def _line_of(dockerfile: str, numbered: re.Match[str]) -> int:
    """The line of the step `[stage 2/3] RUN x`: by its text, else by its number; 0 if neither helps."""
    try:
        stages = Dockerfile.parse(dockerfile).stages
    except BuildError:
        return 0
    name = numbered["stage"] or ""
    # BuildKit leaves the name out where there is one stage to build: nearly always the last.
    own = [one for one in stages if name in (one.name, f"stage-{one.index}")] if name else [stages[-1]]
    text = " ".join(numbered["text"].split())
    keyword = text.partition(" ")[0].upper()
    for stage in own:
        steps = [one for one in stage.instructions if one.keyword in _LAYERED]
        same = [one for one in steps if " ".join(one.text.split()) == text]
        number = int(numbered["step"]) - 2  # the first step is FROM
        same += [one for one in steps[max(number, 0) : number + 1] if one.keyword == keyword]
        if same:
            return same[0].line
        if keyword == "FROM":
            return stage.line
    return 0


def _advice(reason: str) -> str | None:
    if "not found" in reason and ("cache key" in reason or "failed to compute" in reason or '"/' in reason):
        return "the file is not in the build context: check its path, and that .dockerignore leaves it in"
    if "no space left" in reason:
        return "the engine's disk is full: docker system df shows what takes the space"
    return None


async def text_of(dockerfile: Path) -> str:
    """What `Transcript.failure` looks for the instruction in, "" where it cannot be read any more."""
    try:
        return await anyio.to_thread.run_sync(read_text, dockerfile, "utf-8", "replace")
    except OSError:
        return ""

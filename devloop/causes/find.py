"""Of all that a program or a build printed, the one line that says why it ended. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from devloop.causes import golang, jvm, node, plain, python, ruby, tools
from devloop.causes.cause import Cause, bare

RUNTIMES = (python.crashes, node.crashes, jvm.crashes, golang.crashes, ruby.crashes)
_ENDED = (  # BuildKit since 0.10, before that, and the legacy builder, of a RUN that failed
    re.compile(
        r'process "(?:/bin/sh -c )?(?P<what>.*)" did not complete successfully: exit code: (?P<code>\d+)'
    ),
    re.compile(r"executor failed running \[(?:/bin/sh -c )?(?P<what>.*)\]: exit code: (?P<code>\d+)"),
    re.compile(r"The command '(?:/bin/sh -c )?(?P<what>.*)' returned a non-zero code: (?P<code>\d+)"),
)


def find_cause(printed: Sequence[str]) -> Cause | None:
    """What the last lines of a program or a build say, None where nothing looks like a cause.

    The last crash that a runtime reports, else the first error of a compiler, for others follow from it; else
    what npm complains of; else the last line that looks like one.
    """
    lines = [bare(line) for line in printed]
    crashed = [cause for crashes in RUNTIMES for cause in crashes(lines)]
    if crashed:
        return max(crashed, key=lambda cause: cause.at)
    for rule in (tools.compile_errors, tools.npm_errors, plain.likely):
        if found := next(iter(rule(lines)), None):
            return found
    return None


def instruction_cause(message: str) -> str:
    """A builder's message, where the instruction itself printed nothing: "RUN make: exit code 2"."""
    for pattern in _ENDED:
        if found := pattern.search(message):
            return f"RUN {' '.join(found['what'].split())}: exit code {found['code']}"
    return message.partition("\n")[0]


def excerpt(lines: Sequence[str], cause: Cause | None, most: int = 20) -> tuple[str, ...]:
    """The last lines, at most `most`; from the cause on, where they would not show it."""
    if len(lines) <= most:
        return tuple(lines)
    if cause is None or cause.at >= len(lines) - most:
        return tuple(lines[-most:])
    left = len(lines) - cause.at - most
    return (*lines[cause.at : cause.at + most], f"... and {left} more line{'s' * (left > 1)}")

"""Why a program ended, in one line: what its runtime or tool says, and the file and line that it names."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")
# What stands in front of a line of a step (`#8 1.234 `), and of a process that foreman or honcho runs.
_PREFIX = re.compile(r"^(?:#\d+ \d+\.\d+ |\d\d:\d\d:\d\d [\w.-]+ *\| )")

LONGEST = 2_000  # characters of a line that is looked at: a minified source line says nothing


@dataclass(frozen=True, slots=True)
class Cause:
    """`at`: the number of the line that says so, from 0. `file` "" and `line` 0: nothing names them."""

    message: str
    at: int
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """ "SyntaxError: invalid syntax (greeting.py, line 1)"; a place is not named twice."""
        message, name = " ".join(self.message.split()), self.file.rpartition("/")[2]
        if not name or _names(message, name, self.line):
            return message
        return f"{message} ({name}, line {self.line})" if self.line else f"{message} ({name})"


def bare(line: str) -> str:
    """The line without colours and without what others put in front of it; "" for one that is too long.

    It is not shortened: part of a secret would not be recognized as one (S30).
    """
    if len(line) > LONGEST:
        return ""
    return _PREFIX.sub("", _ESCAPES.sub("", line).rstrip())


def place(path: str) -> str:
    """A path as it is shown and compared: without the scheme of a URL."""
    return path.removeprefix("file://")


def last_name(dotted: str) -> str:
    """The class alone: "JSONDecodeError" of "json.decoder.JSONDecodeError"."""
    return dotted.rpartition(".")[2]


def _names(message: str, name: str, line: int) -> bool:
    if name not in message:
        return False
    return not line or re.search(rf"(?:\bline |[:(]){line}\b", message) is not None

"""Values and comments as YAML text: whatever a name or a reason holds, it reads back as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from devloop.config.document import TRAP_BOOL, TRAP_FLOAT, TRAP_INT

WIDTH = 110
_PLAIN = re.compile(r"^[A-Za-z_./][A-Za-z0-9_./-]*(:[A-Za-z0-9_./-]+)*$")
_MEAN_MORE = frozenset({"true", "false", "null", ".inf", ".nan"})


def scalar(value: object) -> str:
    """A value as its reader takes it back, in quotes where a bare word means something else."""
    if isinstance(value, str):
        trap = TRAP_BOOL.match(value) or TRAP_INT.match(value) or TRAP_FLOAT.match(value)
        if value == "." or (_PLAIN.match(value) and not trap and value.lower() not in _MEAN_MORE):
            return value
    return json_text(value)


def json_text(value: object) -> str:
    """In quotes in any case."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def mapping(values: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{scalar(key)}: {scalar(value)}" for key, value in values.items()) + "}"


def sequence(values: list[str] | tuple[str, ...]) -> str:
    return "[" + ", ".join(scalar(one) for one in values) + "]"


def comment(text: str, indent: str = "", hang: str = "") -> Iterator[str]:
    """Lines of a comment, broken at words to stay within WIDTH; `hang` indents all but the first.

    The only place that writes a comment: a line end in `text` is a space there, never an end of the comment.
    """
    line = ""
    for word in shown(text).split(" "):
        if line and len(indent) + len(line) + len(word) + 3 > WIDTH:
            yield f"{indent}# {line}"
            line = f"{hang}{word}"
        else:
            line = f"{line} {word}" if line else word
    if line:
        yield f"{indent}# {line}"


def with_comment(line: str, text: str) -> str:
    """A line with a comment at its end, be it longer than WIDTH."""
    return f"{line}  # {shown(text)}" if shown(text) else line


def shown(text: str) -> str:
    """One line without what steers a terminal or a reader of YAML: white space is a space, else escaped."""
    return "".join(one if one.isprintable() else _escaped(one) for one in " ".join(text.split()))


def _escaped(one: str) -> str:
    return f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}"

"""Texts that YAML, a terminal or a file system takes for something else."""

from __future__ import annotations

NASTY = [
    "a\nb: 1",
    "a\r\n# b",
    "a\x85b: [",
    "a\u2028b: {",
    "\x00\x1b[31m",
    "\ud800",
    "\ufeffx",
    "#",
    "*",
    "&a",
    "!x",
    "- a",
    "a: b",
    "yes",
    "1e3",
    ".inf",
    "~",
    "null",
    "${A}",
    "{{ a }}",
    "'",
    '"',
    "\\",
    "é",
    "🙂",
    "a  b",
    " a ",
    "",
]

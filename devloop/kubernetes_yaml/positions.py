"""Where in a text a mistake in YAML is, and what to do about it."""

from __future__ import annotations

import yaml

# How what the parsers say begins (libyaml's words, and PyYAML's own) -> what it means.
_MEANINGS = {
    "did not find expected node content": "a value is missing, or a bracket is not closed",
    "expected the node content": "a value is missing, or a bracket is not closed",
    "did not find expected ',' or": "a [ or { is not closed, or a comma is missing",
    "expected ',' or": "a [ or { is not closed, or a comma is missing",
    "found unexpected end of stream": "the text ends within quotes",
    "could not find expected ':'": 'a key without ":"; or the indentation is off',
    "did not find expected key": "the indentation does not fit the lines above",
    "did not find expected '-' indicator": "the indentation does not fit the lines above",
    "expected <block end>": "the indentation does not fit the lines above",
    "found undefined alias": "an alias (*name) whose anchor (&name) is not above it",
}


def syntax_mistake(error: yaml.MarkedYAMLError) -> tuple[tuple[int, int] | None, str]:
    """(line, column) from 1, None where the reader knows none; what is wrong."""
    mark = error.problem_mark or error.context_mark
    position = (mark.line + 1, mark.column + 1) if mark else None
    text = error.problem or error.context or "not valid YAML"
    return position, next((words for start, words in _MEANINGS.items() if text.startswith(start)), text)

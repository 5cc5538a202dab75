"""Where in a text a mistake in YAML is."""

from __future__ import annotations

import yaml


def syntax_mistake(error: yaml.MarkedYAMLError) -> tuple[tuple[int, int] | None, str]:
    """(line, column) from 1, None where the reader knows none; what is wrong."""
    mark = error.problem_mark or error.context_mark
    position = (mark.line + 1, mark.column + 1) if mark else None
    return position, error.problem or error.context or "not valid YAML"

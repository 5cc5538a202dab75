"""`devloop check`: what devloop would deploy, rendered and judged by the rules of devloop.checks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from devloop.commands.check_files import examine_files
from devloop.commands.frame import Project, run
from devloop.commands.output import secrets_of


def check(project: Project, names: Sequence[str], *, offline: bool, output: str) -> int:
    """Print what the rules find in what devloop would deploy; the exit code."""
    from devloop.sinks.findings import as_github, as_json, as_text

    look = examine_files
    if not offline:
        from devloop.commands.check_cluster import examine  # with clients that take long to import

        look = examine
    found = run(partial(look, project, names))
    rendered = {"text": as_text, "json": as_json, "github": as_github}[output](found.report)
    print(secrets_of(project.config, names)(rendered))
    return found.exit_code

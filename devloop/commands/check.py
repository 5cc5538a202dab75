"""`devloop check`: what devloop would deploy, rendered and judged by the rules of devloop.checks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from devloop.commands.check_files import examine_files
from devloop.commands.frame import Project, run
from devloop.commands.output import concealed, dumped, secrets_of


def check(project: Project, names: Sequence[str], *, offline: bool, output: str) -> int:
    """Print what the rules find in what devloop would deploy, as `output` names it (github: annotations of a
    workflow); the exit code."""
    from devloop.sinks.findings import as_github, as_object, as_text

    look = examine_files
    if not offline:
        from devloop.commands.check_cluster import examine  # with clients that take long to import

        look = examine
    found = run(partial(look, project, names))
    hide = secrets_of(project.config, names)
    if output in ("json", "yaml"):
        print(dumped(concealed(as_object(found.report), hide), output))
    else:
        print(hide((as_github if output else as_text)(found.report)))
    return found.exit_code

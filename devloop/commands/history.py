"""`devloop history`: the trips of services, as the journal has them; with or without a running watch."""

from __future__ import annotations

from collections.abc import Sequence

import click

from devloop.commands.frame import Project
from devloop.commands.output import dumped
from devloop.config import load as configs
from devloop.control.protocol import Json


def history(project: Project, names: Sequence[str], *, most: int, output: str) -> int:
    """Print the newest `most`, the newest last; the exit code."""
    from devloop.sinks.past_trips import as_table

    trips = read(project, names, most)
    if output:
        click.echo(dumped({"trips": trips}, output))
    elif trips:
        click.echo(as_table(trips, project.config.root))
    else:
        click.echo("no trips yet: devloop once or devloop watch makes the first")
    return 0


def read(project: Project, names: Sequence[str], most: int) -> list[Json]:
    """The newest `most` trips, the newest last. Blocking. Raises ConfigError."""
    from devloop.sinks.past_trips import past_trips

    configs.chosen(project.config, names)  # a name that nobody knows is an error, not an empty history
    return past_trips(configs.state_dir(project.config.path), names, most)

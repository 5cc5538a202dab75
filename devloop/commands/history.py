"""`devloop history`: the trips of services, as the journal has them; with or without a running watch."""

from __future__ import annotations

from collections.abc import Sequence

import click

from devloop.commands.frame import Project
from devloop.commands.output import dumped
from devloop.config import load as configs


def history(project: Project, names: Sequence[str], *, most: int, output: str) -> int:
    """Print the newest `most`, the newest last; the exit code."""
    from devloop.sinks.past_trips import as_table, past_trips

    config = project.config
    configs.chosen(config, names)  # a name that nobody knows is an error, not an empty history
    trips = past_trips(configs.state_dir(config.path), names, most)
    if output:
        click.echo(dumped({"trips": trips}, output))
    elif trips:
        click.echo(as_table(trips, config.root))
    else:
        click.echo("no trips yet: devloop once or devloop watch makes the first")
    return 0

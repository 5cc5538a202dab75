"""`devloop rebuild`, `restart`, `trigger` and `pause`: what a running watch is asked to do."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial

import click

from devloop.commands.frame import Project, run
from devloop.commands.output import dumped
from devloop.control.client import RunningWatch, watches_of
from devloop.control.protocol import Json
from devloop.errors import PlatformError

WITHOUT_WATCH = {
    "rebuild": "devloop once --rebuild builds anew without one",
    "restart": "kubectl rollout restart does it without one",
    "trigger": "devloop once brings the tree without one",
    "pause": "without one nothing happens at a save",
}


def act(project: Project, do: str, names: Sequence[str], *, output: str) -> int:
    """Have the running watches do it; 0 if each service is as it was asked for."""

    return show_results(run(partial(have_done, project, do, names)), output=output)


async def have_done(project: Project, do: str, names: Sequence[str]) -> Json:
    """{NAME: what was done about it}. Raises PlatformError (no watch runs), ConfigError."""
    try:
        shares = await watches_of(project.config, names)
    except PlatformError as error:
        if error.reason == "NoWatch":
            error.hint = WITHOUT_WATCH[do]
        raise
    return await results_of(shares, do)


async def results_of(shares: Mapping[RunningWatch, tuple[str, ...]], do: str) -> Json:
    """{NAME: what was done about it}: each watch does it for its own services."""
    found: Json = {}
    for watch, names in shares.items():
        found |= (await watch.ask(do, services=list(names))).get("services", {})
    return found


def show_results(results: Json, *, output: str) -> int:
    """Print them; the exit code."""
    if output:
        click.echo(dumped({"services": results}, output))
    for name, result in {} if output else results.items():
        stream = sys.stdout if result["done"] else sys.stderr
        click.echo(f"{name}: {result['message']}", file=stream)
        if result["hint"]:
            click.echo(f"  -> {result['hint']}", file=stream)
    return 0 if all(result["done"] for result in results.values()) else 1

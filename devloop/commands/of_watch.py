"""The command line of what goes with a running `devloop watch`: options, arguments and help."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from devloop.commands.options import (
    asked,
    log_format_option,
    on_project,
    output_option,
    services_argument,
    where,
)

if TYPE_CHECKING:
    from devloop.commands.frame import Project


@click.command()
@services_argument
@output_option
@on_project
def resume(project: Project, services: tuple[str, ...], output: str) -> int:
    """Let services that are paused, or held by `devloop rollback`, follow the files again.

    Exit code: 0 they do, 1 one does not, 2 config or usage, 3 platform not reachable.
    """
    from devloop.commands import resume as command

    return command.resume(project, services, output=output)


@click.command()
@services_argument
@output_option
@on_project
def pause(project: Project, services: tuple[str, ...], output: str) -> int:
    """Have the running `devloop watch` collect what is saved, and do nothing about it until `devloop resume`.

    A trip that is under way goes on.
    Exit code: 0 they are paused, 2 config or usage, 3 no devloop watch is running.
    """
    from devloop.commands import control

    return control.act(project, "pause", services, output=output)


@click.command()
@services_argument
@output_option
@on_project
def rebuild(project: Project, services: tuple[str, ...], output: str) -> int:
    """Have the running `devloop watch` build images anew and in full, under new tags.

    Returns when that has begun. Exit code: 0 it has, 1 one of the services is paused, 2 config or usage,
    3 no devloop watch is running.
    """
    from devloop.commands import control

    return control.act(project, "rebuild", services, output=output)


@click.command()
@services_argument
@output_option
@on_project
def restart(project: Project, services: tuple[str, ...], output: str) -> int:
    """Have the running `devloop watch` replace the pods, with the image that they have.

    Returns when that has begun; the rollout is followed as any other. Exit code: 0 it has, 1 one of the
    services is paused, held, or has no workload, 2 config or usage, 3 no devloop watch is running.
    """
    from devloop.commands import control

    return control.act(project, "restart", services, output=output)


@click.command()
@services_argument
@output_option
@on_project
def trigger(project: Project, services: tuple[str, ...], output: str) -> int:
    """Have the running `devloop watch` take up what was saved of services with `trigger: manual`.

    Returns when that has begun. Exit code: 0 it has, or nothing was pending, 1 one of the services is
    paused, or not `trigger: manual`, 2 config or usage, 3 no devloop watch is running.
    """
    from devloop.commands import control

    return control.act(project, "trigger", services, output=output)


@click.command()
@services_argument
@click.option(
    "--last",
    "most",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    help="How many, at most.",
)
@output_option
@on_project
def history(project: Project, services: tuple[str, ...], most: int, output: str) -> int:
    """Show the last trips: when, what came of each, how long it took, its fingerprint, why, and the files.

    With or without a running `devloop watch`; the newest is the last. `-o json` has all of each trip.
    """
    from devloop.commands import history as command

    return command.history(project, services, most=most, output=output)


@click.command()
@services_argument
@click.option(
    "--for",
    "goal",
    type=click.Choice(["live", "settled", "failed"]),
    default="live",
    show_default=True,
    help="settled: live, failed, held, paused, pending or contested.",
)
@click.option("--timeout", default="60s", show_default=True, help="90s, 5m, or a number of seconds.")
@output_option
@on_project
def wait(project: Project, services: tuple[str, ...], goal: str, timeout: str, output: str) -> int:
    """Wait until it is decided what the cluster makes of the files as they are now, and say what.

    The running `devloop watch` looks at all files anew: it never answers for an older tree. Without one
    it is judged once.

    Exit code: 0 every service got there, 1 one settled elsewhere, 2 config or usage, 3 platform not
    reachable, or no devloop watch is running and it is not decided, 4 the time was up.
    """
    from devloop.commands import wait as command

    return command.wait(project, services, goal=goal, seconds=_seconds(timeout), output=output)


@click.command()
@where
def mcp(**given: Any) -> None:
    """Serve a coding agent over the Model Context Protocol, on standard input and output.

    Its tools are wait, status, logs, history, explain, rebuild, restart and rollback; `devloop watch` has to
    run beside it for most of them. It is started by the agent: docs/mcp.md. Needs devloop[mcp].
    """
    from devloop.commands import mcp as command
    from devloop.commands.frame import load_project

    command.mcp(partial(load_project, **asked(given)))


def _seconds(text: str) -> float:
    from devloop.config.duration import seconds

    try:
        found = float(text) if text.replace(".", "", 1).isdecimal() else seconds(text)
        assert isinstance(found, float)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from error
    return found


@click.command()
@services_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on, across rollouts.")
@click.option("--since", metavar="DURATION", help="Only what was logged since, such as 90s, 10m or 2h.")
@click.option(
    "--tail", type=click.IntRange(0), help="Lines of each container [default: 100, with --since all]."
)
@click.option("--grep", default="", metavar="PATTERN", help="Only lines with this regular expression.")
@log_format_option
@on_project
def logs(project: Project, services: tuple[str, ...], since: str | None, **given: Any) -> int:
    """Show what the pods of the services log, in the order of time, with or without a running watch.

    Lines that logs.mute of config.yaml names are left out. Exit code: 0, 1 none of the services has a pod,
    2 config or usage, 3 platform not reachable.
    """
    from devloop.commands import logs as command

    return command.logs(project, services, since=command.seconds_of(since), **given)

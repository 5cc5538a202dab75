"""The command line: options, arguments and help. A command is imported when it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from devloop import __version__, collector
from devloop.commands.exit import last_net
from devloop.commands.of_watch import history, logs, mcp, pause, rebuild, restart, resume, trigger, wait
from devloop.commands.options import (
    asked,
    format_option,
    json_option,
    log_format_option,
    on_project,
    output_as,
    output_option,
    service_argument,
    services_argument,
    where,
)

if TYPE_CHECKING:
    from devloop.commands.frame import Project


class Commands(click.Group):
    """Adds `sandbox` without importing it before it is asked for, and one exit for expected errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "sandbox"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "sandbox":
            return super().get_command(ctx, cmd_name)
        from devloop.commands.sandbox import sandbox_command

        return sandbox_command()

    def main(self, *args: Any, **kwargs: Any) -> Any:
        collector.pause()  # a command is imported; its `run` resumes
        try:
            with last_net():  # --help, --version and usage errors print before any command is invoked
                return super().main(*args, **kwargs)
        finally:
            collector.resume()

    def invoke(self, ctx: click.Context) -> Any:
        with last_net():  # inside of click, which would end by an "Aborted!" of its own
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="devloop")
@where
@click.pass_context
def main(ctx: click.Context, /, **given: Any) -> None:
    """Save a file, and the cluster runs it.

    devloop watches the source files of your services, rebuilds only the image that changed, loads it into the
    local cluster, updates the Deployment, and reports how long each step took.

    \b
    devloop sandbox up      a small cluster on this machine's Docker engine, for trying devloop
    devloop init            write a config.yaml for the project in this folder
    devloop once            bring the cluster up to date with the files on disk, then exit
    devloop watch           the same, at every save
    """
    ctx.obj = given


@main.command()
@click.option(
    "-y", "--yes", is_flag=True, help="Do not ask: leave out what is unknown, write missing manifests."
)
@click.option("--print", "show", is_flag=True, help="Print the config.yaml; write nothing, ask nothing.")
@where
def init(yes: bool, show: bool, **given: Any) -> None:
    """Write a config.yaml for the project in this folder, from the files in it.

    Reads Dockerfiles, manifests, kustomizations, charts, compose.yaml, skaffold.yaml, and the workloads of
    the context if that is a local cluster. Overwrites nothing.

    Exit code: 0 written, 2 it is there already, or nothing was found.
    """
    from devloop.commands import init as command

    command.init(**asked(given), yes=yes, show=show)


@main.command()
@services_argument
@click.option("--no-logs", is_flag=True, help="Do not show the pods' logs.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port for the metrics, instead of that of metrics.listen."
)
@log_format_option
@on_project
def watch(
    project: Project, services: tuple[str, ...], no_logs: bool, port: int | None, log_format: str
) -> None:
    """Bring the cluster up to date now and at every save; q or Ctrl-C ends it.

    On a terminal, keys rebuild (r), restart (R), pause (p), choose the logs (l) and filter them (f), open a
    URL (o) and show the last failure whole (d); ? lists them.

    Metrics are served at metrics.listen of config.yaml [default: 127.0.0.1:9100]; where that port is in use,
    at the next free one, which is printed.
    """
    from devloop.commands import watch as command

    command.watch(project, services, logs=not no_logs, log_format=log_format, port=port)


@main.command()
@services_argument
@output_option
@json_option
@click.option("--rebuild", is_flag=True, help="Build even if the image exists already, under a new tag.")
@log_format_option
@on_project
def once(project: Project, services: tuple[str, ...], output: str, rebuild: bool, log_format: str) -> int:
    """Bring the cluster up to date with the files on disk, then exit.

    Exit code: 0 all live or unchanged, 1 a stage failed, 2 config or usage, 3 platform not reachable or
    held by another devloop, 130 interrupted.
    """
    from devloop.commands import once as command

    return command.once(project, services, output=output, rebuild=rebuild, log_format=log_format)


@main.command()
@services_argument
@output_option
@json_option
@on_project
def status(project: Project, services: tuple[str, ...], output: str) -> int:
    """Show whether the cluster runs what is on disk, with or without a running `devloop watch`.

    Exit code: 0 every service is live, 1 one is not, 2 config or usage, 3 platform not reachable.
    """
    from devloop.commands import status as command

    return command.status(project, services, output=output)


@main.command()
@services_argument
@output_option
@json_option
@where
def doctor(services: tuple[str, ...], output: str, **given: Any) -> None:
    """Check everything that devloop needs: engine, disk, file watching, manifests, cluster, targets.

    Exit code: 0 everything devloop needs is there, 2 config or usage, 3 something is not.
    """
    from devloop.commands import doctor as command

    sys.exit(command.doctor(**asked(given), names=services, output=output))


@main.command()
@service_argument
@output_option
@on_project
def rollback(project: Project, service: str, output: str) -> int:
    """Return to the previous live image, and keep it until the files change.

    All Deployments of the service go back to the newest earlier image that was live in each of them; a
    service with a StatefulSet is refused. A running `devloop watch` leaves the service as it is meanwhile.

    Waits until the image runs; exit code 1 if it does not, with what Kubernetes reports.
    Another edit lifts the hold, and so does `devloop resume`.
    """
    from devloop.commands import rollback as command

    return command.rollback(project, service, output=output)


@main.command()
@output_option
@on_project
def diff(project: Project, output: str) -> int:
    """Show what `once` would change in the manifests and releases of the cluster.

    With the images that are live now; values of Secrets are masked.

    Exit code: 0 nothing, 1 something, 2 config or usage or what could not be rendered, 3 platform not
    reachable: as with kubectl, more than 1 says that there was no comparison.
    """
    from devloop.commands import diff as command

    return command.diff(project, output=output)


@main.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
@on_project
def down(project: Project, yes: bool, output: str) -> int:
    """Remove what devloop created in the cluster: releases, objects of the manifests, namespaces.

    A namespace stays if it was there before or if others have objects in it; so do the images on the nodes.
    """
    from devloop.commands import down as command

    return command.down(project, sure=yes, output=output)


@main.command()
@services_argument
@output_as("json", "yaml", "github")
@format_option
@click.option(
    "--offline", is_flag=True, help="Contact neither cluster nor engine, and skip the rules that need them."
)
@on_project
def check(project: Project, services: tuple[str, ...], output: str, offline: bool) -> int:
    """Check manifests, releases and built images against the rules of docs/checks.md.

    Exit code: 0 no errors, 1 errors, 2 config or usage, 3 no errors, but platform not reachable: the rules
    that ask it did not run.
    """
    from devloop.commands import check as command

    return command.check(project, services, offline=offline, output=output)


@main.command()
@services_argument
@output_option
@on_project
def explain(project: Project, services: tuple[str, ...], output: str) -> int:
    """Show which files can be sent as a delta, and which Dockerfile line prevents it for the others."""
    from devloop.commands import explain as command

    return command.explain(project, services, output=output)


@main.command()
@services_argument
@output_option
@on_project
def verify(project: Project, services: tuple[str, ...], output: str) -> int:
    """Compare the live images with full builds of the same files, file by file.

    Exit code: 0 equal, 1 one differs or cannot be built, 2 config or usage, 3 platform not reachable.
    """
    from devloop.commands import verify as command

    return command.verify(project, services, output=output)


@main.command()
@output_option
def schema(output: str) -> None:
    """Print the JSON Schema of config.yaml, for editors."""
    from devloop.commands.output import dumped
    from devloop.config import load as configs

    click.echo(dumped(configs.schema(), output or "json"))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script for a shell: eval "$(devloop completion bash)"."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "devloop", "_DEVLOOP_COMPLETE").source())


for command in (history, logs, mcp, pause, rebuild, restart, resume, trigger, wait):
    main.add_command(command)

if __name__ == "__main__":
    main()

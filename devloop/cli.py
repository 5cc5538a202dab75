"""The command line: parse, wire, run, exit code. Over 300 lines: every command and its help are here.

A command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from devloop import __version__
from devloop.commands.exit import last_net
from devloop.errors import ConfigError, DevloopError
from devloop.safety_net import FOLDER, Reports, guard_screen

if TYPE_CHECKING:
    from devloop.config.load import Config

_SANDBOX_EXTRA = ("cryptography", "dns")  # what only the sandbox needs
Command = Callable[..., Any]
Override = Callable[["Config"], "Config"]


class Commands(click.Group):
    """Adds `sandbox` without importing it before it is asked for, and one exit for expected errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "sandbox"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "sandbox":
            return super().get_command(ctx, cmd_name)
        return _sandbox()

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with last_net():  # --help, --version and usage errors print before any command is invoked
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with last_net():  # inside of click, which would end by an "Aborted!" of its own
            return super().invoke(ctx)


def _sandbox() -> click.Command:
    """The commands of devloop_sandbox; where its extra is not installed, one that says how to install it."""
    missing = [package for package in _SANDBOX_EXTRA if find_spec(package) is None]
    if not missing:
        from devloop_sandbox.cli import sandbox

        return sandbox

    @click.command("sandbox", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def how_to_install() -> None:
        """A small cluster on the local engine. Not installed: pip install 'devloop[sandbox]'"""
        raise ConfigError(
            f"devloop sandbox needs Python packages that are not installed: {', '.join(missing)}",
            reason="MissingDependency",
            hint="pip install 'devloop[sandbox]'",
        )

    return how_to_install


def where(command: Command) -> Command:
    """The options that say which project and which cluster; the environment can say it too."""
    for option in (
        click.option(
            "--kubeconfig",
            type=click.Path(path_type=Path),
            help="Kubeconfig file [default: $KUBECONFIG, ~/.kube/config].",
        ),
        click.option(
            "-n",
            "--namespace",
            envvar="DEVLOOP_NAMESPACE",
            help="Instead of cluster.namespace of config.yaml.",
        ),
        click.option(
            "--context", envvar="DEVLOOP_CONTEXT", help="Instead of cluster.context of config.yaml."
        ),
        click.option(
            "-c",
            "--config",
            "config_path",
            type=click.Path(path_type=Path),
            envvar="DEVLOOP_CONFIG",
            help="config.yaml [default: found upwards from here].",
        ),
    ):
        command = option(command)
    return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="devloop")
@where
@click.pass_context
def main(ctx: click.Context, /, **given: Any) -> None:
    """Save a file, and the cluster runs it.

    devloop watches the source trees of your services, rebuilds only the image that changed, brings it into
    the local cluster, rolls the Deployment, and tells how long each step took.

    \b
    devloop sandbox up      a small cluster on this machine's Docker engine, for trying devloop
    devloop once            bring the cluster to the tree, then exit
    devloop watch           the same, at every save
    """
    ctx.obj = given


def _loaded(ctx: click.Context, given: dict[str, Any]) -> tuple[Config, Override, Path | None]:
    """The config with the overrides in place, how to put them into another, and the kubeconfig option."""
    from devloop.config import load as configs
    from devloop.secrets.redaction import Secrets
    from devloop.secrets.sources import Sources

    # The options of `devloop` itself have read the environment too: what was typed comes before that.
    typed = {key for key in given if ctx.get_parameter_source(key) is ParameterSource.COMMANDLINE}
    chosen = {key: value if key in typed else ctx.obj.get(key) for key, value in given.items()}
    path = chosen["config_path"] or configs.find(Path.cwd())

    def override(config: Config) -> Config:
        return configs.override(config, context=chosen["context"], namespace=chosen["namespace"])

    config = override(configs.load(path))
    secrets = Secrets(
        Sources(
            config.services(), config.releases(), dict(os.environ), frozenset(config.secrets), config.root
        )
    )
    guard_screen(Reports(configs.state_dir(config.path) / FOLDER, secrets))
    return config, override, chosen["kubeconfig"]


def _service_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Completion of SERVICE; silent where there is no valid config."""
    from devloop.config import load as configs

    try:
        config = configs.load(ctx.params.get("config_path") or configs.find(Path.cwd()))
    except DevloopError:
        return []
    return [name for name in config.by_name if name.startswith(incomplete)]


services_argument = click.argument(
    "services", nargs=-1, metavar="[SERVICE]...", shell_complete=_service_names
)
log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How lines are written without a terminal.",
)


@main.command()
@services_argument
@where
@click.option("--no-logs", is_flag=True, help="Do not show the pods' logs.")
@log_format_option
@click.pass_context
def watch(
    ctx: click.Context, /, services: tuple[str, ...], no_logs: bool, log_format: str, **given: Any
) -> None:
    """Bring the cluster to the tree at every save; Ctrl-C ends it.

    Metrics are served at metrics.listen of config.yaml [default: 127.0.0.1:9100].
    """
    from devloop.commands import watch as command

    config, override, kubeconfig = _loaded(ctx, given)
    sys.exit(command.watch(config, override, kubeconfig, services, logs=not no_logs, log_format=log_format))


@main.command()
@services_argument
@where
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--rebuild", is_flag=True, help="Build even where the image is there already, under a new tag.")
@log_format_option
@click.pass_context
def once(
    ctx: click.Context,
    /,
    services: tuple[str, ...],
    as_json: bool,
    rebuild: bool,
    log_format: str,
    **given: Any,
) -> None:
    """Bring the cluster to the tree, then exit.

    Exit code: 0 all live or unchanged, 1 a stage failed, 2 config or usage, 3 platform not reachable or
    held by another devloop, 130 interrupted.
    """
    from devloop.commands import once as command

    config, _, kubeconfig = _loaded(ctx, given)
    sys.exit(
        command.once(config, kubeconfig, services, as_json=as_json, rebuild=rebuild, log_format=log_format)
    )


@main.command()
@services_argument
@where
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_context
def status(ctx: click.Context, /, services: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Does the cluster run the tree? Works with and without a running `devloop watch`.

    Exit code: 0 every service is live, 1 one is not, 2 config or usage, 3 platform not reachable.
    """
    from devloop.commands import status as command

    config, _, kubeconfig = _loaded(ctx, given)
    sys.exit(command.status(config, kubeconfig, services, as_json=as_json))


@main.command()
@services_argument
@where
@click.pass_context
def doctor(ctx: click.Context, /, services: tuple[str, ...], **given: Any) -> None:
    """Look at everything that devloop needs: engine, docker command, cluster, targets, limits.

    Exit code: 0 nothing is in the way, 2 config or usage, 3 something is.
    """
    from devloop.commands import doctor as command

    config, _, kubeconfig = _loaded(ctx, given)
    sys.exit(command.doctor(config, kubeconfig, services))


@main.command()
@click.argument("service", shell_complete=_service_names)
@where
@click.pass_context
def rollback(ctx: click.Context, /, service: str, **given: Any) -> None:
    """Go back to the newest earlier image that was live, and stay there while the tree stays as it is.

    Waits until it runs; exit code 1 if it does not, with what Kubernetes says of it.
    Another edit lifts the hold, and so does `devloop resume`.
    """
    from devloop.commands import rollback as command

    config, _, kubeconfig = _loaded(ctx, given)
    sys.exit(command.hold(config, kubeconfig, service))


@main.command()
@click.argument("service", shell_complete=_service_names)
@where
@click.pass_context
def resume(ctx: click.Context, /, service: str, **given: Any) -> None:
    """Lift the hold of `devloop rollback`."""
    from devloop.commands import resume as command

    config, _, kubeconfig = _loaded(ctx, given)
    sys.exit(command.release(config, kubeconfig, service))


@main.command()
@where
@click.pass_context
def diff(ctx: click.Context, /, **given: Any) -> None:
    """What `once` would change: manifests and releases as they would be, against the cluster as it is.

    With the images that are live now; values of Secrets are masked. Exit code: 0 nothing, 1 something.
    """
    from devloop.commands import diff as command

    config, _, kubeconfig = _loaded(ctx, given)
    sys.exit(command.diff(config, kubeconfig))


@main.command()
@where
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def down(ctx: click.Context, /, yes: bool, **given: Any) -> None:
    """Remove what devloop brought into the cluster: releases, objects of the manifests, its namespaces.

    A namespace that was there before stays, and so do the images on the nodes.
    """
    from devloop.commands import down as command

    def ask(lines: Sequence[str]) -> bool:
        click.echo("\n".join(("devloop down removes", *(f"  {line}" for line in lines))))
        return yes or _confirmed()

    config, _, kubeconfig = _loaded(ctx, given)
    sys.exit(command.down(config, kubeconfig, ask))


def _confirmed() -> bool:
    """Whether somebody says yes: an input that ends without an answer (no terminal) says no."""
    try:
        return click.confirm("Go on?", default=False)
    except click.Abort:
        click.echo("\nnothing is removed: nobody answered; --yes does not ask", err=True)
        return False


@main.command()
@services_argument
@where
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="github: annotations of a workflow.",
)
@click.option("--offline", is_flag=True, help="Ask neither cluster nor engine; their rules do not run.")
@click.pass_context
def check(ctx: click.Context, /, services: tuple[str, ...], output: str, offline: bool, **given: Any) -> None:
    """Judge what devloop would deploy, and the images that were built, by the rules of docs/checks.md.

    Exit code: 0 no errors, 1 errors, 2 config or usage, 3 no errors, but platform not reachable: the rules
    that ask it did not run.
    """
    from devloop.commands import check as command

    config, _, kubeconfig = _loaded(ctx, given)
    sys.exit(command.check(config, kubeconfig, services, offline=offline, output=output))


@main.command()
@services_argument
@where
@click.pass_context
def explain(ctx: click.Context, /, services: tuple[str, ...], **given: Any) -> None:
    """Which files can go to the cluster as a delta, and the Dockerfile line that stops the others."""
    from devloop.commands import explain as command

    config, _, kubeconfig = _loaded(ctx, given)
    sys.exit(command.explain(config, kubeconfig, services))


@main.command()
@services_argument
@where
@click.pass_context
def verify(ctx: click.Context, /, services: tuple[str, ...], **given: Any) -> None:
    """Compare the live images with full builds of the same tree, file by file.

    Exit code: 0 equal, 1 one differs or cannot be built, 2 config or usage, 3 platform not reachable.
    """
    from devloop.commands import verify as command

    config, _, kubeconfig = _loaded(ctx, given)
    sys.exit(command.verify(config, kubeconfig, services))


@main.command()
def schema() -> None:
    """Print the JSON Schema of config.yaml, for editors."""
    import json

    from devloop.config import load as configs

    click.echo(json.dumps(configs.schema(), indent=2))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: eval "$(devloop completion bash)"."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "devloop", "_DEVLOOP_COMPLETE").source())


if __name__ == "__main__":
    main()

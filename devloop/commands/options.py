"""Options and arguments that several commands share; `on_project` makes of them what a command works on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from devloop.errors import DevloopError

ALIAS = "devloop.output"  # of click's context: what an older spelling of -o says
WHERE = ("config_path", "context", "namespace", "kubeconfig")  # the options of `where`
Command = Callable[..., Any]


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


def on_project(command: Command) -> Command:
    """With the options of `where`: `command` gets the project that they name, and returns the exit code."""

    def run(**given: Any) -> NoReturn:
        from devloop.commands.frame import load_project

        sys.exit(command(load_project(**asked(given)), **given))

    return where(update_wrapper(run, command))


def asked(given: dict[str, Any]) -> dict[str, Any]:
    """The options of `where`, out of `given`; those of `devloop` itself where they are not typed."""
    ctx = click.get_current_context()
    own = {name: given.pop(name) for name in WHERE}
    # The options of `devloop` itself have read the environment too: what was typed comes before that.
    typed = {name for name in WHERE if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    return {name: own[name] if name in typed else ctx.obj.get(name) for name in WHERE}


def _service_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Completion of SERVICE; silent where there is no valid config."""
    from devloop.config import load as configs

    try:
        config = configs.load(ctx.params.get("config_path") or configs.find(Path.cwd()))
    except DevloopError:
        return []
    return [name for name in config.by_name if name.startswith(incomplete)]


service_argument = click.argument("service", shell_complete=_service_names)
services_argument = click.argument(
    "services", nargs=-1, metavar="[SERVICE]...", shell_complete=_service_names
)


def _note_alias(ctx: click.Context, _: click.Parameter, value: object) -> None:
    """Of an option that stands for `-o`: it is read before that one."""
    ctx.meta[ALIAS] = "json" if value is True else value


def _output(ctx: click.Context, _: click.Parameter, value: str | None) -> str:
    alias = ctx.meta.get(ALIAS)
    return value or ("" if alias in (None, False, "text") else str(alias))


def output_as(*forms: str) -> Callable[[Command], Command]:
    """`-o FORM`: the command gets `output`, "" for lines."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(forms),
        callback=_output,
        help="Print one object instead of lines (docs/output.md).",
    )


output_option = output_as("json", "yaml")
json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_note_alias,
    help="The same as -o json.",
)
format_option = click.option(
    "--format",
    type=click.Choice(["text", "json", "github"]),
    expose_value=False,
    is_eager=True,
    callback=_note_alias,
    help="The same as -o; text: lines.",
)
log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How lines are written without a terminal.",
)

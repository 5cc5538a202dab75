"""`devloop sandbox up | down | status`: start, end and ask after the one background process.

`devloop --help` lists them too: what a command does is imported when it runs.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import click

from devloop_sandbox.options import Options

_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,38}[a-z0-9])?")
_SOCKET = "unix:///var/run/docker.sock"


def state_dir(name: str) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base).absolute() / "devloop" / "sandbox" / name


def _checked_name(_: click.Context, __: click.Parameter, name: str) -> str:
    """It names a folder, which `down` removes, a network and the Node."""
    if not _NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r}: up to 40 lower-case letters and digits, inside also '-' and '.'")
    return name


def _checked_engine(_: click.Context, __: click.Parameter, engine: str | None) -> str:
    url = engine or os.environ.get("DOCKER_HOST") or _SOCKET
    if not url.startswith("unix:///"):
        raise click.BadParameter(
            f"{url!r}: pods get addresses of this machine, so the engine has to run here: unix:///…"
        )
    return url


def _checked_range(_: click.Context, __: click.Parameter, text: str) -> tuple[int, int]:
    low, _dash, high = text.partition("-")
    if not (low.isdecimal() and high.isdecimal() and 0 < int(low) <= int(high) < 65536):
        raise click.BadParameter(f"{text!r} is no range such as 30000-32767")
    return int(low), int(high)


def _checked_scale(_: click.Context, __: click.Parameter, scale: float) -> float:
    if not 0 <= scale < math.inf:
        raise click.BadParameter(f"{scale} is not 0 or more")
    return scale


_name = click.option(
    "--name",
    default="default",
    show_default=True,
    callback=_checked_name,
    help="Which sandbox; each has a state, network and context of its own.",
)


class InOrder(click.Group):
    """Lists its commands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder)
def sandbox() -> None:
    """A small Kubernetes-compatible cluster on the local engine, for trying devloop.

    \b
    devloop sandbox up              start it; prints the line for KUBECONFIG
    kubectl get pods -A             kubectl, Helm and devloop use it like any other cluster
    devloop sandbox status          exit code 1 if it does not run
    devloop sandbox down            end it: no container, network, address or file stays

    What it serves and how it differs from Kubernetes: docs/sandbox.md
    """


@sandbox.command()
@_name
@click.option(
    "--engine",
    default=None,
    callback=_checked_engine,
    metavar="unix:///PATH",
    help="Engine to run pods on, on this machine.  [default: DOCKER_HOST or the local socket]",
)
@click.option(
    "--backoff-scale",
    type=float,
    default=1.0,
    show_default=True,
    callback=_checked_scale,
    help="Multiplies the waits of CrashLoopBackOff and ImagePullBackOff.",
)
@click.option(
    "--allow-host-path",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder that hostPath volumes may use, beside this one and /tmp.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="The API server's port.  [default: a free one, kept]",
)
@click.option(
    "--node-port-range",
    default="30000-32767",
    show_default=True,
    callback=_checked_range,
    help="Ports of 127.0.0.1 for Services of type NodePort.",
)
def up(
    name: str,
    engine: str,
    backoff_scale: float,
    paths: tuple[Path, ...],
    port: int,
    node_port_range: tuple[int, int],
) -> None:
    """Start the sandbox, or say that it runs. Needs root, or CAP_NET_ADMIN and CAP_NET_BIND_SERVICE."""
    from devloop_sandbox import daemon

    options = Options(
        name=name,
        state_dir=state_dir(name),
        engine=engine,
        backoff_scale=backoff_scale,
        node_port_range=node_port_range,
        allow_host_paths=(Path.cwd(), Path("/tmp"), *(path.resolve() for path in paths)),
        api_port=port,
    )
    try:
        fresh = daemon.start(options)
    except daemon.DaemonError as error:
        click.echo(f"error: {error}\nhint: {error.hint}", err=True)
        raise SystemExit(3) from error
    found = daemon.status(options.state_dir)
    click.echo(f"sandbox {name!r} {'is up' if fresh else 'was up already'}")
    click.echo(f"context:    {found.context}")
    click.echo(f"kubeconfig: {found.kubeconfig}")
    click.echo(f"export KUBECONFIG={found.kubeconfig} DEVLOOP_CONTEXT={found.context}")


@sandbox.command()
@_name
def down(name: str) -> None:
    """End the sandbox and remove its containers, networks and state."""
    from devloop_sandbox import daemon

    try:
        gone = daemon.stop(state_dir(name))
    except daemon.DaemonError as error:
        click.echo(f"error: {error}\nhint: {error.hint}", err=True)
        raise SystemExit(3) from error
    click.echo(f"sandbox {name!r} {'was not there' if gone is None else 'is gone'}")
    for text in gone or []:
        click.echo(f"warning: the engine keeps a part of it until its next restart: {text}", err=True)


@sandbox.command()
@_name
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print one object.")
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
def status(name: str, output: str | None, as_json: bool) -> None:
    """Say whether the sandbox runs, and where."""
    from devloop_sandbox import daemon

    found = daemon.status(state_dir(name))
    if output == "yaml":
        import yaml  # it takes a while

        click.echo(yaml.safe_dump(found.as_dict(), sort_keys=False).rstrip())
    elif output or as_json:
        click.echo(json.dumps(found.as_dict()))
    elif found.running:
        click.echo(f"running, pid {found.pid}, {found.server}, context {found.context}")
        click.echo(f"kubeconfig: {found.kubeconfig}")
    else:
        click.echo("not running; start it with: devloop sandbox up")
    raise SystemExit(0 if found.running else 1)


if __name__ == "__main__":
    sandbox()

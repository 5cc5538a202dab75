"""`devloop sandbox up | down | status`: start, end and ask after the one background process."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from devloop_sandbox import daemon
from devloop_sandbox.options import Options


def state_dir(name: str) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "devloop" / "sandbox" / name


_name = click.option(
    "--name", default="default", show_default=True, help="Which sandbox; each has a state of its own."
)


@click.group()
def sandbox() -> None:
    """A small Kubernetes-compatible cluster on the local engine, for trying devloop."""


@sandbox.command()
@_name
@click.option(
    "--engine", default=None, help="Engine to run pods on.  [default: DOCKER_HOST or the local socket]"
)
@click.option("--backoff-scale", default=1.0, help="Multiplies the kubelet's back-off times.")
@click.option(
    "--allow-host-path",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder that hostPath volumes may use, beside this one and /tmp.",
)
@click.option("--port", default=0, help="The API server's port.  [default: a free one, kept]")
@click.option("--node-port-range", default="30000-32767", show_default=True)
def up(
    name: str,
    engine: str | None,
    backoff_scale: float,
    paths: tuple[Path, ...],
    port: int,
    node_port_range: str,
) -> None:
    """Start the sandbox, or say that it runs."""
    low, _, high = node_port_range.partition("-")
    if not (low.isdigit() and high.isdigit() and 0 < int(low) <= int(high) < 65536):
        raise click.BadParameter(
            f"{node_port_range!r} is no range such as 30000-32767", param_hint="--node-port-range"
        )
    options = Options(
        name=name,
        state_dir=state_dir(name),
        engine=engine or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock",
        backoff_scale=backoff_scale,
        node_port_range=(int(low), int(high)),
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(name: str, as_json: bool) -> None:
    """Say whether the sandbox runs, and where."""
    found = daemon.status(state_dir(name))
    if as_json:
        click.echo(json.dumps(found.as_dict()))
    elif found.running:
        click.echo(f"running, pid {found.pid}, {found.server}, context {found.context}")
        click.echo(f"kubeconfig: {found.kubeconfig}")
    else:
        click.echo("not running; start it with: devloop sandbox up")
    raise SystemExit(0 if found.running else 1)


if __name__ == "__main__":
    sandbox()
